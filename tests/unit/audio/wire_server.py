"""A WebSocket server for tests: what arrived on each connection, and when; and a hand to send with."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

OVER_S = 10.0


class Visit:
    """One connection to the server."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.messages: list[str | bytes] = []
        self.times_s: list[float] = []  # time.monotonic() of each
        self.closed: tuple[int, str] | None = None
        self._more = threading.Condition()

    @property
    def headers(self):
        return self.connection.request.headers

    def read(self) -> None:
        """Takes what comes until the other side closes."""
        try:
            while True:
                message = self.connection.recv()
                with self._more:
                    self.messages.append(message)
                    self.times_s.append(time.monotonic())
                    self._more.notify_all()
        except ConnectionClosed as end:
            frame = end.rcvd
            with self._more:
                self.closed = (frame.code, frame.reason) if frame else (1006, "")
                self._more.notify_all()

    def wait(self, until: Callable[[Visit], Any], timeout_s: float = OVER_S) -> Any:
        """Waits until something is so, and returns it."""
        result: list[Any] = []

        def is_so() -> bool:
            result[:] = [until(self)]
            return bool(result[0])

        with self._more:
            if not self._more.wait_for(is_so, timeout_s):
                raise TimeoutError(
                    f"not so after {timeout_s} s; {len(self.messages)} messages, {self.closed}"
                )
        return result[0]

    def wait_closed(self, timeout_s: float = OVER_S) -> tuple[int, str]:
        return self.wait(lambda visit: visit.closed, timeout_s)

    def texts(self) -> list[str]:
        return [message for message in self.messages if isinstance(message, str)]

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The JSON dialect's messages, those of one kind or all."""
        parsed = [json.loads(text) for text in self.texts()]
        return [event for event in parsed if name is None or event.get("event") == name]

    def audio(self) -> bytes:
        """What was sent as audio, in either dialect."""
        parts = []
        for message in self.messages:
            if isinstance(message, bytes):
                parts.append(message)
            elif '"media"' in message:
                parts.append(base64.b64decode(json.loads(message)["audio"]))
        return b"".join(parts)

    def send(self, message: str | bytes | dict[str, Any]) -> None:
        self.connection.send(json.dumps(message) if isinstance(message, dict) else message)

    def stream_audio(self, pcm: bytes, rate_hz: int = 8000, **more: Any) -> None:
        """Plays in the binary dialect's JSON."""
        data = {"audioDataType": "raw", "audioData": base64.b64encode(pcm).decode(), "sampleRate": rate_hz}
        self.send({"type": "streamAudio", "data": {**data, **more}})

    def play(self, pcm: bytes, rate_hz: int = 8000, **more: Any) -> None:
        """Plays in the JSON dialect."""
        payload = {"audioData": base64.b64encode(pcm).decode(), "format": "LINEAR16", "sampleRate": rate_hz}
        self.send({"event": "media.play", "payload": {**payload, **more}})

    def drop(self) -> None:
        """Cuts the connection without a word."""
        self.connection.socket.shutdown(2)


class WireServer:
    """Listens on loopback. Every connection is read until it closes, unless `reads` is False."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        reads: bool = True,
        answer: Callable[[ServerConnection, Any], Any] | None = None,
        **options: Any,
    ) -> None:
        self.visits: list[Visit] = []
        self._reads = reads
        self._new = threading.Condition()
        self._over = threading.Event()
        options = {
            "compression": None,
            "ping_interval": None,
            "close_timeout": 1,
            "max_size": None,
            **options,
        }
        where = () if "sock" in options else ("127.0.0.1", 0)
        self._server = serve(self._serve, *where, ssl=tls, process_request=answer, **options)
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/stream"
        self._thread = threading.Thread(target=self._server.serve_forever, name="wire-server", daemon=True)
        self._thread.start()

    def _serve(self, connection: ServerConnection) -> None:
        visit = Visit(connection)
        with self._new:
            self.visits.append(visit)
            self._new.notify_all()
        if self._reads:
            visit.read()
        else:
            self._over.wait()

    def visit(self, n: int = 0, timeout_s: float = OVER_S) -> Visit:
        """The n-th connection; waits for it."""
        with self._new:
            if not self._new.wait_for(lambda: len(self.visits) > n, timeout_s):
                raise TimeoutError(f"{len(self.visits)} connections, not {n + 1}")
        return self.visits[n]

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()

    def __enter__(self) -> WireServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
