"""The python transport: websocket-client, used by the threads of the call itself, audio included.

websocket-client does the protocol. Changed here, because one process carries many calls:

- reads are buffered (one system call for a frame instead of three), and messages are bounded;
- UTF-8 validation in Python is off: json.loads() validates in C;
- over TLS, reading waits outside the SSL object and every use of it is under a lock, since OpenSSL allows one
  thread at a time; over plain TCP the kernel does that;
- a send that makes no progress for ping_timeout_s fails, so a server that stops reading cannot hold a thread;
- the addresses of a name are tried side by side (dial.py);
- connecting can be given up at any stage but two: looking up a name, and connecting to a proxy.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import websocket
from websocket import ABNF
from websocket._abnf import continuous_frame, frame_buffer
from websocket._socket import DEFAULT_SOCKET_OPTION
from websocket._url import get_proxy_info, parse_url

from ivr_ai.config import Settings
from ivr_ai.realtime.dial import Dialler
from ivr_ai.realtime.dialects import Dialect, Event
from ivr_ai.realtime.request import make_dialect, request_headers, request_url
from ivr_ai.realtime.transport import (
    ABNORMAL,
    NO_STATUS,
    PROTOCOL_ERROR,
    TOO_BIG,
    ConnectError,
    TransportClosed,
    may_pass_status,
)

_READ_BYTES = 65536
_SEND_S = 0.1  # a sender who takes longer is stuck
_APPEND = '{"type":"input_audio_buffer.append","audio":"'


class MessageTooLarge(websocket.WebSocketException):
    """A message exceeds IVR_AI_MAX_MESSAGE_BYTES."""


class _BoundedFrames(frame_buffer):
    """Refuses a frame by its announced length, before any of it is read."""

    def __init__(self, recv: Callable[[int], bytes], limit_bytes: int) -> None:
        super().__init__(recv, True)
        self._limit_bytes = limit_bytes

    def recv_length(self) -> None:
        super().recv_length()
        if self.length is not None and self.length > self._limit_bytes:
            raise MessageTooLarge(
                f"a message of {self.length} bytes (IVR_AI_MAX_MESSAGE_BYTES is {self._limit_bytes})"
            )


class _BoundedMessage(continuous_frame):
    """Refuses a message whose fragments add up to too much."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(False, True)
        self._limit_bytes = limit_bytes

    def add(self, frame: ABNF) -> None:
        super().add(frame)
        if self.cont_data is not None and len(self.cont_data[1]) > self._limit_bytes:
            raise MessageTooLarge(
                f"a fragmented message of more than {self._limit_bytes} bytes (IVR_AI_MAX_MESSAGE_BYTES)"
            )


