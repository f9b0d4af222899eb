"""A link: one connection of a call to the model, from the first attempt until it is gone.

    open()      connects, again while IVR_AI_CONNECT_TIMEOUT_MS lasts where a failure may pass; on_link_open()
    handshake   session.created, session.update, session.updated: see negotiation.py; on_link_ready(), once
    talk        on_link_event(), until
    gone        on_link_gone() says why, once. Nothing is heard of a link after that

A call has a current link, and a next one after a loss. Listeners are told which link it is. The transport
below carries events; with the native one audio stays in C. Listener calls come on the thread that delivers
events (native), on the link's own thread (python), on the watch's thread, or on one that calls want(): they
must be quick and must not raise.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime import negotiation
from ivr_ai.realtime.adapter import AUDIO_DONE, COMMITTED, EXPIRED, PASSING_CODES, RealtimeAdapter
from ivr_ai.realtime.choose import choose
from ivr_ai.realtime.dialects import BetaDialect
from ivr_ai.realtime.native import NativeTransport
from ivr_ai.realtime.negotiation import (
    Adjusted,
    Agreed,
    Impossible,
    Negotiation,
    Refused,
    Send,
    Settled,
    SpeakBeta,
    Step,
)
from ivr_ai.realtime.repeats import Repeats
from ivr_ai.realtime.transport import ConnectError, TransportClosed
from ivr_ai.workers import Workers

if TYPE_CHECKING:
    from ivr_ai.realtime.websocket_client import Attempt, WebSocketTransport

log = logging.getLogger("ivr_ai.realtime")

Event = dict[str, Any]

NEGOTIATED = frozenset({"session.created", "session.updated", "error"})
# What would do harm when it comes twice: the answer to a later update, audio. The adapter sees to the others.
ONCE = frozenset({"session.created", "session.updated", "response.output_audio.delta"})
# Every event wakes Python. C ends an item itself at its audio.done, and `committed` says something only where
# turns are detected here, over the python transport.
NATIVE_EVENTS = RealtimeAdapter.EVENTS - {AUDIO_DONE, COMMITTED}
GRACE_S = 0.5  # for the transport to report its own timeout first: it knows more
FIRST_WORD_S = 0.5  # how long session.created is waited for before the session is updated without it
RETRY_S = (0.1, 0.2, 0.4, 0.8)  # between attempts; the last one again and again
REFUSED_S = 1.0  # how long a refused connection is tried again: nobody listens, and the caller waits
NORMAL = 1000
# Closes after which a new connection may succeed: RFC 6455 7.4.1 and the registry of close codes.
PASSING_CLOSES = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1014})
NATIVE_PASSING_CLOSES = PASSING_CLOSES | {1002}  # libwebsockets gives 1012 to 1014 as 1002


@dataclass(frozen=True)
class Gone:
    """Why a link is gone. code: of the CLOSE, 1006 without one, 0 where it never opened.

    passing: a new link may succeed; goodbye: the server has ended the conversation in good order.
    """

    reason: str
    code: int = 0
    passing: bool = False
    goodbye: bool = False


class LinkListener(Protocol):
    """Whoever has a link. See the module's text for the threads."""

    def on_link_open(self, link: Link) -> None:
        """The connection is open."""

    def on_link_ready(self, link: Link) -> None:
        """The server has accepted the session: link.agreed says what counts."""

    def on_link_changed(self, link: Link) -> None:
        """The server has accepted another session since."""

    def on_link_refused(self, link: Link, refused: Refused) -> None:
        """The session goes on without something that was asked for."""

    def on_link_adjusted(self, link: Link, adjusted: Adjusted) -> None:
        """The session has another audio format than was asked for."""

    def on_link_event(self, link: Link, event: Event) -> None:
        """An event of the server in GA names, or one of the native transport's own."""

    def on_link_complaint(self, link: Link, about: str, message: str) -> None:
        """What the server sent was wrong."""

    def on_link_gone(self, link: Link, gone: Gone) -> None:
        """The last that is heard of it."""


