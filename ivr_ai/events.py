"""What a call reports as it happens: to its log, its timeline, the demo, and whoever observes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CallEvent:
    """One thing that happened in a call.

    kind: what (see docs/architecture.md, "Events of a call"); at_s: time.monotonic() when; data: details,
    JSON-ready.
    """

    kind: str
    at_s: float
    data: dict[str, Any] = field(default_factory=dict)


Observer = Callable[[CallEvent], None]
