"""Streams on real calls: the application gets what the caller says, bit by bit."""

from __future__ import annotations

import time
import wave
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from ears import audible_span, chirp, level_db, noise, similarity
from lines import CODECS, TRIES, Line, at_once, far_end
from support.sip import SipCall, SipCaller
from taps import Probe, wait_until

NewCaller = Callable[..., SipCaller]
OpenLine = Callable[..., Line]

pytestmark = pytest.mark.usefixtures("stream_switch")


def say_and_capture(line: Line, pcm: bytes) -> bool:
    """Whether the caller's s16 audio is in what is captured, to the bit.

    FreeSWITCH skips what comes while the machine stalls for longer than a frame: three tries, each whole.
    """
    codec = line.call.media.codec
    wanted = codec.encode(pcm) if line.encoding != "s16" else pcm
    line.call.wait_packets(5)  # a start makes FreeSWITCH throw away what waits to be read
    for _ in range(TRIES):
        assert line.call.say(pcm).wait(len(pcm) / 2 / line.rate_hz + 5)
        time.sleep(0.3)  # quiet chunks come in tenths of a second
        if wanted in line.tap.captured():
            return True
    return False


@pytest.mark.parametrize("extension", ["park", "tone", "bridge-sofia-music"])
def test_every_bit_is_captured(open_line: OpenLine, extension: str) -> None:
    lines = [open_line(extension, codec) for codec in CODECS]
    for line in lines:
        line.tap.capture(line.encoding, line.rate_hz)
    said = [noise(line.rate_hz, 0.5, seed) for seed, line in enumerate(lines)]
    found = at_once(partial(say_and_capture, line, pcm) for line, pcm in zip(lines, said, strict=True))
    assert found == [True] * len(CODECS)
    for line in lines:
        capture = line.tap.status()["capture"]
        assert capture["dropped"] == capture["overruns"] == capture["paused_samples"] == 0


def test_every_packet_time(open_line: OpenLine) -> None:
    lines = [open_line("park", codec, ptime) for ptime in (10, 30, 40) for codec in ("PCMA", "L16/16000")]
    for line in lines:
        line.tap.capture(line.encoding, line.rate_hz)
    found = at_once(partial(say_and_capture, line, noise(line.rate_hz, 0.48)) for line in lines)
    assert found == [True] * len(lines)


def test_capture_and_inject_do_not_mix(open_line: OpenLine) -> None:
    line = open_line("park")
    line.tap.capture("pcmu")
    payload = line.say(noise(8000, 0.6, 7))
    assert say_and_capture(line, noise(8000, 0.5, 8))
    line.wait_heard(payload)


@pytest.mark.parametrize(("codec", "rate_hz"), [("PCMU", 24000), ("L16/16000", 8000), ("L16/16000", 24000)])
def test_other_rates(open_line: OpenLine, codec: str, rate_hz: int) -> None:
    """The same, as loud and as long: three tries as in say_and_capture(), each with a call of its own."""
    seen = []
    for _ in range(TRIES):
        line = open_line("park", codec)
        line.tap.capture("s16", rate_hz)
        line.call.wait_packets(5)  # FreeSWITCH drops what comes while it sets up its end of the RTP
        assert line.call.say(chirp(line.rate_hz, 0.5)).wait(5)
        time.sleep(0.3)
        heard, wanted = line.tap.captured(), chirp(rate_hz, 0.5)
        fit, at = similarity(heard, wanted)
        off_db = level_db(heard[2 * at :][:rate_hz]) - level_db(wanted)
        start_ms, end_ms = audible_span(heard, rate_hz)
        seen.append((fit, off_db, end_ms - start_ms))
        if fit > 0.97 and abs(off_db) < 0.2 and abs(end_ms - start_ms - 500) < 5:  # delays are whole samples
            return
    pytest.fail(f"(similarity, level in dB, length in ms) of what was captured: {seen}")


def captured_as_recorded(probe: Probe, call: SipCall, file: Path) -> bool:
    """Whether the caller's voice is in what is captured as FreeSWITCH records it, to the bit.

    Not where packets come late, which they do all the time in an unlucky call: the recording then has holes,
    which a stream closes.
    """
    uuid = far_end(probe, call)
    probe.esl.api(f"uuid_setvar {uuid} RECORD_READ_ONLY true")
    tap = probe.start(uuid)
    tap.capture("s16", 48000)
    assert probe.esl.api(f"uuid_record {uuid} start {file}").startswith("+OK")
    call.wait_packets(10)
    assert call.say(chirp(16000, 0.6)).wait(5)
    time.sleep(0.3)
    probe.esl.api(f"uuid_record {uuid} stop all")
    call.wait_packets(10)
    with wave.open(str(file)) as wav:
        assert wav.getframerate() == 48000
        recorded = wav.readframes(wav.getnframes())
    start_ms, end_ms = audible_span(recorded, 48000)
    voice = recorded[int(start_ms) * 96 : int(end_ms) * 96]
    return 500 < end_ms - start_ms < 700 and voice in tap.captured()


