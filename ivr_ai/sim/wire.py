"""Small parts of the Realtime wire: ids, refusals and the names of the beta dialect.

The simulator thinks in GA names; `to_beta` rewrites an event just before it is sent.
"""

from __future__ import annotations

import secrets
from typing import Any

from ivr_ai.audio.formats import Format

AUDIO_DELTA = "response.output_audio.delta"

# Every event that the simulator sends, by its GA name.
SERVER_EVENTS = (
    "error",
    "session.created",
    "session.updated",
    "conversation.created",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "conversation.item.deleted",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "input_audio_buffer.committed",
    "input_audio_buffer.cleared",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.timeout_triggered",
    "response.created",
    "response.done",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    AUDIO_DELTA,
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "rate_limits.updated",
)

# Every event that the simulator takes.
CLIENT_EVENTS = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
)

_BETA_TYPES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": None,  # the beta dialect announces an item once
}
_BETA_CONTENT = {"output_text": "text", "output_audio": "audio"}


class Rejected(Exception):
    """A client event is refused: it becomes an `error` event and the connection stays.

    `code` is None where the service has none.
    """

    def __init__(self, code: str | None, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def error_body(
    code: str | None, message: str, param: str | None = None, event_id: str | None = None
) -> dict[str, Any]:
    """The `error` object of an error event. `event_id` is the client's own, when it gave one."""
    return {**status_error(code, message), "param": param, "event_id": event_id}


def status_error(code: str | None, message: str) -> dict[str, Any]:
    """The `error` object in the status_details of a failed response."""
    kind = "server_error" if code == "server_error" else "invalid_request_error"
    return {"type": kind, "code": code, "message": message}


def new_id(prefix: str, chars: int = 0) -> str:
    """A fresh id such as "item_6f0c…": 26 characters at most, under the service's 32, or `chars` if more."""
    return f"{prefix}_{secrets.token_hex(10)}".ljust(chars, "0")


def to_beta(event: dict[str, Any]) -> dict[str, Any] | None:
    """The event under its beta name and shape, or None where the beta dialect has no such event."""
    name = _BETA_TYPES.get(event["type"], event["type"])
    if name is None:
        return None
    event = {**event, "type": name}
    if "item" in event:
        event["item"] = _beta_item(event["item"])
    if "response" in event:
        event["response"] = _beta_response(event["response"])
    return event


def _beta_item(item: dict[str, Any]) -> dict[str, Any]:
    if "content" not in item:
        return item
    content = [{**part, "type": _BETA_CONTENT.get(part["type"], part["type"])} for part in item["content"]]
    return {**item, "content": content}


def _beta_response(response: dict[str, Any]) -> dict[str, Any]:
    response = {**response, "output": [_beta_item(item) for item in response["output"]]}
    output = response.pop("audio")["output"]
    response["modalities"] = ["audio", "text"] if response.pop("output_modalities") == ["audio"] else ["text"]
    response["output_audio_format"] = Format.from_wire(output["format"]).beta_name
    response["voice"] = output["voice"]
    return response
