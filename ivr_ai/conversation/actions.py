"""What a conversation wants done, as values. Call performs them in the order in which they were decided.

To the model (an adapter turns these into events of the service): Ask, Cancel, Forget, Utterance, Output,
Recall, SetTurns. To the call itself: Flush, EndItem, RunFunction, Notify, Fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivr_ai.conversation.history import Entry


@dataclass(frozen=True)
class Turns:
    """Who decides about the caller's turns.

    detects: the service says when the caller begins and stops; otherwise the call does. asks: the service
    begins a response by itself when a turn is over. interrupts: the service cancels its response when the
    caller begins.
    """

    detects: bool = True
    asks: bool = True
    interrupts: bool = True


@dataclass(frozen=True)
class Ask:
    """Ask for a response. request_id comes back with its beginning, or with its refusal."""

    request_id: str
    instructions: str = ""


@dataclass(frozen=True)
class Cancel:
    """Stop a response that is under way."""

    response_id: str


@dataclass(frozen=True)
class Forget:
    """Make the model forget what of an item was not heard: all of it for heard_ms 0."""

    item_id: str
    heard_ms: int = 0


@dataclass(frozen=True)
class Utterance:
    """The caller's turn, where the call detects turns: as one item, or (audio None) as what was sent since
    the last."""

    item_id: str
    audio_base64: str | None = None


@dataclass(frozen=True)
class Output:
    """What a function gave back, as JSON text.

    call: name and arguments of the call, where the model called over a connection that is gone.
    """

    call_id: str
    output: str
    call: tuple[str, str] | None = None


@dataclass(frozen=True)
class Recall:
    """Give the model what was said before, on a connection that knows nothing of it."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class SetTurns:
    """Agree with the service on who decides about turns from now on. The answer:
    Conversation.turns_agreed()."""

    turns: Turns


@dataclass(frozen=True)
class Flush:
    """Silence what is queued for the caller, then say what was heard of it: Conversation.flushed()."""


@dataclass(frozen=True)
class EndItem:
    """No more audio will come for this item."""

    item: str


@dataclass(frozen=True)
class RunFunction:
    """Run a function for the model, then give its output back: Conversation.function_output()."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Notify:
    """Something worth telling: becomes a CallEvent."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    at_s: float | None = None  # None: now


@dataclass(frozen=True)
class Fail:
    """The conversation cannot go on: the call's failure policy takes over."""

    reason: str


ToModel = Ask | Cancel | Forget | Utterance | Output | Recall | SetTurns
Action = ToModel | Flush | EndItem | RunFunction | Notify | Fail
