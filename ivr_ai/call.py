"""One call, from before it is answered to its last log line.

    the session's own thread   answers, then sleeps on the media clock: FreeSWITCH reads and writes frames in
                               that sleep, so nothing else is done here while audio flows
    delivery (native)          one thread for all calls: events come, the conversation is asked, what it
                               answers is performed
    uplink                     takes the stream over, and leaves it to the native transport

Over the python transport the last two are threads of the call, `downlink` and `uplink`, and audio passes
through both. Time is looked after by ivr_ai.watch, for all calls.

The conversation is shared under one lock that is never held across I/O. Whoever notices the end (the caller,
the model, the clock) says so with _end(), which wakes the session's thread; only that thread tears down.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ivr_ai import failure, watch
from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import Stream, StreamClosed, StreamError, StreamFull, StreamNotFound
from ivr_ai.bus import Bus
from ivr_ai.config import Settings
from ivr_ai.events import Observer, Reporter
from ivr_ai.functions import Function, Functions
from ivr_ai.leg import leg_of
from ivr_ai.realtime import session_update as sessions
from ivr_ai.realtime.actions import Action, CallFunction, EndItem, Fail, Flush, Notify, Ready, Send
from ivr_ai.realtime.choose import choose
from ivr_ai.realtime.conversation import Conversation
from ivr_ai.realtime.local_turns import LocalTurns, Turn
from ivr_ai.realtime.native import NativeTransport
from ivr_ai.realtime.transport import ConnectError, TransportClosed
from ivr_ai.summary import CallSummary, p50_ms

if TYPE_CHECKING:
    from ivr_ai.realtime.websocket_client import Attempt, WebSocketTransport

log = logging.getLogger("ivr_ai.call")

SLEEP_MS = 10_000  # of the session's thread, which a wake() or the call's end cuts short
GRACE_S = 0.5  # for the connection to report its own timeout first
OPENED_TRY_S = 0.2  # how often to look whether the call has ended before its stream was opened
CAPTURE_TIMEOUT_MS = 1000
JOIN_S = 1.0
GOODBYE = "the server ended the conversation"


class Call:
    """One call. run() belongs to the session's thread; it returns when the call is over or has left us."""

    def __init__(
        self,
        session: Any,
        settings: Settings,
        *,
        observer: Observer | None = None,
        functions: Mapping[str, Function] | None = None,
        clock: Callable[[], float] = time.monotonic,
        bus: Bus | None = None,
    ) -> None:
        """session: FreeSWITCH's, or one with its methods. functions: what the model may call, by name.

        observer: told every CallEvent at once, on the call's threads. bus: told them too; who made it sees to
        the timeline then, else the call does.
        """
        self._leg = leg_of(session)
        self._settings = settings
        self._reporter = Reporter(
            self._leg.uuid, observer, settings.timeline_dir, clock, agent=settings.agent, bus=bus
        )
        self._functions = Functions(self._leg.uuid, functions)
        self._dial: Attempt | None = None  # python transport: the attempt to connect
        self._clock = clock
        self.uuid: str = self._leg.uuid
        self._lock = threading.Lock()  # the conversation
        self._conversation = Conversation(
            settings, self._build_session(self._leg.expected_format(settings.sample_rate_hz))
        )
        self._transport: WebSocketTransport | NativeTransport | None = None
        self._stream: Stream | None = None
        self._output_format = Format("s16", settings.output_rate_hz)
        self._workers: list[threading.Event] = []  # each set when its thread is done
        self._ready = False  # the server has accepted the session
        self._settled = threading.Event()  # ready, or over
        self._over = threading.Event()
        self._reason = ""
        self._failure: str | None = None
        self._pinged_s = 0.0
        self._stream_started = False
        self._stream_id: str | None = None  # once it is open
        self._stream_opened = threading.Event()  # publishes the id
        self._stream_gone = False
        self._last_words = False  # the server has said goodbye, and the caller still hears it
        self._started_s = clock()

    # ---- the session's thread ------------------------------------------------------------------------------

    def run(self) -> CallSummary:
        """Holds the conversation, once; returns its summary. Raises nothing that it could have handled."""
        try:
            return self._run()
        finally:
            self._leg.release()  # who still refers to this call must not keep FreeSWITCH's session alive

    def _run(self) -> CallSummary:
        watch.calls.add(self)
        try:
            self._connect()
            self._converse()
            watch.calls.remove(self)
            if self._failure is not None and self._leg.ready():
                self._apologise()
        except StreamError as error:
            if self._leg.ready():  # else the caller was gone before there was a stream to open
                self._end(str(error), failed=True)
        finally:
            watch.calls.remove(self)
            summary = self._finish()
        if self._failure is not None:
            failure.act(self._leg, self._settings)
        elif self._settings.end_action == "hangup" and self._leg.ready():
            self._leg.hang_up()
        return summary

    def _converse(self) -> None:
        leg = self._leg
        if leg.answered():
            self._start_stream()  # the caller is talking already: keep what they say
        while leg.ready() and not self._settled.is_set():
            leg.sleep(SLEEP_MS)
        if self._over.is_set() or not leg.ready():
            return
        if not self._stream_started:
            self._start_stream()
        while leg.ready() and not self._over.is_set():
            leg.sleep(SLEEP_MS)

    def _start_stream(self) -> None:
        """Answers if need be, and opens the stream unless the dialplan has, for us. Raises StreamNotFound.

        From the answer on the caller's audio comes in and waits for this thread: be quick.
        """
        self._stream_started = True
        self._spawn("up", self._uplink)
        if not self._leg.answered():
            self._leg.answer()
        self._reporter.tell("answered")
        self._stream_id = self._leg.open_stream()
        self._stream_opened.set()

    # ---- the watch's thread --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time passes. Quick; neither waits nor sends."""
        if self._settled.is_set() and (self._over.is_set() or not self._stream_started):
            self._wake()  # again: a broadcast on the channel may have eaten the first one
        if self._over.is_set():
            return
        now_s = self._clock()
        if self._ready:
            self._check_alive(now_s)
        else:
            self._check_connecting(now_s)
        if self._stream is not None:
            self._check_stream(now_s)
        if 0 < self._settings.max_call_s < now_s - self._started_s:
            self._end(f"call limit of {self._settings.max_call_s:g} s reached (IVR_AI_MAX_CALL_S)")

    def _check_connecting(self, now_s: float) -> None:
        """The connection has its own timeout and says more; the server's first words have this one."""
        ms = self._settings.connect_timeout_ms
        if now_s - self._started_s > ms / 1000 + GRACE_S:
            self._end(
                f"the server accepted no session within {ms} ms (IVR_AI_CONNECT_TIMEOUT_MS)", failed=True
            )

    def _check_stream(self, now_s: float) -> None:
        """What has been heard, and whether somebody else has stopped the stream.

        That has to be seen twice: the end of the call closes it too, and may be noticed a little later.
        """
        with self._lock:
            actions = self._report_marks(now_s) + self._conversation.on_tick(now_s)
        self._perform(actions)
        if self._last_words and not self._has_more_to_say():
            self._end(GOODBYE)
        gone, self._stream_gone = self._stream_gone, self._stream.closed
        if gone and self._stream_gone:
            self._end("the audio stream was stopped")

    def _report_marks(self, now_s: float) -> list[Action]:
        """Under the lock. Tells the conversation how far its items have been heard."""
        actions: list[Action] = []
        for item in self._conversation.unheard_items():
            with contextlib.suppress(StreamNotFound):
                actions += self._conversation.on_mark(self._stream.mark(item), now_s)
        return actions

    def _check_alive(self, now_s: float) -> None:
        """A server that is silent too long is asked for a sign of life; one that gives none has hung."""
        if self._transport.pings_itself:
            return
        silent_s = now_s - self._transport.last_received_s
        if not 0 < self._settings.ping_interval_s <= silent_s:
            return
        if self._pinged_s <= self._transport.last_received_s:
            self._pinged_s = now_s
            threading.Thread(target=self._ping, name=f"ivr-ping-{self.uuid[:8]}", daemon=True).start()
        elif now_s - self._pinged_s > self._settings.ping_timeout_s:
            self._end(f"the server has been silent for {silent_s:.0f} s and answers no ping", failed=True)

    def _ping(self) -> None:
        with contextlib.suppress(TransportClosed):
            self._transport.ping()

    # ---- the session's thread, at the end ------------------------------------------------------------------

    def _apologise(self) -> None:
        """Says sorry in a local voice, whatever state the model is in. Raises StreamNotFound."""
        if self._transport is not None:
            self._transport.abort()
        if not self._stream_started:
            self._start_stream()
        self._stream = self._stream or Stream.attach(self.uuid, self._stream_id)
        with contextlib.suppress(StreamClosed):
            failure.speak_apology(self._leg, self._stream, self._settings)

    def _finish(self) -> CallSummary:
        """Ends threads, sockets and the stream; reports."""
        self._over.set()
        self._settled.set()
        underruns, dropped_ms = 0, 0.0
        if self._stream is not None:
            with self._lock:
                actions = self._report_marks(self._clock())
            for action in actions:
                if isinstance(action, Notify):
                    self._notify(action)
        if self._stream_id is not None and not (self._stream and self._stream.closed):
            # A transferred call goes on without us. The id of a closed stream may be another's by now.
            self._leg.stop_stream(self._stream_id)
        if self._stream is not None:
            self._stream.close()
            stats = self._stream.stats()
            underruns = stats.inject_underruns
            dropped = stats.capture_dropped_samples + stats.capture_discarded_samples
            dropped_ms = dropped * 1000 / self._stream.rate_hz
        self._stop_transport()
        for done in self._workers:
            done.wait(JOIN_S)
        if self._transport is not None:
            self._transport.release()
        if self._leg.ready():
            # Takes up a wake() that came too late: it would cut short what the dialplan does next.
            self._leg.sleep(1)
        return self._summarise(underruns, dropped_ms)

    def _stop_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()
        elif self._dial is not None:
            self._dial.abort()

    def _summarise(self, underruns: int, dropped_ms: float) -> CallSummary:
        totals = self._conversation.totals
        summary = CallSummary(
            uuid=self.uuid,
            reason=self._reason or "the caller hung up, or the call was taken elsewhere",
            duration_s=round(self._clock() - self._started_s, 3),
            turns=totals.turns,
            barge_ins=totals.barge_ins,
            underruns=underruns,
            dropped_ms=dropped_ms,
            turn_p50_ms=p50_ms(totals.turn_latencies_ms),
            tokens=totals.tokens,
        )
        log.log(logging.ERROR if self._failure is not None else logging.INFO, "%s", summary.line())
        self._reporter.tell("ended", summary.data())
        return summary

    # ---- downlink ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Begins to connect, over the transport that the settings choose."""
        if choose(self._settings) == "native":
            self._transport = NativeTransport(self._settings, self, events=Conversation.EVENTS)
            try:
                self._transport.open()
            except ConnectError as error:
                self.on_closed(error)
            return
        from ivr_ai.realtime.websocket_client import Attempt

        self._dial = Attempt(self._settings)
        self._spawn("down", self._downlink)

    def on_open(self) -> None:
        """The connection is open. On the thread that delivers events, as the next two."""
        self._reporter.tell("connected", {"ms": round((self._clock() - self._started_s) * 1000, 1)})

    def on_event(self, event: dict[str, Any]) -> None:
        """An event of the native transport."""
        if self._over.is_set():
            return  # it was on its way when the call ended
        try:
            self._on_event(event)
        except StreamClosed:
            pass  # the call is over; the session's thread knows
        except Exception as error:
            log.exception("call %s: event %s", self.uuid, event.get("type"))
            self._end(f"internal error: {type(error).__name__}: {error}", failed=True)

    def on_closed(self, error: ConnectError | TransportClosed) -> None:
        """The connection never opened, or has ended."""
        if isinstance(error, ConnectError):
            self._end(error.reason, failed=True)
        else:
            self._lost(error)

    def _downlink(self) -> None:
        """The python transport's thread."""
        try:
            transport = self._dial.connect()
        except ConnectError as error:
            self.on_closed(error)
            return
        self._transport = transport
        if self._over.is_set():
            transport.release()
            return
        self.on_open()
        try:
            while not self._over.is_set():
                self._on_event(transport.recv())
        except TransportClosed as closed:
            self._lost(closed)
        except StreamClosed:
            pass  # the call is over; the session's thread knows

    def _on_event(self, event: dict[str, Any]) -> None:
        now_s = self._clock()
        kind = event.get("type")
        if kind == "response.output_audio.delta":
            self._on_audio(event, now_s)
            return
        if kind == "transport.audio":
            self._on_queued(event, now_s)
            return
        if kind == "transport.complaint":
            self._reporter.complain(event["about"], event["message"])
            return
        stopped = kind == "input_audio_buffer.speech_stopped" and self._stream is not None
        last_speech_s = self._stream.last_speech_s() if stopped else None
        try:
            with self._lock:
                actions = self._conversation.on_event(event, now_s, last_speech_s)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._reporter.complain("malformed", f"the server sent a malformed {kind!s:.60} event: {error}")
            return
        self._perform(actions)

    def _on_audio(self, event: dict[str, Any], now_s: float) -> None:
        item, delta = event.get("item_id"), event.get("delta")
        if not isinstance(item, str) or not isinstance(delta, str) or self._stream is None:
            self._reporter.complain(
                "malformed", "the server sent audio without an item, or before it was asked to"
            )
            return
        with self._lock:
            generation = self._conversation.on_audio(str(event.get("response_id")), item, now_s)
        if generation is None:
            return
        try:
            self._stream.inject(base64.b64decode(delta, validate=True), item, self._output_format, generation)
        except ValueError as error:
            self._reporter.complain("base64", f"the server sent audio that is not base64: {error}")
        except StreamFull as error:
            self._reporter.complain("full", f"a reply is too long to hold and loses its end: {error}")

    def _on_queued(self, event: dict[str, Any], now_s: float) -> None:
        """The native transport queues audio of an item, or holds it back until it is told what to do."""
        response, item = event["response_id"], event["item_id"]
        self._stream.adopt(item, event["mark"])
        with self._lock:
            if not event["first"] and item not in self._conversation.unheard_items():
                return  # it has been heard to its end, or cut short, since this was written
            generation = self._conversation.on_audio(response, item, now_s)
        if event["generation"] == 0:
            self._transport.route(response, generation)

    def _lost(self, closed: TransportClosed) -> None:
        if closed.code != 1000 or not self._ready:
            self._end(f"lost the server: {closed}", failed=True)
        elif self._has_more_to_say():
            self._last_words = True  # the caller hears the reply out: _check_stream() sees its end
        else:
            self._end(GOODBYE)

    def _has_more_to_say(self) -> bool:
        """Whether something is queued for the caller, or playing."""
        stats = self._stream.stats() if self._stream is not None else None
        return stats is not None and bool(stats.inject_queued_samples or stats.inject_playing)

    # ---- uplink --------------------------------------------------------------------------------------------

    def _uplink(self) -> None:
        stream = self._attach()
        if stream is None:
            return
        self._take_over(stream)
        self._settled.wait()
        if self._over.is_set():
            return
        with self._lock:
            actions = self._conversation.update_session(self._build_session(stream.wire))
            actions += self._conversation.start(self._clock())
        try:
            if self._transport.carries_audio:
                self._join(stream, self._transport, actions)
                return
            self._perform(actions)  # first: audio must not come before the update that says what it is
            if sessions.server_takes_turns(self._settings):
                self._send_audio(stream, self._transport)
            else:
                self._send_turns(stream, self._transport)
        except StreamClosed:
            pass
        except TransportClosed as closed:
            self._lost(closed)

    def _attach(self) -> Stream | None:
        """The stream, once it has been started; None when the call is over before that."""
        while not self._over.is_set():
            if self._stream_opened.wait(OPENED_TRY_S):
                try:
                    return Stream.attach(self.uuid, self._stream_id)
                except StreamNotFound:
                    self._end("the audio stream was stopped")
        return None

    def _take_over(self, stream: Stream) -> None:
        """Says how audio is to be captured and held, and makes the stream the call's."""
        settings = self._settings
        stream.set_prebuffer(settings.prebuffer_ms)
        with self._lock:
            self._conversation.generation = stream.generation  # it may have been flushed before it was ours
        self._input_format = sessions.input_format(settings, stream.wire)
        self._output_format = sessions.output_format(settings, stream.wire)
        stream.setup_capture(self._input_format, *self._chunks(), settings.speech_hang_ms)
        self._stream = stream

    def _join(self, stream: Stream, transport: NativeTransport, actions: list[Action]) -> None:
        """Leaves audio to the transport: the model's before it can come, the caller's after our words."""
        chunk_ms, quiet_ms = self._chunks()
        transport.attach(
            stream,
            self._input_format,
            self._output_format,
            chunk_ms=chunk_ms,
            quiet_chunk_ms=quiet_ms,
            hang_ms=self._settings.speech_hang_ms,
        )
        self._perform(actions)
        transport.listen()

    def _chunks(self) -> tuple[int, int]:
        """How much of the caller to send at a time while they speak, and in silence, in ms."""
        return self._settings.frame_ms, max(self._settings.frame_ms, self._settings.quiet_chunk_ms)

    def _send_audio(self, stream: Stream, transport: WebSocketTransport) -> None:
        while not self._over.is_set():
            chunk = stream.capture(CAPTURE_TIMEOUT_MS)
            if chunk:
                transport.send_audio(chunk)

    def _send_turns(self, stream: Stream, transport: WebSocketTransport) -> None:
        """The same, where we decide when the caller has spoken."""
        whole = self._settings.input_mode == "item"
        bytes_per_ms = self._input_format.rate_hz * self._input_format.bytes_per_sample / 1000
        turns = LocalTurns(
            bytes_per_ms, self._settings.vad_silence_ms, self._settings.vad_prefix_ms, keep=whole
        )
        while not self._over.is_set():
            chunk = stream.capture(CAPTURE_TIMEOUT_MS)
            if not chunk:
                continue
            if not whole:
                transport.send_audio(chunk)
            self._on_turn(turns.feed(chunk, stream.silent_ms()), turns, whole)

    def _on_turn(self, turn: Turn, turns: LocalTurns, whole: bool) -> None:
        now_s = self._clock()
        if turn is Turn.NOTHING:
            return
        with self._lock:
            if turn is Turn.STARTED:
                actions = self._conversation.on_caller_started(now_s)
            else:
                said = base64.b64encode(turns.take()).decode("ascii") if whole else None
                last_speech_s = now_s - self._settings.vad_silence_ms / 1000
                actions = self._conversation.on_caller_stopped(now_s, last_speech_s)
                actions += self._conversation.on_utterance(said, now_s)
        self._perform(actions)

    # ---- any thread ----------------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        """Does what the conversation wants, in order."""
        for action in actions:
            match action:
                case Send(event):
                    self._send(event)
                case Flush():
                    self._perform(self._flush())
                case EndItem(item):
                    self._stream.end(item)
                case Notify():
                    self._notify(action)
                case CallFunction():
                    self._spawn("function", self._run_function, action)
                case Ready():
                    self._ready = True
                    self._settled.set()
                    self._wake()
                case Fail(reason):
                    self._end(reason, failed=True)

    def _notify(self, action: Notify) -> None:
        self._reporter.tell(action.kind, action.data, action.at_s)

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._transport.send(event)
        except TransportClosed as closed:
            self._lost(closed)

    def _flush(self) -> list[Action]:
        if self._stream is None:
            return []
        with self._lock:  # around the cut, too: who looks in between would take it for an end
            flushed = self._stream.flush()
            marks = []
            for item in self._conversation.unheard_items():
                with contextlib.suppress(StreamNotFound):
                    marks.append(self._stream.mark(item))
            return self._conversation.on_flushed(flushed, marks, self._clock())

    def _run_function(self, call: CallFunction) -> None:
        output = self._functions.output(call)
        with self._lock:
            actions = self._conversation.on_function_output(call.call_id, output, self._clock())
        self._perform(actions)

    def _end(self, reason: str, *, failed: bool = False) -> None:
        """The first reason counts. Wakes the session's thread, which does the rest."""
        with self._lock:
            first = not self._over.is_set()
            if first:
                self._reason = reason
                self._failure = reason if failed else None
                self._over.set()
                self._settled.set()
        if first:
            if failed:
                self._reporter.tell("failure", {"reason": reason})
            self._wake()

    def _wake(self) -> None:
        self._leg.wake()

    def _build_session(self, wire: Format) -> dict[str, Any]:
        return sessions.build_session(self._settings, wire)

    def _spawn(self, name: str, target: Callable[..., None], *args: Any) -> None:
        """Runs something on a thread of ours; what it did not expect ends the call, not the process.

        Its end is an Event: Thread.join() would leave an entry in threading's tables for each of FreeSWITCH's
        threads.
        """
        done = threading.Event()

        def run() -> None:
            try:
                target(*args)
            except Exception as error:
                log.exception("call %s: %s", self.uuid, name)
                self._end(f"internal error: {type(error).__name__}: {error}", failed=True)
            finally:
                done.set()

        self._workers.append(done)
        threading.Thread(target=run, name=f"ivr-{name}-{self.uuid[:8]}", daemon=True).start()
