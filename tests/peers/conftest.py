"""A simulated server that keeps every event of both directions whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ivr_ai.sim.server import SimServer

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
