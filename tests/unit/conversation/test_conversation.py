"""The conversation, driven by hand: who has the floor, interruptions, late audio, items."""

from __future__ import annotations

import pytest
from talk import Talk, failures, flushes, mark, notices, sent, types

from ivr_ai.conversation.actions import EndItem, Flush, Forget, Notify, Output
from ivr_ai.conversation.conversation import NOT_RUN
from ivr_ai.conversation.floor import Floor

LISTENING, HEARING, THINKING, SPEAKING = Floor
LOCAL = [{"turn_detection": "none"}, {"input_mode": "item"}]  # we, not the server, say when a turn is over


class TestBargeIn:
    def test_the_reply_is_flushed_and_the_server_cancels_it_by_itself(self, talk):
        talk.speaking()
        actions = talk.caller_starts()
        assert flushes(actions) == 1
        assert sent(actions) == []
        assert notices(actions) == [("speech_started", {"turn": 2})]
        assert talk.it.floor is HEARING

    def test_while_thinking_too(self, talk):
        talk.turn()
        talk.created()
        actions = talk.caller_starts()
        assert flushes(actions) == 1
        assert sent(actions) == []
        assert talk.flushed({}) == []
        assert talk.it.totals.barge_ins == 0

    @pytest.mark.parametrize("local", LOCAL, ids=str)
    @pytest.mark.parametrize("spoken", [False, True], ids=["thinking", "speaking"])
    def test_where_the_server_does_not_cancel_we_do_once(self, local, spoken):
        talk = Talk(**local).turn()
        talk.created()
        if spoken:
            talk.audio()
        actions = talk.caller_starts()
        assert isinstance(actions[0], Flush)
        assert sent(actions) == []  # the cancel follows from the flush, so that nothing is cut before it
        cancel = {"type": "response.cancel", "response_id": "r1"}
        actions = talk.flushed({"i1": 20} if spoken else {})
        assert sent(actions)[0] == cancel
        assert types(actions)[1:] == (["conversation.item.truncate"] if spoken else [])
        talk.caller_stops()
        again = talk.caller_starts()
        assert types(again) == []
        assert types(talk.done(status="cancelled")) == []

    @pytest.mark.parametrize("local", LOCAL, ids=str)
    def test_what_is_done_on_the_server_needs_no_cancel(self, local):
        talk = Talk(**local).speaking()
        talk.done()
        actions = talk.caller_starts()
        assert flushes(actions) == 1
        assert sent(actions) == []

    @pytest.mark.parametrize("heard_ms", [1, 1234.0, 1234.999, 0.999, 0])
    def test_the_model_is_told_what_was_heard_in_whole_milliseconds(self, talk, heard_ms):
        talk.speaking()
        talk.caller_starts()
        actions = talk.flushed({"i1": heard_ms})
        if heard_ms < 1:
            assert sent(actions) == [{"type": "conversation.item.delete", "item_id": "i1"}]
        else:
            assert sent(actions) == [
                {
                    "type": "conversation.item.truncate",
                    "item_id": "i1",
                    "content_index": 0,
                    "audio_end_ms": int(heard_ms),
                }
            ]
        assert ("barge_in", {"item": "i1", "turn": 1, "heard_ms": int(heard_ms)}) in notices(actions)
        assert talk.it.totals.barge_ins == 1
        assert talk.it.unheard_items() == []

    def test_an_item_is_forgotten_once(self, talk):
        talk.speaking()
        talk.caller_starts()
        talk.flushed({"i1": 300})
        talk.caller_stops()
        talk.caller_starts()
        assert talk.flushed({"i1": 300}) == []

    def test_a_false_start_with_nothing_queued_costs_nothing(self, talk):
        actions = talk.caller_starts()
        assert (flushes(actions), sent(actions)) == (0, [])
        talk.caller_stops()
        assert sent(talk.flushed({})) == []

    def test_a_reply_heard_to_its_end_is_not_truncated(self, talk):
        """The end was heard, and nobody has looked yet."""
        talk.speaking()
        talk.done()
        assert flushes(talk.caller_starts()) == 1
        was_heard = mark("i1", 1000.0, started_s=98.0, finished_s=99.0)
        actions = talk.flushed({}, [was_heard])
        assert sent(actions) == []
        assert ("item_finished", {"item": "i1", "turn": 1, "played_ms": 1000.0}) in notices(actions)
        assert talk.it.totals.barge_ins == 0

    def test_audio_heard_in_the_very_last_moment_counts_for_the_latency(self, talk):
        talk.turn()
        talk.created()
        talk.audio()
        talk.caller_starts()
        cut = mark("i1", 20, started_s=talk.now_s, ended=True, flushed=True)
        actions = talk.flushed({"i1": 20}, [cut])
        assert notices(actions)[0][0] == "heard"
        assert talk.it.totals.turn_latencies_ms == [300.0]
        assert types(actions) == ["conversation.item.truncate"]

    def test_several_items_are_each_told_for_themselves(self, talk):
        talk.speaking("r1", "i1")
        talk.audio_done("r1", "i1")
        talk.audio("r1", "i2")
        talk.caller_starts()
        actions = talk.flushed({"i1": 700.5, "i2": 0})
        assert types(actions) == ["conversation.item.truncate", "conversation.item.delete"]
        assert talk.it.totals.barge_ins == 1

    def test_what_is_not_ours_is_left_alone(self, talk):
        talk.speaking()
        talk.caller_starts()
        assert types(talk.flushed({"apology": 100.0, "i1": 50.0})) == ["conversation.item.truncate"]

    def test_without_barge_in_the_reply_goes_on(self):
        talk = Talk(barge_in=False).speaking()
        assert talk.caller_starts() == [Notify("speech_started", {"turn": 2})]
        assert talk.it.floor is SPEAKING
        assert notices(talk.caller_stops()) == [("speech_stopped", {"turn": 2})]
        assert talk.audio() == 1
        assert talk.it.totals.turns == 2
        assert types(talk.done()) == ["response.create"]

    def test_without_barge_in_the_next_turn_counts_once_the_reply_was_heard(self):
        talk = Talk(barge_in=False).speaking()
        talk.caller_starts()
        talk.done()
        talk.heard()
        assert notices(talk.caller_stops()) == [("speech_stopped", {"turn": 2})]
        assert talk.it.floor is THINKING


