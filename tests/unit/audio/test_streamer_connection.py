"""How a streamer holds on to its server, and when it lets go."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import time
import uuid
from contextlib import suppress
from itertools import pairwise

import pytest
from line import Line, noise, stripped
from wire_server import WireServer

from ivr_ai.audio.stream import HostStream, StreamClosed, open_streams
from ivr_ai.audio.streamer import Streamer

SOON = {"STREAM_RECONNECT_MAX": 3, "STREAM_RECONNECT_DELAY_MS": 50}


def refused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def close(visit, code: int) -> None:
    """The server's CLOSE; 1005 is one without a code."""
    if code == 1005:
        visit.connection.socket.sendall(b"\x88\x00")
    else:
        visit.connection.close(code)


def upgrade(request: bytes) -> bytes:
    """The answer to a handshake."""
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
    return ("\r\n".join(lines) + f"\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").encode()


class TestReconnect:
    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_media_flows_in_both_directions_again(self, talk, dialect):
        says = noise(3000)
        one = talk(dialect=dialect, says=says, options=SOON, metadata="meta")
        one.visit.wait(lambda visit: len(visit.audio()) >= 3200)
        one.visit.drop()
        again = one.server.visit(1)
        again.wait(lambda visit: len(visit.audio()) >= 16000)
        one.events.wait("connect" if dialect == "binary" else "connection_established", 2)
        send = again.play if dialect == "json" else again.stream_audio
        send(noise(200, 2))
        assert one.events.wait("media_play_complete")["playedMs"] == 200
        assert stripped(bytes(one.line.heard)) == noise(200, 2)
        assert says.find(again.audio()) > 0, "it goes on where it was, in order"
        if dialect == "binary":
            assert again.texts() == ["meta", '{"type":"stream.resumed","attempt":1}']
        else:
            before = one.server.visits[0].events()
            start = again.events()[0]
            assert (start["event"], start["resumed"], start["metadata"]) == ("start", 1, "meta")
            assert start["sequence"] > before[-1]["sequence"]
        ended = one.events.of("disconnect" if dialect == "binary" else "connection_closed")[0]
        assert (ended["code"], ended["attempt"]) == (1006, 1)
        assert 40 <= ended["retryInMs"] <= 60
        assert one.streamer.describe()["reconnects"] == 1
        assert one.events.names().count("stream_started") == 1

    def test_nothing_is_lost_meanwhile(self, talk):
        says = noise(2000)
        one = talk(says=says, options=SOON)
        one.visit.wait(lambda visit: len(visit.audio()) >= 3200)
        one.visit.connection.close(1012)
        again = one.server.visit(1)
        again.wait(lambda visit: len(visit.audio()) + len(one.server.visits[0].audio()) >= len(says))
        assert one.server.visits[0].audio() + again.audio() == says

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    @pytest.mark.parametrize("code", [1001, 1002, 1005, 1011, 1012, 1013, 1014])
    def test_codes_it_comes_back_after(self, talk, code, dialect):
        one = talk(dialect=dialect, options=SOON)
        close(one.visit, code)
        assert one.server.visit(1)

    @pytest.mark.parametrize("code", [1001, 1005])
    def test_a_server_that_goes_away_may_be_left_alone(self, talk, code):
        one = talk(options={**SOON, "STREAM_RECONNECT_GOING_AWAY": "false"})
        close(one.visit, code)
        assert one.over(2).startswith(f"closed by the server: {code}")
        assert len(one.server.visits) == 1

    @pytest.mark.parametrize("code", [1000, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4999])
    def test_codes_it_stays_away_after(self, talk, code):
        one = talk(options=SOON)
        one.visit.connection.close(code, "so long")
        assert one.over(2) == f"closed by the server: {code} so long"
        ended = one.events.of("disconnect")[0]
        assert (ended["code"], ended["reason"]) == (code, "so long")
        assert "retryInMs" not in ended
        assert len(one.server.visits) == 1
        assert one.events.of("stream_error") == []

    def test_a_message_that_is_too_long_ends_it_with_an_error(self, talk):
        one = talk(options={**SOON, "STREAM_MAX_AUDIO_BASE64_LEN": 1024})
        one.visit.send(" " * (17 << 20))
        reason = one.over(5)
        assert reason.startswith("connection lost: the server sent a message of more than ")
        (error,) = one.events.of("stream_error")
        assert (error["why"], error["code"], error["error"]) == ("too big", 1009, reason)
        assert len(one.server.visits) == 1

    @pytest.mark.parametrize("timeout_s", [-1, 0])
    def test_a_server_that_takes_its_time_to_answer(self, talk, timeout_s):
        """A start without a timeout waits; one that leaves it to the option does not."""
        with WireServer(answer=lambda connection, request: time.sleep(0.8)) as server:
            one = talk(server=server, timeout_s=timeout_s, options={"STREAM_CONNECT_TIMEOUT_MS": 300})
            if timeout_s:
                assert one.visit
            else:
                assert one.over().startswith("connection failed")

    @pytest.mark.parametrize(
        ("status", "again"), [(400, 0), (401, 0), (403, 0), (404, 0), (429, 2), (500, 2), (503, 2)]
    )
    def test_http_answers(self, talk, status, again):
        def refuse(connection, request):
            return connection.respond(status, "no\n")

        with WireServer(answer=refuse) as server:
            options = {"STREAM_RECONNECT_MAX": 2, "STREAM_RECONNECT_DELAY_MS": 20}
            one = talk(dialect="json", server=server, options=options)
            assert one.over().startswith("connection failed")
            failures = one.events.of("connection_failed")
            assert [failure["httpStatus"] for failure in failures] == [status] * (again + 1)
            assert one.events.names()[-2:] == ["stream_error", "stream_stopped"]

    def test_refused_until_it_is_there(self, talk):
        """Attempts that fail before the first connection are repeated, too, and are no resumption."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
            one = talk(url=f"ws://127.0.0.1:{port}/", options={**SOON, "STREAM_RECONNECT_MAX": 20})
            one.events.wait("error", 2)
            listening.listen()
            with WireServer(sock=listening) as server:
                server.visit()
                one.events.wait("stream_started")
                assert one.events.of("connect")[0]["reconnects"] == 0

    def test_it_gives_up(self, talk):
        options = {"STREAM_RECONNECT_MAX": 2, "STREAM_RECONNECT_DELAY_MS": 40}
        start_s = time.monotonic()
        one = talk(dialect="json", url=f"ws://127.0.0.1:{refused_port()}/", options=options)
        assert one.over().startswith("connection failed: ")
        assert time.monotonic() - start_s >= 0.03 + 0.06
        failures = one.events.of("connection_failed")
        waits_ms = [failure.get("retryInMs") for failure in failures]
        assert 32 <= waits_ms[0] <= 48 and 64 <= waits_ms[1] <= 96 and waits_ms[2] is None
        assert one.events.names() == ["connection_failed"] * 3 + ["stream_error", "stream_stopped"]

    def test_the_members_that_listeners_of_other_modules_look_for(self, talk):
        one = talk(options=SOON)
        close(one.visit, 1011)
        one.events.wait("connect", 2)
        assert [event["status"] for event in one.events.of("connect")] == ["connected", "connected"]
        ended = one.events.of("disconnect")[0]
        assert (ended["status"], ended["message"]) == ("disconnected", {"code": 1011, "reason": ""})

    def test_and_where_no_connection_came_about(self, talk):
        options = {"STREAM_RECONNECT_MAX": 1, "STREAM_RECONNECT_DELAY_MS": 40}
        one = talk(url=f"ws://127.0.0.1:{refused_port()}/", options=options)
        one.over()
        first, last = one.events.of("error")
        assert [event["status"] for event in (first, last)] == ["error", "error"]
        said = {"retries": 1, "error": first["error"], "wait_time": first["retryInMs"], "http_status": 0}
        assert first["message"] == said
        assert (last["message"]["retries"], last["message"]["wait_time"]) == (1, 0)

    def test_the_time_of_connecting_in_the_json_dialect(self, talk):
        one = talk(dialect="json")
        told = one.events.wait("connection_established")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["connectionTime"])
        assert one.server.url.startswith(told["serverUrl"])
        assert "status" not in told

    def test_not_at_all_by_default(self, talk):
        one = talk()
        one.visit.drop()
        assert one.over().startswith("connection lost")
        assert one.events.names()[-3:] == ["disconnect", "stream_error", "stream_stopped"]

    def test_stop_while_waiting(self, talk):
        options = {"STREAM_RECONNECT_MAX": 5, "STREAM_RECONNECT_DELAY_MS": 60_000}
        options["STREAM_RECONNECT_DELAY_MAX_MS"] = 60_000
        one = talk(options=options)
        one.visit.drop()
        one.events.wait("disconnect")
        assert one.streamer.describe()["state"] == "reconnecting"
        assert one.stop("no more") == "no more"


class TestTimeouts:
    def test_connecting(self, talk):
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(1)
            one = talk(dialect="json", url=f"ws://127.0.0.1:{deaf.getsockname()[1]}/", timeout_s=1)
            start_s = time.monotonic()
            one.over(3)
            assert 0.8 < time.monotonic() - start_s < 2
            assert one.events.names() == ["connection_timeout", "stream_error", "stream_stopped"]

    def test_heartbeats(self, talk):
        one = talk(says=noise(2000), options={"STREAM_HEART_BEAT": 1})
        body = one.events.wait("stream_heartbeat", timeout_s=3)
        assert body["state"] == "open"
        assert body["sentMessages"] > 10
        assert "silentMs" in body

    @pytest.mark.parametrize(
        "pings",
        [
            {"STREAM_HEART_BEAT": 1},
            {"STREAM_PING_INTERVAL_S": 1},
            {"STREAM_PING_INTERVAL_S": 0, "STREAM_HEART_BEAT": 1},
        ],
        ids=["by the heart beat", "by its own setting", "by the heart beat alone"],
    )
    def test_a_server_that_does_not_answer_pings(self, talk, pings):
        """Given up on, and tried again."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(2)
            url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
            one = talk(url=url, options={**SOON, **pings})
            mute, _ = listening.accept()
            with mute:
                mute.sendall(upgrade(mute.recv(4096)))
                one.events.wait("stream_started")
                assert one.events.wait("stream_timeout", timeout_s=9)["what"] == "ping"
            assert ("stream_heartbeat" in one.events.names()) == ("STREAM_HEART_BEAT" in pings)
            again, _ = listening.accept()
            again.close()

    def test_a_server_is_pinged_without_being_asked_to(self, talk):
        """Each 10 s in which it says nothing, so that one that is gone is noticed within 20 s."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(2)
            one = talk(url=f"ws://127.0.0.1:{listening.getsockname()[1]}/", options=SOON)
            mute, _ = listening.accept()
            with mute:
                mute.sendall(upgrade(mute.recv(4096)))
                one.events.wait("stream_started")
                start_s = time.monotonic()
                assert one.events.wait("stream_timeout", timeout_s=20)["what"] == "ping"
                assert 14 < time.monotonic() - start_s < 17
            again, _ = listening.accept()  # STREAM_RECONNECT_MAX
            again.close()


class TestGoodbye:
    def test_no_text_is_taken_while_waiting_for_the_server(self, talk):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(1)
            one = talk(url=f"ws://127.0.0.1:{listening.getsockname()[1]}/")
            mute, _ = listening.accept()
            with mute:
                mute.sendall(upgrade(mute.recv(4096)))
                one.events.wait("stream_started")
                one.streamer.send_text("in time")
                one.streamer.stop()
                one.events.until(lambda: one.streamer.describe()["state"] == "stopping")
                with pytest.raises(StreamClosed):
                    one.streamer.send_text("late")
                one.over(3)


def frame(text: str) -> bytes:
    """A server's text message of less than 126 bytes."""
    return bytes([0x81, len(text)]) + text.encode()


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """A client's frames: opcode and payload."""
    found, at = [], 0
    while at + 6 <= len(data):
        n, head = data[at + 1] & 0x7F, 2
        if n == 126:
            n, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        mask, body = data[at + head : at + head + 4], data[at + head + 4 : at + head + 4 + n]
        found.append((data[at] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))))
        at += head + 4 + n
    return found


