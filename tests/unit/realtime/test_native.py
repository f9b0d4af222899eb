"""The native transport against real servers: events as over the other one, and audio that stays in C."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from peer import BINARY, CLOSE, PING, PONG, TEXT, Peer, background, frame
from waiting import until

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream
from ivr_ai.config import Settings
from ivr_ai.realtime.dialects import BetaDialect
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
            if listen:
                transport.listen()
            transport.send({"type": "hello"})
            assert peer.read()[0] == TEXT  # by now it has joined them
            return Line(transport, listening, peer, stream)

        yield start


def noise(samples: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(2 * samples)


class TestEvents:
    @TLS
    def test_come_in_order_whatever_their_size(self, meet, secure):
        line = meet(secure)
        sent = [{"type": "t", "n": n, "pad": "x" * size} for n, size in enumerate((0, 110, 126, 70_000, 1))]
        sending = background(lambda: [line.peer.say(event) for event in sent])
        assert [line.listening.recv() for _ in sent] == sent
        sending.join(5)

    def test_in_fragments_with_a_ping_in_between(self, meet):
        line = meet()
        line.peer.send(frame(TEXT, b'{"type":', fin=False))
        line.peer.send(frame(PING, b"alive?"))
        line.peer.send(frame(0, b'"fragmented"}'))
        assert line.listening.recv() == {"type": "fragmented"}
        assert line.peer.read() == (PONG, b"alive?")

    def test_text_deltas_pass_through_whole(self, meet):
        line = meet()
        event = {"type": "response.output_audio_transcript.delta", "item_id": "i", "delta": 'Grüß "Gott" ☎'}
        line.peer.say(event)
        assert line.listening.recv() == event

    @pytest.mark.parametrize("text", ["\\u0000", "\\ud83d", "\\ude00 \\ud83d\\ude00"])
    def test_whatever_python_takes_for_json(self, meet, text):
        line = meet()
        line.peer.send(frame(TEXT, b'{"type":"t","text":"' + text.encode() + b'"}'))
        assert line.recv("t")["text"] == json.loads(f'"{text}"')

    def test_are_sent_as_json(self, meet):
        line = meet()
        event = {"type": "response.create", "response": {"instructions": "Grüß Gott ☎"}}
        line.transport.send(event)
        opcode, payload = line.peer.read()
        assert (opcode, json.loads(payload)) == (TEXT, event)

    @pytest.mark.parametrize(
        ("opcode", "payload"),
        [
            (TEXT, b'{"type":"response.output_audio.delta","delta":"AAAA'),
            (TEXT, b'{"type":"response.output_audio.delta","delta":"AAAA","response_id":"r"}'),
            (TEXT, b'{"type":"response.output_audio.delta","delta":"AAAA","response_id":7,"item_id":"i"}'),
            (TEXT, b'{"type":"response.output_audio.delta","item_id":"i","response_id":"r","delta":7}'),
            (TEXT, b""),
            (TEXT, b"\xff\xfe\xfd"),
            (TEXT, b'{"type":"\xc3\x28"}'),
            (TEXT, b"[]"),
            (TEXT, b"null"),
            (TEXT, b"{}"),
            (TEXT, b"[" * 100_000),
            (TEXT, b'{"type":"transport.closed"}'),
            (BINARY, bytes(range(256))),
            (BINARY, b'{"type":"binary"}'),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_nonsense_is_skipped_and_counted(self, meet, opcode, payload):
        line = meet()
        line.peer.send(frame(opcode, payload) * 2)
        line.say("sense")
        assert line.recv("transport.complaint")["about"] == "malformed"
        line.recv("sense")
        assert line.transport.bad_messages == 2

    def test_only_those_that_are_wanted_come(self, meet):
        line = meet(events={"wanted", "response.output_audio.done", "response.output_audio"})
        for kind in (
            "",
            "unwanted",
            "want",
            "wanted.more",
            "response.output_audio.delta.x",
            "response.audio.don",
        ):
            line.say(kind)
        line.delta(noise(FRAME))
        line.done()
        line.say("wanted")
        assert line.recv("transport.complaint")["about"] == "malformed"
        line.recv("transport.audio")
        line.recv("response.output_audio.done")
        line.recv("wanted")

    def test_one_that_only_looks_like_json_is_complained_about(self, meet):
        line = meet()
        line.say("before")
        line.recv("before")
        line.peer.send(frame(TEXT, b'{"type":"t","x":[1,,2]}'))
        assert "not JSON" in line.recv("transport.complaint")["message"]

    def test_those_of_the_beta_interface(self, meet):
        line = meet(events={"response.output_audio.done"}, dialect="beta")
        line.say("response.audio.delta.x")
        line.say("response.audio.done", item_id="i")
        assert line.recv("response.output_audio.done")["item_id"] == "i"

    def test_a_server_that_turns_out_to_speak_beta(self, meet):
        """Wanted events come by either name; the dialect says what they are to us."""
        line = meet(events={"response.output_audio.done", "session.updated"})
        line.say("response.audio.done", item_id="i")
        line.recv("response.audio.done")
        line.transport.set_dialect(BetaDialect())
        line.say("response.audio.done", item_id="i")
        line.recv("response.output_audio.done")
        line.transport.send({"type": "session.update", "session": {"type": "realtime"}})
        sent = json.loads(line.peer.read()[1])
        assert sent == {"type": "session.update", "session": {"modalities": ["audio", "text"]}}

    @pytest.mark.parametrize("prefix", ["response.output_audio", "response.audio"])
    def test_audio_by_either_name_whatever_the_dialect_and_without_a_session(self, meet, prefix):
        line = meet(events=set())
        line.delta(noise(FRAME), type=f"{prefix}.delta")
        line.stream.adopt("item_1", line.recv("transport.audio")["mark"])
        line.say(f"{prefix}.done", response_id="resp_1", item_id="item_1")
        until(lambda: line.stream.mark("item_1").ended)
        assert line.play(FRAME) == noise(FRAME)
        assert line.silent()

    def test_a_large_one_keeps_nobody_waiting(self, meet):
        """Ten megabytes of small values are walked through once, and not read."""
        line, other = meet(), meet()
        line.listening.leave()
        line.peer.send(frame(TEXT, b'{"type":"large","x":[' + b'{"a":1},' * 1_300_000 + b"0]}"))
        start_s = time.monotonic()
        while line.transport.bad_messages == 0:
            other.say("small")
            other.recv("small")
            other.listening.deal()
            assert time.monotonic() - start_s < 10
        assert line.recv("transport.complaint")["message"].startswith("the server sent an event of more than")
        line.say("next")
        line.recv("next")


class TestDownlink:
    @TLS
    @pytest.mark.parametrize("name", ["response.output_audio.delta", "response.audio.delta"])
    def test_audio_is_queued_sample_for_sample(self, meet, secure, name):
        line = meet(secure)
        audio = noise(FRAME * 10)
        line.delta(audio, type=name)
        event = line.recv("transport.audio")
        assert (event["response_id"], event["item_id"], event["generation"]) == ("resp_1", "item_1", 1)
        line.queued(FRAME * 10)
        assert line.play(FRAME * 10) == audio

    def test_split_anywhere(self, meet):
        """Inside a sample, inside a WebSocket frame, in any number of pieces."""
        line, rng = meet(), random.Random(7)
        audio, at = noise(FRAME * 100), 0
        while at < len(audio):
            size = rng.choice((1, 2, 3, 320, 1001, 4800))
            text = json.dumps(
                {
                    "type": "response.output_audio.delta",
                    "response_id": "resp_1",
                    "item_id": "item_1",
                    "delta": base64.b64encode(audio[at : at + size]).decode(),
                }
            ).encode()
            cut = rng.randrange(len(text))
            line.peer.send(frame(TEXT, text[:cut], fin=False) + frame(0, text[cut:]))
            at += size
        line.queued(FRAME * 100)
        assert line.play(FRAME * 100) == audio

    def test_bursts_of_twenty_megabytes(self, meet):
        line = meet(said=Format("s16", 8000), max_message_bytes=32 << 20)
        audio = noise(4_000_000)  # 500 s at once; then again, in pieces
        sending = background(line.delta, audio)
        line.queued(4_000_000)
        sending.join(10)
        assert line.play(4_000_000) == audio
        line.done()

        def in_pieces() -> None:
            for at in range(0, len(audio), 9600):
                line.delta(audio[at : at + 9600], item="item_2")

        sending = background(in_pieces)
        line.queued(8_000_000)
        sending.join(10)
        assert line.play(4_000_000) == audio
        assert line.transport.info().full_deltas == 0

    def test_a_delta_that_comes_twice_is_heard_once(self, meet):
        line, audio = meet(), noise(FRAME * 70)
        for n in range(70):
            part = audio[n * 2 * FRAME : (n + 1) * 2 * FRAME]
            line.delta(part, event_id=f"event_{n}")
            line.delta(part, event_id=f"event_{n}")
            if n >= 60:
                line.delta(audio[(n - 60) * 2 * FRAME :][: 2 * FRAME], event_id=f"event_{n - 60}")
        line.queued(FRAME * 70)
        line.say("last")
        while line.listening.recv()["type"] != "last":
            pass
        assert line.transport.info().repeated_deltas == 80
        assert line.play(FRAME * 70) == audio

    def test_an_event_id_alone_tells_no_audio_from_another(self, meet):
        """Servers that do not number their events, or always with the same number, are heard whole."""
        line, audio = meet(), noise(FRAME * 4)
        for n, event_id in enumerate(("event", "event", "", "event")):
            line.delta(audio[n * 2 * FRAME : (n + 1) * 2 * FRAME], event_id=event_id)
        line.delta(audio[: 2 * FRAME])
        line.delta(audio[: 2 * FRAME])
        line.queued(FRAME * 6)
        assert line.play(FRAME * 6) == audio + 2 * audio[: 2 * FRAME]

    def test_a_server_that_gives_one_event_id_to_all_is_heard_whole(self, meet):
        """A steady tone has the same samples in every delta: nothing else tells that its deltas are not
        repeats."""
        line, audio = meet(), noise(FRAME)
        line.say("session.created", event_id="e")
        line.say("session.updated", event_id="e")
        for _ in range(5):
            line.delta(audio, event_id="e")
        line.queued(FRAME * 5)
        assert line.play(FRAME * 5) == audio * 5

    def test_items_that_interleave_keep_their_counts(self, meet):
        line = meet()
        for n in range(10):
            line.delta(noise(FRAME, n), item="a")
            line.delta(noise(FRAME, 100 + n), item="b")
        line.done("a")
        line.done("b")
        for _ in range(2):
            event = line.recv("transport.audio")
            line.stream.adopt(event["item_id"], event["mark"])
        line.queued(20 * FRAME)
        line.recv("response.output_audio.done")
        line.recv("response.output_audio.done")
        line.play(20 * FRAME)
        marks = [line.stream.mark(item) for item in "ab"]
        assert [(mark.played_ms, mark.finished) for mark in marks] == [(200.0, True), (200.0, True)]

    def test_g711_and_other_rates(self, meet):
        line = meet(said=PCMU, wire="pcmu")
        line.delta(bytes([0xFF]) * FRAME * 2)
        line.queued(FRAME * 2)
        assert line.play(FRAME * 2) == bytes(4 * FRAME)
        line.listening.leave()
        line = meet(said=Format("s16", 24000))
        line.delta(bytes(48000))
        line.done()
        line.queued(8000)
        assert line.stream.stats().inject_written_samples == 8000

    def test_an_item_is_complete_when_the_server_says_so(self, meet):
        line = meet()
        line.delta(noise(FRAME + 80))
        line.done()
        line.recv("transport.audio")
        line.recv("response.output_audio.done")
        line.play(FRAME + 80)
        assert line.silent()
        assert line.stream.stats().inject_underruns == 0

    def test_announced_at_first_and_then_once_a_second(self, meet):
        line, start_s = meet(), time.monotonic()
        while time.monotonic() - start_s < 1.3:
            line.delta(noise(80))
            time.sleep(0.02)
        line.say("last")
        kinds = []
        while not kinds or kinds[-1] != "last":
            kinds.append(line.listening.recv()["type"])
        assert kinds == ["transport.audio", "transport.audio", "last"]

    @pytest.mark.parametrize(
        ("delta", "about"), [("====", "base64"), ("A", "base64"), ("\u2603", "base64"), ("QUJD!", "base64")]
    )
    def test_what_is_not_base64_is_complained_about(self, meet, delta, about):
        line = meet()
        line.say("response.output_audio.delta", response_id="r", item_id="i", delta=delta)
        assert line.recv("transport.complaint")["about"] == about

    def test_complaints_come_once_a_second_at_most(self, meet):
        """However fast the server sends nonsense."""
        line = meet()
        for n in range(500):
            line.say("response.output_audio.delta", response_id="r", item_id=f"i{n}", delta="!!!!")
            line.say("response.output_audio.delta", response_id="r", delta="!!!!")
        line.say("last")
        kinds = []
        while not kinds or kinds[-1] != "last":
            event = line.listening.recv()
            kinds.append(event.get("about", event["type"]))
        assert kinds.count("base64") <= 3
        assert kinds.count("malformed") == 1
        assert line.transport.bad_messages == 500

    def test_audio_before_there_is_a_stream(self):
        peer, listening = Peer(), Listening()
        accepting = background(peer.accept)
        transport = NativeTransport(settings(peer.url), listening)
        transport.open()
        accepting.join(5)
        line = Line(transport, listening, peer, None)
        line.delta(noise(80))
        assert "before it was asked" in line.recv("transport.complaint")["message"]
        listening.leave()
        transport.release()
        peer.close()

    def test_more_than_the_queue_holds_is_complained_about(self, meet):
        line = meet()
        audio = bytes(2 * 8000 * 99)
        for _ in range(7):  # 693 s; the bound is 600
            line.delta(audio)
        while line.listening.recv()["type"] != "transport.complaint":
            pass
        assert line.transport.info().full_deltas == 1
        assert line.stream.stats().inject_queued_samples == 6 * 99 * 8000


class TestFlush:
    def test_late_audio_of_a_flushed_response_is_dropped(self, meet):
        line = meet()
        line.delta(noise(FRAME * 5))
        line.queued(FRAME * 5)
        line.stream.flush()
        line.delta(noise(FRAME * 5))
        line.say("last")
        while line.listening.recv()["type"] != "last":
            pass
        line.stream.host_inject(bytes(2 * FRAME))
        assert line.silent()
        assert line.stream.stats().inject_stale_writes == 1

    def test_a_response_that_begins_while_the_caller_speaks_waits_for_a_word(self, meet):
        line = meet()
        line.say("input_audio_buffer.speech_started")
        line.say("response.created", response={"id": "resp_1"})
        line.delta(noise(FRAME * 2))
        line.done()
        line.recv("input_audio_buffer.speech_started")
        line.recv("response.created")
        assert line.recv("transport.audio")["generation"] == 0
        line.recv("response.output_audio.done")
        assert line.silent()
        line.transport.route("resp_1", line.stream.generation)
        line.queued(FRAME * 2)
        assert line.play(FRAME * 2) == noise(FRAME * 2)
        assert line.silent()
        assert line.stream.stats().inject_underruns == 0

    def test_and_the_word_counts_at_once(self, meet):
        """The item may end, or be flushed, the moment after: nothing of it is still on its way then."""
        for _ in range(20):
            line = meet()
            line.say("input_audio_buffer.speech_started")
            line.delta(noise(FRAME * 5))
            line.recv("input_audio_buffer.speech_started")
            event = line.recv("transport.audio")
            line.stream.adopt(event["item_id"], event["mark"])
            line.transport.route("resp_1", line.stream.generation)
            line.stream.end("item_1")
            assert line.stream.mark("item_1").written_ms == 100
            assert line.stream.flush().played_ms == {"item_1": 0.0}
            line.listening.leave()

    def test_or_is_dropped(self, meet):
        line = meet()
        line.say("input_audio_buffer.speech_started")
        line.delta(noise(FRAME * 2))
        line.recv("input_audio_buffer.speech_started")
        line.recv("transport.audio")
        line.transport.route("resp_1", None)
        line.delta(noise(FRAME * 2))
        line.say("last")
        line.recv("last")
        assert line.silent()

    def test_one_that_begins_before_the_flush_is_done_belongs_to_the_new_generation(self, meet):
        """The caller's turn is over before the application has come to flush what played when it began."""
        line = meet()
        line.delta(noise(FRAME * 5), item="old", response="resp_0")
        line.recv("transport.audio")
        line.say("input_audio_buffer.speech_started")
        line.say("input_audio_buffer.speech_stopped")
        line.say("response.created", response={"id": "resp_1"})
        line.delta(noise(FRAME * 2, 2))
        line.recv("input_audio_buffer.speech_started")
        until(lambda: line.transport.info().deltas >= 2)
        flushed = line.stream.flush()
        line.recv("input_audio_buffer.speech_stopped")
        line.recv("response.created")
        event = line.recv("transport.audio")
        assert (event["item_id"], event["generation"]) == ("item_1", 0)
        line.transport.route("resp_1", flushed.generation)
        line.queued(FRAME * 7)
        line.stream.host_inject(bytes(2 * FRAME))
        assert line.play(FRAME * 2) == noise(FRAME * 2, 2)

    def test_audio_of_an_earlier_response_does_not_begin_once_the_caller_speaks(self, meet):
        """Its first audio comes after the speech_started, which the application has not dealt with."""
        line = meet()
        line.say("response.created", response={"id": "resp_1"})
        line.recv("response.created")
        line.say("input_audio_buffer.speech_started")
        line.delta(noise(FRAME * 5))
        line.recv("input_audio_buffer.speech_started")
        until(lambda: line.transport.info().deltas == 1)
        assert line.silent()
        line.stream.flush()
        event = line.recv("transport.audio")
        assert (event["generation"], event["first"]) == (0, True)
        line.transport.route("resp_1", None)
        line.delta(noise(FRAME))
        line.say("last")
        line.recv("last")
        assert line.silent()

    def test_unless_it_goes_on(self, meet):
        """A false start: the application flushes nothing, and what was held back is heard whole."""
        line = meet()
        line.say("response.created", response={"id": "resp_1"})
        line.recv("response.created")
        line.say("input_audio_buffer.speech_started")
        line.delta(noise(FRAME * 2))
        line.recv("input_audio_buffer.speech_started")
        event = line.recv("transport.audio")
        line.transport.route(event["response_id"], line.stream.generation)
        line.delta(noise(FRAME * 4)[4 * FRAME :])
        line.queued(FRAME * 4)
        assert line.play(FRAME * 4) == noise(FRAME * 4)

    def test_what_is_not_base64_holds_nothing_back(self, meet):
        """Nobody would be told of it, and so nobody would say what becomes of its response."""
        line = meet()
        line.delta(noise(FRAME))
        line.recv("transport.audio")
        line.say("input_audio_buffer.speech_started")
        line.recv("input_audio_buffer.speech_started")
        about = {"response_id": "resp_1", "item_id": "item_2"}
        line.say("response.output_audio.delta", delta="!!!!", **about)
        line.recv("transport.complaint")
        line.delta(noise(FRAME * 2)[2 * FRAME :])
        line.queued(FRAME * 2)
        assert line.play(FRAME * 2) == noise(FRAME * 2)

    def test_once_the_flush_is_done_nothing_waits(self, meet):
        line = meet()
        line.say("input_audio_buffer.speech_started")
        line.say("input_audio_buffer.speech_stopped")
        line.recv("input_audio_buffer.speech_started")
        line.recv("input_audio_buffer.speech_stopped")
        line.listening.deal()
        time.sleep(0.05)
        line.delta(noise(FRAME))
        line.queued(FRAME)
        assert line.play(FRAME) == noise(FRAME)


