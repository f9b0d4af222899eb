"""Items on their way to the caller's ear: generations, ends, what was heard, what the model is to forget."""

from __future__ import annotations

import pytest
from talk import mark

from ivr_ai.audio.stream import Flush, Mark
from ivr_ai.conversation.actions import Action, EndItem, Forget, Notify
from ivr_ai.conversation.history import History
from ivr_ai.conversation.playout import NOT_HEARD, RESPONSES_KEPT, Playout


@pytest.fixture
def playout() -> Playout:
    playout = Playout(History())
    playout.begin("r1", turn=1, speech_end_s=100.0)
    return playout


def say(playout: Playout, *items: str, response: str = "r1") -> list[Action]:
    """Audio of each item, in this order; what follows from it."""
    actions: list[Action] = []
    for item in items:
        generation, more = playout.audio(response, item)
        assert generation == playout.generation
        actions += more
    return actions


def flush(playout: Playout, played_ms: dict[str, float], *marks: Mark) -> tuple[list[Action], int | None]:
    return playout.flushed(Flush(playout.generation + 1, played_ms), list(marks))


def forgotten(actions: list[Action]) -> list[Forget]:
    return [action for action in actions if isinstance(action, Forget)]


class TestVoices:
    def test_a_response_belongs_to_the_generation_in_which_it_is_first_heard_of(self, playout):
        assert playout.is_current("r1")
        assert playout.is_current("nobody has heard of this one")
        flush(playout, {})
        assert not playout.is_current("r1")
        playout.begin("r2", 2, None)
        assert playout.is_current("r2")
        assert playout.begin("r1", 9, None).turn == 1  # begun once

    def test_one_that_nobody_is_to_hear_is_in_no_generation(self, playout):
        assert playout.begin("r2", 2, None, heard=False).generation == NOT_HEARD
        assert playout.audio("r2", "i2") == (None, [Forget("i2")])
        assert not playout.spoke("r2")

    def test_spoke_is_about_audio_that_was_to_be_heard(self, playout):
        assert not playout.spoke("r1")
        say(playout, "i1")
        assert playout.spoke("r1")
        assert not playout.spoke("unknown")

    def test_only_so_many_are_kept(self, playout):
        for n in range(2, RESPONSES_KEPT + 2):
            playout.begin(f"r{n}", n, None)
        assert not playout.is_known("r1")
        assert playout.is_known("r2")

    def test_what_was_heard_and_cut_of_one(self, playout):
        say(playout, "i1", "i2")
        assert (playout.was_heard("r1"), playout.was_cut("r1")) == (False, False)
        playout.mark(mark("i1", 20, started_s=100.5))
        assert (playout.was_heard("r1"), playout.was_cut("r1")) == (True, False)
        flush(playout, {"i1": 30, "i2": 0})
        assert (playout.was_heard("r1"), playout.was_cut("r1")) == (True, True)
        assert (playout.was_heard("unknown"), playout.was_cut("unknown")) == (False, False)


class TestEnds:
    def test_an_item_is_complete_when_the_next_of_its_response_begins(self, playout):
        assert say(playout, "i1", "i1", "i2", "i3") == [EndItem("i1"), EndItem("i2")]
        assert [item.ended for item in playout.items.values()] == [True, True, False]

    def test_or_when_its_end_is_told_first(self, playout):
        say(playout, "i1")
        assert playout.end("i1") == [EndItem("i1")]
        assert playout.end("i1") == []
        assert say(playout, "i2") == []

    def test_ends_told_together_after_the_last_have_nothing_left_to_end(self, playout):
        say(playout, "i1", "i2")
        assert [playout.end("i1"), playout.end("i2")] == [[], [EndItem("i2")]]

    def test_the_end_of_the_response_is_that_of_its_items(self, playout):
        playout.begin("r2", 2, None)
        say(playout, "i1", "i2")
        say(playout, "j1", response="r2")
        assert playout.end_response("r1") == [EndItem("i2")]
        assert playout.end_response("r1") == []
        assert playout.end_response("r2") == [EndItem("j1")]

    def test_an_item_of_another_response_ends_none(self, playout):
        playout.begin("r2", 2, None)
        say(playout, "i1")
        assert say(playout, "j1", response="r2") == []
        assert [item.item_id for item in playout.of_response("r1")] == ["i1"]

    def test_an_unknown_item_has_no_end(self, playout):
        assert playout.end("i9") == []


