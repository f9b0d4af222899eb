"""A call leg's audio, over libaudiostream: capture what the caller says, inject what the application says.

`Stream` is the application's end, `HostStream` adds the host's end for hosts written in Python. Inside
FreeSWITCH the host is mod_audio_stream, in the same process and on the same registry.

Threads: everything may be called from any thread. Waiting happens in C with the GIL released. One thread at a
time may `capture()`. A stream that has been closed, by either end, raises `StreamClosed` where audio would
have to come or go; it never crashes.

Errors:
    StreamError(RuntimeError)
        StreamClosed     the call is over, or the stream was stopped
        StreamNotFound   no such stream: was it started on this call?
        StreamExists     this id is taken on this call
        StreamFull       more queued than the stream's bound (minutes): nothing was written
        StreamBusy       another thread is in capture(), or somebody has subscribed
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ivr_ai._audio_stream import ffi, lib
from ivr_ai.audio.delivery import delivery
from ivr_ai.audio.formats import Format

MAIN = "main"  # id of the stream that `uuid_audio_stream <uuid> start embedded` opens

_ENCODINGS = {"s16": lib.AS_S16, "pcmu": lib.AS_PCMU, "pcma": lib.AS_PCMA}
_NAMES = {number: name for name, number in _ENCODINGS.items()}
_DIRECTIONS = {"capture": lib.AS_CAPTURE, "inject": lib.AS_INJECT}
_READ_BYTES = 96000  # one second of 48 kHz s16: what one capture() returns at most
_MARKS_MAX = 128
_mark_numbers = itertools.count(1)  # of the process: two Streams on one stream must not share a mark


class StreamError(RuntimeError):
    """Base of everything that can go wrong with a stream."""


class StreamClosed(StreamError):
    """The call is over, or the stream was stopped."""


class StreamNotFound(StreamError):
    """There is no stream with this uuid and id."""


class StreamExists(StreamError):
    """A stream with this uuid and id is open already."""


class StreamStereo(StreamError):
    """The stream captures two channels, and a conversation hears one."""


class StreamFull(StreamError):
    """The inject queue is at its bound; nothing was written."""


class StreamBusy(StreamError):
    """Another thread is reading this stream, or another listener has subscribed to it."""


_ERRORS = {
    lib.AS_ECLOSED: StreamClosed,
    lib.AS_ENOENT: StreamNotFound,
    lib.AS_EEXIST: StreamExists,
    lib.AS_EFULL: StreamFull,
    lib.AS_EBUSY: StreamBusy,
    lib.AS_ENOMEM: MemoryError,
    lib.AS_EINVAL: ValueError,
}


class Mark(NamedTuple):
    """Where one item (utterance) stands. Times are time.monotonic() seconds, None until they happen."""

    item: str
    written_ms: float
    played_ms: float
    started_s: float | None
    finished_s: float | None
    ended: bool
    finished: bool
    flushed: bool


class Flush(NamedTuple):
    """What a flush threw away: the new generation, and the milliseconds heard of each item it cut short."""

    generation: int
    played_ms: dict[str, float]


class StreamStats(NamedTuple):
    """Counters since the stream was opened; samples are per channel, at the host's rate. See as_stats."""

    capture_samples: int
    capture_dropped_samples: int
    capture_overruns: int
    capture_paused_samples: int
    capture_ticks: int
    capture_read_samples: int
    capture_discarded_samples: int
    capture_active_samples: int
    capture_last_ns: int
    capture_active: int
    inject_played_samples: int
    inject_flushed_samples: int
    inject_underruns: int
    inject_underrun_samples: int
    inject_ticks: int
    inject_last_ns: int
    inject_playing: int
    inject_written_samples: int
    inject_queued_samples: int
    inject_full_writes: int
    inject_full_bytes: int
    inject_stale_writes: int
    inject_stale_bytes: int
    inject_flushes: int
    inject_generation: int
    capture_paused: int
    inject_paused: int
    host_events: int
    host_events_dropped: int


class HostListener(Protocol):
    """Who is told what the host sees of a call."""

    def on_host_event(self, event: dict[str, Any]) -> None:
        """host.dtmf (digit, duration_ms), host.hold, host.unhold, host.bridged (other_uuid), host.unbridged,
        host.unloaded (mod_audio_stream is unloaded: the stream is closed next).

        Called on the one thread that delivers (ivr_ai.audio.delivery), in order with the events of native
        transports: be quick. What it raises is logged.
        """