class TestLastWords:
    """What the server says after the stop, until its CLOSE."""

    def mute(self, talk, **options):
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        one = talk(url=f"ws://127.0.0.1:{listening.getsockname()[1]}/", **options)
        peer, _ = listening.accept()
        listening.close()
        peer.sendall(upgrade(peer.recv(4096)))
        one.events.wait("stream_started")
        return one, peer

    def test_messages_are_fired_and_audio_is_not_played(self, talk):
        one, peer = self.mute(talk)
        with peer:
            one.streamer.stop()
            one.events.until(lambda: one.streamer.describe()["state"] == "stopping")
            play = {"audioDataType": "raw", "sampleRate": 8000, "audioData": "AAAA"}
            peer.sendall(
                frame('{"final":"words"}') + frame(json.dumps({"type": "streamAudio", "data": play}))
            )
            assert one.events.wait("json") == {"final": "words"}
            peer.sendall(b"\x88\x02\x03\xe8")
            one.over(2)
        assert "media_play_queued" not in one.events.names()
        assert one.events.of("stream_invalid_input") == []
        assert one.events.names()[-1] == "stream_stopped"

    def test_our_close_waits_for_the_server(self, talk):
        """STREAM_LAST_WORDS_MS: the last text, then its words, then its CLOSE, before ours."""
        one, peer = self.mute(talk, options={"STREAM_LAST_WORDS_MS": 5000})
        with peer:
            start_s = time.monotonic()
            one.streamer.stop("that was it")
            got = b""
            while (1, b"that was it") not in frames(got):
                got += peer.recv(4096)
            peer.sendall(frame('{"final":"words"}'))
            assert one.events.wait("json") == {"final": "words"}
            assert 8 not in [opcode for opcode, _ in frames(got)]
            peer.sendall(b"\x88\x02\x03\xe8")
            one.over(2)
            assert time.monotonic() - start_s < 2

    def test_no_longer_than_is_said(self, talk):
        one, peer = self.mute(talk, options={"STREAM_LAST_WORDS_MS": 300})
        with peer:
            start_s = time.monotonic()
            one.streamer.stop()
            one.over(4)
            assert 1.7 < time.monotonic() - start_s < 2.5  # 300 ms, and 1.5 s for an answer to our CLOSE


