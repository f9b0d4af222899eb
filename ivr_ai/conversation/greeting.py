"""The greeting: owed from the beginning until its last sample has been heard.

A greeting that the caller may not cut short (IVR_AI_GREETING_INTERRUPTIBLE off) is asked for again whenever
it was cut, failed or was lost with its connection. One that may be cut short is over once anything of it was
heard.
"""

from __future__ import annotations

from ivr_ai.config import Settings
from ivr_ai.conversation.playout import Playout
from ivr_ai.conversation.requests import OVERTAKEN_PATIENCE_S, Done, Requests, Response, Want, Why


class Greeting:
    """That of one conversation. Not thread-safe."""

    def __init__(self, settings: Settings, requests: Requests, playout: Playout) -> None:
        self._instructions, self._interruptible = settings.greeting, settings.greeting_interruptible
        self._requests, self._playout = requests, playout
        self.owed = bool(settings.greeting)
        # The response that says the greeting, and has not been heard to its end.
        self._response_id: str | None = None

    @property
    def is_protected(self) -> bool:
        """Whether the caller may not cut short what is said."""
        return self.owed and not self._interruptible

    def want(self, not_before_s: float = 0.0) -> None:
        """Asks for the greeting, if it is owed and has not been asked for yet."""
        if self.owed and not self._requests.is_wanted(Why.GREETING):
            self._requests.want(Want(Why.GREETING, self._instructions, not_before_s=not_before_s))

    def want_after_loss(self) -> None:
        """As want(), over a new connection, unless a response of the lost one still says it."""
        if self._response_id is None:
            self.want()

    # ---- what becomes of responses -------------------------------------------------------------------------

    def begun(self, response: Response) -> None:
        """A response has begun."""
        if _is_in(response):
            self._response_id = response.response_id

    def check(self) -> None:
        """The response under way may turn out not to be the one that says the greeting."""
        active = self._requests.active
        if active is not None and not _is_in(active) and active.response_id == self._response_id:
            self._response_id = None

    def lost(self, response: Response) -> None:
        """The connection is gone, and the response that was under way with it."""
        if response.response_id == self._response_id:
            self._response_id = None

    def over(self, response: Response, done: Done, now_s: float) -> None:
        """A response is over. A greeting that it did not say whole is wanted again."""
        if not _is_in(response):
            return
        whole = self._playout.spoke(done.response_id) and self._playout.is_current(done.response_id)
        if whole and not done.cancelled and done.trouble is None:
            self._response_id = response.response_id  # given when heard: see heard()
            return
        self._response_id = None
        self.want(now_s + OVERTAKEN_PATIENCE_S if self._requests.doubted is response else 0.0)

    # ---- what was heard ------------------------------------------------------------------------------------

    def cut(self) -> bool:
        """After a flush. Returns whether the greeting has been given with this."""
        response_id = self._response_id
        if response_id is None:
            return False
        if self._requests.is_over(response_id) and not self._playout.was_cut(response_id):
            return self.heard()  # in the very last moment
        may_be_cut = not self.is_protected
        self._response_id = None
        self.owed = not (may_be_cut and self._playout.was_heard(response_id))
        self.want()
        return False

    def heard(self) -> bool:
        """Whether the last of the greeting has been heard just now: then it is owed no more."""
        response_id = self._response_id
        if response_id is None or not self._requests.is_over(response_id):
            return False
        if self._playout.of_response(response_id):
            return False
        self._response_id, self.owed = None, False
        return True


def _is_in(response: Response) -> bool:
    return any(want.why is Why.GREETING for want in response.wants)
