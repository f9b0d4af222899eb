"""What the caller says, on its way to the model over the python transport."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import StreamClosed
from ivr_ai.config import Settings
from ivr_ai.conversation.caller import Caller
from ivr_ai.realtime.transport import TransportClosed
from ivr_ai.uplink import CAPTURE_TIMEOUT_MS, MESSAGE_BYTES, PADDING_MS, Unanswered, Uplink, chunks_ms

S16 = Format("s16", 8000)
MS = 16  # bytes
LOST = TransportClosed(1006, "")


def chunk(n: int, ms: int = 20) -> bytes:
    return bytes([n]) * (ms * MS)


class Stream:
    """Gives what it was made with, audio and how long ago its last speech was; then the call is over.

    A function among that is called when its turn comes.
    """

    def __init__(self, *captured: bytes | tuple[bytes, float] | Callable[[], object]) -> None:
        self._captured = list(captured)
        self._silent_ms = 0.0
        self.timeouts_ms: list[int] = []

    def capture(self, timeout_ms: int) -> bytes:
        self.timeouts_ms.append(timeout_ms)
        while self._captured:
            given = self._captured.pop(0)
            if not callable(given):
                audio, self._silent_ms = given if isinstance(given, tuple) else (given, 0.0)
                return audio
            given()
        raise StreamClosed("over")

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
    """An uplink of a call, and the caller of the call."""

    def __init__(
        self,
        *captured: Any,
        lasts: int = 1000,
        before: Rig | None = None,
        caller: Caller | None = None,
        heard: Format = S16,
        goes_on: int = 1000,
        **settings: Any,
    ) -> None:
        """before: of the link that was lost. goes_on: how many chunks the link is the current one."""
        self.stream, self.transport = Stream(*captured), Transport(lasts)
        self.turns: list[Any] = []
        if before is None:
            chosen = {"vad_silence_ms": 60, "vad_prefix_ms": 20, "turn_detection": "none", **settings}
            self.caller = speaker = caller or Caller()
            memory = Unanswered(Settings(realtime_url="ws://localhost/", **chosen), lambda: speaker.is_open)
        else:
            self.caller, memory = before.caller, before.memory
        self.memory = memory
        left = iter(range(goes_on))
        self.it = Uplink(self.stream, self.transport, heard, lambda: next(left, None) is not None, memory)

    def run_audio(self) -> None:
        """As a call does; returns when the link or the call is over."""
        with contextlib.suppress(TransportClosed, StreamClosed):
            self.it.resend()
            self.it.run_audio()

    def run_turns(self) -> None:
        """As a call does; returns when the link or the call is over."""

        def started() -> None:
            self.caller.starts(1.0)
            self.turns.append(("started", len(self.transport.sent)))

        def stopped(audio: str | None) -> None:
            self.caller.stops(0.0)
            self.turns.append(("stopped", len(self.transport.sent), audio))

        with contextlib.suppress(TransportClosed, StreamClosed):
            self.it.resend()
            self.it.run_turns(started, stopped)

    def answer(self) -> None:
        self.caller.stops(0.0)
        self.caller.is_answered(self.caller.turn)


class TestAudio:
    """All that is captured, where the server detects turns."""

    def test_chunk_by_chunk_until_the_call_is_over(self):
        rig = Rig(chunk(1), chunk(2), chunk(3))
        with pytest.raises(StreamClosed):
            rig.it.run_audio()
        assert rig.transport.sent == [chunk(1), chunk(2), chunk(3)]
        assert rig.memory.unsent == b""
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
        assert rig.memory.unsent == chunk(2)

    def test_and_goes_first_over_the_next_link(self):
        lost = Rig(chunk(1), chunk(2), lasts=1)
        lost.run_audio()
        rig = Rig(chunk(3), chunk(4), before=lost)
        rig.it.resend()
        assert rig.transport.sent == [chunk(2)]
        rig.it.resend()
        rig.run_audio()
        assert rig.transport.sent == [chunk(2), chunk(3), chunk(4)]
        assert rig.memory.unsent == b""

    def test_through_two_lost_links_nothing_is_lost_or_sent_twice(self):
        said = [chunk(n) for n in range(1, 7)]
        sent, stream, rig = b"", Stream(*said), None
        for lasts in (2, 0, 1000):
            rig = Rig(lasts=lasts, before=rig)
            rig.it._stream = stream
            rig.run_audio()
            sent += b"".join(rig.transport.sent)
        assert sent == b"".join(said)
        assert rig.memory.unsent == b""


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
        rig.run_turns()
        assert rig.transport.sent == [chunk(2) + chunk(3), chunk(4), chunk(5)]
        assert rig.turns == [("started", 0), ("stopped", 3, None)]

    def test_whole_in_item_mode(self):
        rig = Rig(*self.SPOKEN, input_mode="item")
        rig.run_turns()
        assert rig.transport.sent == []
        started, (stopped, _, audio) = rig.turns
        assert (started, stopped) == (("started", 0), "stopped")
        assert base64.b64decode(audio) == chunk(2) + chunk(3) + chunk(4) + chunk(5)

    @pytest.mark.parametrize("mode", ["buffer", "item"])
    def test_one_that_never_ends_is_cut_at_its_maximum(self, mode):
        """As much again goes by before the next one begins."""
        rig = Rig(*[(chunk(7), 0.0)] * 160, input_mode=mode, utterance_max_s=1)
        rig.run_turns()
        kinds = [turn[0] for turn in rig.turns]
        assert kinds == ["started", "stopped"] * 2
        if mode == "item":
            whole = [base64.b64decode(turn[2]) for turn in rig.turns if turn[0] == "stopped"]
            assert [len(turn) for turn in whole] == [16_000, 16_000 + 20 * MS]

    def test_what_could_not_be_sent_of_a_turn_is_kept(self):
        rig = Rig(*self.SPOKEN, lasts=1)
        rig.run_turns()
        assert rig.memory.unsent == chunk(4)
        assert rig.turns == [("started", 0)]


class TestUnanswered:
    """What the next link is given of what was said over a lost one."""

    def lost_in_a_turn(self, *said: bytes, between: tuple[bytes, ...] = (), **settings: Any) -> Rig:
        """A link that is lost when all but the last of a turn has been sent."""
        caller = Caller()
        lasts = len(between) + len(said) - 1
        rig = Rig(*between, lambda: caller.starts(1.0), *said, lasts=lasts, caller=caller, **settings)
        rig.run_audio()
        return rig

    def resent(self, before: Rig, heard: Format = S16) -> bytes:
        rig = Rig(before=before, heard=heard)
        rig.it.resend()
        return b"".join(rig.transport.sent)

    def test_an_open_turn_and_what_was_unsent(self):
        rig = self.lost_in_a_turn(chunk(1), chunk(2), chunk(3))
        assert rig.memory.unsent == chunk(3)
        assert self.resent(rig) == chunk(1) + chunk(2) + chunk(3)

    def test_a_turn_that_is_over_and_not_answered_is_still_open(self):
        rig = self.lost_in_a_turn(chunk(1), chunk(2))
        rig.caller.stops(0.0)
        assert self.resent(rig) == chunk(1) + chunk(2)

    def test_of_an_answered_turn_only_what_was_unsent(self):
        rig = self.lost_in_a_turn(chunk(1), chunk(2), chunk(3))
        rig.answer()
        assert self.resent(rig) == chunk(3)

    def test_an_open_turn_whole_over_every_next_link(self):
        first = self.lost_in_a_turn(chunk(1), chunk(2))
        second = Rig(chunk(3), chunk(4), lasts=2, before=first)
        second.run_audio()
        assert second.transport.sent == [chunk(1) + chunk(2), chunk(3)]
        assert self.resent(second) == chunk(1) + chunk(2) + chunk(3) + chunk(4)

    def test_the_padding_before_a_turn(self):
        """The service tells of a turn when it has begun."""
        between = tuple(chunk(n) for n in range(1, 61))
        rig = self.lost_in_a_turn(chunk(100), chunk(101), between=between)
        assert self.resent(rig) == b"".join(between[-PADDING_MS // 20 :]) + chunk(100) + chunk(101)

    def test_no_more_than_the_longest_turn(self):
        said = [chunk(n) for n in range(1, 101)]
        rig = self.lost_in_a_turn(*said, utterance_max_s=1)
        assert self.resent(rig) == b"".join(said[-51:-1]) + said[-1]

    @pytest.mark.parametrize("heard", [Format("pcmu", 8000), Format("s16", 24000)], ids=str)
    def test_another_format_drops_everything(self, heard):
        rig = self.lost_in_a_turn(chunk(1), chunk(2), chunk(3))
        turns = rig.memory.turns
        assert self.resent(rig, heard) == b""
        assert self.resent(rig) == b""
        assert rig.memory.turns is not turns

    @pytest.mark.parametrize("mode", ["buffer", "item"])
    def test_a_turn_goes_on_over_the_next_link(self, mode):
        first = Rig((chunk(1), 0.0), (chunk(2), 20.0), goes_on=2, input_mode=mode)
        first.run_turns()
        second = Rig((chunk(3), 40.0), (chunk(4), 60.0), before=first)
        second.run_turns()
        assert [turn[0] for turn in first.turns + second.turns] == ["started", "stopped"]
        whole = b"".join(chunk(n) for n in range(1, 5))
        if mode == "buffer":
            assert b"".join(second.transport.sent) == whole
        else:
            assert base64.b64decode(second.turns[0][2]) == whole

    def test_an_answered_turn_is_not_sent_with_the_next(self):
        """Where the call detects turns, nothing is sent between them; padding is part of the turn."""
        caller = Caller()
        one, two = ((chunk(1), 0.0), (chunk(2), 60.0)), ((chunk(3), 80.0), (chunk(4), 0.0))
        rig = Rig(*one, lambda: caller.is_answered(1), *two, caller=caller)
        rig.run_turns()
        assert [turn[0] for turn in rig.turns] == ["started", "stopped", "started"]
        assert self.resent(rig) == chunk(3) + chunk(4)

    def test_in_messages_of_a_bounded_size(self):
        rig = self.lost_in_a_turn(*(chunk(n, 1000) for n in range(1, 8)))
        after = Rig(before=rig)
        after.it.resend()
        sizes = [len(message) for message in after.transport.sent]
        assert sizes == [MESSAGE_BYTES, MESSAGE_BYTES, 7 * 1000 * MS - 2 * MESSAGE_BYTES]


@pytest.mark.parametrize(
    ("frame_ms", "quiet_ms", "chunks"), [(20, 100, (20, 100)), (40, 40, (40, 40)), (20, 20, (20, 20))]
)
def test_in_silence_chunks_are_never_shorter_than_while_the_caller_speaks(frame_ms, quiet_ms, chunks):
    settings = Settings(realtime_url="ws://localhost/", frame_ms=frame_ms, quiet_chunk_ms=quiet_ms)
    assert chunks_ms(settings) == chunks