class TestUplink:
    def read_audio(self, line: Line) -> bytes:
        event = json.loads(line.peer.read()[1])
        assert event["type"] == "input_audio_buffer.append"
        return base64.b64decode(event["audio"], validate=True)

    @TLS
    def test_the_caller_is_sent_sample_for_sample(self, meet, secure):
        line, audio = meet(secure), noise(FRAME * 50)
        heard = b""
        for at in range(0, len(audio), 2 * FRAME):
            line.stream.host_capture(audio[at : at + 2 * FRAME])
        while len(heard) < len(audio):
            heard += self.read_audio(line)
        assert heard == audio

    def test_nothing_is_sent_before_listen_and_nothing_is_lost(self, meet):
        line, audio = meet(listen=False), noise(FRAME * 10)
        line.stream.host_capture(audio)
        time.sleep(0.05)
        line.transport.send({"type": "session.update"})
        line.transport.listen()
        assert json.loads(line.peer.read()[1]) == {"type": "session.update"}
        heard = b""
        while len(heard) < len(audio):
            heard += self.read_audio(line)
        assert heard == audio

    def test_a_server_that_does_not_read_gets_the_latest(self, meet):
        """The oldest beyond the bound is dropped and counted; the media thread is never held up."""
        line = meet(receive_bytes=4096, uplink_max_ms=3000, ping_interval_s=3600.0)
        slowest_s, steps = 0.0, 450
        for step in range(steps):
            audio = struct.pack("<h", step) * 16000
            start_s = time.monotonic()
            line.stream.host_capture(audio)
            slowest_s = max(slowest_s, time.monotonic() - start_s)
            time.sleep(0.006)
        heard = []
        line.peer.sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                heard.append(self.read_audio(line))
        samples = struct.unpack(f"<{sum(map(len, heard)) // 2}h", b"".join(heard))
        dropped = line.transport.info().dropped_samples
        assert dropped == line.stream.stats().capture_discarded_samples > 0
        assert len(samples) + dropped == steps * 16000
        assert list(samples) == sorted(samples)
        assert samples[-1] == steps - 1
        assert slowest_s < 0.1

    def test_the_latest_is_kept_before_there_is_a_session(self, meet):
        line = meet(listen=False, uplink_max_ms=200)
        for step in range(100):
            line.stream.host_capture(struct.pack("<h", step + 1) * FRAME)
        until(lambda: line.transport.info().dropped_samples == 90 * FRAME)
        line.transport.listen()
        heard = b""
        while len(heard) < 10 * 2 * FRAME:
            heard += self.read_audio(line)
        assert heard == b"".join(struct.pack("<h", step + 1) * FRAME for step in range(90, 100))


