from __future__ import annotations

import pytest

from ivr_ai.demo.report import Event


def test_both_sides_are_told_apart_and_in_order(canned):
    told = canned.report()
    assert [(speech.who, speech.turn) for speech in told.speeches] == [
        ("ai", 0),
        ("caller", 1),
        ("ai", 1),
        ("caller", 2),
        ("ai", 2),
        ("caller", 3),
        ("ai", 3),
    ]
    assert [speech.text for speech in told.speeches if speech.who == "ai"] == [text for *_, text in canned.AI]
    assert [speech.text for speech in told.speeches if speech.who == "caller"] == [
        t for *_, t in canned.CALLER
    ]


def test_replies_are_measured_to_the_sample(canned):
    spans = [(s.start_s, s.end_s) for s in canned.report().speeches if s.who == "ai"]
    assert spans == [pytest.approx((start_s, end_s), abs=0.0005) for start_s, end_s, _ in canned.AI]


def test_latency_is_from_the_callers_last_sound_to_the_replys_first(canned):
    told = canned.report()
    assert [round(latency.ms) for latency in told.latencies] == [300, 400, 400]
    assert [latency.reported_ms for latency in told.latencies] == [40.0] * 3
    assert told.latency_p50_ms == pytest.approx(400, abs=0.5)
    assert told.turns == 3


def test_an_interruption_has_what_was_heard_and_what_the_model_was_told(canned):
    (barge_in,) = canned.report().barge_ins
    assert (barge_in.turn, barge_in.at_s, barge_in.truncated_ms) == (3, 9.0, 1690)
    assert barge_in.heard_ms == pytest.approx(1700, abs=1)
    assert barge_in.silent_s == pytest.approx(9.1, abs=0.001)
    assert [speech.cut for speech in canned.report().speeches if speech.who == "ai"] == [
        False,
        False,
        True,
        False,
    ]


def test_a_reply_that_the_hangup_cut_off_lasts_until_the_end(canned):
    caller = [event for event in canned.caller_events() if event.at_s < 12.0]
    ai = canned.side(canned.AI)[: 12 * 2 * canned.RATE_HZ]
    told = canned.build(caller, canned.call_events(), ai, canned.RATE_HZ)
    assert (told.speeches[-1].who, told.speeches[-1].end_s) == ("ai", pytest.approx(12.0))


def test_a_conversation_as_planned_has_no_problems(canned):
    assert canned.report().problems(turns=3, barge_ins=1) == []


def test_what_did_not_go_as_planned_is_said(canned):
    call = [event for event in canned.call_events() if event.kind not in ("barge_in", "ended")]
    call.append(Event("error", 5.0, {"code": "rate_limit_exceeded", "message": "slow down"}))
    call.append(Event("ended", 14.0, {"reason": "error", "underruns": 2}))
    caller = [event for event in canned.caller_events() if event.at_s < 9.5]
    told = canned.report(caller=caller, call=call, skipped_ms=60)
    assert told.problems(turns=3, barge_ins=1) == [
        "2 of 3 turns were answered",
        "0 of 1 interruptions happened",
        "replies ran dry 2 times",
        "the host lost 60 ms of media time: is the machine busy?",
        "error: rate_limit_exceeded slow down",
    ]


def test_nothing_at_all_is_reported_as_nothing(canned):
    told = canned.build([], [], bytes(160), canned.RATE_HZ)
    assert (told.turns, told.latency_p50_ms, list(told.speeches)) == (0, None, [])
    assert told.problems(turns=3, barge_ins=1)
