"""One call, from before its answer to its last log line: wires leg, link, conversation and stream together.

    the call's own thread   answers, then sleeps on the media clock: FreeSWITCH reads and writes frames in
                            that sleep, so nothing else is done here while audio flows
    delivery (native)       one thread for all calls: events come, the conversation is asked
    serve                   joins the stream and a link, then leaves the audio to the link

Over the python transport the last two are threads of the call, and audio passes through both. ivr_ai.watch
looks after time, for all calls.

The conversation is under one lock that is never held across I/O; what it decides is done in that order (see
outbox.py). Whoever notices the end (the caller, the model, the clock) says so with _end(), which wakes the
call's thread; only that thread tears down.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ivr_ai import ending, failure, watch
from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import MAIN, Stream, StreamBusy, StreamClosed, StreamError, StreamNotFound
from ivr_ai.bus import Bus
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Action, EndItem, Fail, Flush, Notify, RunFunction, SetTurns, ToModel
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.downlink import Downlink
from ivr_ai.ending import Ending, Kind, LastWords
from ivr_ai.events import Observer
from ivr_ai.functions import Function, Functions
from ivr_ai.leg import leg_of
from ivr_ai.outbox import Outbox
from ivr_ai.realtime.adapter import SPEECH_STARTED, SPEECH_STOPPED, RealtimeAdapter
from ivr_ai.realtime.link import Gone, Link
from ivr_ai.realtime.native import NativeTransport
from ivr_ai.realtime.negotiation import Adjusted, Refused
from ivr_ai.realtime.session_update import server_takes_turns
from ivr_ai.realtime.transport import TransportClosed
from ivr_ai.reconnects import Reconnects
from ivr_ai.reporter import Reporter
from ivr_ai.summary import CallSummary, summarise
from ivr_ai.uplink import Unanswered, Uplink, chunks_ms
from ivr_ai.workers import Workers

log = logging.getLogger("ivr_ai.call")

SLEEP_MS = 10_000  # of the call's thread, which a wake() or the call's end cuts short
OPENED_TRY_S = 0.2  # how often to look whether the call has ended before its stream was opened
JOIN_S = 1.0
UNLOADED = "mod_audio_stream was unloaded under the call"


class Call:
    """One call. run() belongs to the call's thread; it returns when the call is over or has left us."""

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
        """session: a host's session, or a Leg. functions: what the model may call, by name. observer: told
        every CallEvent at once, on the call's threads. bus: told them too; whoever made it keeps timelines.
        """
        self._leg = leg_of(session)
        self.uuid: str = self._leg.uuid
        self._settings = settings
        self._clock = clock
        self._reporter = Reporter(
            self.uuid, observer, settings.timeline_dir, clock, agent=settings.agent, bus=bus
        )
        self._functions = Functions(self.uuid, functions)
        self._workers = Workers(self.uuid, self._on_worker_error)
        self._conversation = Conversation(settings, detects=server_takes_turns(settings))
        self._outbox = Outbox(self._flush, self._perform)
        self._lock = self._outbox.lock  # of the conversation and the adapter
        self._downlink = Downlink(self._conversation, self._outbox, self._reporter.complain)
        self._links: list[Link] = []  # the last one is current
        self._adapter = RealtimeAdapter(self._conversation, settings.vad_silence_ms)
        self._serving: Link | None = None  # the link that is ready and knows what was said before
        self._reconnects = Reconnects(settings.reconnect_max, clock)
        self._stream: Stream | None = None
        # What the model hears and what it says, as agreed over the serving link.
        self._formats = Format("s16", settings.input_rate_hz), Format("s16", settings.output_rate_hz)
        self._stream_started = False
        self._stream_id: str | None = None  # once it is open
        self._stream_opened = threading.Event()  # publishes the id
        self._taken_over = threading.Event()  # publishes the stream; or the call is over
        self._stream_gone = False
        self._unloaded = False  # the host has said that the module goes, and the stream with it
        self._uplink_free = threading.Lock()  # python transport: held while a link's uplink reads
        self._unanswered = Unanswered(settings, lambda: self._conversation.turn_is_open)
        self._settled = threading.Event()  # the first link is ready, or the call is over
        self._over = threading.Event()
        self._ending: Ending | None = None
        self._last_words: LastWords | None = None
        self._started_s = clock()

    # ---- the call's thread ---------------------------------------------------------------------------------

    def run(self) -> CallSummary:
        """Holds the conversation, once. Failures of model and network never raise; bugs do."""
        try:
            return self._run()
        finally:
            self._leg.release()  # who still refers to this call must not keep FreeSWITCH's session alive

    def _run(self) -> CallSummary:
        watch.calls.add(self)
        try:
            why = self._leg.why_no_stream()  # before the answer: a call without audio is better not answered
            if why:
                self._end(ending.failure(why))
                self._play_apology()
            else:
                self._connect()
                self._converse()
                watch.calls.remove(self)
                if self._failed and self._leg.ready():
                    self._apologise()
        except StreamError as error:
            if self._leg.ready():  # else the caller was gone before there was a stream to open
                self._end(ending.failure(str(error)))
                self._play_apology()
        finally:
            watch.calls.remove(self)
            summary = self._finish()
        if self._failed:
            failure.act(self._leg, self._settings)
        elif self._settings.end_action == "hangup" and self._leg.ready():
            self._leg.hang_up()
        return summary

    @property
    def _failed(self) -> bool:
        return self._ending is not None and self._ending.failed

    def _converse(self) -> None:
        leg = self._leg
        if leg.answered():
            self._start_stream()  # the caller is talking already: keep what they say
        else:
            leg.ring()
        while leg.ready() and not self._settled.is_set():
            leg.sleep(SLEEP_MS)
        if self._over.is_set() or not leg.ready():
            return
        if not self._stream_started:
            self._start_stream()
        while leg.ready() and not self._over.is_set():
            leg.sleep(SLEEP_MS)

    def _start_stream(self) -> None:
        """Answers if need be, and opens the stream unless the dialplan has. Raises StreamError.

        From the answer on the caller's audio comes in and waits for the serving thread: be quick.
        """
        self._stream_started = True
        self._workers.spawn("serve", self._serve_first)
        if not self._leg.answered():
            self._leg.answer()
        self._reporter.tell("answered")
        self._stream_id = self._leg.open_stream()
        self._stream_opened.set()

    def _apologise(self) -> None:
        """Says sorry in a local voice, whatever state the model is in. Raises StreamNotFound."""
        self._links[-1].abort()
        if not failure.should_apologise(self._leg, self._settings):
            return
        if self._stream is not None and self._stream.closed:
            stream = failure.stream_again(self._leg)  # the module was unloaded, and may be back
            if stream is None:
                self._play_apology()
                return
            self._stream, self._stream_id = stream, stream.stream_id
        if not self._stream_started:
            self._start_stream()
        self._stream = self._stream or Stream.attach(self.uuid, self._stream_id or MAIN)
        with contextlib.suppress(StreamClosed):
            failure.speak_apology(self._leg, self._stream, self._settings)

    def _play_apology(self) -> None:
        watch.calls.remove(self)  # its wake() would cut the host's player short
        failure.play_apology(self._leg, self._settings)

    def _finish(self) -> CallSummary:
        """Ends threads, connections and the stream; reports."""
        self._over.set()
        self._settled.set()
        self._taken_over.set()
        stream = self._stream
        if stream is not None:
            with self._lock:
                actions = self._downlink.heard(stream, self._clock())
            for action in actions:
                if isinstance(action, Notify):
                    self._reporter.tell(action.kind, action.data, action.at_s)
        if self._stream_id is not None and not (stream and stream.closed):
            # A transferred call goes on without us. The id of a closed stream may be another's by now.
            self._leg.stop_stream(self._stream_id)
        if stream is not None:
            stream.close()
        for link in self._links:
            link.close()
        self._workers.wait(JOIN_S, self._clock)
        for link in self._links:
            link.release()
        if self._leg.ready():
            # Takes up a wake() that came too late: it would cut short what the dialplan does next.
            self._leg.sleep(1)
        reason, duration_s = (self._ending or ending.HUNG_UP).reason, self._clock() - self._started_s
        summary = summarise(self.uuid, reason, round(duration_s, 3), self._conversation.totals, self._stream)
        log.log(logging.ERROR if self._failed else logging.INFO, "%s", summary.line())
        self._reporter.tell("ended", summary.data())
        return summary

    # ---- the watch's thread --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time passes. Quick; neither waits nor sends on a transport that may block."""
        if self._settled.is_set() and (self._over.is_set() or not self._stream_started):
            self._leg.wake()  # again: a broadcast on the channel may have eaten the first one
        if self._over.is_set():
            return
        now_s = self._clock()
        if self._links:
            self._links[-1].tick(now_s)
        stream = self._stream
        if stream is not None:
            self._check_stream(stream, now_s)
        if 0 < self._settings.max_call_s < now_s - self._started_s and self._last_words is None:
            reason = f"call limit of {self._settings.max_call_s:g} s reached (IVR_AI_MAX_CALL_S)"
            self._end_after_words(Ending(Kind.LIMIT, reason))
        if self._last_words is not None and self._last_words.said(now_s, self._is_quiet(self._last_words)):
            self._end(self._last_words.how)

    def _check_stream(self, stream: Stream, now_s: float) -> None:
        """What has been heard, and whether the stream was closed by somebody else.

        A closed stream has to be seen twice: the end of the call closes it too, and may be told later.
        """
        talk = self._conversation
        silent_s = stream.silent_ms() / 1000 if talk.caller.speaking else 0.0
        self._decide_elsewhere(lambda: self._downlink.heard(stream, now_s) + talk.tick(now_s, silent_s))
        gone, self._stream_gone = self._stream_gone, stream.closed
        if gone and self._stream_gone:
            self._end(ending.failure(UNLOADED) if self._unloaded else ending.STOPPED)

    def _decide_elsewhere(self, decide: Callable[[], list[Action]]) -> None:
        """On a thread of all calls, which a transport that waits for its server must not hold up."""
        self._outbox.decide(decide, perform=self._perform_elsewhere)

    def _perform_elsewhere(self, perform: Callable[[], None]) -> None:
        if self._serving is None or isinstance(self._serving.transport, NativeTransport):
            perform()
        else:
            self._workers.spawn("send", perform)

    def _end_after_words(self, how: Ending) -> None:
        """Ends the call when the caller has heard what is being said, or at once when that is nothing."""
        self._last_words = words = LastWords(how, self._clock())
        if words.said(words.since_s, self._is_quiet(words)):
            self._end(how)

    def _is_quiet(self, words: LastWords) -> bool:
        """Whether the caller has heard all that is to come."""
        stats = self._stream.stats() if self._stream else None
        if stats and (stats.inject_queued_samples or stats.inject_playing):
            return False
        # At a limit of ours the model is still there: it answers what has been asked.
        return words.how.kind is not Kind.LIMIT or self._conversation.is_quiet()

    # ---- links ---------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Begins to connect: the call's first link, or the next one."""
        wire = self._stream.wire if self._stream else None
        wire = wire or self._leg.expected_format(self._settings.sample_rate_hz)
        turns = self._conversation.turns_wanted
        link = Link(self._settings, self, wire, self._workers, self._clock, turns=turns)
        with self._lock:
            self._adapter = self._adapter.for_next_link()
            self._links.append(link)
            if self._over.is_set():
                link.abort()  # the call's end has closed the links that it knew
        link.open()

    def _is_current(self, link: Link) -> bool:
        return not self._over.is_set() and bool(self._links) and link is self._links[-1]

    def on_link_open(self, link: Link) -> None:
        """The connection is open. Threads of this and the following: see ivr_ai/realtime/link.py."""
        if self._is_current(link):
            self._reporter.tell("connected", {"ms": round((self._clock() - link.began_s) * 1000, 1)})

    def on_link_ready(self, link: Link) -> None:
        """The session is agreed on: the call may be answered, or goes on."""
        if not self._is_current(link):
            return
        if link is self._links[0]:
            self._settled.set()
            self._leg.wake()
        else:
            self._workers.spawn("serve", self._serve_next, link)

    def on_link_changed(self, link: Link) -> None:
        """The session has been changed since."""
        agreed = link.agreed
        if agreed is None or link is not self._serving:
            return
        if (agreed.heard, agreed.said) != self._formats:
            link.give_up("the server has changed the session's audio format under the call")
            return
        with self._lock:
            self._conversation.turns_agreed(agreed.turns)

    def on_link_refused(self, link: Link, refused: Refused) -> None:
        """The session goes on without a field."""
        data = {"field": refused.field, "setting": refused.setting, "message": refused.message}
        self._reporter.tell("setting_refused", data)

    def on_link_adjusted(self, link: Link, adjusted: Adjusted) -> None:
        """The session has another audio format."""
        self._reporter.tell("format_adjusted", {"field": adjusted.field, "message": adjusted.message})

    def on_link_complaint(self, link: Link, about: str, message: str) -> None:
        """What the server sent was wrong."""
        self._reporter.complain(about, message)

    def on_link_event(self, link: Link, event: dict[str, Any]) -> None:
        """An event of the server, or of the native transport."""
        if not self._is_current(link):
            return
        try:
            self._on_event(link, event)
        except StreamClosed:
            pass  # the call is over; its own thread knows
        except Exception as error:
            log.exception("call %s: event %s", self.uuid, event.get("type"))
            self._on_worker_error("event", error)

    def on_link_gone(self, link: Link, gone: Gone) -> None:
        """A link has ended, or never came about."""
        if not self._is_current(link):
            return
        unused = link is not self._serving
        if unused and (gone.goodbye or not link.ready):
            self._end(ending.failure(gone.reason))
        elif gone.goodbye:
            self._end_after_words(ending.GOODBYE)
        elif self._stream is not None and self._stream.closed:
            pass  # the module was unloaded: _check_stream() ends the call
        elif gone.passing and self._reconnects.may_be_made():
            self._reconnect(gone)
        else:
            self._end(ending.failure(gone.reason))

    def _reconnect(self, gone: Gone) -> None:
        """Makes a lost connection again. What the caller says meanwhile waits in the capture ring."""
        self._reconnects.lost()
        log.warning("call %s: %s: connecting again", self.uuid, gone.reason)
        self._reporter.tell("reconnecting", {"reason": gone.reason})
        self._decide(self._lose)
        self._connect()

    def _lose(self) -> list[Action]:
        self._serving = None
        return self._conversation.link_lost(self._clock())

    # ---- serving a link ------------------------------------------------------------------------------------

    def _serve_first(self) -> None:
        """The first link's thread: from the opened stream on."""
        stream = self._attach()
        if stream is None:
            return
        self._take_over(stream)
        self._settled.wait()
        if not self._over.is_set():
            self._serve(self._links[0], stream, lambda: self._conversation.start(self._clock()))

    def _serve_next(self, link: Link) -> None:
        """A next link's thread: the model is told what was said before."""
        self._taken_over.wait()
        if self._stream is not None:
            self._serve(link, self._stream, lambda: self._resume(link))

    def _resume(self, link: Link) -> list[Action]:
        turns = link.agreed.turns if link.agreed else self._conversation.turns_wanted
        away_ms = round(self._reconnects.away_s * 1000)
        return [*self._conversation.link_ready(turns, self._clock()), Notify("reconnected", {"ms": away_ms})]

    def _serve(self, link: Link, stream: Stream, begin: Callable[[], list[Action]]) -> None:
        """Joins stream and link: the model's audio before it can come, the caller's after our first words."""
        link.want(wire=stream.wire)
        agreed = link.wait_settled()
        transport = link.transport
        if agreed is None or transport is None or not self._is_current(link):
            return
        chunk_ms, quiet_ms = chunks_ms(self._settings)
        hang_ms = self._settings.speech_hang_ms
        self._formats = agreed.heard, agreed.said
        with self._lock:
            self._conversation.turns_agreed(agreed.turns)
        try:
            if isinstance(transport, NativeTransport):
                pace = {"chunk_ms": chunk_ms, "quiet_chunk_ms": quiet_ms, "hang_ms": hang_ms}
                transport.attach(stream, agreed.heard, agreed.said, **pace)
                self._begin(link, begin)
                self._resend(transport)
                self._go_on(link)
                transport.listen()
                return
            with self._uplink_free:  # the link before may have one that still reads
                stream.setup_capture(agreed.heard, chunk_ms, quiet_ms, hang_ms)
                uplink = Uplink(stream, transport, agreed.heard, self._goes_on(link), self._unanswered)
                self._begin(link, begin)
                uplink.resend()
                self._go_on(link)
                if server_takes_turns(self._settings):
                    uplink.run_audio()
                else:
                    uplink.run_turns(self._on_turn_started, self._on_turn_stopped)
        except (StreamClosed, TransportClosed):
            pass  # told by those whose end it is

    def _begin(self, link: Link, begin: Callable[[], list[Action]]) -> None:
        """From now on the link is the one that is talked over, unless it has just been lost."""

        def decide() -> list[Action]:
            if not self._goes_on(link)():
                return []
            self._serving = link
            return begin()

        self._decide(decide)

    def _goes_on(self, link: Link) -> Callable[[], bool]:
        return lambda: self._is_current(link) and link.gone is None

    def _resend(self, transport: NativeTransport) -> None:
        """Gives the model the caller's turn that the link before had not answered."""
        lost = self._links[-2].transport if len(self._links) > 1 else None
        if isinstance(lost, NativeTransport) and self._conversation.turn_is_open:
            transport.resend(lost)

    def _go_on(self, link: Link) -> None:
        """A next link has all that was said: what is wanted may be asked for."""
        if link is not self._links[0]:
            self._decide(lambda: self._conversation.link_resumed(self._clock()))

    def _on_turn_started(self) -> None:
        now_s = self._clock()

        def decide() -> list[Action]:
            return self._downlink.heard(self._stream, now_s) + self._conversation.caller_started(now_s)

        self._decide(decide)

    def _on_turn_stopped(self, audio_base64: str | None) -> None:
        now_s = self._clock()
        last_speech_s = now_s - self._settings.vad_silence_ms / 1000

        def decide() -> list[Action]:
            stopped = self._conversation.caller_stopped(now_s, last_speech_s)
            return stopped + self._conversation.utterance(audio_base64, now_s)

        self._decide(decide)

    def _attach(self) -> Stream | None:
        """The stream, once it has been started; None when the call is over before that."""
        while not self._over.is_set():
            if self._stream_opened.wait(OPENED_TRY_S):
                try:
                    return Stream.attach(self.uuid, self._stream_id or MAIN)
                except StreamNotFound:
                    self._end(ending.STOPPED)
        return None

    def _take_over(self, stream: Stream) -> None:
        """Makes the stream the call's; from now on what the caller says is kept in small chunks."""
        settings = self._settings
        stream.set_prebuffer(settings.prebuffer_ms)
        with self._lock:
            self._conversation.generation = stream.generation  # it may have been flushed before it was ours
        self._stream = stream
        self._taken_over.set()
        with contextlib.suppress(StreamBusy, StreamClosed):
            stream.subscribe(self)

    def on_host_event(self, event: Mapping[str, Any]) -> None:
        """A key, hold or a bridge, as the host tells it. On the thread that delivers events."""
        if self._over.is_set():
            return
        kind = str(event.get("type", "")).removeprefix("host.")
        self._unloaded = self._unloaded or kind == "unloaded"
        data = {name: value for name, value in event.items() if name != "type"}
        self._decide_elsewhere(lambda: self._conversation.host_event(kind, data, self._clock()))

    # ---- events --------------------------------------------------------------------------------------------

    def _on_event(self, link: Link, event: dict[str, Any]) -> None:
        now_s = self._clock()
        kind = event.get("type")
        stream = self._stream
        if kind == "response.output_audio.delta":
            self._downlink.delta(event, stream if self._serving else None, self._formats[1], now_s)
            return
        if kind == "transport.audio" and stream is not None and isinstance(link.transport, NativeTransport):
            self._downlink.queued(event, stream, link.transport, now_s)
            return
        if kind == "transport.complaint":
            self._reporter.complain(event["about"], event["message"])
            return
        last_speech_s = stream.last_speech_s() if stream is not None and kind == SPEECH_STOPPED else None

        def decide() -> list[Action]:
            # What has been heard by now cannot be cut short.
            marks = self._downlink.heard(stream, now_s) if kind == SPEECH_STARTED else []
            return marks + self._adapter.on_event(event, now_s, last_speech_s)

        try:
            self._decide(decide)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._reporter.complain("malformed", f"the server sent a malformed {kind!s:.60} event: {error}")

    # ---- any thread: decisions, and what they want done ----------------------------------------------------

    def _decide(self, decide: Callable[[], list[Action]]) -> None:
        self._outbox.decide(decide)

    def _flush(self) -> list[Action]:
        stream = self._stream
        if stream is None:
            return []
        flushed = stream.flush()
        return self._conversation.flushed(flushed, self._downlink.marks(stream), self._clock())

    def _perform(self, action: Action) -> None:
        match action:
            case EndItem(item):
                with contextlib.suppress(StreamClosed, StreamNotFound):
                    if self._stream is not None:
                        self._stream.end(item)
            case Notify():
                self._reporter.tell(action.kind, action.data, action.at_s)
            case RunFunction():
                self._workers.spawn("function", self._run_function, action)
            case Fail(reason):
                self._end(ending.failure(reason))
            case SetTurns(turns):
                if self._serving is not None:
                    self._serving.want(turns=turns)
            case Flush():
                pass  # the outbox has done it
            case _:
                self._send(action)

    def _send(self, action: ToModel) -> None:
        link = self._serving
        if link is None:
            return  # what was decided for a link that is gone: the next one is told what was said
        for event in self._adapter.encode(action):
            link.send(event)

    def _run_function(self, call: RunFunction) -> None:
        output = self._functions.output(call)
        self._decide(lambda: self._conversation.function_output(call.call_id, output, self._clock()))

    def _on_worker_error(self, name: str, error: Exception) -> None:
        """A thread of this call raised what nobody had expected: it ends the call, not the process."""
        log.error("call %s: %s", self.uuid, name, exc_info=error)
        self._end(ending.failure(f"internal error: {type(error).__name__}: {error}"))

    def _end(self, how: Ending) -> None:
        """The first ending counts. Wakes the call's thread, which does the rest."""
        with self._lock:
            if self._over.is_set():
                return
            self._ending = how
            self._over.set()
            self._settled.set()
        if how.failed:
            self._reporter.tell("failure", {"reason": how.reason})
        self._leg.wake()
