"""A connection that is lost and comes back, in every state: what was under way is asked for again, once."""

from __future__ import annotations

import pytest
from talk import Talk, asks, failures, flushes, notices, sent, turns_set, types

from ivr_ai.conversation.actions import Ask, EndItem, Turns
from ivr_ai.conversation.conversation import RESUME_PATIENCE_S, SAY_AGAIN
from ivr_ai.conversation.floor import Floor
from ivr_ai.conversation.requests import State

LOCAL = [{"turn_detection": "none"}, {"input_mode": "item"}]
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "1"}


class TestInEveryState:
    def test_listening_nothing_is_owed(self, talk):
        assert talk.lost() == []
        assert talk.connected() == []
        assert talk.later(5) == []
        assert talk.it.is_quiet()

    def test_hearing_the_next_connection_says_whether_the_caller_still_speaks(self, talk):
        talk.caller_starts()
        assert talk.lost() == []
        assert asks(talk.connected()) == []
        assert talk.it.floor is Floor.THINKING
        assert asks(talk.later(RESUME_PATIENCE_S - 0.1)) == []
        talk.caller_starts()  # they do
        assert asks(talk.later(5)) == []
        assert asks(talk.caller_stops()) == []
        assert talk.created("r2")

    def test_hearing_a_caller_who_has_stopped_meanwhile_is_answered(self, talk):
        talk.caller_starts()
        talk.lost()
        talk.connected()
        assert len(asks(talk.later(RESUME_PATIENCE_S))) == 1

    def test_thinking_the_next_connection_hears_the_turn_again(self, talk):
        talk.turn()
        assert talk.lost() == []
        assert asks(talk.later(3)) == []  # there is no connection to ask over
        assert asks(talk.connected()) == []
        assert talk.it.floor is Floor.THINKING
        assert notices(talk.caller_starts()) == [("speech_started", {"turn": 1})]
        assert notices(talk.caller_stops()) == [("speech_stopped", {"turn": 1})]
        assert asks(talk.later(5)) == []
        talk.created()
        assert talk.audio() == talk.it.generation
        assert talk.it.totals.turns == 1

    def test_thinking_a_turn_that_no_connection_has_heard_is_asked_for_again(self, talk):
        talk.turn()
        talk.lost()
        talk.connected()
        assert asks(talk.later(RESUME_PATIENCE_S - 0.1)) == []
        assert asks(talk.later(0.1)) == [Ask("ask_1", SAY_AGAIN)]

    def test_thinking_what_is_known_of_the_open_turn_is_not_told_beside_its_audio(self, talk):
        talk.turn()
        talk.it.caller_said("u1", "Hello?")
        talk.lost()
        assert talk.connected() == []

    def test_thinking_with_a_request_out(self):
        talk = Talk(greeting="Hello.")
        talk.it.start(talk.now_s)
        assert talk.lost() == []
        assert asks(talk.connected()) == [Ask("ask_2", "Hello.")]

    def test_thinking_with_a_response_under_way(self, talk):
        talk.turn()
        talk.created()
        assert talk.lost() == []
        assert talk.it.requests.state is State.IDLE
        assert asks(talk.connected()) == []
        assert asks(talk.later(RESUME_PATIENCE_S)) == [Ask("ask_1", SAY_AGAIN)]

    def test_speaking_what_is_queued_plays_on_and_the_rest_is_asked_for_again(self, talk):
        talk.speaking()
        assert talk.lost() == [EndItem("i1")]
        assert talk.it.floor is Floor.SPEAKING
        assert asks(talk.connected()) == [Ask("ask_1")]
        talk.heard()
        assert talk.it.floor is Floor.THINKING
        talk.created("r2")
        assert talk.audio("r2", "i2") == talk.it.generation

    def test_speaking_a_reply_that_is_complete_is_not_asked_for_again(self, talk):
        talk.speaking()
        talk.done()
        assert talk.lost() == []
        assert asks(talk.connected()) == []
        talk.heard()
        assert talk.it.is_quiet()

    @pytest.mark.parametrize("local", LOCAL, ids=str)
    def test_where_the_call_detects_turns(self, local):
        talk = Talk(**local)
        talk.caller_starts()
        talk.turn_ends()
        talk.lost()
        assert asks(talk.connected()) == [Ask("ask_2")]

    def test_a_retry_that_was_due_later_stays_due_then(self, talk):
        talk.turn()
        talk.created()
        talk.failed("r1", "rate_limit_exceeded", "Please try again in 3s.")
        talk.lost()
        assert asks(talk.connected()) == []
        assert len(asks(talk.later(3))) == 1