class TestBackPressure:
    def test_a_server_that_does_not_read(self, talk):
        """Bounded, counted, and nobody waits for it."""
        with WireServer(reads=False, max_queue=1) as server:
            options = {"STREAM_MAX_QUEUE_MS": 1000}
            config = {"rate_hz": 48000}
            one = talk(
                says=noise(1000, rate_hz=48000) * 120, speed=25, server=server, options=options, config=config
            )
            overrun = one.events.wait("stream_buffer_overrun", timeout_s=20)
            assert (overrun["direction"], overrun["limitMs"]) == ("capture", 1000)
            assert overrun["droppedMs"] > 0
            time.sleep(0.3)
            shown = one.streamer.describe()
            assert shown["unsentMs"] <= 1000 + 25 * 150
            assert shown["droppedMs"] > 0
            assert one.line.stream.stats().capture_dropped_samples == 0, "the ring itself never fills up"
            gaps_s = sorted(b - a for a, b in pairwise(one.line.ticks_s))
            assert gaps_s[len(gaps_s) * 99 // 100] < 0.02
            one.line.close()
            one.over(2.5)

    @pytest.mark.parametrize("options", [{"STREAM_BUFFER_SIZE": 500}, {"STREAM_FRAME_MS": 60}])
    def test_a_limit_below_one_message_is_as_long_as_one(self, talk, options):
        says = noise(1700)
        one = talk(says=says, options={**options, "STREAM_MAX_QUEUE_MS": 20})
        one.visit.wait(lambda visit: len(visit.audio()) >= 16 * 1500)
        assert says.startswith(one.visit.audio())
        assert one.events.of("stream_buffer_overrun") == []

    def test_a_ring_of_two_messages(self, talk):
        says = noise(2200)
        options = {"STREAM_BUFFER_SIZE": 500, "MOD_AUDIO_STREAM_BUFFER_SECS": 1}
        one = talk(says=says, options=options, config={"capture_ms": 1000})
        one.visit.wait(lambda visit: len(visit.audio()) >= 16 * 2000)
        assert says.startswith(one.visit.audio())
        assert one.streamer.describe()["droppedMs"] == 0

    def test_while_it_is_away(self, talk):
        options = {**SOON, "STREAM_RECONNECT_DELAY_MS": 1500, "STREAM_MAX_QUEUE_MS": 400}
        says = noise(6000)
        one = talk(says=says, options=options)
        one.visit.wait(lambda visit: len(visit.audio()) >= 3200)
        one.visit.drop()
        again = one.server.visit(1)
        again.wait(lambda visit: len(visit.audio()) >= 6400)
        assert one.events.of("stream_buffer_overrun")
        at = says.find(again.audio()[:6400])
        assert at > len(one.server.visits[0].audio()), "the oldest is dropped"


class TestRequest:
    def test_headers_and_credentials(self, talk, server):
        options = {
            "STREAM_EXTRA_HEADERS": '{"X-Tenant": "blue", "X-N": "1"}',
            "MOD_AUDIO_STREAM_HTTP_AUTH_USER": "u",
            "MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD": "secret-pw",
            "STREAM_DEBUG_JSON": True,
        }
        one = talk(server=server, options=options)
        headers = one.visit.headers
        assert (headers["X-Tenant"], headers["X-N"]) == ("blue", "1")
        assert headers["Authorization"] == "Basic dTpzZWNyZXQtcHc="
        one.stop()
        assert "secret-pw" not in str(one.events.all)

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"STREAM_EXTRA_HEADERS": '{"Host": "elsewhere"}'}, "Host is the handshake's own"),
            ({"MOD_AUDIO_STREAM_HTTP_AUTH_USER": "a:b"}, "basic authentication"),
        ],
    )
    def test_what_cannot_be_sent_is_refused_at_once(self, talk, options, why):
        with pytest.raises(ValueError, match=why):
            talk(options=options)

    def test_deflate_is_offered_when_asked_for(self, talk):
        with WireServer(compression="deflate") as server:
            one = talk(server=server, says=noise(400), options={"STREAM_MESSAGE_DEFLATE": True})
            one.visit.wait(lambda visit: len(visit.audio()) >= 6400)
            assert one.visit.audio() == noise(400)
            assert one.visit.connection.protocol.extensions


