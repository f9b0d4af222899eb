"""The conversation: events in, actions out. No I/O, no clock, no threads.

Who has the floor. A call is always in one of four states, and only these things move it (anything else leaves
it where it is):

    LISTENING   nobody speaks. The caller may begin (HEARING), or a response may (THINKING), for instance a
                greeting. A turn whose beginning was not let through may end (THINKING).
    HEARING     the caller speaks. When they stop, a reply is due (THINKING). A response that begins all the
                same is let through (THINKING, SPEAKING), for instance a greeting.
    THINKING    a reply is due and none of it has come. Its first audio makes it SPEAKING; a response that
                ends without audio (a function call, say) leads back to LISTENING. The caller may begin again:
                HEARING.
    SPEAKING    a reply is queued or playing. When the last of it has been *heard*, LISTENING. When the caller
                begins, that is a barge-in: HEARING.

Barge-in. When the caller takes the floor, whatever is queued is flushed at once, and the flush says to the
sample what they heard of each item. The model is told (conversation.item.truncate, with the milliseconds
heard), so that its memory holds what was said and not what was generated. response.cancel goes out only where
the server does not cancel by itself. Audio of the old response that is still on its way carries the flushed
generation and is dropped, by us or by the stream. If nothing was queued there is nothing to do: a false start
costs nothing.

Errors. An `error` event ends nothing by itself: most say that a request came a moment too late. Only those in
FATAL_CODES mean that no reply will ever come. A response that fails is asked for once more.

Source: OpenAI Realtime API reference (events, VAD, interruptions).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.config import Settings
from ivr_ai.realtime.actions import Action, CallFunction, EndItem, Fail, Flush, Notify, Ready, Send
from ivr_ai.realtime.session_update import server_takes_turns, slim

Event = dict[str, Any]

FATAL_CODES = frozenset(
    {
        "account_deactivated",
        "beta_api_shape_disabled",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_model",
        "missing_model",
        "model_not_found",
        "session_expired",
    }
)
RESPONSE_TRIES = 2  # a failed response is asked for again once
RESPONSES_KEPT = 32  # the generations of so many are kept: more than can have audio on its way
NOT_HEARD = 0  # the generation of a response that the caller spoke before: no audio is ever queued under it


class Floor(Enum):
    LISTENING = "listening"
    HEARING = "hearing"
    THINKING = "thinking"
    SPEAKING = "speaking"


CALLER_STARTED = "caller started"
CALLER_STOPPED = "caller stopped"
RESPONSE_BEGAN = "response began"
RESPONSE_ENDED = "response ended"
AUDIO = "audio"
DRAINED = "drained"

FLOOR_TABLE: dict[tuple[Floor, str], Floor] = {
    (Floor.LISTENING, CALLER_STARTED): Floor.HEARING,
    (Floor.LISTENING, CALLER_STOPPED): Floor.THINKING,
    (Floor.LISTENING, RESPONSE_BEGAN): Floor.THINKING,
    (Floor.LISTENING, AUDIO): Floor.SPEAKING,
    (Floor.HEARING, CALLER_STOPPED): Floor.THINKING,
    (Floor.HEARING, RESPONSE_BEGAN): Floor.THINKING,
    (Floor.HEARING, AUDIO): Floor.SPEAKING,
    (Floor.THINKING, CALLER_STARTED): Floor.HEARING,
    (Floor.THINKING, AUDIO): Floor.SPEAKING,
    (Floor.THINKING, RESPONSE_ENDED): Floor.LISTENING,
    (Floor.SPEAKING, CALLER_STARTED): Floor.HEARING,
    (Floor.SPEAKING, DRAINED): Floor.LISTENING,
}


@dataclass
class Item:
    """One spoken item of the model."""

    item_id: str
    response_id: str
    generation: int
    ended: bool = False
    heard: bool = False


@dataclass
class Totals:
    """What the summary of a call counts."""

    turns: int = 0
    barge_ins: int = 0
    responses: int = 0
    turn_latencies_ms: list[float] = field(default_factory=list)
    tokens: int = 0


SPEECH_STOPPED = "input_audio_buffer.speech_stopped"


class Conversation:
    """One conversation.

    Not thread-safe: the call serialises. Times, passed in, are time.monotonic() seconds.
    """

    _HANDLERS = MappingProxyType(
        {
            "session.created": "_on_session_created",
            "session.updated": "_on_session_updated",
            "input_audio_buffer.speech_started": "_on_speech_started",
            "response.created": "_on_response_created",
            "response.output_audio.done": "_on_audio_done",
            "response.output_audio_transcript.done": "_on_transcript",
            "response.function_call_arguments.done": "_on_function_call",
            "response.done": "_on_response_done",
            "conversation.item.input_audio_transcription.completed": "_on_caller_transcript",
            "error": "_on_error",
        }
    )
    EVENTS = frozenset({*_HANDLERS, SPEECH_STOPPED})
    """Server events, in GA names, that mean something here; audio apart."""

    def __init__(self, settings: Settings, session: dict[str, Any]) -> None:
        """session: what build_session() made of the settings."""
        self._settings = settings
        self._wanted = session
        self._session = session  # what of it the server has not refused
        self._server_turns = server_takes_turns(settings)
        self._updates = 0
        self._update_open = False  # sent, and neither accepted nor refused
        self._ready = False
        self.floor = Floor.LISTENING
        self.generation = 1
        self.totals = Totals()
        self.expires_at: float | None = None  # unix seconds, as the server says
        self._active: str | None = None  # response under way
        self._done: deque[str] = deque(maxlen=RESPONSES_KEPT)
        self._generations: dict[str, int] = {}  # of each response: what its audio is queued under
        self._items: dict[str, Item] = {}  # spoken and not yet heard to the end
        self._overtaken = False  # the caller spoke again before the reply that was due had begun
        self._create_when_done = False
        self._failed_tries = 0
        self._waiting_since_s: float | None = None
        self._speech_end_s: float | None = None  # of the turn whose reply has not been heard

    # ---- in: the server ------------------------------------------------------------------------------------

    def on_event(self, event: Event, now_s: float, last_speech_s: float | None = None) -> list[Action]:
        """Any server event but audio. last_speech_s: when the caller was last heard on the line, if known."""
        kind = event.get("type")
        if kind == SPEECH_STOPPED:
            if last_speech_s is None:
                last_speech_s = now_s - self._settings.vad_silence_ms / 1000
            return self.on_caller_stopped(now_s, last_speech_s)
        handler = self._HANDLERS.get(kind) if isinstance(kind, str) else None
        return getattr(self, handler)(event, now_s) if handler else []

    def on_audio(self, response_id: str, item_id: str, now_s: float) -> int | None:
        """Audio of an item has come.

        Returns the generation to queue it under, None when it is to be dropped.
        """
        generation = self._generation_of(response_id)
        if generation != self.generation:
            return None
        if item_id not in self._items:
            self._items[item_id] = Item(item_id, response_id, generation)
        self._waiting_since_s = now_s if self._active else None
        self._move(AUDIO)
        return generation

    def _on_session_created(self, event: Event, now_s: float) -> list[Action]:
        self.expires_at = event.get("session", {}).get("expires_at")
        return [self._update()]

    def _update(self) -> Send:
        self._updates += 1
        self._update_open = True
        return Send(
            {"type": "session.update", "event_id": f"update_{self._updates}", "session": self._session}
        )

    def _on_session_updated(self, event: Event, now_s: float) -> list[Action]:
        self._update_open = False
        if self._ready:
            return []
        self._ready = True
        return [Ready()]

    def _on_speech_started(self, event: Event, now_s: float) -> list[Action]:
        return self.on_caller_started(now_s)

    def _on_response_created(self, event: Event, now_s: float) -> list[Action]:
        response_id = event.get("response", {}).get("id", "")
        if response_id in self._done:
            return []  # too late to matter
        overtaken, self._overtaken = self._overtaken, False
        self._active = response_id
        self.totals.responses += 1
        notice = Notify("response_started", {"response": response_id})
        if overtaken and self._generations.setdefault(response_id, NOT_HEARD) == NOT_HEARD:
            return [notice, _cancel(response_id)]
        self._generation_of(response_id)
        self._waiting_since_s = now_s
        self._move(RESPONSE_BEGAN)
        return [notice]

    def _generation_of(self, response_id: str) -> int:
        """The generation a response belongs to: the one in which we first heard of it."""
        generation = self._generations.setdefault(response_id, self.generation)
        if len(self._generations) > RESPONSES_KEPT:
            del self._generations[next(iter(self._generations))]
        return generation

    def _on_audio_done(self, event: Event, now_s: float) -> list[Action]:
        item = self._items.get(event.get("item_id", ""))
        return self._end(item) if item else []

    def _end(self, item: Item) -> list[Action]:
        if item.ended or item.generation != self.generation:
            return []
        item.ended = True
        return [EndItem(item.item_id)]

    def _on_transcript(self, event: Event, now_s: float) -> list[Action]:
        return [Notify("ai_said", {"item": event.get("item_id", ""), "text": event.get("transcript") or ""})]

    def _on_caller_transcript(self, event: Event, now_s: float) -> list[Action]:
        text = str(event.get("transcript") or "").strip()
        return [Notify("caller_said", {"turn": self.totals.turns, "text": text})]

    def _on_function_call(self, event: Event, now_s: float) -> list[Action]:
        name, arguments = event.get("name", ""), event.get("arguments", "")
        if self._generation_of(event.get("response_id", "")) != self.generation:
            return []  # the caller spoke over it: the model will think again
        call = CallFunction(event.get("call_id", ""), name, arguments)
        return [Notify("function_call", {"name": name, "arguments": arguments}), call]

    def _on_response_done(self, event: Event, now_s: float) -> list[Action]:
        response = event.get("response", {})
        response_id = response.get("id", "")
        if response_id in self._done:
            return []
        if response_id:
            self._done.append(response_id)
        actions: list[Action] = []
        for item in list(self._items.values()):
            if item.response_id == response_id:
                actions += self._end(item)
        awaited = self._is_awaited(response_id, response.get("status"))
        if self._active == response_id:
            self._active = None
        self.totals.tokens += (response.get("usage") or {}).get("total_tokens") or 0
        if awaited:
            self._waiting_since_s = None
            self._move(RESPONSE_ENDED)
        self._note_drained()
        if response.get("status") == "failed":
            return actions + self._on_response_failed(response, awaited, now_s)
        self._failed_tries = 0 if awaited else self._failed_tries
        return actions + self._create_if_due(now_s)

    def _is_awaited(self, response_id: str, status: str | None) -> bool:
        """Whether a response that is done was to answer the caller.

        Not one they spoke over, nor one that never began, be it cancelled before or another one's ghost.
        """
        if response_id != self._active and (self._active is not None or response_id in self._generations):
            return False
        if response_id not in self._generations:
            return status != "cancelled"
        return self._generations[response_id] == self.generation

    def _on_response_failed(self, response: Event, awaited: bool, now_s: float) -> list[Action]:
        error = (response.get("status_details") or {}).get("error") or {}
        code, message = error.get("code") or "response_failed", error.get("message") or "the response failed"
        self._failed_tries += awaited
        notice = Notify("error", {"code": code, "message": message})
        if code in FATAL_CODES or self._failed_tries >= RESPONSE_TRIES:
            return [notice, Fail(f"the model could not reply: {code}: {message}")]
        return [notice, *(self._ask(now_s) if awaited else self._create_if_due(now_s))]

    def _on_error(self, event: Event, now_s: float) -> list[Action]:
        error = event.get("error") or {}
        code, message = error.get("code") or error.get("type") or "error", error.get("message") or ""
        notice = Notify("error", {"code": code, "message": message})
        if code in FATAL_CODES:
            return [notice, Fail(f"the server says {code}: {message}")]
        if self._update_open and self._is_about_update(error):
            return [notice, *self._update_slimmer(f"{error.get('param') or ''} {message}")]
        if code == "conversation_already_has_active_response":
            self._create_when_done = self._create_when_done or self._active is not None
        return [notice]

    def _is_about_update(self, error: Event) -> bool:
        return str(error.get("event_id") or "").startswith("update_") or str(
            error.get("param") or ""
        ).startswith("session")

    def _update_slimmer(self, complaint: str) -> list[Action]:
        slimmer = slim(self._session, complaint)
        if slimmer is None:
            return [Fail(f"the server does not accept the session: {complaint.strip()}")]
        self._session, left_out = slimmer
        return [Notify("setting_refused", {"field": left_out}), self._update()]

    # ---- in: the caller's turns ----------------------------------------------------------------------------

    def on_caller_started(self, now_s: float) -> list[Action]:
        """The caller has begun to speak, says the server's VAD or our own."""
        interrupts = self.floor in (Floor.THINKING, Floor.SPEAKING)
        if interrupts and not self._settings.barge_in:
            return []
        self._overtaken = self.floor is Floor.THINKING and self._active is None
        self._move(CALLER_STARTED)
        self._waiting_since_s = None
        notice = Notify("speech_started", {"turn": self.totals.turns + 1})
        return [*self._interrupt(), notice] if interrupts else [notice]

    def _interrupt(self) -> list[Action]:
        self._create_when_done = False
        actions: list[Action] = [Flush()]
        if self._active is not None and not self._server_turns:  # else the server cancels it by itself
            already = self._generation_of(self._active) != self.generation
            actions += [] if already else [_cancel(self._active)]
        return actions

    def on_caller_stopped(self, now_s: float, last_speech_s: float) -> list[Action]:
        """The caller's turn is over.

        last_speech_s: when they were last heard; the turn's latency counts from it.
        """
        if self.floor is Floor.SPEAKING and not self._settings.barge_in:
            return []
        self.totals.turns += 1
        self._overtaken = False
        self._speech_end_s = last_speech_s
        self._waiting_since_s = now_s
        self._move(CALLER_STOPPED)
        return [Notify("speech_stopped", {"turn": self.totals.turns}, last_speech_s)]

    def on_utterance(self, audio_base64: str | None, now_s: float) -> list[Action]:
        """Our own turn detection: what the caller said, as one item; None when it was sent as it came."""
        if audio_base64 is None:
            given = {"type": "input_audio_buffer.commit"}
        else:
            content = [{"type": "input_audio", "audio": audio_base64}]
            given = {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": content},
            }
        return [Send(given), *self._ask(now_s)]

    # ---- in: what the caller heard -------------------------------------------------------------------------

    def unheard_items(self) -> list[str]:
        """Items to report on with on_mark()."""
        return list(self._items)

    def on_mark(self, mark: Mark, now_s: float) -> list[Action]:
        """How far an item has been heard."""
        item = self._items.get(mark.item)
        if item is None:
            return []
        actions: list[Action] = []
        if mark.started_s is not None and not item.heard:
            item.heard = True
            actions.append(self._first_heard(item, mark.started_s))
        if mark.finished or mark.flushed:
            del self._items[mark.item]
            if mark.finished:
                actions.append(
                    Notify("item_finished", {"item": mark.item, "played_ms": mark.played_ms}, mark.finished_s)
                )
            self._note_drained()
        return actions

    def _note_drained(self) -> None:
        if not self._items and self._active is None:
            self._move(DRAINED)

    def _first_heard(self, item: Item, started_s: float) -> Notify:
        data: dict[str, Any] = {"item": item.item_id, "turn": self.totals.turns, "latency_ms": None}
        if self._speech_end_s is not None:
            data["latency_ms"] = round((started_s - self._speech_end_s) * 1000, 1)
            self.totals.turn_latencies_ms.append(data["latency_ms"])
            self._speech_end_s = None
        return Notify("heard", data, started_s)

    def on_flushed(self, flushed: Flushed, marks: list[Mark], now_s: float) -> list[Action]:
        """The flush asked for was done. Tells the model what the caller heard of what was cut short.

        marks: where the unheard items stood.
        """
        self.generation = flushed.generation
        notices = self._heard_by_now(marks, now_s)
        actions: list[Action] = []
        for item_id, played_ms in flushed.played_ms.items():
            if self._items.pop(item_id, None) is None:
                continue
            heard_ms = int(played_ms)
            actions.append(Send(_forget_unheard(item_id, heard_ms)))
            actions.append(Notify("barge_in", {"item": item_id, "heard_ms": heard_ms}))
        self.totals.barge_ins += bool(actions)
        self._items.clear()
        self._speech_end_s = None
        return notices + actions

    def _heard_by_now(self, marks: list[Mark], now_s: float) -> list[Action]:
        """What of the unheard items was heard in the meantime, to the end or until they were cut short."""
        return [action for mark in marks for action in self.on_mark(mark._replace(flushed=False), now_s)]

    # ---- in: the call --------------------------------------------------------------------------------------

    def update_session(self, session: dict[str, Any]) -> list[Action]:
        """The call turned out to want another session than the one asked for, as when its codec is known."""
        if session == self._wanted:
            return []
        self._session = self._wanted = session
        return [self._update()]

    def start(self, now_s: float) -> list[Action]:
        """The call has been answered: greet the caller, if that is wanted."""
        if not self._settings.greeting:
            return []
        self._waiting_since_s = now_s
        create = {"type": "response.create", "response": {"instructions": self._settings.greeting}}
        return [Notify("greeting"), Send(create)]

    def on_function_output(self, call_id: str, output: str, now_s: float) -> list[Action]:
        """What a function gave back (JSON text). The model goes on once the response that asked is done."""
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        return [Send({"type": "conversation.item.create", "item": item}), *self._ask(now_s)]

    def on_tick(self, now_s: float) -> list[Action]:
        """Time passes: gives up on a reply that does not come."""
        limit_s = self._settings.response_timeout_s
        since_s = self._waiting_since_s
        if limit_s <= 0 or since_s is None or now_s - since_s < limit_s:
            return []
        self._waiting_since_s = None
        return [Fail(f"no reply from the model for {limit_s:g} s (IVR_AI_RESPONSE_TIMEOUT_S)")]

    # ---- helpers -------------------------------------------------------------------------------------------

    def _move(self, what: str) -> None:
        self.floor = FLOOR_TABLE.get((self.floor, what), self.floor)

    def _ask(self, now_s: float) -> list[Action]:
        """Asks for a response, now or as soon as the one under way is done.

        Not while the caller speaks: their turn will be answered, and with it whatever this was about.
        """
        self._create_when_done = self._active is not None and self.floor is not Floor.HEARING
        if self._active is not None or self.floor is Floor.HEARING:
            return []
        return [self._create(now_s)]

    def _create(self, now_s: float) -> Send:
        self._waiting_since_s = now_s
        return Send({"type": "response.create"})

    def _create_if_due(self, now_s: float) -> list[Action]:
        return self._ask(now_s) if self._create_when_done and self._active is None else []


def _cancel(response_id: str) -> Send:
    return Send({"type": "response.cancel", "response_id": response_id})


def _forget_unheard(item_id: str, heard_ms: int) -> Event:
    """Makes the model forget what of an item was not heard; all of it when nothing was."""
    if heard_ms <= 0:
        return {"type": "conversation.item.delete", "item_id": item_id}
    truncate = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0}
    return {**truncate, "audio_end_ms": heard_ms}
