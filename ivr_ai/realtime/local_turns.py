"""Turn taking without the server's VAD: for OPENAI_INPUT_MODE=item and OPENAI_TURN_DETECTION=none.

The stream knows whether somebody speaks (a level over a tracked noise floor, once per frame, in C).
LocalTurns makes turns of that: a turn begins with the first speech, and is over after
VAD_SILENCE_DURATION_MS of silence or after IVR_AI_UTTERANCE_MAX_S; after the latter, only silence, or as
much time again, lets another one begin. A turn's audio begins VAD_PREFIX_PADDING_MS before the first
speech; what lies between turns is never part of one.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Turn(Enum):
    """What a chunk did to the caller's turn."""

    NOTHING = "nothing"
    STARTED = "started"
    STOPPED = "stopped"


class Fed(NamedTuple):
    """What became of a chunk. audio: what of the turn is to be sent now; empty where whole turns are kept."""

    turn: Turn
    audio: bytes


class LocalTurns:
    """Not thread-safe: belongs to the uplink."""

    def __init__(
        self, bytes_per_ms: float, silence_ms: int, prefix_ms: int, max_ms: float, *, whole: bool
    ) -> None:
        """whole: keep the turn's audio for take() (item mode), instead of giving it out as it comes."""
        self._bytes_per_ms = bytes_per_ms
        self._silence_ms = silence_ms
        self._prefix_bytes = int(prefix_ms * bytes_per_ms) // 2 * 2  # whole samples, of one byte or two
        self._max_bytes = int(max_ms * bytes_per_ms)
        self._whole = whole
        self._kept = bytearray()  # between turns the padding; in a turn, where whole, all of it
        self._said_bytes = 0  # of this turn
        self._speaking = False
        self._rest_bytes = 0  # after a turn that was cut at its maximum: how long noise begins no other

    def feed(self, chunk: bytes, silent_ms: float) -> Fed:
        """Takes the next captured chunk. silent_ms: how long ago, at its end, speech was last on the line."""
        if not self._speaking:
            return self._between(chunk, silent_ms)
        self._said_bytes += len(chunk)
        if self._whole:
            self._kept += chunk
        silent, long = silent_ms >= self._silence_ms, self._said_bytes >= self._max_bytes
        over = silent or long
        self._speaking = not over
        self._rest_bytes = self._max_bytes if long and not silent else 0
        return Fed(Turn.STOPPED if over else Turn.NOTHING, b"" if self._whole else chunk)

    def _between(self, chunk: bytes, silent_ms: float) -> Fed:
        self._kept += chunk
        # A line that is never silent would begin the next turn at once, and interrupt the answer to this one.
        self._rest_bytes = 0 if silent_ms >= self._silence_ms else max(0, self._rest_bytes - len(chunk))
        if silent_ms >= len(chunk) / self._bytes_per_ms or self._rest_bytes:
            surplus = len(self._kept) - self._prefix_bytes
            if surplus > 0:
                del self._kept[:surplus]
            return Fed(Turn.NOTHING, b"")
        self._speaking, self._said_bytes = True, len(chunk)
        return Fed(Turn.STARTED, b"" if self._whole else self.take())

    @property
    def whole(self) -> bool:
        """Whether turns are kept whole, for take()."""
        return self._whole

    def take(self) -> bytes:
        """What has been kept of the turn, its padding included."""
        said = bytes(self._kept)
        self._kept.clear()
        return said
