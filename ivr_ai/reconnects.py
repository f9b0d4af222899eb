"""The connections that a call has lost in mid-call: how many may be made again, and how long ago that was."""

from __future__ import annotations

import math
from collections.abc import Callable

WITHIN_S = 60.0  # what IVR_AI_RECONNECT_MAX counts


class Reconnects:
    """Of one call. The events of one connection come one after the other, so no lock is needed."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        """limit: connections to make again within WITHIN_S."""
        self._limit, self._clock = limit, clock
        self._lost_s: list[float] = []

    def lost(self) -> None:
        """A connection was lost."""
        self._lost_s.append(self._clock())

    def may_be_made(self) -> bool:
        """Whether the limit allows one more."""
        now_s = self._clock()
        self._lost_s = [at_s for at_s in self._lost_s if now_s - at_s < WITHIN_S]
        return len(self._lost_s) < self._limit

    @property
    def away_s(self) -> float:
        """How long ago the last one was lost; infinite when none was."""
        lost_s = self._lost_s  # may be replaced meanwhile: any thread asks
        return self._clock() - lost_s[-1] if lost_s else math.inf
