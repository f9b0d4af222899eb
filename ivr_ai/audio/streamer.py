"""A stream's WebSocket client: libaudiostream sends what is captured and plays what the server sends.

Audio never enters Python. This is for hosts other than FreeSWITCH, and for tests; inside FreeSWITCH
mod_audio_stream does the same for `uuid_audio_stream ... start <url>`. docs/streaming.md describes the wire,
the events and the options.

Threads: everything may be called from any thread. `on_event` is called on one of the library's few threads
and must be quick; without it events wait in `events`. A streamer keeps itself alive until it has finished,
which it does when it is stopped, when its stream is closed, and when its server has gone for good.
"""

from __future__ import annotations

import atexit
import json
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ivr_ai._audio_stream import ffi, lib
from ivr_ai.audio.stream import Stream, StreamClosed, StreamFull, check

_DIALECTS = {"binary": lib.AS_DIALECT_BINARY, "json": lib.AS_DIALECT_JSON, "openai": lib.AS_DIALECT_OPENAI}
_ERROR_BYTES = 512
_DESCRIPTION_BYTES = 4096
_running: set[Any] = set()  # handles of those not finished: the library still calls them

atexit.register(lib.as_ws_stop)  # before the interpreter, and with it what callbacks need, goes


class Event(NamedTuple):
    """What a streamer says: a name (without "mod_audio_stream::") and its JSON body, parsed; of `json` a str
    when the server's text is no JSON."""

    name: str
    body: Any


OnEvent = Callable[[Event], None]


@ffi.def_extern()
def ivr_ai_streamer_event(arg, name, body) -> None:
    ffi.from_handle(arg)._deliver(ffi.string(name).decode(), ffi.string(body).decode(errors="replace"))


@ffi.def_extern()
def ivr_ai_streamer_finished(arg, reason) -> None:
    ffi.from_handle(arg)._finish(ffi.string(reason).decode())


class Streamer:
    """Connects a stream to a WebSocket server, from construction until it has finished."""

    def __init__(
        self,
        stream: Stream,
        url: str,
        *,
        dialect: str = "binary",
        track: str = "inbound",
        rate_hz: int = 0,
        timeout_s: int = 0,
        bidirectional: bool = True,
        metadata: str | None = None,
        api_key: str = "",
        options: Mapping[str, object] | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        """options: by any of their names, for instance {"STREAM_RECONNECT_MAX": 3}. timeout_s: to connect;
        0: the option's, -1: none. bidirectional: whether the server may play; if not, its audio is refused in
        either dialect (with "openai" it always may). api_key: with "openai", the key for url. The option
        OPENAI_API_KEY is for the server of OPENAI_REALTIME_URL, which an empty url stands for; where the
        options name no such server, the key among them is the one for url.

        Raises ValueError for what cannot be, StreamBusy while somebody else reads the stream.
        """
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.reason: str | None = None  # why it has finished
        self._on_event = on_event
        self._finished = threading.Event()
        self._self = ffi.new_handle(self)
        options = options or {}
        texts = (url, track, metadata or "", api_key or _key_for_url(options))
        kept = [ffi.new("char[]", _bytes(text)) for text in texts]
        start = ffi.new(
            "as_streamer_start *",
            {
                "dialect": _dialect(dialect),
                "url": kept[0],
                "track": kept[1],
                "rate_hz": rate_hz,
                "timeout_s": timeout_s,
                "bidirectional": bidirectional,
                "metadata": kept[2] if metadata is not None else ffi.NULL,
                "api_key": kept[3],
            },
        )
        self._handle = self._start(stream, start, _make_options(options))

    def _start(self, stream: Stream, start, options):
        error, out = ffi.new("char[]", _ERROR_BYTES), ffi.new("as_streamer **")
        _running.add(self._self)
        result = lib.as_streamer_new(
            stream.handle,
            start,
            options,
            lib.ivr_ai_streamer_event,
            lib.ivr_ai_streamer_finished,
            self._self,
            error,
            _ERROR_BYTES,
            out,
        )
        if result:
            _running.discard(self._self)
            if result == lib.AS_EINVAL:
                raise ValueError(ffi.string(error).decode(errors="replace"))
            check(result, f"a streamer for stream {stream.stream_id!r} of call {stream.uuid}")
        return ffi.gc(out[0], lib.as_streamer_unref)

    def __repr__(self) -> str:
        return f"<Streamer {self.describe().get('url', '')} {self.describe()['state']}>"

    def _deliver(self, name: str, body: str) -> None:
        event = Event(name, _parsed(body))
        if self._on_event is None:
            self.events.put(event)
        else:
            self._on_event(event)

    def _finish(self, reason: str) -> None:
        self.reason = reason
        self._finished.set()
        _running.discard(self._self)

    def send_text(self, text: str) -> None:
        """Sends a text message as it is, once connected; what is no UTF-8 in it is replaced by U+FFFD.

        Raises StreamClosed, when it ends or has finished, and StreamFull.
        """
        result = lib.as_streamer_send_text(self._handle, _bytes(text))
        if result == lib.AS_ECLOSED:
            raise StreamClosed("the streamer has finished, or is about to")
        if result == lib.AS_EFULL:
            raise StreamFull("too many messages wait for the server")
        check(result, "send_text")

    def stop(self, text: str | None = None, *, graceful: bool = False) -> None:
        """Ends it; graceful: when what was captured has been sent, and what is queued been played."""
        lib.as_streamer_stop(self._handle, ffi.NULL if text is None else _bytes(text), graceful)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it has finished."""
        return self._finished.wait(timeout_s)

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    def describe(self) -> dict[str, Any]:
        """State, connection and counters."""
        text = ffi.new("char[]", _DESCRIPTION_BYTES)
        count = lib.as_streamer_describe(self._handle, text, _DESCRIPTION_BYTES)
        return json.loads(ffi.unpack(text, count))


def _dialect(name: str) -> int:
    if name not in _DIALECTS:
        raise ValueError(f"dialect {name!r} is unknown: use one of {', '.join(_DIALECTS)}")
    return _DIALECTS[name]


def _bytes(text: str) -> bytes:
    """Surrogate escapes (PEP 383) stand for bytes that are not UTF-8, as in a caller's name in Latin-1: the
    library gets those bytes, and replaces them by U+FFFD where a server is told them. Any other lone
    surrogate becomes U+FFFD here."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key_for_url(options: Mapping[str, object]) -> str:
    """The key among options that name no server for it; "" otherwise."""
    given = {name.lower().replace("-", "_"): str(value) for name, value in options.items()}
    return "" if given.get("openai_realtime_url") else given.get("openai_api_key", "")


def _make_options(values: Mapping[str, object]):
    """An as_options with these set. Raises ValueError for an unknown name or a value it does not take."""
    out, error = ffi.new("as_options **"), ffi.new("char[]", _ERROR_BYTES)
    check(lib.as_options_new(out), "options")
    options = ffi.gc(out[0], lib.as_options_free)
    for name, value in values.items():
        if lib.as_options_set(options, _bytes(name), _bytes(_text(value)), error, _ERROR_BYTES):
            raise ValueError(ffi.string(error).decode(errors="replace"))
    return options
