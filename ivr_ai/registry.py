"""The calls under way: who they are, how far they are, and whether one more may begin."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ivr_ai.timeline import wall_clock

if TYPE_CHECKING:
    from ivr_ai.call import Call
    from ivr_ai.detached import DetachedLeg
    from ivr_ai.events import CallEvent

# What a call does from an event on, as `status` has it. Other events change nothing.
STATES = {
    "connected": "connected",
    "answered": "listening",
    "greeting": "thinking",
    "speech_started": "hearing",
    "speech_stopped": "thinking",
    "function_call": "thinking",
    "heard": "speaking",
    "item_finished": "listening",
    "barge_in": "hearing",
    "failure": "failing",
    "ended": "over",
}


class Refused(Exception):
    """A conversation may not begin. `full`: because there are enough of them; else it has begun already."""

    def __init__(self, why: str, *, full: bool) -> None:
        super().__init__(why)
        self.full = full


@dataclass(eq=False)
class Entry:
    """One call under way. observe() is its observer; the fields are read by any thread."""

    uuid: str
    agent: str
    since_s: float  # time.time()
    leg: DetachedLeg | None = None  # of a call that the dialplan keeps
    call: Call | None = None  # once it has been made, until its end
    turn: int = 0
    state: str = "connecting"

    def observe(self, event: CallEvent) -> None:
        """Quick: it is called on the call's own threads."""
        self.turn = max(self.turn, event.turn)
        self.state = STATES.get(event.kind, self.state)

    def facts(self) -> dict[str, Any]:
        """What `status` says of the call, JSON-ready."""
        return {
            "uuid": self.uuid,
            "agent": self.agent,
            "since": wall_clock(self.since_s),
            "turn": self.turn,
            "state": self.state,
        }


class Registry:
    """The calls of one process, by uuid. Thread-safe."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._calls: dict[str, Entry] = {}
        self._left = threading.Condition(self._lock)  # told whenever a call has been removed
        self.total = 0  # calls begun
        self.refused = 0  # because there were enough, or while draining
        self.draining = False  # whether new ones are refused

    def begin(self, uuid: str, agent: str, max_calls: int = 0, leg: DetachedLeg | None = None) -> Entry:
        """Takes a call in, until end(). max_calls: how many there may be, 0 for any. Raises Refused."""
        with self._lock:
            if uuid in self._calls:
                raise Refused(f"call {uuid} is in a conversation already", full=False)
            if self.draining:
                self.refused += 1
                raise Refused(
                    f"call {uuid} refused: no new calls, `python ivr_ai.app undrain` ends that", full=True
                )
            if 0 < max_calls <= len(self._calls):
                self.refused += 1
                raise Refused(
                    f"call {uuid} refused: there are {max_calls} already (IVR_AI_MAX_CALLS)", full=True
                )
            entry = self._calls[uuid] = Entry(uuid, agent, self._wall(), leg)
            self.total += 1
            return entry

    def end(self, entry: Entry) -> None:
        """The call is over."""
        with self._left:
            entry.call = None
            if self._calls.get(entry.uuid) is entry:
                del self._calls[entry.uuid]
            self._left.notify_all()

    def get(self, uuid: str) -> Entry | None:
        """The call under way with this uuid."""
        with self._lock:
            return self._calls.get(uuid)

    def entries(self) -> list[Entry]:
        """Those under way, the oldest first."""
        with self._lock:
            return list(self._calls.values())

    def wait_empty(self, timeout_s: float) -> bool:
        """Waits until no call is under way; False when that takes longer."""
        with self._left:
            return self._left.wait_for(lambda: not self._calls, timeout_s)
