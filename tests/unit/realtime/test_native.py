"""The native transport against real servers: events as over the other one, connecting and the end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import struct
import time

import pytest
from native_line import FRAME, TLS, Listening, noise, settings
from peer import BINARY, CLOSE, PING, PONG, TEXT, Peer, background, frame
from waiting import until

from ivr_ai.realtime.dialects import BetaDialect
from ivr_ai.realtime.native import NativeTransport
from ivr_ai.realtime.transport import ConnectError, TransportClosed


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
