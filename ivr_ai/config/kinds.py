"""Kinds of value: how each is read from text or from TOML, and what is allowed.

A kind has `unit` (a short name, or ""), `allowed` (for messages and the reference), `parse(value)` giving the
setting's value or raising BadValueError, and `text(value)`, the same value as it is written in `.env`.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

UNITS = {"ms": "milliseconds", "s": "seconds", "Hz": "hertz", "bytes": "bytes", "tokens": "tokens"}

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_WITH_SUFFIX = re.compile(r"[+-]?[0-9.]+\s*[A-Za-z%]+")


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

    def text(self, value: Any) -> str:
        return str(value)

    def refuse(self, value: object) -> BadValueError:
        """The error for a value that is not allowed, with a hint when a unit follows the number."""
        hint = ""
        if self.unit and isinstance(value, str) and _WITH_SUFFIX.fullmatch(value.strip()):
            hint = f"; write the number alone, it is in {UNITS[self.unit]}"
        return BadValueError(f"must be {self.allowed}{hint}")


@dataclass(frozen=True)
class Text(Kind):
    """Text; white space around it is dropped. `pattern` must match all of it, or it may be `empty`."""

    says: str = "text"
    pattern: str = ""
    empty: bool = True

    @property
    def allowed(self) -> str:
        return self.says

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
            sound = False
        if not sound or parts.scheme not in ("ws", "wss") or parts.fragment:
            raise self.refuse(value)
        return url


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


def mask(secret: str) -> str:
    """A secret as it may be shown: its last four characters, when they do not give it away."""
    if len(secret) <= 12:
        return "…" if secret else ""
    return ("sk-" if secret.startswith("sk-") else "") + "…" + secret[-4:]


def mask_url(url: str) -> str:
    """A URL without the password and the keys it may carry."""
    url = re.sub(r"(?<=//)[^/?#\s]*@", "…@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:key|token|secret|sig|password)[^=&]*=)[^&#]*", r"\1…", url)


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
        return self._masked(value if isinstance(value, str) else self.kind.text(value))

    def quote(self, value: object) -> str:
        """Any value, right or wrong, as it may stand in a message: masked, on one line, not too long."""
        text = self._masked(str(value))
        text = text if len(text) <= 80 else text[:77] + "..."
        return repr(text) if isinstance(value, str) else text

    def _masked(self, text: str) -> str:
        if self.secret:
            return mask(text)
        return mask_url(text) if isinstance(self.kind, SocketUrl) else text