class TestHandover:
    """A second connection on the stream of the first."""

    def read_audio(self, line: Line) -> bytes:
        return base64.b64decode(json.loads(line.peer.read()[1])["audio"], validate=True)

    def test_the_second_goes_on_where_the_first_stopped(self, meet):
        first = meet()
        second, audio = meet(joined=first.stream, listen=False), noise(FRAME * 3)
        first.stream.host_capture(audio[: 2 * FRAME])
        heard = self.read_audio(first)
        first.transport.unlisten()
        first.stream.host_capture(audio[2 * FRAME :])
        first.transport.send({"type": "last"})
        assert json.loads(first.peer.read()[1])["type"] == "last"
        second.transport.listen()
        while len(heard) < len(audio):
            heard += self.read_audio(second)
        assert heard == audio

    def test_the_reply_of_the_first_still_plays(self, meet):
        first = meet()
        second = meet(joined=first.stream, listen=False)
        first.transport.unlisten()
        second.transport.listen()
        first.delta(noise(FRAME * 2))
        first.queued(FRAME * 2)
        second.delta(noise(FRAME, 2), item="item_2", response="resp_2")
        first.queued(FRAME * 3)
        assert first.play(FRAME * 3) == noise(FRAME * 2) + noise(FRAME, 2)

    def test_the_second_attaches_when_the_first_has_closed(self, meet):
        first, audio = meet(), noise(FRAME * 2)
        first.transport.unlisten()
        first.transport.close()
        first.stream.host_capture(audio)
        second = meet(joined=first.stream)
        assert self.read_audio(second) == audio

    def test_it_may_speak_another_format(self, meet):
        first = meet()
        first.transport.unlisten()
        first.stream.host_capture(bytes(2 * FRAME))
        second = meet(joined=first.stream, heard=PCMU)
        assert self.read_audio(second) == b"\xff" * FRAME

    def test_before_there_is_a_connection(self):
        NativeTransport(settings("ws://127.0.0.1:1/"), Listening()).unlisten()

    def test_a_stream_of_two_channels_is_refused(self, meet):
        line = meet()
        with (
            HostStream.create("two-channels", channels=2) as stream,
            pytest.raises(ValueError, match="2 channels"),
        ):
            line.transport.attach(stream, S16, S16)