class TestLateAudio:
    def interrupted(self, talk: Talk) -> None:
        talk.speaking()
        talk.caller_starts()
        talk.flushed({"i1": 100})

    def test_of_the_interrupted_response_is_dropped(self, talk):
        self.interrupted(talk)
        assert talk.audio("r1", "i1") is None
        assert talk.audio("r1", "i2") is None
        assert talk.it.floor is HEARING
        talk.caller_stops()
        assert talk.audio("r1", "i1") is None
        assert talk.it.floor is THINKING
        assert talk.done("r1", "cancelled") == []
        assert talk.audio("r1", "i1") is None

    def test_its_end_ends_no_item(self, talk):
        self.interrupted(talk)
        talk.caller_stops()
        talk.created("r2")
        talk.audio("r2", "i1")  # even where the server uses an id again
        assert talk.audio_done("r1", "other") == []
        assert [action for action in talk.done("r1", "cancelled") if isinstance(action, EndItem)] == []

    def test_a_new_response_plays(self, talk):
        self.interrupted(talk)
        talk.done("r1", "cancelled")
        talk.caller_stops()
        talk.created("r2")
        assert talk.audio("r2", "i3") == 2 == talk.it.generation
        assert talk.it.floor is SPEAKING

    def test_audio_that_comes_before_its_response_is_said_to_begin(self, talk):
        talk.turn()
        assert talk.audio("r1", "i1") == 1
        talk.created("r1")
        assert talk.it.floor is SPEAKING

    @pytest.mark.parametrize("settings", [{}, *LOCAL], ids=str)
    def test_a_response_that_the_caller_spoke_before_is_cancelled_and_not_heard(self, settings):
        talk = Talk(**settings)
        talk.caller_starts()
        talk.turn_ends()
        talk.caller_starts()
        talk.flushed({})
        actions = talk.created("r1")
        assert sent(actions) == [{"type": "response.cancel", "response_id": "r1"}]
        assert talk.audio("r1", "i1") is None
        assert talk.of_audio == [Forget("i1")]
        assert talk.it.floor is HEARING
        assert talk.done("r1", "cancelled") == []
        talk.turn_ends()
        assert talk.it.floor is THINKING
        assert sent(talk.created("r2")) == []
        assert talk.audio("r2", "i2") == 2

    def test_a_response_that_begins_when_the_caller_has_spoken_again_is_theirs(self, talk):
        """The server gave up the first by itself, and never said that it had begun."""
        talk.turn()
        talk.caller_starts()
        talk.flushed({})
        talk.caller_stops()
        assert sent(talk.created("r2")) == []
        assert talk.audio("r2", "i2") == 2

    @pytest.mark.parametrize("settings", [{}, *LOCAL], ids=str)
    def test_nor_is_it_heard_when_its_audio_comes_before_its_beginning_is_told(self, settings):
        talk = Talk(**settings)
        talk.caller_starts()
        talk.turn_ends()
        talk.caller_starts()
        talk.flushed({})
        assert talk.audio("r1", "i1") is None
        assert types(talk.of_audio) == ["response.cancel", "conversation.item.delete"]
        assert types(talk.created("r1")) == []
        assert types(talk.cancelled("r1")) == []
        talk.turn_ends()
        assert sent(talk.created("r2")) == []
        assert talk.audio("r2", "i2") == 2

    def test_a_beginning_that_is_told_after_the_audio_still_says_whose_it_is(self):
        """The service gives back what an Ask carried, and then tells a beginning late."""
        talk = Talk(barge_in=False).turn()
        talk.created("r1", "ask_1")
        talk.audio("r1", "i1")
        talk.done("r1")
        talk.heard("i1")
        talk.turn()
        talk.audio("r2", "i2")
        talk.created("r2", "ask_2")
        assert sent(talk.done("r2")) == []
        talk.heard("i2")
        assert talk.it.is_quiet()

    @pytest.mark.parametrize("told", ["after the audio", "at the end"])
    def test_whose_a_response_is_may_be_told_late_the_first_time_too(self, told):
        """From then on a response without what an Ask carried is known to be the service's own."""
        talk = Talk(barge_in=False).turn()
        talk.audio("r1", "i1")
        talk.created("r1", "ask_1" if told == "after the audio" else "")
        talk.done("r1", metadata={"ivr_ai_ask": "ask_1"} if told == "at the end" else None)
        talk.heard("i1")
        talk.turn()
        talk.created("own")
        assert sent(talk.done("own")) == []  # it has brought nothing, and ask_2 is still out
        talk.created("r2", "ask_2")
        talk.audio("r2", "i3")
        assert sent(talk.done("r2")) == []

    def test_a_service_that_tells_neither_beginnings_nor_ends_is_heard(self, talk):
        talk.turn()
        assert talk.audio("r1", "i1") == 1
        talk.audio_done("r1", "i1")
        talk.heard("i1")
        talk.turn_cuts({})
        assert talk.audio("r2", "i2") == 2
        assert talk.later(20) == [EndItem("i2")]
        talk.heard("i2")
        assert talk.it.is_quiet()

    def test_its_function_calls_are_not_run(self, talk):
        self.interrupted(talk)
        call = {"response_id": "r1", "call_id": "c1", "name": "f", "arguments": "{}"}
        assert talk.event("response.function_call_arguments.done", **call) == [Output("c1", NOT_RUN)]

    def test_a_response_done_that_never_began_changes_nothing(self, talk):
        talk.turn()
        assert talk.done("ghost", "cancelled") == []
        assert talk.it.floor is THINKING
        talk.created("r1")
        assert talk.done("ghost2", "completed") == []
        assert talk.it.floor is THINKING
        talk.now_s += 20
        assert failures(talk.it.tick(talk.now_s))

    def test_the_late_end_of_an_interrupted_response_does_not_end_the_wait_for_the_next(self, talk):
        self.interrupted(talk)
        talk.caller_stops()
        assert talk.done("r1", "cancelled") == []
        assert talk.it.floor is THINKING
        talk.now_s += 20
        assert failures(talk.it.tick(talk.now_s))

    def test_a_response_said_to_begin_after_its_end_is_over(self, talk):
        talk.turn()
        assert types(talk.done("r1")) == ["response.create"]  # it had brought nothing
        assert talk.created("r1") == []
        assert talk.it.floor is THINKING
        assert types(talk.created("r2")) == []

    def test_a_response_that_begins_before_the_end_of_the_last_is_told_ends_it(self, talk):
        talk.speaking("r1", "i1")
        assert talk.created("r2") == [EndItem("i1"), Notify("response_started", {"response": "r2"})]
        assert talk.done("r1") == []
        talk.audio("r2", "i2")
        assert talk.done("r2") == [EndItem("i2")]

    def test_what_was_waited_for_is_waited_for_from_the_next(self, talk):
        talk.turn()
        talk.created("r1")
        talk.created("r2")
        assert types(talk.done("r2")) == ["response.create"]

    def test_the_functions_of_a_response_that_another_has_ended_are_answered(self, talk):
        talk.turn()
        talk.created("r1")
        talk.calls("c1", "r1")
        talk.returns("c1")
        talk.created("r2")
        talk.audio("r2", "i2")
        assert types(talk.done("r2")) == ["response.create"]

    def test_an_end_said_twice_counts_once(self, talk):
        talk.turn()
        talk.created()
        talk.done(usage={"total_tokens": 7})
        assert talk.done(usage={"total_tokens": 7}) == []
        assert talk.it.totals.tokens == 7

    def test_only_so_many_responses_are_remembered(self, talk):
        for n in range(200):
            talk.audio(f"r{n}", f"i{n}")
            talk.done(f"r{n}")
            talk.heard(f"i{n}")
        assert not talk.it.playout.is_known("r167")
        assert talk.it.playout.is_known("r168")
        assert talk.it.unheard_items() == []


