"""The bus: what happens in calls, for whoever wants it, without delaying a call.

    any thread ──▶ Bus.publish() ──┬─▶ queue ──▶ thread "ivr-bus-log"    ──▶ callback
                                   └─▶ queue ──▶ thread "ivr-bus-webhook" ──▶ callback

Every subscriber has a bounded queue and one thread of its own. What does not fit is dropped for that
subscriber and counted: a slow disk costs its own events, never a call's time. Events of one call reach a
subscriber in the order in which they were published.

publish() takes no lock: SimpleQueue.put() and qsize() are single operations under the GIL. Publishing threads
that meet there may exceed a queue's capacity by one event each. The threads are never joined, and never look
up their own name: both would leave an entry in `threading`'s tables for every thread that FreeSWITCH has lent
us.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from ivr_ai.events import CallEvent

log = logging.getLogger("ivr_ai.bus")

CAPACITY = 10_000  # events: of 200 busy calls, about a minute
LOG_EVERY = 1000  # dropped events

Callback = Callable[["CallEvent"], None]
Wants = Callable[["CallEvent"], bool]


class Subscription:
    """One subscriber of a Bus. Its thread starts with the first event."""

    def __init__(self, bus: Bus, name: str, callback: Callback, capacity: int, wants: Wants | None) -> None:
        self.name, self.capacity = name, capacity
        self._bus, self._callback, self._wants = bus, callback, wants
        # An Event is set when what came before it has been delivered; None ends the thread.
        self._queue: SimpleQueue[CallEvent | threading.Event | None] = SimpleQueue()
        self._open = True
        self._running = False
        self._starting = threading.Lock()  # guards the two above
        self._done = threading.Event()
        self._drops = threading.Lock()  # taken only to count, by threads that drop
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many events were dropped because the queue was full."""
        return self._dropped

    @property
    def queued(self) -> int:
        """How many events wait."""
        return self._queue.qsize()

    def unsubscribe(self) -> None:
        """No more events; those that are queued are still delivered. Returns at once. Idempotent."""
        self._bus._forget(self)
        self._end()

    def _end(self) -> None:
        with self._starting:
            if not self._open:
                return
            self._open = False
            if self._running:
                self._queue.put(None)
            else:
                self._done.set()

    def _wait_done(self, timeout_s: float) -> bool:
        return self._done.wait(max(0.0, timeout_s))

    def _mark(self) -> threading.Event:
        """Set once everything that is queued now has been delivered."""
        mark = threading.Event()
        with self._starting:
            if self._running and self._open:
                self._queue.put(mark)
            else:
                mark.set()
        return mark

    def _offer(self, event: CallEvent) -> None:
        """Any thread. Queues, or drops and counts. Never waits, never raises."""
        try:
            if self._wants is not None and not self._wants(event):
                return
        except Exception:  # the callback may know better what to do with the event
            log.exception("subscriber %s: whether it wants %s", self.name, event.kind)
        if self._queue.qsize() >= self.capacity:
            self._drop()
            return
        self._queue.put(event)
        if not self._running:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._running or not self._open:
                return
            try:
                threading.Thread(target=self._run, name=f"ivr-bus-{self.name}", daemon=True).start()
            except RuntimeError as error:  # no thread to be had just now: the next event tries again
                log.warning("subscriber %s: %s", self.name, error)
                return
            self._running = True

    def _drop(self) -> None:
        with self._drops:
            self._dropped += 1
            dropped = self._dropped
        if dropped % LOG_EVERY == 1:
            log.warning("subscriber %s is too slow: %d events dropped so far", self.name, dropped)

    def _run(self) -> None:
        """The subscriber's thread."""
        while (event := self._queue.get()) is not None:
            if isinstance(event, threading.Event):
                event.set()
                continue
            try:
                self._callback(event)
            except BaseException:  # a subscriber's fault is nobody else's, and the next event may do
                log.exception("subscriber %s: %s of call %s", self.name, event.kind, event.uuid)
        self._done.set()


class Bus:
    """Hands events to subscribers. All methods from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._subscribers: tuple[
            Subscription, ...
        ] = ()  # replaced under the lock, so that publish() needs none

    @property
    def subscribers(self) -> tuple[Subscription, ...]:
        """Those there are now."""
        return self._subscribers

    def subscribe(
        self, name: str, callback: Callback, *, capacity: int = CAPACITY, wants: Wants | None = None
    ) -> Subscription:
        """Calls callback(event) for each event from now on, one at a time, on a thread of the subscription's
        own.

        capacity: how many events may wait. wants: wants(event) says on the publishing thread whether an event
        is to be queued, all are when None; an event that is not wakes no thread. It must be quick and take no
        lock. Raises ValueError for a capacity of less than one, RuntimeError on a closed bus.
        """
        if capacity < 1:
            raise ValueError(f"subscriber {name}: a queue for {capacity} events holds nothing")
        subscription = Subscription(self, name, callback, capacity, wants)
        with self._lock:
            if self._closed:
                raise RuntimeError(f"subscriber {name}: the bus is closed")
            self._subscribers += (subscription,)
        return subscription

    def publish(self, event: CallEvent) -> None:
        """Never waits for a subscriber and never raises. On a closed bus nothing happens."""
        for subscription in self._subscribers:
            subscription._offer(event)

    def flush(self, timeout_s: float) -> bool:
        """Waits until what has been published by now has been delivered; False when timeout_s was too short.

        Not from a subscriber's own thread.
        """
        deadline_s = time.monotonic() + timeout_s
        marks = [subscription._mark() for subscription in self._subscribers]
        return all(mark.wait(max(0.0, deadline_s - time.monotonic())) for mark in marks)

    def close(self, timeout_s: float = 2.0) -> bool:
        """Takes no more events, and waits until those that are queued have been delivered.

        Returns False when that took longer than timeout_s: what is left then is lost when the process ends.
        """
        with self._lock:
            self._closed = True
            subscribers, self._subscribers = self._subscribers, ()
        for subscription in subscribers:
            subscription._end()
        deadline_s = time.monotonic() + timeout_s
        late = [each for each in subscribers if not each._wait_done(deadline_s - time.monotonic())]
        for each in late:
            log.warning(
                "subscriber %s did not finish within %g s: %d events left", each.name, timeout_s, each.queued
            )
        return not late

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscribers = tuple(each for each in self._subscribers if each is not subscription)
