"""Both ends of a stream, for tests: the application's and the host's."""

from __future__ import annotations

import uuid
from array import array

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream, Stream

S16 = Format("s16", 8000)
PCMU = Format("pcmu", 8000)
FRAME_MS = 20
FADE_MS = 10
SILENT_FRAME = bytes(320)


def ramp(ms: int, rate_hz: int = 8000) -> bytes:
    """Loud, and different from sample to sample, so that a sample out of place shows."""
    return array("h", ((n * 37) % 16000 - 8000 for n in range(rate_hz * ms // 1000))).tobytes()


def tone(ms: int) -> bytes:
    """A level that counts as speech: a square wave of 250 Hz."""
    return array("h", (6000 if n % 32 < 16 else -6000 for n in range(8 * ms))).tobytes()


def play(host: HostStream, ms: int) -> bytes:
    """What the caller hears in so many milliseconds."""
    frame = bytes(host.rate_hz * FRAME_MS // 1000 * 2)
    return b"".join(host.host_inject(frame)[0] for _ in range(ms // FRAME_MS))


def say(host: HostStream, pcm: bytes) -> None:
    """The caller says pcm, a frame at a time."""
    for at in range(0, len(pcm), 320):
        host.host_capture(pcm[at : at + 320])


def paused(stream: Stream) -> tuple[int, int]:
    """Whether capture and inject are."""
    stats = stream.stats()
    return stats.capture_paused, stats.inject_paused


@pytest.fixture
def name() -> str:
    return f"call-{uuid.uuid4()}"


@pytest.fixture
def host(name):
    with HostStream.create(name) as stream:
        yield stream


@pytest.fixture
def app(host):
    return Stream.attach(host.uuid)
