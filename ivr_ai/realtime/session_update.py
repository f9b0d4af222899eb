"""The session.update that a call's settings ask for, and what of it a call can do without.

The server applies all of an update or nothing: one field that it refuses, and the session silently stays on
its own defaults. Which fields an update is tried without, and what the server has agreed to, is in
negotiation.py.

Source: OpenAI Realtime API reference, session.update.
"""

from __future__ import annotations

import copy
from typing import Any

from ivr_ai.audio.formats import REALTIME_PCM_HZ, Format
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns

Session = dict[str, Any]

VOICE = "audio.output.voice"
TURN_DETECTION = "audio.input.turn_detection"
TURN_DETECTION_TYPE = f"{TURN_DETECTION}.type"
# Fields a call can do without, in the order in which they go when the server does not say which one it minds.
OPTIONAL = (
    "reasoning",
    "audio.input.transcription",
    "audio.input.noise_reduction",
    "audio.output.speed",
    "max_output_tokens",
    f"{TURN_DETECTION}.idle_timeout_ms",
    f"{TURN_DETECTION}.eagerness",
)
# Fields that go only when the server names them: each has a default on the server that calls can live with.
IF_NAMED = (
    VOICE,
    "audio.input.transcription.language",
    f"{TURN_DETECTION}.threshold",
    f"{TURN_DETECTION}.prefix_padding_ms",
    f"{TURN_DETECTION}.silence_duration_ms",
    f"{TURN_DETECTION}.create_response",
    f"{TURN_DETECTION}.interrupt_response",
    "tool_choice",
)
FORMATS = ("audio.input.format", "audio.output.format")
# What the fields are called in .env, for those who have to do something about a refusal.
SETTING_OF = {
    "reasoning": "OPENAI_REASONING_EFFORT",
    "audio.input.transcription": "OPENAI_TRANSCRIPTION_MODEL",
    "audio.input.transcription.language": "OPENAI_LANGUAGE",
    "audio.input.noise_reduction": "OPENAI_NOISE_REDUCTION",
    "audio.output.speed": "OPENAI_SPEED",
    "max_output_tokens": "OPENAI_MAX_OUTPUT_TOKENS",
    f"{TURN_DETECTION}.idle_timeout_ms": "VAD_IDLE_TIMEOUT_MS",
    f"{TURN_DETECTION}.eagerness": "OPENAI_VAD_EAGERNESS",
    f"{TURN_DETECTION}.threshold": "VAD_THRESHOLD",
    f"{TURN_DETECTION}.prefix_padding_ms": "VAD_PREFIX_PADDING_MS",
    f"{TURN_DETECTION}.silence_duration_ms": "VAD_SILENCE_DURATION_MS",
    f"{TURN_DETECTION}.create_response": "IVR_AI_BARGE_IN",
    f"{TURN_DETECTION}.interrupt_response": "IVR_AI_BARGE_IN",
    TURN_DETECTION: "OPENAI_TURN_DETECTION",
    TURN_DETECTION_TYPE: "OPENAI_TURN_DETECTION",
    VOICE: "OPENAI_REALTIME_VOICE",
    "instructions": "OPENAI_SYSTEM_INSTRUCTIONS",
    "model": "OPENAI_REALTIME_MODEL",
    "temperature": "OPENAI_TEMPERATURE",
    "audio.input.format": "OPENAI_AUDIO_FORMAT",
    "audio.output.format": "OPENAI_AUDIO_FORMAT",
}


def choose_format(settings: Settings, wire: Format, rate_hz: int) -> Format:
    """The format to ask the model for: the call's own G.711 where it has one, which converts nothing, or PCM.

    rate_hz: the PCM rate of the direction in question.
    """
    wanted = settings.audio_format
    if wanted in ("pcmu", "pcma"):
        return Format(wanted, 8000)
    if wanted == "auto" and wire.encoding in ("pcmu", "pcma"):
        return wire
    return Format("s16", rate_hz)


