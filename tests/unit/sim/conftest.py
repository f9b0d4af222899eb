"""A small Realtime client for the simulator's tests, over the `websockets` package's synchronous client."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ivr_ai.audio.formats import Format, convert
from ivr_ai.sim.server import SimServer
from ivr_ai.tts.local_voice import speak

WAIT_S = 3.0


class Client:
    """Sends events and collects what comes back. `wire` is the format of the caller's audio."""

    def __init__(self, url: str, query: str = "model=test", **connect_arguments: Any) -> None:
        connect_arguments.setdefault("max_size", None)
        self._stack = ExitStack()
        self.ws = self._stack.enter_context(connect(f"{url}?{query}", close_timeout=0.2, **connect_arguments))
        self.wire = Format("s16", 24000)
        self.events: list[dict[str, Any]] = []
        self.raw: list[str | bytes] = []  # messages that were not JSON

    def close(self) -> None:
        self._stack.close()

    def send(self, kind: str, **body: Any) -> None:
        self.ws.send(json.dumps({"type": kind, **body}))

    def read(self, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """The next event; messages that are none are put aside."""
        while True:
            message = self.ws.recv(timeout=timeout_s)
            try:
                self.events.append(json.loads(message))
                return self.events[-1]
            except ValueError:
                self.raw.append(message)

    def until(self, kind: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Reads up to the next event of a type and returns it."""
        end_s = time.monotonic() + timeout_s
        while True:
            event = self.read(max(0.0, end_s - time.monotonic()))
            if event["type"] == kind:
                return event

    def drain(self, quiet_s: float = 0.1) -> list[dict[str, Any]]:
        """Reads until nothing comes for a while; returns what came."""
        start = len(self.events)
        try:
            while True:
                self.read(quiet_s)
        except TimeoutError:
            return self.events[start:]

    def until_closed(self) -> tuple[int, str]:
        """Reads to the end; returns the server's (code, reason)."""
        try:
            while True:
                self.read()
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    def update(self, **session: Any) -> dict[str, Any]:
        """A GA session.update; returns the effective session."""
        self.send("session.update", session={"type": "realtime", **session})
        return self.until("session.updated")["session"]

    def append(self, pcm: bytes, rate_hz: int) -> None:
        """Sends the caller's audio, in 100 ms chunks, as fast as it goes."""
        data = convert(pcm, Format("s16", rate_hz), self.wire)
        size = self.wire.bytes_for_ms(100)
        for start in range(0, len(data), size):
            chunk = base64.b64encode(data[start : start + size]).decode()
            self.send("input_audio_buffer.append", audio=chunk)

    def silence(self, ms: int) -> None:
        self.append(bytes(Format("s16", self.wire.rate_hz).bytes_for_ms(ms)), self.wire.rate_hz)

    def speech(self, ms: int = 500) -> None:
        self.append(speak("x", self.wire.rate_hz, f"tone:300:{ms}"), self.wire.rate_hz)

    def talk(self, ms: int = 500) -> None:
        """A turn of the caller: speech, and the silence that ends it."""
        self.speech(ms)
        self.silence(300)

    def types(self) -> list[str]:
        """Types so far, a run of the same one shown once, and the two kinds of interleaved deltas as one."""
        names = [event["type"].replace("audio_transcript.delta", "audio.delta") for event in self.events]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]

    def audio(self, fmt: Format, name: str = "response.output_audio.delta") -> bytes:
        """All audio received, as s16 bytes."""
        deltas = [base64.b64decode(event["delta"]) for event in self.events if event["type"] == name]
        return convert(b"".join(deltas), fmt, Format("s16", fmt.rate_hz))


@pytest.fixture
def start() -> Iterator[Callable[..., SimServer]]:
    """Starts servers that speak 400 ms tones, fast; stops them after the test."""
    servers = []

    def start_one(**options: Any) -> SimServer:
        servers.append(SimServer(**{"voice": "tone:440:400", "pace": 40.0, **options}).start())
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture
def dial() -> Iterator[Callable[..., Client]]:
    """Connects clients, past session.created where there is one; closes them after the test."""
    clients = []

    def dial_one(sim: SimServer, query: str = "model=test", created: bool = True, **arguments: Any) -> Client:
        clients.append(Client(sim.url, query, **arguments))
        if created:
            clients[-1].until("session.created")
        return clients[-1]

    yield dial_one
    for client in clients:
        client.close()