class _Subscription:
    """A listener, until it is taken back or the stream is closed."""

    def __init__(self, listener: HostListener) -> None:
        self.listener: HostListener | None = listener
        self.tag = 0

    def deliver(self, text: bytes) -> None:
        event, listener = json.loads(text), self.listener
        if event["type"] == "host.closed":
            self.end()
        elif listener is not None:
            listener.on_host_event(event)

    def end(self) -> None:
        self.listener = None
        delivery.forget(self.tag)


def check(result: int, what: str) -> int:
    """Raises what a negative result of the library stands for; gives back any other."""
    if result >= 0:
        return result
    raise _ERRORS.get(result, StreamError)(f"{what}: {ffi.string(lib.as_strerror(result)).decode()}")


def _number(table: dict[str, int], what: str, name: str) -> int:
    """The library's number for a name. Raises ValueError."""
    if name not in table:
        raise ValueError(f"{what} {name!r} is unknown: use one of {', '.join(table)}")
    return table[name]


def encoding_number(format: Format) -> int:
    """The library's number for a format's encoding. Raises ValueError."""
    return _number(_ENCODINGS, "audio encoding", format.encoding)


def _seconds(ns: int) -> float | None:
    return ns / 1e9 if ns else None


class Stream:
    """The application's end of one stream. A context manager: leaving it closes the stream."""

    def __init__(self, handle) -> None:
        """Takes over one reference to an as_stream; use attach() or HostStream.create()."""
        self._handle = ffi.gc(handle, lib.as_stream_unref)
        info = ffi.new("as_info *")
        lib.as_stream_info(handle, info)
        self.uuid: str = ffi.string(info.uuid).decode()
        self.stream_id: str = ffi.string(info.id).decode()
        self.rate_hz: int = info.rate_hz
        self.channels: int = info.channels  # of what is captured, interleaved
        self.app_rate_hz: int = info.app_rate_hz
        self.frame_ms: int = info.frame_ms
        self.wire = Format(_NAMES[info.wire_encoding], self.rate_hz)
        self._read_buffer = None  # made by the first capture(): a native transport never reads here
        self._marks: dict[str, int] = {}
        self._items: dict[int, str] = {}
        self._marks_lock = threading.Lock()
        self._subscription: _Subscription | None = None

    @classmethod
    def attach(cls, uuid: str, stream_id: str = MAIN, timeout_s: float = 0.0) -> Stream:
        """The open stream of a call; waits up to timeout_s for it to be started. Raises StreamNotFound."""
        out = ffi.new("as_stream **")
        found = lib.as_stream_find(uuid.encode(), stream_id.encode(), int(timeout_s * 1000), out)
        check(found, f"stream {stream_id!r} of call {uuid}")
        return cls(out[0])

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {self.uuid}/{self.stream_id} {self.rate_hz} Hz {state}>"

    @property
    def handle(self):
        """The as_stream *, for other parts of the library; valid as long as this object."""
        return self._handle

    def _where(self) -> str:
        return f"stream {self.stream_id!r} of call {self.uuid}"

    # -- capture --------------------------------------------------------------------------------------------

    def setup_capture(
        self, format: Format, chunk_ms: int = 20, quiet_chunk_ms: int = 100, hang_ms: int = 500
    ) -> None:
        """How capture() returns audio: its format, how much of it while the caller speaks, and in silence.

        hang_ms: how long after the last speech it still comes in small chunks. Raises ValueError, StreamBusy.
        """
        code = encoding_number(format)
        result = lib.as_capture_setup(self._handle, code, format.rate_hz, chunk_ms, quiet_chunk_ms, hang_ms)
        check(result, f"capture of {self._where()} as {format}, {chunk_ms}/{quiet_chunk_ms}/{hang_ms} ms")

    def capture(self, timeout_ms: int = 1000) -> bytes:
        """The next chunk, at most a second of mono; b"" when none has come in timeout_ms.

        Raises StreamClosed, once all that was captured has been read, and StreamBusy.
        """
        if self._read_buffer is None:
            self._read_buffer = ffi.new("char[]", _READ_BYTES)
        count = lib.as_capture_read(self._handle, self._read_buffer, _READ_BYTES, timeout_ms)
        if count < 0:
            check(count, self._where())
        return ffi.unpack(self._read_buffer, count)

    # -- inject ---------------------------------------------------------------------------------------------

    def _mark_of(self, item: str) -> int:
        """The number that stands for an item in the library."""
        with self._marks_lock:
            mark = self._marks.get(item)
            if mark is None:
                mark = next(_mark_numbers)
                self._marks[item] = mark
                self._items[mark] = item
            return mark

    def adopt(self, item: str, mark: int) -> None:
        """Names a mark under which the library itself queues audio."""
        with self._marks_lock:
            self._marks[item] = mark
            self._items[mark] = item

    def inject(self, data: bytes, item: str, format: Format, generation: int = 0) -> bool:
        """Queues audio of an item, split anywhere. False when its generation was flushed: it is dropped.

        Raises StreamFull (nothing written), StreamClosed, ValueError.
        """
        code, mark = encoding_number(format), self._mark_of(item)
        buffer = ffi.from_buffer(data)
        result = lib.as_inject_write(self._handle, mark, generation, code, format.rate_hz, buffer, len(data))
        if result == lib.AS_ESTALE:
            return False
        check(result, f"{len(data)} bytes into {self._where()}")
        return True

    def end(self, item: str) -> None:
        """Says that an item is complete: its tail plays out, and running dry is no longer an underrun."""
        check(lib.as_inject_end(self._handle, self._mark_of(item)), self._where())

    def mark(self, item: str) -> Mark:
        """How much of an item was written and heard. Raises StreamNotFound for one never written."""
        raw = ffi.new("as_mark *")
        result = lib.as_inject_mark(self._handle, self._marks.get(item, 0), raw)
        check(result, f"item {item!r} of {self._where()}")
        return self._mark_from(item, raw)

    def _ms(self, samples: int) -> float:
        return samples * 1000.0 / self.rate_hz

    def _mark_from(self, item: str, raw) -> Mark:
        return Mark(
            item,
            self._ms(raw.written),
            self._ms(raw.played),
            _seconds(raw.started_ns),
            _seconds(raw.finished_ns),
            bool(raw.flags & lib.AS_MARK_ENDED),
            bool(raw.flags & lib.AS_MARK_FINISHED),
            bool(raw.flags & lib.AS_MARK_FLUSHED),
        )

    def flush(self) -> Flush:
        """Throws away everything queued; what is playing fades out.

        Returns what was heard of the items cut short. Works on a closed stream.
        """
        marks, count = ffi.new("as_mark[]", _MARKS_MAX), ffi.new("int *")
        generation = check(lib.as_inject_flush(self._handle, marks, _MARKS_MAX, count), self._where())
        cut = marks[0 : min(count[0], _MARKS_MAX)]
        own = (raw for raw in cut if raw.id in self._items)  # others may inject through a Stream of their own
        return Flush(generation, {self._items[raw.id]: self._ms(raw.played) for raw in own})

    @property
    def generation(self) -> int:
        """Number of the current generation: 1, and one more with every flush."""
        return lib.as_inject_generation(self._handle)

    def set_prebuffer(self, prebuffer_ms: int) -> None:
        """Milliseconds to hold before an utterance starts to play. Raises ValueError outside 0..10000."""
        check(lib.as_inject_prebuffer(self._handle, prebuffer_ms), f"prebuffer of {prebuffer_ms} ms")

    # -- both -----------------------------------------------------------------------------------------------

    def pause(self, *directions: str) -> None:
        """Pauses "capture" (audio is dropped and counted), "inject" (keeps its place), or, unnamed, both.

        Raises ValueError for another name.
        """
        check(lib.as_stream_pause(self._handle, self._directions(directions)), self._where())

    def resume(self, *directions: str) -> None:
        """Undoes pause()."""
        check(lib.as_stream_resume(self._handle, self._directions(directions)), self._where())

    @staticmethod
    def _directions(names: tuple[str, ...]) -> int:
        return sum({_number(_DIRECTIONS, "direction", name) for name in names or _DIRECTIONS})

    def subscribe(self, listener: HostListener) -> None:
        """Tells the listener what the host sees from now on, until unsubscribe() or the stream's end.

        One listener for each stream, whoever attached to it. Raises StreamBusy, StreamClosed.
        """
        subscription = _Subscription(listener)

        def start(tag: int) -> None:
            subscription.tag = tag
            result = lib.as_stream_subscribe(self._handle, delivery.events, tag)
            if result == lib.AS_EEXIST:
                raise StreamBusy(f"somebody has subscribed to {self._where()} already")
            check(result, self._where())

        delivery.begin(subscription, start)
        self._subscription = subscription

    def unsubscribe(self) -> None:
        """Ends what subscribe() began here; an event may be under way to the listener. Idempotent."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            lib.as_stream_subscribe(self._handle, ffi.NULL, 0)
            subscription.end()

    def stats(self) -> StreamStats:
        """A snapshot, consistent within each direction. Works on a closed stream."""
        raw = ffi.new("as_stats *")
        lib.as_stream_stats(self._handle, raw)
        return StreamStats(*(getattr(raw, name) for name in StreamStats._fields))

    def last_speech_s(self) -> float | None:
        """When (time.monotonic()) the caller's voice was last on the line; None while it is, or never was."""
        stats = self.stats()
        since_samples = stats.capture_samples - stats.capture_active_samples
        if stats.capture_active_samples == 0 or since_samples == 0:
            return None
        return stats.capture_last_ns / 1e9 - since_samples / self.rate_hz

    def silent_ms(self) -> float:
        """How long ago, at the reader's place, the line last sounded like speech; a day when it never has."""
        stats = self.stats()
        if stats.capture_active_samples == 0:
            return 86_400_000.0
        return max(0, stats.capture_read_samples - stats.capture_active_samples) * 1000 / self.rate_hz

    @property
    def closed(self) -> bool:
        """True once either end has closed the stream."""
        return bool(lib.as_stream_closed(self._handle))

    def close(self) -> None:
        """Closes the stream for both ends and wakes a waiting capture(). Idempotent."""
        lib.as_stream_close(self._handle)


