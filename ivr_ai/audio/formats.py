"""What a piece of audio is (encoding and rate), how much of it there is, and WAV files.

Everything here is mono. "s16" is signed 16-bit little-endian PCM, "pcmu" and "pcma" are G.711 mu-law and
A-law. Functions take and return bytes, keep no state and may be called from any thread.
"""

from __future__ import annotations

import os
import wave
from array import array
from collections.abc import Mapping
from typing import IO, NamedTuple

ENCODINGS = ("s16", "pcmu", "pcma")
RATE_MIN_HZ = 8000
RATE_MAX_HZ = 48000
G711_RATE_HZ = 8000
REALTIME_PCM_HZ = 24000

_SAMPLE_BYTES = {"s16": 2, "pcmu": 1, "pcma": 1}
_SILENCE = {"s16": b"\x00\x00", "pcmu": b"\xff", "pcma": b"\xd5"}
_GA_NAMES = {"s16": "audio/pcm", "pcmu": "audio/pcmu", "pcma": "audio/pcma"}
_BETA_NAMES = {"s16": "pcm16", "pcmu": "g711_ulaw", "pcma": "g711_alaw"}
_BY_WIRE_NAME = {name: enc for names in (_GA_NAMES, _BETA_NAMES) for enc, name in names.items()}


class FormatError(ValueError):
    """An audio format, file or buffer is not what it has to be; the message says what is allowed."""


class Format(NamedTuple):
    """Encoding ("s16", "pcmu" or "pcma") and sampling rate in Hz of mono audio."""

    encoding: str
    rate_hz: int

    def validate(self) -> Format:
        """Returns itself. Raises FormatError for an unknown encoding or a rate it cannot have."""
        if self.encoding not in ENCODINGS:
            raise FormatError(
                f"audio encoding {self.encoding!r} is unknown: use one of {', '.join(ENCODINGS)}"
            )
        if self.encoding != "s16" and self.rate_hz != G711_RATE_HZ:
            raise FormatError(f"{self.encoding} at {self.rate_hz} Hz: G.711 is always {G711_RATE_HZ} Hz")
        if not RATE_MIN_HZ <= self.rate_hz <= RATE_MAX_HZ:
            raise FormatError(f"sampling rate {self.rate_hz} Hz is outside {RATE_MIN_HZ}-{RATE_MAX_HZ} Hz")
        return self

    @property
    def bytes_per_sample(self) -> int:
        return _SAMPLE_BYTES[self.encoding]

    def bytes_for_ms(self, ms: float) -> int:
        """Bytes in `ms` milliseconds, rounded down to whole samples."""
        return int(self.rate_hz * ms // 1000) * self.bytes_per_sample

    def ms_for_bytes(self, size_bytes: int) -> float:
        """Milliseconds that `size_bytes` bytes last."""
        return size_bytes * 1000 / (self.rate_hz * self.bytes_per_sample)

    def silence(self, ms: float) -> bytes:
        """`ms` milliseconds of silence, rounded down to whole samples."""
        return _SILENCE[self.encoding] * (self.bytes_for_ms(ms) // self.bytes_per_sample)

    @property
    def ga_name(self) -> str:
        """Name in the GA dialect of OpenAI Realtime, for instance "audio/pcmu"."""
        return _GA_NAMES[self.encoding]

    @property
    def beta_name(self) -> str:
        """Name in the beta dialect of OpenAI Realtime, for instance "g711_ulaw". It carries no rate."""
        return _BETA_NAMES[self.encoding]

    @property
    def ga_wire(self) -> dict[str, object]:
        """The format object of a GA session: the rate goes with PCM only."""
        wire: dict[str, object] = {"type": self.ga_name}
        return {**wire, "rate": self.rate_hz} if self.encoding == "s16" else wire

    @classmethod
    def from_wire(cls, wire: str | Mapping[str, object], pcm_rate_hz: int = REALTIME_PCM_HZ) -> Format:
        """Reads a GA object or name, or a beta name. `pcm_rate_hz` is meant where PCM names no rate.

        Raises FormatError for anything else.
        """
        name, rate = (wire, None) if isinstance(wire, str) else (wire.get("type"), wire.get("rate"))
        encoding = _BY_WIRE_NAME.get(name) if isinstance(name, str) else None
        if encoding is None:
            raise FormatError(f"audio format {wire!r} is unknown: use one of {', '.join(_BY_WIRE_NAME)}")
        default_hz = pcm_rate_hz if encoding == "s16" else G711_RATE_HZ
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int)):
            raise FormatError(f"audio format {wire!r}: rate must be a number of Hz")
        return cls(encoding, default_hz if rate is None else rate).validate()


