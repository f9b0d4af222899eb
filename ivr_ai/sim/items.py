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
_CONTENT = {
    "user": ("input_text", "input_audio", "input_image"),
    "system": ("input_text",),
    "assistant": ("output_text",),
}
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
    """Items by id, in order."""

    def __init__(self, dialect: str = "ga") -> None:
        self._content = {**_CONTENT, "assistant": ("text",)} if dialect == "beta" else _CONTENT
        self._items: dict[str, dict[str, Any]] = {}
        self._order: list[str] = []
        self._audio_ms: dict[str, float] = {}  # of assistant audio, as far as it has been sent

    def add(self, item: dict[str, Any], after: str | None = None) -> str | None:
        """Stores an item at the end, after another one, or ("root") in front. Returns the id before it."""
        place = self._place(after)
        self._items[item["id"]] = item
        self._order.insert(place, item["id"])
        return self._order[place - 1] if place else None

    def replace(self, item: dict[str, Any]) -> str | None:
        """Stores an item's final state, unless it was deleted meanwhile. Returns the id before it."""
        if item["id"] not in self._items:
            return None
        self._items[item["id"]] = {
            **item,
            **({"content": [dict(p) for p in item["content"]]} if "content" in item else {}),
        }
        place = self._order.index(item["id"])
        return self._order[place - 1] if place else None

    def _place(self, after: str | None) -> int:
        if after is None:
            return len(self._order)
        if after == "root":
            return 0
        if not self._knows(after):
            message = f"Previous item with id '{after}' does not exist."
            raise Rejected("item_not_found", message, "previous_item_id")
        return self._order.index(after) + 1

    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    def add_audio(self, item_id: str, ms: float) -> None:
        """Counts assistant audio sent."""
        self._audio_ms[item_id] = self._audio_ms.get(item_id, 0.0) + ms

    def _knows(self, item_id: Any) -> bool:
        return isinstance(item_id, str) and item_id in self._items

    def get(self, item_id: Any) -> dict[str, Any]:
        if not self._knows(item_id):
            message = f"Error retrieving item: the item with id '{item_id}' does not exist."
            raise Rejected("item_retrieve_invalid_item_id", message, "item_id")
        return self._items[item_id]

    def delete(self, item_id: Any) -> None:
        if not self._knows(item_id):
            message = f"Error deleting item: the item with id '{item_id}' does not exist."
            raise Rejected("item_not_found", message, "item_id")
        del self._items[item_id]
        self._order.remove(item_id)
        self._audio_ms.pop(item_id, None)

    def truncate(self, item_id: Any, content_index: Any, audio_end_ms: Any) -> None:
        """Cuts an assistant item's audio; its transcript goes whole. Raises Rejected with the service's
        reasons.
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
        if not self._knows(item_id):
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
        self._audio_ms[item_id] = audio_end_ms
        for part in self._items[item_id]["content"]:
            part.pop("transcript", None)

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
            raise Rejected("invalid_value", f"An item with id '{item_id}' exists already.", "item.id")
        kinds = {"message": self._check_message, "function_call": self._check_call}
        kinds.get(item["type"], self._check_output)(item)
        return {**item, "id": item_id, "object": "realtime.item", "status": item.get("status", "completed")}

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
        _check_call_id(item["call_id"])
        calls = [known["call_id"] for known in self._items.values() if known["type"] == "function_call"]
        if item["call_id"] not in calls:
            message = f"Tool call ID '{item['call_id']}' not found in conversation."
            raise Rejected("invalid_value", message, "item.call_id")


def _check_call_id(call_id: str) -> None:
    if len(call_id) > ID_MAX:
        message = f"Invalid 'item.call_id': string too long, the maximum is {ID_MAX} characters."
        raise Rejected("invalid_value", message, "item.call_id")


def _bad(param: str, value: Any, allowed: tuple[str, ...]) -> Rejected:
    supported = ", ".join(map(repr, allowed))
    return Rejected("invalid_value", f"Invalid value: {value!r}. Supported values are: {supported}.", param)
