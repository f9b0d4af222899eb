"""WebSocket servers that streams are sent to: real sockets, both wire dialects, in the test's own process.

with StreamServer() as server:
    probe.command(uuid, f"start {server.url} mono 8k")
    peer = server.wait_peer()
    peer.wait_audio(16000)
    peer.send_json({"type": "streamAudio", ...})
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from taps import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

SUBPROTOCOL = "audio.freeswitch.org"


class Peer:
    """One connection of a stream. Everything it has sent is kept."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.path = connection.request.path
        self.headers = connection.request.headers
        self.messages: list[str | bytes] = []
        self.close_code: int | None = None
        self.closed = threading.Event()

    def run(self) -> None:
        """The server's thread: until the stream is gone."""
        try:
            for message in self._connection:
                self.messages.append(message)
        except ConnectionClosed:
            pass
        finally:
            self.close_code = self._connection.close_code
            self.closed.set()

    # -- what has come -----------------------------------------------------------------------------

    def texts(self) -> list[str]:
        return [message for message in self.messages if isinstance(message, str)]

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The JSON dialect's messages, or those of one kind."""
        messages = (json.loads(text) for text in self.texts() if text.startswith('{"event":'))
        return [message for message in messages if name in (None, message["event"])]

    def audio(self) -> bytes:
        """What has been heard, in either dialect."""
        binary = b"".join(message for message in self.messages if isinstance(message, bytes))
        return binary or b"".join(base64.b64decode(event["audio"]) for event in self.events("media"))

    def wait_audio(self, size: int, timeout_s: float = 5.0) -> bytes:
        wait_until(lambda: len(self.audio()) >= size, timeout_s, f"{size} bytes of audio")
        return self.audio()

    def wait_event(self, name: str, timeout_s: float = 3.0) -> dict[str, Any]:
        """The JSON dialect's first message of a kind."""
        return wait_until(lambda: self.events(name), timeout_s, name)[0]

    def wait_closed(self, timeout_s: float = 3.0) -> int | None:
        """The code that the stream closed with."""
        assert self.closed.wait(timeout_s), "the stream did not close its connection"
        return self.close_code

    # -- what is said to it ------------------------------------------------------------------------

    def send(self, message: str | bytes) -> None:
        self._connection.send(message)

    def send_json(self, message: dict[str, Any]) -> None:
        self.send(json.dumps(message))

    def play_binary(self, pcm: bytes, rate_hz: int = 8000, **more: Any) -> None:
        """streamAudio, raw."""
        data = {"audioDataType": "raw", "audioData": base64.b64encode(pcm).decode(), "sampleRate": rate_hz}
        self.send_json({"type": "streamAudio", "data": {**data, "channels": 1, **more}})

    def play_json(self, pcm: bytes, rate_hz: int = 8000, **more: Any) -> None:
        """media.play."""
        payload = {"audioData": base64.b64encode(pcm).decode(), "sampleRate": rate_hz, "format": "LINEAR16"}
        self.send_json({"event": "media.play", "payload": {**payload, **more}})

    def close(self, code: int = 1000) -> None:
        self._connection.close(code)

    def kill(self) -> None:
        """The connection breaks: a reset, no goodbye."""
        with contextlib.suppress(OSError):
            raw = self._connection.socket
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.shutdown(socket.SHUT_RDWR)


class StreamServer:
    """A context manager; listens on a free port of loopback."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        greet: Callable[[Peer], None] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """greet: what is done with each new connection, on its own thread, before it is read."""
        self.peers: list[Peer] = []
        self._greet = greet
        self._tls, self._host = tls, host
        self._server: Server = serve(
            self._handle, "127.0.0.1", 0, ssl=tls, subprotocols=[SUBPROTOCOL], select_subprotocol=_select,
            max_size=None, compression=None, ping_interval=None,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def port(self) -> int:
        return self._server.socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://{self._host}:{self.port}/stream"

    def _handle(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self.peers.append(peer)
        if self._greet:
            self._greet(peer)
        peer.run()

    def wait_peer(self, count: int = 1, timeout_s: float = 3.0) -> Peer:
        """The connection that came as the count-th."""
        wait_until(lambda: len(self.peers) >= count, timeout_s, f"connection {count}")
        return self.peers[count - 1]

    def __enter__(self) -> StreamServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        for peer in self.peers:
            if not peer.closed.is_set():
                peer.kill()
        self._thread.join()


def _select(_: ServerConnection, offered: list[str]) -> str | None:
    return offered[0] if offered else None
