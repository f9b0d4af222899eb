"""The scripted dialogue a simulated model follows.

A dialogue is a TOML file:

    name = "Opening hours"
    loop = true                            # after the last turn the first again (default); false: fallback
    fallback = ["Sorry, say that again?"]  # said in rotation where nothing else fits

    [[turn]]
    on = "greeting"                        # a response asked for before the caller has said anything
    say = "Hello, how can I help?"

    [[turn]]                               # without `on`: the caller's next turn; `on = 3` is the third
    heard = "When do you open?"            # what the caller said: a simulator has no speech recognition
    say = "We open at nine."

    [[turn]]
    heard = "Is my order ready?"
    first = "Let me look."                 # said before the call, in the same response
    call = { name = "order_status", arguments = { order = 17 } }
    say = "Your order is {output}."        # said when the function's output has come

    [[turn]]                               # several functions at once, several spoken items in one response
    heard = "And tomorrow, is it open, and is there parking?"
    first = [{ text = "I will check.", phase = "commentary" }]
    call = [{ name = "opening_hours" }, { name = "car_park", arguments = { day = "tomorrow" } }]
    say = ["It opens at {output1}.", { text = "Parking: {output2}.", phase = "final_answer" }]

    [[turn]]
    heard_error = "audio_unintelligible"   # the transcription of this turn fails with this code
    say = "Sorry, the line is bad."

    [[turn]]
    on = "dtmf 5"                          # a typed message such as "The caller pressed 5"
    say = "Five it is."

    [[turn]]
    on = "idle"                            # nobody has said anything for idle_timeout_ms
    say = "Are you still there?"

`say` and `first` are a text, or a list of items, each with an item id of its own on the wire: texts, or
tables { text, phase }, where `phase` ("commentary" or "final_answer") is sent with the item. `{output}` is
what the functions gave, in the order of the calls, `{output2}` what the second gave; a call whose output has
not come when the model is to go on gives "unknown". A function that the session does not offer is not called;
where none of a turn's is offered, its `say` is said at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

_DIALOGUE_KEYS = ("name", "loop", "fallback", "turn")
_TURN_KEYS = ("on", "heard", "heard_error", "say", "first", "call")
_CALL_KEYS = ("name", "arguments")
_ITEM_KEYS = ("text", "phase")
PHASES = ("commentary", "final_answer")
UNKNOWN_OUTPUT = "unknown"  # what is said of a call whose output has not come
_ON_ALLOWED = 'a turn number from 1, "greeting", "idle" or "dtmf <digits>"'
_DIGITS_ONLY = re.compile(r"\s*([0-9*#]+)\s*")
_OUTPUT = re.compile(r"\{output(\d*)\}")
_DIGITS_IN_TEXT = re.compile(r"\b(?:dtmf|press\w*|key\w*|digits?)\b[^0-9*#]*([0-9*#]+)", re.IGNORECASE)


class DialogueError(ValueError):
    """A dialogue cannot be used; the message names the file, the place and what is allowed."""


@dataclass(frozen=True)
class FunctionCall:
    """A function the model calls. `arguments` is the JSON text that goes on the wire."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Spoken:
    """One message item of a response. `phase` is "" where the item carries none."""

    text: str
    phase: str = ""


@dataclass(frozen=True)
class Turn:
    """What the caller says (`heard`), and what the model does about it: `items`, or `first`, then `calls`.

    `heard_error` is the code that the transcription of the caller's words fails with, "" where it does not.
    """

    items: tuple[Spoken, ...] = ()
    heard: str = ""
    heard_error: str = ""
    first: tuple[Spoken, ...] = ()
    calls: tuple[FunctionCall, ...] = ()

    @property
    def say(self) -> str:
        """The words of all items."""
        return _words(self.items)


@dataclass(frozen=True)
class Reply:
    """One response: message items in order, and the functions to call after them."""

    items: tuple[Spoken, ...] = ()
    calls: tuple[FunctionCall, ...] = ()

    @property
    def say(self) -> str:
        """The words of all items."""
        return _words(self.items)


def _words(items: tuple[Spoken, ...]) -> str:
    return " ".join(item.text for item in items)


