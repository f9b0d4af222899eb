"""The model's audio into the stream, item by item, under the generation that the conversation says."""

from __future__ import annotations

import base64
import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream, StreamClosed, StreamNotFound
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Action, EndItem
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.conversation.requests import Done
from ivr_ai.downlink import Downlink
from ivr_ai.outbox import Outbox

NOW_S = 100.0
S16, PCMU = Format("s16", 8000), Format("pcmu", 8000)


class Transport:
    """Notes what becomes of audio that is held back."""

    def __init__(self) -> None:
        self.routed: list[tuple[str, int | None]] = []

    def route(self, response_id: str, generation: int | None) -> None:
        self.routed.append((response_id, generation))


class Rig:
    """A downlink, its conversation and a stream that nobody plays unless told."""

    def __init__(self) -> None:
        self.stream = HostStream.create(str(uuid.uuid4()), inject_max_ms=1000)
        self.talk = Conversation(Settings(realtime_url="ws://localhost/"))
        self.talk.generation = self.stream.generation
        self.did: list[Action] = []
        self.complaints: list[tuple[str, str]] = []
        self.transport = Transport()
        self.outbox = Outbox(self.flush, self._perform)
        self.it = Downlink(self.talk, self.outbox, lambda *words: self.complaints.append(words))

    def _perform(self, action: Action) -> None:
        self.did.append(action)
        if isinstance(action, EndItem):
            self.stream.end(action.item)

    def flush(self) -> list[Action]:
        flushed = self.stream.flush()
        marks = []
        for item in self.talk.unheard_items():
            with contextlib.suppress(StreamNotFound):  # what is held back has not been written
                marks.append(self.stream.mark(item))
        return self.talk.flushed(flushed, marks, NOW_S)

    def caller_starts(self) -> None:
        self.outbox.decide(lambda: self.talk.caller_started(NOW_S))

    def delta(self, audio: bytes | str = b"\1\0" * 80, said: Format = S16, **event: Any) -> None:
        delta = base64.b64encode(audio).decode() if isinstance(audio, bytes) else audio
        event = {"response_id": "r1", "item_id": "i1", "delta": delta, **event}
        self.it.delta(event, self.stream, said, NOW_S)

    def queued(self, response: str = "r1", item: str = "i1", **event: Any) -> None:
        event = {"first": True, "generation": 0, "mark": 1001, **event}
        self.it.queued(
            {"response_id": response, "item_id": item, **event}, self.stream, self.transport, NOW_S
        )

    def written_ms(self, item: str = "i1") -> float:
        return self.stream.mark(item).written_ms

    def begun(self, response: str = "r1") -> Rig:
        self.talk.response_created(response, "", NOW_S)
        return self


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.stream.close()


