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

    [[turn]]
    on = "dtmf 5"                          # a typed message such as "The caller pressed 5"
    say = "Five it is."

    [[turn]]
    on = "idle"                            # nobody has said anything for idle_timeout_ms
    say = "Are you still there?"

A function that the session does not offer is not called; the turn's `say` is said at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

_DIALOGUE_KEYS = ("name", "loop", "fallback", "turn")
_TURN_KEYS = ("on", "heard", "say", "first", "call")
_CALL_KEYS = ("name", "arguments")
_ON_ALLOWED = 'a turn number from 1, "greeting", "idle" or "dtmf <digits>"'
_DIGITS_ONLY = re.compile(r"\s*([0-9*#]+)\s*")
_DIGITS_IN_TEXT = re.compile(r"\b(?:dtmf|press\w*|key\w*|digits?)\b[^0-9*#]*([0-9*#]+)", re.IGNORECASE)


class DialogueError(ValueError):
    """A dialogue cannot be used; the message names the file, the place and what is allowed."""


@dataclass(frozen=True)
class FunctionCall:
    """A function the model calls. `arguments` is the JSON text that goes on the wire."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """What the caller says (`heard`) and what the model does about it."""

    say: str = ""
    heard: str = ""
    first: str = ""
    call: FunctionCall | None = None


@dataclass(frozen=True)
class Reply:
    """One response: text to say, or to say first, and a function to call after it."""

    say: str = ""
    call: FunctionCall | None = None


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
        texts = [text for turn in turns for text in (turn.first, turn.say)] + list(self.fallback)
        return [text for text in dict.fromkeys(texts) if text and "{output}" not in text]


class Script:
    """One session's place in a dialogue. Not thread-safe."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._user_turns = self._fallbacks = 0
        self._pending: Turn | None = None
        self._called: Turn | None = None
        self._greeted = False

    def caller_spoke(self) -> str:
        """The caller's turn is over: moves on, and returns what the dialogue says was said ("" when it does
        not).
        """
        self._user_turns += 1
        self._pending = self._turn(self._user_turns)
        return self._pending.heard

    def caller_typed(self, text: str) -> None:
        """A text message from the caller: DTMF digits as people write them, else a turn like a spoken one."""
        digits = _DIGITS_ONLY.fullmatch(text) or _DIGITS_IN_TEXT.search(text)
        if digits:
            self._pending = self._dialogue.dtmf.get(digits[1]) or self._fallback()
        else:
            self.caller_spoke()

    def caller_idle(self) -> None:
        """Nobody has spoken for the session's idle timeout."""
        self._pending = self._dialogue.idle or self._fallback()

    def function_output(self, output: str) -> None:
        """A function has answered: what is said next is the `say` of the turn that called it."""
        if self._called is not None:
            self._pending = Turn(say=self._called.say.replace("{output}", output))
            self._called = None

    def reply(self, functions: Collection[str]) -> Reply:
        """What to answer now. `functions` names those the session offers."""
        turn, self._pending = self._pending, None
        if turn is None:
            start = not self._greeted and self._user_turns == 0
            turn = self._dialogue.greeting if start else self._fallback()
        self._greeted = True
        if turn.call is None or turn.call.name not in functions:
            return Reply(say=turn.say.replace("{output}", "unknown"))
        self._called = turn
        return Reply(say=turn.first, call=turn.call)

    def _turn(self, number: int) -> Turn:
        last = max(self._dialogue.turns, default=0)
        if self._dialogue.loop and last:
            number = (number - 1) % last + 1
        return self._dialogue.turns.get(number) or self._fallback()

    def _fallback(self) -> Turn:
        lines = self._dialogue.fallback
        self._fallbacks += 1
        return Turn(say=lines[(self._fallbacks - 1) % len(lines)])


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
        greeting=turns.get("greeting") or Turn(say=_GREETING),
        idle=turns.get("idle"),
        dtmf={
            key[5:]: turn for key, turn in turns.items() if isinstance(key, str) and key.startswith("dtmf ")
        },
        fallback=fallback,
        loop=_typed(data.get("loop", True), bool, f"{where}: loop", "true or false"),
    )


def _turn(table: Mapping[str, Any], place: str) -> Turn:
    texts = {
        key: _typed(table.get(key, ""), str, f"{place}: {key}", "text") for key in ("say", "heard", "first")
    }
    call = None
    if "call" in table:
        given = _typed(table["call"], Mapping, f"{place}: call", "a table { name, arguments }")
        _check_keys(given, _CALL_KEYS, f"{place}: call")
        name = _typed(given.get("name"), str, f"{place}: call.name", "text")
        call = FunctionCall(
            name, json.dumps(_typed(given.get("arguments", {}), Mapping, f"{place}: arguments", "a table"))
        )
    if not texts["say"] and call is None:
        raise DialogueError(f"{place}: needs something to `say` or a function to `call`")
    return Turn(call=call, **texts)


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
