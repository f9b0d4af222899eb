"""While FreeSWITCH leaves our media bugs out, nobody tells the module who writes: it writes nothing."""

from __future__ import annotations

import time

import pytest
from ears import noise, peaks
from lines import TRIES, Line
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe

LOUD = 1000

pytestmark = pytest.mark.usefixtures("stream_switch")


def quiet_frames(call: SipCall, seconds: float) -> tuple[int, int]:
    """(frames without the tone, all frames) of what the caller gets in that time."""
    first = len(call.packets)
    time.sleep(seconds)
    pcm = b"".join(call.media.codec.decode(packet.payload) for packet in call.packets[first:])
    heard = peaks(pcm, 8000)
    return int((heard < LOUD).sum()), len(heard)


def hears_the_tone_alone(call: SipCall) -> bool:
    """Not more than one frame, which FreeSWITCH may lose by itself. Three tries."""
    for _ in range(TRIES):
        quiet, frames = quiet_frames(call, 1.0)
        if quiet <= 1 and 40 <= frames <= 60:
            return True
    return False


def test_while_bugs_are_paused(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("tone").wait_answered()
    line = Line(call, probe.start(call))
    listener = probe.start(call, "out", "outbound")
    call.wait_packets(25)
    probe.do("pause_bugs", uuid=call.call_id, on=True)
    assert hears_the_tone_alone(call)
    probe.do("pause_bugs", uuid=call.call_id, on=False)
    line.wait_heard(line.say(noise(8000, 0.3)))
    listener.stop()


def test_under_park_while_bugs_are_paused(probe: Probe, caller: SipCaller) -> None:
    """The queue keeps its place."""
    call = caller.call("park").wait_answered()
    line = Line(call, probe.start(call))
    line.wait_heard(line.say(noise(8000, 0.2, 1), "first"), "first")
    probe.do("pause_bugs", uuid=call.call_id, on=True)
    time.sleep(0.2)
    first = len(call.packets)
    payload = line.say(noise(8000, 0.3, 2), "second")
    time.sleep(0.5)
    assert len(call.packets) == first
    probe.do("pause_bugs", uuid=call.call_id, on=False)
    line.wait_heard(payload, "second")


def test_before_the_answer_where_bugs_wait_for_it(
    switch: FreeSwitch, probe: Probe, caller: SipCaller
) -> None:
    """media_bug_answer_req: early media is left alone; from the answer on the stream is heard."""
    call = caller.call("early", {"X-Set": "media_bug_answer_req=true"}).wait_early()
    line = Line(call, probe.start(call))
    assert quiet_frames(call, 1.0)[0] <= 1
    call.wait_answered()
    line.wait_heard(line.say(noise(8000, 0.3)))


def test_before_the_answer_where_one_does_not_wait(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("ringing", {"X-Set": "media_bug_answer_req=true"}).wait_early()
    assert probe.esl.api(f"uuid_setvar {call.call_id} media_bug_answer_req") == "+OK"
    line = Line(call, probe.start(call, "other"))
    line.wait_heard(line.say(noise(8000, 0.3)))
