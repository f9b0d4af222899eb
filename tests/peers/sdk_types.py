"""Holds Realtime events against the types of OpenAI's SDK, strictly: no coercion, and no unknown fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from openai.types import realtime
from pydantic import BaseModel, ValidationError

# Fields that the SDK's types lack, though the service was seen to send them (or, with `phase`, to document
# them).
_UNTYPED = {"obfuscation", "phase"}
_SESSION_HEAD = ("id", "object", "expires_at")


def _members(union: Any) -> Iterator[type[BaseModel]]:
    if isinstance(union, type) and issubclass(union, BaseModel):
        yield union
    else:
        for argument in get_args(union):
            yield from _members(argument)


def _by_type(union: Any) -> dict[str, type[BaseModel]]:
    return {
        name: model
        for model in _members(union)
        if "type" in model.model_fields
        for name in get_args(model.model_fields["type"].annotation)
    }


SERVER = _by_type(realtime.RealtimeServerEvent)
CLIENT = _by_type(realtime.RealtimeClientEvent)
_SESSIONS = {
    "realtime": realtime.realtime_session_create_response.RealtimeSessionCreateResponse,
    "transcription": (
        realtime.realtime_transcription_session_create_response.RealtimeTranscriptionSessionCreateResponse
    ),
}


def problems(event: Mapping[str, Any], known: Mapping[str, type[BaseModel]]) -> list[str]:
    """What is wrong with one event, in words; `known` is SERVER or CLIENT."""
    kind = event.get("type")
    if kind not in known:
        return [f"{kind!r} is no event type"]
    found = _faults(known[kind], event)
    if known is SERVER and kind in ("session.created", "session.updated"):
        # Events are typed with the session as clients write it: the rest of it has a type of its own.
        found = [fault for fault in found if not fault.endswith(_heads())]
        found += [
            f"{kind}: {fault}" for fault in _faults(_SESSIONS[event["session"]["type"]], event["session"])
        ]
    return found


def _heads() -> tuple[str, ...]:
    return tuple(f"session.{name} is unknown" for name in _SESSION_HEAD)


def _faults(model: type[BaseModel], value: Mapping[str, Any]) -> list[str]:
    try:
        parsed = model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        where = value.get("type", model.__name__)
        return [f"{where}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return [f"{value.get('type')}: {path} is unknown" for path in _unknown(parsed)]


def _unknown(value: Any, above: str = "") -> Iterator[str]:
    """Paths of what no field of the types takes."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            if name not in _UNTYPED:
                yield f"{above}{name}"
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{above}{name}.")
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _unknown(each, f"{above}{number}.")
