"""Calls and servers for tests of streamers."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from line import Events, Line
from stream_ends import app, host, name  # noqa: F401
from wire_server import Visit, WireServer

from ivr_ai.audio.streamer import Streamer


class Talk:
    """A streamer between a line and a server."""

    def __init__(self, line: Line, server: WireServer | None, streamer: Streamer, events: Events) -> None:
        self.line, self.server, self.streamer, self.events = line, server, streamer, events

    @property
    def visit(self) -> Visit:
        """The server's end of the first connection, once the streamer knows of it."""
        self.events.wait("stream_started")
        return self.server.visit()

    def stop(self, text: str | None = None) -> str:
        """Ends it; returns the reason it gave."""
        self.streamer.stop(text)
        return self.over()

    def over(self, timeout_s: float = 10.0) -> str:
        assert self.streamer.wait(timeout_s), f"not finished: {self.streamer.describe()}"
        return self.streamer.reason


@pytest.fixture
def talk() -> Iterator[Callable[..., Talk]]:
    """Starts streamers; ends everything after the test."""
    with ExitStack() as stack:

        def start(
            *,
            dialect: str = "binary",
            says: bytes = b"",
            speed: float = 1.0,
            line: Line | None = None,
            config: dict[str, Any] | None = None,
            server: WireServer | None = None,
            url: str | None = None,
            options: dict[str, object] | None = None,
            **more: Any,
        ) -> Talk:
            if line is None:
                line = stack.enter_context(Line(str(uuid.uuid4()), says=says, speed=speed, **(config or {})))
            if server is None and url is None:
                server = stack.enter_context(WireServer())
            events = Events()
            streamer = Streamer(
                line.stream, url or server.url, dialect=dialect, options=options, on_event=events, **more
            )
            stack.callback(streamer.wait, 5)
            stack.callback(streamer.stop)
            return Talk(line, server, streamer, events)

        yield start


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as wire_server:
        yield wire_server
