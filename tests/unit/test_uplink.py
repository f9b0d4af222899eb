"""What the caller says, on its way to the model over the python transport."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import StreamClosed
from ivr_ai.config import Settings
from ivr_ai.realtime.transport import TransportClosed
from ivr_ai.uplink import CAPTURE_TIMEOUT_MS, Uplink, chunks_ms

S16 = Format("s16", 8000)
MS = 16  # bytes
LOST = TransportClosed(1006, "")


def chunk(n: int, ms: int = 20) -> bytes:
    return bytes([n]) * (ms * MS)


class Stream:
    """Gives what it was made with, audio and how long ago its last speech was; then the call is over."""

    def __init__(self, *captured: bytes | tuple[bytes, float]) -> None:
        self._captured = list(captured)
        self._silent_ms = 0.0
        self.timeouts_ms: list[int] = []

    def capture(self, timeout_ms: int) -> bytes:
        self.timeouts_ms.append(timeout_ms)
        if not self._captured:
            raise StreamClosed("over")
        given = self._captured.pop(0)
        audio, self._silent_ms = given if isinstance(given, tuple) else (given, 0.0)
        return audio

    def silent_ms(self) -> float:
        return self._silent_ms


class Transport:
    """Notes what is sent; is lost after so many messages."""

    def __init__(self, lasts: int = 1000) -> None:
        self.sent: list[bytes] = []
        self._lasts = lasts

    def send_audio(self, data: bytes) -> None:
        if len(self.sent) == self._lasts:
            raise LOST
        self.sent.append(data)


class Rig:
    def __init__(
        self, *captured: Any, lasts: int = 1000, unsent: bytes = b"", goes_on: int = 1000, **settings: Any
    ) -> None:
        """goes_on: how many chunks the link is the current one."""
        chosen = Settings(
            **{
                "realtime_url": "ws://localhost/",
                "vad_silence_ms": 60,
                "vad_prefix_ms": 20,
                "turn_detection": "none",
                **settings,
            }
        )
        self.stream, self.transport = Stream(*captured), Transport(lasts)
        self.turns: list[Any] = []
        left = iter(range(goes_on))
        self.it = Uplink(
            self.stream, self.transport, chosen, S16, lambda: next(left, None) is not None, unsent
        )

    def run_turns(self) -> None:
        self.it.run_turns(
            lambda: self.turns.append(("started", len(self.transport.sent))),
            lambda audio: self.turns.append(("stopped", len(self.transport.sent), audio)),
        )


class TestAudio:
    """All that is captured, where the server detects turns."""

    def test_chunk_by_chunk_until_the_call_is_over(self):
        rig = Rig(chunk(1), chunk(2), chunk(3))
        with pytest.raises(StreamClosed):
            rig.it.run_audio()
        assert rig.transport.sent == [chunk(1), chunk(2), chunk(3)]
        assert rig.it.unsent == b""
        assert set(rig.stream.timeouts_ms) == {CAPTURE_TIMEOUT_MS}

    def test_until_the_link_is_no_longer_the_current_one(self):
        rig = Rig(chunk(1), chunk(2), chunk(3), goes_on=2)
        rig.it.run_audio()
        assert rig.transport.sent == [chunk(1), chunk(2)]

    def test_nothing_captured_sends_nothing(self):
        rig = Rig(b"", b"", chunk(1), goes_on=3)
        rig.it.run_audio()
        assert rig.transport.sent == [chunk(1)]

    def test_what_could_not_be_sent_is_kept(self):
        rig = Rig(chunk(1), chunk(2), chunk(3), lasts=1)
        with pytest.raises(TransportClosed):
            rig.it.run_audio()
        assert rig.transport.sent == [chunk(1)]
        assert rig.it.unsent == chunk(2)

    def test_and_goes_first_over_the_next_link(self):
        rig = Rig(chunk(3), chunk(4), unsent=chunk(2), goes_on=2)
        rig.it.run_audio()
        assert rig.transport.sent == [chunk(2) + chunk(3), chunk(4)]

    def test_also_while_nothing_is_captured(self):
        rig = Rig(b"", chunk(3), unsent=chunk(2), goes_on=2)
        rig.it.run_audio()
        assert rig.transport.sent == [chunk(2), chunk(3)]

    def test_through_two_lost_links_nothing_is_lost_or_sent_twice(self):
        said = [chunk(n) for n in range(1, 7)]
        sent, unsent, stream = b"", b"", Stream(*said)
        for lasts in (2, 0, 1000):
            rig = Rig(lasts=lasts, unsent=unsent)
            rig.it._stream = stream
            with pytest.raises((TransportClosed, StreamClosed)):
                rig.it.run_audio()
            sent += b"".join(rig.transport.sent)
            unsent = rig.it.unsent
        assert sent == b"".join(said)
        assert unsent == b""


SILENT_MS = 1e6


class TestTurns:
    """Turns that the call detects."""

    SPOKEN = (
        (chunk(1), SILENT_MS),
        (chunk(2), SILENT_MS),
        (chunk(3), 0.0),
        (chunk(4), 20.0),
        b"",
        (chunk(5), 60.0),
        (chunk(6), 80.0),
    )

    def test_as_they_come_with_their_padding_and_nothing_between(self):
        rig = Rig(*self.SPOKEN)
        with pytest.raises(StreamClosed):
            rig.run_turns()
        assert rig.transport.sent == [chunk(2) + chunk(3), chunk(4), chunk(5)]
        assert rig.turns == [("started", 0), ("stopped", 3, None)]

    def test_whole_in_item_mode(self):
        rig = Rig(*self.SPOKEN, input_mode="item")
        with pytest.raises(StreamClosed):
            rig.run_turns()
        assert rig.transport.sent == []
        started, (stopped, _, audio) = rig.turns
        assert (started, stopped) == (("started", 0), "stopped")
        assert base64.b64decode(audio) == chunk(2) + chunk(3) + chunk(4) + chunk(5)

    @pytest.mark.parametrize("mode", ["buffer", "item"])
    def test_one_that_never_ends_is_cut_at_its_maximum(self, mode):
        rig = Rig(*[(chunk(7), 0.0)] * 120, input_mode=mode, utterance_max_s=1)
        with pytest.raises(StreamClosed):
            rig.run_turns()
        kinds = [turn[0] for turn in rig.turns]
        assert kinds == ["started", "stopped"] * 2 + ["started"]
        if mode == "item":
            whole = [base64.b64decode(turn[2]) for turn in rig.turns if turn[0] == "stopped"]
            assert [len(turn) for turn in whole] == [16_000] * 2

    def test_what_could_not_be_sent_of_a_turn_is_kept(self):
        rig = Rig(*self.SPOKEN, lasts=1)
        with pytest.raises(TransportClosed):
            rig.run_turns()
        assert rig.it.unsent == chunk(4)
        assert rig.turns == [("started", 0)]


@pytest.mark.parametrize(
    ("frame_ms", "quiet_ms", "chunks"), [(20, 100, (20, 100)), (40, 40, (40, 40)), (20, 20, (20, 20))]
)
def test_in_silence_chunks_are_never_shorter_than_while_the_caller_speaks(frame_ms, quiet_ms, chunks):
    settings = Settings(realtime_url="ws://localhost/", frame_ms=frame_ms, quiet_chunk_ms=quiet_ms)
    assert chunks_ms(settings) == chunks
