"""Threads of one call: begun with a name, waited for at its end.

A thread's end is an Event and not Thread.join(): join() would leave an entry in threading's tables for each
of FreeSWITCH's threads that ever waited.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("ivr_ai.call")


class Workers:
    """Thread-safe. on_error: told what a thread raised that nobody had expected."""

    def __init__(self, label: str, on_error: Callable[[str, Exception], None]) -> None:
        """label: part of the threads' names, the call's uuid for instance."""
        self._label = label[:8]
        self._on_error = on_error
        self._lock = threading.Lock()
        self._running: set[threading.Event] = set()

    def spawn(self, name: str, target: Callable[..., None], *args: Any) -> None:
        """Runs target(*args) on a thread of its own. Raises RuntimeError when there is none to be had."""
        done = threading.Event()

        def run() -> None:
            try:
                target(*args)
            except Exception as error:
                self._on_error(name, error)
            finally:
                with self._lock:
                    self._running.discard(done)
                done.set()

        with self._lock:
            self._running.add(done)
        try:
            threading.Thread(target=run, name=f"ivr-{name}-{self._label}", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._running.discard(done)
            raise

    def wait(self, timeout_s: float, now_s: Callable[[], float]) -> bool:
        """Waits until all have ended, for timeout_s at most together. Returns whether they have."""
        deadline_s = now_s() + timeout_s
        with self._lock:
            running = list(self._running)
        return all(done.wait(max(0.0, deadline_s - now_s())) for done in running)
