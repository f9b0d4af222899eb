"""Functions that the model calls in a call: several at once, slow ones, ones that the caller speaks over."""

from __future__ import annotations

import json
import random
import threading
import time

import pytest
from calls import APPEND, CREATE, ITEM, SAYS, asked, errors, statuses, wait_for

from ivr_ai.gateways.caller import Say
from ivr_ai.sim.faults import Faults

ROUNDS = 40
TWO = {
    "turn": [
        {
            "heard": "Is it open, and where can I park?",
            "first": "I will check.",
            "call": [{"name": "hours"}, {"name": "parking", "arguments": {"day": "today"}}],
            "say": "Open {output1}; parking {output2}.",
        }
    ],
    "fallback": ["Yes?"],
    "loop": False,
}


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


def called(session) -> list[str]:
    """The ids of the calls that a server has made, in order."""
    kind = "response.function_call_arguments.done"
    return [event.body["call_id"] for event in session.sent if event.type == kind]


def order(session) -> list[str]:
    """What the client sent of outputs and creates, in order: "output", "create"."""
    names = {ITEM: "output", CREATE: "create"}
    return [names[event.type] for event in session.events if event.type in names]


def outputs(session) -> dict[str, object]:
    """What the functions gave, by the ids of the calls."""
    items = [event["item"] for event in session.received(ITEM)]
    return {item["call_id"]: json.loads(item["output"]) for item in items}


class TestSeveralAtOnce:
    @pytest.mark.parametrize("delays_s", [(0, 0), (0.15, 0), (0, 0.15), (0.05, 0.05)], ids=str)
    def test_one_answer_knows_all_they_gave(self, place, sim, delays_s):
        def after(delay_s, given):
            time.sleep(delay_s)
            return given

        functions = {
            "hours": lambda given: after(delays_s[0], "till six"),
            "parking": lambda given: after(delays_s[1], f"behind it {given['day']}"),
        }
        server = sim(dialogue=TWO, voice="tone:440:300", faults=Faults(call_unoffered=True))
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], functions=functions)
        placed.wait("ai_said", 2)
        placed.hang_up()
        placed.finish()
        session = server.sessions[0]
        assert order(session) == ["output", "output", "create"]
        assert [outputs(session)[call_id] for call_id in called(session)] == ["till six", "behind it today"]
        said = [event.data["text"] for event in placed.of("ai_said")]
        assert said == ["I will check.", 'Open "till six"; parking "behind it today".']
        assert [event.data["turn"] for event in placed.of("ai_said")] == [1, 1]
        assert errors(session) == []

    def test_none_is_asked_for_before_the_response_that_called_is_done(self, place, sim):
        """They give back at once, and the rest of the response takes its time."""
        server = sim(
            dialogue=TWO, voice="tone:440:300", faults=Faults(call_unoffered=True), item_pause_ms=150
        )
        functions = {"hours": lambda given: 1, "parking": lambda given: 2}
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], functions=functions)
        placed.wait("ai_said", 2)
        placed.hang_up()
        placed.finish()
        assert order(server.sessions[0]) == ["output", "output", "create"]
        assert errors(server.sessions[0]) == []

    def test_outputs_are_on_the_wire_before_what_asks_for_their_answer(self, place, sim):
        """However the functions' threads and the one that hears of the response's end come together."""
        moments = random.Random(5)
        functions = {"one": lambda given: time.sleep(given["s"]), "two": lambda given: time.sleep(given["s"])}
        server = sim(voice="tone:440:20")
        placed = place(server, functions=functions)
        session = server.wait_session()
        session.wait_received(APPEND)
        for nth in range(1, ROUNDS + 1):
            response = f"resp_{nth}"
            session.send({"type": "response.created", "response": {"id": response}})
            for name in functions:
                arguments = json.dumps({"s": moments.choice([0, 0, 0.001, 0.002])})
                call = {"call_id": f"{name}_{nth}", "name": name, "arguments": arguments}
                body = {"response_id": response, "item_id": f"item_{name}_{nth}", **call}
                session.send({"type": "response.function_call_arguments.done", **body})
            time.sleep(moments.choice([0, 0, 0.001, 0.002]))
            session.send({"type": "response.done", "response": {"id": response, "status": "completed"}})
            session.wait_received(CREATE, nth)
            wait_for(lambda nth=nth: len(statuses(session)) == nth)
        placed.hang_up()
        placed.finish()
        assert order(session) == ["output", "output", "create"] * ROUNDS

    def test_one_that_does_not_return_holds_up_the_answer_not_the_call(self, place, sim):
        release = threading.Event()
        functions = {"hours": lambda given: release.wait(10), "parking": lambda given: 2}
        server = sim(dialogue=TWO, voice="tone:440:300", faults=Faults(call_unoffered=True))
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], functions=functions)
        server.wait_session().wait_received(ITEM)
        placed.wait("ai_said")
        placed.say(SAYS)
        placed.wait("ai_said", 2)  # the answer to the second turn
        assert asked(server.sessions[0]) == []
        release.set()
        server.sessions[0].wait_received(ITEM, 2)
        placed.hang_up()
        placed.finish()
        assert placed.of("failure") == []


class TestTheCallerSpeaksOver:
    def test_one_that_is_running_gives_back_to_the_next_answer(self, place, sim):
        """Its output is in the conversation when the caller's new turn is answered; nobody asks twice."""
        release = threading.Event()
        functions = {"hours": lambda given: release.wait(10) and "till six", "parking": lambda given: 2}
        server = sim(dialogue=TWO, voice="tone:440:300", faults=Faults(call_unoffered=True))
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], functions=functions)
        placed.wait("function_call", 2)
        placed.say(SAYS * 4)
        placed.wait("speech_started", 2)
        release.set()
        server.sessions[0].wait_received(ITEM, 2)
        placed.wait("speech_stopped", 2)
        wait_for(lambda: statuses(server.sessions[0]).count("completed") == 2)
        placed.wait("ai_said", 2)
        placed.hang_up()
        placed.finish()
        assert asked(server.sessions[0]) == []
        assert errors(server.sessions[0]) == []

    def test_one_that_was_called_after_the_caller_began_is_not_run(self, place, sim):
        """The model gets an output all the same: without one it cannot go on."""
        run = []
        server = sim(voice="tone:440:3000")
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], functions={"late": run.append})
        placed.wait("heard")
        session = server.sessions[0]
        response = session.wait_sent("response.done")["response"]["id"]
        placed.say(SAYS)
        placed.wait("barge_in")
        call = {"call_id": "call_late", "name": "late", "arguments": "{}", "item_id": "i"}
        session.send({"type": "response.function_call_arguments.done", "response_id": response, **call})
        item = session.wait_received(ITEM)["item"]
        placed.hang_up()
        placed.finish()
        assert item["call_id"] == "call_late"
        assert "not run" in json.loads(item["output"])["error"]
        assert run == placed.of("function_call") == []