class TestItems:
    def test_every_item_of_a_response_is_played_and_ended_once(self, talk):
        talk.turn()
        talk.created()
        for item, ended in (("i1", []), ("i1", []), ("i2", ["i1"]), ("i2", []), ("i3", ["i2"])):
            assert talk.audio("r1", item) == 1
            assert talk.of_audio == [EndItem(name) for name in ended]
        assert talk.audio_done("r1", "i2") == []
        assert talk.audio_done("r1", "i3") == [EndItem("i3")]
        assert talk.audio_done("r1", "i3") == []
        assert talk.audio_done("r1", "never spoken") == []
        assert talk.done() == []
        assert talk.it.unheard_items() == ["i1", "i2", "i3"]

    def test_the_floor_is_free_when_the_last_has_been_heard(self, talk):
        talk.speaking("r1", "i1")
        talk.audio("r1", "i2")
        talk.done()
        talk.heard("i1")
        assert talk.it.floor is SPEAKING
        talk.heard("i2")
        assert talk.it.floor is LISTENING

    def test_what_observers_are_told(self, talk):
        talk.speaking()
        actions = talk.it.mark(mark("i1", 20, started_s=100.5), 101)
        assert actions == [Notify("heard", {"item": "i1", "turn": 1, "latency_ms": 800.0}, 100.5)]
        assert talk.it.mark(mark("i1", 40, started_s=100.5), 101) == []
        actions = talk.it.mark(mark("i1", 1000, started_s=100.5, finished_s=101.5), 102)
        assert actions == [Notify("item_finished", {"item": "i1", "turn": 1, "played_ms": 1000}, 101.5)]
        assert talk.it.mark(mark("i1", 1000, started_s=100.5, finished_s=101.5), 102) == []

    def test_latency_is_counted_from_the_last_word_once_a_turn(self, talk):
        talk.caller_starts()
        talk.adapter.on_event({"type": "input_audio_buffer.speech_stopped"}, 100.0, last_speech_s=99.5)
        talk.created()
        talk.audio("r1", "i1")
        talk.audio("r1", "i2")
        talk.it.mark(mark("i1", 20, started_s=100.1), 101)
        actions = talk.it.mark(mark("i2", 20, started_s=103.1), 104)
        assert talk.it.totals.turn_latencies_ms == [600.0]
        assert notices(actions) == [("heard", {"item": "i2", "turn": 1, "latency_ms": None})]

    def test_a_greeting_answers_no_turn(self, talk):
        talk.created()
        talk.audio()
        actions = talk.it.mark(mark("i1", 20, started_s=100.1), 101)
        assert notices(actions) == [("heard", {"item": "i1", "turn": 0, "latency_ms": None})]

    def test_an_item_flushed_by_somebody_else_is_over(self, talk):
        talk.speaking()
        talk.done()
        assert talk.it.mark(mark("i1", 40, started_s=None, flushed=True), 101) == []
        assert talk.it.floor is LISTENING

    def test_an_unknown_item(self, talk):
        assert talk.it.mark(mark("apology", 40), 101) == []
