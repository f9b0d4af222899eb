"""Every event that our client sends in a call is one that OpenAI's SDK knows, over both transports, and comes
in an order that a model can use. The calls are placed on the embedded host, in real time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("openai.types.realtime", reason="the package openai is not installed (extra peers)")
pytest.importorskip("ivr_ai._audio_stream", reason="the audio extension is not built: run `make ext`")

from ivr_ai.call import Call
from ivr_ai.config import Settings
from ivr_ai.gateways.caller import Hangup, Say, Step
from ivr_ai.gateways.embedded import EmbeddedHost
from ivr_ai.sim.faults import Faults
from ivr_ai.tts.local_voice import speak
from peers.sdk_types import CLIENT, SERVER, problems

SAYS = speak("x", 8000, "tone:300:400")
OVER_S = 30.0
TWO_ITEMS = {
    "turn": [
        {"on": "greeting", "say": "hello"},
        {"say": [{"text": "one two three", "phase": "commentary"}, "four five six seven"]},
        {"say": "as you wish"},
    ]
}
ONE_CALL = {"turn": [{"call": {"name": "look_up", "arguments": {"n": 7}}, "say": "it is {output}"}]}
TWO_CALLS = {
    "turn": [{"call": [{"name": "look_up"}, {"name": "look_up", "arguments": {"n": 2}}], "say": "{output}"}]
}
TURN = (Say(SAYS, after="answer", delay_ms=200), Hangup(after="reply_end"))
BARGE_IN = (Say(SAYS), Say(SAYS, after="reply_start", delay_ms=700), Hangup(after="reply_end"))


@dataclass
class Course:
    """One call: what the caller does, what the server is like, the settings by their names."""

    script: Sequence[Step]
    server: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    rate_hz: int = 8000
    slow_s: float = 0.0  # what the function takes that is called with n = 2


GREETED = {"OPENAI_GREETING": "Say hello.", "OPENAI_TRANSCRIPTION_MODEL": "whisper-1"}
LONG = {"voice": "tone:440:2500"}
ITEMS = {"voice": "tone:440:1500", "dialogue": TWO_ITEMS, "pace": 1.0}
CALLS = {"dialogue": TWO_CALLS, "faults": Faults(call_unoffered=True)}
COURSES = {
    "conversation": Course((Say(SAYS), Hangup(after="reply_end")), settings=GREETED),
    "wideband": Course(TURN, rate_hz=16000),
    "semantic_vad": Course(TURN, settings={"OPENAI_TURN_DETECTION": "semantic_vad"}),
    "barge-in": Course(BARGE_IN, LONG, GREETED),
    "barge-in, late winding up": Course(BARGE_IN, {**LONG, "cancel_lag_ms": 100}, GREETED),
    "items": Course(BARGE_IN, ITEMS, GREETED),
    "items, ends together": Course(BARGE_IN, {**ITEMS, "item_ends": "together"}, GREETED),
    "function": Course(TURN, {"dialogue": ONE_CALL, "faults": Faults(call_unoffered=True)}),
    "functions": Course(TURN, CALLS),
    "functions, one slow": Course(TURN, CALLS, slow_s=0.5),
    "functions, with a pause": Course(TURN, {**CALLS, "item_pause_ms": 200}),
    "turns decided here": Course(
        BARGE_IN, LONG, {**GREETED, "OPENAI_TURN_DETECTION": "none", "IVR_AI_TRANSPORT": "python"}
    ),
}
TRANSPORTS = ("native", "python")


def place(server: Any, course: Course, transport: str) -> None:
    """Holds the whole call; raises what its handler raised."""
    given = {
        "OPENAI_REALTIME_URL": server.url,
        "OPENAI_API_KEY": "sk-test",
        "IVR_AI_TRANSPORT": transport,
        **course.settings,
    }

    def look_up(arguments: dict[str, Any]) -> dict[str, Any]:
        number = arguments.get("n", 1)
        time.sleep(course.slow_s if number == 2 else 0.0)
        return {"n": number}

    def handler(session: Any, args: str) -> Any:
        settings = Settings.load(environ=given, env_file="", channel=session.getVariable)
        return Call(session, settings, functions={"look_up": look_up}).run()

    host = EmbeddedHost()
    try:
        call = host.place(handler, course.script, rate_hz=course.rate_hz, quiet_ms=500, max_s=OVER_S)
        deadline_s = time.monotonic() + OVER_S
        while not call.over:
            assert time.monotonic() < deadline_s, "the call does not end"
            time.sleep(0.01)
        record = call.record(host.clock)
    finally:
        host.close()
    if record.error is not None:
        raise record.error


def index_of(events: list[dict[str, Any]], kind: str, **item: str) -> list[int]:
    """Where the events of a type are, of those whose item is of this sort."""
    return [
        number
        for number, event in enumerate(events)
        if event["type"] == kind and item.items() <= event.get("item", item).items()
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", COURSES)
def test_the_sdk_knows_every_event_of_a_call(serve, name: str, transport: str) -> None:
    course = COURSES[name]
    server = serve(**course.server)
    place(server, course, transport)
    [record] = server.sim.sessions
    assert [fault for event in server.received for fault in problems(event, CLIENT)] == []
    assert [fault for event in server.sent for fault in problems(event, SERVER)] == []
    assert server.got("input_audio_buffer.append") or server.got("conversation.item.create")
    assert server.of("response.done")
    assert "openai-beta" not in record.headers
    assert server.errors == [], "nothing of it is refused"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_interrupted_reply_is_truncated_where_it_was_heard(serve, transport: str) -> None:
    server = serve(**LONG)
    place(server, COURSES["barge-in"], transport)
    [cut] = server.got("conversation.item.truncate")
    assert 400 < cut["audio_end_ms"] < 1800
    assert cut["item_id"] == server.of("conversation.item.truncated")[0]["item_id"]


@pytest.mark.parametrize("ends", ["sequential", "together"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_item_that_was_heard_to_its_end_is_not_truncated(serve, transport: str, ends: str) -> None:
    """The caller interrupts the second of two items."""
    script = (Say(SAYS), Say(SAYS, after="reply_start", delay_ms=2200), Hangup(after="reply_end"))
    server = serve(**ITEMS, item_ends=ends, cancel_lag_ms=100)
    place(server, Course(script, settings=GREETED), transport)
    first, second = [
        event["item"]["id"]
        for event in server.of("response.output_item.added")
        if event["response_id"] == server.of("response.created")[1]["response"]["id"]
    ]
    assert [event["item_id"] for event in server.got("conversation.item.truncate")] == [second]
    assert [event["item_id"] for event in server.got("conversation.item.delete")] == []
    assert first != second


@pytest.mark.parametrize("name", [name for name in COURSES if name.startswith("function")])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_model_is_told_what_functions_gave_before_it_is_asked_to_go_on(
    serve, transport: str, name: str
) -> None:
    server = serve(**COURSES[name].server)
    place(server, COURSES[name], transport)
    outputs = index_of(server.received, "conversation.item.create", type="function_call_output")
    creates = index_of(server.received, "response.create")
    calls = len(server.of("response.function_call_arguments.done"))
    assert len(outputs) == calls > 0
    assert len(creates) == 1, "one answer, with all of them"
    assert creates[0] > outputs[-1]
    answers = [json.loads(server.received[number]["item"]["output"]) for number in outputs]
    assert [answer["n"] for answer in answers] in ([7], [1, 2])
    assert "unknown" not in server.said()[-1]
