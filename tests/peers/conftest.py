"""A simulated server that keeps every event of both directions whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.sim.server import SimServer
from ivr_ai.tts.local_voice import speak

PCM24 = Format("s16", 24000)
CHUNK_MS = 20

LOOK_UP = {"name": "look_up", "arguments": {"n": 7}}
# What every stranger goes through: words, a function with what follows it, and a long reply to interrupt.
DIALOGUE = {
    "name": "strangers",
    "loop": False,
    "fallback": ["Please go on."],
    "turn": [
        {"on": "greeting", "say": "Hello, what can I do for you?"},
        {"heard": "Good day.", "say": "one two three four"},
        {"heard": "Where is it?", "call": LOOK_UP, "say": "it is {output}"},
        {"heard": "Tell me all.", "say": " ".join(["and so it goes on and on"] * 4)},
        {"heard": "Stop.", "say": "as you wish"},
    ],
}


async def say(send: Callable[[bytes], Awaitable[Any]]) -> None:
    """A turn of the caller's at 24 kHz, in real time, as microphones deliver it: strangers' clients take a
    turn that comes at once for several things that happen at once.
    """
    data = speak("x", 24000, "tone:300:500") + PCM24.silence(700)
    loop = asyncio.get_running_loop()
    due_s, size = loop.time(), PCM24.bytes_for_ms(CHUNK_MS)
    for start in range(0, len(data), size):
        await send(data[start : start + size])
        due_s += CHUNK_MS / 1000
        await asyncio.sleep(max(0.0, due_s - loop.time()))


class Server:
    """A simulated server and the events of its sessions, as they were on the wire."""

    def __init__(self, **options: Any) -> None:
        self.sent: list[dict[str, Any]] = []  # by the server
        self.received: list[dict[str, Any]] = []  # by the server, from its client
        self.sim = SimServer(trace=self._trace, **{"voice": "tone:440:800", "dialogue": DIALOGUE, **options})

    def _trace(self, number: int, direction: str, event: dict[str, Any]) -> None:
        (self.received if direction == "in" else self.sent).append(event)

    @property
    def url(self) -> str:
        return self.sim.url

    @property
    def errors(self) -> list[tuple[str, str]]:
        """(code, message) of the refusals."""
        return [(e["error"]["code"], e["error"]["message"]) for e in self.of("error")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The server's events of a type."""
        return [event for event in list(self.sent) if event["type"] == kind]

    def got(self, kind: str) -> list[dict[str, Any]]:
        """The client's events of a type."""
        return [event for event in list(self.received) if event["type"] == kind]

    def said(self) -> list[str]:
        """What the responses that were completed said, in order."""
        parts = [
            part.get("transcript", part.get("text"))
            for event in self.of("response.done")
            if event["response"]["status"] == "completed"
            for item in event["response"]["output"]
            for part in item.get("content", [])
        ]
        return [part for part in parts if part]


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that say 800 ms tones, at the pace of speech times four unless told otherwise."""
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        server = Server(**options)
        server.sim.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.sim.stop()
