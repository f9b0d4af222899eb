"""One thread for the events of all: whom they reach, in which order, and what harms nobody else."""

from __future__ import annotations

import json
import queue
import threading
import uuid

import pytest
from ivr_ai._audio_stream import lib

from ivr_ai.audio.delivery import Delivery
from ivr_ai.audio.stream import HostStream


class Noting:
    """Notes what is delivered, and on which thread."""

    def __init__(self) -> None:
        self.got: queue.Queue[dict] = queue.Queue()
        self.threads: set[threading.Thread] = set()

    def deliver(self, text: bytes) -> None:
        self.threads.add(threading.current_thread())
        self.got.put(json.loads(text))

    def next(self) -> str:
        return self.got.get(timeout=5)["type"]


@pytest.fixture
def delivery():
    delivery = Delivery()
    yield delivery
    lib.as_events_end(delivery.events)


@pytest.fixture
def stream():
    with HostStream.create(str(uuid.uuid4())) as stream:
        yield stream


def begin(delivery: Delivery, receiver, stream: HostStream) -> int:
    tags: list[int] = []

    def start(tag: int) -> None:
        tags.append(tag)
        assert lib.as_stream_subscribe(stream.handle, delivery.events, tag) == 0

    delivery.begin(receiver, start)
    return tags[0]


def test_each_receiver_gets_its_own_on_one_thread(delivery, stream):
    with HostStream.create(str(uuid.uuid4())) as other_stream:
        one, other = Noting(), Noting()
        begin(delivery, one, stream)
        begin(delivery, other, other_stream)
        stream.tell({"type": "a"})
        other_stream.tell({"type": "b"})
        stream.tell({"type": "c"})
        assert (one.next(), one.next(), other.next()) == ("a", "c", "b")
        assert len(one.threads | other.threads) == 1


def test_nothing_is_delivered_after_forget(delivery, stream):
    noting = Noting()
    tag = begin(delivery, noting, stream)
    stream.tell({"type": "a"})
    assert noting.next() == "a"
    delivery.forget(tag)
    stream.tell({"type": "b"})
    with pytest.raises(queue.Empty):
        noting.got.get(timeout=0.05)


def test_one_that_raises_harms_no_other(delivery, stream, caplog):
    class Raising:
        def deliver(self, text: bytes) -> None:
            raise RuntimeError("a fault of this call")

    with HostStream.create(str(uuid.uuid4())) as other_stream:
        noting = Noting()
        begin(delivery, Raising(), stream)
        begin(delivery, noting, other_stream)
        stream.tell({"type": "a"})
        other_stream.tell({"type": "b"})
        assert noting.next() == "b"
    assert "a fault of this call" in caplog.text


def test_what_cannot_be_started_is_not_delivered_to(delivery):
    def start(tag: int) -> None:
        raise ValueError("cannot")

    with pytest.raises(ValueError, match="cannot"):
        delivery.begin(Noting(), start)
    assert delivery._receivers == {}
