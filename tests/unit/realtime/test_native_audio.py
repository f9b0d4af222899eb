"""Audio over the native transport, which stays in C: both ways, flushed, from one connection to the next."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import struct
import time

import pytest
from native_line import FRAME, PCMU, S16, TLS, Line, Listening, noise, settings
from peer import TEXT, Peer, background, frame
from waiting import until

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream
from ivr_ai.realtime.native import NativeTransport


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
