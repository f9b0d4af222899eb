"""One thread looks after time for all calls."""

from __future__ import annotations

import threading
import time

import pytest

from ivr_ai.watch import Watch


class Counter:
    def __init__(self) -> None:
        self.ticks = 0
        self.threads: set[str] = set()
        self.ticked = threading.Event()

    def tick(self) -> None:
        self.ticks += 1
        self.threads.add(threading.current_thread().name)
        self.ticked.set()


class Broken(Counter):
    def tick(self) -> None:
        super().tick()
        raise ZeroDivisionError("of this call only")


@pytest.fixture
def watch() -> Watch:
    return Watch(tick_s=0.01)


def wait_for(what) -> None:
    deadline_s = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def watching() -> int:
    return sum(thread.name == "ivr-watch" for thread in threading.enumerate())


def test_it_ticks_until_it_is_removed(watch):
    counter = Counter()
    watch.add(counter)
    wait_for(lambda: counter.ticks >= 3)
    watch.remove(counter)
    time.sleep(0.02)
    ticks = counter.ticks
    time.sleep(0.1)
    assert counter.ticks == ticks


def test_all_share_a_thread_that_goes_when_it_is_not_needed(watch):
    before = watching()
    counters = [Counter() for _ in range(20)]
    for counter in counters:
        watch.add(counter)
    for counter in counters:
        assert counter.ticked.wait(5)
    assert watching() == before + 1
    for counter in counters:
        watch.remove(counter)
    wait_for(lambda: watching() == before)
    assert {name for counter in counters for name in counter.threads} == {"ivr-watch"}


def test_it_comes_back_when_it_is_needed_again(watch):
    for _ in range(5):
        counter = Counter()
        watch.add(counter)
        assert counter.ticked.wait(5)
        watch.remove(counter)
        time.sleep(0.015)  # it may be about to go


def test_one_that_fails_stops_no_other(watch, caplog):
    broken, counter = Broken(), Counter()
    watch.add(broken)
    watch.add(counter)
    wait_for(lambda: counter.ticks >= 3 and broken.ticks >= 3)
    watch.remove(broken)
    watch.remove(counter)
    assert "of this call only" in caplog.text


def test_one_may_remove_another(watch):
    """As the end of a call does while its neighbours are ticked."""
    seen: list[str] = []

    class Remover(Counter):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.other = name, None

        def tick(self) -> None:
            seen.append(self.name)
            watch.remove(self.other)

    first, second = Remover("a"), Remover("b")
    first.other, second.other = second, first
    watch.add(first)
    watch.add(second)
    wait_for(lambda: len(seen) >= 3)
    watch.remove(first)
    watch.remove(second)
    assert len(set(seen)) == 1, "one was ticked although it had been removed"


def test_removing_what_is_not_there(watch):
    watch.remove(Counter())


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch):
    """Else no later call would ever be ticked."""
    watch, ticked = Watch(tick_s=0.001), threading.Event()

    class Ticked:
        def tick(self) -> None:
            ticked.set()

    def none_left(self) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError):
            watch.add(Ticked())
    second = Ticked()
    watch.add(second)
    assert ticked.wait(10)
    watch.remove(second)
