"""One connection's session: the client's events in, the server's events out, turns taken by ear and by
script.

Knows no sockets: what it wants sent it gives to a `Line`. Runs on the server's loop; not thread-safe.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from ivr_ai.audio.formats import Format, convert
from ivr_ai.sim import schema
from ivr_ai.sim.dialogue import Dialogue, Script
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.hearing import FRAME_MS, ONSET_MS, SEMANTIC_PREFIX_MS, Hearing
from ivr_ai.sim.items import Conversation, audio_bytes, missing
from ivr_ai.sim.mishaps import Mishaps
from ivr_ai.sim.record import SessionRecord
from ivr_ai.sim.response import Response
from ivr_ai.sim.wire import Rejected, error_body, new_id, status_error, to_beta

COMMIT_MIN_MS = 100
INPUT_TOKEN_MS = 100  # the service counts about 10 tokens per second of the caller's audio
BUFFER_KEPT_MS = 60_000  # of the caller's audio before it is committed, for conversation.item.retrieve
ITEM_ENDS = ("sequential", "together")
_TRANSCRIPT_DELAY_S = 0.03  # transcription runs beside the response, so it comes a little later


@dataclass(frozen=True)
class Options:
    """How every session of a server behaves."""

    dialect: str = "ga"  # "ga" or "beta"
    pace: float = 4.0  # audio is sent this many times faster than real time; 0 = at once
    voice: str = "en"  # see voices.speak
    ear: str = "energy"  # see hearing.Hearing
    silence_ms: int | None = None  # overrides the silence_duration_ms of sessions
    delta_ms: int = 100  # audio in one delta
    pcm_rates_hz: tuple[int, ...] = (24000,)  # allowed for audio/pcm, the default first
    lasts_s: float = 3600.0  # until session_expired
    # When the ends of a response's items come: each before the next item begins, or all before response.done,
    # as gpt-realtime-2 was seen to send them.
    item_ends: str = "sequential"
    item_pause_ms: int = 0  # nothing is sent for so long between the items of a response
    cancel_lag_ms: int = 0  # from a cancellation to what winds the response up

    def __post_init__(self) -> None:
        if self.dialect not in ("ga", "beta"):
            raise ValueError(f'dialect {self.dialect!r} is unknown: use "ga" or "beta"')
        if not 0 <= self.pace < math.inf or self.delta_ms < 1 or (self.silence_ms or 0) < 0:
            raise ValueError("pace and silence_ms are 0 or more, delta_ms is 1 or more")
        if self.item_ends not in ITEM_ENDS:
            raise ValueError(f"item_ends {self.item_ends!r} is unknown: use {' or '.join(ITEM_ENDS)}")
        for name in ("item_pause_ms", "cancel_lag_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it cannot be negative")


class Line(Protocol):
    """Where a session's output goes, in order. Its methods return at once."""

    def send(self, message: dict[str, Any] | str | bytes) -> None: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    def drop(self) -> None: ...


