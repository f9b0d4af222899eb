"""A door before a server: what happens to the first connections, before the others are let through."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

Behaviour = Callable[[socket.socket], None]


def resets(sock: socket.socket) -> None:
    """Reads the request, then ends with a TCP reset."""
    sock.recv(65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closes(sock: socket.socket) -> None:
    """Takes the connection and closes it."""


def hears(sock: socket.socket) -> None:
    """Reads the request and closes without an answer."""
    sock.recv(65536)


class Front:
    """Listens on loopback. Each of the first connections meets a behaviour; the others reach the server."""

    def __init__(self, server_port: int, *behaviours: Behaviour) -> None:
        self.connections = 0
        self._server_port, self._behaviours = server_port, list(behaviours)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._socks: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/v1/realtime"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            if self._behaviours:
                with sock, contextlib.suppress(OSError):
                    self._behaviours.pop(0)(sock)
                continue
            there = socket.create_connection(("127.0.0.1", self._server_port))
            self._socks += [sock, there]
            for source, target in ((sock, there), (there, sock)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for sock in (self._listening, *self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
