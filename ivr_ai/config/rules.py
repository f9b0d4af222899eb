"""What must hold between settings, which of them a call does without, and what is worth a warning.

Dates of shut-downs are those OpenAI announced. They are compared with `Settings.today`: a test picks its day.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from . import service
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
REPLACED = {
    "out_rate_hz": "replies are converted straight to the call's rate",
    "send_json_audio": "audio reaches the call through mod_audio_stream's memory, not as JSON",
    "send_json_handshake": "mod_audio_stream in the same process needs no handshake",
}
# What calls never depend on: a wrong value must not refuse one.
_NEVER_NEEDED = frozenset({"log_level", "timeline_dir", "sample_rate_hz", "channels", *REPLACED})

OPENAI_SESSION_S = 3600  # OpenAI ends a session after this long, whatever is being said


def unused(settings: Settings) -> set[str]:
    """Attributes that a call with these settings does without, whatever their values."""
    ga = settings.effective_dialect == "ga"
    server_turns = settings.turn_detection != "none" and settings.input_mode == "buffer"
    semantic = settings.turn_detection == "semantic_vad"
    g711 = settings.audio_format in ("pcmu", "pcma")
    without = {
        "temperature": ga,
        "reasoning_effort": not ga,
        "eagerness": not (server_turns and semantic),
        "vad_threshold": semantic or not server_turns,
        "vad_silence_ms": semantic and server_turns,
        "vad_prefix_ms": semantic and server_turns,
        "vad_idle_timeout_ms": semantic or not server_turns or not ga,
        "utterance_max_s": server_turns,
        "resample_input": g711,
        "input_rate_hz": g711,
        "output_rate_hz": g711,
        "language": not settings.transcription_model,
        "ca_file": urlsplit(settings.realtime_url).scheme == "ws",
        "uplink_max_ms": settings.transport == "python",
        "api_key_header": not settings.api_key,
        "failure_transfer": settings.failure_action != "transfer",
    }
    return _NEVER_NEEDED | {attribute for attribute, is_unused in without.items() if is_unused}


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
    yield from _limits(settings)
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
    if service.is_openai(settings.realtime_url) and not settings.api_key:
        yield f"OPENAI_API_KEY is not set: {url.hostname} will refuse the call"
    if url.scheme == "ws" and settings.api_key and not service.is_loopback(url.hostname or ""):
        yield f"OPENAI_REALTIME_URL is ws://: the key goes to {url.hostname} unencrypted; use wss://"
    if settings.api_key.startswith(("'", '"')):
        yield "OPENAI_API_KEY begins with a quote, and no key does: write it without quotes"
    yield from _key_header(settings)


def _key_header(settings: Settings) -> Iterator[str]:
    header = service.key_header(settings)
    if settings.api_key and not header:
        yield (
            "OPENAI_API_KEY is not sent: the user in OPENAI_REALTIME_URL takes the header Authorization; "
            "name another one in OPENAI_API_KEY_HEADER, or leave one of the two out"
        )
    if service.replaces_key(settings):
        yield f"OPENAI_API_KEY is not sent: OPENAI_EXTRA_HEADERS has {header}; leave one of the two out"


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
    if service.is_openai(settings.realtime_url):
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
    elif service.is_openai(settings.realtime_url):
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


def _limits(settings: Settings) -> Iterator[str]:
    if settings.apology_file and not os.access(settings.apology_file, os.R_OK):
        why = "cannot be read" if os.path.exists(settings.apology_file) else "is not there"
        yield f"IVR_AI_APOLOGY_FILE {settings.apology_file} {why}: a failed call hears IVR_AI_APOLOGY_TEXT"
    no_limit = settings.max_call_s == 0 or settings.max_call_s >= OPENAI_SESSION_S
    if no_limit and service.is_openai(settings.realtime_url):
        yield (
            f"IVR_AI_MAX_CALL_S {settings.max_call_s:g}: OpenAI ends a session after {OPENAI_SESSION_S} s, "
            "whatever is being said; with less than that a call ends between sentences"
        )


def _replaced(settings: Settings) -> Iterator[str]:
    from .settings import BY_ATTRIBUTE  # which imports this module

    for attribute, reason in REPLACED.items():
        if settings.is_set(attribute):
            yield f"{BY_ATTRIBUTE[attribute].name} has no effect on calls: {reason}"
