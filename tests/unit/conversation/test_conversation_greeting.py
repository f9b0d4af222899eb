"""The greeting is owed until it has been heard: what may cut it, who answers what is said into it."""

from __future__ import annotations

import pytest
from talk import Talk, asks, failures, flushes, mark, sent, turns_set, types

from ivr_ai.conversation.actions import Ask, SetTurns, Turns
from ivr_ai.conversation.floor import Floor

OFF = Turns(True, asks=False, interrupts=False)
TURN_DETECTED = {"type": "cancelled", "reason": "turn_detected"}
CANCEL = {"type": "response.cancel", "response_id": "r1"}


def asked(**settings) -> Talk:
    """The greeting has been asked for: ask_1."""
    talk = Talk(**{"greeting": "Hello.", **settings})
    assert asks(talk.it.start(talk.now_s)) == [Ask("ask_1", "Hello.")]
    return talk


def greeting(**settings) -> Talk:
    """The greeting is being spoken: item i1 of r1."""
    talk = asked(**settings)
    talk.created("r1", "ask_1")
    assert talk.audio() is not None
    return talk


class TestProtected:
    def test_the_service_has_no_say_in_turns_until_it_has_been_heard(self):
        talk = asked()
        assert talk.it.turns_wanted == OFF
        talk.created("r1", "ask_1")
        talk.audio()
        assert turns_set(talk.done()) == []
        assert talk.heard()[-1] == SetTurns(Turns())
        assert talk.it.turns_wanted == Turns()
        assert turns_set(talk.later(5)) == []  # once is enough

    def test_what_is_said_into_it_cuts_nothing_and_is_answered_after_it(self):
        talk = greeting()
        assert flushes(talk.caller_starts()) == 0
        assert talk.it.floor is Floor.SPEAKING
        assert asks(talk.caller_stops()) == []
        assert asks(talk.done()) == [Ask("ask_2")]
        assert talk.it.totals.turns == 1

    def test_turns_are_returned_when_the_caller_is_silent(self):
        talk = greeting()
        talk.done()
        talk.caller_starts()
        assert turns_set(talk.heard()) == []
        talk.caller_stops()
        assert turns_set(talk.later(0)) == [Turns()]

    def test_before_the_service_has_agreed_to_its_turns_the_call_still_asks(self):
        talk = greeting()
        talk.done()
        assert turns_set(talk.heard()) == [Turns()]
        talk.caller_starts()
        assert asks(talk.caller_stops()) == [Ask("ask_2")]
        talk.it.turns_agreed(Turns())
        talk.created("r2", "ask_2")
        talk.audio("r2", "i2")
        talk.done("r2")
        talk.heard("i2")
        assert asks(talk.turn().later(0)) == []

    def test_one_that_the_caller_hears_to_its_end_before_its_response_is_done_is_over(self):
        talk = greeting()
        talk.audio_done()
        assert turns_set(talk.heard()) == []
        assert turns_set(talk.done()) == [Turns()]

    def test_one_of_several_items_is_over_with_its_last(self):
        talk = greeting()
        talk.audio("r1", "i2")
        talk.done()
        assert turns_set(talk.heard("i1")) == []
        assert turns_set(talk.heard("i2")) == [Turns()]

    def test_the_first_word_before_it_begins_waits_for_it(self):
        """Nothing is said over the caller; then the greeting, as it was asked for, and the reply."""
        talk = asked()
        assert flushes(talk.caller_starts()) == 0
        assert sent(talk.created("r1", "ask_1")) == []
        assert talk.audio() is not None
        talk.caller_stops()
        assert asks(talk.done()) == [Ask("ask_2")]

    def test_one_that_is_to_be_asked_for_again_waits_until_the_caller_has_spoken(self):
        talk = asked()
        talk.caller_starts()
        assert asks(talk.error("invalid_value", event_id="ask_1")) == []
        assert asks(talk.later(3)) == []
        assert asks(talk.caller_stops()) == [Ask("ask_2", "Hello.")]

    @pytest.mark.parametrize("code", ["server_error", "invalid_value"])
    def test_one_that_failed_is_still_owed(self, code):
        talk = greeting()
        assert asks(talk.failed("r1", code)) == [Ask("ask_2", "Hello.")]
        talk.heard()
        assert talk.it.turns_wanted == OFF
        talk.created("r2", "ask_2")
        talk.audio("r2", "i2")
        talk.done("r2")
        assert turns_set(talk.heard("i2")) == [Turns()]

    def test_one_that_says_nothing_fails(self):
        talk = asked()
        talk.created("r1", "ask_1")
        assert asks(talk.done("r1", "incomplete")) == [Ask("ask_2", "Hello.")]
        talk.created("r2", "ask_2")
        assert failures(talk.done("r2", "incomplete"))

    def test_one_that_the_service_cancels_all_the_same_is_said_again(self):
        talk = greeting().agreed()  # the service interrupts and answers by itself, whatever it was asked for
        talk.caller_starts()
        assert asks(talk.cancelled()) == []
        talk.caller_stops()  # the service's own reply is expected
        talk.created("own")
        talk.audio("own", "i2")
        assert asks(talk.done("own")) == [Ask("ask_2", "Hello.")]

    def test_one_that_is_cancelled_and_not_answered_is_asked_for_with_the_reply(self):
        talk = greeting().agreed()
        talk.caller_starts()
        talk.cancelled()
        assert asks(talk.caller_stops()) == []
        assert asks(talk.later(10)) == [Ask("ask_2", "Hello.")]

    def test_one_that_failed_before_the_caller_spoke_at_length_is_given_its_time_anew(self):
        """The limit is for silence; nobody has waited while they spoke."""
        talk = asked()
        talk.created("r1", "ask_1")
        talk.failed("r1", "rate_limit_exceeded")
        talk.caller_starts()
        talk.now_s += 60
        assert asks(talk.caller_stops()) == [Ask("ask_2", "Hello.")]
        talk.created("r2", "ask_2")
        assert failures(talk.failed("r2", "rate_limit_exceeded")) == []

    def test_what_a_long_hold_has_dropped_of_it_is_still_owed(self):
        talk = greeting(hold_keep_s=5)
        talk.done()
        talk.it.host_event("hold", {}, talk.now_s)
        talk.now_s += 6
        assert flushes(talk.it.host_event("unhold", {}, talk.now_s)) == 1
        talk.flushed({"i1": 300})
        assert asks(talk.later(0)) == [Ask("ask_2", "Hello.")]
        assert talk.it.turns_wanted == OFF

    def test_so_is_one_whose_response_ends_well_after_that(self):
        talk = greeting(hold_keep_s=5)
        talk.it.host_event("hold", {}, talk.now_s)
        talk.now_s += 6
        talk.it.host_event("unhold", {}, talk.now_s)
        talk.flushed({"i1": 300})
        assert asks(talk.done()) == [Ask("ask_2", "Hello.")]
        assert talk.it.turns_wanted == OFF


