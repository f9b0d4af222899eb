"""The session object: its fields, their allowed values and defaults, in the GA and the beta shape.

Fields are kept flat under their GA path ("audio.input.turn_detection"), so that both dialects share one set
of checks. An update is checked whole before any of it is applied: one bad field refuses everything, as the
service does. In a response.create null stands for a field left out, as clients send it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivr_ai.audio.formats import Format, FormatError
from ivr_ai.sim.wire import Rejected, new_id

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
DEFAULT_INSTRUCTIONS = "You are a helpful, witty and friendly voice assistant. Answer briefly."

INPUT_FORMAT = "audio.input.format"
OUTPUT_FORMAT = "audio.output.format"
TURN_DETECTION = "audio.input.turn_detection"
TRANSCRIPTION = "audio.input.transcription"
VOICE = "audio.output.voice"

_GROUPS = ("audio", "audio.input", "audio.output")
_BETA_PATHS = {
    "modalities": "output_modalities",
    "input_audio_format": INPUT_FORMAT,
    "output_audio_format": OUTPUT_FORMAT,
    "input_audio_transcription": TRANSCRIPTION,
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "turn_detection": TURN_DETECTION,
    "voice": VOICE,
    "speed": "audio.output.speed",
    "max_response_output_tokens": "max_output_tokens",
    **{name: name for name in ("model", "instructions", "tools", "tool_choice", "temperature", "tracing")},
}

Check = Callable[
    [Any, str], Any
]  # (value, name of the parameter) -> the value as it is kept; raises Rejected


def _bad(param: str, value: Any, allowed: str) -> Rejected:
    return Rejected(
        "invalid_value", f"Invalid value for '{param}': {value!r}. Supported values are: {allowed}.", param
    )


def _choice(*allowed: Any) -> Check:
    def check(value: Any, param: str) -> Any:
        if value not in allowed:
            raise _bad(param, value, ", ".join(map(repr, allowed)))
        return value

    return check


def _number(low: float, high: float, kind: tuple[type, ...] = (int, float)) -> Check:
    def check(value: Any, param: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            raise _bad(param, value, f"{'integers' if kind == (int,) else 'numbers'} from {low} to {high}")
        return value

    return check


def _of(kind: type, name: str) -> Check:
    def check(value: Any, param: str) -> Any:
        if not isinstance(value, kind):
            raise _bad(param, value, name)
        return value

    return check


def _nullable(inner: Check) -> Check:
    return lambda value, param: None if value is None else inner(value, param)


def _record(fields: Mapping[str, Check], defaults: Mapping[str, Any] | None = None) -> Check:
    """An object with these fields and no others; those left out take their default, when there is one."""

    def check(value: Any, param: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _bad(param, value, "objects")
        for name in value:
            if name not in fields:
                raise Rejected(
                    "unknown_parameter", f"Unknown parameter: '{param}.{name}'.", f"{param}.{name}"
                )
        checked = {name: fields[name](given, f"{param}.{name}") for name, given in value.items()}
        return {
            **checked,
            **{name: default for name, default in (defaults or {}).items() if name not in checked},
        }

    return check


_TEXT = _of(str, "strings")
_FLAG = _of(bool, "true, false")
_INTEGER = (int,)
_TURN_FLAGS = {"create_response": _FLAG, "interrupt_response": _FLAG}
_TURN_KINDS: dict[str, Check] = {
    "server_vad": _record(
        {
            "type": _TEXT,
            "threshold": _number(0, 1),
            "prefix_padding_ms": _number(0, 60_000, _INTEGER),
            "silence_duration_ms": _number(0, 60_000, _INTEGER),
            "idle_timeout_ms": _nullable(_number(1, 600_000, _INTEGER)),
            **_TURN_FLAGS,
        },
        {
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 200,
            "idle_timeout_ms": None,
            "create_response": True,
            "interrupt_response": True,
        },
    ),
    "semantic_vad": _record(
        {"type": _TEXT, "eagerness": _choice("low", "medium", "high", "auto"), **_TURN_FLAGS},
        {"eagerness": "auto", "create_response": True, "interrupt_response": True},
    ),
}


_TRANSCRIPTION_TURN_KEYS = ("type", "threshold", "prefix_padding_ms", "silence_duration_ms", "eagerness")


def _turn_detection(value: Any, param: str) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in tuple(_TURN_KINDS):
        raise _bad(f"{param}.type", kind, "'server_vad', 'semantic_vad'")
    return _TURN_KINDS[kind](value, param)


def _modalities(value: Any, param: str) -> list[str]:
    if value not in (["audio"], ["text"]):
        raise _bad(param, value, "['audio'], ['text']")
    return value


def _beta_modalities(value: Any, param: str) -> list[str]:
    if value not in (["audio", "text"], ["text", "audio"], ["text"]):
        raise _bad(param, value, "['audio', 'text'], ['text']")
    return ["audio"] if "audio" in value else ["text"]


def _voice(value: Any, param: str) -> Any:
    custom = value.get("id") if isinstance(value, dict) else value
    if value not in VOICES and not (isinstance(custom, str) and custom.startswith("voice_")):
        raise _bad(param, value, ", ".join(VOICES) + " or {'id': 'voice_…'}")
    return value


def _max_tokens(value: Any, param: str) -> Any:
    return value if value == "inf" else _number(1, 4096, _INTEGER)(value, param)


def _tools(value: Any, param: str) -> list[dict[str, Any]]:
    for index, tool in enumerate(_of(list, "arrays")(value, param)):
        _of(dict, "objects")(tool, f"{param}[{index}]")
        _choice("function", "mcp")(tool.get("type"), f"{param}[{index}].type")
        needed = "name" if tool["type"] == "function" else "server_label"
        if not isinstance(tool.get(needed), str):
            where = f"{param}[{index}].{needed}"
            raise Rejected("missing_required_parameter", f"Missing required parameter: '{where}'.", where)
    return value


def _tool_choice(value: Any, param: str) -> Any:
    if isinstance(value, dict) and value.get("type") in ("function", "mcp"):
        return value
    return _choice("auto", "none", "required")(value, param)


def _format(dialect: str, pcm_rates_hz: tuple[int, ...]) -> Check:
    def check(value: Any, param: str) -> Format:
        if isinstance(value, dict) and dialect == "ga":
            pcm = value.get("type") == "audio/pcm"
            _record({"type": _TEXT, **({"rate": _choice(*pcm_rates_hz)} if pcm else {})})(value, param)
        elif not isinstance(value, str) or dialect == "ga":
            raise _bad(param, value, "objects" if dialect == "ga" else "'pcm16', 'g711_ulaw', 'g711_alaw'")
        try:
            return Format.from_wire(value, pcm_rates_hz[0])
        except FormatError as error:
            raise Rejected("invalid_value", f"Invalid value for '{param}': {error}.", param) from error

    return check


def _session_fields(dialect: str, pcm_rates_hz: tuple[int, ...]) -> dict[str, Check]:
    anything: Check = lambda value, param: value  # noqa: E731 - a table entry
    fields: dict[str, Check] = {
        "type": _choice("realtime", "transcription"),
        "model": _TEXT,
        "output_modalities": _modalities if dialect == "ga" else _beta_modalities,
        "instructions": _TEXT,
        INPUT_FORMAT: _format(dialect, pcm_rates_hz),
        "audio.input.noise_reduction": _nullable(
            _record({"type": _choice("near_field", "far_field"), "strength": _number(0, 1)})
        ),
        TRANSCRIPTION: _nullable(
            _record(
                dict.fromkeys(("model", "language", "languages", "prompt", "keywords", "delay"), anything)
            )
        ),
        TURN_DETECTION: _nullable(_turn_detection),
        OUTPUT_FORMAT: _format(dialect, pcm_rates_hz),
        VOICE: _voice,
        "audio.output.speed": _number(0.25, 1.5),
        "tools": _tools,
        "tool_choice": _tool_choice,
        "max_output_tokens": _max_tokens,
        "temperature": _number(0, 2),
        **dict.fromkeys(("tracing", "truncation", "prompt", "include"), anything),
        "reasoning": _nullable(_record({"effort": _choice("minimal", "low", "medium", "high", "xhigh")})),
        "parallel_tool_calls": _FLAG,
    }
    if dialect == "ga":
        del fields["temperature"]
    return fields


def is_session_field(path: str) -> bool:
    """Is it a field of a session in either dialect ("voice"), a group of them ("audio.input"), or a part of
    one ("audio.input.turn_detection.threshold")?
    """
    known = {*_session_fields("ga", (24000,)), *_BETA_PATHS}
    return path in _GROUPS or any(path == field or path.startswith(f"{field}.") for field in known)


def value_at(session: Any, path: str) -> Any:
    """What a session object has at a dotted path. Raises KeyError where it has nothing."""
    for name in path.split("."):
        if not isinstance(session, dict):
            raise KeyError(path)
        session = session[name]
    return session


_RESPONSE_ONLY: dict[str, Check] = {
    "conversation": _choice("auto", "none"),
    "input": _of(list, "arrays"),
    "metadata": _nullable(_of(dict, "objects")),
}
_NOT_IN_RESPONSE = (
    "type",
    "model",
    INPUT_FORMAT,
    TURN_DETECTION,
    TRANSCRIPTION,
    "audio.input.noise_reduction",
)


def _flatten(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{above}.{name}" if above else name
        if path in _GROUPS and isinstance(value, dict):
            yield from _flatten(value, path)
        else:
            yield path, value


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value.ga_wire if isinstance(value, Format) else value
    return nested


@dataclass(frozen=True)
class RefusedField:
    """A field, by its dotted name in a session.update, that this server does not take.

    With `value` only that value is refused, as its JSON text or the plain text of a string. `code` is
    unknown_parameter or invalid_value.
    """

    path: str
    value: str = ""
    code: str = "unknown_parameter"

    def check(self, session: Any) -> None:
        """Raises Rejected where a session object has the field."""
        try:
            given = value_at(session, self.path)
        except KeyError:
            return
        if self.value and self.value not in (given, json.dumps(given)):
            return
        param = f"session.{self.path}"
        unknown = f"Unknown parameter: '{param}'."
        bad = f"Invalid value for '{param}': {given!r} is not supported."
        raise Rejected(self.code, unknown if self.code == "unknown_parameter" else bad, param)


class SessionState:
    """The effective session of one connection, by GA path. Not thread-safe: belongs to the server's loop."""

    def __init__(
        self,
        dialect: str,
        model: str,
        pcm_rates_hz: tuple[int, ...],
        lasts_s: float,
        transcription: bool = False,
        refused: Sequence[RefusedField] = (),
        stated: Mapping[str, Any] | None = None,
    ) -> None:
        """`stated` has the values, by GA path, that hold whatever a client asks for."""
        self.dialect, self._refused, self._stated = dialect, refused, dict(stated or {})
        self.voice_locked = False  # from the first assistant audio on
        self._fields = _session_fields(dialect, pcm_rates_hz)
        pcm = Format("s16", pcm_rates_hz[0])
        self._values: dict[str, Any] = {
            "type": "transcription" if transcription else "realtime",
            "model": model,
            "output_modalities": ["audio"],
            "instructions": DEFAULT_INSTRUCTIONS,
            INPUT_FORMAT: pcm,
            "audio.input.noise_reduction": None,
            TRANSCRIPTION: None,
            TURN_DETECTION: _turn_detection({"type": "server_vad"}, TURN_DETECTION),
            OUTPUT_FORMAT: pcm,
            VOICE: "alloy",
            "audio.output.speed": 1.0,
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "include": None,
            **({"truncation": "auto", "prompt": None} if dialect == "ga" else {"temperature": 0.8}),
        }
        self._values.update(self._stated)
        self._id, self._expires_at = new_id("sess"), int(time.time() + lasts_s)

    def __getitem__(self, path: str) -> Any:
        return self._values[path]

    @property
    def transcription_only(self) -> bool:
        return self["type"] == "transcription"

    def update(self, session: Any) -> None:
        """Applies a session.update's session object, all of it or (raising Rejected) none."""
        if not isinstance(session, dict):
            raise Rejected("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        if self.dialect == "ga" and "type" not in session:
            raise Rejected(
                "missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type"
            )
        for field in self._refused:
            field.check(session)
        accepted = self._check(session, "session", self._fields)
        if self.voice_locked and accepted.get(VOICE, self[VOICE]) != self[VOICE]:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise Rejected("cannot_update_voice", message, "session.voice")
        self._values.update({**accepted, **self._stated})

    def response_params(self, response: Any) -> dict[str, Any]:
        """The session's values with those of one response.create over them, by GA path. Raises Rejected."""
        fields = {path: check for path, check in self._fields.items() if path not in _NOT_IN_RESPONSE}
        given = _of(dict, "objects")(response, "response") if response is not None else {}
        checked = self._check(given, "response", {**fields, **_RESPONSE_ONLY}, null_is_absent=True)
        return {**self._values, **checked, **self._stated}

    def _check(
        self,
        values: dict[str, Any],
        above: str,
        fields: Mapping[str, Check],
        null_is_absent: bool = False,
    ) -> dict[str, Any]:
        accepted = {}
        for name, value in values.items() if self.dialect == "beta" else _flatten(values):
            path = name if name in _RESPONSE_ONLY or self.dialect == "ga" else _BETA_PATHS.get(name)
            if null_is_absent and value is None and (path in fields or path in _GROUPS):
                continue
            if path not in fields:
                raise Rejected(
                    "unknown_parameter", f"Unknown parameter: '{above}.{name}'.", f"{above}.{name}"
                )
            accepted[path] = fields[path](value, f"{above}.{name}")
        return accepted

    def view(self) -> dict[str, Any]:
        """The session object as session.created and session.updated carry it."""
        kind = "realtime.transcription_session" if self.transcription_only else "realtime.session"
        head = {"id": self._id, "object": kind, "expires_at": self._expires_at}
        if self.dialect == "beta":
            return {**head, **self._beta_view()}
        if self.transcription_only:
            return {**head, **_nest(self._transcription_values())}
        unset = ("include",) if self["include"] is None else ()
        return {**head, **_nest({path: value for path, value in self._values.items() if path not in unset})}

    def _transcription_values(self) -> dict[str, Any]:
        """A transcription session answers nothing, so its turn detection has no word on responses."""
        shown = {
            k: v for k, v in self._values.items() if k in ("type", "include") or k.startswith("audio.input")
        }
        turns = self[TURN_DETECTION]
        if turns is not None:
            shown[TURN_DETECTION] = {k: v for k, v in turns.items() if k in _TRANSCRIPTION_TURN_KEYS}
        return shown

    def _beta_view(self) -> dict[str, Any]:
        view = {name: self._values[path] for name, path in _BETA_PATHS.items() if path in self._values}
        view["modalities"] = ["audio", "text"] if view["modalities"] == ["audio"] else ["text"]
        for name in ("input_audio_format", "output_audio_format"):
            view[name] = view[name].beta_name
        return view