def convert(data: bytes, source: Format, target: Format) -> bytes:
    """Converts a whole utterance. Equal formats give back the very same object.

    Raises FormatError, or resample.ResampleError where the rates differ and cannot be brought together.
    """
    if source == target:
        return data
    pcm = _decode(data, source)
    if source.rate_hz != target.rate_hz:
        from ivr_ai.audio import resample  # only the rare path needs a back end

        pcm = resample.resample(pcm, source.rate_hz, target.rate_hz)
    return _encode(pcm, target)


def _decode(data: bytes, source: Format) -> bytes:
    if source.encoding == "s16":
        return whole_samples(data)
    from ivr_ai.audio import g711  # the C extension is loaded for G.711 only

    return g711.pcmu_decode(data) if source.encoding == "pcmu" else g711.pcma_decode(data)


def _encode(pcm: bytes, target: Format) -> bytes:
    if target.encoding == "s16":
        return pcm
    from ivr_ai.audio import g711

    return g711.pcmu_encode(pcm) if target.encoding == "pcmu" else g711.pcma_encode(pcm)


def whole_samples(pcm: bytes) -> bytes:
    """Returns `pcm`. Raises FormatError when it is not a whole number of 16-bit samples."""
    if len(pcm) % 2:
        raise FormatError(
            f"{len(pcm)} bytes are not a whole number of 16-bit samples: one byte is missing or too many"
        )
    return pcm


# ---- WAV files ---------------------------------------------------------------------------------------------


def read_wav(source: str | os.PathLike[str] | IO[bytes]) -> tuple[bytes, int]:
    """Reads a PCM WAV file of any width and number of channels: (s16 mono bytes, rate in Hz).

    Channels are averaged. Raises FormatError, naming the file, for anything but PCM, and OSError for a file
    it cannot open.
    """
    name = getattr(source, "name", "the stream") if hasattr(source, "read") else os.fspath(source)
    try:
        with wave.open(source if hasattr(source, "read") else os.fspath(source), "rb") as wav:
            width, channels, rate_hz = wav.getsampwidth(), wav.getnchannels(), wav.getframerate()
            frames = wav.readframes(wav.getnframes())
    except (wave.Error, EOFError) as error:
        why = str(error) or "it ends before the audio begins"
        raise FormatError(
            f"{name} is not a PCM WAV file ({why}): save it as 16-bit PCM, uncompressed"
        ) from error
    if not RATE_MIN_HZ <= rate_hz <= RATE_MAX_HZ:
        raise FormatError(f"{name} has {rate_hz} Hz: {RATE_MIN_HZ}-{RATE_MAX_HZ} Hz are allowed")
    frames = frames[: len(frames) // (width * channels) * width * channels]
    return _downmix(_to_s16(frames, width), channels), rate_hz


def write_wav(
    target: str | os.PathLike[str] | IO[bytes], pcm: bytes, rate_hz: int, channels: int = 1
) -> None:
    """Writes s16 samples (interleaved when there are several channels) as a WAV file."""
    if len(whole_samples(pcm)) % (2 * channels):
        raise FormatError(f"{len(pcm)} bytes are not a whole number of frames of {channels} 16-bit channels")
    with wave.open(target if hasattr(target, "write") else os.fspath(target), "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(2)
        wav.setframerate(rate_hz)
        wav.writeframes(pcm)


def _to_s16(frames: bytes, width: int) -> bytes:
    """Samples of `width` bytes to 16 bits: 8-bit WAV is unsigned, wider ones keep their upper two bytes."""
    if width == 2:
        return frames
    out = bytearray(len(frames) // width * 2)
    if width == 1:
        out[1::2] = frames.translate(bytes((value - 128) & 0xFF for value in range(256)))
    else:
        out[0::2] = frames[width - 2 :: width]
        out[1::2] = frames[width - 1 :: width]
    return bytes(out)


def _downmix(pcm: bytes, channels: int) -> bytes:
    if channels == 1:
        return pcm
    samples = array("h", pcm)
    sides = [samples[side::channels] for side in range(channels)]
    return array("h", (sum(frame) // channels for frame in zip(*sides, strict=True))).tobytes()
