"""The server's end of one WebSocket, byte by byte, for what no well-behaved server would do."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def frame(opcode: int, payload: bytes, *, fin: bool = True, announced_bytes: int | None = None) -> bytes:
    """An unmasked frame, as servers send it. announced_bytes: a length other than the payload's."""
    size = len(payload) if announced_bytes is None else announced_bytes
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        return head + bytes([size]) + payload
    if size < 65536:
        return head + b"\x7e" + struct.pack("!H", size) + payload
    return head + b"\x7f" + struct.pack("!Q", size) + payload


class Peer:
    """Listens on loopback for one connection. accept() on a thread of its own: see meet()."""

    def __init__(self, tls: ssl.SSLContext | None = None, receive_bytes: int = 0) -> None:
        """receive_bytes: size of the kernel's receive buffer; small ones fill up soon."""
        self._listening = socket.socket()
        if receive_bytes:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(1)
        self._tls = tls
        self.port: int = self._listening.getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/v1/realtime"
        self.request = ""
        self.sock: socket.socket | None = None

    def accept(self, answer: bytes | None = None) -> None:
        """Takes the connection, and upgrades it or gives this answer instead."""
        self.sock, _ = self._listening.accept()
        self.sock.settimeout(10)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_side=True)
        while "\r\n\r\n" not in self.request:
            self.request += self.sock.recv(4096).decode()
        self.sock.sendall(self._upgrade() if answer is None else answer)

    def _upgrade(self) -> bytes:
        lines = self.request.split("\r\n")
        key = next(line.split(": ")[1] for line in lines if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        return f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def say(self, event: Any) -> None:
        """A whole event."""
        self.send(frame(TEXT, json.dumps(event).encode()))

    def read(self) -> tuple[int, bytes]:
        """The client's next frame: opcode and payload."""
        first, second = self._exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        mask = self._exactly(4)
        payload = self._exactly(size)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError("the client has gone")
            data += part
        return data

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
        self._listening.close()


def background(what, *arguments: Any) -> threading.Thread:
    """Runs something on a thread that does not outlive the tests."""
    thread = threading.Thread(target=what, args=arguments, daemon=True)
    thread.start()
    return thread
