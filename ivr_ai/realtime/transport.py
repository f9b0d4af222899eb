"""What all transports share: the seam, and its errors. request.py says how a server is asked.

A transport carries events between a call and a Realtime server: `send(event)`, `recv() -> event`, `close()`.
One thread receives, any thread sends. Opening the connection is not success: authentication and model are
checked after the 101, and the first thing to come may be an error event and a close. That is the
conversation's to read; `recv()` just delivers.

    native.py             the audio stays in C; events only come here
    websocket_client.py   websocket-client on threads of the call, audio included
    choose.py             which of them a call uses

Errors:
    TransportError(Exception)
        ConnectError     no session with the server: .reason says why, and what to check; .passing whether
                         trying again in a moment may help
        TransportClosed  the connection has ended: .code and .reason as the server gave them, .clean when it
                         was a CLOSE
"""

from __future__ import annotations

NO_STATUS = 1005  # RFC 6455 7.4.1: a CLOSE without a code
ABNORMAL = 1006  # and a connection that ended without a CLOSE
PROTOCOL_ERROR = 1002
TOO_BIG = 1009


class TransportError(Exception):
    """Base of what can go wrong between us and the server."""


class ConnectError(TransportError):
    """The server could not be reached, or refused the connection.

    passing: the same may go well in a moment: the connection was reset or closed before the handshake was
    done, nobody answered in time or listened, the resolver was to be asked again, HTTP 408, 429 and 5xx. Not
    what a setting is to blame for: an unknown host, a certificate, a URL, HTTP 401, 403, 404.
    http_status: of the server's refusal, 0 when there was none. refused: nobody listens there (ECONNREFUSED).
    """

    def __init__(
        self, reason: str, *, passing: bool = False, http_status: int = 0, refused: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.http_status = http_status
        self.refused = refused


class TransportClosed(TransportError):
    """The connection has ended. by_us: for what the server had sent; then the code says what that was."""

    def __init__(self, code: int, reason: str, *, by_us: bool = False) -> None:
        super().__init__(f"connection closed with {code}{f' ({reason})' if reason else ''}")
        self.code = code
        self.reason = reason
        self.by_us = by_us

    @property
    def clean(self) -> bool:
        """Whether the server ended it with a CLOSE of its own."""
        return not self.by_us and self.code not in (NO_STATUS, ABNORMAL)


def may_pass_status(http_status: int) -> bool:
    """Whether a refusal may pass: 408 and 429 (RFC 9110, RFC 6585), and the server's own faults."""
    return http_status in (408, 429) or 500 <= http_status <= 599
