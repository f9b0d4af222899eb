"""Who has the floor: the table, and that what really happens moves the floor by the table alone."""

from __future__ import annotations

import pytest
from talk import Talk, asks, mark

from ivr_ai.conversation.floor import TABLE, Floor, Move, after

AUDIO, CALLER_STARTED, CALLER_STOPPED = Move.AUDIO, Move.CALLER_STARTED, Move.CALLER_STOPPED
ASKED, DRAINED = Move.ASKED, Move.DRAINED
RESPONSE_BEGAN, RESPONSE_ENDED = Move.RESPONSE_BEGAN, Move.RESPONSE_ENDED
LISTENING, HEARING, THINKING, SPEAKING = Floor

# What brings a conversation to each floor, and what makes each move.
REACH = {
    LISTENING: lambda talk: talk,
    HEARING: lambda talk: talk.caller_starts(),
    THINKING: lambda talk: (talk.turn(), talk.created("r1")),
    SPEAKING: lambda talk: talk.speaking("r1", "i1"),
}
DO = {
    CALLER_STARTED: lambda talk: talk.caller_starts(),
    CALLER_STOPPED: lambda talk: talk.caller_stops(),
    RESPONSE_BEGAN: lambda talk: talk.created("r2"),
    AUDIO: lambda talk: talk.audio("r2", "i2"),
    RESPONSE_ENDED: lambda talk: talk.cancelled("r1"),
    DRAINED: lambda talk: (talk.cancelled("r1"), talk.heard("i1")),
}


def test_the_table():
    """Whatever is not in it leaves the floor where it is."""
    assert TABLE == {
        (LISTENING, CALLER_STARTED): HEARING,
        (LISTENING, CALLER_STOPPED): THINKING,
        (LISTENING, ASKED): THINKING,
        (LISTENING, RESPONSE_BEGAN): THINKING,
        (LISTENING, AUDIO): SPEAKING,
        (HEARING, CALLER_STOPPED): THINKING,
        (HEARING, RESPONSE_BEGAN): THINKING,
        (HEARING, AUDIO): SPEAKING,
        (THINKING, CALLER_STARTED): HEARING,
        (THINKING, AUDIO): SPEAKING,
        (THINKING, RESPONSE_ENDED): LISTENING,
        (SPEAKING, CALLER_STARTED): HEARING,
        (SPEAKING, DRAINED): LISTENING,
    }


@pytest.mark.parametrize("move", Move, ids=lambda move: move.value)
@pytest.mark.parametrize("floor", Floor, ids=lambda floor: floor.value)
def test_after_is_the_table_and_leaves_the_rest_alone(floor, move):
    assert after(floor, move) is TABLE.get((floor, move), floor)


@pytest.mark.parametrize("what", DO, ids=lambda move: move.value)
@pytest.mark.parametrize("floor", Floor, ids=lambda floor: floor.value)
def test_every_entry_and_every_gap_by_what_really_happens(talk, floor, what):
    REACH[floor](talk)
    assert talk.it.floor is floor
    DO[what](talk)
    expected = TABLE.get((floor, what), floor)
    if what == DRAINED and floor is THINKING:
        expected = LISTENING  # its response has ended on the way there
    assert talk.it.floor is expected


def test_a_call_begins_listening():
    assert Talk().it.floor is LISTENING


def test_asking_is_thinking():
    talk = Talk(greeting="Hello.")
    assert asks(talk.it.start(talk.now_s))
    assert talk.it.floor is THINKING


def test_a_turn_and_its_reply(talk):
    floors = [talk.it.floor]
    for step in (
        talk.caller_starts,
        talk.caller_stops,
        talk.created,
        talk.audio,
        talk.audio,
        talk.audio_done,
        talk.done,
        talk.heard,
    ):
        step()
        floors.append(talk.it.floor)
    assert floors == [LISTENING, HEARING, THINKING, THINKING, *[SPEAKING] * 4, LISTENING]


def test_a_reply_is_over_when_it_has_been_heard_not_when_it_has_been_sent(talk):
    talk.speaking()
    talk.audio_done()
    talk.done()
    assert talk.it.mark(mark("i1", 400, started_s=talk.now_s), talk.now_s)
    assert talk.it.floor is SPEAKING
    talk.heard()
    assert talk.it.floor is LISTENING


def test_a_reply_heard_before_its_response_is_done(talk):
    """As when a function call follows: the end of the response is the end of the reply."""
    talk.speaking()
    talk.audio_done()
    talk.heard()
    assert talk.it.floor is SPEAKING
    talk.done()
    assert talk.it.floor is LISTENING


def test_a_response_that_only_calls_a_function_gives_the_floor_back(talk):
    talk.turn()
    talk.created()
    talk.calls()
    talk.done()
    assert talk.it.floor is LISTENING


def test_a_response_without_audio_is_asked_for_again_and_thought_about(talk):
    talk.turn()
    talk.created()
    assert asks(talk.done())
    assert talk.it.floor is THINKING


def test_a_response_that_begins_while_the_caller_speaks_is_let_through(talk):
    """One that nobody has asked for before they spoke, that is: the service knows that they do."""
    talk.caller_starts()
    talk.created()
    assert talk.audio() == 1
    assert talk.it.floor is SPEAKING


def test_a_reply_that_has_been_heard_while_the_next_is_asked_for_leaves_the_floor_to_that_one():
    talk = Talk(barge_in=False).speaking()
    talk.turn()
    talk.audio_done()
    assert asks(talk.done())
    talk.heard()
    assert talk.it.floor is THINKING
    talk.created("r2")
    talk.audio("r2", "i2")
    assert talk.it.floor is SPEAKING


def test_a_refusal_told_twice_does_not_take_the_floor_from_what_is_asked_for_meanwhile():
    talk = Talk(greeting="Hello.")
    talk.it.start(talk.now_s)
    assert asks(talk.error("invalid_value", event_id="ask_1"))
    assert not asks(talk.error("invalid_value", event_id="ask_1"))
    assert talk.it.floor is THINKING


def test_a_call_is_not_quiet_while_an_answer_is_waited_for():
    talk = Talk(barge_in=False).speaking()
    talk.turn()
    talk.done()
    talk.heard()
    assert not talk.it.is_quiet()
    talk.created("r2")
    talk.audio("r2", "i2")
    talk.done("r2")
    assert not talk.it.is_quiet()
    talk.heard("i2")
    assert talk.it.is_quiet()


def test_what_is_said_into_a_reply_is_heard_on_when_the_reply_is_over():
    talk = Talk(barge_in=False).speaking()
    talk.caller_starts()
    talk.done()
    talk.heard()
    assert talk.it.floor is HEARING
    talk.caller_stops()
    assert talk.it.floor is THINKING
