"""What happens in a call, as everybody is told who listens: see docs/architecture.md, "Events of a call"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CallEvent:
    """One thing that happened in a call.

    kind: what (see docs/architecture.md, "Events of a call"). at_s: time.monotonic() when. data: details,
    JSON-ready; not to be changed. uuid, agent: the call's. turn: the caller's turn that the event belongs to,
    0 before the first. item: the model's item, "" without one. wall_s: the time of day in seconds since 1970
    (UTC), 0.0 where unknown; within a call exactly as far apart as at_s, whatever happens to the machine's
    clock.
    """

    kind: str
    at_s: float
    data: dict[str, Any] = field(default_factory=dict)
    uuid: str = ""
    agent: str = ""
    turn: int = 0
    item: str = ""
    wall_s: float = 0.0


Observer = Callable[[CallEvent], None]
