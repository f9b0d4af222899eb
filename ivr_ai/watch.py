"""Looks after time for all calls, on one thread of its own.

A session's thread is FreeSWITCH's media thread too: every moment it spends waiting for Python is a moment
without audio. So it sleeps in C for as long as the call lasts, and timeouts, signs of life and what has been
heard are looked at here.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

log = logging.getLogger("ivr_ai.watch")

TICK_S = 0.25


class Watched(Protocol):
    """tick() must be quick, and must neither wait nor send."""

    def tick(self) -> None: ...


class Watch:
    """Ticks whatever is added until it is removed. Any thread; its own runs only while it is needed."""

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._lock = threading.Lock()
        self._watched: set[Watched] = set()
        self._running = False

    def add(self, watched: Watched) -> None:
        """From now on; starts the thread if need be. Raises RuntimeError when there is none to be had."""
        with self._lock:
            self._watched.add(watched)
            if self._running:
                return
            try:
                threading.Thread(target=self._run, name="ivr-watch", daemon=True).start()
            except RuntimeError:  # the next call tries again
                self._watched.discard(watched)
                raise
            self._running = True

    def remove(self, watched: Watched) -> None:
        """No tick begins after this; one that has begun may still be going on."""
        with self._lock:
            self._watched.discard(watched)

    def _run(self) -> None:
        while True:
            time.sleep(self._tick_s)
            with self._lock:
                if not self._watched:
                    self._running = False
                    return
                watched = list(self._watched)
            for each in watched:
                self._tick(each)

    def _tick(self, watched: Watched) -> None:
        if watched not in self._watched:
            return  # removed since the list was made
        try:
            watched.tick()
        except BaseException:  # one call's fault is no other's, whatever it raises
            log.exception("tick of %r", watched)


calls = Watch()
