"""What was said by both sides, as heard: words by share, late texts, turns, calls, and its bounds."""

from __future__ import annotations

import pytest

from ivr_ai.conversation.actions import Notify
from ivr_ai.conversation.history import ENTRIES_KEPT, TEXT_MAX_CHARACTERS, Entry, History

WORDS = "One two three four five."


@pytest.fixture
def history() -> History:
    return History()


def said(text: str, turn: int = 1, item: str = "i1", cut: bool = False) -> list[Notify]:
    return [Notify("ai_said", {"item": item, "turn": turn, "text": text, **({"cut": True} if cut else {})})]


def lines(history: History) -> list[tuple[str, str]]:
    """Who said what, for the entries that count."""
    return [(entry.role, entry.heard_text) for entry in history.entries()]


class TestEntry:
    @pytest.mark.parametrize(
        ("share", "heard"),
        [
            (0.0, ""),
            (0.19, ""),
            (0.2, "One"),
            (0.5, "One two"),
            (0.79, "One two three"),
            (0.999, "One two three four"),
            (1.0, WORDS),
            (None, ""),
        ],
    )
    def test_as_many_words_were_heard_as_the_share_says(self, share, heard):
        assert Entry("assistant", f" {WORDS}\n", share=share).heard_text == heard

    def test_without_words_nothing_was_heard(self):
        assert Entry("assistant", None).heard_text == ""


class TestTheModel:
    def test_an_item_heard_to_its_end_is_told_with_its_words(self, history):
        history.spoken("i1")
        assert history.text("i1", WORDS) == []
        assert history.heard("i1", 1.0, turn=1) == said(WORDS)

    def test_words_that_come_late_are_told_then(self, history):
        history.spoken("i1")
        assert history.heard("i1", 1.0, turn=1) == []
        assert history.text("i1", WORDS) == said(WORDS)

    def test_of_a_cut_item_the_words_heard_are_told(self, history):
        history.spoken("i1")
        history.text("i1", WORDS)
        assert history.heard("i1", 0.4, turn=3) == said("One two", turn=3, cut=True)

    def test_words_of_a_cut_item_may_come_late_too(self, history):
        history.spoken("i1")
        history.heard("i1", 0.4, turn=1)
        assert history.text("i1", WORDS) == said("One two", cut=True)

    def test_an_item_is_told_once(self, history):
        history.spoken("i1")
        history.text("i1", WORDS)
        assert history.heard("i1", 1.0, turn=1) != []
        assert history.heard("i1", 1.0, turn=1) == []
        assert history.text("i1", WORDS) == []
        assert lines(history) == [("assistant", WORDS)]

    def test_what_was_never_heard_is_left_out(self, history):
        history.spoken("i1")
        history.text("i1", WORDS)
        history.unheard("i1")
        history.unheard("i1")
        assert history.entries() == []
        assert history.text("i1", WORDS) == []

    def test_words_of_an_item_without_audio_are_nobodys(self, history):
        assert history.text("i9", WORDS) == []
        assert history.heard("i9", 1.0, turn=1) == []
        assert history.entries() == []

    def test_what_still_plays_counts_as_heard(self, history):
        history.spoken("i1")
        history.text("i1", WORDS)
        assert lines(history) == [("assistant", WORDS)]
        assert history.heard("i1", 0.4, turn=1) == said("One two", cut=True)  # and may be cut yet
        assert lines(history) == [("assistant", "One two")]


class TestTheCaller:
    def test_a_turn_stands_where_it_began_though_its_words_come_later(self, history):
        history.turn("u1", 1)
        history.spoken("i1")
        history.text("i1", WORDS)
        assert history.caller_text("u1", "Hello?", turn=2) == 1
        assert lines(history) == [("user", "Hello?"), ("assistant", WORDS)]

    def test_words_of_a_turn_that_nobody_has_told_of_stand_at_the_end(self, history):
        history.turn("u1", 1)
        assert history.caller_text("u2", "Yes.", turn=2) == 2
        assert lines(history) == [("user", "Yes.")]

    def test_words_without_an_item_are_kept_each_for_itself(self, history):
        history.caller_text("", "One.", turn=1)
        history.caller_text("", "Two.", turn=2)
        assert lines(history) == [("user", "One."), ("user", "Two.")]

    def test_a_turn_without_words_is_left_out(self, history):
        history.turn("u1", 1)
        history.turn("u1", 1)
        history.turn("", 2)
        assert history.entries() == []

    def test_words_may_be_told_better(self, history):
        history.turn("u1", 1)
        history.caller_text("u1", "A table for tea.", turn=1)
        history.caller_text("u1", "A table for two.", turn=1)
        assert lines(history) == [("user", "A table for two.")]


class TestFunctions:
    def test_a_call_counts_with_its_output(self, history):
        history.called("c1", "look_up", "{}")
        assert history.entries() == []
        history.returned("c1", '"found"')
        call, output = history.entries()
        assert (call.role, call.call_id, call.name, call.text) == ("call", "c1", "look_up", "{}")
        assert (output.role, output.call_id, output.text) == ("output", "c1", '"found"')

    def test_an_empty_output_counts_too(self, history):
        history.called("c1", "look_up", "")
        history.returned("c1", "")
        assert len(history.entries()) == 2

    def test_calls_and_what_was_said_keep_their_order(self, history):
        history.caller_text("u1", "Where is it?", turn=1)
        history.called("c1", "look_up", "{}")
        history.called("c2", "look_up", "{}")
        history.returned("c2", "2")
        history.spoken("i1")
        history.text("i1", WORDS)
        assert [entry.role for entry in history.entries()] == ["user", "call", "output", "assistant"]

    def test_an_output_whose_call_is_no_longer_kept_is_left_out(self, history):
        """A service refuses an output for a call that it has never heard of."""
        history.called("c1", "look_up", "{}")
        history.returned("c1", "1")
        for n in range(ENTRIES_KEPT - 1):
            history.caller_text(f"u{n}", "Hm.", turn=n)
        assert {entry.role for entry in history.entries()} == {"user"}


class TestBounds:
    def test_of_the_entries(self, history):
        for n in range(3 * ENTRIES_KEPT):
            history.caller_text(f"u{n}", f"{n}", turn=n)
        kept = history.entries()
        assert len(kept) == ENTRIES_KEPT
        assert kept[-1].text == str(3 * ENTRIES_KEPT - 1)

    def test_of_their_texts(self, history):
        history.spoken("i1")
        history.text("i1", "x" * 3 * TEXT_MAX_CHARACTERS)
        history.caller_text("u1", "y" * 3 * TEXT_MAX_CHARACTERS, turn=1)
        assert [len(text) for _, text in lines(history)] == [TEXT_MAX_CHARACTERS] * 2
