"""What the caller says, on its way to the model.

With the native transport, libaudiostream's service threads read the capture ring and nothing is done here.
With the python transport, a thread of the call reads it and sends what the caller says: all of it where the
server detects turns, whole turns where the call does.
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
PADDING_MS = 500  # kept of what was sent between turns: the server notices a turn when it has begun
MESSAGE_BYTES = 48_000  # of audio at most


def chunks_ms(settings: Settings) -> tuple[int, int]:
    """How much of the caller to send at a time while they speak, and in silence."""
    return settings.frame_ms, max(settings.frame_ms, settings.quiet_chunk_ms)


class Unanswered:
    """What the caller has said and no answer has begun to, for the link that takes over from a lost one.

    One for each call; its uplinks use it one after the other.
    """

    def __init__(self, settings: Settings, turn_is_open: Callable[[], bool]) -> None:
        """turn_is_open: whether the caller speaks, or has spoken and not been answered."""
        self._settings = settings
        self._turn_is_open = turn_is_open
        self._format: Format | None = None
        self._said = bytearray()  # what was sent: of the open turn, or the padding before the next
        self._turns: LocalTurns | None = None
        self.unsent = b""  # what was captured and could not be sent

    def begin(self, heard: Format) -> None:
        """The next link, on which the model hears the caller in this format: what it lacks is unsent.

        What was said in another format is not given on.
        """
        if heard != self._format:
            self._format, self._turns, self.unsent = heard, None, b""
            self._said.clear()
        if self._turn_is_open():
            self.unsent = bytes(self._said) + self.unsent
        self._said.clear()

    def turn_begins(self) -> None:
        """Where the call detects turns, what was sent of a turn that has been answered is not needed any
        more."""
        if not self._turn_is_open():
            self._said.clear()

    def sent(self, audio: bytes) -> None:
        """This was sent."""
        self._said += audio
        ms = PADDING_MS if not self._turn_is_open() else int(self._settings.utterance_max_s * 1000)
        surplus = len(self._said) - (self._format.bytes_for_ms(ms) if self._format else 0)
        if surplus > 0:
            del self._said[:surplus]

    @property
    def turns(self) -> LocalTurns:
        """The caller's turns, where the call detects them; one that has begun goes on over the next link."""
        if self._turns is None:
            heard = self._format or Format("s16", self._settings.input_rate_hz)
            self._turns = LocalTurns(
                heard.rate_hz * heard.bytes_per_sample / 1000,
                self._settings.vad_silence_ms,
                self._settings.vad_prefix_ms,
                self._settings.utterance_max_s * 1000,
                whole=self._settings.input_mode == "item",
            )
        return self._turns


class Uplink:
    """Sends over one link's python transport. run_...() belong to one thread, and return when goes_on() is
    false.

    They raise StreamClosed when the call is over, TransportClosed when the link is gone; what was captured
    and could not be sent is then kept for the next link.
    """

    def __init__(
        self,
        stream: Stream,
        transport: WebSocketTransport,
        heard: Format,
        goes_on: Callable[[], bool],
        unanswered: Unanswered,
    ) -> None:
        """heard: the format in which the model is to hear the caller."""
        self._stream, self._transport, self._goes_on = stream, transport, goes_on
        self._unanswered = unanswered
        unanswered.begin(heard)

    def resend(self) -> None:
        """Sends what the link before has not been answered. Before anything else."""
        self._send(b"")

    def _send(self, audio: bytes) -> None:
        memory = self._unanswered
        memory.unsent += audio
        while memory.unsent:
            part = memory.unsent[:MESSAGE_BYTES]
            self._transport.send_audio(part)
            memory.sent(part)
            memory.unsent = memory.unsent[len(part) :]

    def run_audio(self) -> None:
        """Sends all that is captured: the server detects turns."""
        while self._goes_on():
            self._send(self._stream.capture(CAPTURE_TIMEOUT_MS))

    def run_turns(self, started: Callable[[], None], stopped: Callable[[str | None], None]) -> None:
        """Sends the caller's turns. stopped(): the turn as base64, or None where it was sent as it came."""
        turns = self._unanswered.turns
        while self._goes_on():
            chunk = self._stream.capture(CAPTURE_TIMEOUT_MS)
            if not chunk:
                continue
            turn, audio = turns.feed(chunk, self._stream.silent_ms())
            if turn is Turn.STARTED:
                self._unanswered.turn_begins()
                started()
            self._send(audio)
            if turn is Turn.STOPPED:
                stopped(base64.b64encode(turns.take()).decode("ascii") if turns.whole else None)
