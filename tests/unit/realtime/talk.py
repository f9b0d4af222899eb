"""A conversation driven by hand: events in, actions out, time as told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.config import Settings
from ivr_ai.realtime.actions import Action, Fail, Flush, Notify, Send
from ivr_ai.realtime.conversation import Conversation
from ivr_ai.realtime.session_update import build_session

WIRE = Format("pcmu", 8000)


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
    """A conversation and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(realtime_url="ws://localhost/", **settings)
        self.it = Conversation(self.settings, build_session(self.settings, WIRE))
        self.now_s = 100.0

    # ---- what happens ----

    def event(self, kind: str, **body: Any) -> list[Action]:
        return self.it.on_event({"type": kind, **body}, self.now_s)

    def begin(self) -> Talk:
        """Up to where the call may be answered."""
        self.event("session.created", session={})
        self.event("session.updated", session={})
        return self

    def caller_starts(self) -> list[Action]:
        return self.event("input_audio_buffer.speech_started", audio_start_ms=0, item_id="user")

    def caller_stops(self) -> list[Action]:
        return self.event("input_audio_buffer.speech_stopped", audio_end_ms=900, item_id="user")

    def created(self, response: str = "r1") -> list[Action]:
        return self.event("response.created", response={"id": response, "status": "in_progress"})

    def audio(self, response: str = "r1", item: str = "i1") -> int | None:
        return self.it.on_audio(response, item, self.now_s)

    def audio_done(self, response: str = "r1", item: str = "i1") -> list[Action]:
        return self.event("response.output_audio.done", response_id=response, item_id=item)

    def done(self, response: str = "r1", status: str = "completed", **more: Any) -> list[Action]:
        return self.event("response.done", response={"id": response, "status": status, **more})

    def failed(self, response: str = "r1", code: str = "server_error") -> list[Action]:
        details = {"type": "failed", "error": {"code": code, "message": "It broke."}}
        return self.done(response, "failed", status_details=details)

    def error(self, code: str | None, message: str = "It is wrong.", **more: Any) -> list[Action]:
        error = {"type": "invalid_request_error", "code": code, "message": message, **more}
        return self.event("error", error=error)

    def flushed(self, heard: dict[str, float], marks: Sequence[Mark] = ()) -> list[Action]:
        """The Flush was performed: so much had been heard of the items it cut short."""
        return self.it.on_flushed(Flushed(self.it.generation + 1, heard), list(marks), self.now_s)

    def heard(self, item: str = "i1", **more: Any) -> list[Action]:
        """An item has been heard to its end."""
        more = {"started_s": self.now_s - 1, "finished_s": self.now_s, **more}
        return self.it.on_mark(mark(item, 1000.0, **more), self.now_s)

    # ---- whole stretches ----

    def turn(self) -> Talk:
        """The caller has said something."""
        self.caller_starts()
        self.caller_stops()
        return self

    def speaking(self, response: str = "r1", item: str = "i1") -> Talk:
        """A reply is being spoken and goes on."""
        self.turn()
        self.created(response)
        assert self.audio(response, item) is not None
        return self


def sent(actions: Sequence[Action]) -> list[dict[str, Any]]:
    """The events to be sent."""
    return [action.event for action in actions if isinstance(action, Send)]


def types(actions: Sequence[Action]) -> list[str]:
    """Types of the events to be sent."""
    return [event["type"] for event in sent(actions)]


def notices(actions: Sequence[Action]) -> list[tuple[str, dict[str, Any]]]:
    return [(action.kind, action.data) for action in actions if isinstance(action, Notify)]


def failures(actions: Sequence[Action]) -> list[str]:
    return [action.reason for action in actions if isinstance(action, Fail)]


def flushes(actions: Sequence[Action]) -> int:
    return sum(isinstance(action, Flush) for action in actions)
