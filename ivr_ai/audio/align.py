"""Both directions of a call on one time line, for hosts and recordings written in Python. See
audio_stream_align.h.

What comes at a moment is placed by the clock; jitter shorter than the delay is not heard, and directions
that drift are moved in pauses.
"""

from __future__ import annotations

import time

from ivr_ai._audio_stream import ffi, lib

NEAR = lib.AS_ALIGN_NEAR  # what the caller says
FAR = lib.AS_ALIGN_FAR  # what the caller hears
FRAME_MS = lib.AS_ALIGN_FRAME_MS


class Align:
    """One time line. put() belongs to one thread for each side, take() to one thread at a time."""

    def __init__(self, rate_hz: int, delay_ms: int, now_s: float | None = None) -> None:
        """delay_ms: more than any block lasts that is put. Times are time.monotonic() seconds; now where
        None.

        Raises MemoryError.
        """
        line = lib.as_align_new(rate_hz, delay_ms, _ns(now_s))
        if line == ffi.NULL:
            raise MemoryError("no memory for a time line")
        self._line = ffi.gc(line, lib.as_align_free)
        self._near = ffi.new("int16_t[]", lib.AS_ALIGN_FRAME_MAX)
        self._far = ffi.new("int16_t[]", lib.AS_ALIGN_FRAME_MAX)

    def put(self, side: int, pcm: bytes, now_s: float | None = None) -> None:
        """Puts s16 mono samples that came just now on a side, NEAR or FAR."""
        samples = ffi.from_buffer("int16_t[]", pcm)
        lib.as_align_put(self._line, side, samples, len(pcm) // 2, _ns(now_s))

    def take(self, now_s: float | None = None) -> tuple[bytes, bytes] | None:
        """The next frame of both sides, equally long s16 mono; None when it is not time yet."""
        count = lib.as_align_take(self._line, self._near, self._far, _ns(now_s))
        if count == 0:
            return None
        return bytes(ffi.buffer(self._near, count * 2)), bytes(ffi.buffer(self._far, count * 2))

    @property
    def held_s(self) -> float:
        """How long after it came the last sample can be taken."""
        return lib.as_align_held_ns(self._line) / 1e9


def _ns(now_s: float | None) -> int:
    return int((time.monotonic() if now_s is None else now_s) * 1e9)
