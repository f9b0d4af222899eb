"""The clock of a host that owns one: when ticks are due, and a thread that runs them.

`Pacer` is the arithmetic, with the time passed in; `MediaClock` puts a thread under it. Deadlines are start +
n * period, so neither the work of a tick nor a late wake-up ever moves the grid: after an hour the clock is
as right as after a second.

A stall (a busy machine, a long garbage collection) leaves ticks overdue. Up to `burst` of them run back to
back, which is what a listener's jitter buffer would have hidden; a switch's timer gives the rest up and goes
on in step, and so does this one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

TICK_MS = 20
BURST_TICKS = 10  # 200 ms: what a telephone's jitter buffer grows to
NICE = -15  # the clock goes first on a busy machine, as a switch's media threads do


class Due(NamedTuple):
    """What a wake-up has to do: `skipped` ticks are given up, then `run` ticks run at once."""

    run: int
    skipped: int


@dataclass
class ClockStats:
    """What the clock did. A tick is late when it ran a whole period or more after its deadline."""

    ticks: int = 0
    late_ticks: int = 0
    skipped_ticks: int = 0
    worst_late_ms: float = 0.0


class Pacer:
    """Says when the next tick is due and how many are.

    No thread, no clock of its own; times are in seconds.
    """

    def __init__(self, period_s: float, start_s: float, burst: int = BURST_TICKS) -> None:
        if period_s <= 0 or burst < 1:
            raise ValueError(f"a clock needs a period above 0 s and a burst from 1 up: {period_s} s, {burst}")
        self._period_s = period_s
        self._start_s = start_s
        self._burst = burst
        self._done = 0
        self.stats = ClockStats()

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next deadline; 0 when it has passed."""
        return max(0.0, self._deadline_s() - now_s)

    def due(self, now_s: float) -> Due:
        """Takes the ticks whose deadlines have passed off the list and says what to do about them."""
        late_s = now_s - self._deadline_s()
        if late_s < 0:
            return Due(0, 0)
        # The small allowance keeps a wake-up exactly on a deadline from being taken for one just before it.
        overdue = int(late_s / self._period_s + 1e-6) + 1
        run = min(overdue, self._burst)
        self._done += overdue
        self._count(run, overdue - run, late_s)
        return Due(run, overdue - run)

    def _deadline_s(self) -> float:
        return self._start_s + (self._done + 1) * self._period_s

    def _count(self, run: int, skipped: int, late_s: float) -> None:
        self.stats.ticks += run
        self.stats.late_ticks += run - 1
        self.stats.skipped_ticks += skipped
        self.stats.worst_late_ms = max(self.stats.worst_late_ms, late_s * 1000)


class MediaClock:
    """Calls `on_tick(skipped)` every `tick_ms` from a thread of its own; `skipped` ticks went missing just
    before this one.

    on_tick must not raise and should be done well within a tick. start() and stop() may be called from any
    other thread.
    """

    def __init__(
        self,
        on_tick: Callable[[int], None],
        *,
        tick_ms: int = TICK_MS,
        burst: int = BURST_TICKS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_tick = on_tick
        self._now = now
        self._pacer = Pacer(tick_ms / 1000, now(), burst)
        self._tick_ms, self._burst = tick_ms, burst
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stats(self) -> ClockStats:
        """Counters since the last start. They are the clock thread's: a snapshot may be one tick old."""
        return self._pacer.stats

    def start(self) -> None:
        """Starts ticking, the first tick one period from now. Nothing happens when it is running already."""
        if self._thread is not None:
            return
        self._stopped.clear()
        self._pacer = Pacer(self._tick_ms / 1000, self._now(), self._burst)
        self._thread = threading.Thread(target=self._run, name="media-clock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops ticking; returns when the last tick is over."""
        thread, self._thread = self._thread, None
        self._stopped.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # only root may; others do without
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        pacer = self._pacer
        while not self._stopped.wait(pacer.wait_s(self._now())):
            due = pacer.due(self._now())
            for nth in range(due.run):
                self._on_tick(due.skipped if nth == 0 else 0)
