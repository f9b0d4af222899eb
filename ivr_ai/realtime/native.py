"""The native transport: a Realtime connection in C, whose audio never enters Python.

libaudiostream's service threads connect, encode what the caller says and queue what the model says. Here
come only events: everything but audio as the server sent it, and instead of audio now and then

    transport.audio      an item's audio is being queued: its mark, and the generation it is queued under (0:
                         it is held back until route() says what becomes of it)
    transport.complaint  what was wrong with the audio

One thread delivers the events of all connections to their listeners (ivr_ai.audio.delivery), so a listener
must be quick. Signs of life are looked after in C.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import urlsplit

from ivr_ai._audio_stream import ffi, lib
from ivr_ai.audio.delivery import delivery
from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import Stream, check, encoding_number
from ivr_ai.config import Settings
from ivr_ai.realtime.dialects import Dialect, Event, server_types
from ivr_ai.realtime.request import make_dialect, request_headers, request_url
from ivr_ai.realtime.transport import (
    ABNORMAL,
    ConnectError,
    TransportClosed,
)

log = logging.getLogger("ivr_ai.realtime")


class Listener(Protocol):
    """Who a connection's events are for. Called on the one thread that delivers: be quick, raise nothing."""

    def on_open(self) -> None: ...

    def on_event(self, event: Event) -> None:
        """An event in GA names, or one of our own (see above)."""

    def on_closed(self, error: ConnectError | TransportClosed) -> None:
        """The last that is heard of it: it never opened, or has ended."""


