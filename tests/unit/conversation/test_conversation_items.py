"""Responses of several spoken items, their ends in both orders; interruptions in each of them; hold."""

from __future__ import annotations

import pytest
from talk import Talk, asks, flushes, mark, notices, sent, types

from ivr_ai.conversation.actions import Cancel, EndItem, Forget, Notify
from ivr_ai.conversation.floor import Floor

BATCHED, IN_TURN = "ends together", "ends in turn"
ENDS = pytest.mark.parametrize("ends", [BATCHED, IN_TURN])
LOCAL = [{"turn_detection": "none"}, {"input_mode": "item"}]


def spoken(ends: str, **settings) -> Talk:
    """A response of two items, i1 and i2, that has said all it will."""
    talk = Talk(**settings)
    talk.caller_starts()
    talk.turn_ends()
    talk.created()
    talk.added("r1", "i1")
    talk.audio("r1", "i1")
    if ends == IN_TURN:
        assert talk.audio_done("r1", "i1") == [EndItem("i1")]
    talk.added("r1", "i2")
    talk.audio("r1", "i2")
    assert talk.of_audio == ([] if ends == IN_TURN else [EndItem("i1")])
    if ends == BATCHED:
        assert talk.audio_done("r1", "i1") == []
    assert talk.audio_done("r1", "i2") == [EndItem("i2")]
    return talk


class TestTwoItems:
    def test_an_item_is_a_sign_of_a_response_whose_beginning_is_told_late(self, talk):
        talk.turn()
        assert talk.added("r1", "i1") == [Notify("response_started", {"response": "r1"})]
        assert talk.created("r1") == []
        talk.caller_starts()
        assert talk.flushed({}) == [Forget("i1")]
        assert talk.audio("r1", "i1") is None

    @ENDS
    def test_are_heard_one_after_the_other(self, ends):
        talk = spoken(ends)
        talk.done()
        kinds = [kind for kind, _ in notices(talk.heard("i1"))]
        assert kinds == ["heard", "item_finished"]
        assert talk.it.floor is Floor.SPEAKING
        talk.heard("i2")
        assert talk.it.is_quiet()

    @ENDS
    def test_the_latency_is_that_of_the_first(self, ends):
        talk = spoken(ends)
        talk.heard("i1", started_s=100.2, finished_s=101.0)
        actions = talk.heard("i2", started_s=101.0, finished_s=102.0)
        assert talk.it.totals.turn_latencies_ms == [500.0]
        assert notices(actions)[0] == ("heard", {"item": "i2", "turn": 1, "latency_ms": None})

    @ENDS
    def test_cut_in_the_first(self, ends):
        talk = spoken(ends)
        assert flushes(talk.caller_starts()) == 1
        actions = talk.flushed({"i1": 400.0, "i2": 0.0}, [mark("i1", 400.0, started_s=99.0), mark("i2")])
        assert [action for action in actions if isinstance(action, Forget)] == [
            Forget("i1", 400),
            Forget("i2", 0),
        ]
        assert ("barge_in", {"item": "i1", "turn": 1, "heard_ms": 400}) in notices(actions)
        assert talk.it.totals.barge_ins == 1

    @ENDS
    def test_cut_in_the_second(self, ends):
        talk = spoken(ends)
        talk.heard("i1")
        talk.caller_starts()
        actions = talk.flushed({"i2": 300.0}, [mark("i2", 300.0, started_s=99.0)])
        assert [action for action in actions if isinstance(action, Forget)] == [Forget("i2", 300)]
        assert ("barge_in", {"item": "i2", "turn": 1, "heard_ms": 300}) in notices(actions)

    @ENDS
    def test_cut_in_the_pause_between_them(self, ends):
        """The first is complete and stays whole in the model's memory; the second goes."""
        talk = spoken(ends)
        talk.caller_starts()
        finished = mark("i1", 1000.0, started_s=98.0, finished_s=99.0)
        actions = talk.flushed({"i2": 0.0}, [finished, mark("i2")])
        assert [action for action in actions if isinstance(action, Forget)] == [Forget("i2", 0)]
        assert ("barge_in", {"item": "i2", "turn": 1, "heard_ms": 0}) in notices(actions)

    @ENDS
    def test_cut_before_either_was_heard(self, ends):
        talk = spoken(ends)
        talk.caller_starts()
        actions = talk.flushed({"i1": 0.0, "i2": 0.0}, [mark("i1"), mark("i2")])
        assert types(actions) == ["conversation.item.delete"] * 2
        assert ("barge_in", {"item": "i1", "turn": 1, "heard_ms": 0}) in notices(actions)

    def test_the_second_told_and_not_heard_of_yet_is_deleted_once(self, talk):
        talk.speaking()
        talk.added("r1", "i2")
        talk.caller_starts()
        assert types(talk.flushed({"i1": 300})) == ["conversation.item.truncate", "conversation.item.delete"]
        assert talk.audio("r1", "i2") is None
        assert sent(talk.of_audio) == []
        assert sent(talk.added("r1", "i2")) == []

    def test_the_second_told_or_coming_after_the_flush_is_deleted(self, talk):
        talk.speaking()
        talk.caller_starts()
        talk.flushed({"i1": 300})
        assert talk.added("r1", "i2") == [Forget("i2")]
        assert talk.audio("r1", "i3") is None
        assert talk.of_audio == [Forget("i3")]

    @pytest.mark.parametrize("late", ["in the response", "after it"])
    def test_one_that_is_told_of_when_it_has_been_heard_stays_in_the_models_memory(self, talk, late):
        talk.speaking()
        talk.audio_done()
        if late == "after it":
            talk.done()
        talk.heard()
        assert talk.added("r1", "i1") == []
        talk.caller_starts()
        assert sent(talk.flushed({})) == []

    def test_one_that_is_told_of_when_its_response_is_over_is_nothing(self, talk):
        talk.speaking()
        talk.done()
        assert talk.added("r1", "i2") == []
        talk.caller_starts()
        assert types(talk.flushed({"i1": 300})) == ["conversation.item.truncate"]

    @pytest.mark.parametrize("local", LOCAL, ids=str)
    @ENDS
    def test_where_the_call_detects_turns_the_cancel_comes_first(self, local, ends):
        talk = spoken(ends, **local)
        talk.caller_starts()
        actions = talk.flushed({"i1": 400.0, "i2": 0.0}, [mark("i1", 400.0, started_s=99.0), mark("i2")])
        assert types(actions) == ["response.cancel", "conversation.item.truncate", "conversation.item.delete"]
        assert talk.added("r1", "i3") == [Forget("i3")]

    def test_a_third_may_follow_after_a_function_call(self, talk):
        talk.speaking()
        talk.calls()
        talk.audio("r1", "i2")
        talk.audio("r1", "i3")
        assert talk.of_audio == [EndItem("i2")]
        talk.returns()
        assert talk.done()[0] == EndItem("i3")


