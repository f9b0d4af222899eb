"""The bus: every subscriber hears everything in order, and delays nobody."""

from __future__ import annotations

import threading
import time

import pytest

from ivr_ai.bus import LOG_EVERY, Bus
from ivr_ai.events import CallEvent

LONG_S = 10.0


def event(number: int, uuid: str = "call-1") -> CallEvent:
    return CallEvent("counted", float(number), {"number": number}, uuid)


class Gate:
    """A subscriber that takes an event and then waits until it is let on."""

    def __init__(self) -> None:
        self.seen: list[CallEvent] = []
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, event: CallEvent) -> None:
        self.entered.set()
        self.open.wait(LONG_S)
        self.seen.append(event)


@pytest.fixture
def bus():
    bus = Bus()
    yield bus
    bus.close()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ivr-bus-")]


class TestDelivery:
    def test_every_subscriber_gets_every_event_in_order(self, bus):
        seen: dict[str, list[int]] = {"a": [], "b": []}
        for name, numbers in seen.items():
            bus.subscribe(name, lambda each, numbers=numbers: numbers.append(each.data["number"]))
        for number in range(1000):
            bus.publish(event(number))
        assert bus.close(LONG_S)
        assert seen == {"a": list(range(1000)), "b": list(range(1000))}

    def test_events_of_a_call_stay_in_order_whatever_other_threads_publish(self, bus):
        seen: list[CallEvent] = []
        bus.subscribe("all", seen.append, capacity=100_000)

        def call(uuid: str) -> None:
            for number in range(2000):
                bus.publish(event(number, uuid))

        calls = [threading.Thread(target=call, args=(f"call-{n}",)) for n in range(8)]
        for each in calls:
            each.start()
        for each in calls:
            each.join()
        assert bus.close(LONG_S)
        for n in range(8):
            mine = [each.data["number"] for each in seen if each.uuid == f"call-{n}"]
            assert mine == list(range(2000))

    def test_only_what_a_subscriber_wants_wakes_its_thread(self, bus):
        seen: list[int] = []
        wants = lambda each: each.uuid == "mine"  # noqa: E731
        subscription = bus.subscribe("picky", lambda each: seen.append(each.data["number"]), wants=wants)
        bus.publish(event(1, "another"))
        assert (threads(), subscription.queued) == ([], 0)
        bus.publish(event(2, "mine"))
        bus.publish(event(3, "another"))
        assert bus.close(LONG_S)
        assert seen == [2]

    def test_a_filter_that_raises_is_logged_and_holds_nothing_back(self, bus, caplog):
        seen: list[int] = []
        bus.subscribe("broken", lambda each: seen.append(each.data["number"]), wants=lambda each: 1 / 0 > 1)
        bus.publish(event(1))
        assert bus.close(LONG_S)
        assert seen == [1]
        assert "subscriber broken: whether it wants counted" in caplog.text

    def test_callbacks_run_on_one_thread_of_their_own(self, bus):
        on: set[int] = set()
        bus.subscribe("mine", lambda each: on.add(threading.get_ident()))
        for number in range(50):
            bus.publish(event(number))
        assert bus.close(LONG_S)
        assert len(on) == 1 and threading.get_ident() not in on

    def test_a_callback_that_raises_is_logged_and_gets_the_next_event(self, bus, caplog):
        seen = []

        def faulty(each: CallEvent) -> None:
            seen.append(each.data["number"])
            raise SystemExit if each.data["number"] else ValueError("no such column")

        bus.subscribe("database", faulty)
        for number in range(3):
            bus.publish(event(number))
        assert bus.close(LONG_S)
        assert seen == [0, 1, 2]
        assert "subscriber database: counted of call call-1" in caplog.text
        assert "no such column" in caplog.text

    def test_it_may_publish_itself(self, bus):
        seen = []

        def echo(each: CallEvent) -> None:
            seen.append(each.data["number"])
            if each.data["number"] < 3:
                bus.publish(event(each.data["number"] + 1))

        bus.subscribe("echo", echo)
        bus.publish(event(0))
        deadline_s = time.monotonic() + LONG_S
        while len(seen) < 4 and time.monotonic() < deadline_s:
            time.sleep(0.002)
        assert seen == [0, 1, 2, 3]


