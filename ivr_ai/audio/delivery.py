"""Events of the C library, for whoever they are for: one thread takes and delivers all of them.

With a thread for each connection or stream, hundreds of calls would wake hundreds of threads to wait for the
GIL. So a receiver must be quick. Events come in the order in which they happened, a connection's and a
stream's among them: that a key was pressed is heard before the server's next event, and after the last.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ivr_ai._audio_stream import ffi, lib

log = logging.getLogger("ivr_ai.audio")

_BUFFER_BYTES = 65536  # of an event; grows to the longest one
_WAIT_MS = 600_000  # nothing depends on it: the next event and the end cut it short
_JOIN_S = 1.0


class Receiver(Protocol):
    """Who events with a tag are for."""

    def deliver(self, text: bytes) -> None:
        """An event, as JSON. Called on the one thread that delivers: be quick. What it raises is logged."""


class Delivery:
    """The thread that takes events out of an as_events, and whom they are for. Any thread may call."""

    def __init__(self) -> None:
        """Starts no thread yet. Raises MemoryError."""
        out = ffi.new("as_events **")
        if lib.as_events_new(out) < 0:
            raise MemoryError("no memory for the library's events")
        self.events: Any = out[0]  # never freed: connections may outlive the interpreter's interest in them
        self._lock = threading.Lock()
        self._tags = itertools.count(1)
        self._receivers: dict[int, Receiver] = {}
        self._thread: threading.Thread | None = None

    def begin(self, receiver: Receiver, start: Callable[[int], None]) -> None:
        """Delivers what comes with a new tag from now on.

        start(tag) makes the source of these events; none is delivered before it has returned. What it raises
        is raised here, and nothing is delivered.
        """
        with self._lock:
            tag = next(self._tags)
            start(tag)
            self._receivers[tag] = receiver
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ivr-events", daemon=True)
                self._thread.start()

    def forget(self, tag: int) -> None:
        """Nothing more is delivered, but what is being delivered at this moment."""
        with self._lock:
            self._receivers.pop(tag, None)

    def stop(self) -> None:
        """Ends the service threads, then this one: before the interpreter, and with it OpenSSL, goes."""
        lib.as_ws_stop()
        lib.as_events_end(self.events)
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        buffer, tag = ffi.new("char[]", _BUFFER_BYTES), ffi.new("uint64_t *")
        while True:
            count = lib.as_events_recv(self.events, buffer, len(buffer), _WAIT_MS, tag)
            if count < 0:
                return
            try:
                if count > len(buffer):
                    buffer = ffi.new("char[]", count)
                elif count:
                    self._deliver(tag[0], ffi.unpack(buffer, count))
            except BaseException:  # whatever one call's receiver does, the other calls hear on
                log.exception("an event of %d bytes", count)

    def _deliver(self, tag: int, text: bytes) -> None:
        with self._lock:
            receiver = self._receivers.get(tag)
        if receiver is not None:
            receiver.deliver(text)


delivery = Delivery()  # of the process
atexit.register(delivery.stop)
