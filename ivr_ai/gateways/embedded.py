"""The embedded host: calls without a switch. It owns the 20 ms clock and gives a handler the session methods
of FreeSWITCH.

    record = place_call(app.handler, [Say("Hello?", after="answer"), Hangup(after="reply_end")])
    record.recording.write_wav("call.wav")

Three threads meet in a call, as they do inside FreeSWITCH: the clock (the media thread: `Line`), the call's
own thread, which runs the handler (the dialplan thread: `EmbeddedSession`), and whatever threads the handler
keeps at the stream's other end. Media starts when the handler answers and stops when either side hangs up; a
stream the handler left open is closed when it returns.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ivr_ai.audio.formats import Format, convert, read_wav
from ivr_ai.audio.resample import resample
from ivr_ai.audio.stream import HostStream
from ivr_ai.gateways.caller import Caller, Step, trimmed
from ivr_ai.gateways.clock import BURST_TICKS, TICK_MS, ClockStats, MediaClock
from ivr_ai.gateways.embedded_leg import (
    EmbeddedLeg as EmbeddedLeg,  # makes leg_of() know this host's sessions
)
from ivr_ai.gateways.embedded_session import EmbeddedSession
from ivr_ai.gateways.recording import Recording

log = logging.getLogger(__name__)

WIRES = {8000: ("pcmu", "pcma", "s16"), 16000: ("s16",), 24000: ("s16",), 48000: ("s16",)}
HANDLER_END_S = 10.0  # how long a handler may go on after its call has ended before that is an error

Handler = Callable[[EmbeddedSession, str], Any]


class HostEvent(NamedTuple):
    """Something the host saw.

    at_s is time.monotonic() by the call's sample clock, so it agrees with the recording.
    """

    kind: str
    at_s: float
    data: dict[str, Any]


EventObserver = Callable[[HostEvent], None]


class HandlerStuck(RuntimeError):
    """The handler went on although its call was over."""


@dataclass(frozen=True)
class CallOptions:
    """How a call is placed.

    wire: what the line carries, the first of WIRES[rate_hz] when empty; at "pcmu" and "pcma" both directions
    really pass through G.711. args: the handler's second argument. variables: channel variables. voice: the
    caller's espeak-ng voice. quiet_ms, patience_s: the caller's, see Caller. max_s: the host ends the call
    then (ALLOTTED_TIMEOUT), ringing included. observe: told every HostEvent as it happens, on the clock's
    thread or the call's, so it must be quick.
    """

    rate_hz: int = 8000
    wire: str = ""
    args: str = ""
    uuid: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    voice: str = "en-gb"
    quiet_ms: int = 800
    patience_s: float = 30.0
    max_s: float = 300.0
    observe: EventObserver | None = None

    def wire_encoding(self) -> str:
        """The line's encoding. Raises ValueError naming what is allowed."""
        if self.rate_hz not in WIRES:
            raise ValueError(f"rate_hz {self.rate_hz} is not one of {', '.join(map(str, WIRES))}")
        wire = self.wire or WIRES[self.rate_hz][0]
        if wire not in WIRES[self.rate_hz]:
            allowed = ", ".join(WIRES[self.rate_hz])
            raise ValueError(f"wire {wire!r} at {self.rate_hz} Hz is not one of {allowed}")
        return wire


@dataclass(frozen=True)
class CallRecord:
    """A call that is over. answered_s is time.monotonic() at the recording's first sample; 0.0 when never
    answered.

    result is what the handler returned (or its run() did), error what it raised.
    """

    session: EmbeddedSession
    recording: Recording
    events: Sequence[HostEvent]
    answered_s: float
    clock: ClockStats
    result: Any
    error: Exception | None

    @property
    def audio(self) -> bytes:
        """Interleaved s16 at the call's rate, caller left and AI right."""
        return self.recording.stereo()


