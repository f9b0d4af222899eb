"""A session with the names, arguments and results of FreeSWITCH's, for handlers that run on the embedded
host.

Measured against mod_python3 of FreeSWITCH 1.10: sleep() and streamFile() return 1 when they ran to their end
and 0 when they were cut short; an input callback gets (session, "dtmf", digit[, arg]) and must return "" to
go on; keys wait in a queue while nobody asks for them; a break (uuid_break there, wake() here) that finds
nobody waiting ends the next wait at once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from ivr_ai.audio.stream import StreamError
from ivr_ai.gateways.caller import DTMF_CLOCK_HZ, Digit

log = logging.getLogger(__name__)

RATES = frozenset(("8000", "16000", "24000", "32000", "44100", "48000"))
VERBS = '"start embedded [rate]", "stop", "pause [capture|inject]" and "resume [capture|inject]"'
KEYS_MAX = 64  # a queue nobody reads must not grow for ever; FreeSWITCH's holds about as many


class UnsupportedApplication(ValueError):
    """The handler asked for a dialplan application, or a form of one, that only FreeSWITCH has."""


class Transfer(NamedTuple):
    """Where the handler sent the call. Nobody answers there: the embedded host has no dialplan."""

    extension: str
    dialplan: str
    context: str


class MediaLine(Protocol):
    """What a session asks of the media side of its call. All but tell() is called on the handler's thread."""

    def open_stream(self, app_rate_hz: int) -> None:
        """Opens stream "main" with the rate an application is to use (0: the call's). Raises StreamError."""

    def close_stream(self) -> None:
        """Closes stream "main", if it is open."""

    def pause_stream(self, *directions: str) -> None:
        """Pauses "capture", "inject" or both (none named)."""

    def resume_stream(self, *directions: str) -> None:
        """Resumes what pause_stream() paused."""

    def play(self, path: str) -> Callable[[], bool]:
        """Starts to play a WAV file; what it returns says whether it has been heard to the end."""

    def stop_playing(self) -> None:
        """Stops what play() started."""

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tells stream "main", if it is open, what the host has seen. Any thread."""


class EmbeddedSession:
    """One call, as a handler sees it. Methods may be called from any thread; those that wait, from one at a
    time.

    advance(), press() and hang_up() are the host's. on_hangup(cause, by) is called once, on the thread that
    ended the call.
    """

    def __init__(
        self,
        line: MediaLine,
        uuid: str,
        variables: Mapping[str, str],
        *,
        tick_ms: int,
        on_hangup: Callable[[str, str], None],
    ) -> None:
        self._line = line
        self._on_hangup = on_hangup
        self._uuid = uuid
        self._tick_ms = tick_ms
        self._changed = threading.Condition()
        self._variables = dict(variables)  # this and all below: self._changed guards it
        self._ticks = 0
        self._wake_tick: int | None = None
        self._answered = False
        self._cause = "NONE"
        self._hung_up_by = ""
        self._broken = False
        self._keys: deque[Digit] = deque(maxlen=KEYS_MAX)
        self._callback: Callable[..., Any] | None = None
        self._callback_args: tuple[Any, ...] = ()
        self._transfer: Transfer | None = None
        self._rang = False
        self._sent_keys = ""

    # ---- what FreeSWITCH has ----

    def get_uuid(self) -> str:
        return self._uuid

    def getVariable(self, name: str) -> str | None:
        with self._changed:
            return self._variables.get(name)

    def setVariable(self, name: str, value: str | None) -> None:
        """Sets a variable; None removes it."""
        with self._changed:
            if value is None:
                self._variables.pop(name, None)
            else:
                self._variables[name] = str(value)

    def ready(self) -> bool:
        """Whether the call is up and still the handler's: false after a hang-up or a transfer."""
        with self._changed:
            return self._is_ready()

    def answered(self) -> bool:
        with self._changed:
            return self._answered

    def answer(self) -> int:
        """Answers; audio flows from the next tick on. Returns 0 when the call is over."""
        with self._changed:
            self._answered = self._answered or self._is_ready()
            return int(self._answered and self._is_ready())

    def sleep(self, ms: int, sync: int = 0) -> int:
        """Waits ms on the call's clock, in whole ticks.

        Returns 1, or 0 when a break, a key's callback or the end cut it short.
        """
        ticks = -(-max(0, ms) // self._tick_ms)
        with self._changed:
            until = self._ticks + ticks
        return int(self._wait(lambda: self._ticks >= until, until))

    def streamFile(self, path: str, starting_sample_count: int = 0) -> int:
        """Plays a WAV file and waits for its end; returns as sleep() does.

        Raises OSError or ValueError for a bad file.
        """
        if starting_sample_count:
            raise UnsupportedApplication("the embedded host plays files from their beginning only")
        if not self.ready():
            return 0
        heard = self._line.play(path)
        try:
            return int(self._wait(heard))
        finally:
            self._line.stop_playing()

    def execute(self, application: str, data: str = "") -> None:
        """Runs a dialplan application. Does nothing on a call that is over, as in FreeSWITCH, but
        `uuid_audio_stream stop`.

        Raises UnsupportedApplication for one that the embedded host has not.
        """
        run = self._applications().get(application)
        if run is None:
            have = ", ".join(sorted(self._applications()))
            raise UnsupportedApplication(f"the embedded host has no application {application!r}, only {have}")
        if self.ready() or application == "uuid_audio_stream":
            run(data)

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        self.hang_up(cause.upper() or "NORMAL_CLEARING", "handler")

    def hangupCause(self) -> str:
        """The cause's name, "NONE" while the call is up."""
        with self._changed:
            return self._cause

    def transfer(self, extension: str, dialplan: str | None = None, context: str | None = None) -> int:
        """Ends the handler's part of the call.

        The host notes where it was to go and clears it when the handler returns.
        """
        with self._changed:
            if not self._is_ready():
                return 0
            self._transfer = Transfer(extension, dialplan or "XML", context or "default")
            self._changed.notify_all()
            return 1

    def setInputCallback(self, func: Callable[..., Any], *arg: Any) -> None:
        """func(session, "dtmf", digit[, arg]) is called for every key, on the thread that sleeps or plays.

        "" goes on.
        """
        with self._changed:
            self._callback, self._callback_args = func, arg[:1]

    def unsetInputCallback(self) -> None:
        with self._changed:
            self._callback, self._callback_args = None, ()

    # ---- what FreeSWITCH has elsewhere ----

    def wake(self) -> None:
        """Ends a sleep or a playback early (FreeSWITCH: uuid_break). Any thread."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def ring(self) -> None:
        """Tells the caller that it rings (FreeSWITCH: ring_ready)."""
        with self._changed:
            self._rang = self._rang or (self._is_ready() and not self._answered)

    def send_dtmf(self, digits: str) -> None:
        """Sends keys to the caller's end (FreeSWITCH: uuid_send_dtmf)."""
        with self._changed:
            self._sent_keys += digits if self._is_ready() else ""

    @property
    def rang(self) -> bool:
        """Whether the caller was told that it rings."""
        return self._rang

    @property
    def sent_keys(self) -> str:
        """The keys that the handler has sent."""
        return self._sent_keys

    @property
    def transferred(self) -> Transfer | None:
        """Where the handler transferred the call, if it did."""
        return self._transfer

    @property
    def hung_up_by(self) -> str:
        """ "caller", "handler" or "host"; "" while the call is up."""
        return self._hung_up_by

    # ---- the host's end ----

    def advance(self, ticks: int = 1) -> None:
        """Time has passed. The clock's thread."""
        with self._changed:
            self._ticks += ticks
            if self._wake_tick is None or self._ticks >= self._wake_tick:
                self._changed.notify_all()

    def press(self, key: Digit) -> None:
        """The caller pressed a key: the stream is told, and it waits for a callback. The clock's thread."""
        duration_ms = key.duration * 1000 // DTMF_CLOCK_HZ
        self._line.tell({"type": "host.dtmf", "digit": key.digit, "duration_ms": duration_ms})
        with self._changed:
            self._keys.append(key)
            self._changed.notify_all()

    def hang_up(self, cause: str, by: str) -> bool:
        """Ends the call; False when it had ended before. Any thread."""
        with self._changed:
            if self._hung_up_by:
                return False
            self._cause, self._hung_up_by = cause, by
            self._changed.notify_all()
        self._on_hangup(cause, by)
        return True

    # ---- waiting ----

    def _is_ready(self) -> bool:
        return not self._hung_up_by and self._transfer is None

    def _wait(self, done: Callable[[], bool], wake_tick: int | None = None) -> bool:
        """Waits until done(); False when something else ended it. Keys go to the callback meanwhile."""
        while True:
            with self._changed:
                self._wake_tick = wake_tick
                ended = self._wait_for_news(done)
                if ended is not None:
                    return ended
                callback, args, key = self._callback, self._callback_args, self._keys.popleft()
            if callback is not None and callback(self, "dtmf", key, *args) != "":
                return False

    def _wait_for_news(self, done: Callable[[], bool]) -> bool | None:
        """None: there is a key for the callback."""
        while True:
            if not self._is_ready():
                return False
            if self._broken:
                self._broken = False
                return False
            if self._keys and self._callback is not None:
                return None
            if done():
                return True
            self._changed.wait()

    # ---- applications ----

    def _applications(self) -> dict[str, Callable[[str], object]]:
        return {
            "answer": lambda data: self.answer(),
            "hangup": self.hangup,
            "park": lambda data: self._park(),
            "playback": self.streamFile,
            "set": self._set,
            "sleep": lambda data: self.sleep(int(data)),
            "transfer": lambda data: self.transfer(*data.split()[:3]),
            "uuid_audio_stream": self._audio_stream,
        }

    def _park(self) -> None:
        """Waits for the end of the call; a break does not end it."""
        while self.ready():
            self._wait(lambda: False)

    def _set(self, data: str) -> None:
        name, equals, value = data.partition("=")
        if not name or not equals:
            raise UnsupportedApplication(f"set needs NAME=VALUE, not {data!r}")
        self.setVariable(name, value or None)

    def _audio_stream(self, data: str) -> None:
        """As mod_audio_stream's application: ${audio_stream_result} says how it went."""
        try:
            self._run_verb(data)
        except StreamError as error:
            log.error("uuid_audio_stream %s: %s", data, error)
            self.setVariable("audio_stream_result", f"-ERR {error}")
        else:
            self.setVariable("audio_stream_result", "+OK")

    def _run_verb(self, data: str) -> None:
        verb, *words = data.split() or [""]
        if verb == "stop":
            self._line.close_stream()
        elif verb == "start" and words[:1] == ["embedded"] and set(words[1:]) <= RATES and len(words) <= 2:
            if self.ready():
                self._line.open_stream(int(words[1]) if len(words) == 2 else 0)
        elif verb in ("pause", "resume") and set(words) <= {"capture", "inject"}:
            (self._line.pause_stream if verb == "pause" else self._line.resume_stream)(*words)
        else:
            raise UnsupportedApplication(f"uuid_audio_stream has {VERBS} on the embedded host, not {data!r}")
