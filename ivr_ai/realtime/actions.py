"""What a conversation wants done. The call does it; see Call._perform in ivr_ai/call.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Send:
    """Send an event (GA names) to the server."""

    event: dict[str, Any]


@dataclass(frozen=True)
class Ready:
    """The server has accepted the session: the call may be answered."""


@dataclass(frozen=True)
class Flush:
    """Silence what is queued for the caller, then tell the conversation what was heard: on_flushed()."""


@dataclass(frozen=True)
class EndItem:
    """No more audio will come for this item."""

    item: str


@dataclass(frozen=True)
class CallFunction:
    """Run a function for the model, then give its output back: on_function_output()."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Notify:
    """Something worth telling observers: becomes a CallEvent."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    at_s: float | None = None  # None: now


@dataclass(frozen=True)
class Fail:
    """The conversation cannot go on: the call's failure policy takes over."""

    reason: str


Action = Send | Ready | Flush | EndItem | CallFunction | Notify | Fail