class TestDeltas:
    """Over the python transport."""

    def test_audio_is_queued_under_its_item(self, rig):
        rig.begun().delta()
        rig.delta()
        rig.delta(item_id="i2")
        assert (rig.written_ms("i1"), rig.written_ms("i2")) == (20.0, 10.0)
        assert rig.complaints == []

    def test_it_is_converted_from_the_format_the_server_says(self, rig):
        rig.begun().delta(b"\xff" * 160, PCMU)
        assert rig.written_ms() == 20.0

    def test_an_item_is_complete_when_the_next_begins(self, rig):
        rig.begun().delta()
        rig.delta(item_id="i2")
        assert rig.did == [EndItem("i1")]
        assert rig.stream.mark("i1").ended

    def test_samples_may_be_split_anywhere(self, rig):
        rig.begun()
        for part in (b"\1", b"\0\1\0\1", b"\0"):
            rig.delta(part)
        assert rig.written_ms() == 3 / 8
        assert rig.complaints == []

    def test_what_comes_of_a_response_after_the_caller_cut_it_is_dropped(self, rig):
        rig.begun().delta()
        rig.caller_starts()
        rig.delta()
        rig.delta(item_id="i2")
        assert rig.stream.stats().inject_queued_samples == 0
        assert rig.talk.unheard_items() == []

    def test_audio_before_there_is_a_stream(self, rig):
        rig.it.delta({"response_id": "r1", "item_id": "i1", "delta": ""}, None, S16, NOW_S)
        ((about, message),) = rig.complaints
        assert about == "malformed"
        assert "before it was asked to" in message

    @pytest.mark.parametrize(
        "event", [{"item_id": None}, {"item_id": 7}, {"delta": None}, {"delta": {}}, {"item_id": ["i1"]}]
    )
    def test_a_malformed_delta_is_complained_of(self, rig, event):
        rig.begun().delta(**event)
        assert [about for about, _ in rig.complaints] == ["malformed"]

    @pytest.mark.parametrize("delta", ["*not base64*", "AAA", "AA==AA", "AAAA\n"])
    def test_what_is_not_base64_is_complained_of_and_the_reply_goes_on(self, rig, delta):
        rig.begun().delta(delta)
        assert [about for about, _ in rig.complaints] == ["base64"]
        rig.delta()
        assert rig.written_ms() == 10.0

    @pytest.mark.parametrize("response_id", [None, 7])
    def test_a_server_that_does_not_say_of_which_response_it_is(self, rig, response_id):
        rig.delta(response_id=response_id)
        assert rig.written_ms() == 10.0

    def test_a_reply_that_is_too_long_loses_its_end_and_that_is_said(self, rig):
        rig.begun()
        for _ in range(30):
            rig.delta(b"\1\0" * 800)
        assert 500.0 < rig.written_ms() <= 1000.0
        assert {about for about, _ in rig.complaints} == {"full"}

    def test_a_stream_that_is_closed_is_told_to_whoever_delivers(self, rig):
        rig.begun().delta()
        rig.stream.close()
        with pytest.raises(StreamClosed):
            rig.delta()

    def test_an_empty_delta(self, rig):
        rig.begun().delta(b"")
        assert rig.complaints == []


class TestQueued:
    """Over the native transport: the audio is in the stream already, or held back."""

    def test_what_is_held_back_is_let_in_under_the_current_generation(self, rig):
        rig.begun().queued()
        assert rig.transport.routed == [("r1", rig.stream.generation)]
        assert rig.talk.unheard_items() == ["i1"]

    def test_what_is_not_held_back_needs_no_word(self, rig):
        rig.begun().queued(generation=1)
        assert rig.transport.routed == []
        assert rig.talk.unheard_items() == ["i1"]

    def test_a_response_that_the_caller_has_cut_is_dropped(self, rig):
        rig.begun().queued()
        rig.caller_starts()
        rig.queued(item="i2", mark=1002)
        assert rig.transport.routed == [("r1", 1), ("r1", None)]
        assert rig.talk.unheard_items() == []

    def test_a_response_of_which_nobody_has_heard_yet(self, rig):
        rig.queued("r7", "i7", mark=1007)
        assert rig.transport.routed == [("r7", rig.stream.generation)]

    def test_news_of_an_item_that_has_been_heard_meanwhile_is_no_news(self, rig):
        """Written by C before it knew: taken up again, the item would never be heard to its end."""
        rig.queued(first=False, generation=1)
        assert rig.talk.unheard_items() == []
        assert rig.transport.routed == []

    def test_more_of_an_item_that_is_being_said(self, rig):
        rig.begun().queued()
        rig.queued(first=False, generation=1)
        assert rig.talk.unheard_items() == ["i1"]

    def test_the_item_goes_by_the_librarys_mark(self, rig):
        rig.begun().queued(mark=4711)
        assert rig.stream._marks["i1"] == 4711

    def test_the_item_before_is_complete(self, rig):
        rig.begun().delta()
        rig.queued(item="i2", mark=1002)
        assert rig.did == [EndItem("i1")]

    def test_after_its_response_is_over(self, rig):
        rig.begun().queued()
        rig.talk.response_done(Done("r1"), NOW_S)
        rig.queued(first=False, generation=1)
        assert rig.talk.unheard_items() == ["i1"]
