"""Kinds of value: how each is read from text or from TOML, and what is allowed.

A kind has `unit` (a short name, or ""), `allowed` (for messages and the reference), `parse(value)` giving the
setting's value or raising BadValueError, and `text(value)`, the same value as it is written in `.env`.
`shown(value)` and `masked(text)` are what may be logged of a value, allowed or not.

`plain` and `unquoted` are what every value goes through before its kind sees it.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

UNITS = {"ms": "milliseconds", "s": "seconds", "Hz": "hertz", "bytes": "bytes", "tokens": "tokens"}

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_WITH_SUFFIX = re.compile(r"[+-]?[0-9.]+\s*[A-Za-z%]+")


_STRAY = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that do not stand for a byte


def plain(value: Any) -> Any:
    """Text as it can be sent and logged: bytes that were not UTF-8 become U+FFFD. Other values as they are.

    os.environ and mod_python3 hand such bytes on as surrogates (PEP 383), which no encoder takes.
    """
    if not isinstance(value, str) or value.isascii():
        return value
    return _STRAY.sub("\ufffd", value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def unquoted(text: str) -> str:
    """Text without the quotes around it; what has more quotes inside is text that happens to begin so."""
    for quote in ('"', "'"):
        if len(text) > 1 and text[0] == text[-1] == quote and quote not in text[1:-1]:
            return text[1:-1].strip()
    return text


class BadValueError(ValueError):
    """The value is not allowed; the message says what is."""


@dataclass(frozen=True)
class Kind(ABC):
    """Common to all kinds; `unit` is a key of UNITS or empty."""

    unit: str = ""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, for an error message."""

    @property
    def limits(self) -> str:
        """What is allowed, short, for the reference: unit first."""
        return self.allowed

    @abstractmethod
    def parse(self, value: object) -> Any:
        """The value as it is used. Raises BadValueError."""

    @property
    def may_be_quoted(self) -> bool:
        """Whether quotes around the value belong to it, and are not a slip of the one who wrote it."""
        return False

    def text(self, value: Any) -> str:
        return str(value)

    def shown(self, value: Any) -> str:
        """An allowed value as it may be logged."""
        return self.masked(self.text(value))

    def masked(self, text: str) -> str:
        """Any text given as a value, as it may be logged."""
        return text

    def refuse(self, value: object) -> BadValueError:
        """The error for a value that is not allowed, with a hint when a unit follows the number."""
        hint = ""
        if self.unit and isinstance(value, str) and _WITH_SUFFIX.fullmatch(value.strip()):
            hint = f"; write the number alone, it is in {UNITS[self.unit]}"
        return BadValueError(f"must be {self.allowed}{hint}")


@dataclass(frozen=True)
class Text(Kind):
    """Text; white space around it is dropped. `pattern` must match all of it, or it may be `empty`.

    `prose` is text for people or models, in which quotes mean something.
    """

    says: str = "text"
    pattern: str = ""
    empty: bool = True
    prose: bool = False

    @property
    def allowed(self) -> str:
        return self.says

    @property
    def may_be_quoted(self) -> bool:
        return self.prose

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise self.refuse(value)
        text = value.strip()
        if not text and not self.empty:
            raise self.refuse(value)
        if text and self.pattern and not re.fullmatch(self.pattern, text):
            raise self.refuse(value)
        return text


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words, in any case."""

    among: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(word or "(empty)" for word in self.among)

    @property
    def limits(self) -> str:
        return ", ".join(f"`{word}`" if word else "empty" for word in self.among)

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise self.refuse(value)
        for word in self.among:
            if word.casefold() == value.strip().casefold():
                return word
        raise self.refuse(value)


# Levels by the words and numbers of those who have them: Python, syslog, FreeSWITCH (0 console to 7 debug).
_LEVELS = {
    "DEBUG": "trace verbose all notset 7 10",
    "INFO": "information notice 5 6 20",
    "WARNING": "warn 4 30",
    "ERROR": "err severe 3 40",
    "CRITICAL": "crit critical fatal alert emerg emergency panic console off none quiet silent 0 1 2 50",
}
_LEVEL_OF = {word: level for level, words in _LEVELS.items() for word in (level.lower(), *words.split())}
_FREESWITCH_DEBUG = re.compile(r"debug([1-9]|10)|10[1-9]|110")


@dataclass(frozen=True)
class LogLevel(Kind):
    """The name of one of Python's log levels, from whatever word or number is meant."""

    @property
    def allowed(self) -> str:
        return "one of DEBUG, INFO, WARNING, ERROR, CRITICAL, or FreeSWITCH's name or number of a level"

    @property
    def limits(self) -> str:
        return ", ".join(f"`{level}`" for level in _LEVELS) + ", or FreeSWITCH's name or number"

    def parse(self, value: object) -> str:
        word = str(value).strip().casefold() if isinstance(value, (str, int)) else ""
        if _FREESWITCH_DEBUG.fullmatch(word):
            return "DEBUG"
        if word not in _LEVEL_OF:
            raise self.refuse(value)
        return _LEVEL_OF[word]


