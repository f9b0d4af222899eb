"""Kinds of value that become HTTP headers: what a request may carry, and what is the handshake's own.

Source: RFC 9110 5.1 and 5.5 (names and values), 7.6.1 (hop-by-hop), RFC 6455 4.1 (the handshake's own).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .kinds import BadValueError, Kind

HEADERS_MAX = 24  # the C library takes 32 in all
TEXT_MAX = 8192  # characters of all of them, as JSON

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NOT_ADDED = re.compile(
    r"connection|content-length|expect|host|http2-settings|keep-alive|proxy-.*|sec-websocket-.*|te|trailer"
    r"|transfer-encoding|upgrade",
    re.IGNORECASE,
)

HeaderPairs = tuple[tuple[str, str], ...]


def _refused_name(name: str) -> str:
    """Why a header of this name cannot be sent; "" when it can."""
    if not _TOKEN.fullmatch(name):
        return "a header's name is letters, digits and dashes"
    if _NOT_ADDED.fullmatch(name):
        return f"{name} is the connection's own, and cannot be set"
    return ""


@dataclass(frozen=True)
class HeaderName(Kind):
    """The name of a header, or the word `auto`."""

    @property
    def allowed(self) -> str:
        return "auto, or a header's name, such as Authorization or api-key"

    @property
    def limits(self) -> str:
        return "`auto`, `Authorization`, `api-key`, or another header"

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise self.refuse(value)
        name = value.strip().removesuffix(":")
        if name.casefold() == "auto":
            return "auto"
        why = _refused_name(name)
        if why:
            raise BadValueError(f"must be {self.allowed}: {why}")
        return name


@dataclass(frozen=True)
class Headers(Kind):
    """Headers as a JSON object, in TOML also as a table. The values may be secrets, and are never shown."""

    @property
    def allowed(self) -> str:
        return 'a JSON object of strings, such as {"X-Tenant": "blue"}'

    @property
    def limits(self) -> str:
        return "JSON object"

    def parse(self, value: object) -> HeaderPairs:
        """(name, value) pairs in their order."""
        pairs = value if isinstance(value, tuple) else self._pairs(value)
        if len(pairs) > HEADERS_MAX:
            raise BadValueError(f"must be at most {HEADERS_MAX} headers")
        seen: set[str] = set()
        for name, content in pairs:
            why = self._wrong(name, content) or (f"{name} is there twice" if name.lower() in seen else "")
            if why:
                raise BadValueError(f"must be {self.allowed}: {why}")
            seen.add(name.lower())
        return tuple((name, content.strip()) for name, content in pairs)

    def _pairs(self, value: object) -> list[tuple[Any, Any]]:
        if isinstance(value, Mapping):
            return list(value.items())
        if not isinstance(value, str):
            raise self.refuse(value)
        if not value.strip():
            return []
        if len(value) > TEXT_MAX:
            raise BadValueError(f"must be at most {TEXT_MAX} characters")
        # Brackets in brackets are refused before the parser sees them: it recurses, and the threads that
        # FreeSWITCH lends have little stack.
        if re.search(r"\[|\{[^}]*\{", _STRING.sub('""', value)):
            raise self.refuse(value)
        try:
            parsed = json.loads(value, object_pairs_hook=list)
        except ValueError as error:
            at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            raise BadValueError(f"must be {self.allowed}: it is not JSON{at}") from None
        if not isinstance(parsed, list):
            raise self.refuse(value)
        return parsed

    @staticmethod
    def _wrong(name: object, content: object) -> str:
        if not isinstance(name, str):
            return "a header's name is text"
        why = _refused_name(name)
        if why:
            return why
        if not isinstance(content, str):
            return f"the value of {name} is not text"
        if _CONTROL.search(content):
            return f"the value of {name} has a line end or another control character in it"
        return ""

    def text(self, value: HeaderPairs) -> str:
        return json.dumps(dict(value), ensure_ascii=False) if value else ""

    def shown(self, value: HeaderPairs) -> str:
        return json.dumps({name: "…" for name, _ in value}, ensure_ascii=False) if value else ""

    def masked(self, text: str) -> str:
        return "…" if text else ""
