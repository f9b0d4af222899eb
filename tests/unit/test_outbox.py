"""What is decided is done, once, in the order in which it was decided."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ivr_ai.conversation.actions import Action, Flush, Notify
from ivr_ai.outbox import Outbox

WAIT_S = 10.0


def named(*names: str) -> list[Action]:
    return [Notify(name) for name in names]


class Box:
    """An outbox whose performer notes what it does."""

    def __init__(self, flush: Callable[[], list[Action]] = list) -> None:
        self.done: list[str] = []
        self.threads: list[int] = []
        self.before: Callable[[str], None] = lambda name: None
        self.it = Outbox(flush, self._perform)

    def _perform(self, action: Any) -> None:
        self.before(action.kind)
        self.done.append(action.kind)
        self.threads.append(threading.get_ident())

    def decide(self, *names: str, **options: Any) -> None:
        self.it.decide(lambda: named(*names), **options)


class Elsewhere:
    """Keeps what is to be done on another thread until run()."""

    def __init__(self) -> None:
        self.kept: list[Callable[[], None]] = []

    def __call__(self, perform: Callable[[], None]) -> None:
        self.kept.append(perform)

    def run(self) -> None:
        for perform in self.kept:
            thread = threading.Thread(target=perform)
            thread.start()
            thread.join(WAIT_S)


class TestDeciding:
    def test_what_is_wanted_is_done_in_order_on_the_thread_that_decided(self):
        box = Box()
        box.decide("a", "b")
        box.decide("c")
        assert box.done == ["a", "b", "c"]
        assert set(box.threads) == {threading.get_ident()}

    def test_nothing_wanted(self):
        box, elsewhere = Box(), Elsewhere()
        box.decide()
        box.decide(perform=elsewhere)
        assert (box.done, elsewhere.kept) == ([], [])

    def test_decisions_are_made_under_the_lock_and_done_outside_of_it(self):
        box = Box()
        held: list[bool] = []
        box.before = lambda name: held.append(box.it.lock.locked())

        def decide() -> list[Action]:
            held.append(box.it.lock.locked())
            return named("a", "b")

        box.it.decide(decide)
        assert held == [True, False, False]

    def test_what_is_done_may_decide(self):
        """An end of an item, say, that makes a response complete. Its turn comes after what waits."""
        box = Box()
        box.before = lambda name: box.decide("x") if name == "a" else None
        box.decide("a", "b", "c")
        assert box.done == ["a", "b", "c", "x"]

    def test_a_decision_that_raises_does_nothing_and_holds_up_nobody(self):
        box = Box()

        def broken() -> list[Action]:
            raise KeyError("item_id")

        with pytest.raises(KeyError):
            box.it.decide(broken)
        box.decide("a")
        assert box.done == ["a"]

    def test_an_action_that_raises_is_told_to_whom_it_happens_and_the_rest_follows(self):
        box = Box()

        def before(name: str) -> None:
            if name == "b":
                raise RuntimeError("no thread")

        box.before = before
        with pytest.raises(RuntimeError):
            box.decide("a", "b", "c")
        box.decide("d")
        assert box.done == ["a", "c", "d"]


class TestFlush:
    def test_it_is_done_at_once_and_what_follows_takes_its_place(self):
        order: list[str] = []

        def flush() -> list[Action]:
            order.append(f"flush, locked: {box.it.lock.locked()}")
            return named("cancel", "truncate")

        box = Box(flush)
        box.before = order.append
        box.it.decide(lambda: [Notify("a"), Flush(), Notify("b")])
        assert order == ["flush, locked: True", "a", "cancel", "truncate", "b"]

    def test_each_of_two(self):
        count = iter(range(10))
        box = Box(lambda: named(f"cut {next(count)}"))
        box.it.decide(lambda: [Flush(), Notify("a"), Flush()])
        assert box.done == ["cut 0", "a", "cut 1"]

    def test_it_waits_for_no_slow_action_of_another_thread(self):
        flushed, slow, go_on = threading.Event(), threading.Event(), threading.Event()

        def flush() -> list[Action]:
            flushed.set()
            return named("cancel")

        box = Box(flush)
        box.before = lambda name: (slow.set(), go_on.wait(WAIT_S)) if name == "slow" else None
        sending = threading.Thread(target=box.decide, args=("slow", "after"))
        sending.start()
        slow.wait(WAIT_S)
        box.it.decide(lambda: [Flush()])
        assert flushed.is_set()
        assert box.done == []
        go_on.set()
        sending.join(WAIT_S)
        assert box.done == ["slow", "after", "cancel"]

    def test_one_that_fails_is_told(self):
        def closed() -> list[Action]:
            raise OSError("closed")

        box = Box(closed)
        with pytest.raises(OSError, match="closed"):
            box.it.decide(lambda: [Flush()])
        box.decide("a")
        assert box.done == ["a"]


class TestThreads:
    def test_a_thread_that_decides_while_another_one_performs_leaves_it_to_that_one(self):
        box = Box()
        busy, go_on = threading.Event(), threading.Event()
        box.before = lambda name: (busy.set(), go_on.wait(WAIT_S)) if name == "a" else None
        first = threading.Thread(target=box.decide, args=("a", "b"))
        first.start()
        busy.wait(WAIT_S)
        box.decide("c")  # returns at once
        assert box.done == []
        go_on.set()
        first.join(WAIT_S)
        assert box.done == ["a", "b", "c"]
        assert len(set(box.threads)) == 1

    def test_what_is_wanted_may_be_performed_elsewhere(self):
        box, elsewhere = Box(), Elsewhere()
        box.decide("a", perform=elsewhere)
        assert box.done == []
        elsewhere.run()
        assert box.done == ["a"]
        assert box.threads != [threading.get_ident()]

    def test_what_was_to_be_done_elsewhere_is_not_overtaken(self):
        box, elsewhere = Box(), Elsewhere()
        box.decide("a", perform=elsewhere)
        box.decide("b")
        assert box.done == ["a", "b"]
        elsewhere.run()
        assert box.done == ["a", "b"]

    @pytest.mark.parametrize("seed", range(5))
    def test_two_deciders_and_a_slow_performer(self, seed):
        """The order of the decisions, whoever made them, and each once."""
        random_ = random.Random(seed)
        pauses = [random_.random() < 0.05 for _ in range(4000)]
        box, decided = Box(), []
        never = threading.Event()
        box.before = lambda name: never.wait(0.0005) if pauses[len(box.done)] else None

        def decider(who: str) -> None:
            for n in range(300):

                def decide(n: int = n) -> list[Action]:
                    names = [f"{who}{n}.{part}" for part in range(3)]
                    decided.extend(names)
                    return named(*names)

                box.it.decide(decide)

        threads = [threading.Thread(target=decider, args=(who,)) for who in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert box.done == decided
        assert len(decided) == 1800
