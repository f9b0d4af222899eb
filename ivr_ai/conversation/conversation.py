"""The conversation: things that happen go in, actions come out. No I/O, no clock, no threads, no wire format.

Interruptions. When the caller takes the floor, whatever is queued is flushed at once, and the flush says to
the sample what they heard of each item. The model is made to forget the rest (Forget), so that its memory
holds what was said and not what was generated. A response that is under way is cancelled where the service
does not do so by itself. Audio of it that is still on its way carries the flushed generation and is dropped.

What must not be interrupted. With IVR_AI_BARGE_IN off, and while a greeting is owed that the caller may not
cut short (IVR_AI_GREETING_INTERRUPTIBLE), the service neither interrupts nor answers by itself (see
turns_wanted): what the caller says into a reply is a turn, and is answered when the response under way is
done. The greeting is owed until its last sample has been heard; then the service gets its turns back.

Failures. A response that the caller waits for and that fails, or brings no audio and calls no function, is
asked for again: see requests.py. An error that is about nothing here ends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import (
    Action,
    Ask,
    Cancel,
    Fail,
    Flush,
    Notify,
    Output,
    Recall,
    RunFunction,
    SetTurns,
    Turns,
    Utterance,
)
from ivr_ai.conversation.caller import Caller
from ivr_ai.conversation.calls import FunctionCall, FunctionCalls
from ivr_ai.conversation.floor import Floor, Move, after
from ivr_ai.conversation.greeting import Greeting
from ivr_ai.conversation.history import History
from ivr_ai.conversation.playout import Playout
from ivr_ai.conversation.requests import (
    OVERTAKEN_PATIENCE_S,
    Done,
    Requests,
    Response,
    State,
    Trouble,
    Want,
    Why,
)

NOT_RUN = '{"error": "not run: the caller spoke before it could be"}'
SILENT = Trouble("no_audio", "the response has no audio")
SAY_AGAIN = (
    "You did not hear the caller's last words, because the connection was lost. Say sorry in a few words, in "
    "the language of the conversation, and ask them to say it again."
)
TURN_END_LOST_S = 5.0  # of silence, beyond what ends a turn: then the service has not noticed
UNHEARD_TURN_S = (
    30.0  # the same, where the line never sounded like speech: a caller who speaks low is not cut off
)
ONSET_S = 1.0  # by which the service may tell late that the caller has begun
RESUME_PATIENCE_S = 1.5  # for the service to hear that the caller is still speaking, after a new connection


@dataclass
class Totals:
    """What the summary of a call counts."""

    turns: int = 0
    barge_ins: int = 0
    responses: int = 0
    tokens: int = 0
    turn_latencies_ms: list[float] = field(default_factory=list)


class Conversation:
    """One conversation. Not thread-safe: the call serialises. Times are seconds of time.monotonic()."""

    def __init__(self, settings: Settings, *, detects: bool = True) -> None:
        """detects: whether the service says when the caller speaks; otherwise the call does."""
        self._settings = settings
        self._detects = detects
        self._left_to_service = Turns(detects, asks=detects, interrupts=detects)
        self._kept_back = Turns(detects, asks=False, interrupts=False)
        self.history = History()
        self.playout = Playout(self.history)
        self.requests = Requests(settings.response_timeout_s)
        self._greeting = Greeting(settings, self.requests, self.playout)
        self.floor = Floor.LISTENING
        self.totals = Totals(turn_latencies_ms=self.playout.latencies_ms)
        self.turns = self.turns_wanted
        self._turns_asked = self.turns
        self._connected = True
        self.caller = Caller()
        self._held_since_s: float | None = None
        self._cancel: str | None = None  # the response to cancel once the flush is done
        self._calls = FunctionCalls()
        self._outputs_left: str | None = None  # by a response's functions, to the answer to the caller's turn

    # ---- what is agreed about turns ------------------------------------------------------------------------

    @property
    def turns_wanted(self) -> Turns:
        """Who is to decide about turns at this moment: what the service is to be asked for."""
        return self._left_to_service if self._detects and self.may_interrupt else self._kept_back

    @property
    def may_interrupt(self) -> bool:
        """Whether the caller may cut short what is said."""
        return self._settings.barge_in and not self._greeting.is_protected

    def turns_agreed(self, turns: Turns) -> None:
        """What the service has agreed to, or states, about turns."""
        self.turns = turns

    def _return_turns(self) -> list[Action]:
        """The service gets its turns back once nothing is protected any more, in a moment of silence."""
        wanted = self.turns_wanted
        if wanted == self._turns_asked or self.caller.speaking or not self._connected:
            return []
        self._turns_asked = wanted
        return [SetTurns(wanted)]

    # ---- in: the caller's turns ----------------------------------------------------------------------------

    def caller_started(self, now_s: float, item_id: str = "") -> list[Action]:
        """The caller has begun to speak, says the service or the call. item_id: what their turn will be."""
        turn = self.caller.starts(now_s)
        self.requests.forget_replies()
        self._note_turn(item_id, turn)
        notice = Notify("speech_started", {"turn": turn})
        interrupts = self.floor in (Floor.THINKING, Floor.SPEAKING)
        if interrupts and not self.may_interrupt:
            return [notice]
        self._move(Move.CALLER_STARTED)
        self.requests.overtake()
        return [*self._interrupt(), notice] if interrupts else [notice]

    def _interrupt(self, by_caller: bool = True) -> list[Action]:
        active = self.requests.active
        cancelled = by_caller and self.turns.interrupts  # by the service, which hears the caller too
        if active is not None and not cancelled and self.playout.is_current(active.response_id):
            self._cancel = active.response_id
        return [Flush()]

    def caller_stopped(self, now_s: float, last_speech_s: float, item_id: str = "") -> list[Action]:
        """The caller's turn is over. last_speech_s: when they were last heard; the turn's latency counts from
        it."""
        if self.caller.end_is_known():
            return []
        self._outputs_left = None
        turn = self.totals.turns = self.caller.stops(last_speech_s)
        self._note_turn(item_id, turn)
        if self.floor is not Floor.SPEAKING:
            self._move(Move.CALLER_STOPPED)
        if self.turns.asks:
            active = self.requests.active  # may keep the service from answering by itself
            busy = active is not None and self.playout.is_current(active.response_id)
            self.requests.expect(now_s, OVERTAKEN_PATIENCE_S if busy else math.inf)
        elif self._detects:
            self.requests.want(Want(Why.REPLY))
        notice = Notify("speech_stopped", {"turn": turn}, last_speech_s)
        return [notice, *self._go_on(now_s)]

    def _check_turn_end(self, now_s: float, silent_s: float) -> list[Action]:
        """A turn whose end the service has missed, or has not told, is ended here: nobody would answer it, or
        anything else be asked for.
        """
        if not (self._detects and self._connected and self.caller.speaking):
            return []
        since_s = now_s - self.caller.since_s
        heard = silent_s <= since_s + ONSET_S
        waits_s = self._settings.vad_silence_ms / 1000 + TURN_END_LOST_S if heard else UNHEARD_TURN_S
        silent_s = min(silent_s, since_s)
        if silent_s < waits_s:
            return []
        answered = self.caller.answered_by_service
        turn = self.totals.turns = self.caller.stops(None if answered else now_s - silent_s, inferred=True)
        notice = Notify("speech_stopped", {"turn": turn}, now_s - silent_s)
        left, self._outputs_left = self._outputs_left, None
        if answered:
            self.caller.is_answered(turn)
            if left is not None:
                self.requests.want(Want(Why.OUTPUTS, about=left))
            return [notice]
        if self.floor is not Floor.SPEAKING:
            self._move(Move.CALLER_STOPPED)
        self.requests.want(Want(Why.REPLY))
        return [notice, Utterance(f"turn_{turn}", None)]

    def utterance(self, audio_base64: str | None, now_s: float) -> list[Action]:
        """What the caller said, where the call detects turns: as one item; None when it was sent as it
        came."""
        utterance = Utterance(f"turn_{self.caller.turn}", audio_base64)
        self.caller.utterances.append(utterance)
        self._note_turn(utterance.item_id, self.caller.turn)
        self.requests.want(Want(Why.REPLY))
        return [utterance, *self._go_on(now_s)]

    def turn_committed(self, item_id: str) -> None:
        """The service has made an item of the caller's last turn, where the call detects turns."""
        if item_id and not self._detects:
            self._note_turn(item_id, self.caller.turn)

    def caller_said(self, item_id: str, text: str) -> list[Action]:
        """The words of a turn."""
        turn = self.caller.turn_of(item_id)
        self.history.caller_text(item_id, text, turn)
        return [Notify("caller_said", {"turn": turn, "text": text.strip()})]

    def caller_not_understood(self, item_id: str, reason: str) -> list[Action]:
        """The words of a turn could not be told; the model has heard them all the same."""
        turn = self.caller.turn_of(item_id)
        return [Notify("transcription_failed", {"turn": turn, "message": reason})]

    def _note_turn(self, item_id: str, turn: int) -> None:
        self.caller.note(item_id, turn)
        self.history.turn(item_id, turn)

    # ---- in: responses -------------------------------------------------------------------------------------

    def response_created(self, response_id: str, request_id: str | None, now_s: float) -> list[Action]:
        """A response has begun. request_id: as an Ask carried it, "" for one that the service began by
        itself, None where nothing was told of that."""
        requests = self.requests
        requests.note_echo(request_id)
        if requests.is_over(response_id):
            return []
        actions: list[Action] = []
        before = requests.active
        if before is not None:
            if before.response_id == response_id:
                requests.tell_apart(response_id, request_id or "", now_s)
                self._greeting.check()
                return []
            actions += self.playout.end_response(before.response_id)  # its end was never told
            requests.supersede()
            self._answer_outputs(before.response_id)
        response = requests.created(response_id, request_id, now_s)
        if response is None:
            return actions
        if before is not None and not response.wants and not self._has_served(before):
            response.wants = before.wants
        self.totals.responses += 1
        actions.append(Notify("response_started", {"response": response_id}))
        overtaken = response.overtaken and not self.playout.is_known(response_id)
        response.overtaken = overtaken
        self._begin_voice(response_id, heard=not overtaken)
        if overtaken:
            return [*actions, Cancel(response_id)]
        self._greeting.begun(response)
        self.caller.answered_by_service = self.caller.answered_by_service or not response.request_id
        self._move(Move.RESPONSE_BEGAN)
        return actions

    def _begin_voice(self, response_id: str, heard: bool = True) -> None:
        if not self.playout.is_known(response_id):
            self.playout.begin(
                response_id, self.caller.turn, self.caller.speech_end_s if heard else None, heard
            )
            if heard:
                self.caller.speech_end_s = None

    def item_added(self, response_id: str, item_id: str, now_s: float) -> list[Action]:
        """A spoken item of a response has begun, without audio as yet."""
        if self.requests.is_over(response_id) and self.playout.is_current(response_id):
            return []  # told late: no audio is to come any more
        return [*self._meet(response_id, now_s), *self.playout.added(response_id, item_id)]

    def audio(self, response_id: str, item_id: str, now_s: float) -> tuple[int | None, list[Action]]:
        """Audio of an item has come: the generation to queue it under, None when it is to be dropped."""
        actions = self._meet(response_id, now_s)
        self._begin_voice(response_id)
        generation, more = self.playout.audio(response_id, item_id)
        actions += more
        if generation is None:
            return None, actions
        self.caller.is_answered(self.playout.turn_of(response_id))
        self.requests.sign(response_id, now_s)
        self._move(Move.AUDIO)
        return generation, actions

    def _meet(self, response_id: str, now_s: float) -> list[Action]:
        """A response that has brought something has begun: services say so late, or not at all."""
        if self.playout.is_known(response_id):
            return []
        return self.response_created(response_id, None, now_s)

    def audio_ended(self, item_id: str) -> list[Action]:
        """No more audio comes for an item."""
        return self.playout.end(item_id)

    def item_text(self, item_id: str, text: str) -> list[Action]:
        """The words of an item of the model."""
        return self.history.text(item_id, text)

    def function_called(
        self, response_id: str, call_id: str, name: str, arguments: str, now_s: float
    ) -> list[Action]:
        """The model calls a function. One that the caller spoke over is not run, and gets an output that says
        so."""
        if not self._calls.is_new(call_id):
            return []
        actions = self._meet(response_id, now_s)
        if not self.playout.is_current(response_id):
            return [*actions, Output(call_id, NOT_RUN)]
        self._begin_voice(response_id)
        self.caller.is_answered(self.playout.turn_of(response_id))
        active = self.requests.active
        if active is not None and active.response_id == response_id:
            active.calls += 1
        self._calls.begin(call_id, FunctionCall(response_id, self.playout.link, name, arguments))
        self.history.called(call_id, name, arguments)
        notice = Notify("function_call", {"name": name, "arguments": arguments})
        return [*actions, notice, RunFunction(call_id, name, arguments)]

    def function_output(self, call_id: str, output: str, now_s: float) -> list[Action]:
        """What a function gave back (JSON text). The model answers once all of its response have."""
        call = self._calls.end(call_id)
        if call is None:
            return []
        self.history.returned(call_id, output)
        again = (call.name, call.arguments) if call.link != self.playout.link else None
        self._answer_outputs(call.response_id)
        return [Output(call_id, output, again), *self._go_on(now_s)]

    def _answer_outputs(self, response_id: str) -> None:
        """Wants an answer to what a response's functions gave back, when that is complete.

        Not while the caller speaks: the answer to their turn knows the outputs. One that is expected already
        may have begun without them.
        """
        active = self.requests.active
        under_way = active is not None and active.response_id == response_id
        if under_way or not self._calls.all_returned(response_id):
            return
        self._calls.answered(response_id)
        if self.floor is not Floor.HEARING:
            self.requests.want(Want(Why.OUTPUTS, about=response_id))
        else:
            self._outputs_left = response_id

    def response_done(self, done: Done, now_s: float) -> list[Action]:
        """A response is over, however that came."""
        self.requests.note_echo(done.request_id)
        if self.requests.is_over(done.response_id):
            return []
        self.requests.tell_apart(done.response_id, done.request_id, now_s)
        self._greeting.check()
        return [*self._over(done, now_s), *self._go_on(now_s)]

    def _over(self, done: Done, now_s: float) -> list[Action]:
        actions = self.playout.end_response(done.response_id)
        self.totals.tokens += done.tokens
        current = self.playout.is_current(done.response_id)
        response = self.requests.done(done.response_id, done.request_id, done.cancelled, now_s)
        self._answer_outputs(done.response_id)
        if response is not None and not self.playout.spoke(done.response_id):
            self.caller.speech_end_s = self.caller.speech_end_s or self.playout.unanswered(done.response_id)
        if response is not None and current and not response.overtaken:
            self._note_ended()
            actions += self._try_again(response, done, now_s)
        elif done.trouble is not None:
            actions += self._tell(done)
        if response is not None:
            self._greeting.over(response, done, now_s)
        self._note_drained()
        return actions + self._note_greeting_heard()

    def _tell(self, done: Done) -> list[Action]:
        assert done.trouble is not None
        data = {"code": done.trouble.code, "message": done.trouble.message}
        reason = f"the model could not reply: {done.trouble}"
        return [Notify("error", data), *([Fail(reason)] if done.fatal else [])]

    def _try_again(self, response: Response, done: Done, now_s: float) -> list[Action]:
        """What a response was for is wanted again where it failed, or brought nothing."""
        trouble, actions = done.trouble, []
        if trouble is None and not response.wants:
            return []  # nobody waits for it
        if trouble is not None:
            actions = self._tell(done)
            if done.fatal:
                return actions
        elif self.playout.spoke(response.response_id) or response.calls or done.interrupted:
            return []
        else:
            trouble = SILENT
            actions = [Notify("error", {"code": SILENT.code, "message": SILENT.message})]
        reason = self.requests.failed(response.wants, trouble, now_s)
        return [*actions, Fail(reason)] if reason else actions

    # ---- in: refusals --------------------------------------------------------------------------------------

    def request_refused(self, request_id: str, trouble: Trouble, busy: bool, now_s: float) -> list[Action]:
        """An Ask was refused. request_id: "" where the service does not say which. busy: a response is under
        way."""
        ours, reason = self.requests.refused(request_id, trouble, busy, now_s)
        self._greeting.check()
        actions: list[Action] = [Fail(reason)] if reason else []
        if ours and self.requests.active is None:
            self._note_ended()
        return [*actions, *self._go_on(now_s)]

    # ---- in: what the caller heard -------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The number of the current generation."""
        return self.playout.generation

    @generation.setter
    def generation(self, generation: int) -> None:
        self.playout.generation = generation

    def unheard_items(self) -> list[str]:
        """Items to report on with mark()."""
        return list(self.playout.items)

    def mark(self, mark: Mark, now_s: float) -> list[Action]:
        """How far an item has been heard."""
        actions = self.playout.mark(mark)
        if actions or mark.flushed:
            self._note_drained()
            actions += self._note_greeting_heard()
        return actions

    def flushed(self, flushed: Flushed, marks: list[Mark], now_s: float) -> list[Action]:
        """The Flush was done. marks: where the unheard items stood."""
        first: list[Action] = []
        if self._cancel is not None:
            first = [Cancel(self._cancel)]  # before its items are cut: the service must add nothing to them
            self._cancel = None
        actions, cut_ms = self.playout.flushed(flushed, marks)
        self.totals.barge_ins += cut_ms is not None
        self._note_drained()
        return first + actions + (self._return_turns() if self._greeting.cut() else [])

    def _note_ended(self) -> None:
        """What was asked for or under way is over: the floor is free, unless an answer is still to come."""
        if not self.requests.awaits_beginning:
            self._move(Move.RESPONSE_ENDED)

    def _note_drained(self) -> None:
        """When the last of a reply has been heard, the floor is the caller's, or that of what is to come."""
        if self.playout.items or self.requests.active is not None:
            return
        self._move(Move.DRAINED)
        if self.floor is Floor.LISTENING and self.caller.speaking:
            self._move(Move.CALLER_STARTED)
        elif self.floor is Floor.LISTENING and self.requests.awaits_beginning:
            self._move(Move.ASKED)

    # ---- in: the greeting ----------------------------------------------------------------------------------

    def start(self, now_s: float) -> list[Action]:
        """The call has been answered: greet the caller, if that is wanted."""
        if not self._greeting.owed:
            return []
        self._greeting.want()
        return [Notify("greeting"), *self._go_on(now_s)]

    def _note_greeting_heard(self) -> list[Action]:
        return self._return_turns() if self._greeting.heard() else []

    # ---- in: the connection --------------------------------------------------------------------------------

    def link_lost(self, now_s: float) -> list[Action]:
        """The connection is gone. What was under way is wanted again; what is queued for the caller plays
        on."""
        self._connected = False
        self.playout.link_lost()
        active = self.requests.active
        actions = self.playout.end_response(active.response_id) if active is not None else []
        if active is not None and (active.calls or not self.playout.is_current(active.response_id)):
            active.wants = []  # answered with what its functions give back, or cut short by the caller
        for want in self.requests.lost():
            if want.why is not Why.REPLY or not self._will_be_told_again:
                self.requests.want(Want(want.why, want.instructions))
        if active is not None:
            self._answer_outputs(active.response_id)
            self._greeting.lost(active)
        self._note_ended()
        self._note_drained()
        return actions

    @property
    def turn_is_open(self) -> bool:
        """Whether the caller speaks, or has spoken and no answer to that has been heard of."""
        return self.caller.is_open

    @property
    def _will_be_told_again(self) -> bool:
        """Whether a new connection hears an open turn from the service, as the one before did."""
        return self._detects and self.caller.is_open

    def link_ready(self, turns: Turns, now_s: float) -> list[Action]:
        """A new connection is up: it is given what was said before, but for the turn that is open.

        What was said in that is sent to it next, and then link_resumed() goes on.
        """
        self._connected = True
        self.playout.link += 1
        self.turns = self._turns_asked = turns
        entries = self.history.entries(before=self.caller.open_since if self.caller.is_open else None)
        if self._will_be_told_again:
            if self.floor is not Floor.SPEAKING:
                self._move(Move.CALLER_STOPPED)
            self.caller.is_told_again()
            self.requests.forget_replies()
            # The service tells of the turn again. Where nothing came through, the caller is to say it again.
            self.requests.want(Want(Why.REPLY, SAY_AGAIN, not_before_s=now_s + RESUME_PATIENCE_S))
        self._greeting.want_after_loss()
        return [Recall(tuple(entries))] if entries else []

    def link_resumed(self, now_s: float) -> list[Action]:
        """The new connection has what it is to know: what is wanted may be asked for."""
        return [*self.caller.utterances, *self._go_on(now_s)]

    # ---- in: the call --------------------------------------------------------------------------------------

    def host_event(self, kind: str, data: Mapping[str, Any], now_s: float) -> list[Action]:
        """Something that the host tells of the call: dtmf, hold, unhold, bridged, unbridged.

        What was being said when the call was put on hold waits for IVR_AI_HOLD_KEEP_S; after that it is
        dropped when the call comes back. Which key was pressed is told to nobody who keeps records: it may
        be part of a secret.
        """
        told = Notify(kind, {name: value for name, value in data.items() if name != "digit"})
        if kind == "hold":
            self._held_since_s = now_s
        elif kind == "unhold":
            held_s = now_s - (self._held_since_s if self._held_since_s is not None else now_s)
            self._held_since_s = None
            if held_s > self._settings.hold_keep_s and self.playout.items:
                return [told, *self._interrupt(by_caller=False)]
        return [told]

    def tick(self, now_s: float, silent_s: float = 0.0) -> list[Action]:
        """Time passes: asks for what is due, and gives up on a response that does not come.

        silent_s: how long the line has been silent, where the caller is said to speak.
        """
        if self.requests.is_late(now_s):
            return self._late(now_s)
        ended = self._check_turn_end(now_s, silent_s) if silent_s else []
        return [*ended, *self._go_on(now_s), *self._return_turns()]

    def _late(self, now_s: float) -> list[Action]:
        active = self.requests.active
        if active is not None and self._has_served(active):  # its end was never told
            return [*self._over(Done(active.response_id), now_s), *self._go_on(now_s)]
        limit_s = self._settings.response_timeout_s
        return [Fail(f"no reply from the model for {limit_s:g} s (IVR_AI_RESPONSE_TIMEOUT_S)")]

    def _has_served(self, response: Response) -> bool:
        """Whether a response has brought something, or is to bring nothing any more."""
        response_id = response.response_id
        served = self.playout.spoke(response_id) or response.calls
        return bool(served) or not self.playout.is_current(response_id)

    # ---- helpers -------------------------------------------------------------------------------------------

    def _move(self, move: Move) -> None:
        self.floor = after(self.floor, move)

    def _go_on(self, now_s: float) -> list[Action]:
        """Asks for what is wanted, unless the caller is speaking."""
        if self.caller.speaking or not self._connected:
            return []
        request = self.requests.next(now_s)
        if request is None:
            return []
        self._move(Move.ASKED)
        return [Ask(request.request_id, request.instructions)]

    def is_quiet(self) -> bool:
        """Whether nothing is being said, thought about, asked for or looked up by a function."""
        requests = self.requests
        waiting = requests.state is not State.IDLE or requests.expected or requests.wants or self._calls
        return self.floor is Floor.LISTENING and not self.playout.items and not waiting