class NativeTransport:
    """One connection to a Realtime server. Everything may be called from any thread."""

    carries_audio = True
    pings_itself = True

    def __init__(
        self, settings: Settings, listener: Listener, *, events: Iterable[str] | None = None
    ) -> None:
        """Who hears what comes of it; nothing happens before open().

        events: the types of server events (GA names) that the listener wants, all when None. The others
        never wake Python; neither do events of more than 1 MiB, which are counted as bad_messages.
        """
        self._settings = settings
        self._events = events
        self._listener: Listener | None = listener
        self._dialect = make_dialect(settings)
        self._opened = False
        self._closing = False
        self._ended = threading.Event()
        self._tag = 0
        self._handle = ffi.NULL

    def open(self) -> None:
        """Starts to connect; the listener hears how it goes. Once. Raises ConnectError: nowhere to."""
        wanted = "" if self._events is None else "\n".join(server_types(self._events)) + "\n"

        def start(tag: int) -> None:
            self._tag, self._handle = tag, _open(self._settings, self._dialect, wanted, tag)

        delivery.begin(self, start)

    # ---- audio ---------------------------------------------------------------------------------------------

    def attach(
        self,
        stream: Stream,
        heard: Format,
        said: Format,
        *,
        chunk_ms: int = 20,
        quiet_chunk_ms: int = 100,
        hang_ms: int = 500,
    ) -> None:
        """Queues the model's audio (format `said`) in a stream from now on.

        heard, chunk_ms, ...: how the caller's is to be sent after listen(); see Stream.setup_capture. Several
        transports may be attached to a stream; one listens at a time. Raises TransportClosed, ValueError.
        """
        if stream.channels != 1:
            raise ValueError(f"{stream!r} captures {stream.channels} channels; the model hears one")
        audio = ffi.new(
            "as_realtime_audio *",
            {
                "in_encoding": encoding_number(heard),
                "in_rate_hz": heard.rate_hz,
                "out_encoding": encoding_number(said),
                "out_rate_hz": said.rate_hz,
                "chunk_ms": chunk_ms,
                "quiet_chunk_ms": quiet_chunk_ms,
                "hang_ms": hang_ms,
            },
        )
        result = lib.as_realtime_attach(self._open_handle(), stream.handle, audio)
        self._check(result, f"joining {heard} and {said} to a stream of {stream.wire}")

    def listen(self) -> None:
        """Sends what the caller says, beginning with what has been captured. Raises TransportClosed."""
        self._check(lib.as_realtime_listen(self._open_handle()), "listening")

    def resend(self, lost: NativeTransport) -> None:
        """Sends what the caller has said over a lost connection since their last turn began, if no answer
        has.

        After attach() and before listen(). Raises TransportClosed.
        """
        if lost._handle != ffi.NULL:
            self._check(lib.as_realtime_resend(self._open_handle(), lost._handle), "sending again")

    def unlisten(self) -> None:
        """Sends no more of what the caller says, while the reply may still play.

        Once this has returned, another transport that listens on the stream goes on with the next sample.
        """
        if self._handle != ffi.NULL:
            lib.as_realtime_unlisten(self._handle)

    def route(self, response_id: str, generation: int | None) -> None:
        """What becomes of a response's audio that is held back: queued under a generation, or dropped."""
        lib.as_realtime_route(self._open_handle(), response_id.encode(), generation or 0)

    # ---- events --------------------------------------------------------------------------------------------

    def set_dialect(self, dialect: Dialect) -> None:
        """What the server turned out to speak: from now on events are sent, and given to the listener, by it.

        Audio needs none: it is recognised by the names of both.
        """
        self._dialect = dialect

    def send(self, event: Event) -> None:
        """Sends an event (GA names). Raises TransportClosed."""
        text = json.dumps(self._dialect.encode(event), separators=(",", ":")).encode()
        self._check(lib.as_realtime_send(self._open_handle(), text, len(text)), "sending")

    def deliver(self, text: bytes) -> None:
        """Hands an event on. Only on the thread that delivers; what the listener raises is logged."""
        listener = self._listener
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):  # C's library and Python's do not agree on all that is JSON
            event = {
                "type": "transport.complaint",
                "about": "malformed",
                "message": f"the server sent an event of {len(text)} bytes that is not JSON",
            }
        kind = event["type"]
        try:
            if kind == "transport.closed":
                self._ended.set()
                delivery.forget(self._tag)
                self._listener = None
                if listener is not None:
                    listener.on_closed(self._end())
            elif listener is None:
                pass  # it has been released
            elif kind == "transport.open":
                self._opened = True
                listener.on_open()
            else:
                listener.on_event(self._dialect.decode(event))
        except Exception:
            log.exception("%s of the native transport", kind)

    def _open_handle(self) -> Any:
        """The connection. Raises TransportClosed when it was never made."""
        if self._handle == ffi.NULL:
            raise TransportClosed(ABNORMAL, "not connected")
        return self._handle

    def _check(self, result: int, what: str) -> None:
        if result == lib.AS_ECLOSED:
            raise self._closed()
        check(result, what)

    def _closed(self) -> TransportClosed:
        if self._closing:
            return TransportClosed(1000, "closed by us")
        info = self.info()
        reason = ffi.string(info.reason).decode("utf-8", "replace")
        if info.why == lib.AS_WHY_TOO_BIG:
            reason += f" (IVR_AI_MAX_MESSAGE_BYTES is {self._settings.max_message_bytes})"
        elif info.why == lib.AS_WHY_SILENT:
            reason += " (IVR_AI_PING_TIMEOUT_S)"
        return TransportClosed(info.close_code, reason)

    def _end(self) -> ConnectError | TransportClosed:
        if self._opened or self._closing:
            return self._closed()
        info = self.info()
        return ConnectError(
            _explain(info, self._settings),
            passing=bool(info.passing),
            http_status=info.http_status,
            refused=bool(info.refused),
        )

    # ---- the connection ------------------------------------------------------------------------------------

    def info(self) -> Any:
        """The C library's as_realtime_info: state, how it ended, counters."""
        info = ffi.new("as_realtime_info *")
        if self._handle != ffi.NULL:
            lib.as_realtime_get_info(self._handle, info)
        return info

    @property
    def bad_messages(self) -> int:
        """How many messages were neither audio nor a JSON object with a type."""
        return int(self.info().bad_messages)

    @property
    def last_received_s(self) -> float:
        """time.monotonic() of the last byte from the server."""
        return float(self.info().last_received_ns / 1e9)

    def close(self) -> None:
        """Says goodbye and waits at most the close timeout for the server's. Idempotent."""
        if not self._closing and self._handle != ffi.NULL:
            self._closing = True
            ms = self._settings.close_timeout_ms if self._opened else 0
            lib.as_realtime_close(self._handle, 1000, ms)
            self._ended.wait(ms / 1000)
        self.abort()

    def abort(self) -> None:
        """Ends both directions at once, whatever they are doing. Never waits."""
        self._closing = True
        if self._handle != ffi.NULL:
            lib.as_realtime_close(self._handle, 1000, 0)

    def release(self) -> None:
        """abort(), and nothing more is heard of it."""
        self._listener = None
        delivery.forget(self._tag)
        self.abort()


