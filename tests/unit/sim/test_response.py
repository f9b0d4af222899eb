"""Responses of the simulated model: interruptions, several items in one, functions."""

from __future__ import annotations

import json
import time

import pytest

from ivr_ai.sim.server import SimError, SimServer

LONG = {"voice": "tone:440:5000", "pace": 1.0}
TOOL = {"type": "function", "name": "look_up", "description": "", "parameters": {"type": "object"}}
CALLING = {
    "turn": [{"first": "moment", "call": {"name": "look_up", "arguments": {"n": 7}}, "say": "it is {output}"}]
}
TWO_ITEMS = {
    "turn": [
        {
            "say": [
                {"text": "one two", "phase": "commentary"},
                {"text": "three four", "phase": "final_answer"},
            ]
        }
    ]
}
TWO_CALLS = {
    "turn": [
        {
            "first": "moment",
            "call": [{"name": "look_up", "arguments": {"n": 1}}, {"name": "look_up", "arguments": {"n": 2}}],
            "say": "{output2} before {output1}",
        }
    ]
}
OPTIONAL = (  # the fields of response.create
    *("instructions", "tools", "output_modalities", "max_output_tokens", "tool_choice", "input"),
    *("conversation", "parallel_tool_calls", "audio", "metadata", "prompt", "reasoning"),
)


def order_of(client, *kinds: str) -> list[tuple[str, int]]:
    """(the end of the type, output_index) of the events of these types, in the order they came."""
    return [
        (event["type"].removeprefix("response."), event["output_index"])
        for event in client.events
        if event["type"].removeprefix("response.") in kinds
    ]


# ---- interruptions -----------------------------------------------------------------------------------------


