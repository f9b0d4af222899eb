"""Turn taking without the server's VAD: for OPENAI_INPUT_MODE=item and OPENAI_TURN_DETECTION=none.

The stream knows whether somebody speaks (a level over a tracked noise floor, once per frame, in C). This
turns that into turns: begun with the first speech, over after VAD_SILENCE_DURATION_MS of silence. In item
mode it also keeps what was said, from VAD_PREFIX_PADDING_MS before the first speech on.
"""

from __future__ import annotations

from enum import Enum


class Turn(Enum):
    """What a chunk did to the caller's turn."""

    NOTHING = "nothing"
    STARTED = "started"
    STOPPED = "stopped"


class LocalTurns:
    """Not thread-safe: belongs to the uplink."""

    def __init__(self, bytes_per_ms: float, silence_ms: int, prefix_ms: int, keep: bool) -> None:
        """keep: whether to collect the utterance (item mode)."""
        self._bytes_per_ms = bytes_per_ms
        self._silence_ms = silence_ms
        self._prefix_bytes = int(prefix_ms * bytes_per_ms)
        self._keep = keep
        self._kept = bytearray()
        self._speaking = False

    def feed(self, chunk: bytes, silent_ms: float) -> Turn:
        """Takes the next captured chunk. silent_ms: how long ago, at its end, speech was last on the line."""
        if self._keep:
            self._kept += chunk
        chunk_ms = len(chunk) / self._bytes_per_ms
        if not self._speaking:
            if silent_ms < chunk_ms:
                self._speaking = True
                return Turn.STARTED
            self._trim()
        elif silent_ms >= self._silence_ms:
            self._speaking = False
            return Turn.STOPPED
        return Turn.NOTHING

    def _trim(self) -> None:
        """Between turns, keeps only the padding."""
        surplus = len(self._kept) - self._prefix_bytes
        if surplus > 0:
            del self._kept[:surplus]

    def take(self) -> bytes:
        """What was said since the turn began, its padding included; empty unless it is kept."""
        said = bytes(self._kept)
        self._kept.clear()
        return said
