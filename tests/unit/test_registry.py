"""Which calls are under way, and whether one more may begin."""

from __future__ import annotations

import threading

import pytest

from ivr_ai.events import CallEvent
from ivr_ai.registry import STATES, Refused, Registry


@pytest.fixture
def registry() -> Registry:
    return Registry(wall=lambda: 0.0)


def test_a_call_is_there_until_its_end(registry):
    entry = registry.begin("u-1", "sales")
    assert registry.get("u-1") is entry and registry.entries() == [entry]
    registry.end(entry)
    registry.end(entry)
    assert registry.get("u-1") is None and registry.total == 1


def test_the_end_of_one_is_not_the_end_of_its_successor(registry):
    first = registry.begin("u-1", "")
    registry.end(first)
    second = registry.begin("u-1", "")
    registry.end(first)
    assert registry.get("u-1") is second


def test_facts_follow_the_events(registry):
    entry = registry.begin("u-1", "sales")
    told = [("connecting", 0)]
    for kind, turn in (
        ("connected", 0),
        ("answered", 0),
        ("speech_started", 1),
        ("ai_said", 0),
        ("heard", 1),
    ):
        entry.observe(CallEvent(kind, 0.0, turn=turn))
        told.append((entry.state, entry.turn))
    assert told == [
        ("connecting", 0),
        ("connected", 0),
        ("listening", 0),
        ("hearing", 1),
        ("hearing", 1),
        ("speaking", 1),
    ]
    assert entry.facts() == {
        "uuid": "u-1",
        "agent": "sales",
        "since": "1970-01-01T00:00:00.000Z",
        "turn": 1,
        "state": "speaking",
    }
    assert set(STATES.values()) >= {"failing", "over"}


@pytest.mark.parametrize(("max_calls", "taken"), [(0, 8), (1, 1), (3, 3), (8, 8)])
def test_no_more_than_allowed_however_many_come_at_once(registry, max_calls, taken):
    begun, refused = [], []
    start = threading.Barrier(8)

    def come(number: int) -> None:
        start.wait()
        try:
            begun.append(registry.begin(f"u-{number}", "", max_calls))
        except Refused as error:
            refused.append(error)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(begun), len(refused), registry.refused) == (taken, 8 - taken, 8 - taken)
    assert all(error.full for error in refused)


def test_the_same_call_twice_is_not_a_matter_of_room(registry):
    registry.begin("u-1", "")
    registry.draining = True
    with pytest.raises(Refused, match="in a conversation already") as refused:
        registry.begin("u-1", "")
    assert not refused.value.full and registry.refused == 0


def test_waiting_for_the_last_one(registry):
    entry = registry.begin("u-1", "")
    assert registry.wait_empty(0.01) is False
    threading.Timer(0.02, registry.end, [entry]).start()
    assert registry.wait_empty(10) is True
