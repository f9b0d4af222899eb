"""The application's end of streams, inside the switch: tests say what to inject, and read what was captured.

Audio goes through files, as it stands. Times are time.monotonic(), which the tests' own process shares.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from typing import Any

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import Stream, StreamClosed, StreamNotFound, open_streams

_streams: dict[tuple[str, str], Stream] = {}
_readers: dict[str, threading.Thread] = {}  # by the file they write
_listeners: dict[tuple[str, str], _Listener] = {}


class _Listener:
    """Notes what the host tells a stream."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.threads: set[str] = set()

    def on_host_event(self, event: dict[str, Any]) -> None:
        self.threads.add(threading.current_thread().name)
        self.events.append(event)


def _stream(uuid: str, stream_id: str) -> Stream:
    """The open stream of this name; the closed one we have held, where there is no other."""
    held = _streams.get((uuid, stream_id))
    if held is None or held.closed:
        try:
            held = _streams[uuid, stream_id] = Stream.attach(uuid, stream_id)
        except StreamNotFound:
            if held is None:
                raise
    return held


def inject(
    stream: Stream,
    item: str,
    file: str,
    encoding: str,
    rate_hz: int,
    chunk_bytes: int = 0,
    generation: int = 0,
    end: bool = True,
) -> dict[str, Any]:
    """Queues a file's audio, in pieces of chunk_bytes where that is not 0."""
    with open(file, "rb") as audio:
        data = audio.read()
    size, at_s = chunk_bytes or max(1, len(data)), time.monotonic()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    taken = [stream.inject(piece, item, Format(encoding, rate_hz), generation) for piece in pieces]
    if end and all(taken):
        stream.end(item)
    return {"taken": all(taken), "at_s": at_s, "generation": stream.generation}


def end(stream: Stream, item: str) -> None:
    stream.end(item)


def mark(stream: Stream, item: str) -> dict[str, Any]:
    return stream.mark(item)._asdict()


def flush(stream: Stream) -> dict[str, Any]:
    at_s = time.monotonic()
    flushed = stream.flush()
    return {"at_s": at_s, "took_s": time.monotonic() - at_s, **flushed._asdict()}


def stats(stream: Stream) -> dict[str, Any]:
    return {**stream.stats()._asdict(), "closed": stream.closed}


def info(stream: Stream) -> dict[str, Any]:
    names = ("uuid", "stream_id", "rate_hz", "app_rate_hz", "frame_ms", "wire", "generation", "closed")
    return {name: getattr(stream, name) for name in names}


def pause(stream: Stream, directions: list[str]) -> None:
    stream.pause(*directions)


def resume(stream: Stream, directions: list[str]) -> None:
    stream.resume(*directions)


def capture(stream: Stream, file: str, encoding: str, rate_hz: int) -> None:
    """Writes all that is captured to a file, until the stream is closed."""
    stream.setup_capture(Format(encoding, rate_hz))

    out = open(file, "wb", buffering=0)  # noqa: SIM115 - the thread closes it

    def read() -> None:
        with out:
            try:
                while True:
                    out.write(stream.capture(500))
            except StreamClosed:
                return

    _readers[file] = threading.Thread(target=read, name="stream-probe", daemon=True)
    _readers[file].start()


def subscribe(stream: Stream) -> None:
    listener = _listeners[stream.uuid, stream.stream_id] = _Listener()
    stream.subscribe(listener)


def told(uuid: str, stream_id: str) -> dict[str, Any]:
    """What the host has told a stream since subscribe(), and on which threads."""
    listener = _listeners[uuid, stream_id]
    return {"events": listener.events, "threads": sorted(listener.threads)}


def reading(file: str) -> bool:
    """Whether a file still grows."""
    return _readers[file].is_alive()


def open_now(uuid: str | None = None) -> list[tuple[str, str]]:
    return open_streams(uuid)


def pause_bugs(uuid: str, on: bool) -> None:
    """What mod_fifo does to a call in a queue: FreeSWITCH leaves out all media bugs."""
    core = ctypes.CDLL(None)
    core.switch_core_session_perform_locate.restype = ctypes.c_void_p
    session = ctypes.c_void_p(core.switch_core_session_perform_locate(uuid.encode(), b"", b"", 0))
    (core.switch_core_media_bug_pause if on else core.switch_core_media_bug_resume)(session)
    core.switch_core_session_rwunlock(session)


_OF_A_STREAM = {
    f.__name__: f for f in (inject, end, mark, flush, stats, info, pause, resume, capture, subscribe)
}
_OTHERS = {f.__name__: f for f in (reading, open_now, pause_bugs, told)}


def answer(args: str) -> str:
    """Runs {"do": name, ...} and answers {"result": ...} or {"error": type, "message": text}."""
    try:
        request = json.loads(args)
        name = request.pop("do")
        if name in _OTHERS:
            return json.dumps({"result": _OTHERS[name](**request)})
        stream = _stream(request.pop("uuid"), request.pop("stream_id", "main"))
        return json.dumps({"result": _OF_A_STREAM[name](stream, **request)})
    except Exception as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)})
