"""What a conversation wants done, done in the order in which it was decided.

A decision is made under a lock and its actions are put into the outbox under the same lock, so no two
threads' actions can change places on their way. Doing them needs no lock, and may take long: one thread at
a time does it, and a thread that decides meanwhile leaves its actions to that one.

A Flush is done at once, within the lock: nobody may see the cut before the conversation knows of it. What
follows from the cut takes its place in the outbox.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ivr_ai.conversation.actions import Action, Flush

Decide = Callable[[], list[Action]]


class Outbox:
    """That of one call. Thread-safe."""

    def __init__(self, flush: Decide, perform: Callable[[Action], None]) -> None:
        """flush: does a Flush, under the lock; what follows from it. perform: does any other action."""
        self.lock = threading.Lock()  # of whatever decisions read and change
        self._flush = flush
        self._perform = perform
        self._waiting: deque[Action] = deque()
        self._performing = threading.Lock()  # held by the thread that does what waits

    def decide(self, decide: Decide, perform: Callable[[Callable[[], None]], None] | None = None) -> None:
        """Asks decide() under the lock, and does what it wants. perform: is given that to do instead, perhaps
        on another thread; not called when there is nothing.

        Raises what decide() raises; then nothing is done.
        """
        with self.lock:
            for action in decide():
                self._waiting.extend(self._flush() if isinstance(action, Flush) else [action])
            waiting = bool(self._waiting)
        if waiting and perform is not None:
            perform(self.perform)
        elif waiting:
            self.perform()

    def perform(self) -> None:
        """Does what waits; returns at once where another thread is at it."""
        while self._waiting and self._performing.acquire(blocking=False):
            try:
                while self._waiting:
                    self._perform(self._waiting.popleft())
            finally:
                self._performing.release()