class TestTheEnd:
    @TLS
    @pytest.mark.parametrize(
        ("payload", "code", "reason"),
        [
            (struct.pack("!H", 1000), 1000, ""),
            (struct.pack("!H", 4000) + b"invalid_model", 4000, "invalid_model"),
            (struct.pack("!H", 1001) + "zu spät".encode(), 1001, "zu spät"),
            (b"", 1005, ""),
        ],
        ids=str,
    )
    def test_what_the_server_says_in_its_close(self, meet, secure, payload, code, reason):
        line = meet(secure)
        line.say("error")
        line.peer.send(frame(CLOSE, payload))
        line.recv("error")
        line.listening.deal()
        closed = line.listening.closed.get(timeout=5)
        assert (closed.code, closed.reason) == (code, reason)

    @TLS
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_connection_that_just_ends(self, meet, secure, how):
        line = meet(secure)
        getattr(line.peer, how)()
        closed = line.listening.closed.get(timeout=5)
        assert (closed.code, closed.clean) == (1006, False)
        with pytest.raises(TransportClosed):
            line.transport.send({"type": "t"})

    @pytest.mark.parametrize("answers", [True, False])
    def test_goodbye(self, meet, answers):
        line = meet(close_timeout_ms=300)
        if answers:
            background(lambda: (line.peer.read(), line.peer.send(frame(CLOSE, struct.pack("!H", 1000)))))
        start_s = time.monotonic()
        line.transport.close()
        took_s = time.monotonic() - start_s
        assert line.listening.closed.get(timeout=2).code == 1000
        assert took_s < 0.25 if answers else 0.25 < took_s < 1.3

    @TLS
    def test_abort_takes_no_time(self, meet, secure):
        line = meet(secure, close_timeout_ms=10_000)
        start_s = time.monotonic()
        line.transport.abort()
        assert line.listening.closed.get(timeout=5).reason == "closed by us"
        assert time.monotonic() - start_s < 1
        line.transport.close()
        line.transport.release()

    def test_after_release_nothing_is_heard_of_it(self, meet):
        line = meet()
        line.transport.release()
        with pytest.raises(queue.Empty):
            line.listening.closed.get(timeout=0.2)

    def test_a_hung_server_is_given_up_on(self, meet):
        line = meet(ping_interval_s=0.3, ping_timeout_s=0.2)
        start_s = time.monotonic()
        closed = line.listening.closed.get(timeout=5)
        assert 0.4 < time.monotonic() - start_s < 3
        assert not closed.clean
        assert line.peer.read()[0] == PING

    def test_a_message_that_is_too_long(self, meet):
        line = meet(max_message_bytes=65536)
        with contextlib.suppress(OSError):
            line.peer.send(frame(TEXT, b'{"type":"' + b"x" * 70_000))
        assert "65536" in line.listening.closed.get(timeout=5).reason

    def test_the_stream_may_go_first(self, meet):
        line = meet()
        line.stream.close()
        line.delta(noise(80))
        line.say("last")
        line.recv("last")

    def test_a_listener_that_raises_harms_no_other(self, meet, caplog):
        first, second = meet(), meet()

        def raises(event: dict) -> None:
            raise RuntimeError("a fault of this call")

        first.listening.on_event = raises
        first.say("t")
        second.say("t")
        second.recv("t")
        second.listening.deal()
        until(lambda: "a fault of this call" in caplog.text)

    @TLS
    def test_no_descriptor_is_left(self, meet, secure):
        def open_files() -> int:
            return len(os.listdir("/proc/self/fd"))

        def one_call() -> None:
            line = meet(secure)
            line.transport.release()
            line.peer.close()

        one_call()
        before = open_files()
        for _ in range(10):
            one_call()
        until(lambda: open_files() <= before)


