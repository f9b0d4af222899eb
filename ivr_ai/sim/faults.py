"""What the simulated server can be told to do wrong: one value object, also read from `--fault` options."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Any, get_args, get_type_hints

from ivr_ai.audio.formats import Format, FormatError
from ivr_ai.sim.schema import INPUT_FORMAT, OUTPUT_FORMAT, RefusedField, is_session_field
from ivr_ai.sim.wire import CLIENT_EVENTS, SERVER_EVENTS

FAIL_HOW = ("failed", "max_output_tokens", "content_filter", "empty", "text")
_REFUSALS = ("unknown_parameter", "invalid_value")
_DIRECTIONS = {"input": (INPUT_FORMAT,), "output": (OUTPUT_FORMAT,), "": (INPUT_FORMAT, OUTPUT_FORMAT)}
_ID_CHARS_MAX = 1024
COUNTS_OR_ALL = (
    "fail_responses",
    "rate_limited",
    "refuse_creates",
    "fail_transcriptions",
    "lost_turn_ends",
)
_NOT_CLOSABLE = (*range(1004, 1007), *range(1015, 3000))


class FaultError(ValueError):
    """A fault is unknown or has a value it cannot have; the message says what is allowed."""


def _fault(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Faults:
    """All off by default. Times count from the moment the session would be (or was) created."""

    first_connections: int = _fault(0, "only this many connections misbehave, from the first; 0 = all")

    # Connecting
    connect_delay_ms: int = _fault(0, "before the answer to the HTTP upgrade")
    refuse_status: int = _fault(0, "HTTP status instead of 101: 401, 429, 503, …")
    bad_key: bool = _fault(False, "101, then error invalid_api_key and CLOSE 3000")
    bad_model: bool = _fault(False, "101, then error invalid_model and CLOSE 4000")
    no_session_created: bool = _fault(False, "101, then nothing: events are read and not answered")

    # The session
    refuse_fields: tuple[str, ...] = _fault(
        (),
        "fields, comma-separated, for which a session.update is refused whole: audio.output.voice as an "
        "unknown parameter; with a value, audio.input.format.type:audio/pcmu, only that one, as invalid",
    )
    refuse_code: str = _fault("", f"of refuse_fields in any case: {' or '.join(_REFUSALS)}")
    state_format: str = _fault(
        "",
        "audio format that is stated and spoken whatever is asked for: audio/pcma, audio/pcm@16000, or "
        "input:audio/pcmu,output:audio/pcm",
    )
    text_only: bool = _fault(False, 'output_modalities are stated as ["text"], and replies are text')
    ignore_create_response: bool = _fault(False, "turns are answered though create_response is false")
    ignore_interrupt_response: bool = _fault(False, "speech cancels though interrupt_response is false")

    # Replies
    no_response: bool = _fault(False, "the caller's turns are heard, committed and never answered")
    refuse_creates: int = _fault(0, "this many response.create are refused by an error event; -1 = all")
    refuse_create_code: str = _fault("server_error", "with this code")
    fail_responses: int = _fault(0, "this many responses end without audio, from the first; -1 = all")
    fail_how: str = _fault(
        "failed",
        "failed (with fail_code), max_output_tokens or content_filter (incomplete), empty (completed, "
        "nothing said), text (completed, written where audio was asked for)",
    )
    fail_code: str = _fault("rate_limit_exceeded", "with this code")
    rate_limited: int = _fault(
        0, 'this many responses fail with rate_limit_exceeded, "Please try again in …"; -1 = all'
    )
    retry_after_s: float = _fault(1.6, "that time; rate_limits.updated says the same")
    created_delay_ms: int = _fault(0, "from a response.create, or a turn's end, to response.created")
    first_delta_delay_ms: int = _fault(0, "from response.created to the first delta")
    late_deltas: int = _fault(0, "deltas of a cancelled response that still come after its response.done")
    done_without_created: bool = _fault(
        False, "before each response, the response.done of one that was never created"
    )
    call_unoffered: bool = _fault(False, "the dialogue's functions are called though the session offers none")
    delta_bytes: int = _fault(0, "size of audio deltas, odd ones too, e.g. 1334; 0 = the server's delta_ms")
    lost_turn_ends: int = _fault(
        0, "this many of the caller's turns begin and never end: no speech_stopped, no reply; -1 = all"
    )
    fail_transcriptions: int = _fault(
        0, "this many of the caller's turns cannot be transcribed (audio_unintelligible); -1 = all"
    )

    # Nonsense, sent once in each response after its first delta
    error_code: str = _fault("", "an error event with this code")
    bad_json: bool = _fault(False, "a text message that is not JSON")
    bad_base64: bool = _fault(False, "an audio delta that cannot be decoded")
    binary_frame: bool = _fault(False, "a binary message")
    huge_message_bytes: int = _fault(0, "one well-formed event of about this size, e.g. 10000000")

    # All events
    duplicate_events: bool = _fault(False, "every event comes twice, with the same event_id")
    reorder_events: bool = _fault(
        False, "every third response.* event comes after the one that should follow it"
    )
    omit_events: tuple[str, ...] = _fault(
        (), "events, comma-separated, that never come: session.created, response.done, …"
    )
    id_chars: int = _fault(0, "length of the ids of items, responses and calls, e.g. 64; 0 = about 25")
    link_delay_ms: int = _fault(0, "every event is under way for so long, in either direction")

    # The end
    stall_after_s: float | None = _fault(None, "stops reading and sending, stays connected")
    drop_after_s: float | None = _fault(None, "resets the TCP connection, no CLOSE")
    drop_mid_response: bool = _fault(False, "the same, after a response's third delta")
    close_after_s: float | None = _fault(None, "CLOSE with close_code and close_reason")
    close_after_event: str = _fault(
        "", "the same, after an event of the server's or the client's: response.created, response.done:2"
    )
    close_code: int = _fault(1011, "of close_after_s and close_after_event")
    close_reason: str = _fault("", "of close_after_s and close_after_event")
    expire_after_s: float | None = _fault(None, "error session_expired, then CLOSE 1001, as after an hour")
    ignore_close: bool = _fault(False, "never answers the client's CLOSE")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (int, float)) and value < (-1 if each.name in COUNTS_OR_ALL else 0):
                raise FaultError(f"{each.name}={value}: it cannot be negative")
            if isinstance(value, float) and not math.isfinite(value):
                raise FaultError(f"{each.name}={value}: use a number of seconds")
            if isinstance(each.default, tuple) and isinstance(value, str):
                raise FaultError(f"{each.name}={value!r}: give a list of names")
        errors = [status.value for status in HTTPStatus if status >= 400]
        if self.refuse_status and self.refuse_status not in errors:
            raise FaultError(f"refuse_status={self.refuse_status}: use one of {errors}, or 0 for off")
        if not 1000 <= self.close_code < 5000 or self.close_code in _NOT_CLOSABLE:
            raise FaultError(f"close_code={self.close_code}: 1000-1003, 1007-1014 or 3000-4999 can be sent")
        if self.fail_how not in FAIL_HOW:
            raise FaultError(f"fail_how={self.fail_how!r}: use one of {', '.join(FAIL_HOW)}")
        if self.id_chars and not 32 <= self.id_chars <= _ID_CHARS_MAX:
            raise FaultError(f"id_chars={self.id_chars}: use 32 to {_ID_CHARS_MAX}, or 0 for off")
        self._check_names()
        self.refused()
        self.formats()
        self.closing_event()

    def _check_names(self) -> None:
        if self.refuse_code not in ("", *_REFUSALS):
            raise FaultError(f"refuse_code={self.refuse_code!r}: use {' or '.join(_REFUSALS)}")
        for name in self.omit_events:
            if name not in SERVER_EVENTS:
                raise FaultError(f"omit_events={name}: the server sends {', '.join(SERVER_EVENTS)}")

    # ---- settings that say more than one thing -------------------------------------------------------------

    def refused(self) -> tuple[RefusedField, ...]:
        """refuse_fields, read. Raises FaultError."""
        found = []
        for text in self.refuse_fields:
            path, _, value = text.partition(":")
            path = path.strip().removeprefix("session.")
            if not is_session_field(path):
                raise FaultError(
                    f"refuse_fields={text}: a session has no {path!r}: use names as audio.output.voice, or "
                    "voice for a beta session"
                )
            code = self.refuse_code or ("invalid_value" if value else "unknown_parameter")
            found.append(RefusedField(path, value.strip(), code))
        return tuple(found)

    def formats(self) -> dict[str, Format]:
        """state_format, read: formats by the fields of a session that state them. Raises FaultError."""
        found: dict[str, Format] = {}
        for text in filter(None, self.state_format.split(",")):
            direction, colon, name = text.strip().rpartition(":")
            if direction not in _DIRECTIONS or (colon and not direction):
                raise FaultError(f"state_format={text}: before the colon only input or output can stand")
            found.update(dict.fromkeys(_DIRECTIONS[direction], _format(name)))
        return found

    def closing_event(self) -> tuple[str, int] | None:
        """close_after_event, read: an event's type, and after how many of them. Raises FaultError."""
        if not self.close_after_event:
            return None
        kind, colon, count = self.close_after_event.partition(":")
        if kind not in SERVER_EVENTS + CLIENT_EVENTS:
            known = ", ".join(SERVER_EVENTS + CLIENT_EVENTS)
            raise FaultError(f"close_after_event={self.close_after_event}: use one of {known}")
        if colon and (not count.isdecimal() or int(count) < 1):
            raise FaultError(
                f"close_after_event={self.close_after_event}: after the colon comes a count from 1"
            )
        return kind, int(count or 1)

    # ---- the command line ----------------------------------------------------------------------------------

    @classmethod
    def parse(cls, settings: Iterable[str]) -> Faults:
        """From "name=value" texts; a bare name switches a yes-or-no fault on, a list may be given in parts.

        Raises FaultError.
        """
        kinds = get_type_hints(cls)
        values: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            name = name.strip().replace("-", "_")
            if name not in kinds:
                raise FaultError(f"fault {name!r} is unknown: use {', '.join(kinds)}")
            value = _value(name, text.strip() if equals else "1", kinds[name], bare=not equals)
            values[name] = values.get(name, ()) + value if isinstance(value, tuple) else value
        return cls(**values)

    @classmethod
    def describe(cls) -> list[str]:
        """One line per fault: name, default and meaning."""
        return [
            f"{each.name:26}{_shown(each.default) or '-':21}{each.metadata['meaning']}"
            for each in fields(cls)
        ]

    def active(self) -> list[str]:
        """The faults that differ from the defaults, as "name=value"."""
        return [f"{name}={_shown(value)}" for name, value in self._changed()]

    def _changed(self) -> Iterator[tuple[str, Any]]:
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                yield each.name, value


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, (tuple, list)) else str(value)


def _format(text: str) -> Format:
    """A GA name of a format, PCM with a rate in Hz where another than 24000 is meant: "audio/pcm@16000"."""
    name, at, rate = text.partition("@")
    if at and not rate.isdecimal():
        raise FaultError(f"state_format={text}: after the @ comes a rate in Hz")
    try:
        return Format.from_wire({"type": name, **({"rate": int(rate)} if at else {})})
    except FormatError as error:
        raise FaultError(f"state_format={text}: {error}") from error


def _value(name: str, text: str, kind: Any, bare: bool) -> Any:
    if isinstance(kind, types.UnionType):  # float | None
        kind = get_args(kind)[0]
    if kind is bool:
        if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise FaultError(f"fault {name}={text!r}: use 1 or 0")
        return text.lower() in ("1", "true", "yes", "on")
    if bare and kind not in (int, float):
        raise FaultError(f"fault {name} needs a value: {name}=…")
    if kind not in (int, float, str):  # tuple[str, ...]
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text)
    except ValueError as error:
        raise FaultError(
            f"fault {name}={text!r}: use {'a whole number' if kind is int else 'a number'}"
        ) from error