@dataclass(frozen=True)
class Dialogue:
    """A whole script; immutable, shared by all sessions. `Script` is one session's place in it."""

    name: str
    turns: Mapping[int, Turn]
    greeting: Turn
    idle: Turn | None
    dtmf: Mapping[str, Turn]
    fallback: tuple[str, ...]
    loop: bool = True

    @classmethod
    def load(cls, source: str | os.PathLike[str] | Mapping[str, Any] | Dialogue | None = None) -> Dialogue:
        """A dialogue from a TOML file, from a mapping of the same shape, or (None) the built-in one.

        Raises DialogueError, also for a file that cannot be read.
        """
        if isinstance(source, Dialogue):
            return source
        if source is None or isinstance(source, Mapping):
            return _build(_BUILT_IN if source is None else source, "the dialogue")
        try:
            return _build(tomllib.loads(Path(source).read_text(encoding="utf-8")), os.fspath(source))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DialogueError(f"cannot read the dialogue {os.fspath(source)}: {error}") from error

    def lines(self) -> list[str]:
        """Every text that can be spoken as it stands, for warming a voice up."""
        turns = [
            self.greeting,
            *self.turns.values(),
            *self.dtmf.values(),
            *([self.idle] if self.idle else []),
        ]
        items = [item.text for turn in turns for item in (*turn.first, *turn.items)]
        return [text for text in dict.fromkeys([*items, *self.fallback]) if not _OUTPUT.search(text)]


class Script:
    """One session's place in a dialogue. Not thread-safe."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._user_turns = self._fallbacks = 0
        self._pending: Turn | None = None
        self._calling = Turn()  # the last turn that called functions
        self._outputs: dict[str, str | None] = {}  # what they gave, by call id, in the order of the calls
        self._told: list[str | None] = []  # what the pending turn's `say` is filled with
        self._greeted = False

    def caller_spoke(self) -> Turn:
        """The caller's turn is over: moves on, and returns the turn with what the dialogue says was said."""
        self._user_turns += 1
        turn = self._turn(self._user_turns)
        self._pending, self._told = turn, []
        return turn

    def caller_typed(self, text: str) -> None:
        """A text message from the caller: DTMF digits as people write them, else a turn like a spoken one."""
        digits = _DIGITS_ONLY.fullmatch(text) or _DIGITS_IN_TEXT.search(text)
        if digits:
            self._pending, self._told = self._dialogue.dtmf.get(digits[1]) or self._fallback(), []
        else:
            self.caller_spoke()

    def caller_idle(self) -> None:
        """Nobody has spoken for the session's idle timeout."""
        self._pending, self._told = self._dialogue.idle or self._fallback(), []

    def functions(self) -> set[str]:
        """The names of all functions that the dialogue calls."""
        dialogue = self._dialogue
        turns = [dialogue.greeting, *dialogue.turns.values(), *dialogue.dtmf.values()]
        return {call.name for turn in [*turns, dialogue.idle or Turn()] for call in turn.calls}

    def called(self, call_id: str) -> None:
        """The next of the calls of the last reply has gone out under this id."""
        self._outputs[call_id] = None

    def function_output(self, call_id: str, output: str) -> None:
        """A function has answered: what is said next is the `say` of the turn that called it."""
        if call_id in self._outputs:
            self._outputs[call_id] = output
            self._pending = Turn(self._calling.items)
            self._told = list(self._outputs.values())

    def reply(self, functions: Collection[str]) -> Reply:
        """What to answer now. `functions` names those the session offers."""
        turn, self._pending = self._pending, None
        told, self._told = self._told, []
        if turn is None:
            start = not self._greeted and self._user_turns == 0
            turn = self._dialogue.greeting if start else self._fallback()
        self._greeted = True
        calls = tuple(call for call in turn.calls if call.name in functions)
        if not calls:
            return Reply(_filled(turn.items, told))
        self._calling, self._outputs = turn, {}
        return Reply(turn.first, calls)

    def _turn(self, number: int) -> Turn:
        last = max(self._dialogue.turns, default=0)
        if self._dialogue.loop and last:
            number = (number - 1) % last + 1
        return self._dialogue.turns.get(number) or self._fallback()

    def _fallback(self) -> Turn:
        lines = self._dialogue.fallback
        self._fallbacks += 1
        return Turn((Spoken(lines[(self._fallbacks - 1) % len(lines)]),))


def _filled(items: tuple[Spoken, ...], outputs: list[str | None]) -> tuple[Spoken, ...]:
    """The items with `{output}` and `{output<n>}` replaced by what the functions gave."""
    given = [UNKNOWN_OUTPUT if output is None else output for output in outputs]

    def fill(place: re.Match[str]) -> str:
        if not place[1]:
            return ", ".join(given) or UNKNOWN_OUTPUT
        number = int(place[1])
        return given[number - 1] if 1 <= number <= len(given) else UNKNOWN_OUTPUT

    return tuple(replace(item, text=_OUTPUT.sub(fill, item.text)) for item in items)


