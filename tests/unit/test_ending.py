"""How a conversation ends."""

from __future__ import annotations

import pytest

from ivr_ai import ending
from ivr_ai.ending import LAST_WORDS_S, Ending, Kind, LastWords, failure


@pytest.mark.parametrize("kind", Kind)
def test_only_a_failure_is_one_for_the_failure_policy(kind):
    assert Ending(kind, "so").failed is (kind is Kind.FAILURE)


def test_a_failure_has_its_reason():
    assert failure("no reply") == Ending(Kind.FAILURE, "no reply")


@pytest.mark.parametrize(
    ("how", "kind"),
    [(ending.HUNG_UP, Kind.CALLER), (ending.GOODBYE, Kind.SERVER), (ending.STOPPED, Kind.STREAM)],
)
def test_endings_of_every_call(how, kind):
    assert (how.kind, how.failed) == (kind, False)
    assert how.reason


class TestLastWords:
    WORDS = LastWords(ending.GOODBYE, 100.0)

    @pytest.mark.parametrize("now_s", [100.0, 129.9, 1000.0])
    def test_they_are_said_when_it_is_quiet(self, now_s):
        assert self.WORDS.said(now_s, quiet=True)

    @pytest.mark.parametrize(
        ("after_s", "said"), [(0.0, False), (LAST_WORDS_S, False), (LAST_WORDS_S + 0.1, True)]
    )
    def test_they_are_waited_for_so_long_and_no_longer(self, after_s, said):
        assert self.WORDS.said(100.0 + after_s, quiet=False) is said
