"""A model of the world around a conversation: a service, a line, a caller and a stream, on their own clock.

The service is one of many kinds: see talk_service.py. What a conversation must not do raises AssertionError.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from talk import Talk
from talk_service import Response, Service

from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.conversation.actions import (
    Action,
    Ask,
    EndItem,
    Fail,
    Flush,
    Forget,
    Notify,
    Output,
    RunFunction,
    SetTurns,
    Turns,
)
from ivr_ai.conversation.floor import Floor
from ivr_ai.realtime.adapter import RealtimeAdapter

TICK_S = 0.1
GREETING = "Say hello."


@dataclass
class Spoken:
    """An item in the stream."""

    response: Response
    written_ms: float = 0.0
    played_ms: float = 0.0
    started_s: float | None = None
    finished_s: float | None = None
    ended: bool = False
    flushed: bool = False

    def mark(self, item: str) -> Mark:
        finished = self.finished_s is not None
        written, played = self.written_ms, self.played_ms
        return Mark(
            item, written, played, self.started_s, self.finished_s, self.ended, finished, self.flushed
        )


class World(Service):
    """One call. run() lives through it and raises AssertionError for what must not be."""

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(
            random.Random(f"{seed} {sorted(settings.items())}"), Talk(**settings, hold_keep_s=1.0)
        )
        # the caller
        self.speaks = self.spoke_while_down = self.held = False
        self.heard_speaking = False  # as the conversation was last told
        self.owed_since_s = -1.0  # the last turn, or output of a function, on the service's clock
        # the stream
        self.generation = 1
        self.items: dict[str, Spoken] = {}
        self.forgotten: set[str] = set()
        self.said: set[str] = set()  # items whose words an observer was told
        # functions
        self.outputs: Counter[str] = Counter()
        self.under_way: set[str] = set()  # responses that the conversation has met and not seen the end of
        self.answered_s = -1.0  # when the last response began of which the conversation has let audio through
        self.it.turns_agreed(self._stated(self.it.turns_wanted))

    # ---- time ----------------------------------------------------------------------------------------------

    def until(self, end_s: float) -> None:
        """Lives on until then."""
        while self.now_s < end_s:
            tick_s = self.now_s + TICK_S
            while self._queue and self._queue[0][0] <= tick_s:
                due_s, _, link, what = heapq.heappop(self._queue)
                self._play(max(0.0, due_s - self.now_s))
                self.talk.now_s = max(self.now_s, due_s)
                if link in (self.link, 0):
                    what()
            self._play(tick_s - self.now_s)
            self.talk.now_s = tick_s
            self._report_marks(0.8)
            self.perform(self.it.tick(self.now_s))

    # ---- the stream ----------------------------------------------------------------------------------------

    def _play(self, seconds: float) -> None:
        left_ms = 0.0 if self.held else seconds * 1000
        for item in self.items.values():
            if item.flushed or item.finished_s is not None:
                continue
            part_ms = min(left_ms, item.written_ms - item.played_ms)
            if part_ms > 0:
                item.started_s = self.now_s if item.started_s is None else item.started_s
                item.played_ms += part_ms
                left_ms -= part_ms
            if item.ended and item.played_ms >= item.written_ms:
                item.finished_s = self.now_s + seconds

    def _report_marks(self, share: float = 1.0) -> None:
        for name in self.it.unheard_items():
            if name in self.items and self.random.random() < share:
                self.perform(self.it.mark(self.items[name].mark(name), self.now_s))

    def _flush(self) -> list[Action]:
        cut = {n: item for n, item in self.items.items() if not item.flushed and item.finished_s is None}
        for item in cut.values():
            item.ended = item.flushed = True
        self.generation += 1
        for response in self.responses.values():
            response.old = response.old or response.met
        marks = [self.items[n].mark(n) for n in self.it.unheard_items() if n in self.items]
        flushed = Flushed(self.generation, {name: item.played_ms for name, item in cut.items()})
        return self.it.flushed(flushed, marks, self.now_s)

    # ---- what the service sends ------------------------------------------------------------------------

    def _meets(self, response: Response) -> None:
        """The conversation hears of a response for the first time, or again."""
        if response.met:
            return
        response.met = True
        if self.requests.get(response.request_id) == "overtaken":
            response.old = True
        self.requests[response.request_id] = "closed"
        if not (self.kind.echoes and self.kind.takes_metadata and self.echoed):  # nobody can tell whose it is
            self.requests = dict.fromkeys(self.requests, "closed")
        if not response.over:
            self.under_way = {response.response_id}  # one at a time: a new one ends what was before

    def _audio(self, response: Response, item: str) -> list[Action]:
        self._meets(response)
        generation = self.talk.audio(response.response_id, item)
        actions = self.talk.of_audio
        if generation is None:
            return actions
        assert generation == self.generation, "audio was let through under an old generation"
        assert not response.old, "audio that the caller has spoken over was let through"
        self.answered_s = max(self.answered_s, response.begun_s)
        if self.local and self.up and not self.speaks and self.chance(0.02):
            self.perform(actions)
            actions = []
            self.caller_starts()  # between the decision and the stream
        if generation == self.generation:
            spoken = self.items.setdefault(item, Spoken(response))
            spoken.written_ms += self.random.uniform(100, 400)
        return actions

    def _returns(self, call_id: str) -> None:
        self.steps.append(f"{self.now_s:.2f} output {call_id}")
        if not self.heard_speaking:  # else the answer to their turn knows the output
            self.owed_since_s = self.now_s
        self.perform(self.talk.returns(call_id))

    # ---- what the conversation wants -----------------------------------------------------------------------

    def perform(self, actions: list[Action]) -> None:
        flat = [a for action in actions for a in (self._flush() if isinstance(action, Flush) else [action])]
        for action in flat:
            match action:
                case Ask(request_id):
                    self.steps.append(f"{self.now_s:.2f} {action}")
                    self._check_ask(request_id)
                case Forget(item_id, heard_ms):
                    self._check_forgotten(item_id, heard_ms)
                case Output(call_id):
                    self.outputs[call_id] += 1
                case EndItem(item) if item in self.items:
                    self.items[item].ended = True
                case RunFunction(call_id):
                    self.soon_here(self.random.choice((0.0, 0.2, 2.0)), lambda c=call_id: self._returns(c))
                case SetTurns(turns):
                    self.soon(0.05, lambda t=turns: self._session(t), "up")
                case Fail(reason):
                    raise AssertionError(f"gave up: {reason}")
                case Notify("ai_said", data):
                    self._check_said(data)
            self._send(action)
        assert self.it.generation == self.generation

    def _send(self, action: Action) -> None:
        if not self.up or isinstance(action, Flush | EndItem | RunFunction | SetTurns | Fail | Notify):
            return
        for event in self.talk.adapter.encode(action):
            self.steps.append(f"{self.now_s:.2f} > {event['type']} {event['event_id']}")
            self.soon(self.random.choice((0.01, 0.05)), lambda e=event: self._receive(e), "up")

    def _check_ask(self, request_id: str) -> None:
        assert self.up, "asked for without a connection"
        assert not self.heard_speaking, "asked for over the caller"
        still_open = [name for name, state in self.requests.items() if state != "closed"]
        assert not still_open, f"asked for while {still_open} is open"
        assert not self.under_way, f"asked for while {self.under_way} is under way"
        self.requests[request_id] = "open"

    def _check_forgotten(self, item_id: str, heard_ms: int) -> None:
        if not self.up:
            return  # goes nowhere: the next link is told what was heard
        assert item_id not in self.forgotten, "forgotten twice"
        self.forgotten.add(item_id)
        assert int(item_id.split("-")[1]) == self.link, "forgotten over another link"
        item = self.items.get(item_id)
        assert item is None or item.finished_s is None, "what was heard to its end was cut"
        played_ms = item.played_ms if item else 0.0
        assert isinstance(heard_ms, int)
        assert heard_ms <= played_ms < heard_ms + 1, f"cut at {heard_ms} of {played_ms} heard"

    def _check_said(self, data: dict[str, Any]) -> None:
        item = data["item"]
        assert item not in self.said, "told twice"
        self.said.add(item)
        assert ("cut" in data) == (self.items[item].finished_s is None)

    # ---- the caller ----------------------------------------------------------------------------------------

    def caller_starts(self) -> None:
        self.speaks = True
        self.spoke_while_down = self.spoke_while_down or not self.up
        if self.local and self.up:
            self._hears_start()
        elif self.up:
            self.soon(0.02, self._detects_start, "up")

    def caller_stops(self) -> None:
        self.speaks = False
        if self.local and self.up:
            self._hears_stop()
        elif self.up:
            self.soon(0.3, self._detects_stop, "up")

    def _detects_start(self) -> None:
        self.down(self._start_told, "speech started")
        if self.turns.interrupts and self.active is not None:
            self._cancel("turn_detected")

    def _detects_stop(self) -> None:
        self.owed_since_s = self.now_s
        self.down(self._stop_told, "speech stopped")
        if self.turns.asks and self.active is None:
            self._begin()
        elif self.turns.asks:
            self.reply_due = self.kind.answers_when_busy

    def _hears_start(self) -> None:
        self.steps.append(f"{self.now_s:.2f} caller starts")
        self.perform(self._start_told())

    def _hears_stop(self) -> None:
        if not self.heard_speaking:
            return
        self.steps.append(f"{self.now_s:.2f} caller stops")
        self.owed_since_s = self.now_s
        actions = self._stop_told()
        self.perform(actions + self.talk.utterance(self.random.choice((None, "AAAA"))))

    def _start_told(self) -> list[Action]:
        if self.random.random() < 0.5:
            self._report_marks()
        self.heard_speaking = True
        may_interrupt, floor = self.it.may_interrupt, self.it.floor
        actions = self.talk.caller_starts()
        queued = any(not item.flushed and item.finished_s is None for item in self.items.values())
        if queued and may_interrupt and floor is not Floor.HEARING:
            assert Flush() in actions, f"audio is queued ({floor}) and goes on over the caller"
        if not may_interrupt:
            assert Flush() not in actions, "what must not be interrupted was"
        for name, state in self.requests.items():
            if state == "open" and may_interrupt:
                self.requests[name] = "overtaken"
        return actions

    def _stop_told(self) -> list[Action]:
        self.heard_speaking = False
        return self.talk.caller_stops()

    # ---- the line ------------------------------------------------------------------------------------------

    def lose_link(self) -> None:
        self.steps.append(f"{self.now_s:.2f} link lost")
        self.up, self.spoke_while_down = False, self.speaks
        self.link += 1
        self.active, self.reply_due = None, False
        self.under_way.clear()
        self.requests = dict.fromkeys(self.requests, "closed")
        self.perform(self.it.link_lost(self.now_s))
        wanted = self.it.turns_wanted
        self.soon(self.random.choice((0.1, 0.5, 2.0)), lambda: self._connected(wanted))

    def _connected(self, wanted: Turns) -> None:
        self.steps.append(f"{self.now_s:.2f} link ready")
        self.up = True
        was_open = self.it.turn_is_open
        self.talk.adapter = RealtimeAdapter(self.it, 0)
        self.turns = self._turns(wanted)
        self.perform(self.it.link_ready(self._stated(wanted), self.now_s))
        if not self.local:
            self.heard_speaking = False
        self.perform(self.it.link_resumed(self.now_s))
        if self.local:  # what was captured meanwhile is listened to now
            if self.heard_speaking and not self.speaks:
                self._hears_stop()
            elif self.speaks and not self.heard_speaking:
                self._hears_start()
            return
        if self.speaks:
            self.caller_starts()
        elif (was_open and self.random.random() < 0.9) or (
            self.spoke_while_down and self.random.random() < 0.5
        ):
            self.caller_starts()
            self.soon(0.2, lambda: self.caller_stops() if self.speaks else None)

    def hold(self) -> None:
        self.held = not self.held
        kind = "hold" if self.held else "unhold"
        self.steps.append(f"{self.now_s:.2f} {kind}")
        actions = self.it.host_event(kind, {}, self.now_s)
        if Flush() in actions:
            self.owed_since_s = -1.0  # what was being said when the hold began is dropped, and owed to nobody
        self.perform(actions)

    # ---- all of it -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Something happens, or nothing."""
        what = self.random.random()
        if what < 0.25:
            self.caller_stops() if self.speaks else self.caller_starts()
        elif what < 0.28 and self.up:
            self.lose_link()
        elif what < 0.31:
            self.hold()
        self.until(self.now_s + self.random.choice((0.1, 0.3, 1.0)))

    def run(self, steps: int) -> None:
        self.perform(self.it.start(self.now_s))
        for _ in range(steps):
            self.step()
        self.faults = False
        if self.held:
            self.hold()
        if self.speaks:
            self.caller_stops()
        quiet_s, end_s = 0.0, self.now_s + 60.0
        while self.now_s < end_s and quiet_s < 3.0:
            self.until(self.now_s + 0.5)
            quiet_s = quiet_s + 0.5 if self.up and self.it.is_quiet() else 0.0
        self.check_end()

    def check_end(self) -> None:
        it, kind = self.it, self.kind
        waiting = (it.floor, it.unheard_items(), it.requests)
        assert it.is_quiet(), f"a minute later the call is not quiet: {waiting} {vars(it.requests)}"
        begun_s = self.answered_s + (1.0 if kind.answers_unasked else 0.0)
        assert self.owed_since_s <= begun_s, f"{self.owed_since_s:.2f} has not been answered"
        assert set(self.outputs) == set(self.calls), "a function call without an output"
        assert set(self.outputs.values()) <= {1}, "a function call with two outputs"
        for name, item in self.items.items():
            unheard = item.finished_s is None and item.response.link == self.link
            assert not unheard or name in self.forgotten, f"{name} was not heard, and is remembered"
            heard = item.finished_s is not None and name in self.worded
            assert not heard or name in self.said, f"{name} was heard, and nobody was told"
        if self.talk.settings.greeting:
            self._check_greeting()
        if not self.local and kind.asks == kind.interrupts == "as told":
            assert self.turns == it.turns_wanted, "the service has not got its turns back"

    def _check_greeting(self) -> None:
        greetings = [each for each in self.responses.values() if each.greeting and each.completed]
        whole = [each for each in greetings if each.items and all(self._was_heard(i) for i in each.items)]
        protected = not (self.talk.settings.greeting_interruptible and self.talk.settings.barge_in)
        if protected:
            assert whole, "the greeting was never heard to its end"
            assert not it_owes_greeting(self), "the greeting was heard and is still owed"
        else:
            heard = [item for item in self.items.values() if item.response.greeting and item.played_ms]
            assert heard, "nothing of the greeting was ever heard"

    def _was_heard(self, item: str) -> bool:
        return item in self.items and self.items[item].finished_s is not None


def it_owes_greeting(world: World) -> bool:
    """Whether the conversation keeps the service from interrupting though nothing is protected any more."""
    wanted = world.it.turns_wanted
    return not world.local and world.talk.settings.barge_in and not wanted.asks
