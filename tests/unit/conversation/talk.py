"""A conversation driven by hand, through the adapter for OpenAI Realtime: events in, actions out, time as
told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Action, Ask, Fail, Flush, Notify, SetTurns, Turns
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.realtime.adapter import RealtimeAdapter
from ivr_ai.realtime.session_update import server_takes_turns


def mark(item: str, played_ms: float = 0.0, **more: Any) -> Mark:
    """Where an item stands. `started_s` and `finished_s` also set what follows from them."""
    finished_s = more.get("finished_s")
    return Mark(
        item=item,
        written_ms=more.get("written_ms", 1000.0),
        played_ms=played_ms,
        started_s=more.get("started_s"),
        finished_s=finished_s,
        ended=more.get("ended", finished_s is not None),
        finished=finished_s is not None,
        flushed=more.get("flushed", False),
    )


class Talk:
    """A conversation and its clock. The service has agreed to what was wanted about turns."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(realtime_url="ws://localhost/", **settings)
        self.it = Conversation(self.settings, detects=server_takes_turns(self.settings))
        self.adapter = RealtimeAdapter(self.it, self.settings.vad_silence_ms)
        self.now_s = 100.0
        self.of_audio: list[Action] = []  # what followed from the last audio()

    # ---- what happens ----

    def event(self, kind: str, **body: Any) -> list[Action]:
        return self.adapter.on_event({"type": kind, **body}, self.now_s)

    def caller_starts(self) -> list[Action]:
        item = f"user_{self.it.totals.turns + 1}"
        return self.event("input_audio_buffer.speech_started", audio_start_ms=0, item_id=item)

    def caller_stops(self) -> list[Action]:
        item = f"user_{self.it.totals.turns + 1}"
        return self.event("input_audio_buffer.speech_stopped", audio_end_ms=900, item_id=item)

    def turn_ends(self, audio: str | None = None) -> list[Action]:
        """The caller stops; where the call detects turns, what they said is handed in."""
        stopped = self.caller_stops()
        return stopped if server_takes_turns(self.settings) else stopped + self.utterance(audio)

    def utterance(self, audio: str | None = None) -> list[Action]:
        """What the caller said, where the call detects turns."""
        return self.it.utterance(audio, self.now_s)

    def created(self, response: str = "r1", ask: str = "") -> list[Action]:
        """A response begins. ask: the request that it answers, as the service gives it back."""
        metadata = {"metadata": {"ivr_ai_ask": ask}} if ask else {}
        return self.event("response.created", response={"id": response, "status": "in_progress", **metadata})

    def audio(self, response: str = "r1", item: str = "i1") -> int | None:
        generation, self.of_audio = self.it.audio(response, item, self.now_s)
        return generation

    def added(self, response: str = "r1", item: str = "i1") -> list[Action]:
        """A spoken item begins, without audio as yet."""
        body = {"id": item, "type": "message", "role": "assistant"}
        return self.event("response.output_item.added", response_id=response, item=body)

    def audio_done(self, response: str = "r1", item: str = "i1") -> list[Action]:
        return self.event("response.output_audio.done", response_id=response, item_id=item)

    def done(self, response: str = "r1", status: str = "completed", **more: Any) -> list[Action]:
        return self.event("response.done", response={"id": response, "status": status, **more})

    def agreed(self, *, asks: bool = True, interrupts: bool = True) -> Talk:
        """The service says who decides about turns."""
        self.it.turns_agreed(Turns(True, asks, interrupts))
        return self

    def later(self, seconds: float) -> list[Action]:
        """Time passes."""
        self.now_s += seconds
        return self.it.tick(self.now_s)

    def cancelled(self, response: str = "r1", reason: str = "turn_detected", **more: Any) -> list[Action]:
        return self.done(
            response, "cancelled", status_details={"type": "cancelled", "reason": reason}, **more
        )

    def failed(
        self, response: str = "r1", code: str = "server_error", message: str = "It broke."
    ) -> list[Action]:
        details = {"type": "failed", "error": {"code": code, "message": message}}
        return self.done(response, "failed", status_details=details)

    def calls(
        self,
        call_id: str = "c1",
        response: str = "r1",
        name: str = "look_up",
        arguments: str = '{"order": 17}',
    ) -> list[Action]:
        """The model calls a function."""
        body = {"call_id": call_id, "name": name, "arguments": arguments}
        kind = "response.function_call_arguments.done"
        return self.event(kind, response_id=response, item_id=f"f_{call_id}", **body)

    def returns(self, call_id: str = "c1", output: str = "1") -> list[Action]:
        """A function gives its output back."""
        return self.it.function_output(call_id, output, self.now_s)

    def lost(self) -> list[Action]:
        """The connection is gone."""
        return self.it.link_lost(self.now_s)

    def connected(self, turns: Turns | None = None) -> list[Action]:
        """A new connection is up. turns: what its server has agreed to, when that is not what was wanted."""
        ready = self.it.link_ready(turns or self.it.turns_wanted, self.now_s)
        return [*ready, *self.it.link_resumed(self.now_s)]

    def error(self, code: str | None, message: str = "It is wrong.", **more: Any) -> list[Action]:
        error = {"type": "invalid_request_error", "code": code, "message": message, **more}
        return self.event("error", error=error)

    def flushed(self, heard: dict[str, float], marks: Sequence[Mark] = ()) -> list[Action]:
        """The Flush was performed: so much had been heard of the items it cut short."""
        return self.it.flushed(Flushed(self.it.generation + 1, heard), list(marks), self.now_s)

    def heard(self, item: str = "i1", **more: Any) -> list[Action]:
        """An item has been heard to its end."""
        more = {"started_s": self.now_s - 1, "finished_s": self.now_s, **more}
        return self.it.mark(mark(item, 1000.0, **more), self.now_s)

    # ---- whole stretches ----

    def turn(self) -> Talk:
        """The caller has said something."""
        self.caller_starts()
        self.caller_stops()
        return self

    def turn_cuts(self, heard: dict[str, float], marks: Sequence[Mark] = ()) -> Talk:
        """The caller says something into what is being said, of which so much was heard."""
        self.caller_starts()
        self.flushed(heard, marks)
        self.caller_stops()
        return self

    def speaking(self, response: str = "r1", item: str = "i1") -> Talk:
        """A reply is being spoken and goes on."""
        self.turn()
        self.created(response)
        assert self.audio(response, item) is not None
        return self


