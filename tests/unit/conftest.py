"""Calls for tests: an embedded host whose clock runs faster than the world's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `from calls import ...` in any import mode
from calls import SORRY

from ivr_ai.audio.formats import write_wav
from ivr_ai.audio.stream import open_streams
from ivr_ai.call import Call
from ivr_ai.config import Settings
from ivr_ai.events import CallEvent
from ivr_ai.gateways.caller import Say, Step
from ivr_ai.gateways.embedded import CallRecord, EmbeddedCall, EmbeddedHost
from ivr_ai.sim.server import SimServer

TICK_S = 0.0025  # of a 20 ms tick: eight times real time
OVER_S = 15.0


class FastHost:
    """An embedded host that is ticked more often than every 20 ms."""

    def __init__(self, tick_s: float = TICK_S) -> None:
        self.host = EmbeddedHost(own_clock=False)
        self._tick_s = tick_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fast-clock", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._tick_s):
            self.host.tick()

    def close(self) -> None:
        try:
            self.host.close()
        finally:
            self._stopped.set()
            self._thread.join()


class Placed:
    """A call under way with the product at its other end."""

    def __init__(self, host: EmbeddedHost) -> None:
        self.events: list[CallEvent] = []
        self.product: Call | None = None
        self.call: EmbeddedCall | None = None
        self.after: dict[str, Any] = {}  # what the dialplan saw when the product returned
        self._host = host
        self._new = threading.Condition()

    def observe(self, event: CallEvent) -> None:
        with self._new:
            self.events.append(event)
            self._new.notify_all()

    @property
    def uuid(self) -> str:
        return self.call.session.get_uuid()

    def wait(self, kind: str, count: int = 1, timeout_s: float = OVER_S) -> CallEvent:
        """The count-th event of a kind; waits for it."""
        with self._new:
            if not self._new.wait_for(lambda: len(self.of(kind)) >= count, timeout_s):
                raise TimeoutError(f"no {count}. {kind} in {[event.kind for event in self.events]}")
            return self.of(kind)[count - 1]

    def of(self, kind: str) -> list[CallEvent]:
        return [event for event in self.events if event.kind == kind]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def say(self, audio: bytes) -> None:
        """The caller says this now, or after what they are saying; only once the script is over."""
        caller = self.call._caller
        caller._audio.append(audio)
        caller._steps.append(Say(audio, after="answer"))

    def hang_up(self) -> float:
        """The caller hangs up. Returns when (time.monotonic())."""
        now_s = time.monotonic()
        self.call.hang_up("ORIGINATOR_CANCEL", by="caller")
        return now_s

    def finish(self) -> CallRecord:
        """Waits for the end; raises what the handler raised."""
        deadline_s = time.monotonic() + OVER_S
        while not self.call.over:
            assert time.monotonic() < deadline_s, f"the call goes on: {self.kinds()}"
            time.sleep(0.002)
        record = self.call.record(self._host.clock)
        if record.error is not None:
            raise record.error
        assert self.after["streams"] == [], "the product has left a stream on the call"
        return record

    def left_over(self) -> list[str]:
        """What there still is of the call: threads, streams."""
        mine = self.uuid[:8]
        threads = [thread.name for thread in threading.enumerate() if mine in thread.name]
        return threads + [f"stream {name}" for _, name in open_streams(self.uuid)]

    def gone_after_s(self, since_s: float) -> float:
        """How long it took until nothing was left of the call."""
        while self.left_over():
            assert time.monotonic() - since_s < OVER_S, self.left_over()
            time.sleep(0.002)
        return time.monotonic() - since_s


@pytest.fixture
def tick_s() -> float:
    """The time between the host's ticks; modules that need another have a fixture of their own."""
    return TICK_S


@pytest.fixture
def fast_host(tick_s) -> Iterator[EmbeddedHost]:
    fast = FastHost(tick_s)
    yield fast.host
    fast.close()


Place = Callable[..., Placed]


@pytest.fixture
def transport() -> str:
    """IVR_AI_TRANSPORT of the calls placed; modules that try both have a fixture of their own."""
    return "native"


@pytest.fixture
def place(fast_host, transport) -> Place:
    """Places calls with the product at their other end."""

    def place_one(
        server: SimServer | str,
        script: Sequence[Step] = (),
        *,
        before: Callable[[Any], Any] = lambda session: session,
        functions: dict[str, Callable[[dict[str, Any]], Any]] | None = None,
        host: dict[str, Any] | None = None,
        observer: Callable[[CallEvent], None] | None = None,
        **settings: Any,
    ) -> Placed:
        """before: what the dialplan does with the session; what it returns is the product's session."""
        url = server if isinstance(server, str) else server.url
        chosen = Settings(
            **{
                "realtime_url": url,
                "api_key": "sk-test",
                "vad_silence_ms": 200,
                "transport": transport,
                **settings,
            }
        )
        placed = Placed(fast_host)

        def handler(session: Any, args: str) -> Any:
            seen_by = observer or placed.observe
            placed.product = Call(before(session), chosen, observer=seen_by, functions=functions)
            try:
                return placed.product.run()
            finally:
                placed.after = {
                    "ready": session.ready(),
                    "transferred": session.transferred,
                    "streams": open_streams(session.get_uuid()),
                }

        options = {"rate_hz": 8000, "quiet_ms": 300, "patience_s": 60.0, **(host or {})}
        placed.call = fast_host.place(handler, script, **options)
        return placed

    return place_one


@pytest.fixture
def sim() -> Iterator[Callable[..., SimServer]]:
    """Starts simulated servers that speak a tone, a second long unless told otherwise."""
    servers: list[SimServer] = []

    def start(**options: Any) -> SimServer:
        servers.append(SimServer(**{"voice": "tone:440:1000", "pace": 0, **options}).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def sorry(tmp_path) -> str:
    """An apology's file, with SORRY in it."""
    path = tmp_path / "sorry.wav"
    write_wav(path, SORRY, 8000)
    return str(path)
