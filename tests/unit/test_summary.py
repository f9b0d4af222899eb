"""What is said of a call once it is over."""

from __future__ import annotations

import json

import pytest

from ivr_ai.summary import CallSummary, p50_ms


@pytest.mark.parametrize(
    ("latencies_ms", "median_ms"),
    [([], None), ([250.0], 250.0), ([900.0, 100.0, 300.0], 300.0), ([100.0, 200.04], 150.0)],
)
def test_the_usual_latency(latencies_ms, median_ms):
    assert p50_ms(latencies_ms) == median_ms


def test_the_log_line_has_all_there_is_to_know_at_a_glance():
    summary = CallSummary("c-1", "the caller hung up", 61.26, 4, 2, 1, 0.0, 312.4, 900)
    assert summary.line() == (
        "call c-1 over: the caller hung up; 61.3 s, 4 turns, 2 barge-ins, 1 underruns, "
        "turn latency p50 312 ms, 900 tokens"
    )


def test_a_call_without_a_turn():
    assert "turn latency p50 -, 0 tokens" in CallSummary("c-2", "nobody spoke", 3.0).line()


def test_the_same_as_json():
    summary = CallSummary("c-1", "the caller hung up", 61.26, 4, 2, 1, 12.5, None, 900)
    assert json.loads(json.dumps(summary.data())) == {
        "uuid": "c-1",
        "reason": "the caller hung up",
        "duration_s": 61.26,
        "turns": 4,
        "barge_ins": 2,
        "underruns": 1,
        "dropped_ms": 12.5,
        "turn_p50_ms": None,
        "tokens": 900,
    }