def _open(settings: Settings, dialect: Dialect, events: str, tag: int) -> Any:
    """A connection that has begun to be made. Raises ConnectError."""
    headers = "\n".join(f"{name}: {value}" for name, value in request_headers(settings, dialect).items())
    words = (request_url(settings), headers, settings.ca_file, events)
    texts = [ffi.new("char[]", text.encode()) for text in words]
    config = ffi.new(
        "as_realtime_config *",
        {
            "url": texts[0],
            "headers": texts[1],
            "ca_file": texts[2],
            "events": texts[3],
            "connect_timeout_ms": settings.connect_timeout_ms,
            "ping_interval_ms": int(settings.ping_interval_s * 1000),
            "ping_timeout_ms": int(settings.ping_timeout_s * 1000),
            "max_message_bytes": settings.max_message_bytes,
            "uplink_max_ms": settings.uplink_max_ms,
        },
    )
    out = ffi.new("as_realtime **")
    result = lib.as_realtime_new(config, delivery.events, tag, out)
    if result < 0:
        why = ffi.string(lib.as_strerror(result)).decode()
        raise ConnectError(f"{_place(settings)}: {why}: check OPENAI_REALTIME_URL")
    return ffi.gc(out[0], lib.as_realtime_unref)


def _place(settings: Settings) -> str:
    where = urlsplit(settings.realtime_url)
    return f"{where.hostname}:{where.port or (443 if where.scheme == 'wss' else 80)}"


def _explain(info: Any, settings: Settings) -> str:
    """Why connecting failed, and what to look at."""
    place, why = _place(settings), ffi.string(info.reason).decode("utf-8", "replace")
    match info.why:
        case lib.AS_WHY_HTTP:
            return f"{place} answered HTTP {info.http_status}: check OPENAI_REALTIME_URL and OPENAI_API_KEY"
        case lib.AS_WHY_TLS if info.passing:
            return f"{place} closed the connection during TLS's handshake: check OPENAI_REALTIME_URL"
        case lib.AS_WHY_TLS:
            return f"{place}: its certificate is not trusted ({why}): set WSS_PEM to its CA's PEM file"
        case lib.AS_WHY_RESOLVE:
            host = urlsplit(settings.realtime_url).hostname
            return f"no address for {host}: check OPENAI_REALTIME_URL and DNS"
        case lib.AS_WHY_TIMEOUT:
            ms = settings.connect_timeout_ms
            return f"{place} did not answer within {ms} ms (IVR_AI_CONNECT_TIMEOUT_MS)"
        case lib.AS_WHY_OPTIONS if settings.ca_file and settings.ca_file in why:
            return f"{why} (WSS_PEM)"
        case lib.AS_WHY_CONNECT if info.refused:
            return f"{place} refused the connection ({why}): is the server of OPENAI_REALTIME_URL running?"
    return f"{place}: {why or 'the connection was closed'}: check OPENAI_REALTIME_URL"
