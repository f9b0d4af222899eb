"""What the caller says, on its way to the model.

With the native transport, libaudiostream's service threads read the capture ring and nothing is done here.
With the python
transport, a thread of the call reads it and sends what the caller says: all of it where the server detects
turns, whole
turns where the call does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import Stream
from ivr_ai.config import Settings
from ivr_ai.realtime.local_turns import LocalTurns, Turn

if TYPE_CHECKING:
    from ivr_ai.realtime.websocket_client import WebSocketTransport

CAPTURE_TIMEOUT_MS = 1000


def chunks_ms(settings: Settings) -> tuple[int, int]:
    """How much of the caller to send at a time while they speak, and in silence."""
    return settings.frame_ms, max(settings.frame_ms, settings.quiet_chunk_ms)


class Uplink:
    """Sends over one link's python transport. run_...() belong to one thread, and return when goes_on() is
    false.

    They raise StreamClosed when the call is over, TransportClosed when the link is gone; then `unsent` is
    what was
    captured and could not be sent.
    """

    def __init__(
        self,
        stream: Stream,
        transport: WebSocketTransport,
        settings: Settings,
        heard: Format,
        goes_on: Callable[[], bool],
        unsent: bytes = b"",
    ) -> None:
        """heard: the format in which the model is to hear the caller. unsent: of the uplink before, goes
        first."""
        self._stream, self._transport, self._settings = stream, transport, settings
        self._heard, self._goes_on = heard, goes_on
        self.unsent = unsent

    def _send(self, audio: bytes) -> None:
        self.unsent += audio
        if self.unsent:
            self._transport.send_audio(self.unsent)
            self.unsent = b""

    def run_audio(self) -> None:
        """Sends all that is captured: the server detects turns."""
        while self._goes_on():
            self._send(self._stream.capture(CAPTURE_TIMEOUT_MS))

    def run_turns(self, started: Callable[[], None], stopped: Callable[[str | None], None]) -> None:
        """Sends the caller's turns. stopped(): the turn as base64, or None where it was sent as it came."""
        whole = self._settings.input_mode == "item"
        turns = LocalTurns(
            self._heard.rate_hz * self._heard.bytes_per_sample / 1000,
            self._settings.vad_silence_ms,
            self._settings.vad_prefix_ms,
            self._settings.utterance_max_s * 1000,
            whole=whole,
        )
        while self._goes_on():
            chunk = self._stream.capture(CAPTURE_TIMEOUT_MS)
            if not chunk:
                continue
            turn, audio = turns.feed(chunk, self._stream.silent_ms())
            if turn is Turn.STARTED:
                started()
            self._send(audio)
            if turn is Turn.STOPPED:
                stopped(base64.b64encode(turns.take()).decode("ascii") if whole else None)
