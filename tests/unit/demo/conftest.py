"""A conversation that was never held: three turns, the second reply interrupted. Tones stand for speech."""

from __future__ import annotations

import math
from array import array
from types import SimpleNamespace

import pytest

from ivr_ai.demo.report import Event, Report, build
from ivr_ai.gateways.recording import Recording

RATE_HZ = 8000
DURATION_S = 14.0

# (start, end, text); the AI's second reply is cut short by the caller's third line.
CALLER = [
    (2.5, 4.0, "A table for two, please."),
    (6.0, 7.0, "What is there to eat?"),
    (9.0, 10.5, "That will do."),
]
AI = [
    (0.2, 2.0, "Harbour Kitchen, good evening."),
    (4.3, 5.5, "At what time?"),
    (7.4, 9.1, "Sea bass, lamb, risotto and tart."),
    (10.9, 13.0, "It is booked."),
]


def side(lines) -> bytes:
    """One side of the recording: a tone for every line, ending in a soft fade as a flush does."""
    samples = array("h", bytes(int(DURATION_S * RATE_HZ) * 2))
    for start_s, end_s, _ in lines:
        first, last = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
        for at in range(first, last):
            loud = min(1.0, (last - at) / 80)
            samples[at] = round(6000 * loud * math.cos((at - first) * 0.3)) or 9
    return samples.tobytes()


def recording() -> Recording:
    recording = Recording(RATE_HZ)
    recording.add(side(CALLER), side(AI))
    return recording


def caller_events() -> list[Event]:
    """What a caller with an ear of 20 ms frames says it did and heard."""
    events = [Event("answered", 0.0, {})]
    for turn, (start_s, end_s, text) in enumerate(CALLER, 1):
        events.append(Event("caller_speaks", start_s, {"turn": turn, "text": text}))
        events.append(Event("caller_quiet", end_s, {"turn": turn}))
    for start_s, end_s, _ in AI:
        events.append(Event("caller_hears", start_s + 0.02, {}))
        events.append(Event("caller_heard", end_s - 0.02, {"start_ms": round(start_s * 1000)}))
    return events


def call_events() -> list[Event]:
    """What the call says happened."""
    events = [Event("connected", -0.1, {"ms": 30.0}), Event("answered", 0.0, {})]
    for turn, (start_s, _, text) in enumerate(AI):
        item = f"item_{turn}"
        events.append(Event("heard", start_s, {"item": item, "turn": turn, "latency_ms": 40.0}))
        events.append(Event("ai_said", start_s + 0.3, {"item": item, "text": text}))
    events.append(Event("barge_in", 9.1, {"item": "item_2", "heard_ms": 1690}))
    events.append(Event("ended", 14.0, {"reason": "the caller hung up", "underruns": 0}))
    return events


def report(caller=None, call=None, **options) -> Report:
    return build(caller or caller_events(), call or call_events(), side(AI), RATE_HZ, **options)


@pytest.fixture
def canned() -> SimpleNamespace:
    """The conversation, for tests of what is made of one."""
    return SimpleNamespace(**globals())
