"""What all transports share: the seam, its errors, and how a server is asked.

A transport carries events between a call and a Realtime server: `send(event)`, `recv() -> event`, `close()`.
One thread receives, any thread sends. Opening the connection is not success: authentication and model are
checked after the 101, and the first thing to come may be an error event and a close. That is the
conversation's to read; `recv()` just delivers.

    native.py   the audio stays in C; events only come here
    python.py   websocket-client on threads of the call, audio included
    dial.py     which of them a call uses

Errors:
    TransportError(Exception)
        ConnectError     no session with the server: .reason says why, and what to check
        TransportClosed  the connection has ended: .code and .reason as the server gave them, .clean when it
                         was a CLOSE
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

from ivr_ai.config import Settings
from ivr_ai.realtime.dialects import BetaDialect, Dialect, GaDialect

NO_STATUS = 1005  # RFC 6455 7.4.1: a CLOSE without a code
ABNORMAL = 1006  # and a connection that ended without a CLOSE


class TransportError(Exception):
    """Base of what can go wrong between us and the server."""


class ConnectError(TransportError):
    """The server could not be reached, or refused the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportClosed(TransportError):
    """The connection has ended."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"connection closed with {code}{f' ({reason})' if reason else ''}")
        self.code = code
        self.reason = reason

    @property
    def clean(self) -> bool:
        """Whether the server ended it with a CLOSE of its own."""
        return self.code not in (NO_STATUS, ABNORMAL)


def make_dialect(settings: Settings) -> Dialect:
    """The dialect that the settings ask for."""
    return BetaDialect(settings.temperature) if settings.effective_dialect == "beta" else GaDialect()


def _is_azure(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "azure.com" or host.endswith(".azure.com")


def request_url(settings: Settings) -> str:
    """The URL with the model in its query, unless the query names a model or a deployment itself."""
    parts = urlsplit(settings.realtime_url)
    given = parse_qs(parts.query)
    if "model" in given or "deployment" in given or "call_id" in given:
        return settings.realtime_url
    query = f"{parts.query}&" if parts.query else ""
    return parts._replace(query=query + urlencode({"model": settings.model})).geturl()


def request_headers(settings: Settings, dialect: Dialect) -> dict[str, str]:
    """Authorization as the server wants it, and what the dialect needs."""
    headers = {} if _is_azure(settings.realtime_url) else dict(dialect.headers)
    if settings.api_key and _is_azure(settings.realtime_url):
        headers["api-key"] = settings.api_key
    elif settings.api_key:
        headers["Authorization"] = f"Bearer {settings.api_key}"
    return headers
