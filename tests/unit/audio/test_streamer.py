"""What the server gets: both dialects, every format, and the beginning and end of a streamer."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from array import array

import numpy as np
import pytest
from ivr_ai._audio_stream import ffi, lib
from line import Line, noise, tone
from wire_server import Visit, WireServer

from ivr_ai.audio import g711
from ivr_ai.audio.stream import StreamBusy, StreamClosed, StreamFull
from ivr_ai.audio.streamer import Streamer, _make_options

RATES_HZ = [8000, 16000, 24000, 32000, 44100, 48000]


def enough(size_bytes: int):
    return lambda visit: len(visit.audio()) >= size_bytes


def rest_of_tone(pcm: bytes, rate_hz: int, hz: int = 440) -> float:
    """How much is left, relative to it, of one tone without a break: 0 is nothing but that tone."""
    heard = np.frombuffer(pcm, "<i2").astype(float)
    turn = 2 * np.pi * hz / rate_hz * np.arange(len(heard))
    basis = np.stack([np.sin(turn), np.cos(turn)], 1)
    fit = np.linalg.lstsq(basis, heard, rcond=None)[0]
    assert np.hypot(*fit) == pytest.approx(8000, rel=0.02)
    return float(np.abs(heard - basis @ fit).max() / 8000)


class TestBinary:
    def test_frames_are_complete_and_in_order(self, talk):
        says = noise(600)
        one = talk(says=says)
        visit = one.visit
        visit.wait(enough(len(says)))
        assert visit.audio() == says
        assert {len(message) for message in visit.messages} == {320}

    def test_the_first_words_are_kept_while_connecting(self, talk):
        with WireServer(answer=lambda connection, request: time.sleep(0.5)) as server:
            says = noise(1000)
            one = talk(says=says, server=server)
            one.visit.wait(enough(len(says)))
            assert one.visit.audio() == says

    def test_metadata_comes_first(self, talk):
        visit = talk(says=noise(100), metadata='{"tenant": "blue"}').visit
        visit.wait(enough(320))
        assert visit.messages[0] == '{"tenant": "blue"}'
        assert visit.texts() == ['{"tenant": "blue"}']

    @pytest.mark.parametrize(
        ("options", "size_bytes"),
        [
            ({"STREAM_FRAME_MS": 10}, 160),
            ({"STREAM_FRAME_MS": 60}, 960),
            ({"STREAM_BUFFER_SIZE": 100}, 1600),
            ({"STREAM_FRAME_MS": 60, "STREAM_BUFFER_SIZE": 40}, 960),
        ],
    )
    def test_how_much_is_in_a_message(self, talk, options, size_bytes):
        says = noise(1200)
        visit = talk(says=says, options=options).visit
        visit.wait(enough(9600))
        assert says.startswith(visit.audio())
        assert {len(message) for message in visit.messages} == {size_bytes}

    def test_the_cadence_is_the_same_in_silence(self, talk):
        one = talk(says=bytes(320 * 50))
        one.visit.wait(enough(320 * 40))
        gaps_s = np.diff(one.visit.times_s)
        assert np.median(gaps_s) == pytest.approx(0.02, abs=0.005)

    @pytest.mark.parametrize("rate_hz", RATES_HZ[1:])
    def test_any_rate(self, talk, rate_hz):
        one = talk(says=tone(500), rate_hz=rate_hz)
        one.visit.wait(enough(rate_hz * 2 * 480 // 1000))
        assert {len(message) for message in one.visit.messages} == {rate_hz // 50 * 2}
        settled = one.visit.audio()[rate_hz // 20 * 2 :]
        assert rest_of_tone(settled, rate_hz) < 0.01

    def test_from_a_wideband_call_down(self, talk):
        one = talk(says=tone(500, 48000), config={"rate_hz": 48000}, rate_hz=8000)
        one.visit.wait(enough(8 * 2 * 480))
        assert rest_of_tone(one.visit.audio()[800:], 8000) < 0.01

    def test_stereo_has_the_caller_left(self, talk):
        left, right = array("h", noise(400, seed=1)), array("h", noise(400, seed=2))
        both = array("h", (sample for pair in zip(left, right, strict=True) for sample in pair))
        one = talk(says=both.tobytes(), config={"channels": 2}, track="stereo")
        one.visit.wait(enough(len(both) * 2))
        got = array("h", one.visit.audio())
        assert (got[0::2], got[1::2]) == (left, right)
        assert {len(message) for message in one.visit.messages} == {640}


class TestJson:
    def test_start_media_stop_in_sequence(self, talk):
        says = noise(400)
        one = talk(
            dialect="json", says=says, track="inbound", metadata='{"a":1}', options={"stream_auth_id": "u7"}
        )
        one.visit.wait(enough(len(says)))
        assert one.stop("done") == "done"
        assert one.visit.wait_closed() == (1000, "done")
        events = one.visit.events()
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert [event["event"] for event in events] == ["start"] + ["media"] * 20 + ["stop"]
        stream = one.line.stream
        start = events[0]
        assert (start["uuid"], start["streamId"]) == (stream.uuid, "main")
        assert (start["track"], start["codec"], start["rate"]) == ("inbound", "L16", 8000)
        assert (start["metadata"], start["authId"]) == ({"a": 1}, "u7")
        assert events[-1]["reason"] == "done"
        assert one.visit.audio() == says

    @pytest.mark.parametrize("rate_hz", [8000, 16000])
    def test_ulaw(self, talk, rate_hz):
        says = tone(500)
        one = talk(dialect="json", says=says, rate_hz=rate_hz, options={"STREAM_CODEC": "ULAW"})
        one.visit.wait(enough(rate_hz * 480 // 1000))
        assert one.visit.events("start")[0]["codec"] == "ULAW"
        settled = g711.pcmu_decode(one.visit.audio())[rate_hz // 20 * 2 :]
        assert rest_of_tone(settled, rate_hz) < 0.04

    def test_a_batch_is_several_messages(self, talk):
        says = noise(1000)
        one = talk(dialect="json", says=says, options={"STREAM_BUFFER_SIZE": 100})
        one.visit.wait(enough(6400))
        assert {len(base64.b64decode(event["audio"])) for event in one.visit.events("media")} == {320}
        assert says.startswith(one.visit.audio())
        gaps_s = np.diff(one.visit.times_s[1:])
        assert sum(gap > 0.05 for gap in gaps_s) <= 6

    def test_its_subprotocol(self, talk):
        with WireServer(subprotocols=["audio.freeswitch.org"]) as server:
            visit = talk(dialect="json", server=server).visit
            assert visit.headers["Sec-WebSocket-Protocol"] == "audio.freeswitch.org"

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_another_subprotocol(self, talk, dialect):
        with WireServer(subprotocols=["mine.example"]) as server:
            options = {"MOD_AUDIO_STREAM_SUBPROTOCOL_NAME": "mine.example"}
            visit = talk(dialect=dialect, server=server, options=options).visit
            assert visit.headers["Sec-WebSocket-Protocol"] == "mine.example"

    def test_the_binary_dialect_has_none(self, talk):
        assert "Sec-WebSocket-Protocol" not in talk().visit.headers

    def test_the_dialect_can_be_set(self, talk):
        one = talk(dialect="binary", options={"STREAM_DIALECT": "json"})
        assert one.visit.wait(lambda visit: visit.events("start"))
        assert one.streamer.describe()["dialect"] == "json"


class TestText:
    def test_it_arrives_as_it_is(self, talk):
        one = talk()
        one.streamer.send_text("anything é")
        one.visit.wait(lambda visit: visit.texts() == ["anything é"])

    def test_it_waits_for_the_connection_and_follows_the_start(self, talk):
        with WireServer(answer=lambda connection, request: time.sleep(0.3)) as server:
            one = talk(dialect="json", server=server)
            one.streamer.send_text('{"n":1}')
            one.streamer.send_text('{"n":2}')
            one.visit.wait(lambda visit: len(visit.texts()) == 3)
            assert one.visit.texts()[1:] == ['{"n":1}', '{"n":2}']
            assert json.loads(one.visit.texts()[0])["event"] == "start"

    def test_it_is_bounded(self, talk):
        with WireServer(answer=lambda connection, request: time.sleep(1)) as server:
            one = talk(server=server)
            with pytest.raises(StreamFull):
                for _ in range(100):
                    one.streamer.send_text("x" * 65536)

    @pytest.mark.parametrize("graceful", [False, True])
    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_it_is_sent_before_the_end(self, talk, dialect, graceful):
        one = talk(dialect=dialect)
        assert one.visit
        for n in range(20):
            one.streamer.send_text(f'{{"n":{n}}}')
        one.streamer.stop("done", graceful=graceful)
        assert one.over() == "done"
        one.visit.wait_closed()
        first = 0 if dialect == "binary" else 1
        assert one.visit.texts()[first:-1] == [f'{{"n":{n}}}' for n in range(20)]
        assert "done" in one.visit.texts()[-1]

    def test_it_is_sent_when_the_call_ends(self, talk):
        one = talk()
        assert one.visit
        one.streamer.send_text("last words")
        one.line.close()
        assert one.over() == "hangup"
        one.visit.wait_closed()
        assert one.visit.texts() == ["last words"]

    def test_it_becomes_utf8(self, talk):
        one = talk()
        assert one.visit
        assert lib.as_streamer_send_text(one.streamer._handle, b"caf\xe9") == 0
        one.visit.wait(lambda visit: visit.texts() == ["caf\ufffd"])

    def test_a_farewell_becomes_utf8(self, talk):
        one = talk()
        visit = one.visit
        lib.as_streamer_stop(one.streamer._handle, b"caf\xe9", 0)
        assert one.over() == "caf\ufffd"
        assert visit.wait_closed() == (1000, "caf\ufffd")
        assert visit.texts() == ["caf\ufffd"]

    def test_not_after_the_end(self, talk):
        one = talk()
        assert one.visit
        one.stop()
        with pytest.raises(StreamClosed):
            one.streamer.send_text("late")


class TestEnd:
    def test_binary_gets_the_text_of_stop(self, talk):
        one = talk()
        visit = one.visit
        assert one.stop("that was it") == "that was it"
        assert visit.wait_closed() == (1000, "that was it")
        assert visit.texts() == ["that was it"]
        assert one.events.names() == ["connect", "stream_started", "disconnect", "stream_stopped"]

    def test_stop_without_a_reason(self, talk):
        one = talk(dialect="json")
        visit = one.visit
        assert one.stop() == "stop"
        visit.wait_closed()
        assert visit.events()[-1]["reason"] == "stop"
        names = ["connection_established", "stream_started", "connection_closed", "stream_stopped"]
        assert one.events.names() == names

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_hangup_sends_what_was_captured(self, talk, dialect):
        says = noise(2000)
        one = talk(dialect=dialect, says=says)
        one.visit.wait(enough(8000))
        one.line.stream.host_capture(noise(7, seed=9))  # not a whole message
        start_s = time.monotonic()
        one.line.close()
        assert one.over() == "hangup"
        assert time.monotonic() - start_s < 2
        one.visit.wait_closed()
        assert len(one.visit.audio()) == one.line.said + 112
        if dialect == "json":
            assert one.visit.events()[-1] | {"sequence": 0} == {
                "event": "stop",
                "sequence": 0,
                "streamId": "main",
                "reason": "hangup",
            }

    def test_hangup_while_connecting(self, talk):
        with WireServer(answer=lambda connection, request: time.sleep(1)) as server:
            one = talk(server=server)
            time.sleep(0.1)
            one.line.close()
            assert one.over(1) == "hangup"

    def test_stop_while_connecting(self, talk):
        with WireServer(answer=lambda connection, request: time.sleep(1)) as server:
            one = talk(server=server)
            assert one.stop("changed my mind") == "changed my mind"
            assert one.events.names() == ["stream_stopped"]

    def test_stop_is_idempotent(self, talk):
        one = talk()
        assert one.visit
        one.streamer.stop("first")
        one.streamer.stop("second")
        assert one.over() == "first"
        one.streamer.stop("third")
        assert one.events.names().count("stream_stopped") == 1

    def test_a_server_that_does_not_answer_close_delays_little(self, talk):
        with WireServer(reads=False) as server:
            one = talk(server=server)
            assert one.visit
            start_s = time.monotonic()
            one.line.close()
            one.over()
            assert time.monotonic() - start_s < 2.2

    def test_graceful_sends_what_was_captured(self, talk):
        says = noise(5000)
        one = talk(dialect="json", says=says)
        one.visit.wait(enough(3200))
        one.streamer.stop("enough", graceful=True)
        assert one.over() == "enough"
        assert one.visit.wait_closed() == (1000, "enough")
        assert says.startswith(one.visit.audio())
        assert one.visit.events()[-1]["event"] == "stop"

    def test_graceful_waits_for_what_the_host_holds(self, talk):
        """As on a time line of both directions, which is captured a little later."""
        one = talk(says=noise(5000), config={"behind_ms": 300})
        one.visit.wait(enough(3200))
        said_bytes = one.line.said
        one.streamer.stop("enough", graceful=True)
        one.over()
        assert 4800 <= len(one.visit.audio()) - said_bytes <= 4800 + 5 * 320


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"url": "http://127.0.0.1/"}, "ws"),
            ({"url": ""}, "URL"),
            ({"rate_hz": 4000}, "4000 Hz: use 8000 to 48000"),
            ({"dialect": "morse"}, "dialect 'morse' is unknown"),
            (
                {"options": {"STREAM_BUFFER_SIZE": 1000, "MOD_AUDIO_STREAM_BUFFER_SECS": 1}},
                "STREAM_BUFFER_SIZE is 1000 ms.*use 2 s",
            ),
            ({"options": {"STREAM_FRAME_MS": 7000}}, "STREAM_FRAME_MS"),
            ({"options": {"NO_SUCH": 1}}, "NO_SUCH"),
            ({"options": {"STREAM_EXTRA_HEADERS": "nothing"}}, "STREAM_EXTRA_HEADERS"),
        ],
    )
    def test_it_is_said_at_once(self, change, why):
        with Line("refused") as line, pytest.raises(ValueError, match=why):
            Streamer(line.stream, **{"url": "ws://127.0.0.1:1/", **change})

    def test_one_reader(self, talk):
        with Line("busy") as line:
            reader = threading.Thread(target=lambda: line.stream.capture(1000))
            reader.start()
            time.sleep(0.1)
            with pytest.raises((StreamBusy, ValueError)):
                Streamer(line.stream, "ws://127.0.0.1:1/")
            reader.join()


class TestCheck:
    """What can be refused before there is a stream."""

    @staticmethod
    def check(options: dict[str, str] | None = None, **start) -> tuple[int, str]:
        kept = {name: ffi.new("char[]", value) for name, value in start.items() if isinstance(value, bytes)}
        asked = ffi.new("as_streamer_start *", {"dialect": lib.AS_DIALECT_BINARY, **start, **kept})
        error = ffi.new("char[]", 256)
        chosen = _make_options(options) if options else ffi.NULL
        result = lib.as_streamer_check(asked, chosen, error, 256)
        return result, ffi.string(error).decode()

    @pytest.mark.parametrize(
        "start",
        [
            {"url": b"ws://127.0.0.1:1/"},
            {"url": b"wss://[::1]:1/x?y", "rate_hz": 16000, "dialect": 2, "metadata": "é".encode()},
            {"url": b"ws://127.0.0.1:1/", "dialect": 3, "rate_hz": 8000},
            {"url": b"ws://127.0.0.1:1/", "metadata": b"caf\xe9"},
            {"url": b"ws://127.0.0.1:1/", "dialect": 3, "instructions": b"\xc3("},
        ],
    )
    def test_what_can_be(self, start):
        assert self.check(**start) == (0, "")

    @pytest.mark.parametrize(
        ("start", "options", "why"),
        [
            ({}, None, "no URL"),
            ({"url": b"http://127.0.0.1/"}, None, "ws"),
            ({"url": b"ws://h/", "dialect": 9}, None, "dialect 9"),
            ({"url": b"ws://h/", "rate_hz": 4000}, None, "4000 Hz"),
            ({"dialect": 3}, None, "OPENAI_API_KEY"),
            ({"url": b"ws://h/", "dialect": 3, "rate_hz": 16000}, None, "rate=16000"),
            ({"url": b"ws://h/", "dialect": 3, "track": b"stereo"}, None, "use both"),
            (
                {"url": b"ws://h/"},
                {"STREAM_BUFFER_SIZE": "600", "MOD_AUDIO_STREAM_BUFFER_SECS": "1"},
                "STREAM_BUFFER_SIZE is 600 ms",
            ),
        ],
    )
    def test_what_cannot(self, start, options, why):
        result, error = self.check(options, **start)
        assert result == lib.AS_EINVAL
        assert why in error

    def test_it_starts_nothing(self):
        lib.as_ws_stop()

        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

        before = held()
        for _ in range(100):
            self.check(url=b"ws://127.0.0.1:1/", metadata=b"x")
        assert held() == before


class TestDescription:
    def test_it_says_what_matters_and_no_secrets(self, talk, server):
        one = talk(url=f"{server.url}/path-abc?token=abc", says=noise(2000), server=server, track="mono")
        visit: Visit = server.visit()
        visit.wait(enough(3200))
        assert visit.connection.request.path == "/stream/path-abc?token=abc"
        time.sleep(0.15)
        shown = one.streamer.describe()
        assert shown["state"] == "open"
        assert shown["url"] == f"ws://127.0.0.1:{server.port}"
        assert (shown["dialect"], shown["track"], shown["codec"], shown["rate"]) == (
            "binary",
            "mono",
            "L16",
            8000,
        )
        assert shown["sentMessages"] >= 10
        assert shown["sentBytes"] >= 3200
        assert "abc" not in str(one.events.all)
        one.stop()
        assert one.streamer.describe()["state"] == "stopped"

    def test_every_event_says_whose_and_when(self, talk):
        one = talk()
        assert one.visit
        one.stop()
        for event in one.events.all:
            assert (event.body["uuid"], event.body["streamId"]) == (one.line.stream.uuid, "main")
            assert abs(event.body["at"] / 1000 - time.time()) < 10
