"""FreeSWITCH's event socket, as far as tests need it: commands without a process each, and events."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any
from urllib.parse import unquote

_CONNECT_S = 5.0
_READ_BYTES = 65536


class EslError(RuntimeError):
    """The event socket did not do what was asked."""


class Esl:
    """One connection; a context manager. `api` from any thread; `subscribe` and `wait` from one."""

    def __init__(self, host: str, port: int, password: str) -> None:
        """Raises EslError when the switch does not let us in, OSError when there is none."""
        self._socket = socket.create_connection((host, port), _CONNECT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._lock = threading.Lock()
        self.events: list[dict[str, Any]] = []  # that nobody has waited for yet
        self._message(_CONNECT_S)
        self._command(f"auth {password}", _CONNECT_S)

    def __enter__(self) -> Esl:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _more(self, deadline_s: float) -> None:
        """Raises TimeoutError."""
        self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise EslError("the switch closed the event socket")
        self._buffer += data

    def _message(self, timeout_s: float) -> tuple[dict[str, str], str]:
        """Headers and body. Raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        while b"\n\n" not in self._buffer:
            self._more(deadline_s)
        head, _, _ = self._buffer.partition(b"\n\n")
        headers = _headers(head.decode())
        start = len(head) + 2
        end = start + int(headers.get("Content-Length", 0))
        while len(self._buffer) < end:
            self._more(deadline_s)
        body, self._buffer = self._buffer[start:end].decode(), self._buffer[end:]
        return headers, body

    def _command(self, line: str, timeout_s: float) -> str:
        with self._lock:
            self._socket.sendall(f"{line}\n\n".encode(errors="surrogateescape"))
            headers, body = self._message(timeout_s)
        if headers.get("Reply-Text", "").startswith("-ERR"):
            raise EslError(f"{line.split()[0]}: {headers['Reply-Text']}")
        return body

    def api(self, command: str, timeout_s: float = 10.0) -> str:
        """What fs_cli prints for a command. Raises TimeoutError."""
        return self._command(f"api {command}", timeout_s).strip()

    def subscribe(self, *subclasses: str) -> None:
        """From now on, CUSTOM events of these subclasses are for wait(). Commands need another connection."""
        self._command(f"event plain CUSTOM {' '.join(subclasses)}", _CONNECT_S)

    def wait(self, subclass: str, uuid: str, timeout_s: float = 3.0) -> dict[str, Any]:
        """The next event of a call, its JSON under "body". Raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            for event in self.events:
                if event["Event-Subclass"] == subclass and event["Unique-ID"] == uuid:
                    self.events.remove(event)
                    return event
            if not self._receive(deadline_s - time.monotonic()):
                raise TimeoutError(f"no {subclass} of {uuid} in {timeout_s} s; came: {self.events}")

    def drain(self, quiet_s: float) -> list[dict[str, Any]]:
        """All events that nobody has waited for, once none has come for that long."""
        while self._receive(quiet_s):
            pass
        events, self.events = self.events, []
        return events

    def _receive(self, timeout_s: float) -> bool:
        """Whether another event came in time."""
        try:
            self.events.append(_event(self._message(timeout_s)[1]))
        except TimeoutError:
            return False
        return True


def _headers(text: str) -> dict[str, str]:
    lines = (line.partition(": ") for line in text.split("\n"))
    return {name: unquote(value) for name, _, value in lines}


def _event(text: str) -> dict[str, Any]:
    head, _, body = text.partition("\n\n")
    return {**_headers(head), "body": json.loads(body) if body else None}
