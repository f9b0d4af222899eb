"""What a host tells a stream reaches the listener that has subscribed, in order, until the stream's end."""

from __future__ import annotations

import gc
import queue
import uuid

import pytest

from ivr_ai.audio.delivery import delivery
from ivr_ai.audio.stream import HostStream, Stream, StreamBusy, StreamClosed

KEY = {"type": "host.dtmf", "digit": "5", "duration_ms": 100}
HOLD = {"type": "host.hold"}


class Listening:
    def __init__(self) -> None:
        self.events: queue.Queue[dict] = queue.Queue()

    def on_host_event(self, event: dict) -> None:
        self.events.put(event)

    def next(self) -> dict:
        return self.events.get(timeout=5)

    def hears_nothing(self) -> bool:
        with pytest.raises(queue.Empty):
            self.events.get(timeout=0.05)
        return True


@pytest.fixture
def host():
    with HostStream.create(str(uuid.uuid4())) as stream:
        yield stream


@pytest.fixture
def app(host):
    return Stream.attach(host.uuid)


def test_events_come_in_order(host, app):
    listening = Listening()
    app.subscribe(listening)
    told = [KEY, HOLD, {"type": "host.bridged", "other_uuid": "b" * 36}, {"type": "host.unbridged"}]
    assert all(host.tell(event) for event in told)
    assert [listening.next() for _ in told] == told
    assert app.stats().host_events == 4


def test_nobody_has_subscribed(host):
    assert host.tell(KEY) is False
    assert host.stats().host_events_dropped == 0


def test_one_listener_for_each_stream(host, app):
    listening = Listening()
    app.subscribe(listening)
    with pytest.raises(StreamBusy, match="subscribed"):
        Stream.attach(host.uuid).subscribe(Listening())
    with pytest.raises(StreamBusy):
        app.subscribe(Listening())
    host.tell(KEY)
    assert listening.next() == KEY


def test_another_may_subscribe_when_one_has_left(host, app):
    first, second = Listening(), Listening()
    app.unsubscribe()
    app.subscribe(first)
    app.unsubscribe()
    app.unsubscribe()
    assert host.tell(KEY) is False
    app.subscribe(second)
    host.tell(HOLD)
    assert second.next() == HOLD
    assert first.hears_nothing()


@pytest.mark.parametrize("end", ["host", "application", "nobody"])
def test_nothing_is_left_of_a_stream_that_has_ended(end):
    before = set(delivery._receivers)
    host = HostStream.create(str(uuid.uuid4()))
    app, listening = Stream.attach(host.uuid), Listening()
    app.subscribe(listening)
    host.tell(KEY)
    if end != "nobody":
        (host if end == "host" else app).close()
        assert host.tell(KEY) is False
        with pytest.raises(StreamClosed):
            app.subscribe(listening)
    del host, app
    gc.collect()
    assert listening.next() == KEY
    assert listening.hears_nothing()
    assert set(delivery._receivers) <= before  # the last test's may still go meanwhile


def test_too_much_waiting_is_dropped_and_counted(host, app):
    class Slow:
        def __init__(self) -> None:
            self.go_on = queue.Queue()

        def on_host_event(self, event: dict) -> None:
            self.go_on.get(timeout=5)

    slow = Slow()
    app.subscribe(slow)
    told = 0
    while host.tell(KEY):
        told += 1
    assert told < 65536 / 20
    assert host.stats().host_events_dropped == 1
    for _ in range(told):
        slow.go_on.put(None)


def test_what_is_too_long_for_an_event(host):
    with pytest.raises(ValueError, match="no event of a host"):
        host.tell({"type": "x" * 5000})
