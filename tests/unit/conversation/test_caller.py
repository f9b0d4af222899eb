"""The caller's turns by their numbers, and which of them is open."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ivr_ai.conversation.actions import Utterance
from ivr_ai.conversation.caller import TURNS_KEPT, Caller

Happening = Callable[[Caller], object]


def starts(caller: Caller) -> None:
    caller.starts(1.0)


def stops(caller: Caller) -> None:
    caller.stops(7.0)


def answered(caller: Caller) -> None:
    caller.is_answered(caller.turn)


def late(caller: Caller) -> None:
    """Audio of an answer to the turn before comes."""
    caller.is_answered(caller.turn - 1)


def again(caller: Caller) -> None:
    caller.is_told_again()


TURN = (starts, stops)


@pytest.mark.parametrize(
    ("happens", "turn", "speaking", "is_open"),
    [
        ((), 0, False, False),
        ((starts,), 0, True, True),
        (TURN, 1, False, True),
        ((stops,), 1, False, True),  # its beginning was not told
        ((*TURN, answered), 1, False, False),
        ((*TURN, *TURN, late), 2, False, True),
        ((*TURN, starts, answered), 1, True, True),  # the caller speaks over the answer
        ((*TURN, answered, *TURN), 2, False, True),
        # Over a new connection:
        ((starts, again), 0, False, True),
        ((starts, again, *TURN), 1, False, True),
        ((*TURN, again, starts), 1, True, True),
        ((*TURN, again, *TURN), 1, False, True),
        ((*TURN, again, *TURN, again, *TURN), 1, False, True),
        ((*TURN, again, starts, again, stops), 1, False, True),
        ((*TURN, again, *TURN, answered, *TURN), 2, False, True),
        ((*TURN, again, answered, *TURN), 2, False, True),  # the connection told of no turn
        ((*TURN, again, *TURN, *TURN), 2, False, True),
    ],
    ids=lambda value: "-".join(each.__name__ for each in value) if isinstance(value, tuple) else None,
)
def test_what_happens(happens: tuple[Happening, ...], turn, speaking, is_open):
    caller = Caller()
    for each in happens:
        each(caller)
    assert (caller.turn, caller.speaking, caller.is_open) == (turn, speaking, is_open)


@pytest.mark.parametrize(
    ("before", "number"), [((), 1), (TURN, 2), ((*TURN, again), 1), ((starts, again), 1)], ids=range(4)
)
def test_the_number_of_a_turn_is_known_at_its_first_word(before: tuple[Happening, ...], number):
    caller = Caller()
    for each in before:
        each(caller)
    assert caller.starts(1.0) == number
    assert caller.stops(7.0) == number


def test_what_was_said_is_kept_while_the_turn_is_open():
    caller = Caller()
    caller.starts(1.0)
    assert caller.stops(7.0) == 1
    assert caller.speech_end_s == 7.0
    caller.utterances.append(Utterance("turn_1", "AAAA"))
    caller.is_answered(0)
    caller.is_told_again()
    assert caller.utterances == [Utterance("turn_1", "AAAA")]
    caller.is_answered(1)
    assert caller.utterances == []


@pytest.mark.parametrize(("audio", "kept"), [("AAAA", 1), (None, 0)])
def test_a_turn_that_goes_on_is_two_items_only_where_its_audio_was_kept_apart(audio, kept):
    caller = Caller()
    caller.starts(1.0)
    caller.stops(7.0)
    caller.utterances.append(Utterance("turn_1", audio))
    caller.starts(1.0)
    assert len(caller.utterances) == kept
    assert caller.open_since == 1


def test_a_turn_after_an_answer_is_open_by_itself():
    caller = Caller()
    caller.starts(1.0)
    caller.stops(7.0)
    caller.is_answered(1)
    caller.starts(1.0)
    assert caller.open_since == 2


class TestItems:
    def test_of_a_turn_that_is_and_of_one_that_will_be(self):
        caller = Caller(turn=2)
        caller.note("u2", 2)
        caller.note("u3", 3)
        assert [caller.turn_of(item_id) for item_id in ("u2", "u3")] == [2, 3]

    @pytest.mark.parametrize("item_id", ["", "u9"])
    def test_one_that_nobody_has_told_of_is_the_last_turn(self, item_id):
        caller = Caller(turn=2)
        caller.note("", 1)
        assert caller.turn_of(item_id) == 2

    def test_the_last_ones_are_remembered(self):
        caller = Caller(turn=99)
        for n in range(TURNS_KEPT + 1):
            caller.note(f"u{n}", n)
        assert [caller.turn_of(item_id) for item_id in ("u0", "u1", f"u{TURNS_KEPT}")] == [99, 1, TURNS_KEPT]
