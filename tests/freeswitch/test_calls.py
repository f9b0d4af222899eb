"""Calls through a plain FreeSWITCH, without the module: what later tests take for granted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller, SipError
from support.switch import MUSIC_HZ, TONE_HZ, FreeSwitch

NewCaller = Callable[..., SipCaller]


def noise(rate_hz: int, duration_s: float = 1.0, seed: int = 1) -> bytes:
    """Loud s16 noise: no two stretches of it are alike."""
    samples = np.random.default_rng(seed).integers(-30000, 30000, int(rate_hz * duration_s))
    return samples.astype("<i2").tobytes()


def frequency_hz(pcm: bytes, rate_hz: int) -> float:
    """The strongest frequency in s16 audio."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))


def wait_until(reached: Callable[[], bool], timeout_s: float = 3.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline_s, f"not reached within {timeout_s} s"
        time.sleep(0.02)


def unechoed(calls: Sequence[SipCall], duration_s: float = 1.0) -> list[SipCall]:
    """The calls that did not give back, in one piece, exactly the codec bytes they sent.

    FreeSWITCH skips a frame when the machine stalls for longer than one: each call has three tries.
    """
    left = list(calls)
    for attempt in range(3):
        for call in left:
            call.wait_packets(5)  # FreeSWITCH drops what comes while it sets up its end of the RTP
        rate_hz = left[0].media.codec.rate_hz
        said = [call.say(noise(rate_hz, duration_s, len(left) * attempt + i)) for i, call in enumerate(left)]
        for utterance in said:
            assert utterance.wait(duration_s + 5)
        time.sleep(0.4)
        left = [c for c, u in zip(left, said, strict=True) if u.payload not in c.received_raw()]
        if not left:
            break
    return left


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "L16/8000", "L16/16000"])
def test_echo_returns_every_bit(new_caller: NewCaller, codec: str) -> None:
    call = new_caller(codec).call("echo").wait_answered()
    assert unechoed([call]) == []


@pytest.mark.parametrize("ptime_ms", [10, 30, 40])
def test_echo_at_other_packet_times(new_caller: NewCaller, ptime_ms: int) -> None:
    call = new_caller("PCMA", ptime_ms).call("echo").wait_answered()
    assert unechoed([call]) == []
    assert {len(packet.payload) for packet in call.packets} == {8 * ptime_ms}


@pytest.mark.parametrize("extension", ["park", "sleep"])
def test_nothing_is_sent_under_park_and_sleep(caller: SipCaller, extension: str) -> None:
    call = caller.call(extension).wait_answered()
    call.say(noise(8000, 0.5))
    time.sleep(1.0)
    assert call.packets == []
    assert call.first_audio_at_s is None


@pytest.mark.parametrize("codec", ["PCMU", "L16/16000"])
def test_a_tone_is_heard_at_its_frequency(new_caller: NewCaller, codec: str) -> None:
    call = new_caller(codec).call("tone").wait_answered()
    rate_hz = call.media.codec.rate_hz
    heard = call.wait_received(1500)[-2 * rate_hz :]
    assert frequency_hz(heard, rate_hz) == pytest.approx(TONE_HZ, abs=1)
    assert call.first_audio_at_s - call.answered_at_s < 0.5


def test_silence_is_sent_but_not_heard(caller: SipCaller) -> None:
    call = caller.call("silence").wait_answered()
    call.wait_received(500)
    assert max(peak for _, peak in call.media.levels()) <= AUDIBLE_PEAK
    assert call.first_audio_at_s is None


def test_the_caller_hangs_up(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("echo").wait_answered()
    switch.wait_channels(1)
    call.hangup()
    assert call.wait_ended(2) == "NORMAL_CLEARING"
    assert call.ended_by == "caller"
    switch.wait_channels(0)


def test_the_switch_hangs_up(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("hangup").wait_answered()
    assert call.wait_ended(2) == "NORMAL_CLEARING"
    assert call.ended_by == "switch"
    switch.wait_channels(0)


def test_the_callers_call_id_is_the_uuid(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("park", headers={"X-Test": "forty-two"}).wait_answered()
    assert switch.cli(f"uuid_getvar {call.call_id} sip_h_X-Test") == "forty-two"
    switch.cli(f"uuid_kill {call.call_id} CALL_REJECTED")
    assert call.wait_ended(2) == "CALL_REJECTED"


def test_a_refused_call_tells_why(caller: SipCaller) -> None:
    call = caller.call("busy")
    with pytest.raises(SipError, match="USER_BUSY") as refused:
        call.wait_answered()
    assert refused.value.status_line.startswith("SIP/2.0 486 ")


def test_a_ringing_call_is_cancelled(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("ring")
    with pytest.raises(SipError, match="no answer within"):
        call.wait_answered(0.5)
    assert call.status_line.startswith("SIP/2.0 180 ")
    call.hangup()
    assert call.wait_ended(2) == "ORIGINATOR_CANCEL"
    switch.wait_channels(0)


def test_a_call_hung_up_at_once_leaves_nothing(switch: FreeSwitch, caller: SipCaller) -> None:
    calls = [caller.call("ring") for _ in range(5)]
    for call in calls:
        call.hangup()
    assert {call.wait_ended(3) for call in calls} == {"ORIGINATOR_CANCEL"}


def test_early_media_is_heard_before_the_answer(caller: SipCaller) -> None:
    call = caller.call("early").wait_early()
    call.wait_received(1000)
    assert call.answered_at_s is None
    assert frequency_hz(call.received()[-8000:], 8000) == pytest.approx(TONE_HZ, abs=2)
    call.wait_answered(3)
    assert call.early_at_s < call.first_audio_at_s < call.answered_at_s


@pytest.mark.parametrize("codec", ["PCMU", "L16/16000"])
def test_dtmf_goes_both_ways(switch: FreeSwitch, new_caller: NewCaller, codec: str) -> None:
    call = new_caller(codec).call("digits").wait_answered()
    call.dtmf("159*#")
    switch.wait_log(rf"^{call.call_id}.*digits=159\*$")
    wait_until(lambda: call.dtmf_received() == "159*")


def test_hold_and_unhold(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("echo").wait_answered()
    call.wait_packets(5)
    call.hold()
    switch.wait_log(rf"^{call.call_id}.*ACTIVE -> HELD")
    held = len(call.packets)
    time.sleep(0.5)
    assert len(call.packets) == held
    call.unhold()
    assert unechoed([call]) == []


def test_hold_by_the_switch(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("echo").wait_answered()
    call.wait_packets(5)
    switch.cli(f"uuid_hold {call.call_id}")
    wait_until(lambda: not call.media.sending)
    switch.cli(f"uuid_hold off {call.call_id}")
    wait_until(lambda: call.media.sending)
    assert unechoed([call]) == []


@pytest.mark.parametrize("way", ["loopback", "sofia"])
def test_a_bridge_carries_every_bit(new_caller: NewCaller, way: str) -> None:
    call = new_caller("PCMU").call(f"bridge-{way}-echo").wait_answered()
    assert unechoed([call]) == []


def test_an_opus_leg_carries_a_tone(new_caller: NewCaller) -> None:
    call = new_caller("L16/16000").call("bridge-opus-music").wait_answered()
    heard = call.wait_received(2000)[-32000:]
    assert frequency_hz(heard, 16000) == pytest.approx(MUSIC_HZ, abs=2)


def test_twenty_calls_at_once(switch: FreeSwitch, caller: SipCaller) -> None:
    calls = [caller.call("echo") for _ in range(20)]
    for call in calls:
        call.wait_answered()
    assert switch.channels() == 20
    assert unechoed(calls, 2.0) == []