def test_barge_in_cancels_the_reply(start, dial) -> None:
    client = dial(start(**LONG))
    client.send("response.create")
    client.until("response.output_audio.delta")
    item_id = client.events[-1]["item_id"]
    client.speech()
    client.until("input_audio_buffer.speech_started")
    response = client.until("response.done")["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert (response["output"][0]["id"], response["output"][0]["status"]) == (item_id, "incomplete")
    types = client.types()
    assert types[types.index("input_audio_buffer.speech_started") :] == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    late = [event for event in client.drain() if event["type"].endswith("audio.delta")]
    assert not late


def test_interrupt_response_false_lets_the_reply_go_on(start, dial) -> None:
    client = dial(start(voice="tone:440:2000", pace=10.0))
    turns = {"type": "server_vad", "interrupt_response": False, "create_response": False}
    client.update(audio={"input": {"turn_detection": turns}})
    client.send("response.create")
    client.until("response.output_audio.delta")
    client.talk()
    client.until("input_audio_buffer.speech_started")
    assert client.until("response.done")["response"]["status"] == "completed"


def test_a_turn_during_a_reply_that_may_not_be_interrupted_gets_an_error(start, dial) -> None:
    client = dial(start(**LONG))
    client.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    client.send("response.create")
    client.until("response.output_audio.delta")
    client.talk()
    client.until("input_audio_buffer.committed")
    assert client.until("error")["error"]["code"] == "conversation_already_has_active_response"


def test_response_cancel(start, dial) -> None:
    client = dial(start(**LONG))
    client.send("response.cancel")
    assert client.until("error")["error"]["code"] == "response_cancel_not_active"
    client.send("response.create")
    response_id = client.until("response.created")["response"]["id"]
    client.send("response.cancel", response_id="resp_other")
    assert client.until("error")["error"]["code"] == "response_cancel_not_active"
    client.send("response.cancel", response_id=response_id)
    response = client.until("response.done")["response"]
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


def test_one_response_at_a_time(start, dial) -> None:
    client = dial(start(**LONG))
    client.send("response.create")
    active = client.until("response.created")["response"]["id"]
    client.send("response.create")
    error = client.until("error")["error"]
    assert error["code"] == "conversation_already_has_active_response"
    assert active in error["message"]


def test_a_response_outside_the_conversation_runs_beside_it(start, dial) -> None:
    client = dial(start(**LONG))
    client.send("response.create")
    client.until("response.output_audio.delta")
    beside = {"conversation": "none", "output_modalities": ["text"], "metadata": {"purpose": "summary"}}
    client.send("response.create", response=beside)
    while True:
        response = client.until("response.done")["response"]
        if response["metadata"]:
            break
    assert (response["metadata"], response["conversation_id"]) == ({"purpose": "summary"}, None)
    client.send("conversation.item.retrieve", item_id=response["output"][0]["id"])
    assert client.until("error")["error"]["code"] == "item_retrieve_invalid_item_id"


def test_what_winds_a_cancelled_response_up_comes_after_the_lag(start, dial) -> None:
    client = dial(start(**LONG, cancel_lag_ms=150))
    client.send("response.create")
    client.until("response.output_audio.delta")
    client.send("response.cancel")
    start_s = time.monotonic()
    client.send("response.create")
    assert client.until("error")["error"]["code"] == "conversation_already_has_active_response"
    client.send("response.cancel")
    assert client.until("error")["error"]["code"] == "response_cancel_not_active", "it is cancelled already"
    client.events.clear()
    assert client.until("response.done")["response"]["status"] == "cancelled"
    assert time.monotonic() - start_s >= 0.14
    assert not [event for event in client.events if event["type"].endswith(".delta")]


def test_a_turn_that_ends_within_the_lag_is_answered_after_it(start, dial) -> None:
    client = dial(start(**LONG, cancel_lag_ms=200))
    client.send("response.create")
    client.until("response.output_audio.delta")
    client.talk(ms=100)
    first, second = (client.until("response.done", timeout_s=3)["response"], client.until("response.created"))
    assert first["status_details"]["reason"] == "turn_detected"
    assert second["response"]["id"] != first["id"]
    assert not [event for event in client.events if event["type"] == "error"]


# ---- several items in one response -------------------------------------------------------------------------


def test_items_are_said_one_after_the_other(start, dial) -> None:
    client = dial(start(dialogue=TWO_ITEMS))
    client.events.clear()
    client.talk()
    done = client.until("response.done")["response"]
    assert [item["content"][0]["transcript"] for item in done["output"]] == ["one two", "three four"]
    assert [item["phase"] for item in done["output"]] == ["commentary", "final_answer"]
    assert len({item["id"] for item in done["output"]}) == 2
    added = [event for event in client.events if event["type"] == "response.output_item.added"]
    assert [(event["output_index"], event["item"]["phase"]) for event in added] == [
        (0, "commentary"),
        (1, "final_answer"),
    ]
    ends = order_of(client, "output_item.added", "output_audio.done", "output_item.done")
    assert ends == [
        ("output_item.added", 0),
        ("output_audio.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("output_audio.done", 1),
        ("output_item.done", 1),
    ]
    deltas = [place for _, place in order_of(client, "output_audio.delta")]
    assert deltas == sorted(deltas), "never interleaved"
    assert set(deltas) == {0, 1}


def test_their_ends_may_come_together(start, dial) -> None:
    client = dial(start(dialogue=TWO_ITEMS, item_ends="together"))
    client.talk()
    client.until("response.done")
    ends = order_of(client, "output_item.added", "output_audio.done", "output_item.done")
    assert ends == [
        ("output_item.added", 0),
        ("output_item.added", 1),
        ("output_audio.done", 0),
        ("output_audio.done", 1),
        ("output_item.done", 0),
        ("output_item.done", 1),
    ]
    kinds = [event["type"] for event in client.events]
    assert "response.output_audio.delta" not in kinds[kinds.index("response.output_audio.done") :]


def test_an_item_without_a_phase_carries_none(start, dial) -> None:
    client = dial(start(dialogue={"turn": [{"say": ["one", "two"]}]}))
    client.talk()
    assert not any("phase" in item for item in client.until("response.done")["response"]["output"])


def test_a_pause_between_items(start, dial) -> None:
    client = dial(start(dialogue=TWO_ITEMS, item_pause_ms=200))
    client.talk()
    client.until("response.output_item.done")
    start_s = time.monotonic()
    client.until("response.output_item.added")
    assert time.monotonic() - start_s >= 0.18
    client.until("response.done")


def test_the_pause_is_also_before_each_function(start, dial) -> None:
    client = dial(start(dialogue=TWO_CALLS, item_pause_ms=150))
    client.update(tools=[TOOL])
    client.talk()
    client.until("response.output_item.done")
    for _ in range(2):
        start_s = time.monotonic()
        client.until("response.output_item.added")
        assert time.monotonic() - start_s >= 0.13
    client.until("response.done")


def test_a_cancellation_ends_items_that_were_said_as_completed(start, dial) -> None:
    sim = start(dialogue=TWO_ITEMS, item_ends="together", voice="tone:440:1000", pace=5.0)
    client = dial(sim)
    client.talk()
    while client.until("response.output_audio.delta")["output_index"] == 0:
        pass
    client.send("response.cancel")
    done = client.until("response.done")["response"]
    assert [item["status"] for item in done["output"]] == ["completed", "incomplete"]
    assert order_of(client, "output_audio.done") == [("output_audio.done", 0), ("output_audio.done", 1)]


def test_options_of_items_are_checked() -> None:
    for options, says in (
        ({"item_ends": "never"}, "item_ends 'never' is unknown: use sequential or together"),
        ({"item_pause_ms": -1}, "item_pause_ms is -1: it cannot be negative"),
        ({"cancel_lag_ms": -5}, "cancel_lag_ms is -5: it cannot be negative"),
    ):
        with pytest.raises(SimError, match=says):
            SimServer(**options)


# ---- functions ---------------------------------------------------------------------------------------------


def test_a_function_call_round_trip(start, dial) -> None:
    client = dial(start(dialogue=CALLING))
    client.update(tools=[TOOL])
    client.talk()
    call = client.until("response.function_call_arguments.done")
    assert (call["name"], json.loads(call["arguments"]), call["output_index"]) == ("look_up", {"n": 7}, 1)
    assert len(call["call_id"]) <= 32
    deltas = [e["delta"] for e in client.events if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call["arguments"]
    output = client.until("response.done")["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call"]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "late"}
    client.send("conversation.item.create", item=answer)
    client.until("conversation.item.done")
    assert not [e for e in client.drain() if e["type"].startswith("response.")], "it does not go on by itself"
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "it is late"


def test_a_function_that_is_not_offered_is_not_called(start, dial) -> None:
    client = dial(start(dialogue=CALLING))
    client.talk()
    output = client.until("response.done")["response"]["output"]
    assert [item["type"] for item in output] == ["message"]


def test_several_functions_in_one_response(start, dial) -> None:
    client = dial(start(dialogue=TWO_CALLS))
    client.update(tools=[TOOL])
    client.talk()
    output = client.until("response.done")["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    assert [item["arguments"] for item in output[1:]] == ['{"n": 1}', '{"n": 2}']
    for item, result in ((output[2], "second"), (output[1], "first")):
        answer = {"type": "function_call_output", "call_id": item["call_id"], "output": result}
        client.send("conversation.item.create", item=answer)
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "second before first"


def test_a_model_asked_too_early_has_not_been_told(start, dial) -> None:
    client = dial(start(dialogue=TWO_CALLS))
    client.update(tools=[TOOL])
    client.talk()
    output = client.until("response.done")["response"]["output"]
    answer = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "first"}
    client.send("conversation.item.create", item=answer)
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "unknown before first"


def test_nulls_in_a_response_create_stand_for_fields_left_out(start, dial) -> None:
    client = dial(start())
    client.update(instructions="Be kind.", output_modalities=["text"])
    client.send("response.create", response=dict.fromkeys(OPTIONAL))
    done = client.until("response.done")["response"]
    assert (done["status"], done["output_modalities"]) == ("completed", ["text"])
    assert (done["max_output_tokens"], done["metadata"]) == ("inf", None)
    for audio in ({"output": None}, {"output": {"format": None, "voice": None}}):
        client.send("response.create", response={"audio": audio})
        assert client.until("response.done")["response"]["status"] == "completed"
    client.send("response.create", response={"instruction": None})
    error = client.until("error")["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "response.instruction")


def test_metadata_is_echoed(start, dial) -> None:
    client = dial(start())
    client.send("response.create", response={"metadata": {"asked_by": "test"}})
    for kind in ("response.created", "response.done"):
        assert client.until(kind)["response"]["metadata"] == {"asked_by": "test"}
