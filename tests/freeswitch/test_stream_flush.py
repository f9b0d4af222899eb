"""Flushing a stream on real calls: silence within two frames, and the truth about what was heard."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pytest
from ears import heard_in_order, noise, peaks
from lines import Line, at_once, not_whole
from support.rtp import AUDIBLE_PEAK
from taps import wait_until

OpenLine = Callable[..., Line]
FADE_SAMPLES = 80  # 10 ms at 8000 Hz, the default
FRAME_MS = 20

pytestmark = pytest.mark.usefixtures("stream_switch")


def flush_in_the_middle(line: Line, pcm: bytes, after_s: float) -> dict[str, Any]:
    """Injects, flushes after a while, and waits until the silence has been heard for 10 frames."""
    line.say(pcm)
    time.sleep(after_s)
    flushed = line.tap.do("flush")
    line.call.wait_packets(12)
    return flushed


def decoded(line: Line) -> np.ndarray:
    return np.frombuffer(line.call.media.codec.decode(heard_in_order(line.call)), "<i2").astype(int)


def check_what_was_heard(line: Line, pcm: bytes, played_ms: float) -> None:
    """To the sample: all up to the fade, the fade, and nothing after it."""
    exact = line.call.media.codec.decode(line.call.media.codec.encode(pcm))
    said, heard = np.frombuffer(exact, "<i2").astype(int), decoded(line)
    played = round(played_ms * 8)
    start = int(np.argmax(np.abs(heard) > AUDIBLE_PEAK))
    start -= int(np.argmax(np.abs(said) > AUDIBLE_PEAK))
    whole = played - FADE_SAMPLES
    assert np.array_equal(heard[start : start + whole], said[:whole])
    left = np.linspace(1, 0, FADE_SAMPLES, endpoint=False) ** 4
    faded = np.abs(heard[start + whole : start + played] - said[whole:played] * left)
    assert faded.max() <= (1 if line.encoding == "s16" else np.abs(said).max() / 32)  # a step of G.711
    assert not heard[start + played :].any()


def test_what_was_heard_is_known_to_the_sample(open_line: OpenLine) -> None:
    lines = [open_line(where, codec) for where in ("park", "silence") for codec in ("PCMU", "L16/8000")]
    chance, flushes = random.Random(3), {}

    def work(number: int, line: Line, after_s: float) -> None:
        pcm = noise(8000, 3.0, number)
        flushes[number] = pcm, flush_in_the_middle(line, pcm, after_s)

    at_once(partial(work, number, line, chance.uniform(0.1, 0.6)) for number, line in enumerate(lines))
    for number, line in enumerate(lines):
        pcm, flushed = flushes[number]
        check_what_was_heard(line, pcm, flushed["played_ms"]["item"])
        inject = line.tap.status()["inject"]
        assert inject["played"] == round(flushed["played_ms"]["item"] * 8)
        assert inject["played"] + inject["flushed"] == inject["written"] == 24000
        assert (inject["flushes"], inject["queued"]) == (1, 0)


def test_silence_within_two_frames(open_line: OpenLine) -> None:
    """From the flush to the arrival of the last packet with anything in it. The best of three medians."""
    lines = [open_line(extension) for extension in ("park", "tone", "sleep", "echo", "silence")]
    medians = []
    for attempt in range(3):
        late_ms: list[float] = []

        def work(line: Line, seed: int, late_ms: list[float] = late_ms) -> None:
            flushed = flush_in_the_middle(line, noise(8000, 2.0, seed), 0.3 + seed / 700)
            assert flushed["took_s"] < 0.1
            loud = [p for p in line.call.media.levels() if p[1] > 12000]  # the tone in the dialplan is not
            late_ms.append((loud[-1][0] - flushed["at_s"]) * 1000)

        at_once(partial(work, line, seed) for seed, line in enumerate(lines, 10 * attempt))
        medians.append(median(late_ms))
        if medians[-1] <= 2 * FRAME_MS:
            return
    pytest.fail(f"the last sound came a median of {medians} ms after the flush")


def test_only_what_was_cut_short_is_reported(open_line: OpenLine) -> None:
    line = open_line("park")
    for item, seconds in (("finished", 0.2), ("cut", 1.0), ("never begun", 0.5)):
        line.say(noise(8000, seconds), item)
    time.sleep(0.5)
    played_ms = line.tap.do("flush")["played_ms"]
    assert list(played_ms) == ["cut", "never begun"]
    assert 100 < played_ms["cut"] < 500
    assert played_ms["never begun"] == 0
    assert line.tap.mark("finished")["finished"]
    cut = line.tap.mark("cut")
    assert (cut["flushed"], cut["finished"], cut["played_ms"]) == (True, False, played_ms["cut"])


def test_audio_of_a_flushed_generation_is_never_heard(open_line: OpenLine) -> None:
    line = open_line("park")
    first = line.tap.do("info")["generation"]
    line.say(noise(8000, 1.0), generation=first, end=False)
    time.sleep(0.2)
    second = line.tap.do("flush")["generation"]
    assert second > first
    heard = len(heard_in_order(line.call))
    late = line.tap.inject(noise(8000, 0.5), "late", generation=first)
    assert late["taken"] is False
    line.call.wait_packets(15)
    after = line.call.media.codec.decode(heard_in_order(line.call)[heard + 320 :])
    assert peaks(after, 8000).max() == 0
    assert line.tap.status()["inject"]["stale_writes"] == 1
    line.wait_heard(line.say(noise(8000, 0.3, 2), "new", generation=second), "new")


def test_flushing_silence_changes_nothing(open_line: OpenLine) -> None:
    line = open_line("tone")
    line.call.wait_packets(10)
    before = line.tap.do("info")["generation"]
    flushed = line.tap.do("flush")
    assert (flushed["played_ms"], flushed["generation"]) == ({}, before + 1)
    line.call.wait_packets(10)
    quietest = peaks(line.call.media.codec.decode(heard_in_order(line.call)[-1600:]), 8000).min()
    assert quietest > AUDIBLE_PEAK
    assert not_whole([line], 0.3) == []


def test_a_flush_while_the_far_end_holds_the_call(open_line: OpenLine) -> None:
    line = open_line("park")
    line.say(noise(8000, 2.0), "old")
    line.call.wait_packets(10)
    line.call.hold()
    played_ms = line.tap.do("flush")["played_ms"]["old"]
    payload = line.say(noise(8000, 0.3, 2), "new")
    line.call.unhold()
    line.wait_heard(payload, "new")
    assert line.tap.mark("old")["played_ms"] == played_ms
    heard, _, _ = heard_in_order(line.call).partition(payload)
    loud = np.abs(np.frombuffer(line.call.media.codec.decode(heard), "<i2").astype(int)) > AUDIBLE_PEAK
    assert np.flatnonzero(loud)[-1] + 1 == pytest.approx(played_ms * 8, abs=FRAME_MS * 8)


def test_a_flush_while_paused(open_line: OpenLine) -> None:
    line = open_line("park")
    line.say(noise(8000, 2.0), "old")
    line.call.wait_packets(10)
    line.tap.do("pause", directions=["inject"])
    wait_until(lambda: not line.tap.status()["inject"]["playing"])
    queued = line.tap.status()["inject"]["queued"]
    played_ms = line.tap.do("flush")["played_ms"]["old"]
    assert played_ms == 2000 - queued / 8
    line.tap.do("resume", directions=["inject"])
    line.wait_heard(line.say(noise(8000, 0.3, 2), "new"), "new")