def sent(actions: Sequence[Action]) -> list[dict[str, Any]]:
    """The events to be sent, without the ids that say what they are about."""
    plain = RealtimeAdapter(Conversation(Settings(realtime_url="ws://localhost/")), 0)
    events = [event for action in actions for event in plain.encode(action)]
    return [_without_ids(event) for event in events]


def _without_ids(event: dict[str, Any]) -> dict[str, Any]:
    event = {name: value for name, value in event.items() if name != "event_id"}
    response = {name: value for name, value in event.pop("response", {}).items() if name != "metadata"}
    return {**event, "response": response} if response else event


def types(actions: Sequence[Action]) -> list[str]:
    """Types of the events to be sent."""
    return [event["type"] for event in sent(actions)]


def asks(actions: Sequence[Action]) -> list[Ask]:
    return [action for action in actions if isinstance(action, Ask)]


def turns_set(actions: Sequence[Action]) -> list[Turns]:
    return [action.turns for action in actions if isinstance(action, SetTurns)]


def notices(actions: Sequence[Action]) -> list[tuple[str, dict[str, Any]]]:
    return [(action.kind, action.data) for action in actions if isinstance(action, Notify)]


def failures(actions: Sequence[Action]) -> list[str]:
    return [action.reason for action in actions if isinstance(action, Fail)]


def flushes(actions: Sequence[Action]) -> int:
    return sum(isinstance(action, Flush) for action in actions)
