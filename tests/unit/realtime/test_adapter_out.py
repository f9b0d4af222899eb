"""A conversation's actions and its history as OpenAI's events, which the simulator judges."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import random
from typing import Any

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Ask, Cancel, Forget, Output, SetTurns, Turns, Utterance
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.conversation.history import Entry, History
from ivr_ai.realtime.adapter import RealtimeAdapter
from ivr_ai.realtime.session_update import build_session
from ivr_ai.sim.dialogue import Dialogue
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.realtime_session import Options, Session
from ivr_ai.sim.record import SessionRecord

SILENCE_MS = 300


class Line:
    """Where a simulated session's events go."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def close(self, code: int = 1000, reason: str = "") -> None: ...

    def drop(self) -> None: ...

    @property
    def errors(self) -> list[str]:
        return [event["error"]["message"] for event in self.sent if event["type"] == "error"]


def said_to_the_simulator(events: list[dict[str, Any]]) -> Line:
    """A session of `ivr-ai sim` that has been sent these events."""
    line, record = Line(), SessionRecord(1, "/v1/realtime", {"model": "m"}, {})

    async def talk() -> None:
        session = Session(Options(), Dialogue.load(), Faults(), line, record, lambda note: None)
        session.open()
        for event in events:
            session.receive(json.dumps(event))
        await asyncio.sleep(0)
        session.close()

    asyncio.run(talk())
    return line


def adapter() -> RealtimeAdapter:
    return RealtimeAdapter(Conversation(Settings(realtime_url="ws://localhost/")), SILENCE_MS)


class TestEncoding:
    @pytest.mark.parametrize(
        ("action", "events"),
        [
            (
                Ask("ask_1", "Greet."),
                [
                    {
                        "type": "response.create",
                        "event_id": "ask_1",
                        "response": {"instructions": "Greet.", "metadata": {"ivr_ai_ask": "ask_1"}},
                    }
                ],
            ),
            (Cancel("r1"), [{"type": "response.cancel", "event_id": "late_1", "response_id": "r1"}]),
            (
                Forget("i1", 740),
                [
                    {
                        "type": "conversation.item.truncate",
                        "event_id": "late_1",
                        "item_id": "i1",
                        "content_index": 0,
                        "audio_end_ms": 740,
                    }
                ],
            ),
            (Forget("i1"), [{"type": "conversation.item.delete", "event_id": "late_1", "item_id": "i1"}]),
            (Utterance("turn_1"), [{"type": "input_audio_buffer.commit", "event_id": "item_1"}]),
            (
                Utterance("turn_1", "AAAA"),
                [
                    {
                        "type": "conversation.item.create",
                        "event_id": "item_1",
                        "item": {
                            "id": "turn_1",
                            "type": "message",
                            "role": "user",
                            "content": [{"type": "input_audio", "audio": "AAAA"}],
                        },
                    }
                ],
            ),
            (
                Output("c1", '{"a": 1}'),
                [
                    {
                        "type": "conversation.item.create",
                        "event_id": "item_1",
                        "item": {"type": "function_call_output", "call_id": "c1", "output": '{"a": 1}'},
                    }
                ],
            ),
            (
                Output("c1", "{}", ("f", '{"x": 2}')),
                [
                    {
                        "type": "conversation.item.create",
                        "event_id": "item_1",
                        "item": {
                            "type": "function_call",
                            "call_id": "c1",
                            "name": "f",
                            "arguments": '{"x": 2}',
                        },
                    },
                    {
                        "type": "conversation.item.create",
                        "event_id": "item_2",
                        "item": {"type": "function_call_output", "call_id": "c1", "output": "{}"},
                    },
                ],
            ),
            (SetTurns(Turns()), []),
        ],
    )
    def test_every_action(self, action, events):
        assert adapter().encode(action) == events

    def test_every_event_has_an_id_of_its_own(self):
        ours = adapter()
        actions = [
            Cancel("r1"),
            Forget("i1"),
            Forget("i2", 5),
            Utterance("t"),
            Output("c", "{}", ("f", "{}")),
        ]
        ids = [event["event_id"] for action in actions * 3 for event in ours.encode(action)]
        assert len(ids) == len(set(ids)) == 18

    def test_the_simulator_takes_them(self):
        ours = adapter()
        speech = base64.b64encode(bytes(9600)).decode()
        actions = [
            Utterance("turn_1", speech),
            Output("c1", '{"a": 1}', ("f", "{}")),
            Ask("ask_1", "Greet."),
        ]
        events = [event for action in actions for event in ours.encode(action)]
        session = build_session(Settings(realtime_url="ws://localhost/"), Format("pcmu", 8000))
        line = said_to_the_simulator([{"type": "session.update", "session": session}, *events])
        assert line.errors == []
        (created,) = [event for event in line.sent if event["type"] == "response.created"]
        assert created["response"]["metadata"] == {"ivr_ai_ask": "ask_1"}


class TestReplay:
    HISTORY = (
        Entry("user", "What about Sunday?", "u1", turn=1),
        Entry("assistant", "Let me see.", "i1", 1.0, 1),
        Entry("call", '{"day": "sunday"}', call_id="c1", name="hours"),
        Entry("output", '{"open": false}', call_id="c1"),
        Entry("assistant", "We are closed on Sunday, sorry.", "i2", 0.5, 1),
        Entry("call", None, call_id="c2", name="nothing"),
        Entry("output", None, call_id="c2"),
    )

    def test_what_was_said_and_heard_in_order(self):
        items = [event["item"] for event in adapter().replay(list(self.HISTORY))]
        assert items == [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "What about Sunday?"}],
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me see."}],
            },
            {"type": "function_call", "call_id": "c1", "name": "hours", "arguments": '{"day": "sunday"}'},
            {"type": "function_call_output", "call_id": "c1", "output": '{"open": false}'},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "We are closed"}],
            },
            {"type": "function_call", "call_id": "c2", "name": "nothing", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c2", "output": ""},
        ]

    def test_the_simulator_takes_it(self):
        line = said_to_the_simulator(adapter().replay(list(self.HISTORY)))
        assert line.errors == []
        added = [event for event in line.sent if event["type"] == "conversation.item.added"]
        assert len(added) == len(self.HISTORY)

    def test_an_output_whose_call_is_no_longer_known_is_left_out(self):
        assert adapter().replay([Entry("output", "{}", call_id="c0")]) == []

    @pytest.mark.parametrize("seed", range(20))
    def test_any_history_of_a_long_call(self, seed):
        """More than History keeps: calls may be gone whose outputs are there."""
        random_, history = random.Random(seed), History()
        for n in range(150):
            match random_.randrange(4):
                case 0:
                    history.turn(f"u{n}", n)
                    history.caller_text(f"u{n}", random_.choice(["Yes.", " ", ""]), n)
                case 1:
                    history.spoken(f"i{n}")
                    history.text(f"i{n}", "One two three four.")
                    history.heard(f"i{n}", random_.choice([0.1, 0.6, 1.0]), n)
                case 2:
                    history.called(f"c{n}", "f", "{}")
                    history.called(f"d{n}", "g", "{}")
                    history.returned(f"d{n}", "1")
                    history.returned(f"c{n}", "2")
                case 3:
                    history.called(f"e{n}", "f", "{}")
        entries = history.entries()
        before = copy.deepcopy(entries)
        line = said_to_the_simulator(adapter().replay(entries))
        assert line.errors == []
        assert entries == before

    def test_no_history(self):
        assert adapter().replay([]) == []
