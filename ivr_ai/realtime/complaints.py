"""What a server complains of, in an operator's words: which setting is meant, and what to do about it.

Two tables, shared by a call's log, its reasons for ending, and `ivr-ai doctor`: error codes of the service,
and fields of session.update. Sources: OpenAI Realtime API reference (client secrets, session.update, error),
and what the service has been seen to send.
"""

from __future__ import annotations

import re

_RATE_LIMIT = "too many requests or sessions for this account: try again later or raise its limits"

TODO_BY_CODE = {
    "invalid_api_key": "set OPENAI_API_KEY to a key that is valid",
    "missing_model": "set OPENAI_REALTIME_MODEL",
    "invalid_model": "set OPENAI_REALTIME_MODEL to a model that this key may use",
    "model_not_found": "set OPENAI_REALTIME_MODEL to a model that this key may use",
    "beta_api_shape_disabled": "set OPENAI_REALTIME_DIALECT to auto or ga",
    "insufficient_quota": "the account's quota is used up: see its billing page",
    "credit_balance_exhausted": "the account's credit is used up: see its billing page",
    "billing_hard_limit_reached": "the account has reached its limit: see its billing page",
    "account_deactivated": "the account is deactivated: use another key",
    "rate_limit_exceeded": _RATE_LIMIT,
    "inference_rate_limit_exceeded": _RATE_LIMIT,
    "session_expired": "the service limits a session's length: set IVR_AI_MAX_CALL_S below its limit",
}

NAME_BY_FIELD = {
    "model": "OPENAI_REALTIME_MODEL",
    "instructions": "OPENAI_SYSTEM_INSTRUCTIONS",
    "reasoning": "OPENAI_REASONING_EFFORT",
    "temperature": "OPENAI_TEMPERATURE",
    "max_output_tokens": "OPENAI_MAX_OUTPUT_TOKENS",
    "max_response_output_tokens": "OPENAI_MAX_OUTPUT_TOKENS",
    "voice": "OPENAI_REALTIME_VOICE",
    "speed": "OPENAI_SPEED",
    "format": "OPENAI_AUDIO_FORMAT",
    "input_audio_format": "OPENAI_AUDIO_FORMAT",
    "output_audio_format": "OPENAI_AUDIO_FORMAT",
    "transcription": "OPENAI_TRANSCRIPTION_MODEL",
    "transcription.model": "OPENAI_TRANSCRIPTION_MODEL",
    "transcription.language": "OPENAI_LANGUAGE",
    "input_audio_transcription": "OPENAI_TRANSCRIPTION_MODEL",
    "noise_reduction": "OPENAI_NOISE_REDUCTION",
    "input_audio_noise_reduction": "OPENAI_NOISE_REDUCTION",
    "turn_detection": "OPENAI_TURN_DETECTION",
    "turn_detection.eagerness": "OPENAI_VAD_EAGERNESS",
    "turn_detection.idle_timeout_ms": "VAD_IDLE_TIMEOUT_MS",
    "turn_detection.threshold": "VAD_THRESHOLD",
    "turn_detection.silence_duration_ms": "VAD_SILENCE_DURATION_MS",
    "turn_detection.prefix_padding_ms": "VAD_PREFIX_PADDING_MS",
    "turn_detection.interrupt_response": "IVR_AI_BARGE_IN",
}

TEXT_MAX_CHARS = 300  # of what a server says, in one log line
_CODES = re.compile(r"\b(" + "|".join(TODO_BY_CODE) + r")\b")


def todo(code: str) -> str:
    """What to do about an error code; "" for one that is not in the table."""
    return TODO_BY_CODE.get(code, "")


def todo_in(text: str) -> str:
    """What to do about the first known error code in a text; "" without one, or when the text says so."""
    found = _CODES.search(text)
    advice = todo(found[1]) if found else ""
    return "" if advice in text else advice


def setting_of(field: str) -> str:
    """The setting behind a field of session.update, e.g. "session.audio.input.transcription"; "" for none.

    The most specific name counts: "audio.input.turn_detection.eagerness" is OPENAI_VAD_EAGERNESS, and a part
    of `turn_detection` that no setting stands for is OPENAI_TURN_DETECTION.
    """
    parts = field.split(".", 8)[:8]
    for end in range(len(parts), 0, -1):
        for start in range(end):
            name = NAME_BY_FIELD.get(".".join(parts[start:end]))
            if name is not None:
                return name
    return ""


def one_line(text: object) -> str:
    """A peer's words for the log: one line of printable characters, of at most TEXT_MAX_CHARS."""
    words = "".join(c if c.isprintable() else " " for c in str(text)[: 2 * TEXT_MAX_CHARS])
    line = " ".join(words.split())
    return line if len(line) <= TEXT_MAX_CHARS else line[: TEXT_MAX_CHARS - 1] + "…"
