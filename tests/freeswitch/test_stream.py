"""Streams on real calls: the caller hears what the application injects, whatever the call is doing."""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ears import (
    audible_span,
    chirp,
    frequency_hz,
    heard_in_order,
    level_db,
    noise,
    peaks,
    similarity,
    tone,
)
from lines import CODECS, TRIES, Line, at_once, change_codec, far_end, not_whole, other_leg
from support.sip import SipCaller
from support.switch import TONE_HZ, FreeSwitch
from taps import Probe, Tap, wait_until

NewCaller = Callable[..., SipCaller]
OpenLine = Callable[..., Line]

pytestmark = pytest.mark.usefixtures("stream_switch")


# ---- whatever the dialplan does ----------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["park", "sleep", "silence", "tone", "echo"])
def test_every_sample_is_heard(open_line: OpenLine, extension: str) -> None:
    lines = [open_line(extension, codec) for codec in CODECS]
    assert not_whole(lines) == []
    for line in lines:
        inject = line.tap.status()["inject"]
        assert inject["underruns"] == inject["queued"] == inject["flushed"] == 0
        assert inject["played"] == inject["written"]


def test_a_playing_tone_is_replaced_and_comes_back(open_line: OpenLine) -> None:
    line = open_line("tone")
    line.call.wait_received(400)
    payload = line.say(noise(8000, 0.5))
    line.wait_heard(payload)
    line.call.wait_packets(25)
    before, _, after = heard_in_order(line.call).partition(payload)
    for stretch in (before[-2400:], after[:2400]):  # to the last frame before it, from the first after it
        pcm = line.call.media.codec.decode(stretch)
        assert frequency_hz(pcm, 8000) == pytest.approx(TONE_HZ, abs=4)
        assert peaks(pcm, 8000).min() > 0.9 * peaks(pcm, 8000).max()