class TestConnecting:
    def refusal(self, url: str, **changed) -> str:
        return self.failure(url, **changed).reason

    def failure(self, url: str, **changed) -> ConnectError:
        listening = Listening()
        transport = NativeTransport(settings(url, **changed), listening)
        try:
            transport.open()
            error = listening.closed.get(timeout=10)
        except ConnectError as refused:
            error = refused
        assert isinstance(error, ConnectError)
        assert "sk-secret" not in repr(error)
        transport.release()
        return error

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        error = self.failure(f"ws://127.0.0.1:{port}/")
        assert error.reason.startswith(f"127.0.0.1:{port} refused the connection")
        assert "OPENAI_REALTIME_URL" in error.reason
        assert (error.passing, error.refused) == (True, True)
        error = self.failure("ws://255.255.255.255/")
        assert (error.passing, error.refused) == (True, False)
        assert "refused" not in error.reason

    def test_no_such_name(self):
        assert "no address for nowhere.invalid" in self.refusal("ws://nowhere.invalid/")

    @pytest.mark.parametrize("status", [401, 404, 200, 429, 500])
    def test_an_answer_that_is_no_upgrade(self, status):
        peer = Peer()
        background(peer.accept, f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        error = self.failure(peer.url)
        assert f"answered HTTP {status}" in error.reason
        assert "OPENAI_API_KEY" in error.reason
        assert (error.http_status, error.passing) == (status, status >= 429)
        peer.close()

    def test_a_server_that_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            reason = self.refusal(f"ws://127.0.0.1:{listening.getsockname()[1]}/", connect_timeout_ms=200)
            error = self.failure(f"ws://127.0.0.1:{listening.getsockname()[1]}/", connect_timeout_ms=100)
        assert "did not answer within 200 ms (IVR_AI_CONNECT_TIMEOUT_MS)" in reason
        assert error.passing

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    def test_a_connection_that_ends_before_the_handshake_has_may_pass(self, scheme):
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def serve() -> None:
                with listening.accept()[0] as peer:
                    peer.recv(65536)

            background(serve)
            error = self.failure(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/")
        assert (error.passing, error.refused) == (True, False)
        assert "certificate" not in error.reason

    @pytest.mark.parametrize(
        ("certificate", "trust", "says"),
        [
            ("right", False, "not trusted"),
            ("expired", True, "expired"),
            ("elsewhere", True, "mismatch"),
        ],
    )
    def test_a_certificate_that_is_not_to_be_trusted(self, certificates, certificate, trust, says):
        peer = Peer(certificates.server(certificate))

        def accept() -> None:
            with contextlib.suppress(OSError):
                peer.accept()

        background(accept)
        error = self.failure(peer.url, ca_file=certificates.authority if trust else "")
        reason = error.reason
        assert not error.passing
        assert "its certificate is not trusted" in reason
        assert says in reason
        assert "WSS_PEM" in reason
        peer.close()

    def test_a_url_that_is_refused(self):
        listening = Listening()
        transport = NativeTransport(settings(f"ws://127.0.0.1:1/{'x' * 3000}"), listening)
        with pytest.raises(ConnectError, match="OPENAI_REALTIME_URL"):
            transport.open()
        for use in (transport.listen, lambda: transport.send({"type": "t"}), lambda: transport.route("r", 1)):
            with pytest.raises(TransportClosed):
                use()
        assert transport.info().state == 0
        transport.abort()
        transport.close()
        transport.release()

    def test_giving_up(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            hearing = Listening()
            transport = NativeTransport(settings(f"ws://127.0.0.1:{listening.getsockname()[1]}/"), hearing)
            transport.open()
            time.sleep(0.05)
            start_s = time.monotonic()
            transport.close()
            assert hearing.closed.get(timeout=5).reason == "closed by us"
            assert time.monotonic() - start_s < 1

    def test_the_server_is_told_who_we_are(self, meet):
        line = meet()
        assert "Authorization: Bearer sk-secret" in line.peer.request
        assert "GET /v1/realtime?model=" in line.peer.request
