"""What the simulated server can be told to do wrong: one value object, also read from `--fault` options."""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Any, get_args, get_type_hints


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

    # Replies
    no_response: bool = _fault(False, "the caller's turns are heard, committed and never answered")
    fail_responses: int = _fault(0, "this many responses end as failed, from the first; -1 = all")
    fail_code: str = _fault("rate_limit_exceeded", "with this code")
    first_delta_delay_ms: int = _fault(0, "from response.created to the first delta")
    late_deltas: int = _fault(0, "deltas of a cancelled response that still come after its response.done")
    done_without_created: bool = _fault(
        False, "before each response, the response.done of one that was never created"
    )
    delta_bytes: int = _fault(0, "size of audio deltas, odd ones too, e.g. 1334; 0 = the server's delta_ms")

    # Nonsense, sent once in each response after its first delta
    error_code: str = _fault("", "an error event with this code")
    bad_json: bool = _fault(False, "a text message that is not JSON")
    bad_base64: bool = _fault(False, "an audio delta that cannot be decoded")
    binary_frame: bool = _fault(False, "a binary message")
    huge_message_bytes: int = _fault(0, "one well-formed event of about this size, e.g. 10000000")
    duplicate_events: bool = _fault(False, "every response.* event comes twice")
    reorder_events: bool = _fault(
        False, "every third response.* event comes after the one that should follow it"
    )

    # The end
    stall_after_s: float | None = _fault(None, "stops reading and sending, stays connected")
    drop_after_s: float | None = _fault(None, "resets the TCP connection, no CLOSE")
    drop_mid_response: bool = _fault(False, "the same, after a response's third delta")
    close_after_s: float | None = _fault(None, "CLOSE with close_code and close_reason")
    close_code: int = _fault(1011, "of close_after_s")
    close_reason: str = _fault("", "of close_after_s")
    expire_after_s: float | None = _fault(None, "error session_expired, then CLOSE 1001, as after an hour")
    ignore_close: bool = _fault(False, "never answers the client's CLOSE")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (int, float)) and value < (-1 if each.name == "fail_responses" else 0):
                raise FaultError(f"{each.name}={value}: it cannot be negative")
        errors = [status.value for status in HTTPStatus if status >= 400]
        if self.refuse_status and self.refuse_status not in errors:
            raise FaultError(f"refuse_status={self.refuse_status}: use one of {errors}, or 0 for off")
        if self.close_code not in (*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)):
            raise FaultError(f"close_code={self.close_code}: 1000-1003, 1007-1014 or 3000-4999 can be sent")

    @classmethod
    def parse(cls, settings: Iterable[str]) -> Faults:
        """From "name=value" texts; a bare name switches a yes-or-no fault on. Raises FaultError."""
        kinds = get_type_hints(cls)
        values: dict[str, Any] = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            name = name.strip().replace("-", "_")
            if name not in kinds:
                raise FaultError(f"fault {name!r} is unknown: use {', '.join(kinds)}")
            values[name] = _value(name, value.strip() if equals else "1", kinds[name])
        return cls(**values)

    @classmethod
    def describe(cls) -> list[str]:
        """One line per fault: name, default and meaning."""
        return [f"{each.name:22}{each.default!s:21}{each.metadata['meaning']}" for each in fields(cls)]

    def active(self) -> list[str]:
        """The faults that differ from the defaults, as "name=value"."""
        changed = ((each.name, getattr(self, each.name), each.default) for each in fields(self))
        return [f"{name}={value}" for name, value, default in changed if value != default]


def _value(name: str, text: str, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):  # float | None
        kind = get_args(kind)[0]
    if kind is bool:
        if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise FaultError(f"fault {name}={text!r}: use 1 or 0")
        return text.lower() in ("1", "true", "yes", "on")
    try:
        return kind(text)
    except ValueError as error:
        raise FaultError(
            f"fault {name}={text!r}: use {'a whole number' if kind is int else 'a number'}"
        ) from error
