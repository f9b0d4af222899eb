from __future__ import annotations

import struct
from array import array
from pathlib import Path

import numpy as np
import pytest

from ivr_ai.demo.plot import AI, CALLER, CUT, DPI, HEIGHT_IN, WIDTH_IN, draw, envelope
from ivr_ai.gateways.recording import Recording


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def pixels_of(path: Path) -> np.ndarray:
    from matplotlib import image

    return (image.imread(path)[:, :, :3] * 255).round().astype(int)


def share_of(pixels: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return float((np.abs(pixels - wanted).max(axis=2) < 12).mean())


def test_the_picture_has_its_size_and_both_waveforms_and_the_interruption(canned, tmp_path):
    path = tmp_path / "conversation.png"
    draw(canned.report(), canned.recording(), path, "A conversation")
    assert size_of(path.read_bytes()) == (int(WIDTH_IN * DPI), int(HEIGHT_IN * DPI))
    pixels = pixels_of(path)
    half = len(pixels) // 2
    assert share_of(pixels[:half], CALLER) > 0.02
    assert share_of(pixels[half:], AI) > 0.02
    assert share_of(pixels, CUT) > 0.0005


def test_a_call_without_any_sound_can_be_drawn(canned, tmp_path):
    silent = Recording(8000)
    silent.add_silence(20)
    draw(canned.build([], [], silent.ai, 8000), silent, tmp_path / "silent.png", "Nobody spoke")
    assert (tmp_path / "silent.png").stat().st_size > 1000


def test_an_envelope_keeps_every_peak():
    samples = array("h", [0] * 1000)
    samples[123], samples[777] = 32767, -32768
    seconds, low, high = envelope(samples.tobytes(), 8000, points=50)
    assert len(seconds) == len(low) == len(high) == 50
    assert high.max() == pytest.approx(1.0, abs=0.001)
    assert low.min() == -1.0
    assert seconds[high.argmax()] == pytest.approx(123 / 8000, abs=20 / 8000)
    assert len(envelope(b"", 8000, 50)[0]) == 0
