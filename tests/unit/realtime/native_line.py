"""A native transport, a server that is told what to say, and the stream between them, for tests."""

from __future__ import annotations

import base64
import queue
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from peer import TEXT, Peer, background
from waiting import until

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream
from ivr_ai.config import Settings
from ivr_ai.realtime.native import NativeTransport
from ivr_ai.realtime.transport import ConnectError, TransportClosed

PCMU = Format("pcmu", 8000)
S16 = Format("s16", 8000)
TLS = pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
FRAME = 160  # samples of 20 ms


def settings(url: str, **changed) -> Settings:
    return Settings(**{"realtime_url": url, "api_key": "sk-secret", "connect_timeout_ms": 5000, **changed})


class Listening:
    """A listener that deals with one event at a time, when it is told to."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.closed: queue.Queue[ConnectError | TransportClosed] = queue.Queue()
        self._events: queue.Queue[dict] = queue.Queue()
        self._dealt = threading.Semaphore(0)
        self._dealing = False
        self._over = False

    def on_open(self) -> None:
        self.opened.set()

    def on_event(self, event: dict) -> None:
        self._events.put(event)
        if not self._over:
            self._dealt.acquire()

    def on_closed(self, error: ConnectError | TransportClosed) -> None:
        self.closed.put(error)

    def deal(self) -> None:
        """Has dealt with the event it got last."""
        if self._dealing:
            self._dealing = False
            self._dealt.release()

    def recv(self) -> dict:
        self.deal()
        event = self._events.get(timeout=10)
        self._dealing = True
        return event

    def leave(self) -> None:
        """From now on nothing waits for us."""
        self._over = True
        for _ in range(1000):
            self._dealt.release()


class Line:
    """A transport, the server it talks to, and a stream whose clock the test holds."""

    def __init__(
        self, transport: NativeTransport, listening: Listening, peer: Peer, stream: HostStream
    ) -> None:
        self.transport = transport
        self.listening = listening
        self.peer = peer
        self.stream = stream

    def delta(self, audio: bytes, item: str = "item_1", response: str = "resp_1", **more) -> None:
        event = {"type": "response.output_audio.delta", "response_id": response, "item_id": item}
        self.peer.say({**event, "delta": base64.b64encode(audio).decode(), **more})

    def done(self, item: str = "item_1", response: str = "resp_1") -> None:
        self.peer.say({"type": "response.output_audio.done", "response_id": response, "item_id": item})

    def say(self, kind: str, **more) -> None:
        self.peer.say({"type": kind, **more})

    def recv(self, kind: str) -> dict:
        event = self.listening.recv()
        assert event["type"] == kind
        return event

    def queued(self, samples: int) -> None:
        until(lambda: self.stream.stats().inject_written_samples >= samples)

    def play(self, samples: int) -> bytes:
        """What the caller hears next: until so many samples were the application's."""
        heard = b""
        while len(heard) < 2 * samples:
            played, ours = self.stream.host_inject(bytes(2 * FRAME))
            assert ours, f"silence after {len(heard) // 2} samples"
            heard += played
        return heard[: 2 * samples]

    def silent(self) -> bool:
        return not self.stream.host_inject(bytes(2 * FRAME))[1]


@pytest.fixture
def meet(request) -> Iterator[Callable[..., Line]]:
    """Connects a transport to a peer and joins it to a stream."""
    with ExitStack() as stack:

        def start(
            secure: bool = False,
            heard: Format = S16,
            said: Format = S16,
            wire: str = "s16",
            receive_bytes: int = 0,
            listen: bool = True,
            events: set[str] | None = None,
            joined: HostStream | None = None,
            **changed,
        ) -> Line:
            tls = None
            if secure:
                certificates = request.getfixturevalue("certificates")
                tls, changed["ca_file"] = certificates.server("right"), certificates.authority
            peer = Peer(tls, receive_bytes)
            stack.callback(peer.close)
            accepting = background(peer.accept)
            listening = Listening()
            transport = NativeTransport(settings(peer.url, **changed), listening, events=events)
            stack.callback(transport.release)
            stack.callback(listening.leave)
            transport.open()
            assert listening.opened.wait(5)
            accepting.join(5)
            stream = joined or stack.enter_context(HostStream.create(f"call-{peer.port}", wire=wire))
            transport.attach(stream, heard, said, chunk_ms=20, quiet_chunk_ms=20, hang_ms=0)
            if listen and joined is None:
                transport.listen()
            transport.send({"type": "hello"})
            assert peer.read()[0] == TEXT  # by now it has joined them
            if listen and joined is not None:
                transport.listen()  # not before: audio that waits in the stream would come before the hello
            return Line(transport, listening, peer, stream)

        yield start


def noise(samples: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(2 * samples)
