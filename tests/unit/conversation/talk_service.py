"""A model of a Realtime service, one of many kinds: what it receives, and what it makes of that, in its time.

What it sends comes in order, but for what the protocol lets change places. The world around it, which judges
the conversation, is in talk_world.py.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from talk import Talk

from ivr_ai.conversation.actions import Action, Turns
from ivr_ai.realtime.session_update import server_takes_turns

BUSY = "conversation_already_has_active_response"
FOREIGN = ("cannot_update_voice", "item_not_found", "invalid_value", None)


@dataclass
class Kind:
    """What a service is like."""

    echoes: bool = True  # gives metadata back
    takes_metadata: bool = True
    asks: str = "as told"  # who begins responses to turns: or "always", "never"
    interrupts: str = "as told"  # or "always"
    tells_truth: bool = True  # states in its session what it will do
    names_requests: bool = True  # refusals carry the id of what they refuse
    answers_when_busy: bool = False  # a turn that ends while a response is under way, after that
    tells_beginning_of_cancelled: bool = True
    ends_in_turn: bool = True
    beginning: str = "first"  # or "after audio", "after done"
    create_delay_s: float = 0.05
    trouble: float = 0.1  # share of responses that fail, say nothing, or are refused

    @property
    def answers_unasked(self) -> bool:
        """Whether it answers turns though it says that it does not: what a response answers is a guess."""
        return self.asks == "always" and not self.tells_truth

    @classmethod
    def some(cls, rng: random.Random) -> Kind:
        often = [True, True, False]
        return cls(
            echoes=rng.choice(often),
            takes_metadata=rng.choice([True, True, True, False]),
            asks=rng.choice(["as told", "as told", "as told", "always", "never"]),
            interrupts=rng.choice(["as told", "as told", "as told", "always"]),
            tells_truth=rng.choice(often),
            names_requests=rng.choice(often),
            answers_when_busy=rng.choice([True, False]),
            tells_beginning_of_cancelled=rng.choice([True, False]),
            ends_in_turn=rng.choice([True, False]),
            beginning=rng.choice(["first"] * 4 + ["after audio", "after done"]),
            create_delay_s=rng.choice([0.0, 0.05, 0.3, 1.0]),
            trouble=rng.choice([0.0, 0.1, 0.3]),
        )


@dataclass
class Response:
    """One on the service."""

    response_id: str
    request_id: str
    link: int
    begun_s: float
    greeting: bool
    steps: list[Callable[[], None]] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    told: bool = False  # its beginning was sent
    over: bool = False
    completed: bool = False
    met: bool = False  # the conversation has heard of it
    old: bool = False  # the caller has spoken over it, and the conversation knows


class Service:
    """The service's end of a call, and the clock of both ends. What it sends comes to perform()."""

    def __init__(self, rng: random.Random, talk: Talk) -> None:
        self.random = rng
        self.kind = Kind.some(rng)
        self.talk = talk
        self.it = talk.it
        self.local = not server_takes_turns(talk.settings)
        self.steps: list[str] = []
        self.faults = True
        self.link, self.up = 1, True
        self._queue: list[tuple[float, int, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._last_s = {"up": 0.0, "down": 0.0}
        self.turns = self._turns(self.it.turns_wanted)
        self.active: Response | None = None
        self.reply_due = False
        self.echoed = False  # it has shown that it gives metadata back
        self.responses: dict[str, Response] = {}
        self.requests: dict[str, str] = {}  # open or answered: "open", "overtaken", "closed"
        self.calls: dict[str, str] = {}
        self.worded: set[str] = set()  # items whose words the conversation was told

    @property
    def now_s(self) -> float:
        return self.talk.now_s

    def chance(self, share: float) -> bool:
        return self.faults and self.random.random() < share

    # ---- what the world makes of it ------------------------------------------------------------------------

    def perform(self, actions: list[Action]) -> None:
        """The conversation wants this."""
        raise NotImplementedError

    def _meets(self, response: Response) -> None:
        """The conversation hears of a response for the first time, or again."""
        raise NotImplementedError

    def _audio(self, response: Response, item: str) -> list[Action]:
        """Audio of an item comes to the conversation."""
        raise NotImplementedError

    # ---- time ----------------------------------------------------------------------------------------------

    def soon(self, delay_s: float, what: Callable[[], None], way: str = "") -> None:
        """Later, on this link; in order with all that goes the same way."""
        due_s = self.now_s + delay_s
        if way:
            due_s = self._last_s[way] = max(due_s, self._last_s[way])
        heapq.heappush(self._queue, (due_s, next(self._numbers), self.link, what))

    def soon_here(self, delay_s: float, what: Callable[[], None]) -> None:
        """Later, whatever becomes of the link."""
        heapq.heappush(self._queue, (self.now_s + delay_s, next(self._numbers), 0, what))

    def down(self, what: Callable[[], list[Action]], name: str, twice: float = 0.0) -> None:
        """Sends something to the conversation."""

        def deliver() -> None:
            for _ in range(2 if self.chance(twice) else 1):
                self.steps.append(f"{self.now_s:.2f} {name}")
                self.perform(what())

        self.soon(self.random.choice((0.01, 0.04)), deliver, "down")

    # ---- the service: what it receives ---------------------------------------------------------------------

    def _turns(self, wanted: Turns) -> Turns:
        """What it really does."""
        asks = {"as told": wanted.asks, "always": True, "never": False}[self.kind.asks]
        interrupts = wanted.interrupts or self.kind.interrupts == "always"
        return wanted if self.local else Turns(True, asks, interrupts)

    def _stated(self, wanted: Turns) -> Turns:
        """What it says it does. One that never answers says that it does as it was told."""
        truth = self.kind.tells_truth and self.kind.asks != "never"
        return self._turns(wanted) if truth else wanted

    def _session(self, wanted: Turns) -> None:
        self.turns = self._turns(wanted)
        stated = self._stated(wanted)
        self.soon(0.02, lambda: self.it.turns_agreed(stated), "down")

    def _receive(self, event: dict[str, Any]) -> None:
        match event:
            case {"type": "response.create", "event_id": request_id}:
                self._create(request_id, event.get("response", {}))
            case {"type": "response.cancel", "response_id": response_id}:
                if self.active is not None and self.active.response_id == response_id:
                    self._cancel("client_cancelled")
                else:
                    self._error("response_cancel_not_active", event["event_id"])

    def _create(self, request_id: str, body: dict[str, Any]) -> None:
        metadata = body.get("metadata", {})
        if metadata and not self.kind.takes_metadata:
            self._refuse(request_id, "unknown_parameter", "response.metadata")
        elif self.active is not None:
            self._refuse(request_id, BUSY)
        elif self.chance(self.kind.trouble / 3) and self._may_fail(passing=True):
            self._refuse(request_id, self.random.choice(("rate_limit_exceeded", "server_error")))
        elif self.chance(self.kind.trouble / 3) and self._may_fail(passing=False):
            self._refuse(request_id, "content_filter")
        else:
            self._begin(request_id, "instructions" in body)

    def _may_fail(self, passing: bool) -> bool:
        """Whether one more failure is still none to give up for."""
        requests = self.it.requests
        wants = [*requests.wants, *(requests.asked.wants if requests.asked else [])]
        wants += requests.active.wants if requests.active else []
        fresh = all(want.give_up_s > self.now_s + 8 and want.tries < 3 for want in wants)
        twice = self.kind.answers_unasked or any(want.failures for want in wants)
        return fresh and (passing or not twice)

    def _refuse(self, request_id: str, code: str, param: str = "") -> None:
        named = self.kind.names_requests or param or code == "content_filter"

        def refused() -> list[Action]:
            self.requests[request_id] = "closed"
            return self.talk.error(
                code, **self._told_time(), param=param, event_id=request_id if named else None
            )

        self.down(refused, f"refused {request_id} {code}")

    def _told_time(self) -> dict[str, str]:
        told = self.random.choice(("It broke.", "Please try again in 1.2s.", "Please try again in 80ms."))
        return {"message": told}

    def _error(self, code: str | None, event_id: str | None = None) -> None:
        self.down(lambda: self.talk.error(code, event_id=event_id), f"error {code} {event_id}")

    # ---- the service: responses ----------------------------------------------------------------------------

    def _begin(self, request_id: str = "", greeting: bool = False) -> None:
        number = next(self._numbers)
        self.reply_due = False
        self.active = response = Response(f"r{number}", request_id, self.link, self.now_s, greeting)
        self.responses[response.response_id] = response
        self._plan(response)
        self.soon(self.kind.create_delay_s, lambda: self._go_on(response))

    def _plan(self, response: Response) -> None:
        bad = self.chance(self.kind.trouble)
        passing = self.random.choice((True, False))
        bad = bad and self._may_fail(passing)
        calls = 0 if bad or response.greeting else self.random.choice((0, 0, 0, 1, 2))
        spoken = self.random.choice((0, 1, 2)) if bad or calls else self.random.choice((1, 1, 1, 2, 3))
        spoken = 0 if bad and not passing else spoken
        for n in range(spoken):
            response.items.append(f"{response.response_id}-{response.link}-{n}")
        plan = response.steps
        if self.kind.beginning == "first":
            plan.append(lambda: self._tell_beginning(response))
        for n, item in enumerate(response.items):
            plan.append(lambda i=item: self.down(lambda: self._added(response, i), f"added {i}", 0.03))
            for k in range(self.random.choice((1, 2, 4))):
                plan.append(lambda i=item: self.down(lambda: self._audio(response, i), f"audio {i}"))
                if n == k == 0 and self.kind.beginning == "after audio":
                    plan.append(lambda: self._tell_beginning(response))
            if self.kind.ends_in_turn:
                plan.append(lambda i=item: self._end_audio(response, i))
        for _ in range(calls):
            plan.append(lambda: self._call(response))
        if not self.kind.ends_in_turn:
            plan += [lambda i=item: self._end_audio(response, i) for item in response.items]
        plan.append(lambda: self._end(response, *self._outcome(bad, passing)))

    def _outcome(self, bad: bool, passing: bool) -> tuple[str, dict[str, Any]]:
        if not bad:
            return "completed", {}
        if passing:
            code = self.random.choice(("rate_limit_exceeded", "server_error"))
            error = {"code": code, **self._told_time()}
            return "failed", {"status_details": {"type": "failed", "error": error}}
        status = self.random.choice(("completed", "incomplete", "failed"))
        return status, {"status_details": {"type": status, "reason": "content_filter"}}

    def _go_on(self, response: Response) -> None:
        if response.steps:
            response.steps.pop(0)()
            self.soon(self.random.choice((0.0, 0.02, 0.1)), lambda: self._go_on(response))

    def _resource(self, response: Response, status: str, **more: Any) -> dict[str, Any]:
        echoed = response.request_id if self.kind.echoes and self.kind.takes_metadata else ""
        self.echoed = self.echoed or bool(echoed)
        metadata = {"metadata": {"ivr_ai_ask": echoed}} if echoed else {}
        return {"id": response.response_id, "status": status, **metadata, **more}

    def _tell_beginning(self, response: Response) -> None:
        if response.told:
            return
        response.told = True
        body = self._resource(response, "in_progress")

        def begun() -> list[Action]:
            self._meets(response)
            return self.talk.event("response.created", response=body)

        self.down(begun, f"created {response.response_id} {response.request_id}", 0.03)

    def _added(self, response: Response, item: str) -> list[Action]:
        return self.talk.added(response.response_id, item)

    def _end_audio(self, response: Response, item: str) -> None:
        words = {"response_id": response.response_id, "item_id": item, "transcript": "One two three."}
        kind = "response.output_audio_transcript.done"
        ends: list[Callable[[], list[Action]]] = [
            lambda: self.talk.audio_done(response.response_id, item),
            lambda: self._words_told(item) or self.talk.event(kind, **words),
        ]
        self.random.shuffle(ends)
        for end in ends:
            self.down(end, f"end of {item}")

    def _call(self, response: Response) -> None:
        call_id = f"c{next(self._numbers)}"

        def called() -> list[Action]:
            self._meets(response)
            self.calls[call_id] = response.response_id
            return self.talk.calls(call_id, response.response_id)

        self.down(called, f"call {call_id}", 0.05)

    def _cancel(self, reason: str) -> None:
        response = self.active
        assert response is not None
        response.steps.clear()
        if self.kind.tells_beginning_of_cancelled and self.kind.beginning == "first":
            self._tell_beginning(response)
        self._end(response, "cancelled", {"status_details": {"type": "cancelled", "reason": reason}})

    def _end(self, response: Response, status: str, more: dict[str, Any]) -> None:
        self.active = None
        response.completed = status == "completed"
        body = self._resource(response, status, **more)

        def ended() -> list[Action]:
            self._meets(response)
            response.over = True
            self.under_way.discard(response.response_id)
            return self.talk.event("response.done", response=body)

        self.down(ended, f"done {response.response_id} {status}", 0.03)
        if status != "cancelled":
            self._tell_beginning(response)
        if self.reply_due:
            self._begin()
        if self.chance(0.05):
            self._error(self.random.choice(FOREIGN), self.random.choice(("somebody_1", None)))
        if self.chance(0.05):
            self.down(self._ghost, "ghost")

    def _words_told(self, item: str) -> None:
        self.worded.add(item)

    def _ghost(self) -> list[Action]:
        """The end of a response that nobody has heard of, and a refusal that is about nothing here."""
        if self.it.requests.expected or self.it.requests.asked is not None:
            return []  # nobody could tell that these are about nothing here
        status = self.random.choice(("completed", "cancelled", "failed"))
        busy = self.talk.error(self.random.choice((BUSY, "rate_limit_exceeded", "server_error")))
        return busy + self.talk.done(f"ghost_{next(self._numbers)}", status)