@dataclass(frozen=True)
class Flag(Kind):
    """Yes or no."""

    @property
    def allowed(self) -> str:
        return "1, true, yes or on; 0, false, no or off"

    @property
    def limits(self) -> str:
        return "`1` or `0`"

    def parse(self, value: object) -> bool:
        word = str(value).strip().casefold() if isinstance(value, (bool, int, str)) else ""
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise self.refuse(value)

    def text(self, value: bool) -> str:
        return "1" if value else "0"


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number from `low` to `high`, or one of `among`; or the `word`, when there is one.

    `because` says why so little is allowed.
    """

    low: int = 0
    high: int = 0
    among: tuple[int, ...] = ()
    word: str = ""
    because: str = ""

    @property
    def _range(self) -> str:
        if self.among:
            return ", ".join(str(number) for number in self.among)
        return f"{self.low} to {self.high}" + (f", or {self.word}" if self.word else "")

    @property
    def allowed(self) -> str:
        of = f" of {UNITS[self.unit]}" if self.unit else ""
        if self.because:
            return f"{self._range}{of}: {self.because}"
        return f"a whole number{of}, {'one of' if self.among else 'from'} {self._range}"

    @property
    def limits(self) -> str:
        return f"{self.unit}: {self._range}" if self.unit else self._range

    def parse(self, value: object) -> int | str:
        if self.word and str(value).strip().casefold() == self.word:
            return self.word
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()) and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(value)
        if value not in self.among if self.among else not self.low <= value <= self.high:
            raise self.refuse(value)
        return value


@dataclass(frozen=True)
class Number(Kind):
    """A number from `low` to `high`, fractions allowed."""

    low: float = 0.0
    high: float = 0.0

    @property
    def allowed(self) -> str:
        of = f" of {UNITS[self.unit]}" if self.unit else ""
        return f"a number{of} from {self.low:g} to {self.high:g}"

    @property
    def limits(self) -> str:
        return (f"{self.unit}: " if self.unit else "") + f"{self.low:g} to {self.high:g}"

    def parse(self, value: object) -> float:
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.refuse(value)
        if not self.low <= value <= self.high:
            raise self.refuse(value)
        return float(value)

    def text(self, value: float) -> str:
        return f"{value:.12g}"


_SECRET_PARAMETER = re.compile(r"(?i)key|token|secret|sig|passw|pwd|auth|credential|jwt|^code$")


def mask(secret: str) -> str:
    """A secret as it may be shown: its last four characters, when they do not give it away."""
    if len(secret) <= 12:
        return "…" if secret else ""
    return ("sk-" if secret.startswith("sk-") else "") + "…" + secret[-4:]


def mask_url(url: str) -> str:
    """A URL, sound or not, without the user, the password and the keys that it may carry."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if sound:
        url = re.sub(r"(?<=//)[^/?#\s]*@", "…@", url, count=1)
    else:  # what is before the last @ may be a password with any character in it
        url = re.sub(r"(?is)^([a-z]+://)?.*@", r"\1…@", url)
    address, mark, query = url.partition("?")
    return address + mark + re.sub(r"[^&;#]+", _masked_parameter, query)


def _masked_parameter(parameter: re.Match[str]) -> str:
    name, mark, value = parameter[0].partition("=")
    return f"{name}=…" if mark and value and _SECRET_PARAMETER.search(unquote(name)) else parameter[0]


@dataclass(frozen=True)
class SocketUrl(Kind):
    """A ws:// or wss:// URL."""

    @property
    def allowed(self) -> str:
        return "a ws:// or wss:// URL with a host and without a #fragment"

    @property
    def limits(self) -> str:
        return "`ws://` or `wss://` URL"

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or re.search(r"[\s\0]", value.strip()):
            raise self.refuse(value)
        url = value.strip()
        try:
            parts = urlsplit(url)
            sound = bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number, an unclosed IPv6 bracket
            raise self.refuse(value) from None
        if not sound or parts.scheme not in ("ws", "wss") or parts.fragment:
            raise self.refuse(value)
        return url

    def masked(self, text: str) -> str:
        return mask_url(text)


@dataclass(frozen=True)
class ReadableFile(Kind):
    """The path of a file this process can read, or empty."""

    @property
    def allowed(self) -> str:
        return "the path of a file that can be read, or empty"

    @property
    def limits(self) -> str:
        return "path"

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise self.refuse(value)
        path = value.strip()
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise self.refuse(value)
        return path


@dataclass(frozen=True)
class Setting:
    """One row of the table. `attribute` is also the key in a profile, `name` the key everywhere else.

    `bridge` is what a user of the earlier bridges should know about this name; empty when they had none such.
    `shown_default` stands for a default too long for a table.
    """

    attribute: str
    name: str
    default: Any
    kind: Kind
    group: str
    meaning: str
    secret: bool = False
    bridge: str = ""
    shown_default: str = field(default="", repr=False)

    def show(self, value: Any) -> str:
        """An allowed value as text that may be logged."""
        return mask(value) if self.secret else self.kind.shown(value)

    def quote(self, value: object) -> str:
        """Any value, right or wrong, as it may stand in a message: masked, on one line, not too long."""
        text = plain(self._masked(str(value)))
        text = text if len(text) <= 80 else text[:77] + "..."
        return repr(text) if isinstance(value, str) else text

    def _masked(self, text: str) -> str:
        return mask(text) if self.secret else self.kind.masked(text)
