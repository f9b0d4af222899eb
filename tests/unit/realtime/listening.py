"""Listeners of links, for tests: what was heard, and waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.realtime.link import Gone, Link
from ivr_ai.realtime.negotiation import Adjusted, Refused
from ivr_ai.workers import Workers

PCMU = Format("pcmu", 8000)
HEARD_S = 10.0
TICK_S = 0.02


class Ear:
    """A LinkListener that keeps what it hears, as (kind, what)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self._new = threading.Condition()

    def _note(self, kind: str, what: Any = None) -> None:
        with self._new:
            self.heard.append((kind, what))
            self._new.notify_all()

    def on_link_open(self, link: Link) -> None:
        self._note("open")

    def on_link_ready(self, link: Link) -> None:
        self._note("ready", link.agreed)

    def on_link_changed(self, link: Link) -> None:
        self._note("changed", link.agreed)

    def on_link_refused(self, link: Link, refused: Refused) -> None:
        self._note("refused", refused)

    def on_link_adjusted(self, link: Link, adjusted: Adjusted) -> None:
        self._note("refused", adjusted)

    def on_link_event(self, link: Link, event: dict[str, Any]) -> None:
        self._note("event", event)

    def on_link_complaint(self, link: Link, about: str, message: str) -> None:
        self._note("complaint", message)

    def on_link_gone(self, link: Link, gone: Gone) -> None:
        self._note("gone", gone)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in list(self.heard)]

    def of(self, kind: str) -> list[Any]:
        return [what for each, what in list(self.heard) if each == kind]

    @property
    def events(self) -> list[str]:
        """Types of the events that were handed on."""
        return [event["type"] for event in self.of("event")]

    def wait(self, kind: str, count: int = 1, so: Callable[[Any], bool] = lambda what: True) -> Any:
        """The count-th of a kind; waits for it."""

        def found() -> list[Any]:
            return [what for what in self.of(kind) if so(what)]

        with self._new:
            assert self._new.wait_for(lambda: len(found()) >= count, HEARD_S), f"no {kind}: {self.heard}"
            return found()[count - 1]


class Line:
    """A link to a real server, ticked by a thread of its own."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = Settings(
            **{"realtime_url": url, "api_key": "sk-test", "connect_timeout_ms": 5000, **settings}
        )
        self.ear = Ear()
        self.wrong: list[tuple[str, Exception]] = []
        self.workers = Workers("test", lambda name, error: self.wrong.append((name, error)))
        self.link = Link(self.settings, self.ear, PCMU, self.workers, time.monotonic)
        self._over = threading.Event()
        self._ticking = threading.Thread(target=self._tick, daemon=True)

    def open(self) -> Line:
        self.link.open()
        self._ticking.start()
        return self

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            self.link.tick(time.monotonic())

    def stop_ticking(self) -> None:
        self._over.set()
        if self._ticking.ident is not None:
            self._ticking.join()

    def end(self) -> None:
        """As a call ends its links; fails when threads are left or one has raised."""
        self.stop_ticking()
        self.link.close()
        assert self.workers.wait(HEARD_S, time.monotonic), "a thread of the link goes on"
        self.link.release()
        assert self.wrong == []