class Link:
    """One connection. Everything may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        listener: LinkListener,
        wire: Format,
        workers: Workers,
        clock: Callable[[], float],
        *,
        turns: Turns | None = None,
        tools: list[Event] | None = None,
    ) -> None:
        """wire: the call's audio as far as it is known. turns, tools: what the session is to say about
        them."""
        self._settings = settings
        self._listener = listener
        self._workers = workers
        self._clock = clock
        self._lock = threading.Lock()  # of everything below; never held across I/O or a listener's call
        self._negotiation = Negotiation(settings, wire, turns, tools)
        self._steps: deque[Step | Gone] = deque()  # decided under the lock, taken in that order
        self._taking = threading.Lock()  # held by the thread that takes them
        self._repeats = Repeats()
        self._transport: NativeTransport | WebSocketTransport | None = None
        self._dial: Attempt | None = None  # python transport: the attempt under way
        self._attempts = 0
        self.began_s = clock()
        self._opened_s: float | None = None
        self._retry_at_s: float | None = None
        self._last_failure: str = ""
        self._last_code = ""  # of an error event before the session was accepted
        self._pinged_s = 0.0
        self._closing = False
        self.ready = False
        self.gone: Gone | None = None
        self._settled = threading.Event()  # no update is open, or the link is gone

    # ---- beginning -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begins to connect. Once."""
        self._connect()

    def _connect(self) -> None:
        if choose(self._settings) == "native":
            self._connect_native()
            return
        from ivr_ai.realtime.websocket_client import Attempt

        with self._lock:
            if self._is_over:
                return
            attempt = self._begin_attempt()
            self._dial = dial = Attempt(self._settings)
        self._workers.spawn("down", self._run_python, attempt, dial)

    def _connect_native(self) -> None:
        with self._lock:
            if self._is_over:
                return
            attempt = self._begin_attempt()
            hearer = _Hearer(self, attempt)
            transport = NativeTransport(self._settings, hearer, events=NATIVE_EVENTS)
            self._transport = transport
        try:
            transport.open()
        except ConnectError as error:
            self._on_closed(attempt, error)
        if self._is_over:
            transport.release()  # it was given up before there was a connection to end

    def _begin_attempt(self) -> int:
        """Under the lock. A connection that has heard nothing of those before."""
        self._attempts += 1
        self._opened_s, self._last_code = None, ""
        self._negotiation.begin_again()
        self._steps.clear()
        self._repeats = Repeats()
        return self._attempts

    def _run_python(self, attempt: int, dial: Attempt) -> None:
        """The python transport's thread: connects, then delivers events until the connection ends."""
        try:
            transport = dial.connect()
        except ConnectError as error:
            self._on_closed(attempt, error)
            return
        with self._lock:
            current = self._is_current(attempt)
            self._transport = transport if current else self._transport
        try:
            if current:
                self._deliver(attempt, transport)
        finally:
            transport.release()

    def _deliver(self, attempt: int, transport: WebSocketTransport) -> None:
        self._on_open(attempt)
        try:
            while True:
                self._on_event(attempt, transport.recv())
        except TransportClosed as closed:
            self._on_closed(attempt, closed)

    # ---- what the transport tells --------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self.gone is not None or self._closing

    def _is_current(self, attempt: int) -> bool:
        return attempt == self._attempts and not self._is_over

    def _on_open(self, attempt: int) -> None:
        with self._lock:
            if not self._is_current(attempt):
                return
            self._opened_s = self._clock()
        self._listener.on_link_open(self)

    def _on_event(self, attempt: int, event: Event) -> None:
        if not self._is_current(attempt):
            return
        kind = event.get("type")
        try:
            if kind in ONCE and self._repeats.is_repeated(event):
                return
            mine = (kind in NEGOTIATED or not self.ready) and self._negotiate(attempt, kind, event)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"the server sent a malformed {kind!s:.60} event: {error}"
            self._listener.on_link_complaint(self, "malformed", message)
            return
        if not mine:
            self._listener.on_link_event(self, event)

    def _negotiate(self, attempt: int, kind: Any, event: Mapping[str, Any]) -> bool:
        """Deals with what is about the session. Returns whether that was all there is to the event."""
        with self._lock:
            if not self._is_current(attempt):
                return True
            steps = self._steps_of(kind, event)
            if steps is None:
                return False
            self._note(steps)
        self._take()
        return kind in NEGOTIATED

    def _steps_of(self, kind: Any, event: Mapping[str, Any]) -> Sequence[Step | Gone] | None:
        """Under the lock. None: the event is none of the session's."""
        talk = self._negotiation
        if kind == "session.created":
            return talk.created(_session(event))
        if kind == "session.updated":
            return talk.updated(_session(event))
        if kind != "error":
            server_speaks = isinstance(kind, str) and not kind.startswith("transport.")
            return talk.begin() if server_speaks and talk.agreed is None else None
        error = event.get("error") or {}
        if error.get("code") == EXPIRED and self.ready:
            return [Gone("the server's session has expired (session_expired)", passing=True)]
        self._last_code = str(error.get("code") or "") if not self.ready else ""
        if self._last_code == EXPIRED:
            return []  # the CLOSE that follows lets the link try again
        if talk.is_about_update(error):
            return talk.refused(error)
        return [] if talk.is_about_old_update(error) else None

    def _note(self, steps: Sequence[Step | Gone]) -> None:
        """Under the lock, while the link is not over. Follow with _take()."""
        if any(isinstance(step, Send) for step in steps):
            self._settled.clear()
        self._steps.extend(steps)

    def _take(self) -> None:
        """Takes the steps that have been noted; returns at once where another thread is at it."""
        while self._steps and self._taking.acquire(blocking=False):
            try:
                while self._steps:
                    self._take_step(self._steps.popleft())
            finally:
                self._taking.release()

    def _take_step(self, step: Step | Gone) -> None:
        match step:
            case SpeakBeta(temperature):
                self._speak_beta(temperature)
            case Send(event):
                self.send(event)
            case Refused():
                self._listener.on_link_refused(self, step)
            case Adjusted():
                self._listener.on_link_adjusted(self, step)
            case Settled():
                self._on_settled()
            case Gone():
                self._go(step)
            case Impossible(reason):
                self._go(Gone(reason))

    def _on_settled(self) -> None:
        with self._lock:
            if self._is_over:
                return
            first, self.ready = not self.ready, True
            if not self._negotiation.is_open:
                self._settled.set()
        if first:
            self._listener.on_link_ready(self)
        else:
            self._listener.on_link_changed(self)

    def _speak_beta(self, temperature: bool) -> None:
        transport = self._transport
        if transport is not None:
            log.info("the server speaks the beta interface: so does this link")
            transport.set_dialect(BetaDialect(self._settings.temperature if temperature else None))

    # ---- its end -------------------------------------------------------------------------------------------

    def _on_closed(self, attempt: int, error: ConnectError | TransportClosed) -> None:
        with self._lock:
            if not self._is_current(attempt):
                return
            again_s = None if self.ready else self._try_again_at(error)
            if again_s is not None:
                self._retry_at_s, self._last_failure = again_s, str(error)
        if again_s is not None:
            log.debug("%s: another attempt", error)
            return
        if isinstance(error, ConnectError):
            self._go(Gone(error.reason, passing=error.passing))
            return
        goodbye = error.code == NORMAL and self.ready
        self._go(Gone(f"lost the server: {error}", error.code, self._may_pass(error.code), goodbye))

    def _may_pass(self, code: int) -> bool:
        native = isinstance(self._transport, NativeTransport)
        return code in (NATIVE_PASSING_CLOSES if native else PASSING_CLOSES)

    def _try_again_at(self, error: ConnectError | TransportClosed) -> float | None:
        """When to connect once more; None when that is no use, or no time is left."""
        now_s = self._clock()
        limit_s = self._settings.connect_timeout_ms / 1000
        if isinstance(error, ConnectError):
            passing = error.passing
            limit_s = min(limit_s, REFUSED_S) if error.refused else limit_s
        else:
            passing = self._may_pass(error.code) or self._last_code in (*PASSING_CODES, EXPIRED)
        at_s = now_s + RETRY_S[min(self._attempts, len(RETRY_S)) - 1]
        return at_s if passing and at_s < self.began_s + limit_s else None

    def _go(self, gone: Gone) -> None:
        with self._lock:
            if self._is_over:
                return
            self.gone = gone
            self._settled.set()
        self._cut()
        self._listener.on_link_gone(self, gone)

    # ---- time ----------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Time passes. The watch's thread: quick, neither waits nor sends on a transport that may block."""
        if self.ready:
            self._check_alive(now_s)
            return
        with self._lock:
            if self._is_over or self.ready:
                return
            again = self._retry_at_s is not None and now_s >= self._retry_at_s
            if again:
                self._retry_at_s = None
            silent = self._opened_s is not None and now_s - self._opened_s > FIRST_WORD_S
            steps = self._negotiation.begin() if silent else []
            self._note(steps)
        if again:
            self._connect()
        if steps:
            self._workers.spawn("hello", self._take)
        self._check_connecting(now_s)

    def _check_connecting(self, now_s: float) -> None:
        """Limits the time until the session is accepted, over all attempts."""
        limit_ms = self._settings.connect_timeout_ms
        if now_s - self.began_s > limit_ms / 1000 + GRACE_S:
            reason = f"the server accepted no session within {limit_ms} ms (IVR_AI_CONNECT_TIMEOUT_MS)"
            failure = self._last_failure if self._opened_s is None else ""
            self._go(Gone(failure or reason, passing=True))

    def _check_alive(self, now_s: float) -> None:
        """A server that is silent too long is asked for a sign of life; one that gives none has hung."""
        transport = self._transport
        if transport is None or transport.pings_itself or self._is_over:
            return
        silent_s = now_s - transport.last_received_s
        if not 0 < self._settings.ping_interval_s <= silent_s:
            return
        if self._pinged_s <= transport.last_received_s:
            self._pinged_s = now_s
            self._workers.spawn("ping", self._ping, transport)
        elif now_s - self._pinged_s > self._settings.ping_timeout_s:
            reason = f"the server has been silent for {silent_s:.0f} s and answers no ping"
            self._go(Gone(reason, 1006, passing=True))

    @staticmethod
    def _ping(transport: NativeTransport | WebSocketTransport) -> None:
        if not isinstance(transport, NativeTransport):
            with contextlib.suppress(TransportClosed):
                transport.ping()

    # ---- the session ---------------------------------------------------------------------------------------

    @property
    def agreed(self) -> Agreed | None:
        """The session as the server has it; None until the first was accepted."""
        return self._negotiation.agreed

    def want(self, *, wire: Format | None = None, turns: Turns | None = None) -> None:
        """Asks for another session, where this means another one: see wait_settled()."""
        with self._lock:
            if self._is_over:
                return
            self._note(self._negotiation.want(wire=wire, turns=turns))
        self._take()

    def wait_settled(self) -> Agreed | None:
        """Waits until no update is open; None when the link is gone, or was closed, before that."""
        self._settled.wait()
        return None if self._is_over else self.agreed

    # ---- talk ----------------------------------------------------------------------------------------------

    @property
    def transport(self) -> NativeTransport | WebSocketTransport | None:
        """What carries the audio, once the link is ready."""
        return self._transport

    def send(self, event: Event) -> None:
        """Sends an event (GA names). A link that is gone sends nothing."""
        transport = self._transport
        if transport is None or self._is_over:
            return
        with contextlib.suppress(TransportClosed):  # the end is told by the transport itself
            transport.send(event)

    def give_up(self, reason: str) -> None:
        """The connection is of no use any more, but another one may be. Told as its end."""
        self._go(Gone(reason, passing=True))

    def abort(self) -> None:
        """Ends the connection at once, whatever it is doing. Never waits.

        Nothing is told of the link any more, but for what another thread is telling at this moment.
        """
        with self._lock:
            self._closing = True
            self._settled.set()
        self._cut()

    def _cut(self) -> None:
        if self._dial is not None:
            self._dial.abort()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Says goodbye, waits at most the close timeout for the server's, and ends. Idempotent."""
        with self._lock:
            closing, self._closing = self._closing, True
            self._settled.set()
        if closing:
            return
        if self._transport is not None:
            self._transport.close()
        if self._dial is not None:
            self._dial.abort()

    def release(self) -> None:
        """Gives descriptors back: once no thread uses the transport any more."""
        self.abort()
        if self._transport is not None:
            self._transport.release()


def _session(event: Mapping[str, Any]) -> Mapping[str, Any]:
    session = event.get("session")
    if session is None:
        return {}
    if not isinstance(session, Mapping):
        raise TypeError(f"session is {session!r:.60}")
    return session


class _Hearer:
    """Listener of one attempt over the native transport."""

    def __init__(self, link: Link, attempt: int) -> None:
        self._link, self._attempt = link, attempt

    def on_open(self) -> None:
        self._link._on_open(self._attempt)

    def on_event(self, event: Event) -> None:
        self._link._on_event(self._attempt, event)

    def on_closed(self, error: ConnectError | TransportClosed) -> None:
        self._link._on_closed(self._attempt, error)


__all__ = ["Agreed", "Gone", "Link", "LinkListener", "negotiation"]