class TestInterrupted:
    def test_what_the_caller_cut_short_is_not_asked_for_again(self, talk):
        talk.speaking()
        talk.caller_starts()
        talk.flushed({"i1": 300})
        talk.lost()
        talk.connected()
        assert len(asks(talk.later(RESUME_PATIENCE_S))) == 1  # what they say now, that is
        talk.created("r2")
        talk.audio("r2", "i2")
        assert asks(talk.done("r2")) == []

    def test_a_greeting_that_the_caller_cut_short_is_over(self):
        talk = Talk(greeting="Hello.", greeting_interruptible=True)
        talk.it.start(talk.now_s)
        talk.created()
        talk.audio()
        talk.turn_cuts({"i1": 300})
        talk.lost()
        assert asks(talk.connected()) == []
        assert asks(talk.later(RESUME_PATIENCE_S)) == [Ask("ask_2", SAY_AGAIN)]

    def test_the_reply_to_the_last_words_is_owed_though_a_request_was_overtaken(self):
        """The outputs of a function are asked about; the caller speaks into that; then the link goes."""
        talk = Talk()
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        assert asks(talk.returns())
        talk.turn()
        talk.flushed({})
        talk.lost()
        talk.connected()
        assert asks(talk.later(RESUME_PATIENCE_S)) == [Ask("ask_2", SAY_AGAIN)]

    def test_audio_of_before_cannot_be_forgotten_on_the_next_connection(self, talk):
        talk.speaking()
        talk.lost()
        talk.connected()
        assert flushes(talk.caller_starts()) == 1
        assert sent(talk.flushed({"i1": 300})) == []
        assert talk.it.totals.barge_ins == 1

    def test_nor_can_items_that_were_told_of_and_have_not_come(self, talk):
        talk.turn()
        talk.added("r1", "i1")
        talk.lost()
        talk.connected()
        talk.caller_starts()
        assert sent(talk.flushed({})) == []


class TestFunctions:
    def test_an_output_for_a_call_of_before_brings_its_call_along(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        talk.lost()
        talk.connected()
        call = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"order": 17}'}
        assert sent(talk.returns()) == [
            {"type": "conversation.item.create", "item": call},
            {"type": "conversation.item.create", "item": OUTPUT},
            {"type": "response.create"},
        ]

    def test_a_call_under_way_is_not_made_twice(self, talk):
        """Its response is answered by the outputs; asking for that again would make the model call again."""
        talk.turn()
        talk.created()
        talk.calls()
        talk.lost()
        assert asks(talk.connected()) == []
        assert asks(talk.later(5)) == []
        assert len(asks(talk.returns())) == 1

    def test_outputs_that_came_before_the_response_was_done_are_answered(self, talk):
        talk.created()
        talk.calls()
        talk.returns()
        talk.lost()
        assert len(asks(talk.connected())) == 1

    def test_an_output_that_comes_while_there_is_no_connection_is_answered_on_the_next(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        talk.lost()
        assert asks(talk.returns()) == []
        assert len(asks(talk.connected())) == 1


class TestGreeting:
    def test_one_that_was_being_said_is_said_again(self):
        talk = Talk(greeting="Hello.")
        talk.it.start(talk.now_s)
        talk.created()
        talk.audio()
        talk.lost()
        assert asks(talk.connected()) == [Ask("ask_2", "Hello.")]

    def test_one_that_is_complete_and_plays_on_is_not(self):
        talk = Talk(greeting="Hello.")
        talk.it.start(talk.now_s)
        talk.created()
        talk.audio()
        talk.done()
        talk.lost()
        assert asks(talk.connected()) == []
        assert turns_set(talk.heard()) == [Turns()]

    def test_nor_is_it_when_the_connection_goes_in_the_reply_that_is_queued_behind_it(self):
        talk = Talk(greeting="Hello.")
        talk.it.start(talk.now_s)
        talk.created()
        talk.audio()
        talk.turn()
        assert asks(talk.done()) == [Ask("ask_2")]
        talk.created("r2")
        talk.audio("r2", "i2")
        talk.lost()
        assert asks(talk.connected()) == [Ask("ask_3")]

    def test_one_that_is_heard_while_there_is_no_connection_returns_the_turns_on_the_next(self):
        talk = Talk(greeting="Hello.")
        talk.it.start(talk.now_s)
        talk.created()
        talk.audio()
        talk.done()
        talk.lost()
        assert turns_set(talk.heard()) == []
        talk.connected(Turns(True, asks=False, interrupts=False))
        assert turns_set(talk.later(0)) == [Turns()]


class TestWhatIsDecidedMeanwhile:
    def test_nothing_is_asked_and_nothing_is_late(self, talk):
        talk.turn()
        talk.lost()
        for _ in range(100):
            assert talk.later(1) == []

    def test_time_counts_anew_on_the_next_connection(self, talk):
        talk.turn()
        talk.lost()
        talk.now_s += 60
        talk.connected()
        talk.later(RESUME_PATIENCE_S)
        assert failures(talk.later(19)) == []
        assert failures(talk.later(1)) != []

    def test_what_the_new_server_has_agreed_to_counts(self, talk):
        talk.lost()
        talk.connected(Turns(True, asks=False, interrupts=False))
        assert talk.it.turns.asks is False
        assert types(talk.turn().later(0)) == []  # asked for as the turn ended
        assert talk.it.requests.state is State.ASKED
