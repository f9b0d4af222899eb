"""The demo's caller on a real line: what it says, hears and records."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable

import pytest
from support.sip import SipCaller
from support.switch import FreeSwitch
from support.telephone import Telephone

from ivr_ai.gateways.caller import Digits, Hangup, Say
from ivr_ai.gateways.embedded import HostEvent

NewCaller = Callable[..., SipCaller]


def tone(ms: int, rate_hz: int) -> bytes:
    step = 2 * math.pi * 400 / rate_hz
    return array("h", (int(8000 * math.cos(step * at)) for at in range(rate_hz * ms // 1000))).tobytes()


def loud(pcm: bytes, rate_hz: int) -> tuple[float, float]:
    """(how long it is loud, when that begins) in ms; the tone's own zero crossings count as loud."""
    places = [place for place, sample in enumerate(array("h", pcm)) if abs(sample) > 300]
    share = sum(abs(sample) > 300 for sample in array("h", tone(400, rate_hz))) / (rate_hz * 0.4)
    return len(places) / share * 1000 / rate_hz, places[0] * 1000 / rate_hz


def telephone(script: list, rate_hz: int, seen: list[HostEvent]) -> Telephone:
    return Telephone(script, rate_hz=rate_hz, voice="", quiet_ms=300, patience_s=5, observe=seen.append)


def at(events: list[HostEvent], kind: str) -> list[float]:
    return [event.at_s for event in events if event.kind == kind]


@pytest.mark.parametrize("codec", ["PCMU", "L16/16000"])
def test_a_caller_hears_its_echo_and_hangs_up(new_caller: NewCaller, codec: str) -> None:
    sip = new_caller(codec)
    rate_hz = sip.codec.rate_hz
    said = tone(400, rate_hz)
    seen: list[HostEvent] = []
    phone = telephone([Say(said, after=0.5), Hangup(after="reply_end", delay_ms=0)], rate_hz, seen)
    phone.hold(sip.call("echo").wait_answered(), max_s=10)
    kinds = [event.kind for event in seen]
    assert kinds[0] == "answered"
    assert kinds[-1] == "hangup"
    assert seen[-1].data == {"cause": "NORMAL_CLEARING", "by": "caller"}
    events = phone.events()
    speaks_s, quiet_s = at(events, "caller_speaks")[0], at(events, "caller_quiet")[0]
    assert quiet_s - speaks_s == pytest.approx(0.4)
    assert 0 <= at(events, "caller_hears")[0] - speaks_s < 0.2

    recording = phone.recording()
    coded = sip.codec.decode(sip.codec.encode(said))
    assert recording.caller.index(coded) / 2 / rate_hz == pytest.approx(speaks_s - phone.start_s, abs=0.001)
    loud_ms, first_ms = loud(recording.ai, rate_hz)  # a busy switch may lose a frame of an echo
    assert loud_ms == pytest.approx(400, abs=60)
    assert 0 < first_ms / 1000 - (speaks_s - phone.start_s) < 0.2


def test_a_hangup_by_the_switch_ends_the_call(switch: FreeSwitch, new_caller: NewCaller) -> None:
    sip = new_caller()
    seen: list[HostEvent] = []
    phone = telephone([Hangup(after="reply_end")], 8000, seen)
    call = sip.call("silence").wait_answered()
    threading.Timer(0.5, switch.cli, ["hupall NORMAL_CLEARING"]).start()
    phone.hold(call, max_s=10)
    assert seen[-1].data == {"cause": "NORMAL_CLEARING", "by": "switch"}


def test_keys_are_sent_as_events(new_caller: NewCaller) -> None:
    sip = new_caller()
    phone = telephone([Digits("12#", after=0.3), Hangup(after=4.0)], 8000, [])
    call = sip.call("digits")
    phone.hold(call.wait_answered(), max_s=10)
    assert call.dtmf_received() == "12"  # sent back by the dialplan, up to the terminator