class _Playback:
    """A file being played: the clock's thread takes it, the handler's thread asks whether it is over."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm = pcm
        self._at = 0

    @property
    def heard(self) -> bool:
        return self._at >= len(self._pcm)

    def take(self, size: int) -> bytes:
        """The next frame of `size` bytes, silence after the end."""
        frame = self._pcm[self._at : self._at + size]
        self._at += size
        return frame.ljust(size, b"\0")


class Line:
    """The media side of one call: what the caller's telephone and the wire are to FreeSWITCH.

    tick() is the clock thread's. The MediaLine methods are the handler's thread's.
    """

    def __init__(self, uuid: str, options: CallOptions, tick_ms: int) -> None:
        self.recording = Recording(options.rate_hz)
        self._uuid, self._tick_ms = uuid, tick_ms
        self._pcm = Format("s16", options.rate_hz)
        self._wire = Format(options.wire_encoding(), options.rate_hz)
        self._stream: HostStream | None = None
        self._playback: _Playback | None = None
        self._held = False

    # ---- the handler's thread ----

    def open_stream(self, app_rate_hz: int) -> None:
        self._stream = HostStream.create(
            self._uuid,
            rate_hz=self._pcm.rate_hz,
            wire=self._wire.encoding,
            app_rate_hz=app_rate_hz,
            frame_ms=self._tick_ms,
        )

    def close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def pause_stream(self, *directions: str) -> None:
        if self._stream is not None:
            self._stream.pause(*directions)

    def resume_stream(self, *directions: str) -> None:
        if self._stream is not None:
            self._stream.resume(*directions)

    def play(self, path: str) -> Callable[[], bool]:
        playback = self._playback = _Playback(read_mono(Path(path), self._pcm.rate_hz))
        return lambda: playback.heard

    def stop_playing(self) -> None:
        self._playback = None

    # ---- any thread ----

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tells the stream, if it is open, what the host has seen."""
        stream = self._stream
        if stream is not None:
            stream.tell(event)

    def hold(self, held: bool) -> None:
        """The caller holds the call, or takes it back."""
        if held != self._held:
            self._held = held
            self.tell({"type": "host.hold" if held else "host.unhold"})

    def unload(self) -> None:
        """Closes the stream under the call."""
        stream = self._stream
        if stream is not None:
            stream.tell({"type": "host.unloaded"})
            stream.close()

    # ---- the clock's thread ----

    def tick(self, caller_says: bytes) -> bytes:
        """One frame of the caller in, one for the caller out (s16 at the call's rate); both go on record."""
        held = self._held
        captured = self._through_wire(bytes(len(caller_says)) if held else caller_says)
        playback = self._playback
        background = playback.take(len(captured)) if playback else bytes(len(captured))
        heard = self._through_wire(self._exchange(captured, background, held))
        self.recording.add(captured, heard)
        return heard

    def _exchange(self, captured: bytes, background: bytes, held: bool) -> bytes:
        """Capture, then inject, as a media bug is called; the application's audio replaces a playback's.

        A caller who holds the call is sent nothing: what is injected keeps its place, a playback goes on.
        """
        stream = self._stream
        if stream is not None:
            stream.host_capture(captured)
        if held:
            return bytes(len(background))
        return stream.host_inject(background)[0] if stream is not None else background

    def _through_wire(self, pcm: bytes) -> bytes:
        return convert(convert(pcm, self._pcm, self._wire), self._wire, self._pcm)


