"""How many lost connections a call makes again."""

from __future__ import annotations

import math

import pytest

from ivr_ai.reconnects import WITHIN_S, Reconnects


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("limit", "lost_ago_s", "may"),
    [
        (0, [], False),
        (1, [], True),
        (1, [0.0], False),
        (2, [10.0], True),
        (2, [10.0, 0.0], False),
        (2, [WITHIN_S - 0.1, 0.0], False),
        (2, [WITHIN_S, 0.0], True),  # the first has gone by
        (1, [WITHIN_S + 1, WITHIN_S], True),
    ],
)
def test_as_many_as_the_limit_within_its_time(limit, lost_ago_s, may):
    clock = Clock()
    reconnects, now_s = Reconnects(limit, clock), clock.now_s
    for ago_s in lost_ago_s:
        clock.now_s = now_s - ago_s
        reconnects.lost()
    clock.now_s = now_s
    assert [reconnects.may_be_made() for _ in range(2)] == [may, may]  # asking counts for nothing


def test_how_long_ago_the_last_one_was_lost():
    clock = Clock()
    reconnects = Reconnects(2, clock)
    assert reconnects.away_s == math.inf
    for away_s in (3.0, 0.5):
        reconnects.lost()
        clock.now_s += away_s
        assert reconnects.away_s == away_s
    clock.now_s += WITHIN_S
    assert reconnects.away_s == WITHIN_S + 0.5