class TestFull:
    def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits(self, bus, caplog):
        gate, others = Gate(), []
        slow = bus.subscribe("slow", gate, capacity=10)
        bus.subscribe("quick", others.append)
        bus.publish(event(0))
        assert gate.entered.wait(LONG_S)
        started_s = time.monotonic()
        for number in range(1, 2 * LOG_EVERY + 12):
            bus.publish(event(number))
        assert time.monotonic() - started_s < 5  # the gate is still closed
        assert (slow.queued, slow.dropped) == (10, 2 * LOG_EVERY + 1)
        gate.open.set()
        assert bus.close(LONG_S)
        assert [each.data["number"] for each in gate.seen] == list(range(11))
        assert len(others) == 2 * LOG_EVERY + 12
        lines = [each.getMessage() for each in caplog.records]
        assert lines == [
            f"subscriber slow is too slow: {count} events dropped so far"
            for count in (1, LOG_EVERY + 1, 2 * LOG_EVERY + 1)
        ]

    def test_a_queue_holds_at_least_one_event(self, bus):
        with pytest.raises(ValueError, match="subscriber none: a queue for 0 events"):
            bus.subscribe("none", print, capacity=0)


class TestThreads:
    def test_there_is_none_before_the_first_event_and_none_after_the_end(self, bus):
        subscription = bus.subscribe("lazy", lambda each: None)
        assert threads() == []
        bus.publish(event(0))
        assert threads() == ["ivr-bus-lazy"]
        subscription.unsubscribe()
        deadline_s = time.monotonic() + LONG_S
        while threads() and time.monotonic() < deadline_s:
            time.sleep(0.002)
        assert threads() == []

    def test_foreign_threads_leave_no_entry(self, bus):
        """FreeSWITCH's threads are not threading's: looking up their name makes an entry that stays."""
        import _thread

        bus.subscribe("all", lambda each: None)
        known, done = set(threading._active), threading.Event()

        def foreign() -> None:
            bus.publish(event(0))
            bus.close(LONG_S)
            done.set()

        _thread.start_new_thread(foreign, ())
        assert done.wait(LONG_S)
        left = [thread for ident, thread in list(threading._active.items()) if ident not in known]
        assert [thread.name for thread in left if not thread.name.startswith("ivr-bus-")] == []

    def test_without_a_thread_to_be_had_the_next_event_tries_again(self, bus, monkeypatch, caplog):
        seen = []
        bus.subscribe("late", seen.append)

        def none_left(self) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            bus.publish(event(0))
        assert "subscriber late: can't start new thread" in caplog.text
        bus.publish(event(1))
        assert bus.close(LONG_S)
        assert [each.data["number"] for each in seen] == [0, 1]


class TestFlushing:
    def test_it_waits_for_what_was_published_before_it(self, bus):
        seen = []
        bus.subscribe("slow", lambda each: (time.sleep(0.02), seen.append(each.data["number"])))
        bus.subscribe("idle", lambda each: None).unsubscribe()
        for number in range(5):
            bus.publish(event(number))
        assert bus.flush(LONG_S) is True
        assert seen == [0, 1, 2, 3, 4]
        bus.publish(event(5))
        assert bus.flush(LONG_S) is True
        assert seen[-1] == 5

    def test_but_no_longer_than_told(self, bus):
        gate = Gate()
        bus.subscribe("stuck", gate)
        bus.subscribe("never used", lambda each: None)
        bus.publish(event(0))
        started_s = time.monotonic()
        assert bus.flush(0.05) is False
        assert time.monotonic() - started_s < 5
        gate.open.set()
        assert bus.flush(LONG_S) is True

    def test_without_an_event_there_is_nothing_to_wait_for(self, bus):
        bus.subscribe("idle", lambda each: None)
        assert bus.flush(0.0) is True
        assert threads() == []


class TestTheEnd:
    def test_unsubscribing_delivers_what_is_queued_and_nothing_after(self, bus):
        gate = Gate()
        subscription = bus.subscribe("gate", gate)
        for number in range(3):
            bus.publish(event(number))
        subscription.unsubscribe()
        subscription.unsubscribe()
        bus.publish(event(3))
        gate.open.set()
        assert subscription._wait_done(LONG_S)
        assert [each.data["number"] for each in gate.seen] == [0, 1, 2]

    def test_closing_waits_no_longer_than_told(self, bus, caplog):
        gate = Gate()
        bus.subscribe("stuck", gate)
        for number in range(3):
            bus.publish(event(number))
        assert gate.entered.wait(LONG_S)
        started_s = time.monotonic()
        assert bus.close(0.05) is False
        assert time.monotonic() - started_s < 5
        assert "subscriber stuck did not finish within 0.05 s: 3 events left" in caplog.text  # and its end
        gate.open.set()

    def test_a_closed_bus_takes_no_subscriber_and_ignores_events(self, bus):
        seen = []
        bus.subscribe("early", seen.append)
        bus.close()
        bus.publish(event(0))
        assert seen == []
        with pytest.raises(RuntimeError, match="subscriber late: the bus is closed"):
            bus.subscribe("late", seen.append)
        assert bus.close() is True
