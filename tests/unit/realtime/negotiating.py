"""A negotiation for tests, and the settings that fill its session."""

from __future__ import annotations

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.negotiation import Adjusted, Impossible, Negotiation, Refused, Send
from ivr_ai.realtime.session_update import IF_NAMED, OPTIONAL, TURN_DETECTION

PCMU, PCMA, WIDE, PCM_16K = (
    Format("pcmu", 8000),
    Format("pcma", 8000),
    Format("s16", 48000),
    Format("s16", 16000),
)
PCM_WIRE = {"type": "audio/pcm", "rate": 24000}
TOOLS = [{"type": "function", "name": "f", "description": "", "parameters": {}}]
FULL = {
    "reasoning_effort": "low",
    "transcription_model": "gpt-live-transcribe",
    "language": "pt",
    "noise_reduction": "near_field",
    "speed": 1.2,
    "max_output_tokens": 500,
    "vad_idle_timeout_ms": 5000,
}
SEMANTIC = {**FULL, "turn_detection": "semantic_vad", "eagerness": "low"}
EAGERNESS = f"{TURN_DETECTION}.eagerness"
FIELDS = (*OPTIONAL, *IF_NAMED)
BETA_NAMES = {
    "audio.input.transcription": "input_audio_transcription",
    "audio.input.noise_reduction": "input_audio_noise_reduction",
    "audio.output.speed": "speed",
    "audio.output.voice": "voice",
    "audio.input.format": "input_audio_format",
    "audio.output.format": "output_audio_format",
    "max_output_tokens": "max_response_output_tokens",
}
BETA_SESSION = {"modalities": ["audio", "text"], "input_audio_format": "pcm16", "voice": "alloy"}
GREETING = Turns(True, asks=False, interrupts=False)
BOTH = Turns(True, asks=True, interrupts=True)


def settings(**changed) -> Settings:
    return Settings(**{"realtime_url": "ws://localhost/", **changed})


def with_field(path: str) -> dict:
    """Settings whose session has a field."""
    return SEMANTIC if path == EAGERNESS else FULL


def beta_name(path: str) -> str:
    """What the beta interface calls a field, or a part of one."""
    for ga, beta in (*BETA_NAMES.items(), (TURN_DETECTION, "turn_detection")):
        if path == ga or path.startswith(f"{ga}."):
            return beta + path[len(ga) :]
    return path


class Talk:
    """A negotiation, and what has come of it."""

    def __init__(self, wire: Format = PCMU, turns: Turns | None = None, **changed) -> None:
        self.settings = settings(**changed)
        self.it = Negotiation(self.settings, wire, turns, TOOLS)
        self.steps: list = []

    def note(self, steps: list) -> list:
        self.steps += steps
        return steps

    def begin(self, **session) -> list:
        return self.note(self.it.created(session))

    def want(self, **changed) -> list:
        return self.note(self.it.want(**changed))

    def accept(self, **session) -> list:
        return self.note(self.it.updated(session))

    def refuse(
        self, param: str | None = None, message: str = "No.", update: int | None = None, **more
    ) -> list:
        """update: which one, the newest unless told otherwise."""
        event_id = f"update_{len(self.updates) if update is None else update}"
        error = {"code": "invalid_value", "message": message, "param": param, "event_id": event_id, **more}
        assert self.it.is_about_update(error)
        return self.note(self.it.refused(error))

    @property
    def updates(self) -> list[dict]:
        return [step.event for step in self.steps if isinstance(step, Send)]

    @property
    def sent(self) -> dict:
        """The session of the last update."""
        return self.updates[-1]["session"]

    @property
    def refused(self) -> list[str]:
        return [step.field for step in self.steps if isinstance(step, (Refused, Adjusted))]


def kinds(steps: list) -> list[str]:
    return [type(step).__name__ for step in steps]


def reason(steps: list) -> str:
    (step,) = steps
    assert isinstance(step, Impossible)
    return step.reason