def test_early_media(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("early").wait_early()
    line = Line(call, probe.start(call))
    line.wait_heard(line.say(noise(8000, 0.4), "early"), "early")
    assert call.answered_at_s is None
    call.wait_answered(4)
    assert not_whole([line]) == []


@pytest.mark.parametrize("extension", ["ringing", "bridge-sofia-ring"])
def test_a_ringing_call_gets_early_media(probe: Probe, caller: SipCaller, extension: str) -> None:
    """Started in the dialplan before the answer, and on a call whose far end rings."""
    call = caller.call(extension)
    wait_until(lambda: call.status_line.startswith("SIP/2.0 18"))
    started = extension == "ringing"
    line = Line(call, Tap(probe, call.call_id) if started else probe.start(call))
    call.wait_early()
    assert not_whole([line]) == []
    assert call.answered_at_s is None


# ---- bridges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["bridge-loopback-music", "bridge-sofia-music", "bridge-sofia-park"])
def test_the_near_leg_of_a_bridge(open_line: OpenLine, extension: str) -> None:
    lines = [open_line(extension, codec) for codec in CODECS]
    assert not_whole(lines) == []


@pytest.mark.parametrize("way", ["loopback", "sofia"])
def test_the_far_leg_of_a_bridge(probe: Probe, caller: SipCaller, way: str) -> None:
    """What is injected there goes to the far end, an echo, and so comes back to the caller.

    Two more hops, each of which skips a frame when the machine stalls: three tries for all of it.
    """
    call = caller.call(f"bridge-{way}-echo").wait_answered()
    line = Line(call, probe.start(other_leg(probe, call.call_id)))
    assert line.tap.status()["callRate"] == 8000
    for attempt in range(TRIES):
        payload = line.say(noise(8000, 0.5, attempt), f"noise {attempt}")
        line.tap.wait_finished(f"noise {attempt}")
        time.sleep(0.3)
        if payload in call.received_raw():
            return
    pytest.fail("what was injected into the far leg did not come back in one piece")


@pytest.mark.parametrize("rate_hz", [24000, 48000])
def test_an_opus_leg(probe: Probe, new_caller: NewCaller, rate_hz: int) -> None:
    """Caller, L16 at 16 kHz; bridge; Opus; a parked call with the stream.

    Tones only: FreeSWITCH drops the first packets of a stream, and an Opus decoder that has missed them makes
    a din of livelier sounds for seconds, with or without a stream of ours.
    """
    call = new_caller("L16/16000").call("bridge-opus-park").wait_answered()
    line = Line(call, probe.start(far_end(probe, call)))
    assert (line.tap.status()["callRate"], line.tap.status()["callCodec"]) == (48000, "L16")
    call.wait_packets(15)
    seen = []
    for hz in (500, 700, 900):
        first, wanted = len(call.received()), tone(16000, 0.6, hz)
        line.tap.inject(tone(rate_hz, 0.6, hz), str(hz), rate_hz=rate_hz)
        line.tap.wait_finished(str(hz))
        call.wait_packets(10)
        heard = call.received()[first:]
        fit, at = similarity(heard, wanted)
        start_ms, end_ms = audible_span(heard, 16000)
        off_db = level_db(heard[2 * at :][: len(wanted)]) - level_db(wanted)
        seen.append((fit, off_db, end_ms - start_ms))
        if fit > 0.97 and abs(off_db) < 0.5 and abs(end_ms - start_ms - 600) < 25:
            return
    pytest.fail(f"(similarity, level in dB, length in ms) of what was heard: {seen}")


# ---- hold, pause -------------------------------------------------------------------------------------------


def test_nothing_is_lost_while_the_far_end_holds_the_call(open_line: OpenLine) -> None:
    """Under playback too, where FreeSWITCH goes on writing frames that it then does not send."""
    places = ("park", "sleep", "silence", "tone", "echo", "bridge-sofia-music")
    lines = [open_line(extension) for extension in places]
    said = [line.say(noise(8000, 1.2, seed)) for seed, line in enumerate(lines)]
    time.sleep(0.3)
    at_once(line.call.hold for line in lines)
    time.sleep(0.1)
    held = [(line.tap.status()["inject"]["queued"], len(line.call.packets)) for line in lines]
    assert all(queued > 0 for queued, _ in held)
    time.sleep(0.3)
    assert [(line.tap.status()["inject"]["queued"], len(line.call.packets)) for line in lines] == held
    at_once(line.call.unhold for line in lines)
    for line, payload in zip(lines, said, strict=True):
        line.wait_heard(payload)


def test_a_call_that_the_switch_holds_hears_what_is_injected(switch: FreeSwitch, open_line: OpenLine) -> None:
    line = open_line("park")
    switch.cli(f"uuid_hold {line.call.call_id}")
    wait_until(lambda: not line.call.media.sending)
    line.say(noise(8000, 0.2), "during")
    switch.cli(f"uuid_hold off {line.call.call_id}")
    wait_until(lambda: line.call.media.sending)
    line.tap.wait_finished("during")
    assert not_whole([line]) == []


def test_a_paused_queue_keeps_its_place(open_line: OpenLine) -> None:
    line = open_line("park", "L16/8000")
    pcm = noise(8000, 0.8)
    line.say(pcm)
    line.call.wait_packets(12)
    assert line.tap.command("pause inject") == "+OK"
    queued = wait_until(lambda: not (s := line.tap.status()["inject"])["playing"] and s["queued"])
    time.sleep(0.3)
    paused = line.tap.status()["inject"]
    assert (paused["queued"], paused["paused"], paused["underruns"]) == (queued, True, 0)
    assert line.tap.command("resume inject") == "+OK"
    line.tap.wait_finished()
    time.sleep(0.1)
    heard = line.call.media.codec.decode(heard_in_order(line.call))
    rest = pcm[-2 * queued :]
    before, found, _ = heard.partition(rest)
    assert found, "what was left when it was paused is not heard to the sample"
    faded_ms = 10  # what was playing at the pause is faded out, and counts as heard
    first = pcm[: len(pcm) - len(rest) - 2 * 8 * faded_ms]
    assert first in before
    assert peaks(before[-2 * 8 * 200 :], 8000).max() == 0


# ---- sizes, packet times, rates ----------------------------------------------------------------------------


def test_every_packet_time(open_line: OpenLine) -> None:
    lines = [open_line("park", codec, ptime) for ptime in (10, 20, 30, 40) for codec in ("PCMU", "L16/16000")]
    assert not_whole(lines, 0.6) == []  # a multiple of all
    for line in lines:
        sizes = {len(packet.payload) for packet in line.call.media.audio_packets()}
        assert sizes == {line.call.media.codec.frame_bytes(round(line.call.media.ptime_s * 1000))}


def test_chunks_of_any_size(open_line: OpenLine) -> None:
    """Odd ones too: a sample may be split between two. Paused meanwhile: writing is not to be a race."""
    lines = [open_line("silence", "L16/16000") for _ in range(5)]
    said = []
    for line, chunk_bytes in zip(lines, (1, 159, 1334, 4801, 16001), strict=True):
        line.tap.do("pause", directions=["inject"])
        said.append(line.say(noise(16000, 0.4, chunk_bytes), chunk_bytes=chunk_bytes))
        line.tap.do("resume", directions=["inject"])
    for line, payload in zip(lines, said, strict=True):
        line.wait_heard(payload)
        assert line.tap.status()["inject"]["underruns"] == 0


def test_the_length_of_an_utterance_does_not_have_to_be_a_frames(open_line: OpenLine) -> None:
    """The last frame is filled up with silence, and the next utterance begins with a frame of its own."""
    line = open_line("park", "L16/8000")
    for size in (1, 159, 161, 1000):
        pcm = noise(8000, size / 8000, size)
        payload = line.say(pcm, str(size))
        line.wait_heard(payload, str(size))
        filled = payload + bytes(-len(payload) % 320)
        assert filled in heard_in_order(line.call)


def test_g711_calls_take_linear_audio_too(open_line: OpenLine) -> None:
    """The call's codec encodes it: what G.711 can say exactly comes out exactly."""
    for codec in ("PCMU", "PCMA"):
        line = open_line("park", codec)
        payload = line.call.media.codec.encode(noise(8000, 0.3))
        line.tap.inject(line.call.media.codec.decode(payload))
        line.wait_heard(payload)


@pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
def test_other_rates_keep_level_and_length(open_line: OpenLine, rate_hz: int) -> None:
    lines = [open_line("park", codec) for codec in ("PCMU", "L16/8000", "L16/16000")]
    pcm = tone(rate_hz, 0.6, 1000)
    for line in lines:
        line.tap.inject(pcm, rate_hz=rate_hz, chunk_bytes=1334)
    for line in lines:
        mark = line.tap.wait_finished()
        assert mark["played_ms"] == mark["written_ms"] == pytest.approx(600, abs=1)
        time.sleep(0.1)
        heard = line.call.media.codec.decode(heard_in_order(line.call))
        start_ms, end_ms = audible_span(heard, line.rate_hz)
        assert end_ms - start_ms == pytest.approx(600, abs=10)
        middle = heard[int(start_ms + 50) * line.rate_hz // 500 : int(end_ms - 50) * line.rate_hz // 500]
        assert level_db(middle) == pytest.approx(level_db(pcm), abs=0.3)
        assert frequency_hz(middle, line.rate_hz) == pytest.approx(1000, abs=2)


def test_a_call_that_changes_its_rate(open_line: OpenLine) -> None:
    """PCMU, then L16 at 16 kHz, and back: the stream keeps its own rate, and both ways are resampled."""
    line = open_line("park")
    line.tap.capture()
    for codec, fit in (("L16/16000", 0.97), ("PCMA", 0.99), ("PCMU", 0.99)):
        change_codec(line.call, codec)
        line.call.wait_packets(5)
        first = len(line.call.packets)
        line.tap.inject(chirp(8000, 0.6), codec)
        said = line.call.say(chirp(line.rate_hz, 0.6))
        line.tap.wait_finished(codec)
        assert said.wait(5)
        line.call.wait_packets(10)
        heard = b"".join(packet.payload for packet in line.call.packets[first:])
        pcm = line.call.media.codec.decode(heard)
        assert similarity(pcm, chirp(line.rate_hz, 0.6))[0] > fit
        start_ms, end_ms = audible_span(pcm, line.rate_hz)
        assert end_ms - start_ms == pytest.approx(600, abs=15)
        assert similarity(line.tap.captured()[-16000:], chirp(8000, 0.6))[0] > fit
    assert line.tap.status()["callRate"] == 8000
    assert not_whole([line]) == []


# ---- neighbours --------------------------------------------------------------------------------------------


def test_several_streams_on_one_call(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    others = [Line(line.call, probe.start(line.call, name)) for name in ("second", "third")]
    for seed, each in enumerate((line, *others)):
        each.wait_heard(each.say(noise(8000, 0.3, seed)))
    others[0].tap.stop()
    for seed, each in enumerate((line, others[1])):
        each.wait_heard(each.say(noise(8000, 0.3, seed + 10), "again"), "again")
    states = json.loads(probe.command(line.call.call_id, "status"))["streams"]
    assert {state["streamId"]: state["inject"]["played"] for state in states} == {"main": 4800, "third": 4800}


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_a_recording_has_what_the_caller_hears(
    switch: FreeSwitch, open_line: OpenLine, tmp_path: Path, kind: str
) -> None:
    line = open_line("park")
    file = tmp_path / "call.wav"
    if kind == "stereo":
        switch.cli(f"uuid_setvar {line.call.call_id} RECORD_STEREO true")
    assert switch.cli(f"uuid_record {line.call.call_id} start {file}").startswith("+OK")
    line.call.wait_packets(15)  # what FreeSWITCH reads before the caller's first packet is not quite silent
    payload = line.say(noise(8000, 0.5))
    line.wait_heard(payload)
    line.call.wait_packets(5)
    switch.cli(f"uuid_record {line.call.call_id} stop all")
    line.call.wait_packets(5)
    with wave.open(str(file)) as wav:
        sides = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, wav.getnchannels())
    assert sides.shape[1] == (2 if kind == "stereo" else 1)
    assert line.call.media.codec.decode(payload) in sides[:, -1].tobytes()