class TestInterruptible:
    def greeting(self, **settings) -> Talk:
        return greeting(greeting_interruptible=True, **settings)

    def test_the_service_keeps_its_turns(self):
        talk = self.greeting()
        assert talk.it.turns_wanted == Turns()
        talk.done()
        assert turns_set(talk.heard()) == []

    def test_cut_it_is_over(self):
        talk = self.greeting()
        assert flushes(talk.caller_starts()) == 1
        talk.flushed({"i1": 300})
        talk.cancelled()
        assert asks(talk.caller_stops()) == []
        assert asks(talk.later(5)) == []

    def test_cut_before_anything_was_heard_it_is_said_again(self):
        talk = self.greeting()
        talk.turn_cuts({"i1": 0})
        assert asks(talk.cancelled()) == []
        talk.created("own")
        talk.audio("own", "i2")
        assert asks(talk.done("own")) == [Ask("ask_2", "Hello.")]

    def test_cut_in_its_second_item_before_that_was_heard_it_is_over(self):
        talk = self.greeting()
        talk.audio("r1", "i2")
        talk.heard("i1")
        talk.turn_cuts({"i2": 0})
        talk.cancelled()
        talk.created("own")
        talk.audio("own", "i3")
        assert asks(talk.done("own")) == []

    def test_heard_to_its_end_in_the_very_last_moment_it_is_over(self):
        talk = self.greeting()
        talk.done()
        talk.caller_starts()
        talk.flushed({}, [mark("i1", 1000.0, started_s=98.0, finished_s=99.9)])
        talk.caller_stops()
        talk.created("own")
        talk.audio("own", "i2")
        assert asks(talk.done("own")) == []

    def test_a_first_word_that_crosses_it_takes_its_turn_and_the_greeting_follows(self):
        talk = asked(greeting_interruptible=True)
        talk.caller_starts()
        talk.flushed({})
        assert sent(talk.created("r1", "ask_1")) == [CANCEL]
        assert talk.audio() is None
        assert types(talk.cancelled(ask="ask_1")) == []
        talk.caller_stops()
        talk.created("own")
        talk.audio("own", "i2")
        assert asks(talk.done("own")) == [Ask("ask_2", "Hello.")]

    def test_nor_is_it_heard_when_its_audio_comes_before_its_beginning_is_told(self):
        talk = asked(greeting_interruptible=True)
        talk.caller_starts()
        talk.flushed({})
        assert talk.audio() is None
        assert sent(talk.of_audio) == [CANCEL, {"type": "conversation.item.delete", "item_id": "i1"}]
        assert sent(talk.created("r1", "ask_1")) == []
        assert asks(talk.cancelled()) == []
        talk.caller_stops()
        talk.created("own")
        talk.audio("own", "i2")
        assert asks(talk.done("own")) == [Ask("ask_2", "Hello.")]


