"""A caller who puts the call on hold (re-INVITE, a=sendonly) while the model speaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ears import heard_in_order, noise, samples
from models import REPLY, loud_s, model, place, spoken, times_heard, wait_heard, wait_quiet
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import wait_until

from ivr_ai.sim.record import SessionRecord

NewCaller = Callable[..., SipCaller]
GREETING = "One two."
LONG = "One two three four five six seven eight nine ten."  # 3.5 s
DIALOGUE = {"turn": [{"on": "greeting", "say": GREETING}, {"say": LONG}], "fallback": [REPLY], "loop": False}
KEEP_S = 1.0

pytestmark = pytest.mark.usefixtures("stream_switch")


def into_the_long_reply(call: SipCall, record: SessionRecord, talk_s: float) -> int:
    """Asks, and hears the reply for a while. Returns how many packets had come before it."""
    wait_quiet(call)
    record.wait_received("session.update", 2)
    call.say(noise(8000, 0.4)).wait(5)
    record.wait_sent("response.created", 2)
    before = len(call.media.audio_packets())
    wait_until(lambda: loud_s(call, before), 3.0, "the reply")
    record.wait_sent("response.done", 2)
    time.sleep(talk_s)
    return before


def ask_again(call: SipCall) -> None:
    call.say(noise(8000, 0.4, seed=2)).wait(5)
    wait_heard(call, spoken(call, REPLY), times_heard(call, spoken(call, REPLY)) + 1)


@pytest.mark.parametrize("transport", ["native", "python"])
def test_a_long_hold_drops_the_reply(switch: FreeSwitch, caller: SipCaller, transport: str) -> None:
    """Nothing of it is heard after the unhold; the model is told what was heard, and the call goes on."""
    with model(dialogue=DIALOGUE) as sim:
        call = place(caller, sim, IVR_AI_HOLD_KEEP_S=KEEP_S, IVR_AI_TRANSPORT=transport).wait_answered()
        record = sim.wait_session()
        before = into_the_long_reply(call, record, 0.3)
        call.hold()
        time.sleep(KEEP_S + 0.6)
        packets, held = call.media.audio_packets()[before:], len(call.media.audio_packets())
        heard = samples(call.media.codec.decode(b"".join(packet.payload for packet in packets)))
        call.unhold()
        truncation = record.wait_received("conversation.item.truncate")
        time.sleep(0.5)
        assert not loud_s(call, held + 2)  # what was under way when the flush came fades
        said, audible = samples(spoken(call, LONG)), np.flatnonzero(np.abs(heard) > AUDIBLE_PEAK)
        start = audible[0] - np.argmax(np.abs(said) > AUDIBLE_PEAK)
        assert truncation["audio_end_ms"] == pytest.approx((audible[-1] + 1 - start) / 8, abs=40)
        assert not record.received("response.cancel")  # it was over long before
        ask_again(call)
        call.hangup()
    [line] = switch.wait_log(rf"call {call.call_id} over: ")
    assert "2 turns" in line and "[INFO]" in line


@pytest.mark.parametrize("transport", ["native", "python"])
def test_a_short_hold_loses_nothing(switch: FreeSwitch, caller: SipCaller, transport: str) -> None:
    """The reply goes on where it was, and is heard whole."""
    with model(dialogue=DIALOGUE) as sim:
        call = place(caller, sim, IVR_AI_HOLD_KEEP_S=5, IVR_AI_TRANSPORT=transport).wait_answered()
        record = sim.wait_session()
        into_the_long_reply(call, record, 0.3)
        call.hold()
        time.sleep(1.5)
        assert spoken(call, LONG) not in call.media.codec.decode(heard_in_order(call))
        call.unhold()
        wait_heard(call, spoken(call, LONG))
        assert not record.truncations
        ask_again(call)
        call.hangup()
    [line] = switch.wait_log(rf"call {call.call_id} over: ")
    assert "2 turns, 0 barge-ins, 0 underruns" in line


def test_a_long_hold_in_silence_changes_nothing(switch: FreeSwitch, caller: SipCaller) -> None:
    with model(dialogue=DIALOGUE) as sim:
        call = place(caller, sim, IVR_AI_HOLD_KEEP_S=0).wait_answered()
        record = sim.wait_session()
        wait_quiet(call)
        call.hold()
        time.sleep(1.0)
        call.unhold()
        call.say(noise(8000, 0.4)).wait(5)
        wait_heard(call, spoken(call, LONG))
        assert not record.truncations
        call.hangup()


def test_two_holds_are_not_added_up(switch: FreeSwitch, caller: SipCaller) -> None:
    with model(dialogue=DIALOGUE) as sim:
        call = place(caller, sim, IVR_AI_HOLD_KEEP_S=2.5).wait_answered()
        record = sim.wait_session()
        into_the_long_reply(call, record, 0.3)
        for _ in range(2):
            call.hold()
            time.sleep(1.5)
            call.unhold()
            time.sleep(0.2)
        wait_heard(call, spoken(call, LONG))
        assert not record.truncations
        call.hangup()


def test_the_timeline_tells_of_holds(switch: FreeSwitch, caller: SipCaller, tmp_path: Path) -> None:
    with model(dialogue=DIALOGUE) as sim:
        call = place(caller, sim, IVR_AI_TIMELINE_DIR=tmp_path).wait_answered()
        wait_quiet(call)
        call.hold()
        call.unhold()
        call.dtmf("5")
        time.sleep(0.5)
        call.hangup()
        switch.wait_log(rf"call {call.call_id} over: ")
        text = (tmp_path / f"{call.call_id}.json").read_text(encoding="utf-8")
    assert [kind for kind in ("hold", "unhold", "dtmf") if f'"kind": "{kind}"' in text] == [
        "hold",
        "unhold",
        "dtmf",
    ]
    assert '"digit"' not in text
