"""What is said of a call once it is over."""

from __future__ import annotations

import json
import uuid

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream
from ivr_ai.conversation.conversation import Totals
from ivr_ai.summary import CallSummary, p50_ms, summarise


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


class TestSummarise:
    TOTALS = Totals(turns=3, barge_ins=1, responses=4, tokens=77, turn_latencies_ms=[300.0, 200.0, 250.0])

    def test_a_call_that_never_had_a_stream(self):
        assert summarise("c-1", "no answer", 1.5, self.TOTALS, None) == CallSummary(
            "c-1", "no answer", 1.5, 3, 1, 0, 0.0, 250.0, 77
        )

    def test_what_the_stream_did(self):
        """Half a second of a second is lost where the ring holds 500 ms; what is played runs dry once."""
        with HostStream.create(str(uuid.uuid4()), rate_hz=16000, capture_ms=500) as stream:
            frame = bytes(640)
            for _ in range(50):
                stream.host_capture(frame)
            stream.inject(b"\1\0" * 320, "i1", Format("s16", 16000))
            for _ in range(3):
                stream.host_inject(frame)
            stream.inject(b"\1\0" * 320, "i1", Format("s16", 16000))
            stream.host_inject(frame)
            stats = stream.stats()
            summary = summarise("c-1", "so", 1.0, Totals(), stream)
        lost = stats.capture_dropped_samples + stats.capture_discarded_samples
        assert lost > 0
        assert summary.dropped_ms == lost / 16
        assert summary.underruns == stats.inject_underruns == 1

    def test_a_stream_that_is_closed_already(self):
        stream = HostStream.create(str(uuid.uuid4()))
        stream.close()
        assert summarise("c-1", "so", 1.0, Totals(), stream).dropped_ms == 0.0