def _build(data: Mapping[str, Any], where: str) -> Dialogue:
    _check_keys(data, _DIALOGUE_KEYS, where)
    turns: dict[str | int, Turn] = {}
    number = 0
    for index, table in enumerate(_typed(data.get("turn", []), list, f"{where}: turn", "[[turn]] tables"), 1):
        place = f"{where}: turn {index}"
        _check_keys(_typed(table, Mapping, place, "a table"), _TURN_KEYS, place)
        key = _key(table.get("on", number + 1), place)
        if key in turns:
            raise DialogueError(f"{place}: on = {key!r} is there already")
        number = key if isinstance(key, int) else number
        turns[key] = _turn(table, place)
    fallback = tuple(
        _typed(data.get("fallback", _BUILT_IN["fallback"]), list, f"{where}: fallback", "a list of lines")
    )
    if not fallback or not all(isinstance(line, str) and line.strip() for line in fallback):
        raise DialogueError(f"{where}: fallback must be a list of at least one line of text")
    return Dialogue(
        name=_typed(data.get("name", ""), str, f"{where}: name", "text"),
        turns={key: turn for key, turn in turns.items() if isinstance(key, int)},
        greeting=turns.get("greeting") or Turn((Spoken(_GREETING),)),
        idle=turns.get("idle"),
        dtmf={
            key[5:]: turn for key, turn in turns.items() if isinstance(key, str) and key.startswith("dtmf ")
        },
        fallback=fallback,
        loop=_typed(data.get("loop", True), bool, f"{where}: loop", "true or false"),
    )


def _turn(table: Mapping[str, Any], place: str) -> Turn:
    heard, heard_error = (
        _typed(table.get(key, ""), str, f"{place}: {key}", "text") for key in ("heard", "heard_error")
    )
    say, first = (_items(table.get(key, ""), f"{place}: {key}") for key in ("say", "first"))
    calls = _calls(table.get("call", []), f"{place}: call")
    if not say and not calls:
        raise DialogueError(f"{place}: needs something to `say` or a function to `call`")
    return Turn(say, heard, heard_error, first, calls)


def _items(given: Any, place: str) -> tuple[Spoken, ...]:
    """`say` or `first`: a text ("" is none), or a list of texts and of tables."""
    if not isinstance(given, list):
        text = _typed(given, str, place, "text, or a list of texts and tables { text, phase }")
        return (Spoken(text),) if text else ()
    return tuple(_item(each, f"{place}, item {number}") for number, each in enumerate(given, 1))


def _item(given: Any, place: str) -> Spoken:
    table = given if isinstance(given, Mapping) else {"text": given}
    _check_keys(table, _ITEM_KEYS, place)
    text = _typed(table.get("text", ""), str, f"{place}: text", "text")
    if not text.strip():
        raise DialogueError(f"{place} has no text: an item says something")
    phase = table.get("phase", "")
    if phase and phase not in PHASES:
        raise DialogueError(f"{place}: phase is {phase!r}: use one of {', '.join(PHASES)}")
    return Spoken(text, phase)


def _calls(given: Any, place: str) -> tuple[FunctionCall, ...]:
    """`call`: one table { name, arguments }, or a list of them, called in one response."""
    if not isinstance(given, list):
        return (_call(given, place),)
    return tuple(_call(each, f"{place} {number}") for number, each in enumerate(given, 1))


def _call(given: Any, place: str) -> FunctionCall:
    table = _typed(given, Mapping, place, "a table { name, arguments }, or a list of them")
    _check_keys(table, _CALL_KEYS, place)
    name = _typed(table.get("name"), str, f"{place}.name", "text")
    arguments = _typed(table.get("arguments", {}), Mapping, f"{place}.arguments", "a table")
    return FunctionCall(name, json.dumps(arguments))


def _key(on: Any, place: str) -> str | int:
    numbered = isinstance(on, int) and not isinstance(on, bool) and on >= 1
    if numbered or on in ("greeting", "idle") or (isinstance(on, str) and re.fullmatch(r"dtmf [0-9*#]+", on)):
        return on
    raise DialogueError(f"{place}: on = {on!r} is not {_ON_ALLOWED}")


def _typed(value: Any, kind: type, place: str, allowed: str) -> Any:
    if not isinstance(value, kind):
        raise DialogueError(f"{place} is {value!r}: it must be {allowed}")
    return value


def _check_keys(table: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise DialogueError(f"{where}: {key!r} is unknown: use {', '.join(allowed)}")


_GREETING = "Hello, this is the simulator. How can I help you?"
_LONG = (
    "That is good to know. You can interrupt me at any time while I go on talking, "
    "and I will stop at once and listen to what you have to say."
)
_BUILT_IN: dict[str, Any] = {
    "name": "built in",
    "fallback": ["I heard you. Please go on.", "Thank you. Is there anything else?"],
    "turn": [
        {"on": "greeting", "say": _GREETING},
        {"say": "Thank you, I heard you well. Tell me more."},
        {"say": _LONG},
        {"say": "I understand. Is there anything else I can do for you?"},
        {"on": "idle", "say": "Are you still there?"},
    ],
}
