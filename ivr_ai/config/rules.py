"""What must hold between settings, and what is worth a warning.

Dates of shut-downs are those OpenAI announced. They are compared with `Settings.today`: a test picks its day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from .errors import Problem

if TYPE_CHECKING:
    from .settings import Settings


class ShutDown(NamedTuple):
    """Models (a pattern for the whole name) that OpenAI switches off on a day, and what replaces them."""

    pattern: str
    on: date
    replacement: str


MODELS = (
    ShutDown(r"gpt-4o-realtime-preview(-\d{4}-\d\d-\d\d)?", date(2026, 5, 7), "gpt-realtime-2.1"),
    ShutDown(r"gpt-4o-mini-realtime-preview(-\d{4}-\d\d-\d\d)?", date(2026, 5, 7), "gpt-realtime-2.1-mini"),
    ShutDown(r"gpt-realtime(-2025-08-28)?", date(2027, 1, 20), "gpt-realtime-2.1"),
    ShutDown(r"gpt-realtime-mini(-2025-12-15)?|gpt-audio-mini", date(2027, 1, 20), "gpt-realtime-2.1-mini"),
)
TRANSCRIPTION_MODELS = (
    ShutDown(r"whisper-1|gpt-4o-transcribe(-.+)?", date(2027, 2, 26), "gpt-live-transcribe"),
)
BETA_INTERFACE = ShutDown("beta", date(2026, 5, 12), "ga")

# Models known not to take `reasoning`; any other name may be of a family that does.
_WITHOUT_REASONING = re.compile(
    r"gpt-realtime(-1\.5|-mini|-\d{4}-\d\d-\d\d|-mini-\d{4}-\d\d-\d\d)?|gpt-4o(-mini)?-realtime.*"
)

# Accepted so that an old .env still loads; said only to those who set them.
_REPLACED = {
    "host": "no bridge listens any more, only `ivr-ai sim` does",
    "port": "no bridge listens any more, only `ivr-ai sim` does",
    "out_rate_hz": "replies are converted straight to the call's rate",
    "send_json_audio": "audio reaches the call through mod_audio_stream's memory, not as JSON",
    "send_json_handshake": "mod_audio_stream in the same process needs no handshake",
}


def problems(settings: Settings) -> Iterator[Problem]:
    """Settings that are each allowed and do not go together."""
    if settings.failure_action == "transfer" and not settings.failure_transfer:
        yield _problem(
            settings,
            "IVR_AI_FAILURE_TRANSFER",
            "failure_transfer",
            'must be "extension [dialplan [context]]" when IVR_AI_FAILURE_ACTION is transfer',
        )
    if settings.quiet_chunk_ms < settings.frame_ms:
        allowed = f"must be at least FS_FRAME_MS, {settings.frame_ms} milliseconds"
        yield _problem(settings, "IVR_AI_QUIET_CHUNK_MS", "quiet_chunk_ms", allowed)
    if settings.ping_interval_s and settings.ping_timeout_s >= settings.ping_interval_s:
        allowed = f"must be less than IVR_AI_PING_INTERVAL_S, {settings.ping_interval_s:g} seconds"
        yield _problem(settings, "IVR_AI_PING_TIMEOUT_S", "ping_timeout_s", allowed)


def _problem(settings: Settings, name: str, attribute: str, allowed: str) -> Problem:
    value = getattr(settings, attribute)
    shown = repr(value) if isinstance(value, str) else f"{value:g}"
    return Problem(name, shown, allowed, settings.source(attribute))


def warnings(settings: Settings) -> Iterator[str]:
    """One sentence for each thing that works today and deserves a look."""
    yield from _shut_downs(settings)
    yield from _connection(settings)
    yield from _dialect(settings)
    yield from _turns(settings)
    yield from _audio(settings)
    yield from _transcription(settings)
    yield from _replaced(settings)


def _shut_downs(settings: Settings) -> Iterator[str]:
    checks = (
        ("OPENAI_REALTIME_MODEL", settings.model, MODELS),
        ("OPENAI_TRANSCRIPTION_MODEL", settings.transcription_model, TRANSCRIPTION_MODELS),
    )
    for name, model, table in checks:
        for entry in table:
            if re.fullmatch(entry.pattern, model):
                yield _shut_down(f"{name} {model}", entry, settings.today)


def _shut_down(what: str, entry: ShutDown, today: date) -> str:
    if today >= entry.on:
        return f"{what} has been shut down by OpenAI since {entry.on}: set {entry.replacement} instead"
    days = (entry.on - today).days
    return f"{what} will be shut down by OpenAI on {entry.on}, in {days} days: move to {entry.replacement}"


def _connection(settings: Settings) -> Iterator[str]:
    url = urlsplit(settings.realtime_url)
    if _is_openai(settings) and not settings.api_key:
        yield f"OPENAI_API_KEY is not set: {url.hostname} will refuse the call"
    if url.scheme == "ws" and settings.api_key and not _is_loopback(url.hostname or ""):
        yield f"OPENAI_REALTIME_URL is ws://: the key goes to {url.hostname} unencrypted; use wss://"


def _dialect(settings: Settings) -> Iterator[str]:
    if settings.effective_dialect == "ga":
        if settings.is_set("temperature"):
            yield "OPENAI_TEMPERATURE is not sent: the ga dialect rejects it; leave it out"
        if settings.reasoning_effort and _WITHOUT_REASONING.fullmatch(settings.model):
            yield (
                f"OPENAI_REASONING_EFFORT is for the gpt-realtime-2 family: {settings.model} may reject the "
                "whole session; leave it out"
            )
        return
    if _is_openai(settings):
        yield _shut_down("OPENAI_REALTIME_DIALECT beta", BETA_INTERFACE, settings.today)
    for name, attribute in (
        ("OPENAI_REASONING_EFFORT", "reasoning_effort"),
        ("VAD_IDLE_TIMEOUT_MS", "vad_idle_timeout_ms"),
    ):
        if getattr(settings, attribute):
            yield f"{name} is not sent: the beta dialect has no such thing"


def _turns(settings: Settings) -> Iterator[str]:
    if settings.turn_detection == "semantic_vad":
        names = {
            "vad_threshold": "VAD_THRESHOLD",
            "vad_silence_ms": "VAD_SILENCE_DURATION_MS",
            "vad_prefix_ms": "VAD_PREFIX_PADDING_MS",
            "vad_idle_timeout_ms": "VAD_IDLE_TIMEOUT_MS",
        }
        ignored = [name for attribute, name in names.items() if settings.is_set(attribute)]
        if ignored:
            yield f"{', '.join(ignored)} without effect: OPENAI_TURN_DETECTION is semantic_vad"
    elif settings.is_set("eagerness"):
        yield "OPENAI_VAD_EAGERNESS without effect: only OPENAI_TURN_DETECTION semantic_vad takes it"


def _audio(settings: Settings) -> Iterator[str]:
    if settings.audio_format in ("pcmu", "pcma"):
        if not settings.resample_input:
            yield f"OPENAI_RESAMPLE_INPUT 0 without effect: {settings.audio_format} is never resampled"
    elif _is_openai(settings):
        if not settings.resample_input:
            yield "OPENAI_RESAMPLE_INPUT 0: OpenAI rejects pcm at any rate but 24000 Hz"
        for name, rate_hz in (
            ("OPENAI_INPUT_SAMPLE_RATE", settings.input_rate_hz),
            ("OPENAI_OUTPUT_SAMPLE_RATE", settings.output_rate_hz),
        ):
            if rate_hz != 24000:
                yield f"{name} {rate_hz}: OpenAI rejects pcm at any rate but 24000 Hz"
    if settings.prebuffer_ms > 500:
        yield f"PLAYOUT_PREBUFFER_MS {settings.prebuffer_ms} makes every reply that many milliseconds late"


def _transcription(settings: Settings) -> Iterator[str]:
    if settings.language and not settings.transcription_model:
        yield "OPENAI_LANGUAGE without effect: OPENAI_TRANSCRIPTION_MODEL is empty, so nothing is transcribed"


def _replaced(settings: Settings) -> Iterator[str]:
    from .settings import BY_ATTRIBUTE  # the table imports this module

    for attribute, reason in _REPLACED.items():
        if settings.is_set(attribute):
            yield f"{BY_ATTRIBUTE[attribute].name} has no effect on calls: {reason}"


def _is_openai(settings: Settings) -> bool:
    host = urlsplit(settings.realtime_url).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
