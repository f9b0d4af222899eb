"""What one connection sent and was sent, for tests to look at while it goes on and afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ivr_ai.sim.wire import AUDIO_DELTA

APPEND = "input_audio_buffer.append"
RETRIEVED = "conversation.item.retrieved"
_AUDIO_OUT = (AUDIO_DELTA, "response.audio.delta")


class Event(NamedTuple):
    """One event and when it was read or queued (time.monotonic()). Audio is replaced by its size, as
    `audio_bytes`.
    """

    at_s: float
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return self.body.get("type", "")


class SessionRecord:
    """One connection, from the upgrade to the end. Thread-safe: the server writes, any thread reads and
    waits.

    `send`, `close`, `drop` and `stall` act on the live connection; they do nothing once it has ended.
    """

    def __init__(
        self,
        number: int,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        keeps_audio: bool = True,
        trace: Callable[[int, str, dict[str, Any]], None] | None = None,
    ) -> None:
        """`headers` has lower-case names. Without `keeps_audio` no audio is kept, nor the events with it."""
        self.number, self.path = number, path
        self.query, self.headers = dict(query), dict(headers)
        self.connected_s = time.monotonic()
        self.audio_rate_hz = 0  # of `audio`; 0 until there is some
        self.close_code: int | None = None  # what the client sent; 1006 when it just went
        self.close_reason = ""
        self._keeps_audio, self._trace = keeps_audio, trace
        self._audio = bytearray()
        self._audio_ms = 0.0
        self._received: list[Event] = []
        self._sent: list[Event] = []
        self._changed = threading.Condition()
        self._act: Callable[..., None] | None = None

    def __repr__(self) -> str:  # headers carry a key: not here
        state = f"closed {self.close_code}" if self.closed else "open"
        return f"<SessionRecord {self.number} {self.path} {state}>"

    # ---- reading: any thread -------------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """Everything the client sent, in order."""
        with self._changed:
            return list(self._received)

    @property
    def sent(self) -> list[Event]:
        """Everything the client was to be sent, in the order meant: before faults disturb it."""
        with self._changed:
            return list(self._sent)

    @property
    def audio(self) -> bytes:
        """The caller's audio as s16 mono bytes at `audio_rate_hz`."""
        with self._changed:
            return bytes(self._audio)

    @property
    def audio_ms(self) -> float:
        """How much audio the client sent, kept or not."""
        with self._changed:
            return self._audio_ms

    @property
    def closed(self) -> bool:
        return self.close_code is not None

    def received(self, kind: str) -> list[dict[str, Any]]:
        """The client's events of one type."""
        return [event.body for event in self.events if event.type == kind]

    @property
    def first_update(self) -> dict[str, Any] | None:
        """The first session.update, as it came."""
        return next(iter(self.received("session.update")), None)

    @property
    def truncations(self) -> list[dict[str, Any]]:
        """The client's conversation.item.truncate events."""
        return self.received("conversation.item.truncate")

    def wait_received(self, kind: str, count: int = 1, timeout_s: float = 5.0) -> dict[str, Any]:
        """Waits for the `count`-th event of a type from the client and returns it. Raises TimeoutError."""
        return self._wait(self._received, kind, count, timeout_s, "received")

    def wait_sent(self, kind: str, count: int = 1, timeout_s: float = 5.0) -> dict[str, Any]:
        """Waits until the `count`-th event of a type is sent and returns it. Raises TimeoutError."""
        return self._wait(self._sent, kind, count, timeout_s, "sent")

    def wait_closed(self, timeout_s: float = 5.0) -> int:
        """Waits for the connection's end; returns the close code the client sent. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.closed, timeout_s):
                raise TimeoutError(f"session {self.number} is still open after {timeout_s} s")
            return self.close_code or 0

    def _wait(self, events: list[Event], kind: str, count: int, timeout_s: float, did: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            matching = [event.body for event in events if event.type == kind]
            return matching[count - 1] if len(matching) >= count else None

        with self._changed:
            body = self._changed.wait_for(found, timeout_s)
            if body is None:
                types = [event.type for event in events if event.type != APPEND][-20:]
                raise TimeoutError(
                    f"session {self.number} {did} no {count}. {kind} in {timeout_s} s; the last were {types}"
                )
            return body

    # ---- acting on the connection: any thread --------------------------------------------------------------

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Sends an event, any text, or a binary frame, as it stands."""
        self._do("send", message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends CLOSE, after everything queued."""
        self._do("close", code, reason)

    def drop(self) -> None:
        """Resets the TCP connection."""
        self._do("drop")

    def stall(self) -> None:
        """Stops reading and sending, for good."""
        self._do("stall")

    def _do(self, *action: Any) -> None:
        act = self._act
        if act is not None:
            act(*action)

    # ---- writing: the server's thread ----------------------------------------------------------------------

    def attach(self, act: Callable[..., None]) -> None:
        """Gives the record the live connection: `act(name, *arguments)`, callable from any thread."""
        self._act = act

    def note_received(self, body: dict[str, Any]) -> None:
        if self._trace is not None:
            self._trace(self.number, "in", body)
        if body["type"] != APPEND:
            self._note(self._received, body)
        elif self._keeps_audio:
            self._note(self._received, _sized(body, "audio"))

    def note_sent(self, body: dict[str, Any]) -> None:
        if self._trace is not None:
            self._trace(self.number, "out", body)
        if body["type"] == RETRIEVED:
            self._note(self._sent, {**body, "item": _sized_item(body["item"])})
        elif body["type"] not in _AUDIO_OUT:
            self._note(self._sent, body)
        elif self._keeps_audio:
            self._note(self._sent, _sized(body, "delta"))

    def note_audio(self, pcm: bytes, rate_hz: int) -> None:
        with self._changed:
            self.audio_rate_hz = rate_hz
            self._audio_ms += len(pcm) * 500 / rate_hz
            if self._keeps_audio:
                self._audio += pcm

    def note_end(self, code: int, reason: str) -> None:
        with self._changed:
            self.close_code, self.close_reason, self._act = code, reason, None
            self._changed.notify_all()

    def _note(self, events: list[Event], body: dict[str, Any]) -> None:
        with self._changed:
            events.append(Event(time.monotonic(), body))
            self._changed.notify_all()


def _sized(body: dict[str, Any], key: str) -> dict[str, Any]:
    """The event with its base64 audio replaced by the size of it."""
    audio = body.get(key)
    if not isinstance(audio, str):
        return body
    size_bytes = len(audio) * 3 // 4 - audio[-2:].count("=")
    return {**{name: value for name, value in body.items() if name != key}, "audio_bytes": size_bytes}


def _sized_item(item: dict[str, Any]) -> dict[str, Any]:
    """The item with the audio of its parts replaced by the size of it."""
    if "content" not in item:
        return item
    return {**item, "content": [_sized(part, "audio") for part in item["content"]]}
