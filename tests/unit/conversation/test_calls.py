"""Calls of functions: each is run once, and a response's outputs are complete when all have come back."""

from __future__ import annotations

from ivr_ai.conversation.calls import CALLS_KEPT, FunctionCall, FunctionCalls


def call(response_id: str = "r1", link: int = 0) -> FunctionCall:
    return FunctionCall(response_id, link, "hours", "{}")


def test_a_call_is_new_once():
    calls = FunctionCalls()
    assert [calls.is_new(call_id) for call_id in ("c1", "c2", "c1", "c2")] == [True, True, False, False]


def test_the_last_calls_are_remembered():
    calls = FunctionCalls()
    for n in range(CALLS_KEPT + 1):
        assert calls.is_new(f"c{n}")
    assert not calls.is_new("c1")
    assert calls.is_new("c0")


def test_a_call_runs_until_its_output_comes():
    calls = FunctionCalls()
    assert not calls
    calls.begin("c1", call(link=2))
    assert calls
    assert calls.end("c1") == call(link=2)
    assert not calls


def test_an_output_of_a_call_that_is_not_running_is_of_none():
    calls = FunctionCalls()
    assert calls.end("c1") is None
    calls.begin("c1", call())
    calls.end("c1")
    assert calls.end("c1") is None


def test_a_response_has_its_outputs_when_all_have_come():
    calls = FunctionCalls()
    assert not calls.all_returned("r1")
    for call_id, response_id in (("c1", "r1"), ("c2", "r1"), ("c3", "r2")):
        calls.begin(call_id, call(response_id))
    assert not calls.all_returned("r1")
    calls.end("c1")
    assert not calls.all_returned("r1")
    calls.end("c2")
    assert (calls.all_returned("r1"), calls.all_returned("r2")) == (True, False)


def test_outputs_are_answered_once():
    calls = FunctionCalls()
    calls.answered("r1")  # nothing to answer
    calls.begin("c1", call())
    calls.end("c1")
    calls.answered("r1")
    assert not calls.all_returned("r1")
    calls.begin("c2", call())
    calls.end("c2")
    assert calls.all_returned("r1")
