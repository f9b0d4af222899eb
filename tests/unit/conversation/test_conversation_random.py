"""The conversation under events in any order: models of a server and of a stream check what it does.

Seeded: a failure names its settings, its seed and the steps that led to it, and happens again every time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from talk import Talk

from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.conversation.actions import Action, EndItem, Fail, Flush, Notify, RunFunction, Send
from ivr_ai.conversation.floor import Floor
from ivr_ai.realtime.adapter import FATAL_CODES

STEPS = 250
SEEDS = range(40)
SETTINGS = [
    {},
    {"barge_in": False},
    {"turn_detection": "semantic_vad", "greeting": "Hello."},
    {"turn_detection": "none"},
    {"input_mode": "item"},
    {"input_mode": "item", "barge_in": False},
]
HARMLESS = ("response_cancel_not_active", "conversation_already_has_active_response", "server_error", None)


@dataclass
class Spoken:
    """An item in the stream."""

    written_ms: float = 0.0
    played_ms: float = 0.0
    ended: bool = False
    flushed: bool = False

    @property
    def over(self) -> bool:
        return self.flushed or self.finished

    @property
    def finished(self) -> bool:
        return self.ended and not self.flushed and self.played_ms >= self.written_ms

    def mark(self, item: str, now_s: float) -> Mark:
        started_s = now_s - 0.01 if self.played_ms else None
        finished_s = now_s if self.finished else None
        ended, finished = self.ended, self.finished
        return Mark(
            item, self.written_ms, self.played_ms, started_s, finished_s, ended, finished, self.flushed
        )


@dataclass
class World:
    """The server's and the stream's side of one conversation, and what must hold of it."""

    random: random.Random
    talk: Talk
    items: dict[str, Spoken] = field(default_factory=dict)
    generation: int = 1
    responses: int = 0
    active: str | None = None  # begun and not done, as the server sees it
    over: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    # ---- what the conversation wants ----

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(event):
                    self.check_sent(event)
                case Flush():
                    self.flush()
                case EndItem(item):
                    self.items[item].ended = True
                case RunFunction(call_id):
                    self.calls.append(call_id)
                case Fail(reason):
                    raise AssertionError(f"gave up: {reason}")
                case Notify(kind, data):
                    assert kind
                    assert all(isinstance(name, str) for name in data)

    def check_sent(self, event: dict[str, Any]) -> None:
        match event:
            case {"type": "response.create"}:
                assert self.active is None, "a second response was asked for while one is active"
                assert self.talk.it.floor is not Floor.HEARING, "a response was asked for over the caller"
            case {"type": "response.cancel", "response_id": response_id}:
                assert response_id == self.active, "what is not active was cancelled"
                assert response_id not in self.cancelled, "it was cancelled twice"
                self.cancelled.add(response_id)
            case {"type": "conversation.item.truncate", "item_id": item_id, "audio_end_ms": end_ms}:
                assert isinstance(end_ms, int)
                assert 0 < end_ms <= self.items[item_id].played_ms, "truncated beyond what was heard"
                self.forget(item_id)
            case {"type": "conversation.item.delete", "item_id": item_id}:
                assert self.items[item_id].played_ms < 1, "what was heard was deleted"
                self.forget(item_id)

    def forget(self, item_id: str) -> None:
        assert self.items[item_id].flushed, "the model was made to forget what was not cut short"
        assert item_id not in self.forgotten, "told twice"
        self.forgotten.add(item_id)

    def flush(self) -> None:
        cut = {name: item for name, item in self.items.items() if not item.over}
        for item in cut.values():
            item.ended = item.flushed = True
        self.generation += 1
        unheard = self.talk.it.unheard_items()
        marks = [self.items[name].mark(name, self.talk.now_s) for name in unheard if name in self.items]
        heard = {name: item.played_ms for name, item in cut.items()}
        flushed = Flushed(self.generation, heard)
        self.perform(self.talk.it.flushed(flushed, marks, self.talk.now_s))
        assert self.talk.it.generation == self.generation

    # ---- what happens ----

    def caller_starts(self) -> None:
        local = self.talk.settings.turn_detection == "none" or self.talk.settings.input_mode == "item"
        floor, queued = self.talk.it.floor, any(not item.over for item in self.items.values())
        actions = self.talk.it.caller_started(self.talk.now_s) if local else self.talk.caller_starts()
        if queued and self.talk.settings.barge_in and floor is not Floor.HEARING:
            assert Flush() in actions, f"audio is queued ({floor}) and goes on over the caller"
        self.perform(actions)

    def caller_stops(self) -> None:
        if self.talk.settings.turn_detection == "none" or self.talk.settings.input_mode == "item":
            self.perform(self.talk.it.caller_stopped(self.talk.now_s, self.talk.now_s - 0.3))
            self.perform(self.talk.it.utterance(self.random.choice((None, "AAAA")), self.talk.now_s))
        else:
            self.perform(self.talk.caller_stops())

    def response_begins(self) -> None:
        if self.active is None:
            self.responses += 1
            self.active = f"r{self.responses}"
            self.perform(self.talk.created(self.active))

    def response_ends(self) -> None:
        if self.active is not None:
            done, self.active = self.active, None
            self.over.append(done)
            status = self.random.choice(("completed", "cancelled", "incomplete"))
            self.perform(self.talk.done(done, status, usage={"total_tokens": 3}))

    def ghost_ends(self) -> None:
        ghost = f"ghost{self.random.randrange(10**6)}"
        self.perform(self.talk.done(ghost, self.random.choice(("completed", "cancelled"))))

    def old_news(self) -> None:
        """Something about a response that is over, again."""
        if self.over:
            old = self.random.choice(self.over)
            again = self.random.choice((self.talk.created, self.talk.done, self.talk.failed))
            self.perform(again(old))

    def audio(self) -> None:
        recent = [*self.over[-2:], *([self.active] * 3 if self.active else []), "unheard of"]
        response = self.random.choice(recent)
        item = f"{response}-{self.random.randrange(3)}"
        generation = self.talk.audio(response, item)
        if generation is None:
            return
        assert generation == self.generation, "audio of an interrupted response was let through"
        spoken = self.items.setdefault(item, Spoken())
        if not spoken.flushed:
            spoken.written_ms += self.random.uniform(1, 300)

    def audio_ends(self) -> None:
        if self.items:
            item = self.random.choice(list(self.items))
            self.perform(self.talk.audio_done("any", item))

    def function(self) -> None:
        response = self.active or "r0"
        call = {"response_id": response, "call_id": "c", "name": "f", "arguments": "{}"}
        self.perform(self.talk.event("response.function_call_arguments.done", **call))

    def function_output(self) -> None:
        if self.calls:
            self.perform(self.talk.it.function_output(self.calls.pop(), "1", self.talk.now_s))

    def error(self) -> None:
        code = self.random.choice(HARMLESS)
        assert code not in FATAL_CODES
        self.perform(self.talk.error(code))

    def play(self) -> None:
        """The caller hears what is queued, in order, for a while; then somebody looks how far it has come."""
        left_ms = self.random.choice((20, 200, 2000))
        for item in self.items.values():
            if not item.flushed:
                part_ms = min(left_ms, item.written_ms - item.played_ms)
                item.played_ms += part_ms
                left_ms -= part_ms
        for name in self.talk.it.unheard_items():
            if name in self.items and self.random.random() < 0.8:
                where = self.items[name].mark(name, self.talk.now_s)
                self.perform(self.talk.it.mark(where, self.talk.now_s))

    def told(self) -> None:
        kind = self.random.choice(
            (
                "session.updated",
                "rate_limits.updated",
                "response.output_audio_transcript.done",
                "conversation.item.input_audio_transcription.completed",
                "input_audio_buffer.committed",
            )
        )
        self.perform(self.talk.event(kind, session={}, item_id="i", transcript="t"))

    def step(self) -> None:
        often = [self.audio, self.play, self.response_begins, self.response_ends]
        seldom = [self.ghost_ends, self.old_news, self.audio_ends, self.function, self.function_output]
        what: Callable[[], None] = self.random.choice(
            [*often * 3, self.caller_starts, self.caller_stops, *seldom, self.error, self.told]
        )
        self.steps.append(what.__name__)
        self.talk.now_s += self.random.uniform(0, 0.05)
        what()
        self.perform(self.talk.it.tick(self.talk.now_s))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_whatever_the_order(settings):
    """Never raises, asks for one response at a time, cuts nothing that was heard, plays nothing old."""
    for seed in SEEDS:
        world = World(random.Random(seed), Talk(response_timeout_s=0, **settings))
        world.perform(world.talk.it.start(world.talk.now_s))
        try:
            for _ in range(STEPS):
                world.step()
        except Exception as error:
            raise AssertionError(f"seed {seed}, {settings}: {error!r} after {world.steps[-30:]}") from error