class TestFlushes:
    def test_what_was_let_through_and_is_not_in_the_stream_yet_is_forgotten(self, talk):
        """Between the decision about its audio and its way into the stream the caller has begun to speak."""
        talk.speaking()
        talk.caller_starts()
        actions = talk.flushed({})
        assert actions == [Forget("i1")]
        assert talk.it.totals.barge_ins == 0  # nothing was queued to be cut short
        assert talk.it.unheard_items() == []

    def test_what_somebody_else_has_flushed_is_cut_where_it_stood(self, talk):
        talk.speaking()
        talk.caller_starts()
        flushed = mark("i1", 250.0, started_s=99.0, ended=True, flushed=True)
        assert [action for action in talk.flushed({}, [flushed]) if isinstance(action, Forget)] == [
            Forget("i1", 250)
        ]


class TestHold:
    def held(self, talk: Talk, seconds: float) -> list:
        assert notices(talk.it.host_event("hold", {}, talk.now_s)) == [("hold", {})]
        talk.now_s += seconds
        return talk.it.host_event("unhold", {}, talk.now_s)

    def test_a_short_one_keeps_what_was_being_said(self):
        talk = Talk(hold_keep_s=10).speaking()
        assert self.held(talk, 10) == [Notify("unhold", {})]
        assert talk.it.floor is Floor.SPEAKING

    def test_a_long_one_drops_it_and_the_floor_is_free(self):
        talk = Talk(hold_keep_s=10).speaking()
        talk.done()
        assert flushes(self.held(talk, 10.1)) == 1
        assert talk.flushed({"i1": 300})[0] == Forget("i1", 300)
        assert talk.it.is_quiet()

    def test_what_is_under_way_is_cancelled_though_the_service_interrupts_by_itself(self):
        """Nobody has spoken: the service does not know."""
        talk = Talk(hold_keep_s=10).speaking()
        self.held(talk, 11)
        assert talk.flushed({"i1": 300})[0] == Cancel("r1")
        assert talk.audio("r1", "i1") is None
        assert asks(talk.cancelled("r1", "client_cancelled")) == []
        assert talk.it.is_quiet()

    def test_nothing_is_dropped_where_nothing_was_said(self):
        talk = Talk(hold_keep_s=10)
        assert self.held(talk, 60) == [Notify("unhold", {})]

    def test_an_unhold_without_a_hold_drops_nothing(self):
        talk = Talk(hold_keep_s=0).speaking()
        assert talk.it.host_event("unhold", {}, talk.now_s + 100) == [Notify("unhold", {})]

    def test_which_key_was_pressed_is_told_to_nobody(self, talk):
        told = talk.it.host_event("dtmf", {"digit": "4", "ms": 120}, talk.now_s)
        assert told == [Notify("dtmf", {"ms": 120})]
