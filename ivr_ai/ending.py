"""How a conversation ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

LAST_WORDS_S = 30.0  # how long an ending waits for what is being said


class Kind(Enum):
    CALLER = "caller"  # the caller hung up, or the call was taken elsewhere
    SERVER = "server"  # the server ended the conversation in good order
    LIMIT = "limit"  # a limit of ours was reached
    STREAM = "stream"  # somebody stopped the audio stream
    FAILURE = "failure"  # the conversation could not go on


@dataclass(frozen=True)
class Ending:
    """Why a conversation ends."""

    kind: Kind
    reason: str

    @property
    def failed(self) -> bool:
        """Whether the failure policy takes over: the apology, then IVR_AI_FAILURE_ACTION."""
        return self.kind is Kind.FAILURE


@dataclass(frozen=True)
class LastWords:
    """An ending that waits until the caller has heard what is being said. since_s: on the call's clock."""

    how: Ending
    since_s: float

    def said(self, now_s: float, quiet: bool) -> bool:
        """Whether the call is to end now: it is quiet, or that has been waited for long enough."""
        return quiet or now_s - self.since_s > LAST_WORDS_S


HUNG_UP = Ending(Kind.CALLER, "the caller hung up, or the call was taken elsewhere")
GOODBYE = Ending(Kind.SERVER, "the server ended the conversation")
STOPPED = Ending(Kind.STREAM, "the audio stream was stopped")


def failure(reason: str) -> Ending:
    """An ending that the caller is apologised to for."""
    return Ending(Kind.FAILURE, reason)
