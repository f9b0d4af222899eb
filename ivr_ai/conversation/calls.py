"""Calls of functions: which were told of, which are running, and whose outputs nobody has answered."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

CALLS_KEPT = 64  # ids of calls that were told of: each is run once


class FunctionCall(NamedTuple):
    """A call of a function. link: the number of the connection that it came over."""

    response_id: str
    link: int
    name: str
    arguments: str


class FunctionCalls:
    """The calls of one conversation. Not thread-safe."""

    def __init__(self) -> None:
        self._told: deque[str] = deque(maxlen=CALLS_KEPT)
        self._running: dict[str, FunctionCall] = {}
        self._returned: set[str] = set()  # responses whose functions have given something back

    def is_new(self, call_id: str) -> bool:
        """Whether a call is told of for the first time; from now on it is not."""
        if call_id in self._told:
            return False
        self._told.append(call_id)
        return True

    def begin(self, call_id: str, call: FunctionCall) -> None:
        """The function runs."""
        self._running[call_id] = call

    def end(self, call_id: str) -> FunctionCall | None:
        """The function has given something back. None for a call that is not running."""
        call = self._running.pop(call_id, None)
        if call is not None:
            self._returned.add(call.response_id)
        return call

    def all_returned(self, response_id: str) -> bool:
        """Whether all functions of a response have given something back, and answered() was not called."""
        running = any(call.response_id == response_id for call in self._running.values())
        return not running and response_id in self._returned

    def answered(self, response_id: str) -> None:
        """What a response's functions have given back is being answered."""
        self._returned.discard(response_id)

    def __bool__(self) -> bool:
        """Whether any function is running."""
        return bool(self._running)
