"""Which events have come before."""

from __future__ import annotations

import pytest

from ivr_ai.realtime.repeats import EVENT_IDS_KEPT, Repeats


def event(event_id: object, kind: str = "error", **body: object) -> dict:
    return {"type": kind, "event_id": event_id, **body}


def test_the_same_event_again():
    repeats = Repeats()
    assert not repeats.is_repeated(event("e1", text="a"))
    assert not repeats.is_repeated(event("e2", text="a"))
    assert repeats.is_repeated(event("e1", text="a"))
    assert repeats.is_repeated(event("e1", text="a"))
    assert repeats.is_repeated(event("e2", text="a"))


@pytest.mark.parametrize("event_id", [None, "", 7, ["e1"], {"a": 1}])
def test_without_an_id_every_event_is_new(event_id):
    repeats = Repeats()
    assert not any(repeats.is_repeated(event(event_id)) for _ in range(3))
    assert not any(repeats.is_repeated({"type": "error"}) for _ in range(3))


def test_a_server_that_has_one_id_for_all_is_heard():
    repeats = Repeats()
    said = [event("e", f"kind.{n % 3}", item_id=f"item_{n // 3}") for n in range(9)]
    assert not any(repeats.is_repeated(each) for each in [*said, *said])


def test_a_server_that_has_one_id_for_each_type_is_heard():
    repeats = Repeats()
    said = [event(f"e{n % 2}", f"kind.{n % 2}", item_id=f"item_{n}") for n in range(8)]
    assert not any(repeats.is_repeated(each) for each in said)


def test_only_so_many_ids_are_kept():
    repeats = Repeats()
    for n in range(EVENT_IDS_KEPT + 1):
        assert not repeats.is_repeated(event(f"e{n}"))
    assert repeats.is_repeated(event("e1"))
    assert not repeats.is_repeated(event("e0"))


def test_one_that_is_nested_too_deep():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="nested too deep"):
        Repeats().is_repeated(event("e1", body=deep))
    while deep:  # else the interpreter's own stack is too short to take it down
        deep = deep["a"]