class EmbeddedCall:
    """A call under way on an EmbeddedHost: its caller, line, session and thread.

    Made by EmbeddedHost.place().
    """

    def __init__(self, handler: Handler, script: Sequence[Step], options: CallOptions, tick_ms: int) -> None:
        uuid = options.uuid or str(uuids.uuid4())
        self._handler, self._options, self._tick_ms = handler, options, tick_ms
        self._line = Line(uuid, options, tick_ms)
        self._caller = Caller(
            script,
            lambda what: speech(what, options.rate_hz, options.voice),
            rate_hz=options.rate_hz,
            frame_ms=tick_ms,
            quiet_ms=options.quiet_ms,
            patience_s=options.patience_s,
            observe=self._caller_did,
        )
        self.session = EmbeddedSession(
            self._line, uuid, _variables(uuid, options), tick_ms=tick_ms, on_hangup=self._has_ended
        )
        self._events: list[HostEvent] = []
        self._answered_s = 0.0
        self._ticks = 0
        self._ended = threading.Event()
        self._result: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"call-{uuid[:8]}", daemon=True)

    @property
    def over(self) -> bool:
        """Whether the call has ended and its handler has returned."""
        return self._ended.is_set() and not self._thread.is_alive()

    def start(self) -> None:
        """Starts the handler. Once per call."""
        self._thread.start()

    def hang_up(self, cause: str = "NORMAL_CLEARING", by: str = "host") -> None:
        """Hangs up in the name of "caller" or "host". Any thread."""
        self.session.hang_up(cause, by)

    def hold(self) -> None:
        """The caller puts the call on hold, as telephones do by re-INVITE: silence both ways. Any thread."""
        self._line.hold(True)

    def unhold(self) -> None:
        """The caller takes the call back. Any thread."""
        self._line.hold(False)

    def unload(self) -> None:
        """Does to the call what `unload mod_audio_stream` does. Any thread."""
        self._line.unload()

    def finish(self, handler_end_s: float = HANDLER_END_S) -> None:
        """Waits until the call is over.

        Raises HandlerStuck when the handler goes on for longer than handler_end_s after it.
        """
        self._ended.wait()
        self._thread.join(handler_end_s)
        if self._thread.is_alive():
            uuid = self.session.get_uuid()
            raise HandlerStuck(f"call {uuid}: the handler is still running {handler_end_s} s after the end")

    def record(self, clock: ClockStats) -> CallRecord:
        """What there is to say about the call, once it is over."""
        return CallRecord(
            session=self.session,
            recording=self._line.recording,
            events=tuple(self._events),
            answered_s=self._answered_s,
            clock=clock,
            result=self._result,
            error=self._error,
        )

    def tick(self, skipped: int) -> None:
        """One period of the clock, and `skipped` that went missing before it.

        The clock's thread. Never raises.
        """
        try:
            self._tick(skipped)
        except Exception:
            log.exception("call %s: the host could not go on", self.session.get_uuid())
            self.hang_up("DESTINATION_OUT_OF_ORDER")

    def _tick(self, skipped: int) -> None:
        if self.session.hung_up_by:
            return
        self._ticks += 1 + skipped
        if self.session.answered():
            self._media(skipped)
        self.session.advance(1 + skipped)
        if self._ticks * self._tick_ms >= self._options.max_s * 1000:
            self.hang_up("ALLOTTED_TIMEOUT")

    def _media(self, skipped: int) -> None:
        if not self._answered_s:
            self._answered_s = time.monotonic()
            self._note("answered", self._answered_s, {})
        elif skipped:
            self._line.recording.add_silence(skipped * self._tick_ms)
            self._caller.skip(skipped)
        said = self._caller.tick()
        for key in said.digits:
            self.session.press(key)
        self._caller.hear(self._line.tick(said.frame))
        if said.hangup:
            self.hang_up(said.hangup, "caller")

    def _run(self) -> None:
        try:
            result = self._handler(self.session, self._options.args)
            self._result = result.run() if hasattr(result, "run") else result
        except Exception as error:
            log.exception("call %s: the handler failed", self.session.get_uuid())
            self._error = error
        finally:
            self.session.hang_up("NORMAL_CLEARING", "handler")  # a handler's return ends the call
            self._line.close_stream()

    def _has_ended(self, cause: str, by: str) -> None:
        self._note("hangup", time.monotonic(), {"cause": cause, "by": by})
        self._ended.set()

    def _caller_did(self, kind: str, at_ms: float, data: dict[str, Any]) -> None:
        self._note(kind, self._answered_s + at_ms / 1000, data)

    def _note(self, kind: str, at_s: float, data: dict[str, Any]) -> None:
        event = HostEvent(kind, at_s, data)
        self._events.append(event)
        if self._options.observe is not None:
            self._options.observe(event)


