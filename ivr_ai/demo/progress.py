"""Prints a conversation as it goes: who speaks, what was said, how long replies took, what was cut short."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ivr_ai.gateways.embedded import HostEvent

CALLER, AI, MARK = "caller", "AI", "--"


class Progress:
    """One call's progress. Events may come from any thread, and from the call before they do from the line.

    write gets whole lines. Times are seconds since the call was answered.
    """

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write
        self._lock = threading.Lock()  # over everything below
        self._answered_s = 0.0
        self._caller_quiet_s: float | None = None
        self._reply_s: float | None = None  # a reply that is on the line and whose words are not known yet
        self._waited_ms: float | None = None
        self._words: list[str] = []  # words that came before they were heard
        self._held: list[str] = []  # lines that come after the reply whose words are awaited

    def host_event(self, event: HostEvent) -> None:
        """What the caller did and heard."""
        with self._lock:
            if event.kind == "answered":
                self._answered_s = event.at_s
                self._line(event.at_s, MARK, "answered")
            elif event.kind == "caller_speaks":
                self._line(event.at_s, CALLER, event.data["text"])
            elif event.kind == "caller_quiet":
                self._flush_reply()
                self._caller_quiet_s = event.at_s
            elif event.kind == "caller_hears":
                self._reply_begins(event.at_s)
            elif event.kind == "caller_gives_up":
                self._line(event.at_s, MARK, f"the caller gave up waiting for {event.data['waiting_for']}")
            elif event.kind == "hangup":
                self._flush_reply()
                self._line(event.at_s, MARK, f"the {event.data['by']} hung up ({event.data['cause']})")

    def ai_said(self, text: str) -> None:
        """A reply's words, whenever they are known."""
        with self._lock:
            self._words.append(text)
            if self._reply_s is not None:
                self._flush_reply()

    def barge_in(self, at_s: float, heard_ms: float) -> None:
        """The model has been told how much was heard of a reply that was cut short."""
        with self._lock:
            self._line(at_s, MARK, f"interrupted: {heard_ms:,.0f} ms of the reply were heard")

    def failure(self, at_s: float, text: str) -> None:
        """Something went wrong on the way."""
        with self._lock:
            self._line(at_s, MARK, text)

    def _reply_begins(self, at_s: float) -> None:
        self._flush_reply()
        self._reply_s = at_s
        self._waited_ms = None if self._caller_quiet_s is None else (at_s - self._caller_quiet_s) * 1000
        self._caller_quiet_s = None
        if self._words:
            self._flush_reply()

    def _flush_reply(self) -> None:
        if self._reply_s is None:
            return
        words, self._words = " ".join(self._words) or "(speaks)", []
        waited = f"   [after {self._waited_ms:.0f} ms]" if self._waited_ms is not None else ""
        reply_s, self._reply_s = self._reply_s, None
        self._line(reply_s, AI, words + waited)
        for line in self._held:
            self._write(line)
        self._held.clear()

    def _line(self, at_s: float, who: str, text: str) -> None:
        since_s = max(0.0, at_s - self._answered_s) if self._answered_s else 0.0
        line = f"{since_s:6.1f} s  {who:<6}  {text}"
        if self._reply_s is None:
            self._write(line)
        else:
            self._held.append(line)