class TestMarks:
    def test_the_first_sample_is_told_with_the_latency_once(self, playout):
        say(playout, "i1", "i2")
        heard = Notify("heard", {"item": "i1", "turn": 1, "latency_ms": 700.0}, 100.7)
        assert playout.mark(mark("i1", 20, started_s=100.7)) == [heard]
        assert playout.mark(mark("i1", 40, started_s=100.7)) == []
        heard = Notify("heard", {"item": "i2", "turn": 1, "latency_ms": None}, 102.0)
        assert playout.mark(mark("i2", 20, started_s=102.0)) == [heard]
        assert playout.latencies_ms == [700.0]

    def test_a_response_that_has_said_nothing_leaves_its_turn_to_be_answered(self, playout):
        assert playout.unanswered("r1") == 100.0
        say(playout, "i1")
        playout.mark(mark("i1", 20, started_s=100.7))
        assert playout.unanswered("r1") is None
        assert playout.unanswered("unknown") is None

    def test_the_last_sample_is_told_and_the_item_is_over(self, playout):
        say(playout, "i1")
        where = mark("i1", 1000.0, started_s=100.7, finished_s=101.7)
        finished = Notify("item_finished", {"item": "i1", "turn": 1, "played_ms": 1000.0}, 101.7)
        assert playout.mark(where)[1:] == [finished]
        assert playout.items == {}
        assert playout.mark(where) == []

    def test_words_follow_when_they_are_known(self, playout):
        say(playout, "i1")
        playout.history.text("i1", "Hello there.")
        actions = playout.mark(mark("i1", 1000.0, started_s=100.7, finished_s=101.7))
        assert actions[-1] == Notify("ai_said", {"item": "i1", "turn": 1, "text": "Hello there."})

    def test_nothing_heard_is_nothing_told(self, playout):
        say(playout, "i1")
        assert playout.mark(mark("i1")) == []
        assert list(playout.items) == ["i1"]

    def test_an_unknown_item_and_one_that_somebody_else_has_flushed(self, playout):
        say(playout, "i1")
        assert playout.mark(mark("apology", 40, started_s=1.0)) == []
        playout.mark(mark("i1", 40, flushed=True))
        assert playout.items == {}


class TestFlushes:
    def test_each_item_is_cut_where_it_was_heard(self, playout):
        say(playout, "i1", "i2")
        actions, cut_ms = flush(playout, {"i1": 400.9, "i2": 0.0})
        assert forgotten(actions) == [Forget("i1", 400), Forget("i2", 0)]
        assert actions[-1] == Notify("barge_in", {"item": "i1", "turn": 1, "heard_ms": 400})
        assert cut_ms == 400
        assert playout.items == {}
        assert playout.generation == 2

    def test_the_one_that_was_playing_is_told_as_interrupted(self, playout):
        say(playout, "i1", "i2", "i3")
        finished = mark("i1", 1000.0, started_s=98.0, finished_s=99.0)
        actions, cut_ms = flush(playout, {"i2": 300.0, "i3": 0.0}, finished)
        assert forgotten(actions) == [Forget("i2", 300), Forget("i3", 0)]
        assert actions[-1].data["item"] == "i2"
        assert cut_ms == 300

    def test_nothing_to_cut_is_no_interruption(self, playout):
        assert flush(playout, {}) == ([], None)
        say_r2 = playout.begin("r2", 1, None)
        say(playout, "j1", response="r2")
        assert say_r2.spoke
        finished = mark("j1", 1000.0, started_s=98.0, finished_s=99.0)
        actions, cut_ms = flush(playout, {}, finished)
        assert [action.kind for action in actions] == ["heard", "item_finished"]
        assert cut_ms is None

    def test_what_is_not_the_models_is_left_alone(self, playout):
        say(playout, "i1")
        actions, cut_ms = flush(playout, {"apology": 700.0, "i1": 50.0})
        assert forgotten(actions) == [Forget("i1", 50)]
        assert cut_ms == 50

    def test_what_has_not_got_into_the_stream_is_forgotten_and_no_interruption(self, playout):
        say(playout, "i1")
        assert flush(playout, {}) == ([Forget("i1")], None)

    @pytest.mark.parametrize(
        ("heard_ms", "written_ms", "words"),
        [
            (500.0, 1000.0, "One two"),
            (999.0, 1000.0, "One two three"),
            (2000.0, 1000.0, None),
            (1.0, 0.0, ""),
        ],
    )
    def test_words_are_heard_by_share(self, playout, heard_ms, written_ms, words):
        say(playout, "i1")
        playout.history.text("i1", "One two three four.")
        actions, _ = flush(playout, {"i1": heard_ms}, mark("i1", heard_ms, written_ms=written_ms))
        said = next(a.data for a in actions if isinstance(a, Notify) and a.kind == "ai_said")
        whole = "One two three four."
        assert said["text"] == (whole if words is None else words)

    def test_what_nothing_was_heard_of_is_not_in_the_history(self, playout):
        say(playout, "i1")
        playout.history.text("i1", "One two.")
        flush(playout, {"i1": 0.0})
        assert playout.history.entries() == []

    def test_later_audio_is_dropped_and_what_it_brings_is_deleted_once(self, playout):
        say(playout, "i1")
        flush(playout, {"i1": 300.0})
        assert playout.audio("r1", "i1") == (None, [])
        assert playout.audio("r1", "i2") == (None, [Forget("i2")])
        assert playout.audio("r1", "i2") == (None, [])


