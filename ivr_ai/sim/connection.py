"""The WebSocket under a session, and how it misbehaves when told to.

The only module that needs the `websockets` package at import. Everything runs on the server's loop.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ivr_ai.sim.faults import Faults

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: the peer sees a reset, not a clean end


class SimConnection(ServerConnection):
    """A server connection that can stall, reset, or leave the client's CLOSE unanswered."""

    number = 0
    faults = Faults()
    stalled = False

    def stall(self) -> None:
        """Stops reading and sending for good; the TCP connection stays."""
        self.stalled = True
        self.transport.pause_reading()

    def drop(self) -> None:
        """Resets the TCP connection."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def send_data(self) -> None:
        """What the protocol wants written goes nowhere while this end plays dead."""
        unanswered = self.faults.ignore_close and self.protocol.close_rcvd is not None
        if self.stalled or unanswered:
            self.protocol.data_to_send()
        else:
            super().send_data()

    def close_seen(self) -> tuple[int, str]:
        """(code, reason) of the CLOSE the client sent; 1006 when it sent none."""
        close = self.protocol.close_rcvd
        return (close.code, close.reason) if close is not None else (1006, "")


class DelayLine:
    """A queue whose entries can be taken delay_ms after they were put in, in their order. One taker."""

    def __init__(self, delay_ms: int) -> None:
        self._delay_s = delay_ms / 1000
        self._entries: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

    def put(self, entry: Any) -> None:
        self._entries.put_nowait((asyncio.get_running_loop().time() + self._delay_s, entry))

    async def get(self) -> Any:
        """The next entry, once it is due."""
        due_s, entry = await self._entries.get()
        if self._delay_s:
            await asyncio.sleep(due_s - asyncio.get_running_loop().time())
        return entry


class Outbox:
    """Sends a session's output in order, from one task. Its methods return at once (see session.Line)."""

    def __init__(self, connection: SimConnection) -> None:
        self._connection, self._faults = connection, connection.faults
        self._muted = self._faults.no_session_created
        self._queue = DelayLine(self._faults.link_delay_ms)
        self._held: list[dict[str, Any]] = []
        self._response_events = 0

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Queues an event, a text as it stands, or a binary frame."""
        for piece in self._arranged(message) if isinstance(message, dict) else [message]:
            text = json.dumps(piece, separators=(",", ":")) if isinstance(piece, dict) else piece
            if not self._muted:
                self._queue.put(("send", text))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """CLOSE, after everything queued."""
        self._queue.put(("close", code, reason))

    def drop(self) -> None:
        """A reset, after everything queued."""
        self._queue.put(("drop",))

    def stall(self) -> None:
        self._connection.stall()

    async def run(self) -> None:
        """Sends what is queued until the connection ends, link_delay_ms after it was queued."""
        try:
            while True:
                action, *arguments = await self._queue.get()
                if action == "drop":
                    self._connection.drop()
                else:
                    await getattr(self._connection, action)(*arguments)
        except ConnectionClosed:
            return

    def _arranged(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """The faults duplicate_events and reorder_events. response.done is never held back: nothing might
        follow it.
        """
        out = [event, event] if self._faults.duplicate_events else [event]
        if not event["type"].startswith("response."):
            return out
        self._response_events += 1
        if self._held:
            out, self._held = out + self._held, []
        elif (
            self._faults.reorder_events
            and self._response_events % 3 == 0
            and event["type"] != "response.done"
        ):
            out, self._held = [], out
        return out