def test_an_opus_leg(probe: Probe, new_caller: NewCaller, tmp_path: Path) -> None:
    """What Opus makes of the caller's voice is not ours: to the bit what FreeSWITCH's own recording has."""
    caller = new_caller("L16/16000")
    calls = (caller.call("bridge-opus-park").wait_answered() for _ in range(2 * TRIES))
    assert any(captured_as_recorded(probe, call, tmp_path / f"{n}.wav") for n, call in enumerate(calls))


def test_every_stream_of_a_call_captures_the_same(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    second = Line(line.call, probe.start(line.call, "second"))
    for each in (line, second):
        each.tap.capture("pcmu")
    assert say_and_capture(line, noise(8000, 0.4))
    assert line.call.media.codec.encode(noise(8000, 0.4)) in second.tap.captured()


def add_later(probe: Probe, witness: Line) -> Line:
    """A second stream on the call. It gets each frame first: what the witness has captured, it has had."""
    witness.tap.capture()
    return Line(witness.call, probe.start(witness.call, "later", "inbound"))


def test_a_paused_capture_drops_and_counts(probe: Probe, open_line: OpenLine) -> None:
    witness = open_line("park", "L16/8000")
    line = add_later(probe, witness)
    line.tap.capture()
    first, second, third = (noise(8000, 0.4, seed) for seed in (1, 2, 3))
    assert say_and_capture(line, first)
    assert line.tap.command("pause capture") == "+OK"
    had = witness.tap.status()["capture"]["samples"]
    assert say_and_capture(witness, second)  # read to the end: nothing of it is left for after the pause
    passed = witness.tap.status()["capture"]["samples"] - had
    paused = line.tap.status()["capture"]
    assert line.tap.command("resume capture") == "+OK"
    assert say_and_capture(line, third)
    assert paused["paused"]
    assert paused["paused_samples"] >= passed - 160 >= 0.5 * 8000  # a frame may be on its way at the pause
    assert not line.tap.status()["capture"]["paused"]
    pieces = (second[start : start + 32] for start in range(0, len(second), 320))
    assert not [piece for piece in pieces if piece in line.tap.captured()]
    assert line.tap.status()["inject"]["paused"] is False


def test_a_reader_that_lags_loses_nothing(open_line: OpenLine) -> None:
    """The ring keeps half a minute: what was said before anybody read comes first."""
    line = open_line("park", "L16/8000")
    pcm = noise(8000, 0.8)
    line.call.wait_packets(5)
    line.call.say(pcm).wait(5)
    time.sleep(0.3)
    assert line.tap.status()["capture"]["read"] == 0
    line.tap.capture()
    wait_until(lambda: pcm in line.tap.captured() or say_and_capture(line, pcm))
    assert line.tap.status()["capture"]["dropped"] == 0


def last_words_are_read(probe: Probe, witness: Line, pcm: bytes) -> bool:
    """Whether all that is said up to a hangup can be read after it.

    The moment of sending would not do: packets wait before they are read, for a whole call after a stall.
    """
    line = add_later(probe, witness)
    line.tap.do("info")  # attached: the stream's audio stays while somebody holds it
    line.call.wait_packets(5)
    line.call.say(pcm)
    with suppress(AssertionError):  # FreeSWITCH may have skipped it: then it is for the next try
        wait_until(lambda: pcm[-320:] in witness.tap.captured(), every_s=0.001)
    probe.esl.api(f"uuid_kill {line.call.call_id}")
    line.call.wait_ended(5)
    wait_until(lambda: not probe.do("open_now", uuid=line.call.call_id))
    line.tap.capture()
    wait_until(lambda: not line.tap.reading())
    return pcm in line.tap.captured()


def test_the_last_words_are_read_after_a_hangup(probe: Probe, open_line: OpenLine) -> None:
    lines = (open_line("park", "L16/8000") for _ in range(TRIES))
    assert any(last_words_are_read(probe, line, noise(8000, 0.5)) for line in lines)