class TestLog:
    def test_json_without_audio_and_secrets(self, talk):
        metadata = '{"apiKey":"k-123","name":"n"}'
        one = talk(dialect="json", metadata=metadata, options={"STREAM_DEBUG_JSON": True})
        one.visit.play(noise(100))
        one.visit.send({"event": "x", "access_token": "t-456"})
        one.events.wait("message_received")
        lines = [body["text"] for body in one.events.of("log") if body["level"] == "debug"]
        text = "\n".join(lines)
        assert '"name":"n"' in text and "media.play" in text
        assert "k-123" not in text and "t-456" not in text
        assert max(map(len, lines)) < 500

    def test_statistics(self, talk):
        one = talk(options={"STREAM_INJECT_LOG_EVERY_MS": 200})
        one.visit.stream_audio(noise(1000))
        one.events.wait("media_play_complete")
        lines = [body["text"] for body in one.events.of("log") if body["text"].startswith("inject: ")]
        assert 3 <= len(lines) <= 7
        assert re.search(r"\d+ ms queued, \d+ ms played, 0 underruns", lines[0])

    def test_suppressed(self, talk):
        one = talk(options={"STREAM_DEBUG_JSON": True, "STREAM_SUPPRESS_LOG": True})
        one.visit.send({"event": "x"})
        one.stop()
        assert one.events.of("log") == []


