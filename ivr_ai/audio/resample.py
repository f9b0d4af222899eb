"""Resampling of s16 mono audio for prompts, caches and whole utterances.

The live path of a call resamples in C (speexdsp), inside the stream; nothing here is called per frame.
Three back ends, the best one installed is chosen at first use:

    soxr        libsoxr HQ                   pip install soxr
    samplerate  libsamplerate, sinc_medium   pip install samplerate
    audioop     linear interpolation         standard library to 3.12, from 3.13 on pip install audioop-lts

audioop has no anti-aliasing filter: it keeps a machine without the other two talking, no more. The
environment variable RESAMPLE_BACKEND (or the `backend` argument) forces one; empty or "auto" chooses.

Errors: ResampleError (ValueError) for bad input, ResampleUnavailable (RuntimeError) when no back end can be
loaded.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any, Protocol

BACKENDS = ("soxr", "samplerate", "audioop")
_PIP_NAMES = {"soxr": "soxr", "samplerate": "samplerate", "audioop": "audioop-lts"}


class ResampleError(ValueError):
    """The audio or the rates cannot be resampled."""


class ResampleUnavailable(RuntimeError):
    """No back end, or not the one asked for, can be loaded; the message says what to install."""


class _Stream(Protocol):
    """One back end's streaming state. The last call has last=True and pcm that may be empty."""

    def process(self, pcm: bytes, last: bool) -> bytes: ...


class Resampler:
    """Resamples one utterance in pieces, without clicks at the seams. Belongs to one thread at a time."""

    def __init__(self, from_hz: int, to_hz: int, backend: str | None = None) -> None:
        _check_rates(from_hz, to_hz)
        self._from_hz, self._to_hz = from_hz, to_hz
        self._stream = None if from_hz == to_hz else _STREAMS[choose_backend(backend)](from_hz, to_hz)
        self._in_samples = 0
        self._out_samples = 0

    def process(self, pcm: bytes) -> bytes:
        """Takes s16 mono bytes and returns what is ready, which may be nothing yet. Raises ResampleError."""
        _check_pcm(pcm)
        if self._stream is None or not pcm:
            return pcm
        self._in_samples += len(pcm) // 2
        out = self._stream.process(pcm, False)
        self._out_samples += len(out) // 2
        return out

    def flush(self) -> bytes:
        """Ends the utterance and returns its tail: in all there were in * to_hz / from_hz samples (+-1)."""
        if self._stream is None or not self._in_samples:
            return b""
        tail = self._stream.process(b"", True)
        wanted = round(self._in_samples * self._to_hz / self._from_hz) - self._out_samples
        self._in_samples = self._out_samples = 0
        self._stream = _STREAMS[self._stream.name](self._from_hz, self._to_hz)
        return _fit(tail, max(0, wanted))


def resample(pcm: bytes, from_hz: int, to_hz: int, backend: str | None = None) -> bytes:
    """Resamples a whole utterance of s16 mono bytes. Equal rates give back the very same object.

    Raises ResampleError for an odd number of bytes or a rate that is not positive, ResampleUnavailable
    without a back end.
    """
    _check_rates(from_hz, to_hz)
    _check_pcm(pcm)
    if from_hz == to_hz or not pcm:
        return pcm
    resampler = Resampler(from_hz, to_hz, backend)
    return resampler.process(pcm) + resampler.flush()


def available_backends() -> tuple[str, ...]:
    """The back ends that can be loaded here, best first."""
    return tuple(name for name in BACKENDS if _load(name) is not None)


def choose_backend(name: str | None = None) -> str:
    """Name of the back end to use: `name`, else RESAMPLE_BACKEND, else the best available.

    Raises ResampleError for a name that does not exist, ResampleUnavailable for one that is not installed.
    """
    wanted = (name or os.environ.get("RESAMPLE_BACKEND", "")).strip().lower()
    if wanted in ("", "auto"):
        return _best()
    if wanted not in BACKENDS:
        raise ResampleError(f"RESAMPLE_BACKEND={wanted!r} is unknown: use auto, {', '.join(BACKENDS)}")
    if _load(wanted) is None:
        raise ResampleUnavailable(f"RESAMPLE_BACKEND={wanted}: it is not installed; {_hint([wanted])}")
    return wanted


def _best() -> str:
    for name in BACKENDS:
        if _load(name) is not None:
            return name
    raise ResampleUnavailable(f"no resampling back end is installed; {_hint(BACKENDS)}")


def _hint(names: list[str] | tuple[str, ...]) -> str:
    return "run: " + "  or  ".join(f"pip install {_PIP_NAMES[name]}" for name in names)


_modules: dict[str, Any] = {}


def _load(name: str) -> Any:
    """The back end's module, or None. The answer is kept; two threads asking at once find the same one."""
    if name not in _modules:
        try:
            with warnings.catch_warnings():  # audioop announces its end in 3.11 and 3.12
                warnings.simplefilter("ignore", DeprecationWarning)
                _modules[name] = importlib.import_module(name)
        except ImportError:
            _modules[name] = None
    return _modules[name]


def _check_pcm(pcm: bytes) -> None:
    if len(pcm) % 2:
        raise ResampleError(f"cannot resample {len(pcm)} bytes: not a whole number of 16-bit samples")


def _check_rates(from_hz: int, to_hz: int) -> None:
    if from_hz <= 0 or to_hz <= 0:
        raise ResampleError(f"cannot resample from {from_hz} Hz to {to_hz} Hz: rates must be positive")


def _fit(pcm: bytes, samples: int) -> bytes:
    """Cuts to `samples`, or holds the last sample for the one or two that a back end's rounding left out."""
    missing = samples - len(pcm) // 2
    if missing <= 0:
        return pcm[: samples * 2]
    return pcm + (pcm[-2:] or b"\x00\x00") * missing


class _Soxr:
    name = "soxr"

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = _load("soxr").ResampleStream(from_hz, to_hz, 1, dtype="int16", quality="HQ")
        self._numpy = importlib.import_module("numpy")

    def process(self, pcm: bytes, last: bool) -> bytes:
        samples = self._numpy.frombuffer(pcm, dtype="<i2")
        return self._stream.resample_chunk(samples, last=last).tobytes()


class _Samplerate:
    name = "samplerate"

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = _load("samplerate").Resampler("sinc_medium", channels=1)
        self._ratio = to_hz / from_hz
        self._tail_samples = max(from_hz, to_hz) // 20
        self._numpy = importlib.import_module("numpy")

    def process(self, pcm: bytes, last: bool) -> bytes:
        numpy = self._numpy
        samples = numpy.frombuffer(pcm, dtype="<i2").astype("f4") / 32768
        if last:  # the binding returns no more than its input is worth: silence pushes the filter's tail out
            samples = numpy.zeros(self._tail_samples, dtype="f4")
        out = self._stream.process(samples, self._ratio, end_of_input=last)
        return numpy.clip(numpy.rint(out * 32768), -32768, 32767).astype("<i2").tobytes()


class _Audioop:
    name = "audioop"

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._ratecv: Callable[..., tuple[bytes, Any]] = _load("audioop").ratecv
        self._rates = (from_hz, to_hz)
        self._state: Any = None

    def process(self, pcm: bytes, last: bool) -> bytes:
        out, self._state = self._ratecv(pcm, 2, 1, *self._rates, self._state)
        return out


_STREAMS: dict[str, Any] = {kind.name: kind for kind in (_Soxr, _Samplerate, _Audioop)}