class HostStream(Stream):
    """Both ends of a stream, for hosts written in Python. host_* belong to the thread that owns the clock."""

    @classmethod
    def create(
        cls,
        uuid: str,
        stream_id: str = MAIN,
        *,
        rate_hz: int = 8000,
        channels: int = 1,
        wire: str = "s16",
        app_rate_hz: int = 0,
        frame_ms: int = 20,
        capture_ms: int = 0,
        inject_max_ms: int = 0,
        prebuffer_ms: int = 0,
        fade_ms: int = 0,
        behind_ms: int = 0,
    ) -> HostStream:
        """Opens a stream; 0 means the library's default. Raises StreamExists, ValueError."""
        config = ffi.new(
            "as_config *",
            {
                "rate_hz": rate_hz,
                "channels": channels,
                "app_rate_hz": app_rate_hz,
                "wire_encoding": _number(_ENCODINGS, "audio encoding", wire),
                "frame_ms": frame_ms,
                "capture_ms": capture_ms,
                "inject_max_ms": inject_max_ms,
                "prebuffer_ms": prebuffer_ms,
                "fade_ms": fade_ms,
                "behind_ms": behind_ms,
            },
        )
        out = ffi.new("as_stream **")
        created = lib.as_stream_create(uuid.encode(), stream_id.encode(), config, out)
        check(created, f"stream {stream_id!r} of call {uuid}")
        return cls(out[0])

    def host_capture(self, pcm: bytes) -> int:
        """Gives what the caller said, s16 at rate_hz, interleaved. Returns samples stored, per channel."""
        samples = ffi.from_buffer("int16_t[]", pcm)
        return lib.as_host_capture(self._handle, samples, len(pcm) // 2 // self.channels)

    def host_inject(self, frame: bytes) -> tuple[bytes, bool]:
        """What this tick plays: the application's audio and True, or the frame as it was and False."""
        out = bytearray(frame)
        owned = lib.as_host_inject(self._handle, ffi.from_buffer("int16_t[]", out), len(out) // 2)
        return (bytes(out), True) if owned else (frame, False)

    def tell(self, event: Mapping[str, Any]) -> bool:
        """Tells whoever has subscribed what the host has seen, see HostListener. Any thread; never waits.

        False when it was not told: nobody has subscribed, the stream is closed, or too much waits already
        (which is counted). Raises ValueError for more than 4 KiB.
        """
        result = lib.as_stream_tell(self._handle, json.dumps(event, separators=(",", ":")).encode())
        if result == lib.AS_EINVAL:
            raise ValueError(f"{str(event)[:60]!r}... is no event of a host")
        return result == 0


def open_streams(uuid: str | None = None) -> list[tuple[str, str]]:
    """(uuid, stream id) of every open stream in the process, or of one call."""
    match = ffi.NULL if uuid is None else uuid.encode()
    room = lib.as_stream_list(match, ffi.NULL, 0) + 8
    infos = ffi.new("as_info[]", room)
    count = min(lib.as_stream_list(match, infos, room), room)
    return [(ffi.string(info.uuid).decode(), ffi.string(info.id).decode()) for info in infos[0:count]]


def library_path() -> str:
    """The file that libaudiostream was loaded from."""
    return ffi.string(lib.as_library_path()).decode()
