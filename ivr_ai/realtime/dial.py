"""TCP to the first of a name's addresses that answers (RFC 8305, "happy eyeballs"), on the caller's thread.

The address families take turns. An attempt begins a quarter of a second after the one before, or as soon as
that has failed; the first to connect wins and the others are closed. One deadline bounds them all.
mod_audio_stream/net/dial.c is the same for the connections of the C library.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

NEXT_ATTEMPT_S = 0.25  # RFC 8305 section 8, "Connection Attempt Delay"

Address = tuple[Any, ...]  # as socket.getaddrinfo() gives it


def taking_turns(addresses: Sequence[Address]) -> list[Address]:
    """The same, the families alternating from the resolver's first choice on (RFC 8305 section 4)."""
    family = addresses[0][0] if addresses else None
    ours = deque(address for address in addresses if address[0] == family)
    others = deque(address for address in addresses if address[0] != family)
    turns: list[Address] = []
    while ours or others:
        for queue in (ours, others):
            if queue:
                turns.append(queue.popleft())
    return turns


class Dialler:
    """One race for a connection: connect() once on one thread, abort() on any."""

    def __init__(
        self,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """prepare: sets options on each socket before it connects."""
        self._prepare = prepare
        self._clock = clock
        self._lock = threading.Lock()
        self._trying: dict[int, socket.socket] = {}  # changed under the lock
        self._aborted = False
        self._error: OSError | None = None

    def connect(self, addresses: Sequence[Address], deadline_s: float) -> socket.socket:
        """The socket that connected first, non-blocking.

        Raises TimeoutError at the deadline (of the clock), ConnectionAbortedError after abort(), and when all
        have failed ConnectionRefusedError if one refused, else what was wrong with the last one.
        """
        waiting = deque(taking_turns(addresses))
        next_s = self._clock()
        try:
            while waiting or self._trying:
                now_s = self._clock()
                if now_s >= deadline_s:
                    raise TimeoutError("no address has answered in time")
                if waiting and now_s >= next_s:
                    next_s = now_s + NEXT_ATTEMPT_S if self._begin(waiting.popleft()) else now_s
                    continue
                winner, failed = self._wait(min(deadline_s, next_s) if waiting else deadline_s)
                if winner is not None:
                    return winner
                next_s = self._clock() if failed else next_s
            raise self._error or ConnectionError("the name has no address")
        finally:
            with self._lock:
                trying, self._trying = self._trying, {}
            for sock in trying.values():
                sock.close()

    def abort(self) -> None:
        """Makes connect() fail at once, whatever it is doing."""
        with self._lock:
            self._aborted = True
            for sock in self._trying.values():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # wakes who polls it

    def _begin(self, address: Address) -> bool:
        """Whether an attempt is under way."""
        family, kind, protocol, _, where = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this machine has not
            self._failed(error)
            return False
        with self._lock:
            if self._aborted:
                sock.close()
                raise ConnectionAbortedError("given up")
            self._trying[sock.fileno()] = sock
        try:
            sock.setblocking(False)
            self._prepare(sock)
            sock.connect(where)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error)
            self._forget(sock)
            sock.close()
            return False
        return True

    def _wait(self, until_s: float) -> tuple[socket.socket | None, bool]:
        """Waits for news of the attempts: the one that has connected, and whether one has failed."""
        poller = select.poll()
        for descriptor in self._trying:
            poller.register(descriptor, select.POLLOUT)
        failed = False
        for descriptor, _ in poller.poll(max(0.0, until_s - self._clock()) * 1000):
            if self._aborted:
                raise ConnectionAbortedError("given up")
            sock = self._trying[descriptor]
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._forget(sock)
            if code == 0:
                return sock, failed
            self._failed(OSError(code, "connect"))
            sock.close()
            failed = True
        return None, failed

    def _failed(self, error: OSError) -> None:
        """That somebody refused says more than that somebody else could not be reached."""
        if not isinstance(self._error, ConnectionRefusedError):
            self._error = error

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._trying.pop(sock.fileno(), None)
