"""A local OpenAI-Realtime server: develop, demonstrate and test without a key.

    with SimServer(dialogue="conf/dialogues/opening_hours.toml") as sim:
        connect(sim.url + "?model=any")        # ws://127.0.0.1:<port>/v1/realtime

It follows the service's event order, error codes and close codes, takes turns by ear, speaks with espeak-ng,
and misbehaves when told to (`Faults`). `ivr-ai sim` runs it on the command line. It needs the `websockets`
package.

Threads: SimServer may be used from any thread; its loop has one of its own. `sessions` are thread-safe
records.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import itertools
import logging
import os
import signal
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from ivr_ai.sim.dialogue import Dialogue, DialogueError
from ivr_ai.sim.faults import FaultError, Faults
from ivr_ai.sim.hearing import Hearing, HearingError
from ivr_ai.sim.items import AUDIO_MAX_BYTES
from ivr_ai.sim.realtime_session import ITEM_ENDS, Options, Session
from ivr_ai.sim.record import SessionRecord
from ivr_ai.sim.wire import error_body, new_id
from ivr_ai.tts.local_voice import VoiceError, check_voice, speak

if TYPE_CHECKING:
    from websockets.asyncio.server import Server
    from websockets.http11 import Request, Response

    from ivr_ai.sim.connection import DelayLine, Outbox, SimConnection

PATH = "/v1/realtime"
DEFAULT_PORT = 8765
PING_INTERVAL_S = 20.0
_CLOSE_TIMEOUT_S = 0.5  # for clients that do not answer CLOSE when the server stops
_START_TIMEOUT_S = 10.0
_MESSAGE_MAX_BYTES = AUDIO_MAX_BYTES * 4 // 3 + 65536  # base64, and the JSON around it
_KEY_PROTOCOL = "openai-insecure-api-key."
_EXPIRED = "Your session hit the maximum duration of 60 minutes."
_LOG = logging.getLogger(__name__)


class SimError(RuntimeError):
    """The server cannot start; the message says why and what to do."""


class SimServer:
    """The server; a context manager. `Options` says what further keywords (pace, voice, dialect, …) mean."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        dialogue: str | os.PathLike[str] | Mapping[str, Any] | Dialogue | None = None,
        faults: Faults | None = None,
        tls: ssl.SSLContext | None = None,
        require_key: str | None = None,
        ping_interval_s: float = PING_INTERVAL_S,
        keep_audio: bool = True,
        keep_sessions: int | None = None,
        observer: Callable[[int, str], None] | None = None,
        trace: Callable[[int, str, dict[str, Any]], None] | None = None,
        **options: Any,
    ) -> None:
        """Port 0 takes a free one, `require_key` None lets any key in, `keep_sessions` bounds the records.

        `observer(session number, line)` is told what happens in words, `trace(session number, "in" or "out",
        event)` every event; both are called on the server's thread. Raises SimError, DialogueError, and
        TypeError for an unknown option.
        """
        try:
            self.options = Options(**options)
        except ValueError as error:
            raise SimError(str(error)) from error
        self.faults = faults or Faults()  # may be replaced; connections to come get the new ones
        self.dialogue = Dialogue.load(dialogue)
        self._host, self._port, self._tls = host, port, tls
        self._require_key, self._ping_interval_s, self._keep_audio = require_key, ping_interval_s, keep_audio
        self._observer, self._trace = observer, trace
        self._records: deque[SessionRecord] = deque(maxlen=keep_sessions)
        self._opened = threading.Condition()
        self._numbers = itertools.count(1)
        self._attempts = 0
        self._live: set[SimConnection] = set()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    # ---- any thread ----------------------------------------------------------------------------------------

    def __enter__(self) -> SimServer:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> SimServer:
        """Listens; returns when connections are taken. Raises SimError, VoiceError, HearingError."""
        check_voice(self.options.voice)
        Hearing(8000, self.options.ear).configure({"type": "semantic_vad", "eagerness": "auto"})
        try:
            import websockets.asyncio.server  # noqa: F401
        except ImportError as error:
            raise SimError(
                "the local server needs the package websockets: run `make ext` in the source tree, or "
                "`make install` again"
            ) from error
        self._thread = threading.Thread(target=self._run, name="ivr-ai-sim", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            raise SimError(f"the local server did not start within {_START_TIMEOUT_S} s")
        if self._failure is not None:
            where = f"{self._host}:{self._port}"
            raise SimError(
                f"cannot listen on {where} ({self._failure}): choose another HOST or PORT"
            ) from self._failure
        threading.Thread(target=self._warm, name="ivr-ai-sim-voice", daemon=True).start()
        return self

    def stop(self) -> None:
        """Closes every connection (CLOSE 1001) and the listener. Idempotent."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._thread = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """What OPENAI_REALTIME_URL has to be; the client adds ?model=…"""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'wss' if self._tls else 'ws'}://{host}:{self._port}{PATH}"

    @property
    def sessions(self) -> list[SessionRecord]:
        """Records of the connections so far, oldest first. Those refused before the upgrade have none."""
        with self._opened:
            return list(self._records)

    @property
    def attempts(self) -> int:
        """Connections so far, refused ones included."""
        return self._attempts

    def wait_session(self, count: int = 1, timeout_s: float = 5.0) -> SessionRecord:
        """Waits for the `count`-th session and returns its record. Raises TimeoutError."""
        with self._opened:
            if not self._opened.wait_for(lambda: len(self._records) >= count, timeout_s):
                raise TimeoutError(f"{len(self._records)} of {count} sessions came within {timeout_s} s")
            return self._records[count - 1]

    def _warm(self) -> None:
        """Has the voice ready before the first caller: espeak-ng takes tens of milliseconds per line."""
        for line in self.dialogue.lines():
            for rate_hz in {8000, self.options.pcm_rates_hz[0]}:
                try:
                    speak(line, rate_hz, self.options.voice)
                except VoiceError as error:
                    _LOG.warning("%s", error)
                    return

    # ---- the server's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        from ivr_ai.sim.connection import SimConnection

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await serve(
            self._handle,
            self._host,
            self._port,
            ssl=self._tls,
            create_connection=SimConnection,
            process_request=self._answer_request,
            select_subprotocol=lambda connection, offered: "realtime" if "realtime" in offered else None,
            open_timeout=None,  # the fault connect_delay_ms may take longer than any sensible one
            ping_interval=self._ping_interval_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MESSAGE_MAX_BYTES,
            logger=_LOG.getChild("websockets"),
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        await self._end(server)

    async def _end(self, server: Server) -> None:
        for connection in list(self._live):
            if connection.stalled or connection.faults.ignore_close:
                connection.drop()
        server.close()
        try:
            await asyncio.wait_for(server.wait_closed(), _CLOSE_TIMEOUT_S * 2)
        except asyncio.TimeoutError:
            for connection in list(self._live):
                connection.drop()

    async def _answer_request(self, connection: SimConnection, request: Request) -> Response | None:
        """Before the upgrade: which faults this connection has, and those of the upgrade itself."""
        self._attempts = connection.number = next(self._numbers)
        faults = self.faults
        if faults.first_connections and connection.number > faults.first_connections:
            faults = Faults()
        connection.faults = faults
        if faults.connect_delay_ms:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), faults.connect_delay_ms / 1000)
        if faults.refuse_status:
            self._note(connection.number, f"refused with HTTP {faults.refuse_status}")
            return connection.respond(faults.refuse_status, "Refused, as the simulator was told to.\n")
        if urlsplit(request.path).path != PATH:
            return connection.respond(404, f"There is only {PATH} here.\n")
        return None

    async def _handle(self, connection: SimConnection) -> None:
        from ivr_ai.sim.connection import Outbox

        self._live.add(connection)
        outbox = Outbox(connection)
        record = self._open_record(connection, outbox)
        writer = asyncio.create_task(outbox.run())
        try:
            refusal = self._refusal(record, connection.faults)
            if refusal is None:
                await self._converse(connection, outbox, record)
            else:
                self._refuse(outbox, record, *refusal)
            await connection.wait_closed()
        finally:
            writer.cancel()
            self._live.discard(connection)
            record.note_end(*connection.close_seen())
            self._note(record.number, f"ended ({record.close_code} {record.close_reason})".replace(" )", ")"))

    def _open_record(self, connection: SimConnection, outbox: Outbox) -> SessionRecord:
        parts = urlsplit(connection.request.path)
        headers = {name.lower(): value for name, value in connection.request.headers.raw_items()}
        query = dict(parse_qsl(parts.query))
        record = SessionRecord(connection.number, parts.path, query, headers, self._keep_audio, self._trace)
        loop = asyncio.get_running_loop()

        def act(action: str, *arguments: Any) -> None:
            loop.call_soon_threadsafe(getattr(outbox, action), *arguments)

        record.attach(act)
        self._note(record.number, f"connected, model {query.get('model', '(none)')}")
        with self._opened:
            self._records.append(record)
            self._opened.notify_all()
        return record

    def _refusal(self, record: SessionRecord, faults: Faults) -> tuple[str, str, int] | None:
        """(error code, message, close code) where the service ends a connection right after the upgrade."""
        beta = self.options.dialect == "beta"
        if not beta and "openai-beta" in record.headers:
            message = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
            return "beta_api_shape_disabled", message, 4000
        if faults.bad_key or (self._require_key is not None and not self._key_fits(record)):
            return "invalid_api_key", "Incorrect API key provided.", 3000
        if not {"model", "call_id", "intent", *(["deployment"] if beta else [])} & set(record.query):
            return "missing_model", "You must provide a model parameter.", 4000
        if faults.bad_model:
            return (
                "invalid_model",
                f'Model "{record.query.get("model")}" is not supported in realtime mode.',
                4000,
            )
        return None

    def _key_fits(self, record: SessionRecord) -> bool:
        protocols = [name.strip() for name in record.headers.get("sec-websocket-protocol", "").split(",")]
        given = [
            record.headers.get("authorization", "").removeprefix("Bearer "),
            record.headers.get("api-key", ""),
            *(name.removeprefix(_KEY_PROTOCOL) for name in protocols if name.startswith(_KEY_PROTOCOL)),
        ]
        return any(hmac.compare_digest(key.encode(), (self._require_key or "").encode()) for key in given)

    def _refuse(
        self, outbox: Outbox, record: SessionRecord, code: str, message: str, close_code: int
    ) -> None:
        self._note(record.number, f"refused: {code}")
        event = {"type": "error", "event_id": new_id("event"), "error": error_body(code, message)}
        record.note_sent(event)
        outbox.send(event)
        outbox.close(close_code, f"invalid_request_error.{code}")

    async def _converse(self, connection: SimConnection, outbox: Outbox, record: SessionRecord) -> None:
        from websockets.exceptions import ConnectionClosed

        from ivr_ai.sim.connection import DelayLine

        def note(line: str) -> None:
            self._note(record.number, line)

        session = Session(self.options, self.dialogue, connection.faults, outbox, record, note)
        session.open()
        timers = self._start_timers(session, outbox, connection.faults)
        inbox = DelayLine(connection.faults.link_delay_ms)
        if connection.faults.link_delay_ms:
            session.spawn(_deliver(inbox, session))
        try:
            async for message in connection:
                if connection.stalled:
                    break
                if connection.faults.link_delay_ms:
                    inbox.put(message)
                else:
                    session.receive(message)
        except ConnectionClosed:
            pass  # the record says how it ended
        finally:
            session.close()
            for timer in timers:
                timer.cancel()

    def _start_timers(self, session: Session, outbox: Outbox, faults: Faults) -> list[asyncio.TimerHandle]:
        def expire() -> None:
            session.emit("error", error=error_body("session_expired", _EXPIRED))
            outbox.close(1001, _EXPIRED)

        lasts_s = self.options.lasts_s if faults.expire_after_s is None else faults.expire_after_s
        planned = [
            (lasts_s, expire),
            (faults.stall_after_s, outbox.stall),
            (faults.drop_after_s, outbox.drop),
            (faults.close_after_s, lambda: outbox.close(faults.close_code, faults.close_reason)),
        ]
        loop = asyncio.get_running_loop()
        return [loop.call_later(after_s, action) for after_s, action in planned if after_s is not None]

    def _note(self, number: int, line: str) -> None:
        if self._observer is not None:
            self._observer(number, line)


async def _deliver(inbox: DelayLine, session: Session) -> None:
    """Hands a session the messages of a slow link."""
    while True:
        session.receive(await inbox.get())


# ---- command line ------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `ivr-ai sim`. Defaults of --host and --port come from HOST and PORT."""
    environ = os.environ
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    faults = "faults (name, default, meaning):\n" + "\n".join(f"  {line}" for line in Faults.describe())
    parser.epilog = f"{parser.epilog}\n\n{faults}" if parser.epilog else faults
    parser.add_argument(
        "--host", default=environ.get("HOST") or "127.0.0.1", help="address to listen on (%(default)s)"
    )
    port = environ.get("PORT") or str(DEFAULT_PORT)
    parser.add_argument(
        "--port", type=_port, default=port, help="port to listen on, 0 for any free one (%(default)s)"
    )
    parser.add_argument(
        "--dialect", choices=("ga", "beta"), default="ga", help="event names to speak (%(default)s)"
    )
    parser.add_argument(
        "--dialogue", metavar="FILE", help="TOML script of what is said (default: a built-in one)"
    )
    parser.add_argument(
        "--pace", type=float, default=4.0, help="audio speed against real time, 0 = at once (%(default)s)"
    )
    parser.add_argument("--voice", default="en", help='espeak-ng voice, or "tone[:hz[:ms]]" (%(default)s)')
    parser.add_argument(
        "--ear", choices=("energy", "webrtc"), default="energy", help="what hears speech (%(default)s)"
    )
    parser.add_argument(
        "--silence-ms", type=int, metavar="MS", help="silence that ends a turn (default: the client's)"
    )
    parser.add_argument(
        "--item-ends",
        choices=ITEM_ENDS,
        default="sequential",
        help="when the ends of a response's items come: each before the next item, or all before "
        "response.done (%(default)s)",
    )
    parser.add_argument(
        "--item-pause-ms", type=int, default=0, metavar="MS", help="pause between the items of a response (0)"
    )
    parser.add_argument(
        "--cancel-lag-ms",
        type=int,
        default=0,
        metavar="MS",
        help="from a cancellation to the response.done of the cancelled response (0)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="misbehave, in one of the ways listed below; may be given several times",
    )
    parser.add_argument("--faults", action="store_true", help="list the faults and exit")
    parser.add_argument("--verbose", "-v", action="store_true", help="print every event")


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted. Returns 0, or 2 when it cannot start."""
    if args.faults:
        print("\n".join(Faults.describe()))
        return 0
    try:
        faults = Faults.parse(args.fault)
        sim = SimServer(
            args.host,
            args.port,
            dialogue=args.dialogue,
            faults=faults,
            keep_audio=False,
            keep_sessions=100,
            observer=_print_line,
            trace=_print_event if args.verbose else None,
            dialect=args.dialect,
            pace=args.pace,
            voice=args.voice,
            ear=args.ear,
            silence_ms=args.silence_ms,
            item_ends=args.item_ends,
            item_pause_ms=args.item_pause_ms,
            cancel_lag_ms=args.cancel_lag_ms,
        )
        with sim:
            _print_start(sim)
            _wait_for_interrupt()
    except (SimError, DialogueError, FaultError, VoiceError, HearingError) as error:
        print(f"ivr-ai sim: {error}", file=sys.stderr)
        return 2
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"PORT is {text!r}: use a number from 0 to 65535")
    return int(text)


def _print_start(sim: SimServer) -> None:
    print(
        f"A local Realtime server ({sim.options.dialect} dialect) listens on {sim.url}; point a client at it:"
    )
    print(f"\n    OPENAI_REALTIME_URL={sim.url} OPENAI_API_KEY=any\n")
    if sim.faults.active():
        print(f"It misbehaves: {', '.join(sim.faults.active())}")
    print("Ctrl-C ends it.", flush=True)


def _wait_for_interrupt() -> None:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


def _print_line(number: int, line: str) -> None:
    print(f"[{number}] {line}", flush=True)


def _print_event(number: int, direction: str, event: dict[str, Any]) -> None:
    print(f"[{number}] {'<-' if direction == 'in' else '->'} {event.get('type')}", flush=True)


def main() -> int:
    """`python -m ivr_ai.sim.server`"""
    parser = argparse.ArgumentParser(prog="ivr_ai.sim.server", description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
