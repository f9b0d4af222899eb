"""The transport against real servers: the simulator, and one that is told every byte."""

from __future__ import annotations

import base64
import json
import os
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from peer import BINARY, CLOSE, PING, PONG, TEXT, Peer, background, frame
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from ivr_ai.config import Settings
from ivr_ai.realtime.dialects import BetaDialect
from ivr_ai.realtime.transport import TransportClosed
from ivr_ai.realtime.websocket_client import Attempt, WebSocketTransport
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

AT_ONCE_S = 1.0  # what takes no time at all, on a busy machine
TLS = pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])


def settings(url: str, **changed) -> Settings:
    return Settings(**{"realtime_url": url, "api_key": "sk-secret", "connect_timeout_ms": 5000, **changed})


class Receiver:
    """A thread that receives until the end, as the call's downlink does."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self.events: list[dict] = []
        self.closed: TransportClosed | None = None
        self.ended_s = 0.0
        self._transport = transport
        self._thread = background(self._run)

    def _run(self) -> None:
        try:
            while True:
                self.events.append(self._transport.recv())
        except TransportClosed as closed:
            self.ended_s = time.monotonic()
            self.closed = closed

    def end(self, timeout_s: float = 5.0) -> TransportClosed:
        self._thread.join(timeout_s)
        assert self.closed is not None, "still receiving"
        return self.closed


@pytest.fixture
def meet(request) -> Iterator[Callable[..., tuple[WebSocketTransport, Peer]]]:
    """Connects a transport to a peer. Both are gone after the test."""
    with ExitStack() as stack:

        def start(secure: bool = False, receive_bytes: int = 0, **changed) -> tuple[WebSocketTransport, Peer]:
            tls = None
            if secure:
                certificates = request.getfixturevalue("certificates")
                tls = certificates.server("right")
                changed["ca_file"] = certificates.authority
            peer = Peer(tls, receive_bytes)
            stack.callback(peer.close)
            accepting = background(peer.accept)
            transport = Attempt(settings(peer.url, **changed)).connect()
            stack.callback(transport.release)
            accepting.join(5)
            return transport, peer

        yield start


@contextmanager
def echo(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that sends back what it is sent. Gives its URL."""

    def answer(connection) -> None:
        with suppress(ConnectionClosed):
            for message in connection:
                connection.send(message)

    with serve(answer, "127.0.0.1", 0, ssl=tls, compression=None, max_size=None) as server:
        thread = background(server.serve_forever)
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join(5)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestReceiving:
    @TLS
    def test_events_come_in_order_whatever_their_size(self, meet, secure):
        transport, peer = meet(secure)
        sent = [{"type": "t", "n": n, "pad": "x" * size} for n, size in enumerate((0, 110, 126, 70_000, 1))]
        sending = background(lambda: [peer.say(event) for event in sent])
        assert [transport.recv() for _ in sent] == sent
        sending.join(5)

    def test_many_in_one_packet_and_one_in_many(self, meet):
        transport, peer = meet()
        peer.send(b"".join(frame(TEXT, b'{"type":"t","n":%d}' % n) for n in range(100)))
        assert [transport.recv()["n"] for _ in range(100)] == list(range(100))
        for byte in frame(TEXT, b'{"type":"slow"}'):
            peer.send(bytes([byte]))
        assert transport.recv() == {"type": "slow"}

    def test_a_message_in_fragments_with_a_ping_in_between(self, meet):
        transport, peer = meet()
        peer.send(frame(TEXT, b'{"type":', fin=False))
        peer.send(frame(0, b'"fragm', fin=False))
        peer.send(frame(PING, b"alive?"))
        peer.send(frame(0, b'ented"}'))
        assert transport.recv() == {"type": "fragmented"}
        assert peer.read() == (PONG, b"alive?")

    @pytest.mark.parametrize(
        ("opcode", "payload"),
        [
            (TEXT, b'{"type":"response.output_audio.delta","delta":"AAAA'),
            (TEXT, b""),
            (TEXT, b"\xff\xfe\xfd"),
            (TEXT, b'{"type":"\xc3\x28"}'),
            (TEXT, b"[]"),
            (TEXT, b"null"),
            (TEXT, b'"text"'),
            (TEXT, b"[" * 100_000),
            (TEXT, b'{"type":"t","n":' + b"9" * 10_000 + b"}"),
            (BINARY, bytes(range(256))),
            (BINARY, b'{"type":"binary"}'),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_nonsense_is_skipped_and_counted(self, meet, opcode, payload):
        transport, peer = meet()
        peer.send(frame(opcode, payload) * 2)
        peer.say({"type": "sense"})
        assert transport.recv() == {"type": "sense"}
        assert transport.bad_messages == 2

    def test_what_is_too_long_is_refused_before_it_is_read(self, meet):
        transport, peer = meet(max_message_bytes=65536)
        peer.send(frame(TEXT, b'{"type":', announced_bytes=10**9))
        with pytest.raises(TransportClosed, match=r"1000000000 bytes \(IVR_AI_MAX_MESSAGE_BYTES is 65536\)"):
            transport.recv()

    def test_fragments_that_add_up_to_too_much(self, meet):
        transport, peer = meet(max_message_bytes=65536)
        peer.send(frame(TEXT, b"x" * 30_000, fin=False) + frame(0, b"x" * 30_000, fin=False))
        peer.send(frame(0, b"x" * 30_000, fin=False))
        with pytest.raises(TransportClosed, match=r"more than 65536 bytes \(IVR_AI_MAX_MESSAGE_BYTES\)"):
            transport.recv()

    def test_a_message_as_long_as_is_allowed(self, meet):
        transport, peer = meet(max_message_bytes=65536)
        event = {"type": "t", "pad": ""}
        event["pad"] = "x" * (65536 - len(json.dumps(event)))
        sending = background(peer.say, event)
        assert transport.recv() == event
        sending.join(5)

    @pytest.mark.parametrize(
        "junk",
        [
            b"HTTP/1.1 500 Oops\r\n\r\n",
            frame(0, b"a continuation of nothing"),
            frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
            bytes([0x80 | 0x40 | TEXT, 2]) + b"{}",
            frame(3, b"no such opcode"),
            frame(PING, b"x" * 126),
            frame(CLOSE, b"\x00"),
            frame(CLOSE, struct.pack("!H", 999)),
        ],
        ids=str,
    )
    def test_what_is_no_websocket_any_more_ends_it(self, meet, junk):
        transport, peer = meet()
        peer.send(junk)
        peer.close()
        with pytest.raises(TransportClosed) as closed:
            transport.recv()
        assert not closed.value.clean

    def test_a_sign_of_life_is_noted(self, meet):
        transport, peer = meet()
        receiver = Receiver(transport)
        before_s = transport.last_received_s
        assert before_s <= time.monotonic()
        transport.ping()
        assert peer.read() == (PING, b"")
        assert transport.last_received_s == before_s
        peer.send(frame(PONG, b""))
        peer.say({"type": "t"})
        deadline_s = time.monotonic() + 5
        while not receiver.events and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert transport.last_received_s > before_s

    def test_the_simulator_gets_its_pong(self):
        with SimServer(voice="tone", ping_interval_s=0.05) as sim:
            transport = Attempt(settings(sim.url)).connect()
            receiver = Receiver(transport)
            time.sleep(0.5)
            assert receiver.closed is None
            assert receiver.events[0]["type"] == "session.created"
            transport.close()
            assert sim.sessions[0].wait_closed() == 1000
            receiver.end()
            transport.release()


class TestSending:
    def test_events_are_json_text(self, meet):
        transport, peer = meet()
        transport.send({"type": "response.create", "response": {"instructions": "Grüß Gott ☎"}})
        opcode, payload = peer.read()
        assert opcode == TEXT
        event = {"type": "response.create", "response": {"instructions": "Grüß Gott ☎"}}
        assert json.loads(payload) == event

    def test_audio_is_appended(self, meet):
        transport, peer = meet()
        audio = bytes(range(256)) * 3
        transport.send_audio(audio)
        event = json.loads(peer.read()[1])
        assert event.pop("type") == "input_audio_buffer.append"
        assert base64.b64decode(event.pop("audio")) == audio
        assert event == {}

    def test_in_the_servers_dialect(self):
        with SimServer(voice="tone:440:200", dialect="beta", pace=0) as sim:
            url = f"{sim.url}?api-version=2025-04-01"
            transport = Attempt(settings(url, temperature=0.9)).connect()
            transport.send({"type": "session.update", "session": {"type": "realtime"}})
            transport.send({"type": "response.create"})
            kinds = set()
            while "response.done" not in kinds:
                kinds.add(transport.recv()["type"])
            transport.close()
            transport.release()
            record = sim.sessions[0]
        assert {"response.output_audio.delta", "conversation.item.added"} <= kinds
        assert "response.audio.delta" not in kinds
        assert record.headers["openai-beta"] == "realtime=v1"
        assert record.first_update["session"] == {"modalities": ["audio", "text"], "temperature": 0.9}

    def test_a_server_that_turns_out_to_speak_beta(self, meet):
        transport, peer = meet()
        peer.say({"type": "response.audio.done"})
        assert transport.recv() == {"type": "response.audio.done"}
        transport.set_dialect(BetaDialect())
        peer.say({"type": "response.audio.done"})
        assert transport.recv() == {"type": "response.output_audio.done"}
        transport.send({"type": "session.update", "session": {"type": "realtime"}})
        assert json.loads(peer.read()[1])["session"] == {"modalities": ["audio", "text"]}

    @TLS
    def test_two_senders_and_a_receiver_at_once(self, secure, certificates):
        """OpenSSL allows one thread at a time; nothing is mixed up, lost or late."""
        each = 1500
        tls = certificates.server("right") if secure else None
        with echo(tls) as url:
            transport = Attempt(settings(url, ca_file=certificates.authority)).connect()
            receiver = Receiver(transport)

            def send(name: str) -> None:
                for n in range(each):
                    size = 150_000 if n % 300 == 0 else n * 7 % 2000
                    transport.send({"type": name, "n": n, "pad": "x" * size})

            senders = [background(send, name) for name in ("a", "b")]
            for sender in senders:
                sender.join(30)
            deadline_s = time.monotonic() + 30
            while len(receiver.events) < 2 * each and not receiver.closed and time.monotonic() < deadline_s:
                time.sleep(0.01)
            transport.close()
            receiver.end()
            transport.release()
        assert transport.bad_messages == 0
        for name in ("a", "b"):
            assert [event["n"] for event in receiver.events if event["type"] == name] == list(range(each))

    @TLS
    def test_a_server_that_stops_reading_cannot_hold_a_thread(self, meet, secure):
        transport, _ = meet(secure, receive_bytes=4096, ping_timeout_s=0.3)
        start_s = last_s = time.monotonic()
        with pytest.raises(TransportClosed):
            while time.monotonic() - start_s < 20:
                last_s = time.monotonic()
                transport.send_audio(bytes(200_000))
        assert 0.2 < time.monotonic() - last_s < 5

    @TLS
    @pytest.mark.parametrize("how", ["close", "abort"])
    def test_a_stuck_sender_is_freed_by_the_end(self, meet, secure, how):
        transport, _ = meet(secure, receive_bytes=4096, ping_timeout_s=60.0, ping_interval_s=100)
        failures: list[TransportClosed] = []

        def send() -> None:
            try:
                while True:
                    transport.send_audio(bytes(200_000))
            except TransportClosed as closed:
                failures.append(closed)

        sender, receiver = background(send), Receiver(transport)
        deadline_s = time.monotonic() + 10
        while transport._ws.idle() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        time.sleep(0.1)
        start_s = time.monotonic()
        getattr(transport, how)()
        sender.join(5)
        receiver.end()
        assert time.monotonic() - start_s < AT_ONCE_S
        assert failures

    def test_idle_means_that_a_goodbye_would_get_through(self, meet):
        transport, _ = meet(receive_bytes=4096, ping_timeout_s=0.2)
        assert transport._ws.idle()
        with pytest.raises(TransportClosed):
            while True:
                transport.send_audio(bytes(200_000))
        assert not transport._ws.idle()
        transport.release()
        assert not transport._ws.idle()


class TestTheEnd:
    @pytest.mark.parametrize(
        ("payload", "code", "reason", "clean"),
        [
            (struct.pack("!H", 1000), 1000, "", True),
            (
                struct.pack("!H", 4000) + b"invalid_request_error.invalid_model",
                4000,
                "invalid_request_error.invalid_model",
                True,
            ),
            (struct.pack("!H", 1001) + "zu spät".encode(), 1001, "zu spät", True),
            (b"", 1005, "", False),
        ],
        ids=str,
    )
    @TLS
    def test_what_the_server_says_in_its_close(self, meet, secure, payload, code, reason, clean):
        transport, peer = meet(secure)
        peer.send(frame(CLOSE, payload))
        with pytest.raises(TransportClosed) as closed:
            transport.recv()
        assert (closed.value.code, closed.value.reason, closed.value.clean) == (code, reason, clean)
        assert f"connection closed with {code}" in str(closed.value)
        assert peer.read()[0] == CLOSE

    def test_its_code_counts_even_if_it_has_gone_before_our_answer(self, meet):
        transport, peer = meet()
        peer.send(frame(CLOSE, struct.pack("!H", 3000) + b"invalid_request_error.invalid_api_key"))
        peer.reset()
        time.sleep(0.05)
        with pytest.raises(TransportClosed) as closed:
            transport.recv()
        assert closed.value.code == 3000

    def test_events_before_the_close_are_still_read(self, meet):
        transport, peer = meet()
        peer.send(frame(TEXT, b'{"type":"error"}') + frame(CLOSE, struct.pack("!H", 4000)))
        peer.close()
        assert transport.recv() == {"type": "error"}
        with pytest.raises(TransportClosed, match="4000"):
            transport.recv()

    @TLS
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_connection_that_just_ends(self, meet, secure, how):
        transport, peer = meet(secure)
        receiver = Receiver(transport)
        getattr(peer, how)()
        closed = receiver.end()
        assert (closed.code, closed.clean) == (1006, False)
        with pytest.raises(TransportClosed):
            for _ in range(100):
                transport.send({"type": "t"})
                time.sleep(0.01)

    @TLS
    def test_a_goodbye_that_is_answered_takes_no_time(self, meet, secure):
        transport, peer = meet(secure, close_timeout_ms=10_000)
        receiver = Receiver(transport)
        answering = background(lambda: (peer.read(), peer.send(frame(CLOSE, struct.pack("!H", 1000)))))
        start_s = time.monotonic()
        transport.close()
        assert time.monotonic() - start_s < 5
        answering.join(5)
        assert receiver.end().code == 1000
        transport.close()

    @TLS
    def test_a_goodbye_that_is_not_answered(self, meet, secure):
        transport, peer = meet(secure, close_timeout_ms=200)
        receiver = Receiver(transport)
        start_s = time.monotonic()
        transport.close()
        assert 0.2 <= time.monotonic() - start_s < 0.2 + AT_ONCE_S
        closed = receiver.end()
        assert (closed.code, closed.reason) == (1000, "closed by us")
        assert peer.read() == (CLOSE, struct.pack("!H", 1000))

    def test_a_simulator_that_ignores_it(self):
        with SimServer(voice="tone", faults=Faults(ignore_close=True)) as sim:
            transport = Attempt(settings(sim.url, close_timeout_ms=100)).connect()
            receiver = Receiver(transport)
            start_s = time.monotonic()
            transport.close()
            assert time.monotonic() - start_s < 0.1 + AT_ONCE_S
            receiver.end()
            transport.release()

    @TLS
    def test_abort_wakes_a_receiver_at_once(self, meet, secure):
        transport, _ = meet(secure, close_timeout_ms=10_000)
        receiver = Receiver(transport)
        time.sleep(0.05)
        start_s = time.monotonic()
        transport.abort()
        assert receiver.end().reason == "closed by us"
        assert receiver.ended_s - start_s < AT_ONCE_S

    def test_after_the_end_everything_says_so(self, meet):
        transport, _ = meet(close_timeout_ms=0)
        transport.close()
        transport.release()
        for use in (
            transport.recv,
            transport.ping,
            lambda: transport.send({"type": "t"}),
            lambda: transport.send_audio(b"1"),
        ):
            with pytest.raises(TransportClosed) as closed:
                use()
            assert closed.value.code == 1000
        transport.close()
        transport.abort()
        transport.release()

    @TLS
    def test_no_descriptor_is_left(self, secure, certificates):
        tls = certificates.server("right") if secure else None
        with SimServer(voice="tone", tls=tls) as sim:
            chosen = settings(sim.url, ca_file=certificates.authority)

            def one_call() -> None:
                transport = Attempt(chosen).connect()
                receiver = Receiver(transport)
                transport.close()
                receiver.end()
                transport.release()

            one_call()
            before = open_files()
            for _ in range(10):
                one_call()
            assert threading.active_count() < 20
        assert open_files() <= before
