"""The session.update that a call's settings ask for, and what it may do without.

The server applies all of an update or nothing: one field it does not know, and the session silently stays on
its own defaults. So a rejected update is sent again without the field the server named, as long as the call
can do without it.

Source: OpenAI Realtime API reference, session.update.
"""

from __future__ import annotations

import copy
from typing import Any

from ivr_ai.audio.formats import REALTIME_PCM_HZ, Format
from ivr_ai.config import Settings

# Fields a call can do without, in the order in which they go when the server does not say which one it minds.
OPTIONAL = (
    "reasoning",
    "audio.input.transcription",
    "audio.input.noise_reduction",
    "audio.output.speed",
    "max_output_tokens",
    "audio.input.turn_detection.idle_timeout_ms",
    "audio.input.turn_detection.eagerness",
)


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


def _turn_detection(settings: Settings) -> dict[str, Any] | None:
    if not server_takes_turns(settings):
        return None
    common = {"create_response": True, "interrupt_response": settings.barge_in}
    if settings.turn_detection == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": settings.eagerness, **common}
    vad = {
        "type": "server_vad",
        "threshold": settings.vad_threshold,
        "prefix_padding_ms": settings.vad_prefix_ms,
        "silence_duration_ms": settings.vad_silence_ms,
        **common,
    }
    if settings.vad_idle_timeout_ms and settings.effective_dialect == "ga":
        vad["idle_timeout_ms"] = settings.vad_idle_timeout_ms
    return vad


def _audio_input(settings: Settings, wire: Format) -> dict[str, Any]:
    heard: dict[str, Any] = {
        "format": input_format(settings, wire).ga_wire,
        "turn_detection": _turn_detection(settings),
    }
    if settings.transcription_model:
        heard["transcription"] = {"model": settings.transcription_model}
        if settings.language:
            heard["transcription"]["language"] = settings.language
    if settings.noise_reduction:
        heard["noise_reduction"] = {"type": settings.noise_reduction}
    return heard


def build_session(
    settings: Settings, wire: Format, tools: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The GA session object for a call whose audio is `wire` on the line."""
    said: dict[str, Any] = {"format": output_format(settings, wire).ga_wire, "voice": settings.voice}
    if settings.speed != 1.0:
        said["speed"] = settings.speed
    session: dict[str, Any] = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": settings.instructions,
        "audio": {"input": _audio_input(settings, wire), "output": said},
    }
    if settings.max_output_tokens != "inf":
        session["max_output_tokens"] = settings.max_output_tokens
    if settings.reasoning_effort and settings.effective_dialect == "ga":
        session["reasoning"] = {"effort": settings.reasoning_effort}
    if tools:
        session["tools"] = tools
        session["tool_choice"] = "auto"
    return session


def without(session: dict[str, Any], path: str) -> dict[str, Any] | None:
    """A copy without the field at a dotted path; None when it is not there."""
    slimmer = copy.deepcopy(session)
    *parents, name = path.split(".")
    place: Any = slimmer
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place:
        return None
    del place[name]
    return slimmer


def slim(session: dict[str, Any], complaint: str) -> tuple[dict[str, Any], str] | None:
    """The session without the optional field a complaint names, or else without its first optional one.

    Returns the slimmer session and the field left out; None when nothing optional is left.
    """
    named = [path for path in OPTIONAL if path in complaint or f"'{path.rsplit('.', 1)[-1]}'" in complaint]
    for path in [*named, *OPTIONAL]:
        slimmer = without(session, path)
        if slimmer is not None:
            return slimmer, path
    return None