def input_format(settings: Settings, wire: Format) -> Format:
    """What goes up. With OPENAI_RESAMPLE_INPUT=0, PCM keeps the call's own rate."""
    return choose_format(settings, wire, settings.input_rate_hz if settings.resample_input else wire.rate_hz)


def output_format(settings: Settings, wire: Format) -> Format:
    """What comes down."""
    return choose_format(settings, wire, settings.output_rate_hz or REALTIME_PCM_HZ)


def server_takes_turns(settings: Settings) -> bool:
    """Whether the server decides when the caller has spoken; otherwise the call does."""
    return settings.turn_detection != "none" and settings.input_mode == "buffer"


def turns_of(settings: Settings) -> Turns:
    """Who decides about turns, where nothing said is protected from interruption."""
    detects = server_takes_turns(settings)
    return Turns(detects, asks=detects and settings.barge_in, interrupts=detects and settings.barge_in)


def _turn_detection(settings: Settings, turns: Turns) -> Session | None:
    if not turns.detects:
        return None
    common = {"create_response": turns.asks, "interrupt_response": turns.interrupts}
    if settings.turn_detection == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": settings.eagerness, **common}
    vad = server_vad(settings, turns)
    if settings.vad_idle_timeout_ms and settings.effective_dialect == "ga":
        vad["idle_timeout_ms"] = settings.vad_idle_timeout_ms
    return vad


def server_vad(settings: Settings, turns: Turns) -> Session:
    """Turn detection by level, which every server has."""
    return {
        "type": "server_vad",
        "threshold": settings.vad_threshold,
        "prefix_padding_ms": settings.vad_prefix_ms,
        "silence_duration_ms": settings.vad_silence_ms,
        "create_response": turns.asks,
        "interrupt_response": turns.interrupts,
    }


def voice_of(name: str) -> str | Session:
    """A voice as the session names it: a custom one is an object with its id."""
    return {"id": name} if name.startswith("voice_") else name


def _audio_input(settings: Settings, wire: Format, turns: Turns) -> Session:
    heard: Session = {
        "format": input_format(settings, wire).ga_wire,
        "turn_detection": _turn_detection(settings, turns),
    }
    if settings.transcription_model:
        heard["transcription"] = {"model": settings.transcription_model}
        if settings.language:
            heard["transcription"]["language"] = settings.language
    if settings.noise_reduction:
        heard["noise_reduction"] = {"type": settings.noise_reduction}
    return heard


def build_session(
    settings: Settings, wire: Format, tools: list[Session] | None = None, turns: Turns | None = None
) -> Session:
    """The GA session object for a call whose audio is `wire` on the line. turns: turns_of() unless given."""
    turns = turns or turns_of(settings)
    said: Session = {"format": output_format(settings, wire).ga_wire, "voice": voice_of(settings.voice)}
    if settings.speed != 1.0:
        said["speed"] = settings.speed
    session: Session = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": settings.instructions,
        "audio": {"input": _audio_input(settings, wire, turns), "output": said},
    }
    if settings.max_output_tokens != "inf":
        session["max_output_tokens"] = settings.max_output_tokens
    if settings.reasoning_effort and settings.effective_dialect == "ga":
        session["reasoning"] = {"effort": settings.reasoning_effort}
    if tools:
        session["tools"] = tools
        session["tool_choice"] = "auto"
    return session


def value_at(session: Session, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    place: Any = session
    for name in path.split("."):
        place = place.get(name) if isinstance(place, dict) else None
    return place


def without(session: Session, path: str) -> Session | None:
    """A copy without the field at a dotted path; None when it is not there."""
    slimmer = copy.deepcopy(session)
    parents, _, name = path.rpartition(".")
    place = value_at(slimmer, parents) if parents else slimmer
    if not isinstance(place, dict) or name not in place:
        return None
    del place[name]
    return slimmer


def with_value(session: Session, path: str, value: Any) -> Session:
    """A copy with the field at a dotted path set; its parents must be there."""
    changed = copy.deepcopy(session)
    parents, _, name = path.rpartition(".")
    place = value_at(changed, parents) if parents else changed
    place[name] = value
    return changed
