"""What a call reports as it happens: to its log, its observer, and the bus.

    call ──▶ Reporter ──▶ log            what an operator must see at WARNING and ERROR, the rest at DEBUG
                    ├──▶ observer        Call(observer=...): at once, on the call's threads (tests, demo)
                    └──▶ Bus             everybody else (ivr_ai/bus.py); without one, the timeline file only

A server can complain without end, so every complaint is logged once per call and code, and only
MAX_COMPLAINTS different ones are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ivr_ai.bus import Bus
from ivr_ai.events import CallEvent, Observer
from ivr_ai.realtime import complaints
from ivr_ai.timeline import Timelines

log = logging.getLogger("ivr_ai.call")

MAX_COMPLAINTS = 20  # different ones that a call logs at WARNING
MAX_ITEMS = 64  # whose turn is remembered: those of a few turns


class _Turns:
    """Which of the caller's turns an event belongs to."""

    def __init__(self) -> None:
        self._now = 0
        self._of_items: dict[str, int] = {}

    def of(self, data: dict[str, Any], item: str) -> int:
        """What the event says itself; else its item's turn, as it was when the item was first heard of."""
        turn = data.get("turn")
        if isinstance(turn, int):
            if item:
                self._remember(item, turn)
            return turn
        if not item:
            return self._now
        if item not in self._of_items:
            self._remember(item, self._now)
        return self._of_items[item]

    def begins(self, turn: int) -> None:
        self._now = max(self._now, turn)

    def _remember(self, item: str, turn: int) -> None:
        self._of_items[item] = turn
        while len(self._of_items) > MAX_ITEMS:
            del self._of_items[next(iter(self._of_items))]


class Reporter:
    """Tells what happens in one call. Thread-safe; what one thread tells stays in order."""

    def __init__(
        self,
        uuid: str,
        observer: Observer | None = None,
        timeline_dir: str = "",
        clock: Callable[[], float] = time.monotonic,
        *,
        agent: str = "",
        bus: Bus | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """timeline_dir: counts without a bus; on a bus, whoever made it tells its Timelines."""
        self._uuid, self._agent, self._observer, self._bus, self._clock = uuid, agent, observer, bus, clock
        self._wall_zero_s = wall() - clock()
        self._lock = threading.Lock()  # the turns, and what has been complained of
        self._turns = _Turns()
        self._complained: set[tuple[str, str]] = set()
        self._timelines: Timelines | None = None
        if bus is None and timeline_dir:
            self._timelines = Timelines()
            self._timelines.begin(uuid, timeline_dir)

    def tell(self, kind: str, data: dict[str, Any] | None = None, at_s: float | None = None) -> None:
        """Something has happened, now unless at_s says when. Never waits for who listens, and raises nothing.

        Of `ended`, without a bus, the timeline has been written when this returns.
        """
        event = self._event(kind, data or {}, self._clock() if at_s is None else at_s)
        self._log(event)
        if self._observer is not None:
            try:
                self._observer(event)
            except Exception:  # its fault, and no reason to end the call or to leave anything of it behind
                log.exception("call %s: observer of %s", self._uuid, kind)
        if self._bus is not None:
            self._bus.publish(event)
        elif self._timelines is not None:
            self._timelines(event)

    def complain(self, about: str, message: str) -> None:
        """Logs and tells a kind of nonsense once per call. message: one that we have written ourselves."""
        if self._is_new("nonsense", about):
            log.warning("call %s: %s", self._uuid, message)
            self.tell("error", {"code": about, "message": message})

    def _event(self, kind: str, data: dict[str, Any], at_s: float) -> CallEvent:
        item = data.get("item")
        item = item if isinstance(item, str) else ""
        with self._lock:
            if kind == "speech_started" and isinstance(data.get("turn"), int):
                self._turns.begins(data["turn"])
            turn = self._turns.of(data, item)
        return CallEvent(
            kind, at_s, data, self._uuid, self._agent, turn, item, round(self._wall_zero_s + at_s, 6)
        )

    def _is_new(self, kind: str, what: str) -> bool:
        """Whether this has not been complained of yet, and there is room for it."""
        with self._lock:
            if (kind, what) in self._complained or len(self._complained) >= MAX_COMPLAINTS:
                return False
            self._complained.add((kind, what))
            return True

    # ---- the log -------------------------------------------------------------------------------------------

    def _log(self, event: CallEvent) -> None:
        match event.kind:
            case "failure":
                log.error("call %s: %s", self._uuid, _with_todo(str(event.data.get("reason") or "")))
            case "error":
                self._warn(str(event.data.get("code") or "error"), _server_error(event.data))
            case "setting_refused":
                self._warn(str(event.data.get("field") or ""), _refusal(event.data))
            case _:
                log.debug("call %s: %s %s", self._uuid, event.kind, event.data)

    def _warn(self, what: str, line: str) -> None:
        with self._lock:
            said = ("nonsense", what) in self._complained  # complain() has logged its own words
        if not said and self._is_new("server", what):
            log.warning("call %s: %s", self._uuid, line)
        else:
            log.debug("call %s: %s", self._uuid, line)


def _with_todo(reason: str) -> str:
    todo = complaints.todo_in(reason)
    return f"{reason} ({todo})" if todo else reason


def _server_error(data: dict[str, Any]) -> str:
    """The log line of an `error`: what the server says, and which setting to look at."""
    code, message = (complaints.one_line(data.get(name) or "") for name in ("code", "message"))
    setting = complaints.setting_of(str(data.get("param") or ""))
    todo = complaints.todo(code) or (f"see {setting}" if setting else "")
    said = ": ".join(part for part in (code, message) if part) or "that something is wrong"
    return f"the server says {said}" + (f" ({todo})" if todo else "")


def _refusal(data: dict[str, Any]) -> str:
    """The log line of a `setting_refused`."""
    path = complaints.one_line(data.get("field") or "")
    setting = complaints.setting_of(path)
    line = f"the server refuses {path}, and the call goes on without it"
    message = complaints.one_line(data.get("message") or "")
    line += f" ({message})" if message else ""
    return f"{line}: change or unset {setting}" if setting else line