class _Socket(websocket.WebSocket):
    """websocket-client's WebSocket with buffered reads, bounded messages, and TLS for two threads."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(skip_utf8_validation=True, enable_multithread=True)
        self.frame_buffer = _BoundedFrames(self._recv, limit_bytes)
        self.cont_frame = _BoundedMessage(limit_bytes)
        self._buffer = b""
        self._at = 0
        self._tls = threading.Lock()
        self._ready = False
        self._aborted = False
        self._dialler = Dialler(_set_options)
        self._send_timeout_s = 5.0
        self.last_received_s = 0.0

    def open(self, url: str, headers: Mapping[str, str], ca_file: str, timeout_s: float) -> None:
        """Connects, through the environment's proxy where there is one."""
        host, port, _, secure = parse_url(url)
        context = _tls_context(ca_file) if secure else None
        self.sock_opt.sslopt = {"context": context}
        proxied = get_proxy_info(host, secure)[0] is not None
        self.connect(  # type: ignore[no-untyped-call]  # websocket-client's own has no types
            url,
            timeout=timeout_s,
            header=dict(headers),
            suppress_origin=True,
            redirect_limit=0,
            socket=None if proxied else self._dial(host, port, context, timeout_s),
        )
        self._go_on()

    def _dial(
        self, host: str, port: int, context: ssl.SSLContext | None, timeout_s: float
    ) -> socket.socket | None:
        """TCP and TLS, the whole within timeout_s. Whatever is waited for here, abort() finds its socket."""
        deadline_s = time.monotonic() + timeout_s
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._go_on()
        self.sock = self._dialler.connect(addresses, deadline_s)
        self._go_on()
        self.sock.settimeout(max(0.001, deadline_s - time.monotonic()))
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
            self._go_on()
            self.sock.do_handshake()
        return self.sock

    def _go_on(self) -> None:
        if self._aborted:
            raise ConnectionAbortedError("given up")

    def abort(self) -> None:
        """Ends both directions at once, whatever they are doing. Any thread."""
        self._aborted = True
        self._dialler.abort()
        sock = self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's would go on in the clear

    def send_close(self, *arguments: Any, **options: Any) -> None:
        """The server may be gone already when its CLOSE is answered: what it said counts all the same."""
        with contextlib.suppress(OSError, websocket.WebSocketException, AttributeError):
            super().send_close(*arguments, **options)

    def settle(self, send_timeout_s: float) -> None:
        """After the handshake: no read timeout, a send timeout, and non-blocking TLS."""
        self._send_timeout_s = send_timeout_s
        self.last_received_s = time.monotonic()
        sock = self.sock
        if sock is None:
            raise websocket.WebSocketConnectionClosedException("closed")
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(0)
        else:
            sock.settimeout(None)
            seconds = int(send_timeout_s)
            limit = struct.pack("ll", seconds, int((send_timeout_s - seconds) * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._ready = True

    def _recv(self, bufsize: int) -> bytes:
        if self._at >= len(self._buffer):
            if not self._ready:
                return bytes(super()._recv(bufsize))  # type: ignore[no-untyped-call]
            self._buffer, self._at = self._read_some(), 0
        part = self._buffer[self._at : self._at + bufsize]
        self._at += len(part)
        return part

    def _read_some(self) -> bytes:
        """What the socket has, at least one byte of it."""
        sock = self.sock
        if sock is None:
            raise websocket.WebSocketConnectionClosedException("closed")
        data = self._read_tls(sock) if isinstance(sock, ssl.SSLSocket) else sock.recv(_READ_BYTES)
        if not data:
            raise websocket.WebSocketConnectionClosedException("end of stream")
        self.last_received_s = time.monotonic()
        return data

    def _read_tls(self, sock: ssl.SSLSocket) -> bytes:
        while True:
            try:
                with self._tls:
                    return sock.recv(_READ_BYTES)
            except ssl.SSLWantReadError:
                wait_for = select.POLLIN
            except ssl.SSLWantWriteError:
                wait_for = select.POLLOUT
            _poll(sock, wait_for, None)

    def _send(self, data: str | bytes) -> int:
        sock = self.sock
        if not self._ready or sock is None:
            return super()._send(data)
        data = data.encode() if isinstance(data, str) else data
        if isinstance(sock, ssl.SSLSocket):
            return self._send_tls(sock, data)
        try:
            return sock.send(data)
        except BlockingIOError:
            raise websocket.WebSocketTimeoutException("the server does not read") from None

    def _send_tls(self, sock: ssl.SSLSocket, data: bytes) -> int:
        deadline_s = time.monotonic() + self._send_timeout_s
        while True:
            try:
                with self._tls:
                    return sock.send(data)
            except ssl.SSLWantWriteError:
                wait_for = select.POLLOUT
            except ssl.SSLWantReadError:
                wait_for = select.POLLIN
            if not _poll(sock, wait_for, max(0.0, deadline_s - time.monotonic())):
                raise websocket.WebSocketTimeoutException("the server does not read")

    def idle(self) -> bool:
        """Whether a short message could be sent at once: nobody is stuck sending, and the server reads."""
        if self.sock is None or self._aborted or not self.lock.acquire(timeout=_SEND_S):
            return False
        try:
            return _poll(self.sock, select.POLLOUT, 0)
        except OSError:
            return False
        finally:
            self.lock.release()


def _set_options(sock: socket.socket) -> None:
    for option in DEFAULT_SOCKET_OPTION:
        sock.setsockopt(*option)


def _tls_context(ca_file: str) -> ssl.SSLContext:
    """Verifies the server against ca_file, or the system's authorities where it is empty."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()
    return context


def _poll(sock: socket.socket, events: int, timeout_s: float | None) -> bool:
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


class WebSocketTransport:
    """A connection to a Realtime server. recv() from one thread; everything else from any."""

    carries_audio = False  # audio is sent and received here, by whoever holds the stream
    pings_itself = False

    def __init__(self, sock: _Socket, dialect: Dialect, close_timeout_s: float) -> None:
        """An open connection; use connect()."""
        self._ws = sock
        self._dialect = dialect
        self._close_timeout_s = close_timeout_s
        self._ended = threading.Event()
        self._closing = False
        self.bad_messages = 0

    def set_dialect(self, dialect: Dialect) -> None:
        """What the server turned out to speak: from now on events are sent and received by it."""
        self._dialect = dialect

    def send(self, event: Event) -> None:
        """Sends an event (GA names). Raises TransportClosed."""
        self._send_text(json.dumps(self._dialect.encode(event), separators=(",", ":")))

    def send_audio(self, data: bytes) -> None:
        """Appends audio to the model's input buffer. Raises TransportClosed."""
        self._send_text(f'{_APPEND}{base64.b64encode(data).decode("ascii")}"}}')

    def _send_text(self, text: str) -> None:
        try:
            self._ws.send(text)
        except (OSError, websocket.WebSocketException, AttributeError) as error:
            if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                # Part of a message may be on its way: nothing can follow that, and recv() tells of the end.
                # Where the server has ended the connection, what it said before can still be read.
                self._ws.abort()
            raise self._closed(error) from error

    def recv(self) -> Event:
        """Waits for the next event, in GA names.

        What is not JSON is counted and skipped. Raises TransportClosed.
        """
        while True:
            try:
                opcode, data = self._ws.recv_data()
            except (OSError, websocket.WebSocketException, AttributeError, ValueError) as error:
                self._ended.set()
                raise self._closed(error) from error
            if opcode == ABNF.OPCODE_CLOSE:
                self._ended.set()
                raise TransportClosed(*_close_reason(data))
            event = _parse(data) if opcode == ABNF.OPCODE_TEXT else None
            if event is not None:
                return self._dialect.decode(event)
            self.bad_messages += 1

    def _closed(self, error: Exception) -> TransportClosed:
        """What a failed send or receive means."""
        if self._closing:
            return TransportClosed(1000, "closed by us")
        reason, code = f"{type(error).__name__}: {error}".rstrip(": "), ABNORMAL
        if isinstance(error, MessageTooLarge):
            code = TOO_BIG
        elif isinstance(error, (websocket.WebSocketProtocolException, websocket.WebSocketPayloadException)):
            code = PROTOCOL_ERROR
        return TransportClosed(code, reason, by_us=code != ABNORMAL)

    @property
    def last_received_s(self) -> float:
        """time.monotonic() of the last byte from the server."""
        return self._ws.last_received_s

    def ping(self) -> None:
        """Asks the server for a sign of life. Raises TransportClosed."""
        try:
            self._ws.ping()
        except (OSError, websocket.WebSocketException, AttributeError) as error:
            raise self._closed(error) from error

    def close(self) -> None:
        """Says goodbye, waits at most the close timeout for an answer, then ends both ways. Idempotent."""
        if not self._closing and self._ws.idle():
            self._closing = True
            self._ws.send_close(1000)
            self._ended.wait(self._close_timeout_s)
        self.abort()

    def abort(self) -> None:
        """Ends both directions at once, whatever they are doing. Never waits."""
        self._closing = True
        self._ws.abort()

    def release(self) -> None:
        """Gives the descriptor back, once no thread uses it any more."""
        self.abort()
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._ws.shutdown()  # type: ignore[no-untyped-call]


def _parse(data: bytes) -> Event | None:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _close_reason(data: bytes) -> tuple[int, str]:
    if len(data) < 2:
        return NO_STATUS, ""
    return struct.unpack("!H", data[:2])[0], data[2:].decode("utf-8", "replace")


# ---- connecting --------------------------------------------------------------------------------------------


_TRY_AGAIN = {socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM}
_UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
}


def _may_pass(error: Exception) -> bool:
    """Whether connecting may go well in a moment: not what was asked was the matter."""
    if isinstance(error, websocket.WebSocketBadStatusException):
        return may_pass_status(error.status_code)
    if isinstance(error, socket.gaierror):
        return error.errno in _TRY_AGAIN
    if isinstance(error, ssl.SSLError):
        return isinstance(
            error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        )  # the connection has gone, no more
    if isinstance(error, ConnectionAbortedError):
        return error.errno is not None  # else it was given up here
    passing = (
        TimeoutError,
        ConnectionError,
        websocket.WebSocketTimeoutException,
        websocket.WebSocketConnectionClosedException,
    )
    return isinstance(error, passing) or (isinstance(error, OSError) and error.errno in _UNREACHABLE)


def _failure(error: Exception, settings: Settings) -> ConnectError:
    """What a failed attempt to connect is to a call."""
    status = error.status_code if isinstance(error, websocket.WebSocketBadStatusException) else 0
    return ConnectError(
        _explain(error, settings),
        passing=_may_pass(error),
        http_status=status,
        refused=isinstance(error, ConnectionRefusedError),
    )


def _explain(error: Exception, settings: Settings) -> str:
    """Why connecting failed, and what to look at."""
    where = urlsplit(settings.realtime_url)
    place = f"{where.hostname}:{where.port or (443 if where.scheme == 'wss' else 80)}"
    if isinstance(error, websocket.WebSocketBadStatusException):
        return f"{place} answered HTTP {error.status_code}: check OPENAI_REALTIME_URL and OPENAI_API_KEY"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        return f"{place}: its certificate is not trusted ({why}): set WSS_PEM to its CA's PEM file"
    if isinstance(error, ssl.SSLError) and error.library == "X509":
        return f"there is no certificate in {settings.ca_file} (WSS_PEM)"
    if isinstance(error, (socket.gaierror, websocket.WebSocketAddressException)):
        return f"no address for {where.hostname}: check OPENAI_REALTIME_URL and DNS"
    if isinstance(error, (TimeoutError, websocket.WebSocketTimeoutException)):
        return f"{place} did not answer within {settings.connect_timeout_ms} ms (IVR_AI_CONNECT_TIMEOUT_MS)"
    if isinstance(error, ConnectionRefusedError):
        return f"{place} refused the connection: is the server of OPENAI_REALTIME_URL running?"
    return f"{place}: {type(error).__name__}: {error}: check OPENAI_REALTIME_URL"


class Attempt:
    """One attempt to connect to the server of the settings: connect() on one thread, abort() on any other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sock = _Socket(settings.max_message_bytes)

    def connect(self) -> WebSocketTransport:
        """Opens the connection; does not wait for session.created. Once. Raises ConnectError."""
        settings, sock = self._settings, self._sock
        dialect = make_dialect(settings)
        try:
            headers = request_headers(settings, dialect)
            sock.open(request_url(settings), headers, settings.ca_file, settings.connect_timeout_ms / 1000)
            sock.settle(settings.ping_timeout_s)
        except (OSError, websocket.WebSocketException, ValueError) as error:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                sock.shutdown()  # type: ignore[no-untyped-call]
            # Without its traceback: websocket-client leaves a cycle of it and its frames, which would keep
            # the whole call, and FreeSWITCH's session, until the garbage collector runs.
            raise _failure(error, settings) from error.with_traceback(None)
        return WebSocketTransport(sock, dialect, settings.close_timeout_ms / 1000)

    def abort(self) -> None:
        """Gives up: connect() fails at once, or what it has opened ends."""
        self._sock.abort()
