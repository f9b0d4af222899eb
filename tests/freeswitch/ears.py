"""What tests say and how they judge what they hear. Audio is s16 mono bytes; rates in Hz."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall

_QUIETEST = 64  # G.711 has a negative zero, which no linear sample stands for: stay clear of it


def noise(rate_hz: int, duration_s: float = 1.0, seed: int = 1, peak: int = 30000) -> bytes:
    """Loud noise: no two stretches of it are alike, and no sample is near 0."""
    random = np.random.default_rng(seed)
    count = int(rate_hz * duration_s)
    return (random.integers(_QUIETEST, peak, count) * random.choice([-1, 1], count)).astype("<i2").tobytes()


def tone(rate_hz: int, duration_s: float = 1.0, frequency_hz: float = 440.0, peak: int = 8000) -> bytes:
    at_s = np.arange(int(rate_hz * duration_s)) / rate_hz
    return (peak * np.sin(2 * np.pi * frequency_hz * at_s)).astype("<i2").tobytes()


def chirp(rate_hz: int, duration_s: float = 1.0, peak: int = 9000) -> bytes:
    """From 300 to 3000 Hz: no two stretches are alike, and codecs of speech carry it well."""
    at_s = np.arange(int(rate_hz * duration_s)) / rate_hz
    turns = 300 * at_s + 0.5 * (3000 - 300) / duration_s * at_s**2
    return (peak * np.sin(2 * np.pi * turns)).astype("<i2").tobytes()


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(float)


def level_db(pcm: bytes) -> float:
    """RMS relative to full scale; -120 for silence."""
    power = float(np.mean(samples(pcm) ** 2)) if pcm else 0.0
    return 10 * np.log10(max(power / 32768.0**2, 1e-12))


def frequency_hz(pcm: bytes, rate_hz: int) -> float:
    """The strongest frequency."""
    values = samples(pcm)
    spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values))))
    return float(np.argmax(spectrum) * rate_hz / len(values))


def heard_in_order(call: SipCall) -> bytes:
    """The payloads received, one after the other as they were sent, whatever their timestamps say."""
    return b"".join(packet.payload for packet in call.media.audio_packets())


def gaps(call: SipCall) -> int:
    """Places where what the caller hears is interrupted: time passes between two audible packets."""
    codec, packets = call.media.codec, call.media.audio_packets()
    loud = [max(samples(codec.decode(packet.payload))) > AUDIBLE_PEAK for packet in packets]
    step = len(packets[0].payload) // codec.sample_bytes
    steps = [(after.timestamp - before.timestamp) % 2**32 for before, after in pairwise(packets)]
    return sum(all(both) and passed != step for passed, both in zip(steps, pairwise(loud), strict=True))


def peaks(pcm: bytes, rate_hz: int, frame_ms: int = 20) -> np.ndarray:
    """The loudest sample of each whole frame."""
    size = rate_hz * frame_ms // 1000
    values = np.abs(samples(pcm))
    return values[: len(values) // size * size].reshape(-1, size).max(axis=1)


def audible_span(pcm: bytes, rate_hz: int) -> tuple[float, float]:
    """(first, last) audible sample in ms from the start. Raises AssertionError for silence."""
    loud = np.flatnonzero(np.abs(samples(pcm)) > AUDIBLE_PEAK)
    assert len(loud), "nothing was heard"
    return loud[0] * 1000 / rate_hz, (loud[-1] + 1) * 1000 / rate_hz


def similarity(heard: bytes, said: bytes) -> tuple[float, int]:
    """(correlation from -1 to 1, offset in samples) where `said` fits best into `heard`."""
    long, short = samples(heard), samples(said)
    size = 1 << int(np.ceil(np.log2(len(long) + len(short))))
    products = np.fft.irfft(np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size)), size)
    products = products[: len(long) - len(short) + 1]
    energy = np.cumsum(np.concatenate([[0.0], long**2]))
    window = np.sqrt(np.maximum(energy[len(short) :] - energy[: -len(short)], 1e-9) * np.sum(short**2))
    at = int(np.argmax(products / window))
    return float((products / window)[at]), at
