"""Threads of a call."""

from __future__ import annotations

import threading
import time

import pytest

from ivr_ai.workers import Workers

WAIT_S = 10.0


class Errors:
    """What on_error was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def __call__(self, name: str, error: Exception) -> None:
        self.told.append((name, str(error)))


@pytest.fixture
def errors() -> Errors:
    return Errors()


@pytest.fixture
def workers(errors) -> Workers:
    return Workers("0123456789abcdef", errors)


def test_a_thread_has_the_calls_name_and_its_arguments(workers):
    seen: list[object] = []
    workers.spawn("serve", lambda *given: seen.extend([threading.current_thread().name, *given]), 1, "two")
    assert workers.wait(WAIT_S, time.monotonic)
    assert seen == ["ivr-serve-01234567", 1, "two"]


def test_waiting_where_there_are_none(workers):
    assert workers.wait(0.0, time.monotonic)


def test_waiting_for_all_of_them(workers):
    gates = [threading.Event() for _ in range(3)]
    for gate in gates:
        workers.spawn("w", gate.wait, WAIT_S)
    assert not workers.wait(0.05, time.monotonic)
    for gate in gates:
        gate.set()
    assert workers.wait(WAIT_S, time.monotonic)


def test_the_time_is_for_all_of_them_together(workers):
    """And by the clock that is given: here each look at it takes a second."""
    gate = threading.Event()
    for _ in range(50):
        workers.spawn("w", gate.wait, WAIT_S)
    looks = iter(range(10_000))
    began_s = time.monotonic()
    assert not workers.wait(0.5, lambda: float(next(looks)))
    assert time.monotonic() - began_s < 2.0
    gate.set()
    assert workers.wait(WAIT_S, time.monotonic)


def test_what_nobody_expected_is_told_and_ends_that_thread_only(workers, errors):
    def broken() -> None:
        raise KeyError("item")

    workers.spawn("down", broken)
    assert workers.wait(WAIT_S, time.monotonic)
    assert errors.told == [("down", "'item'")]
    workers.spawn("up", lambda: None)
    assert workers.wait(WAIT_S, time.monotonic)


def test_a_thread_that_cannot_begin_is_told_and_waited_for_by_nobody(workers, monkeypatch):
    """A process has only so many."""

    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        workers.spawn("down", lambda: None)
    assert workers.wait(0.0, time.monotonic)


def test_threads_of_others_that_have_waited_leave_nothing_behind(workers):
    """FreeSWITCH's threads wait here: threading's tables must not grow with each of them."""
    import _thread

    known = len(threading._active)
    ended = threading.Event()

    def foreign() -> None:
        workers.spawn("w", lambda: None)
        workers.wait(WAIT_S, time.monotonic)
        ended.set()

    for _ in range(20):
        ended.clear()
        _thread.start_new_thread(foreign, ())
        assert ended.wait(WAIT_S)
    until_s = time.monotonic() + WAIT_S
    while len(threading._active) > known and time.monotonic() < until_s:
        time.sleep(0.002)
    assert len(threading._active) <= known
