"""Resampling, with every back end that is installed."""

from __future__ import annotations

import math
from array import array
from itertools import pairwise

import pytest

from ivr_ai.audio import resample as module
from ivr_ai.audio.resample import (
    BACKENDS,
    ResampleError,
    Resampler,
    ResampleUnavailable,
    available_backends,
    choose_backend,
    resample,
)

RATES = [(22050, 24000), (22050, 8000), (8000, 24000), (24000, 8000), (16000, 24000), (48000, 44100)]
MIN_SNR_DB = {"soxr": 60, "samplerate": 60, "audioop": 30}  # audioop interpolates linearly
AMPLITUDE = 10000
TONE_HZ = 440


def tone(rate_hz: int, samples: int) -> list[float]:
    return [AMPLITUDE * math.sin(2 * math.pi * TONE_HZ * i / rate_hz) for i in range(samples)]


def pcm_tone(rate_hz: int, samples: int) -> bytes:
    return array("h", map(round, tone(rate_hz, samples))).tobytes()


def snr_db(pcm: bytes, rate_hz: int) -> float:
    """Signal to noise against the ideal tone, edges (where the filter meets nothing) left out."""
    got = array("h", pcm)
    edge = rate_hz // 50
    pairs = list(zip(got, tone(rate_hz, len(got)), strict=True))[edge:-edge]
    noise = sum((a - b) ** 2 for a, b in pairs)
    return 10 * math.log10(sum(b * b for _, b in pairs) / max(noise, 1e-9))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param not in available_backends():
        pytest.skip(f"{request.param} is not installed")
    return request.param


def test_there_is_a_back_end_to_test() -> None:
    assert available_backends()


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_whole_utterance_keeps_length_and_tone(backend: str, from_hz: int, to_hz: int) -> None:
    samples = from_hz // 2 + 7
    out = resample(pcm_tone(from_hz, samples), from_hz, to_hz, backend)
    assert abs(len(out) // 2 - samples * to_hz / from_hz) <= 1
    assert snr_db(out, to_hz) > MIN_SNR_DB[backend]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_streaming_equals_whole(backend: str, from_hz: int, to_hz: int) -> None:
    pcm = pcm_tone(from_hz, from_hz // 2)
    resampler = Resampler(from_hz, to_hz, backend)
    sizes = [2, 640, 318, 4000]
    pieces, place = [], 0
    while place < len(pcm):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(resampler.process(pcm[place : place + size]))
        place += size
    streamed = array("h", b"".join(pieces) + resampler.flush())
    whole = array("h", resample(pcm, from_hz, to_hz, backend))
    assert len(streamed) == len(whole)
    assert max(abs(a - b) for a, b in zip(streamed, whole, strict=True)) <= 2


def test_loud_audio_does_not_wrap_around(backend: str) -> None:
    square = array("h", ([32767] * 40 + [-32768] * 40) * 50).tobytes()
    out = array("h", resample(square, 8000, 24000, backend))
    middle = out[len(out) // 2 - 600 : len(out) // 2 + 600]
    signs = [sample > 0 for sample in middle if abs(sample) > 20000]
    flips = sum(a != b for a, b in pairwise(signs))
    assert flips <= 11, "one sign change per edge; overshoot that wraps around would add many"


def test_a_resampler_starts_afresh_after_flush(backend: str) -> None:
    resampler = Resampler(8000, 24000, backend)
    pcm = pcm_tone(8000, 4000)
    first = resampler.process(pcm) + resampler.flush()
    assert resampler.flush() == b"", "nothing twice"
    assert resampler.process(pcm) + resampler.flush() == first


def test_odd_bytes_are_refused(backend: str) -> None:
    with pytest.raises(ResampleError, match="3 bytes: not a whole number of 16-bit samples"):
        resample(b"abc", 8000, 24000, backend)
    with pytest.raises(ResampleError, match="1 bytes"):
        Resampler(8000, 24000, backend).process(b"a")


def test_equal_rates_and_empty_input_cost_nothing(backend: str) -> None:
    pcm = pcm_tone(8000, 160)
    assert resample(pcm, 8000, 8000, backend) is pcm
    assert resample(b"", 8000, 24000, backend) == b""
    resampler = Resampler(8000, 8000, backend)
    assert resampler.process(pcm) is pcm
    assert resampler.flush() == b""


def test_rates_must_be_positive() -> None:
    with pytest.raises(ResampleError, match="must be positive"):
        resample(bytes(2), 0, 8000)


# ---- choosing ----------------------------------------------------------------------------------------------


def test_the_best_available_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESAMPLE_BACKEND", raising=False)
    assert choose_backend() == choose_backend("auto") == available_backends()[0]


def test_the_environment_forces_one_and_the_argument_wins(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("RESAMPLE_BACKEND", backend.upper())
    assert choose_backend() == backend
    monkeypatch.setenv("RESAMPLE_BACKEND", "nonsense")
    assert choose_backend(backend) == backend
    with pytest.raises(ResampleError, match="RESAMPLE_BACKEND='nonsense' is unknown: use auto, soxr"):
        choose_backend()


def test_missing_back_ends_name_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESAMPLE_BACKEND", raising=False)
    monkeypatch.setattr(module, "_modules", dict.fromkeys(BACKENDS))
    assert available_backends() == ()
    with pytest.raises(ResampleUnavailable, match=r"pip install soxr .* samplerate .* audioop-lts"):
        resample(bytes(4), 8000, 24000)
    with pytest.raises(
        ResampleUnavailable, match="audioop: it is not installed; run: pip install audioop-lts"
    ):
        choose_backend("audioop")
    monkeypatch.setattr(module, "_modules", {**dict.fromkeys(BACKENDS), "samplerate": object()})
    assert choose_backend() == "samplerate", "the next best"
