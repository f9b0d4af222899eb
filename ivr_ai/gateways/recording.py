"""What a host heard of a call: both directions, sample for sample on one time line."""

from __future__ import annotations

from array import array
from pathlib import Path

from ivr_ai.audio.formats import write_wav


class Recording:
    """Caller and AI as s16 mono in host byte order, always equally long.

    add() belongs to one thread, the host's clock.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._caller, self._ai = bytearray(), bytearray()

    def add(self, caller: bytes, ai: bytes) -> None:
        """Appends one tick. Raises ValueError when the two are not equally long."""
        if len(caller) != len(ai):
            raise ValueError(f"one tick has {len(caller)} bytes of the caller and {len(ai)} of the AI")
        self._caller += caller
        self._ai += ai

    def add_silence(self, ms: int) -> None:
        """Appends silence on both sides, for ticks that went missing: the recording keeps wall-clock time."""
        silence = bytes(self.rate_hz * ms // 1000 * 2)
        self.add(silence, silence)

    @property
    def caller(self) -> bytes:
        return bytes(self._caller)

    @property
    def ai(self) -> bytes:
        return bytes(self._ai)

    @property
    def duration_s(self) -> float:
        return len(self._caller) / 2 / self.rate_hz

    def stereo(self) -> bytes:
        """Interleaved s16, caller left and AI right."""
        both = array("h", bytes(2 * len(self._caller)))
        both[0::2] = array("h", self.caller)
        both[1::2] = array("h", self.ai)
        return both.tobytes()

    def write_wav(self, path: Path | str) -> None:
        """Writes a stereo WAV, caller left and AI right."""
        write_wav(path, self.stereo(), self.rate_hz, channels=2)
