"""The conversation of one session: its items, in order, and what a client may do with them.

Every refusal is a `Rejected` with the service's code. No I/O; not thread-safe.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ivr_ai.sim.wire import Rejected, new_id

ID_MAX = 32
AUDIO_MAX_BYTES = 15 * 1024 * 1024
KEPT_AUDIO_MAX_BYTES = 16 * 1024 * 1024  # of all items of a conversation, for conversation.item.retrieve
_CONTENT = {
    "user": ("input_text", "input_audio", "input_image"),
    "system": ("input_text",),
    "assistant": ("output_text",),
}
_AUDIO_PARTS = ("input_audio", "output_audio", "audio")
_ITEM_KINDS = ("message", "function_call", "function_call_output")


def missing(param: str) -> Rejected:
    return Rejected("missing_required_parameter", f"Missing required parameter: '{param}'.", param)


def audio_bytes(value: Any, param: str) -> bytes:
    """Decodes base64 audio. Raises Rejected."""
    if not isinstance(value, str):
        raise missing(param)
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"Invalid '{param}'. Expected base64-encoded audio bytes but got an invalid value."
        raise Rejected("invalid_value", message, param) from error
    if len(data) > AUDIO_MAX_BYTES:
        message = f"Invalid '{param}': {len(data)} bytes are more than the {AUDIO_MAX_BYTES} allowed."
        raise Rejected("invalid_value", message, param)
    return data


class Conversation:
    """Items by id, in order, and their audio: KEPT_AUDIO_MAX_BYTES of it, the latest."""

    def __init__(self, dialect: str = "ga") -> None:
        self._content = {**_CONTENT, "assistant": ("text",)} if dialect == "beta" else _CONTENT
        self._items: dict[str, dict[str, Any]] = {}
        self._order: list[str] = []
        self._audio_ms: dict[str, float] = {}  # of assistant audio, as far as it has been sent and not cut
        self._truncated: set[str] = set()
        self._audio: dict[str, bytearray] = {}  # as on the wire, oldest item first
        self._audio_bytes = 0

    def __contains__(self, item_id: Any) -> bool:
        return isinstance(item_id, str) and item_id in self._items

    def add(self, item: dict[str, Any], after: str | None = None) -> str | None:
        """Stores an item at the end, after another one, or ("root") in front. Returns the id before it."""
        place = self._place(after)
        self._items[item["id"]] = _copied(item)
        self._order.insert(place, item["id"])
        return self._order[place - 1] if place else None

    def replace(self, item: dict[str, Any]) -> str | None:
        """Stores the final state of an item that has not been deleted; what truncation took stays away.

        Returns the id before it.
        """
        self._items[item["id"]] = _copied(item)
        if item["id"] in self._truncated:
            self._drop_transcript(item["id"])
        place = self._order.index(item["id"])
        return self._order[place - 1] if place else None

    def _place(self, after: str | None) -> int:
        if after is None:
            return len(self._order)
        if after == "root":
            return 0
        if after not in self:
            message = f"Previous item with id '{after}' does not exist."
            raise Rejected("item_create_invalid_previous_item_id", message, "previous_item_id")
        return self._order.index(after) + 1

    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    # ---- audio and transcripts -----------------------------------------------------------------------------

    def add_speech(self, item_id: str, data: bytes, ms: float) -> None:
        """Counts and keeps assistant audio that is sent. What follows a truncation is no part of the item."""
        if item_id in self and item_id not in self._truncated:
            self._audio_ms[item_id] = self._audio_ms.get(item_id, 0.0) + ms
            self.keep_audio(item_id, data)

    def keep_audio(self, item_id: str, data: bytes) -> None:
        """Appends to an item's audio. Beyond the bound the audio of the oldest items goes, this one last."""
        if item_id not in self:
            return
        self._audio.setdefault(item_id, bytearray()).extend(data)
        self._audio_bytes += len(data)
        while self._audio_bytes > KEPT_AUDIO_MAX_BYTES:
            self._forget_audio(next(iter(self._audio)))

    def _forget_audio(self, item_id: str) -> None:
        self._audio_bytes -= len(self._audio.pop(item_id, b""))

    def set_transcript(self, item_id: str, text: str) -> None:
        """The transcript of a caller's item has come; the item may be gone."""
        for part in self._items.get(item_id, {}).get("content", []):
            if part["type"] == "input_audio":
                part["transcript"] = text

    def _drop_transcript(self, item_id: str) -> None:
        for part in self._items[item_id]["content"]:
            part.pop("transcript", None)

    # ---- what a client asks --------------------------------------------------------------------------------

    def retrieve(self, item_id: Any) -> dict[str, Any]:
        """An item with its transcript and audio (base64, as it was on the wire). Raises Rejected."""
        if item_id is None:
            raise missing("item_id")
        if item_id not in self:
            message = f"Error retrieving item: the item with id '{item_id}' does not exist."
            raise Rejected("item_retrieve_invalid_item_id", message, "item_id")
        item = _copied(self._items[item_id])
        for part in item.get("content", []):
            if part["type"] in _AUDIO_PARTS and item_id in self._audio:
                part["audio"] = base64.b64encode(self._audio[item_id]).decode()
        return item

    def delete(self, item_id: Any) -> None:
        if item_id is None:
            raise missing("item_id")
        if item_id not in self:
            message = f"Error deleting item: the item with id '{item_id}' does not exist."
            raise Rejected("item_delete_invalid_item_id", message, "item_id")
        del self._items[item_id]
        self._order.remove(item_id)
        self._audio_ms.pop(item_id, None)
        self._truncated.discard(item_id)
        self._forget_audio(item_id)

    def truncate(self, item_id: Any, content_index: Any, audio_end_ms: Any) -> None:
        """Cuts an assistant item's audio; its transcript goes whole, also that of an item under way.

        Raises Rejected with the service's reasons.
        """
        if item_id is None:
            raise missing("item_id")
        if isinstance(audio_end_ms, bool) or not isinstance(audio_end_ms, int) or audio_end_ms < 0:
            message = f"Invalid 'audio_end_ms': expected an integer of 0 or more, but got {audio_end_ms!r}."
            raise (
                missing("audio_end_ms")
                if audio_end_ms is None
                else Rejected("invalid_value", message, "audio_end_ms")
            )
        if item_id not in self:
            message = f"Error truncating item: the item with id '{item_id}' does not exist."
            raise Rejected("item_truncate_invalid_item_id", message, "item_id")
        if item_id not in self._audio_ms:
            raise Rejected(None, "Only model output audio messages can be truncated.")
        if content_index != 0:
            message = f"Invalid 'content_index': {content_index!r}; the item has one content part."
            raise Rejected("invalid_value", message, "content_index")
        length_ms = int(self._audio_ms[item_id])
        if audio_end_ms > length_ms:
            message = f"Audio content of {length_ms}ms is already shorter than {audio_end_ms}ms"
            raise Rejected("invalid_value", message, "audio_end_ms")
        self._cut(item_id, audio_end_ms)

    def _cut(self, item_id: str, audio_end_ms: int) -> None:
        kept = self._audio.get(item_id, bytearray())
        size = int(len(kept) * audio_end_ms / (self._audio_ms[item_id] or 1)) // 2 * 2
        self._audio_bytes -= len(kept) - size
        del kept[size:]
        self._audio_ms[item_id] = audio_end_ms
        self._truncated.add(item_id)
        self._drop_transcript(item_id)

    def check_new(self, item: Any) -> dict[str, Any]:
        """A client's item as the server keeps it: checked, with id, object and status. Raises Rejected."""
        if not isinstance(item, dict):
            raise missing("item")
        if item.get("type") not in _ITEM_KINDS:
            raise _bad("item.type", item.get("type"), _ITEM_KINDS)
        item_id = item.get("id") or new_id("item")
        if not isinstance(item_id, str) or len(item_id) > ID_MAX:
            raise Rejected(
                "invalid_value", f"Invalid 'item.id': a string of at most {ID_MAX} characters.", "item.id"
            )
        if item_id in self._items:
            message = f"Error adding item: the item with id '{item_id}' already exists."
            raise Rejected("item_create_duplicate_item_id", message, "item.id")
        kinds = {"message": self._check_message, "function_call": self._check_call}
        kinds.get(item["type"], self._check_output)(item)
        given = _without_nulls(item)
        if "content" in given:
            given["content"] = [_without_nulls(part) for part in given["content"]]
        status = given.get("status", "completed")
        return {**given, "id": item_id, "object": "realtime.item", "status": status}

    def _check_message(self, item: dict[str, Any]) -> None:
        role = item.get("role")
        if role not in tuple(self._content):
            raise _bad("item.role", role, tuple(self._content))
        allowed = self._content[role]
        if not isinstance(item.get("content"), list) or not item["content"]:
            raise missing("item.content")
        for index, part in enumerate(item["content"]):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in allowed:
                raise _bad(f"item.content[{index}].type", kind, allowed)
            if kind in ("input_text", "output_text", "text") and not isinstance(part.get("text"), str):
                raise missing(f"item.content[{index}].text")

    def _check_call(self, item: dict[str, Any]) -> None:
        for name in ("call_id", "name", "arguments"):
            if not isinstance(item.get(name), str):
                raise missing(f"item.{name}")
        _check_call_id(item["call_id"])

    def _check_output(self, item: dict[str, Any]) -> None:
        for name in ("call_id", "output"):
            if not isinstance(item.get(name), str):
                raise missing(f"item.{name}")
        calls = [known["call_id"] for known in self._items.values() if known["type"] == "function_call"]
        if item["call_id"] not in calls:
            _check_call_id(item["call_id"])
            message = f"Tool call ID '{item['call_id']}' not found in conversation."
            raise Rejected("invalid_value", message, "item.call_id")


def _without_nulls(given: dict[str, Any]) -> dict[str, Any]:
    """Null stands for a field left out."""
    return {name: value for name, value in given.items() if value is not None}


def _copied(item: dict[str, Any]) -> dict[str, Any]:
    """The item with content parts of its own."""
    return {**item, "content": [dict(part) for part in item["content"]]} if "content" in item else dict(item)


def _check_call_id(call_id: str) -> None:
    if len(call_id) > ID_MAX:
        message = f"Invalid 'item.call_id': string too long, the maximum is {ID_MAX} characters."
        raise Rejected("invalid_value", message, "item.call_id")


def _bad(param: str, value: Any, allowed: tuple[str, ...]) -> Rejected:
    supported = ", ".join(map(repr, allowed))
    return Rejected("invalid_value", f"Invalid value: {value!r}. Supported values are: {supported}.", param)
