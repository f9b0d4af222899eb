"""Whether a Realtime server can be reached, stage by stage: name, connection, TLS, WebSocket, session.

A server checks the key and the model only after the WebSocket is open, so that an open WebSocket is not yet
a success: the last stage waits for `session.created`. Nothing is configured, no audio is sent. A proxy
named in the environment (https_proxy, no_proxy) is used as calls use it; what lies behind it cannot be told
apart.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import websocket
from websocket._url import get_proxy_info

from ivr_ai.config import mask_url
from ivr_ai.realtime.complaints import todo

_STATUSES = {
    401: "set OPENAI_API_KEY to a key that is valid; OPENAI_API_KEY_HEADER says how it is sent",
    403: "this key, or this address, may not use the service",
    404: "no Realtime service at this path: check OPENAI_REALTIME_URL",
    429: "too many sessions for this account: try again later or raise its limits",
}
_URL = "check OPENAI_REALTIME_URL"


class Stage(NamedTuple):
    """How one stage went: what was found, and what to do when it failed."""

    name: str
    ok: bool
    detail: str
    todo: str = ""


@dataclass(frozen=True)
class Target:
    """A server as the realtime transport would connect to it. headers carry the key and are never shown.

    Neither is the URL: a key may be in its query.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str = ""
    timeout_s: float = 5.0

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "wss"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.secure else 80)


class _Failed(Exception):
    """A stage failed for a reason that has no exception of its own."""

    def __init__(self, detail: str, todo: str) -> None:
        super().__init__(detail)
        self.todo = todo


class Probe:
    """One attempt to reach target. Not for several threads."""

    def __init__(self, target: Target, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._clock = clock
        self._deadline_s = clock() + target.timeout_s
        self._socket: socket.socket | None = None
        self._websocket: websocket.WebSocket | None = None
        proxy_host, proxy_port, _ = get_proxy_info(target.host, target.secure)
        self._proxy = f"{proxy_host}:{proxy_port}" if proxy_host else ""

    def run(self) -> list[Stage]:
        """The stages up to the first that fails."""
        stages: list[Stage] = []
        try:
            for name, step in self._steps():
                stages.append(self._stage(name, step))
                if not stages[-1].ok:
                    break
        finally:
            self._close()
        return stages

    def _steps(self) -> list[tuple[str, Callable[[], str]]]:
        steps = [("websocket", self._upgrade), ("session", self._session)]
        if self._proxy:
            return steps
        secure = [("tls", self._secure)] if self._target.secure else []
        return [("dns", self._resolve), ("tcp", self._connect), *secure, *steps]

    def _stage(self, name: str, step: Callable[[], str]) -> Stage:
        started_s = self._clock()
        try:
            detail = step()
        except _Failed as error:
            return Stage(name, False, str(error), error.todo)
        except (OSError, websocket.WebSocketException) as error:
            return Stage(name, False, *_explain(error, self._target))
        return Stage(name, True, f"{detail} ({(self._clock() - started_s) * 1000:.0f} ms)")

    def _left_s(self) -> float:
        left_s = self._deadline_s - self._clock()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _resolve(self) -> str:
        found = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        return f"{self._target.host} is {found[0][4][0]}"

    def _connect(self) -> str:
        address = (self._target.host, self._target.port)
        self._socket = socket.create_connection(address, timeout=self._left_s())
        return f"connected to port {self._target.port}"

    def _secure(self) -> str:
        context = ssl.create_default_context(cafile=self._target.ca_file or None)
        self._socket.settimeout(self._left_s())
        self._socket = context.wrap_socket(self._socket, server_hostname=self._target.host)
        return f"{self._socket.version()}, certificate verified"

    def _upgrade(self) -> str:
        self._websocket = websocket.create_connection(
            self._target.url,
            timeout=self._left_s(),
            header=dict(self._target.headers),
            socket=self._socket,
            sslopt={"ca_certs": self._target.ca_file} if self._target.ca_file else {},
            suppress_origin=True,
            redirect_limit=0,
        )
        return f"open, through the proxy {self._proxy}" if self._proxy else "open"

    def _session(self) -> str:
        event = self._event()
        if event.get("type") == "error":
            error = event.get("error") or {}
            code = error.get("code") or error.get("type") or "error"
            raise _Failed(f"refused: {code}", todo(str(code)) or str(error.get("message", "")))
        if event.get("type") != "session.created":
            raise _Failed(
                f"said {event.get('type')!r} instead of session.created", f"no Realtime server there? {_URL}"
            )
        return f"session.created, model {(event.get('session') or {}).get('model', 'not named')}"

    def _event(self) -> dict:
        """The server's first event. A close instead of one is a failure with the server's reason."""
        self._websocket.settimeout(self._left_s())
        opcode, data = self._websocket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(data[:2], "big") if len(data) >= 2 else "none"
            raise _Failed(f"closed at once: code {code} {data[2:].decode(errors='replace')}".rstrip(), _URL)
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise _Failed("the first message is not a JSON object", f"no Realtime server there? {_URL}")
        return event

    def _close(self) -> None:
        if self._websocket is not None:
            self._websocket.close(timeout=0.5)
            self._websocket.shutdown()  # close() leaves the socket open when the server closed first
        elif self._socket is not None:
            self._socket.close()


def _explain(error: Exception, target: Target) -> tuple[str, str]:
    """(what happened, what to do) for an exception of the network."""
    if isinstance(error, socket.gaierror):
        return f"no address for {target.host}: {error.strerror}", f"{_URL}, or this machine's DNS"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate is not trusted: {error.verify_message}",
            "install ca-certificates, or set WSS_PEM to the PEM bundle of the authority that signed it",
        )
    if isinstance(error, websocket.WebSocketBadStatusException):
        return f"refused with HTTP status {error.status_code}", _STATUSES.get(error.status_code, _URL)
    if isinstance(error, (TimeoutError, websocket.WebSocketTimeoutException)):
        return (
            f"no answer within {target.timeout_s:g} s",
            "check firewalls between here and there; IVR_AI_CONNECT_TIMEOUT_MS allows more time",
        )
    if isinstance(error, ConnectionRefusedError):
        return f"port {target.port} of {target.host} refuses connections", f"start the server, or {_URL}"
    if isinstance(error, (ConnectionError, websocket.WebSocketConnectionClosedException)):
        return "the server closed the connection", _URL
    return f"{type(error).__name__}: {mask_url(str(error))}", _URL