class TestBargeInOff:
    """IVR_AI_BARGE_IN=0 protects everything that is said, all the time."""

    def test_the_service_has_no_say_in_turns_and_gets_none_back(self):
        talk = greeting(barge_in=False)
        assert talk.it.turns_wanted == OFF
        talk.done()
        assert turns_set(talk.heard()) == []
        assert turns_set(talk.later(5)) == []

    def test_every_turn_is_asked_about_once(self):
        talk = Talk(barge_in=False)
        for n in range(1, 4):
            assert len(asks([*talk.caller_starts(), *talk.caller_stops()])) == 1
            talk.created(f"r{n}", f"ask_{n}")
            talk.audio(f"r{n}", f"i{n}")
            assert asks(talk.done(f"r{n}")) == []
            talk.heard(f"i{n}")
            assert asks(talk.later(1)) == []

    def test_what_is_said_before_the_reply_has_begun_is_answered_too(self):
        talk = Talk(barge_in=False)
        assert len(asks(talk.turn().later(0))) == 0  # asked for as the turn ended
        talk.caller_starts()
        assert talk.it.floor is Floor.THINKING
        talk.created("r1", "ask_1")
        talk.audio()
        assert asks(talk.done()) == []
        assert asks(talk.caller_stops()) == [Ask("ask_2")]

    def test_a_service_that_answers_all_the_same_is_not_asked(self):
        """It says so: create_response and interrupt_response are as they were."""
        talk = Talk(barge_in=False).agreed()
        assert asks(talk.turn().later(0)) == []
        talk.created("own1")
        talk.audio("own1", "i1")
        talk.turn()
        assert asks(talk.cancelled("own1")) == []
        talk.created("own2")
        talk.audio("own2", "i2")
        assert asks(talk.done("own2")) == []

    def test_what_was_said_before_the_answer_to_a_request_began_is_answered_after_it(self):
        """The service says that it answers turns by itself, and does not when it is busy."""
        talk = Talk(barge_in=False)
        talk.created()
        talk.calls()
        talk.done()
        talk.returns()
        talk.agreed().turn()
        talk.created("r2", "ask_1")
        talk.audio("r2", "i2")
        assert asks(talk.done("r2")) == []
        assert asks(talk.later(1.0)) == [Ask("ask_2")]

    @pytest.mark.parametrize("named", [True, False])
    def test_a_refusal_before_it_is_told_whose_the_response_in_the_way_is_counts(self, named):
        talk = greeting(barge_in=False)
        talk.failed("r1", "invalid_value")
        talk.audio("own", "i2")
        more = {"event_id": "ask_2"} if named else {}
        talk.error("conversation_already_has_active_response", **more)
        talk.created("own")
        assert asks(talk.done("own")) == [Ask("ask_3", "Hello.")]

    @pytest.mark.parametrize("told", ["late", "at the end"])
    def test_a_response_that_is_met_before_it_is_told_whose_it_is_takes_no_ones_place(self, told):
        """It is the service's own, and the greeting that was asked for is refused because of it."""
        talk = greeting(barge_in=False)
        talk.failed("r1", "invalid_value")
        talk.audio("own", "i2")
        if told == "late":
            talk.created("own")
        talk.done("own")
        assert asks(talk.later(0)) == []  # ask_2 is still out
        talk.error("conversation_already_has_active_response", event_id="ask_2")
        assert asks(talk.later(1.0)) == [Ask("ask_3", "Hello.")]

    @pytest.mark.parametrize("ask", ["ask_1", ""], ids=["told whose", "untold"])
    def test_a_response_that_the_service_cancels_before_its_beginning_is_told_is_over(self, ask):
        talk = Talk(barge_in=False)
        talk.turn()
        talk.caller_starts()
        assert asks(talk.cancelled("r1", ask=ask)) == []
        assert asks(talk.caller_stops()) == [Ask("ask_2")]

    def test_a_service_that_does_not_answer_though_it_says_so_is_asked_after_a_second(self):
        """What was said into a reply: the service would not begin a second one, and lets the turn be."""
        talk = Talk(barge_in=False).agreed().speaking()
        talk.turn()
        assert asks(talk.done()) == []
        assert asks(talk.later(1.0)) == [Ask("ask_1")]

    def test_a_service_that_answers_though_it_says_it_does_not_owes_nothing_more(self):
        talk = Talk(barge_in=False)
        talk.caller_starts()
        assert asks(talk.caller_stops()) == [Ask("ask_1")]
        talk.created("own")  # crosses it
        talk.error("conversation_already_has_active_response", event_id="ask_1")
        talk.audio("own", "i1")
        assert asks(talk.done("own")) == []
        talk.heard()
        assert talk.it.is_quiet()


def test_a_stray_end_before_its_beginning_is_not_the_greetings():
    """The end of a response that nobody has told of comes, and then the greeting begins."""
    talk = Talk(greeting="Hello.")
    talk.it.start(talk.now_s)
    assert asks(talk.done("stray", "cancelled", status_details=TURN_DETECTED)) == []
    talk.created("r1", "ask_1")
    assert talk.audio("r1") == talk.it.generation
    talk.done("r1")
    assert asks(talk.later(5)) == []
    assert talk.it.totals.responses == 1


def test_a_greeting_that_ended_before_its_beginning_is_asked_for_again():
    talk = Talk(greeting="Hello.")
    talk.it.start(talk.now_s)
    talk.done("r1", "cancelled", status_details=TURN_DETECTED)
    assert asks(talk.later(0.9)) == []
    assert asks(talk.later(0.2)) == [Ask("ask_2", "Hello.")]
