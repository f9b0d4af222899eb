"""The caller's turns: whether they speak, which turn is whose item, and what of it no answer has begun to.

A turn is *open* from the caller's first word until the answer to it is heard of. What was said in an open
turn is given to a new connection when one is lost: then the same turn begins and ends once more, and counts
once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ivr_ai.conversation.actions import Utterance

TURNS_KEPT = 64  # whose items are remembered: transcripts come late, but not that late


@dataclass
class Caller:
    """The caller of one conversation. Not thread-safe."""

    speaking: bool = False  # whoever has the floor
    since_s: float = 0.0  # when they began, the last time
    turn: int = 0  # the last that was over
    is_open: bool = False
    speech_end_s: float | None = None  # of the turn whose answer has not begun
    open_since: int = 0  # the first turn that no answer has been heard of
    answered_by_service: bool = False  # a response that nobody asked for has begun since their first word
    utterances: list[Utterance] = field(default_factory=list)  # of open turns, where the call detects turns
    _again: bool = False  # the turn that is open is told once more, over a new connection
    _end_inferred: bool = False  # the last turn's end was not told, and may still be
    _turn_of: dict[str, int] = field(default_factory=dict)  # of the caller's items

    def starts(self, now_s: float) -> int:
        """Their first word. Returns the number that the turn will have."""
        self.since_s = now_s
        turn = self.turn if self._again else self.turn + 1
        if not self.is_open:
            self.open_since = turn
        self.speaking = self.is_open = True
        self.answered_by_service = self._end_inferred = False
        # What was sent as it came and has not been answered becomes the beginning of this turn.
        self.utterances = [each for each in self.utterances if each.audio_base64 is not None]
        return turn

    def stops(self, last_speech_s: float | None, *, inferred: bool = False) -> int:
        """The turn is over. Returns its number. inferred: nobody has told so."""
        if not self._again:
            self.turn += 1
        if not self.is_open:
            self.open_since = self.turn
        self.speaking, self.is_open, self._again = False, True, False
        self.speech_end_s, self._end_inferred = last_speech_s, inferred
        return self.turn

    def end_is_known(self) -> bool:
        """Whether the end that is told now is that of a turn whose end was inferred before. Says so once."""
        known, self._end_inferred = self._end_inferred, False
        return known

    def is_answered(self, turn: int) -> None:
        """Audio of an answer has come, to this turn."""
        if turn == self.turn and not self.speaking:
            self.is_open, self.utterances, self._again = False, [], False

    def is_told_again(self) -> None:
        """What was said in the open turn is given to a new connection."""
        self._again = self._again or not self.speaking
        self.speaking = False

    def note(self, item_id: str, turn: int) -> None:
        """The item that a turn is, or will be."""
        if not item_id:
            return
        self._turn_of[item_id] = turn
        if len(self._turn_of) > TURNS_KEPT:
            del self._turn_of[next(iter(self._turn_of))]

    def turn_of(self, item_id: str) -> int:
        """The turn of an item; the last one for an item that nobody has told of."""
        return self._turn_of.get(item_id, self.turn)
