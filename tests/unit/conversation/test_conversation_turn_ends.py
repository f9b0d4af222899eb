"""Turns whose end the service does not tell: the line's silence ends them, and nobody waits for ever."""

from __future__ import annotations

from talk import Talk, notices, sent, types

from ivr_ai.conversation.conversation import TURN_END_LOST_S, UNHEARD_TURN_S
from ivr_ai.conversation.floor import Floor

LONG_S = 10.0


def silence(talk: Talk, seconds: float):
    """Time passes, and nobody speaks."""
    talk.now_s += seconds
    return talk.it.tick(talk.now_s, seconds)


def test_a_turn_whose_end_the_service_has_missed_is_committed_and_answered(talk):
    talk.caller_starts()
    assert silence(talk, TURN_END_LOST_S - 1) == []
    actions = silence(talk, LONG_S)
    assert types(actions) == ["input_audio_buffer.commit", "response.create"]
    assert ("speech_stopped", {"turn": 1}) in notices(actions)
    assert talk.it.floor is Floor.THINKING
    talk.created("r1", "ask_1")
    assert talk.audio("r1") is not None
    assert talk.it.totals.turns == 1


def test_a_caller_who_speaks_on_is_left_alone(talk):
    talk.caller_starts()
    talk.now_s += LONG_S
    assert talk.it.tick(talk.now_s, 0.0) == []
    assert talk.it.caller.speaking


def test_a_line_that_was_silent_before_says_nothing_of_a_turn_that_has_just_begun(talk):
    talk.caller_starts()
    talk.now_s += TURN_END_LOST_S - 1
    assert talk.it.tick(talk.now_s, 86_400.0) == []


def test_a_caller_who_speaks_too_low_for_the_line_has_half_a_minute(talk):
    talk.caller_starts()
    talk.now_s += UNHEARD_TURN_S - 1
    assert talk.it.tick(talk.now_s, 86_400.0) == []
    talk.now_s += 2
    assert types(talk.it.tick(talk.now_s, 86_400.0)) == ["input_audio_buffer.commit", "response.create"]


def test_a_turn_that_the_service_has_answered_is_over_and_asks_for_nothing(talk):
    talk.caller_starts()
    talk.created("r1")
    assert talk.audio("r1") is not None
    talk.done("r1")
    actions = silence(talk, LONG_S)
    assert sent(actions) == []
    assert ("speech_stopped", {"turn": 1}) in notices(actions)
    assert not talk.it.caller.speaking
    assert not talk.it.turn_is_open


def test_what_a_function_gave_is_asked_about_once_the_silence_has_ended_the_turn(talk):
    talk.caller_starts()
    talk.created("r1")
    talk.calls("c1", "r1")
    talk.done("r1")
    assert types(talk.returns("c1")) == ["conversation.item.create"]  # the caller may be speaking
    assert types(silence(talk, LONG_S)) == ["response.create"]


def test_an_end_that_is_told_late_counts_once(talk):
    talk.caller_starts()
    silence(talk, LONG_S)
    assert talk.caller_stops() == []
    assert talk.it.totals.turns == 1
    talk.caller_starts()
    talk.caller_stops()
    assert talk.it.totals.turns == 2


def test_where_the_call_detects_turns_the_call_ends_them():
    talk = Talk(turn_detection="none")
    talk.caller_starts()
    assert silence(talk, LONG_S) == []