class TestMany:
    def test_ten_streams_on_one_call(self, talk):
        """Both dialects at once, each with its own rate and words; all complete and in order."""
        call = str(uuid.uuid4())
        talks, says = [], [noise(1500, seed) for seed in range(10)]
        with WireServer() as server:
            lines = [Line(call, f"s{n}", says=says[n]) for n in range(10)]
            try:
                for n, line in enumerate(lines):
                    dialect = "json" if n % 2 else "binary"
                    talks.append(talk(line=line, server=server, dialect=dialect, metadata=f"m{n}"))
                for one in talks:
                    one.events.wait("stream_started")
                visits = {}
                server.visit(len(talks) - 1)
                for visit in server.visits:
                    first = visit.wait(lambda visit: visit.texts())[0]
                    visits[int(first[1:]) if first[0] == "m" else int(visit.events()[0]["metadata"][1:])] = (
                        visit
                    )
                for n, visit in visits.items():
                    (visit.play if n % 2 else visit.stream_audio)(noise(500, 100 + n))
                for n, one in enumerate(talks):
                    visits[n].wait(lambda visit: len(visit.audio()) >= len(says[0]))
                    assert visits[n].audio() == says[n]
                    one.events.wait("media_play_complete")
                    assert stripped(bytes(one.line.heard)) == noise(500, 100 + n)
            finally:
                for line in lines:
                    line.close()
            for one in talks:
                assert one.over() == "hangup"

    def test_a_thousand_starts_and_stops(self, server):
        """At whatever moment: each finishes once, and leaves nothing behind."""
        streamers = []
        for n in range(1000):
            line_id = f"race-{n}"
            stream = HostStream.create(line_id)
            stream.host_capture(noise(40))
            url = server.url if n % 3 else f"ws://127.0.0.1:{refused_port()}/"
            streamer = Streamer(stream, url, dialect=("binary", "json")[n % 2])
            streamers.append(streamer)
            if n % 4 == 0:
                streamer.stop()
            elif n % 4 == 1:
                stream.close()
            elif n % 4 == 2:
                time.sleep(n % 7 / 1000)
                streamer.stop("later", graceful=n % 8 == 2)
            else:
                with suppress(Exception):
                    streamer.send_text("x")
                stream.close()
                streamer.stop()
            stream.close()
        for streamer in streamers:
            assert streamer.wait(20), streamer.describe()
            names = []
            while not streamer.events.empty():
                names.append(streamer.events.get().name)
            assert names.count("stream_stopped") == 1
            assert names[-1] == "stream_stopped"
        assert [name for name, _ in open_streams() if name.startswith("race-")] == []