class Session:
    """State and behaviour of one Realtime session."""

    def __init__(
        self,
        options: Options,
        dialogue: Dialogue,
        faults: Faults,
        line: Line,
        record: SessionRecord,
        note: Callable[[str], None],
    ) -> None:
        self.options, self.faults, self.record, self.note = options, faults, record, note
        self.conversation = Conversation(options.dialect)
        self.conversation_id = new_id("conv")
        transcription = record.query.get("intent") == "transcription"
        model = record.query.get("model") or record.query.get("deployment", "")
        stated = {**faults.formats(), **({"output_modalities": ["text"]} if faults.text_only else {})}
        self.state = schema.SessionState(
            options.dialect,
            model,
            options.pcm_rates_hz,
            options.lasts_s,
            transcription,
            refused=faults.refused(),
            stated=stated,
        )
        self._line, self._script = line, Script(dialogue)
        self._format: Format = self.state[schema.INPUT_FORMAT]
        self._hearing = Hearing(self._format.rate_hz, options.ear, options.silence_ms)
        self._hearing.configure(self.state[schema.TURN_DETECTION])
        self._buffered_ms = self._heard_ms = 0.0  # not yet committed; in the turns of this session
        self._buffer = bytearray()  # the last of what is not yet committed, as it came
        self._user_item_id: str | None = None  # the item that speech under way will become
        self._idle_at_ms: float | None = None
        self._responses: dict[str, Response] = {}
        self._owes_answer = False  # the caller's turn ended while a cancelled response was being wound up
        self.mishaps = Mishaps(faults)
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- the connection's side -----------------------------------------------------------------------------

    def open(self) -> None:
        """The first events after the upgrade."""
        self.emit("session.created", session=self.state.view())
        if self.options.dialect == "beta":
            conversation = {"id": self.conversation_id, "object": "realtime.conversation"}
            self.emit("conversation.created", conversation=conversation)

    def receive(self, message: str | bytes) -> None:
        """Handles one message. What cannot be accepted is answered with an error event."""
        event_id = None
        try:
            event = _parse(message)
            self.record.note_received(event)
            if self.mishaps.closes_after(event["type"]):
                self._close_as_told()
            event_id = event.get("event_id")
            handler = _HANDLERS.get(event["type"])
            if handler is None:
                known = ", ".join(f"'{name}'" for name in _HANDLERS)
                text = f"Invalid value: '{event['type']}'. Supported values are: {known}."
                raise Rejected("invalid_value", text, "type")
            handler(self, event)
        except Rejected as refusal:
            self._refuse(refusal, event_id)

    def _refuse(self, refusal: Rejected, event_id: str | None = None) -> None:
        self.note(f"error {refusal.code}: {refusal.message}")
        self.emit("error", error=error_body(refusal.code, refusal.message, refusal.param, event_id))

    def _close_as_told(self) -> None:
        """The fault close_after_event."""
        self.note(f"closing after {self.faults.close_after_event}")
        self._line.close(self.faults.close_code, self.faults.close_reason)

    def close(self) -> None:
        """Ends everything under way."""
        for task in self._tasks:
            task.cancel()

    # ---- for responses -------------------------------------------------------------------------------------

    def emit(self, kind: str, **body: Any) -> None:
        """Sends one server event, in the session's dialect."""
        event: dict[str, Any] | None = {"type": kind, "event_id": new_id("event"), **body}
        if self.options.dialect == "beta":
            event = to_beta(event)
        elif kind.endswith(".delta"):
            event["obfuscation"] = secrets.token_urlsafe(8)
        if event is not None:
            self.record.note_sent(event)
            if kind not in self.faults.omit_events:
                self._line.send(event)
            if self.mishaps.closes_after(kind):
                self._close_as_told()

    def new_id(self, prefix: str) -> str:
        """An id of an item, a response or a call."""
        return new_id(prefix, self.faults.id_chars)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something beside the session, ended with it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def drop(self) -> None:
        self._line.drop()

    def called(self, call_id: str) -> None:
        """A function call has gone out."""
        self._script.called(call_id)

    def input_audio_tokens(self) -> int:
        return int(self._heard_ms / INPUT_TOKEN_MS)

    def talk_nonsense(self, where: dict[str, Any]) -> None:
        """The faults that are said into the middle of a response."""
        faults = self.faults
        if faults.error_code:
            self.emit("error", error=error_body(faults.error_code, f"Simulated error: {faults.error_code}."))
        if faults.bad_json:
            self._line.send('{"type":"response.output_audio.delta","delta":"AAAA')
        if faults.bad_base64:
            self.emit("response.output_audio.delta", **where, delta="*this is not base64*")
        if faults.binary_frame:
            self._line.send(bytes(range(256)))
        if faults.huge_message_bytes:
            self._line.send({"type": "simulated.huge", "padding": "x" * faults.huge_message_bytes})

    # ---- session -------------------------------------------------------------------------------------------

    def _session_update(self, event: dict[str, Any]) -> None:
        before = self.state[schema.TURN_DETECTION]
        self.state.update(event.get("session"))
        if self.state[schema.INPUT_FORMAT] != self._format:
            self._format = self.state[schema.INPUT_FORMAT]
            self._buffer.clear()
        self._hearing.change_rate(self._format.rate_hz)
        if self.state[schema.TURN_DETECTION] != before:
            self._hearing.configure(self.state[schema.TURN_DETECTION])
            self._idle_at_ms = None
        self.note(f"session: in {self._format.ga_name}, out {self.state[schema.OUTPUT_FORMAT].ga_name}")
        self.emit("session.updated", session=self.state.view())

    # ---- the caller's audio --------------------------------------------------------------------------------

    def _append(self, event: dict[str, Any]) -> None:
        data = audio_bytes(event.get("audio"), "audio")
        pcm = self._heard(data)
        self._buffered_ms += len(pcm) * 500 / self._format.rate_hz
        self._buffer += data[: self._whole(data)]
        for edge in self._hearing.feed(pcm):
            if edge.started:
                self._speech_started(edge.at_ms)
            else:
                self._speech_stopped(edge.at_ms)
        self._trim_buffer()
        if self._idle_at_ms is not None and self._hearing.position_ms >= self._idle_at_ms:
            self._idle()

    def _trim_buffer(self) -> None:
        """Keeps what a turn may need: in silence what is before a word, else a minute."""
        turns = self._turns()
        kept_ms = BUFFER_KEPT_MS
        if turns and not self._hearing.speaking:
            kept_ms = turns.get("prefix_padding_ms", SEMANTIC_PREFIX_MS) + ONSET_MS + FRAME_MS
        excess = len(self._buffer) - self._format.bytes_for_ms(kept_ms)
        if excess > 0:
            del self._buffer[:excess]

    def _whole(self, data: bytes) -> int:
        """How many of the bytes are whole samples."""
        return len(data) // self._format.bytes_per_sample * self._format.bytes_per_sample

    def _heard(self, data: bytes) -> bytes:
        """Audio in the session's input format as s16, noted in the record. Half a sample at the end is
        dropped.
        """
        pcm = convert(data[: self._whole(data)], self._format, Format("s16", self._format.rate_hz))
        self.record.note_audio(pcm, self._format.rate_hz)
        return pcm

    def _speech_started(self, at_ms: int) -> None:
        self._idle_at_ms = None
        self._user_item_id = self.new_id("item")
        self.note("caller speaks")
        self.emit("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=self._user_item_id)
        active = self._active()
        interrupts = self._turns()["interrupt_response"] or self.faults.ignore_interrupt_response
        if active is not None and not active.cancelled and interrupts:
            self.note("reply interrupted")
            active.cancel("turn_detected")

    def _speech_stopped(self, at_ms: int) -> None:
        if self.mishaps.turn_end_is_lost():
            self.note("turn's end lost")
            return
        self.emit("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._user_item_id)
        self._commit_audio()
        self._answer()

    def _idle(self) -> None:
        """Nobody has spoken for idle_timeout_ms after a reply: the model goes on by itself."""
        self._idle_at_ms = None
        now_ms, item_id = self._hearing.position_ms, self.new_id("item")
        start_ms = now_ms - self._turns()["idle_timeout_ms"]
        self.note("caller is silent")
        self.emit(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=start_ms,
            audio_end_ms=now_ms,
            item_id=item_id,
        )
        self._buffered_ms = 0.0
        self._buffer.clear()
        self._add_user_audio(item_id)
        self._script.caller_idle()
        self._answer()

    def _turns(self) -> dict[str, Any]:
        return self.state[schema.TURN_DETECTION] or {}

    def _answer(self) -> None:
        """The caller's turn is over: reply, where turn detection is to do so, and once a response that speech
        has cancelled is out of the way.
        """
        creates = self._turns().get("create_response") or self.faults.ignore_create_response
        if not self._turns() or not creates or self.state.transcription_only:
            return
        active = self._active()
        if active is not None and active.cancelled:
            self._owes_answer = True
            return
        try:
            self._create_response(None)
        except Rejected as refusal:  # a reply that was not to be interrupted is still going on
            self._refuse(refusal)

    def _commit(self, event: dict[str, Any]) -> None:
        if self._buffered_ms < COMMIT_MIN_MS:
            message = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {self._buffered_ms:.2f}ms of audio."
            )
            raise Rejected("input_audio_buffer_commit_empty", message)
        self._hearing.reset()
        self._commit_audio()

    def _commit_audio(self) -> None:
        item_id, self._user_item_id = self._user_item_id or self.new_id("item"), None
        ms, self._buffered_ms = self._buffered_ms, 0.0
        data, self._buffer = bytes(self._buffer), bytearray()
        self._add_user_audio(item_id)
        self.conversation.keep_audio(item_id, data)
        self._caller_spoke(item_id, ms)

    def _add_user_audio(self, item_id: str) -> None:
        """Commits audio as a user item. Its transcript is null until it comes, if ever."""
        before = self.conversation.last_id()
        self.emit("input_audio_buffer.committed", previous_item_id=before, item_id=item_id)
        content = [{"type": "input_audio", "transcript": None}]
        head = {"id": item_id, "object": "realtime.item", "type": "message", "role": "user"}
        self._add_item({**head, "status": "completed", "content": content})

    def _caller_spoke(self, item_id: str, ms: float) -> None:
        """A turn of the caller's is in: the script moves on, and the turn is transcribed where that is on."""
        turn = self._script.caller_spoke()
        text = turn.heard or f"(speech, {round(ms)} ms)"
        self._heard_ms += ms
        self.note(f"caller: {text}")
        if self.state[schema.TRANSCRIPTION] is None:
            return
        error = self.mishaps.transcription_error() or turn.heard_error
        self.spawn(
            self._fail_transcript(item_id, error) if error else self._send_transcript(item_id, text, ms)
        )

    async def _send_transcript(self, item_id: str, text: str, ms: float) -> None:
        await asyncio.sleep(_TRANSCRIPT_DELAY_S)
        name, where = "conversation.item.input_audio_transcription", {"item_id": item_id, "content_index": 0}
        self.emit(f"{name}.delta", **where, delta=text)
        usage = {"type": "duration", "seconds": round(ms / 1000, 2)}
        self.conversation.set_transcript(item_id, text)
        self.emit(f"{name}.completed", **where, transcript=text, usage=usage)

    async def _fail_transcript(self, item_id: str, code: str) -> None:
        await asyncio.sleep(_TRANSCRIPT_DELAY_S)
        self.note(f"transcription failed: {code}")
        error = {**status_error(code, "The audio could not be transcribed."), "type": "transcription_error"}
        self.emit(
            "conversation.item.input_audio_transcription.failed",
            item_id=item_id,
            content_index=0,
            error={**error, "param": None},
        )

    def _clear(self, event: dict[str, Any]) -> None:
        self._buffered_ms, self._user_item_id = 0.0, None
        self._buffer.clear()
        self._hearing.reset()
        self.emit("input_audio_buffer.cleared")

    # ---- items ---------------------------------------------------------------------------------------------

    def _add_item(self, item: dict[str, Any], after: str | None = None) -> None:
        before = self.conversation.add(item, after)
        self.emit("conversation.item.added", previous_item_id=before, item=item)
        self.emit("conversation.item.done", previous_item_id=before, item=item)

    def _item_create(self, event: dict[str, Any]) -> None:
        item = self.conversation.check_new(event.get("item"))
        speech = [part for part in item.get("content", []) if part["type"] == "input_audio"]
        audio = [audio_bytes(part.get("audio"), "item.content.audio") for part in speech]
        shown = [{k: v for k, v in part.items() if k != "audio"} for part in item.get("content", [])]
        self._add_item(
            {**item, **({"content": shown} if "content" in item else {})}, event.get("previous_item_id")
        )
        if item["type"] == "function_call_output":
            self.note(f"function gave {item['output']}")
            self._script.function_output(item["call_id"], item["output"])
        elif speech:
            for data in audio:
                self.conversation.keep_audio(item["id"], data)
            ms = sum(len(self._heard(data)) for data in audio) * 500 / self._format.rate_hz
            self._caller_spoke(item["id"], ms)
        elif item.get("role") == "user":
            text = " ".join(part["text"] for part in shown if part["type"] == "input_text")
            self.note(f"caller types: {text}")
            self._script.caller_typed(text)

    def _item_retrieve(self, event: dict[str, Any]) -> None:
        self.emit("conversation.item.retrieved", item=self.conversation.retrieve(event.get("item_id")))

    def _item_delete(self, event: dict[str, Any]) -> None:
        self.conversation.delete(event.get("item_id"))
        self.emit("conversation.item.deleted", item_id=event["item_id"])

    def _item_truncate(self, event: dict[str, Any]) -> None:
        item_id, index, end_ms = (
            event.get("item_id"),
            event.get("content_index", 0),
            event.get("audio_end_ms"),
        )
        self.conversation.truncate(item_id, index, end_ms)
        self.note(f"reply truncated at {end_ms} ms")
        self.emit("conversation.item.truncated", item_id=item_id, content_index=index, audio_end_ms=end_ms)

    # ---- responses -----------------------------------------------------------------------------------------

    def _active(self) -> Response | None:
        """The response under way in the conversation; there is at most one."""
        return next((response for response in self._responses.values() if response.in_conversation), None)

    def _response_create(self, event: dict[str, Any]) -> None:
        self.mishaps.refuse_create()
        self._create_response(event.get("response"))

    def _create_response(self, given: dict[str, Any] | None) -> None:
        params = self.state.response_params(given)
        active = self._active()
        if active is not None and params.get("conversation") != "none":
            message = (
                f"Conversation already has an active response in progress: {active.id}. "
                "Wait until the response is finished before creating a new one."
            )
            raise Rejected("conversation_already_has_active_response", message)
        self._idle_at_ms = None
        if self.faults.no_response:
            return
        reply = self._script.reply(self._callable(params))
        response = Response(self, reply, params, self._response_finished)
        self._responses[response.id] = response
        response.start()

    def _callable(self, params: dict[str, Any]) -> set[str]:
        """The names of the functions that a response with these parameters may call."""
        if self.faults.call_unoffered:
            return self._script.functions()
        offered = params["tools"] if params["tool_choice"] != "none" else []
        return {tool["name"] for tool in offered if tool["type"] == "function"}

    def _response_finished(self, response: Response) -> None:
        self._responses.pop(response.id, None)
        idle_ms = self._turns().get("idle_timeout_ms")
        if idle_ms and response.in_conversation:
            self._idle_at_ms = self._hearing.position_ms + response.audio_ms + idle_ms
        if self._owes_answer and response.in_conversation:
            self._owes_answer = False
            self._answer()

    def _response_cancel(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        response = self._active() if wanted is None else self._responses.get(str(wanted))
        if response is None or response.cancelled:
            raise Rejected("response_cancel_not_active", "Cancellation failed: no active response found")
        self.note("reply cancelled")
        response.cancel("client_cancelled")


_HANDLERS: dict[str, Callable[[Session, dict[str, Any]], None]] = {
    "session.update": Session._session_update,
    "input_audio_buffer.append": Session._append,
    "input_audio_buffer.commit": Session._commit,
    "input_audio_buffer.clear": Session._clear,
    "conversation.item.create": Session._item_create,
    "conversation.item.retrieve": Session._item_retrieve,
    "conversation.item.truncate": Session._item_truncate,
    "conversation.item.delete": Session._item_delete,
    "response.create": Session._response_create,
    "response.cancel": Session._response_cancel,
}


def _parse(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise Rejected("invalid_event", "Binary messages are not supported: send JSON in text messages.")
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Rejected("invalid_json", f"The message is not valid JSON: {error}.") from error
    if not isinstance(event, dict):
        raise Rejected("invalid_event", "The message is not a JSON object.")
    if not isinstance(event.get("type"), str):
        raise missing("type")
    return event
