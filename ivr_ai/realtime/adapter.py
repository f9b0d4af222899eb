"""OpenAI Realtime on one side, a Conversation on the other: GA events become calls on it, its actions GA
events.

Every client event that can be refused carries an event_id which says what it is about:

    ask_N       response.create: a refusal goes to Conversation.request_refused()
    late_N      response.cancel, truncate, delete: a refusal means that it came too late, and is no news
    item_N      conversation.item.create, input_audio_buffer.commit: a refusal is told
    update_N    session.update: negotiation.py

A response.create also carries its id in `metadata`, which comes back with response.created and says whose
response that is. A server that does not take `metadata` is asked again without.

Source: OpenAI Realtime API reference (events; errors).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any

from ivr_ai.conversation.actions import (
    Action,
    Ask,
    Cancel,
    Fail,
    Forget,
    Notify,
    Output,
    Recall,
    ToModel,
    Utterance,
)
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.conversation.history import Entry
from ivr_ai.conversation.requests import Done, Trouble
from ivr_ai.realtime.repeats import Repeats

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
    }
)
EXPIRED = "session_expired"  # this connection ends; a new one may go on
LIMITED_CODES = frozenset({"rate_limit_exceeded", "inference_rate_limit_exceeded"})
PASSING_CODES = LIMITED_CODES | {"server_error", "internal_error", "service_unavailable", "overloaded"}
BUSY = "conversation_already_has_active_response"
ASK, LATE, ITEM = "ask_", "late_", "item_"
TAG = "ivr_ai_ask"  # in a response's metadata
AUDIO_DONE = "response.output_audio.done"
COMMITTED = "input_audio_buffer.committed"
SPEECH_STARTED = "input_audio_buffer.speech_started"
SPEECH_STOPPED = "input_audio_buffer.speech_stopped"
_AGAIN_IN = re.compile(
    r"(?:try again|retry)\s+(?:in|after)\s+((?:\d+(?:\.\d+)?\s*[a-z]+(?:\s*,)?\s*(?:and\s+)?)+)",
    re.IGNORECASE,
)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|millis|h|m|s)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "millis": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after_s(message: str) -> float | None:
    """The time in "Please try again in 1.6s", "... in 120ms", "... in 1m2s", "Please retry after 26 seconds".

    None where a message names none.
    """
    found = _AGAIN_IN.search(message)
    times = _TIME.findall(found[1]) if found is not None else []
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in times) if times else None


class RealtimeAdapter:
    """That of one connection. Not thread-safe: the conversation's lock guards it."""

    _HANDLERS = MappingProxyType(
        {
            SPEECH_STARTED: "_on_speech_started",
            COMMITTED: "_on_committed",
            "response.created": "_on_response_created",
            "response.output_item.added": "_on_item_added",
            AUDIO_DONE: "_on_audio_done",
            "response.output_audio_transcript.done": "_on_transcript",
            "response.function_call_arguments.done": "_on_function_call",
            "response.done": "_on_response_done",
            "conversation.item.input_audio_transcription.completed": "_on_caller_transcript",
            "conversation.item.input_audio_transcription.failed": "_on_transcription_failed",
            "rate_limits.updated": "_on_rate_limits",
            "error": "_on_error",
        }
    )
    EVENTS = frozenset({*_HANDLERS, SPEECH_STOPPED, "session.created", "session.updated"})
    """Server events, in GA names, that mean something here or to the link; audio apart."""

    def __init__(self, conversation: Conversation, vad_silence_ms: int) -> None:
        """vad_silence_ms: the silence that ends a turn, by which speech_stopped comes late."""
        self._conversation = conversation
        self._vad_silence_ms = vad_silence_ms
        self._numbers = count(1)
        self._takes_metadata = True
        self._limits_reset_s: float | None = None  # of the limit that is used up, as the server last said
        self._repeats = Repeats()

    def for_next_link(self) -> RealtimeAdapter:
        """One for another connection to the same server, which knows what this one has learned of that."""
        adapter = RealtimeAdapter(self._conversation, self._vad_silence_ms)
        adapter._takes_metadata = self._takes_metadata
        return adapter

    # ---- in: events of the server --------------------------------------------------------------------------

    def on_event(
        self, event: Mapping[str, Any], now_s: float, last_speech_s: float | None = None
    ) -> list[Action]:
        """Any event but audio and sessions. last_speech_s: when the caller was last heard on the line, if
        known.

        Raises AttributeError, KeyError, TypeError, ValueError for a malformed one.
        """
        kind = event.get("type")
        if not isinstance(kind, str) or self._repeats.is_repeated(event):
            return []
        if kind == SPEECH_STOPPED:
            if last_speech_s is None:
                last_speech_s = now_s - self._vad_silence_ms / 1000
            return self._conversation.caller_stopped(now_s, last_speech_s, _id(event, "item_id"))
        name = self._HANDLERS.get(kind)
        if name is None:
            return []
        handler: Callable[[Mapping[str, Any], float], list[Action]] = getattr(self, name)
        return handler(event, now_s)

    def _on_speech_started(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        return self._conversation.caller_started(now_s, _id(event, "item_id"))

    def _on_committed(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        self._conversation.turn_committed(_id(event, "item_id"))
        return []

    def _on_response_created(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        response = event.get("response", {})
        return self._conversation.response_created(_id(response, "id"), _tag(response), now_s)

    def _on_item_added(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        item = event.get("item") or {}
        if item.get("type") != "message":
            return []
        return self._conversation.item_added(_id(event, "response_id"), _id(item, "id"), now_s)

    def _on_audio_done(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        return self._conversation.audio_ended(_id(event, "item_id"))

    def _on_transcript(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        return self._conversation.item_text(_id(event, "item_id"), str(event.get("transcript") or ""))

    def _on_function_call(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        return self._conversation.function_called(
            _id(event, "response_id"),
            _id(event, "call_id"),
            str(event.get("name") or ""),
            str(event.get("arguments") or ""),
            now_s,
        )

    def _on_response_done(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        response = event.get("response", {})
        status, details = response.get("status"), _object(response, "status_details")
        tokens = _object(response, "usage").get("total_tokens")
        trouble = None
        if status == "failed":
            error = _object(details, "error")
            code = error.get("code") or error.get("type") or "response_failed"
            trouble = self._trouble(str(code), str(error.get("message") or "the response failed"), now_s)
        done = Done(
            _id(response, "id"),
            request_id=_tag(response),
            cancelled=status == "cancelled",
            interrupted=details.get("reason") == "turn_detected",
            trouble=trouble,
            fatal=trouble is not None and trouble.code in FATAL_CODES,
            tokens=tokens if isinstance(tokens, int) else 0,
        )
        return self._conversation.response_done(done, now_s)

    def _on_caller_transcript(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        return self._conversation.caller_said(_id(event, "item_id"), str(event.get("transcript") or ""))

    def _on_transcription_failed(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        error = event.get("error") or {}
        reason = str(error.get("message") or error.get("code") or "no reason given")
        return self._conversation.caller_not_understood(_id(event, "item_id"), reason)

    def _on_rate_limits(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        used_up = [limit for limit in event.get("rate_limits") or [] if limit.get("remaining") == 0]
        resets_s = [float(limit.get("reset_seconds") or 0) for limit in used_up]
        told_s = [reset_s for reset_s in resets_s if math.isfinite(reset_s)]
        self._limits_reset_s = now_s + max(told_s) if told_s else None
        return []

    # ---- in: errors ----------------------------------------------------------------------------------------

    def _on_error(self, event: Mapping[str, Any], now_s: float) -> list[Action]:
        error = event.get("error") or {}
        code = str(error.get("code") or error.get("type") or "error")
        message, param = str(error.get("message") or ""), str(error.get("param") or "")
        about = str(error.get("event_id") or "")
        notice = Notify("error", {"code": code, "message": message})
        if code in FATAL_CODES:
            return [notice, Fail(f"the server says {code}: {message}")]
        if about.startswith(ASK):
            return self._on_refusal(about, code, param, message, notice, now_s)
        if about.startswith(LATE):
            return [Notify("late", {"code": code, "message": message})]
        if not about and self._is_about_asking(code, param):
            return [notice, *self._on_refusal("", code, param, message, notice, now_s)[1:]]
        return [notice]

    def _on_refusal(
        self, about: str, code: str, param: str, message: str, notice: Notify, now_s: float
    ) -> list[Action]:
        trouble = self._trouble(code, message, now_s)
        if self._takes_metadata and ("metadata" in param or "metadata" in message):
            self._takes_metadata = False
            trouble = Trouble(code, message, passing=True, retry_after_s=0.0)
        busy = code == BUSY
        actions = self._conversation.request_refused(about, trouble, busy, now_s)
        return [Notify("late", notice.data) if busy else notice, *actions]

    def _is_about_asking(self, code: str, param: str) -> bool:
        """Whether an error without an event_id can only be the refusal of the Ask that is out."""
        named = code == BUSY or code in PASSING_CODES or param.startswith("response.")
        return named and self._conversation.requests.may_be_refused

    def _trouble(self, code: str, message: str, now_s: float) -> Trouble:
        after_s = retry_after_s(message)
        limited = code in LIMITED_CODES
        if limited and after_s is None and self._limits_reset_s is not None:
            after_s = self._limits_reset_s - now_s if now_s < self._limits_reset_s else None
        return Trouble(code, message, code in PASSING_CODES, limited, after_s)

    # ---- out: actions as events of the client --------------------------------------------------------------

    def encode(self, action: ToModel) -> list[Event]:
        """The events that an action sends, in order; none for SetTurns, which is the link's."""
        match action:
            case Ask(request_id, instructions):
                return [self._create(request_id, instructions)]
            case Cancel(response_id):
                return [self._late("response.cancel", response_id=response_id)]
            case Forget(item_id, heard_ms) if heard_ms > 0:
                cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": heard_ms}
                return [self._late("conversation.item.truncate", **cut)]
            case Forget(item_id):
                return [self._late("conversation.item.delete", item_id=item_id)]
            case Utterance(item_id, audio):
                return [self._utterance(item_id, audio)]
            case Recall(entries):
                return self.replay(list(entries))
            case Output(call_id, output, call):
                item = {"type": "function_call_output", "call_id": call_id, "output": output}
                return [*([self._call(call_id, *call)] if call else []), self._item(item)]
        return []

    def _create(self, request_id: str, instructions: str) -> Event:
        response: Event = {"instructions": instructions} if instructions else {}
        if self._takes_metadata:
            response["metadata"] = {TAG: request_id}
        create = {"type": "response.create", "event_id": request_id}
        return {**create, "response": response} if response else create

    def _late(self, kind: str, **body: Any) -> Event:
        return {"type": kind, "event_id": f"{LATE}{next(self._numbers)}", **body}

    def _item(self, item: Event) -> Event:
        return {"type": "conversation.item.create", "event_id": f"{ITEM}{next(self._numbers)}", "item": item}

    def _call(self, call_id: str, name: str, arguments: str) -> Event:
        return self._item({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})

    def _utterance(self, item_id: str, audio_base64: str | None) -> Event:
        if audio_base64 is None:
            return {"type": "input_audio_buffer.commit", "event_id": f"{ITEM}{next(self._numbers)}"}
        content = [{"type": "input_audio", "audio": audio_base64}]
        return self._item({"id": item_id, "type": "message", "role": "user", "content": content})

    # ---- out: what was said before, for a new connection ---------------------------------------------------

    def replay(self, entries: list[Entry]) -> list[Event]:
        """Events that give the history to a model that has heard nothing of it.

        What a function gave back is left out where its call is no longer known: servers refuse it.
        """
        called = {entry.call_id for entry in entries if entry.role == "call"}
        known = [entry for entry in entries if entry.role != "output" or entry.call_id in called]
        return [event for entry in known for event in self._replayed(entry)]

    def _replayed(self, entry: Entry) -> list[Event]:
        match entry.role:
            case "user":
                content = {"type": "input_text", "text": entry.heard_text}
                return [self._item({"type": "message", "role": "user", "content": [content]})]
            case "assistant":
                content = {"type": "output_text", "text": entry.heard_text}
                return [self._item({"type": "message", "role": "assistant", "content": [content]})]
            case "call":
                return [self._call(entry.call_id, entry.name, entry.text or "{}")]
            case "output":
                item = {"type": "function_call_output", "call_id": entry.call_id, "output": entry.text or ""}
                return [self._item(item)]
        return []


def _id(body: Mapping[str, Any], name: str) -> str:
    """An id; "" where there is none. Raises TypeError for one that is no text."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.60}")
    return value


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object that an event can do without: empty where there is none."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _tag(response: Mapping[str, Any]) -> str:
    """The Ask that a response answers, as its metadata says; "" where that says nothing."""
    metadata = response.get("metadata")
    tag = metadata.get(TAG) if isinstance(metadata, dict) else None
    return tag if isinstance(tag, str) else ""