class EmbeddedHost:
    """Places calls and drives them all from one clock. A context manager; place() and close() may be called
    from any thread.

    own_clock=False starts no thread: whoever made the host calls tick(), which is how tests run without
    sleeping.
    """

    def __init__(self, *, tick_ms: int = TICK_MS, burst: int = BURST_TICKS, own_clock: bool = True) -> None:
        self._tick_ms = tick_ms
        self._clock = MediaClock(self.tick, tick_ms=tick_ms, burst=burst)
        self._own_clock = own_clock
        self._lock = threading.Lock()
        self._calls: tuple[EmbeddedCall, ...] = ()  # replaced under the lock, so that tick() needs none

    def __enter__(self) -> EmbeddedHost:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def clock(self) -> ClockStats:
        """A copy of the clock's counters."""
        return replace(self._clock.stats)

    def place(self, handler: Handler, script: Sequence[Step] = (), **options: Any) -> EmbeddedCall:
        """Places a call and returns at once.

        options: fields of CallOptions. Raises ValueError for what cannot be placed.
        """
        call = EmbeddedCall(handler, script, CallOptions(**options), self._tick_ms)
        with self._lock:
            self._calls = (*(other for other in self._calls if not other.over), call)
            if self._own_clock:
                self._clock.start()
        call.start()
        return call

    def place_call(self, handler: Handler, script: Sequence[Step] = (), **options: Any) -> CallRecord:
        """Places a call and waits for its end. Raises what the handler raised, and HandlerStuck."""
        call = self.place(handler, script, **options)
        call.finish()
        record = call.record(self.clock)
        if record.error is not None:
            raise record.error
        return record

    def tick(self, skipped: int = 0) -> None:
        """One period for every call, after `skipped` that went missing. One thread at a time."""
        for call in self._calls:
            call.tick(skipped)

    def close(self) -> None:
        """Hangs up whatever is still up (MANAGER_REQUEST), waits for the handlers and stops the clock.

        Raises HandlerStuck.
        """
        with self._lock:
            calls, self._calls = self._calls, ()
        for call in calls:
            call.hang_up("MANAGER_REQUEST")
        self._clock.stop()
        for call in calls:
            call.finish()


def place_call(handler: Handler, script: Sequence[Step] = (), **options: Any) -> CallRecord:
    """One call on a host of its own: EmbeddedHost.place_call(), closed afterwards."""
    with EmbeddedHost() as host:
        return host.place_call(handler, script, **options)


def speech(what: str | bytes | Path, rate_hz: int, voice: str) -> bytes:
    """What a Say says, as s16 mono at rate_hz: a text spoken by espeak-ng, a WAV file, or the samples."""
    if isinstance(what, bytes):
        return what
    if isinstance(what, Path):
        return read_mono(what, rate_hz)
    from ivr_ai.tts import local_voice as voices  # espeak-ng is needed for texts only

    return trimmed(voices.speak(what, rate_hz, voice))


def read_mono(path: Path, rate_hz: int) -> bytes:
    """A WAV file as s16 mono at rate_hz. Raises OSError, and FormatError for one that is no PCM WAV file."""
    pcm, file_rate_hz = read_wav(path)
    return resample(pcm, file_rate_hz, rate_hz)


def _variables(uuid: str, options: CallOptions) -> dict[str, str]:
    """The channel variables every call has, as FreeSWITCH names them, under those of the options."""
    codec = "L16" if options.wire_encoding() == "s16" else options.wire_encoding().upper()
    rate = str(options.rate_hz)
    return {
        "uuid": uuid,
        "direction": "inbound",
        "caller_id_number": "1000",
        "destination_number": "1234",
        "read_codec": codec,
        "read_rate": rate,
        "write_codec": codec,
        "write_rate": rate,
        **options.variables,
    }
