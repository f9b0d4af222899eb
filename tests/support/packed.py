"""Audio files: MP3 and Ogg are made by the libsndfile that the library itself needs."""

from __future__ import annotations

import ctypes
import io
import wave
from pathlib import Path

_WRITE = 0x20
_KINDS = {"mp3": 0x230000 | 0x82, "ogg": 0x200000 | 0x60}  # MPEG layer III, Vorbis


class _Info(ctypes.Structure):
    _fields_ = (
        ("frames", ctypes.c_int64),
        *((name, ctypes.c_int) for name in ("samplerate", "channels", "format", "sections", "seekable")),
    )


def sound_file(path: Path, kind: str, pcm: bytes, rate_hz: int) -> bytes:
    """What a file of this kind with mono s16 audio holds. Raises AssertionError where it cannot be made."""
    sndfile = ctypes.CDLL("libsndfile.so.1")
    sndfile.sf_open.restype = ctypes.c_void_p
    info = _Info(samplerate=rate_hz, channels=1, format=_KINDS[kind])
    file = ctypes.c_void_p(sndfile.sf_open(bytes(path), _WRITE, ctypes.byref(info)))
    assert file, f"libsndfile makes no {kind}"
    sndfile.sf_write_short.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64)
    sndfile.sf_write_short(file, pcm, len(pcm) // 2)
    sndfile.sf_close(file)
    return path.read_bytes()


def wav(pcm: bytes, rate_hz: int) -> bytes:
    """A WAV file with mono s16 audio."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm)
    return out.getvalue()
