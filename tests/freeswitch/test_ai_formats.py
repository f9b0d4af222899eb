"""A server that states another audio format than it was asked for: tones are heard, never noise."""

from __future__ import annotations

import itertools
from functools import partial
from typing import NamedTuple

import pytest
from ears import audible_span, chirp, heard_in_order, level_db, samples
from lines import at_once
from models import REPLY, VOICE, check_tones, model, place, wait_quiet
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch

from ivr_ai.sim.faults import Faults
from ivr_ai.sim.record import SessionRecord
from ivr_ai.tts.local_voice import speak

GREETING = "One two three."
DIALOGUE = {"turn": [{"on": "greeting", "say": GREETING}, {"say": REPLY}]}
CODECS = ("PCMU", "PCMA", "L16/16000", "opus")
STATED = (
    "audio/pcm",
    "audio/pcmu",
    "audio/pcma",
    "audio/pcm@16000",
    "input:audio/pcmu,output:audio/pcm",
    "output:audio/pcma",
)
CASES = list(itertools.product(CODECS, STATED))
AT_ONCE = 6


class Converted(NamedTuple):
    """A call that is over: what it was, and what was said."""

    call: SipCall
    record: SessionRecord
    said: bytes
    before_the_reply: int  # packets


def hold(switch: FreeSwitch, codec: str, stated: str) -> Converted:
    """A greeting, a chirp of the caller's, a reply. Opus is spoken between two legs inside the switch."""
    own = "L16/16000" if codec == "opus" else codec
    faults = Faults(state_format=stated)
    rates = {"pcm_rates_hz": (16000, 24000)} if "@16000" in stated else {}
    with model(faults, DIALOGUE, **rates) as sim, SipCaller(switch.sip_address, own) as caller:
        call = place(caller, sim, "bridge-opus-1234" if codec == "opus" else "1234").wait_answered()
        record = sim.wait_session()
        wait_quiet(call)
        record.wait_received("session.update", 2)
        before = len(call.media.audio_packets())
        said = chirp(call.media.codec.rate_hz, 0.6)
        call.say(said).wait(5)
        record.wait_sent("response.done", 2)
        wait_quiet(call)
        call.hangup()
        record.wait_closed(5)
    return Converted(call, record, said, before)


@pytest.fixture(scope="module")
def all_converted(switch: FreeSwitch) -> dict[tuple[str, str], Converted]:
    actions = [partial(hold, switch, *case) for case in CASES]
    done = [each for n in range(0, len(actions), AT_ONCE) for each in at_once(actions[n : n + AT_ONCE])]
    switch.wait_channels(0)
    return dict(zip(CASES, done, strict=True))


@pytest.fixture(params=CASES, ids=[f"{codec} {stated}" for codec, stated in CASES])
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def converted(all_converted: dict[tuple[str, str], Converted], case: tuple[str, str]) -> Converted:
    return all_converted[case]


def test_the_caller_hears_tones(converted: Converted, case: tuple[str, str]) -> None:
    """In length, frequency and level; and nothing that is louder than the tone."""
    call, rate_hz = converted.call, converted.call.media.codec.rate_hz
    heard = call.media.codec.decode(heard_in_order(call))
    first = converted.before_the_reply if case[0] == "opus" else 0  # an Opus leg begins within the greeting
    judged = b"".join(packet.payload for packet in call.media.audio_packets()[first:])
    loudest = abs(samples(speak(REPLY, rate_hz, VOICE))).max()
    ringing = 1.3 if case[0] == "opus" else 1.15  # of a tone's edges, in codec and resampler
    assert abs(samples(call.media.codec.decode(judged))).max() < loudest * ringing
    if case[0] == "opus":  # two hops; its bridge is up after the greeting has begun
        check_tones(call.received(), rate_hz, [REPLY], 90)
    else:
        check_tones(heard, rate_hz, [GREETING, REPLY], 10)


def test_the_model_hears_the_caller(converted: Converted, case: tuple[str, str]) -> None:
    """In length and level: bytes that were read as another format's would be full-scale noise."""
    heard, rate_hz = converted.record.audio, converted.record.audio_rate_hz
    start_ms, end_ms = audible_span(heard, rate_hz)
    assert end_ms - start_ms == pytest.approx(600, abs=30)
    voice = heard[int(start_ms * rate_hz / 1000) * 2 : int(end_ms * rate_hz / 1000) * 2]
    slack_db = 3 if case[0] == "opus" else 1.5
    assert level_db(voice) == pytest.approx(level_db(converted.said), abs=slack_db)


def test_the_call_is_answered_as_any_other(converted: Converted) -> None:
    assert converted.call.ended_by == "caller"
    assert len(converted.record.received("response.create")) == 1
    assert not [event for event in converted.record.sent if event.type == "error"]