class TestItemsWithoutAudio:
    def test_are_deleted_at_a_flush_once(self, playout):
        assert playout.added("r1", "i1") == []
        assert playout.added("r1", "i1") == []
        assert flush(playout, {}) == ([Forget("i1")], None)
        assert flush(playout, {}) == ([], None)
        assert playout.added("r1", "i1") == []

    def test_are_deleted_at_once_where_nobody_is_to_hear_them(self, playout):
        flush(playout, {})
        assert playout.added("r1", "i1") == [Forget("i1")]
        assert playout.added("r1", "i1") == []

    def test_are_not_heard_once_the_model_has_forgotten_them(self, playout):
        playout.added("r2", "j1")
        flush(playout, {})
        playout.begin("r2", 2, None)  # told late
        assert playout.audio("r2", "j1") == (None, [])
        assert playout.items == {}

    def test_stay_where_their_response_has_ended(self, playout):
        """What has no audio is text: nothing of that was cut short."""
        playout.added("r1", "i1")
        playout.end_response("r1")
        assert flush(playout, {}) == ([], None)

    def test_are_like_any_other_once_their_audio_comes(self, playout):
        playout.added("r1", "i1")
        say(playout, "i1")
        assert forgotten(flush(playout, {"i1": 200.0})[0]) == [Forget("i1", 200)]

    def test_told_again_after_they_were_heard_they_stay(self, playout):
        say(playout, "i1")
        playout.end("i1")
        playout.mark(mark("i1", 1000.0, started_s=100.7, finished_s=101.7))
        playout.added("r1", "i1")
        assert flush(playout, {}) == ([], None)


class TestLinks:
    def test_an_item_can_only_be_forgotten_where_it_was_made(self, playout):
        say(playout, "i1")
        playout.link += 1
        playout.begin("r2", 2, None)
        say(playout, "j1", response="r2")
        actions, cut_ms = flush(playout, {"i1": 300.0, "j1": 0.0})
        assert forgotten(actions) == [Forget("j1", 0)]
        assert cut_ms == 300

    def test_its_words_are_told_all_the_same(self, playout):
        say(playout, "i1")
        playout.history.text("i1", "One two three four.")
        playout.link += 1
        actions, _ = flush(playout, {"i1": 500.0}, mark("i1", 500.0))
        assert Notify("ai_said", {"item": "i1", "turn": 1, "text": "One two", "cut": True}) in actions

    def test_what_a_lost_one_had_told_of_does_not_come(self, playout):
        playout.added("r1", "i1")
        playout.link_lost()
        assert flush(playout, {}) == ([], None)
