"""Who has the floor. A call is always in one of four states, and only the entries of TABLE move it.

LISTENING   nobody speaks. The caller may begin (HEARING), a response may be asked for or begin (THINKING).
HEARING     the caller speaks. When their turn is over, a reply is due (THINKING). A response whose beginning
            was not taken back is let through (THINKING, SPEAKING): a greeting that may not be interrupted,
            say.
THINKING    a reply is due, and none of it has come. Its first audio makes it SPEAKING; a response that ends
            without audio (a function call, say) leads back to LISTENING. The caller may begin again: HEARING.
SPEAKING    a reply is queued or playing. When the last of it has been *heard*, LISTENING. When the caller
begins,
            that is a barge-in: HEARING.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class Floor(Enum):
    LISTENING = "listening"
    HEARING = "hearing"
    THINKING = "thinking"
    SPEAKING = "speaking"


class Move(Enum):
    """What moves the floor."""

    CALLER_STARTED = "caller started"
    CALLER_STOPPED = "caller stopped"
    ASKED = "asked"
    RESPONSE_BEGAN = "response began"
    RESPONSE_ENDED = "response ended"
    AUDIO = "audio"
    DRAINED = "drained"


TABLE = MappingProxyType(
    {
        (Floor.LISTENING, Move.CALLER_STARTED): Floor.HEARING,
        (Floor.LISTENING, Move.CALLER_STOPPED): Floor.THINKING,
        (Floor.LISTENING, Move.ASKED): Floor.THINKING,
        (Floor.LISTENING, Move.RESPONSE_BEGAN): Floor.THINKING,
        (Floor.LISTENING, Move.AUDIO): Floor.SPEAKING,
        (Floor.HEARING, Move.CALLER_STOPPED): Floor.THINKING,
        (Floor.HEARING, Move.RESPONSE_BEGAN): Floor.THINKING,
        (Floor.HEARING, Move.AUDIO): Floor.SPEAKING,
        (Floor.THINKING, Move.CALLER_STARTED): Floor.HEARING,
        (Floor.THINKING, Move.AUDIO): Floor.SPEAKING,
        (Floor.THINKING, Move.RESPONSE_ENDED): Floor.LISTENING,
        (Floor.SPEAKING, Move.CALLER_STARTED): Floor.HEARING,
        (Floor.SPEAKING, Move.DRAINED): Floor.LISTENING,
    }
)


def after(floor: Floor, move: Move) -> Floor:
    """The floor after a move; the same for a move that has no entry."""
    return TABLE.get((floor, move), floor)
