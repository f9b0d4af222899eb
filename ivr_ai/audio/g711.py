"""ITU-T G.711 between bytes: one byte per sample on one side, s16 in host byte order on the other.

The code is the stream library's own, so that Python and the media thread agree to the bit. The GIL is
released.
"""

from __future__ import annotations

from ivr_ai._audio_stream import ffi, lib


def _encode(function, pcm: bytes) -> bytes:
    samples = len(pcm) // 2
    if samples * 2 != len(pcm):
        raise ValueError(f"s16 audio has an even number of bytes, not {len(pcm)}")
    out = bytearray(samples)
    function(ffi.from_buffer("int16_t[]", pcm), ffi.from_buffer("uint8_t[]", out), samples)
    return bytes(out)


def _decode(function, codes: bytes) -> bytes:
    out = bytearray(len(codes) * 2)
    function(ffi.from_buffer("uint8_t[]", codes), ffi.from_buffer("int16_t[]", out), len(codes))
    return bytes(out)


def pcmu_encode(pcm: bytes) -> bytes:
    """s16 samples to mu-law. Raises ValueError for half a sample."""
    return _encode(lib.as_pcmu_encode, pcm)


def pcma_encode(pcm: bytes) -> bytes:
    """s16 samples to A-law. Raises ValueError for half a sample."""
    return _encode(lib.as_pcma_encode, pcm)


def pcmu_decode(codes: bytes) -> bytes:
    """mu-law to s16 samples."""
    return _decode(lib.as_pcmu_decode, codes)


def pcma_decode(codes: bytes) -> bytes:
    """A-law to s16 samples."""
    return _decode(lib.as_pcma_decode, codes)
