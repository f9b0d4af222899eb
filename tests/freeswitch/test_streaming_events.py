"""The events of streams to servers: what they say, when, and in which order."""

from __future__ import annotations

import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha1
from typing import Any

import pytest
from ears import noise
from esl import Esl
from models import KEY, model
from stream_servers import StreamServer
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, wait_until
from test_stream_module import Configure, configure  # noqa: F401
from test_streaming_audio import FORMS, play, start
from test_streaming_commands import set_variables, streams

from ivr_ai.sim.faults import Faults

NewCaller = Callable[..., SipCaller]
PREFIX = "mod_audio_stream::"
NAMES = (
    *("connect", "disconnect", "error", "json", "play"),
    *(f"connection_{what}" for what in ("established", "failed", "timeout", "closed")),
    *(f"media_{what}" for what in ("play_start", "play_complete", "cleared", "checkpoint")),
    *(
        f"stream_{what}"
        for what in ("started", "stopped", "error", "paused", "resumed", "heartbeat", "timeout")
    ),
    *("stream_buffer_overrun", "stream_buffer_underrun", "stream_invalid_input", "openai_session_expired"),
    *("message_received", "transcription_received"),
)

pytestmark = pytest.mark.usefixtures("stream_switch")


class Listener:
    """The events of one call."""

    def __init__(self, esl: Esl, call: SipCall) -> None:
        self._esl, self._uuid = esl, call.call_id

    def wait(self, name: str, timeout_s: float = 5.0) -> dict[str, Any]:
        """The body of the next event of a name; its header under "headers"."""
        event = self._esl.wait(PREFIX + name, self._uuid, timeout_s)
        return {**event["body"], "headers": event}

    def all(self, quiet_s: float = 1.0) -> list[dict[str, Any]]:
        """All events that come, and those that nobody has waited for."""
        return [event for event in self._esl.drain(quiet_s) if event["Unique-ID"] == self._uuid]

    def names(self, quiet_s: float = 1.0) -> list[str]:
        return [event["Event-Subclass"].removeprefix(PREFIX) for event in self.all(quiet_s)]


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


@pytest.fixture
def call(caller: SipCaller) -> SipCall:
    return caller.call("park").wait_answered()


@pytest.fixture
def events(stream_switch: FreeSwitch, call: SipCall) -> Iterator[Listener]:
    with Esl(*stream_switch.event_socket) as esl:
        esl.subscribe(*(PREFIX + name for name in NAMES))
        yield Listener(esl, call)


def is_of(body: dict[str, Any], call: SipCall, stream_id: str = "main") -> bool:
    """Whether an event says whose it is and when it was, and has the channel's data."""
    headers = body["headers"]
    assert (body["uuid"], body["streamId"]) == (call.call_id, stream_id)
    assert abs(body["at"] / 1000 - time.time()) < 10
    return headers["Unique-ID"] == call.call_id and headers["Caller-Destination-Number"] == "park"


# ---- the binary dialect ------------------------------------------------------------------------------------


def test_events_of_the_binary_dialect(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    peer = start(probe, call, server, FORMS["binary"])
    started = events.wait("stream_started")
    assert is_of(started, call) and started["source"] == "websocket"
    connected = events.wait("connect")
    assert is_of(connected, call) and connected["serverUrl"] == f"ws://127.0.0.1:{server.port}"
    peer.send_json({"type": "anything", "at": [1, 2]})
    said = events.wait("json")
    assert said.pop("headers")["Unique-ID"] == call.call_id
    assert said == {"type": "anything", "at": [1, 2]}
    play(peer, "binary", noise(8000, 0.5))
    queued = events.wait("play")
    assert (queued["ms"], queued["rate"], queued["bytes"]) == (500, 8000, 8000)
    begun, heard = events.wait("media_play_start"), events.wait("media_play_complete")
    assert begun["playId"] == heard["playId"] == queued["playId"]
    assert heard["playedMs"] == 500
    assert heard["at"] - begun["at"] == pytest.approx(500, abs=60)
    assert probe.command(call.call_id, "stop thank you") == "+OK"
    stopped = events.wait("stream_stopped")
    assert is_of(stopped, call) and stopped["reason"] == "thank you"
    assert stopped["inject"]["played"] == 4000
    assert stopped["connection"]["dialect"] == "binary"
    assert events.wait("disconnect")["code"] == 1000
    assert events.names() == []


def test_a_play_starts_when_it_is_heard(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    """Not when it is queued: here behind another one."""
    peer = start(probe, call, server, FORMS["json"])
    first, second = noise(8000, 1.0, 1), bytes(3200) + noise(8000, 0.5, 2)
    play(peer, "json", first)
    play(peer, "json", second)
    begun = [events.wait("media_play_start") for _ in range(2)]
    ended = [events.wait("media_play_complete") for _ in range(2)]
    assert begun[1]["at"] - begun[0]["at"] == pytest.approx(1000, abs=60)
    offset_s = time.time() - time.monotonic()
    decode = call.media.codec.decode
    loud = [p for p in call.media.audio_packets() if max(decode(p.payload)[1::2]) * 256 > AUDIBLE_PEAK]
    assert begun[0]["at"] / 1000 == pytest.approx(loud[0].arrived_s + offset_s, abs=0.06)
    assert ended[1]["at"] / 1000 == pytest.approx(loud[-1].arrived_s + offset_s, abs=0.08)


# ---- the JSON dialect --------------------------------------------------------------------------------------


def test_events_of_the_json_dialect(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    peer = start(probe, call, server, FORMS["json"])
    assert is_of(events.wait("connection_established"), call)
    peer.send_json({"event": "transcription.send", "payload": {"text": "Hello?", "isFinal": True}})
    assert events.wait("transcription_received")["payload"] == {"text": "Hello?", "isFinal": True}
    peer.send_json({"event": "mood", "value": {"calm": 0.9}})
    assert events.wait("message_received")["message"] == {"event": "mood", "value": {"calm": 0.9}}
    play(peer, "json", noise(8000, 0.4), checkpoint="greeting_end")
    peer.send_json({"event": "media.checkpoint", "payload": {"name": "all said"}})
    assert events.wait("media_play_start")["checkpoint"] == "greeting_end"
    heard = events.wait("media_play_complete")
    assert (heard["playedMs"], heard["checkpoint"]) == (400, "greeting_end")
    reached = [events.wait("media_checkpoint") for _ in range(2)]
    assert [(body["name"], body["reached"]) for body in reached] == [
        ("greeting_end", True),
        ("all said", True),
    ]
    wait_until(lambda: len(peer.events("media.checkpoint")) == 2)
    peer.close(1001)
    closed = events.wait("connection_closed")
    assert closed["code"] == 1001
    assert events.wait("stream_stopped")["reason"].startswith("closed by the server: 1001")


def test_clear_says_what_was_heard(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    peer = start(probe, call, server, FORMS["json"])
    play(peer, "json", noise(8000, 3.0), checkpoint="never")
    began = events.wait("media_play_start")
    time.sleep(0.5)
    peer.send_json({"event": "media.clear"})
    cleared = events.wait("media_cleared")
    assert cleared["reason"] == "server"
    assert 400 < cleared["playedMs"] < 900
    assert cleared["playedMs"] + cleared["clearedMs"] == pytest.approx(3000, abs=2)
    assert cleared["at"] - began["at"] == pytest.approx(cleared["playedMs"], abs=80)
    assert events.wait("media_checkpoint")["reached"] is False
    assert "media_play_complete" not in events.names(0.5)


# ---- trouble -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "name"), [("binary", "error"), ("json", "connection_failed")])
def test_nobody_listens(probe: Probe, call: SipCall, events: Listener, form: str, name: str) -> None:
    assert probe.command(call.call_id, f"start ws://127.0.0.1:1/token?token=abc {FORMS[form]}") == "+OK"
    failed = events.wait(name)
    assert failed["why"] == "refused"
    assert "token" not in str(failed["serverUrl"])
    assert events.wait("stream_error")["error"].startswith("connection failed")
    assert events.wait("stream_stopped")["reason"].startswith("connection failed")


def test_what_the_server_may_not_send(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    peer = start(probe, call, server, "inbound 8000 5 0")
    play(peer, "json", noise(8000, 0.2))
    assert "bidirectional" in events.wait("stream_invalid_input")["error"]
    time.sleep(1.1)  # one a second
    peer.send("{ not JSON")
    assert events.wait("stream_invalid_input")["count"] >= 2
    peer.wait_audio(len(peer.audio()) + 3200)


def test_more_than_may_be_queued(probe: Probe, call: SipCall, server: StreamServer, events: Listener) -> None:
    set_variables(probe, call, STREAM_INJECT_BUFFER_MS=500, STREAM_INJECT_BUFFER_STRICT="true")
    peer = start(probe, call, server, FORMS["binary"])
    play(peer, "binary", noise(8000, 0.4, 1))
    play(peer, "binary", noise(8000, 0.4, 2))
    overrun = events.wait("stream_buffer_overrun")
    assert (overrun["direction"], overrun["limitMs"], overrun["refusedMs"]) == ("inject", 500, 400)
    assert events.wait("media_play_complete")["playedMs"] == 400


def test_running_dry_in_the_middle(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    peer = start(probe, call, server, FORMS["binary"])
    peer.send(noise(8000, 0.2, 1))
    wait_until(lambda: streams(probe, call)["main"]["inject"]["played"] == 1600)
    time.sleep(0.05)
    peer.send(noise(8000, 0.2, 2))
    underrun = events.wait("stream_buffer_underrun")
    assert underrun["headers"]["Stream-ID"] == "main"
    assert underrun["count"] == 1 and 20 <= underrun["gapMs"] == underrun["totalMs"] < 1000
    assert events.wait("media_play_complete")["playedMs"] == 400


@pytest.mark.parametrize("form", ["inbound 8000 1 1", "openai_start timeout=1 api_key=key url={url}"])
def test_a_server_that_never_answers(probe: Probe, call: SipCall, events: Listener, form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"ws://127.0.0.1:{deaf.getsockname()[1]}/"
        words = form.format(url=url) if "{url}" in form else f"start {url} {form}"
        began_s = time.monotonic()
        assert probe.command(call.call_id, words) == "+OK"
        late = events.wait("connection_timeout")
        assert time.monotonic() - began_s == pytest.approx(1.0, abs=0.4)
    assert is_of(late, call) and late["why"] == "timeout"
    assert events.wait("stream_stopped")["reason"].startswith("connection failed")


def test_a_server_that_stops_answering(probe: Probe, call: SipCall, events: Listener) -> None:
    """It does not answer pings, and a shutdown that waits for it does not wait for ever."""
    set_variables(probe, call, STREAM_HEART_BEAT=1, STREAM_GRACEFUL_TIMEOUT_MS=300)
    with hung_server() as url, StreamServer() as server:
        assert probe.command(call.call_id, f"hung start {url} inbound 8000 5 1") == "+OK"
        peer = start(probe, call, server, FORMS["json"])
        play(peer, "json", noise(8000, 3.0))
        events.wait("media_play_start")
        assert probe.command(call.call_id, "graceful-shutdown") == "+OK"
        graceful, ping = events.wait("stream_timeout"), events.wait("stream_timeout", 10)
    assert (graceful["what"], graceful["timeoutMs"], graceful["streamId"]) == (
        "graceful-shutdown",
        300,
        "main",
    )
    assert (ping["what"], ping["streamId"]) == ("ping", "hung")


@contextmanager
def hung_server() -> Iterator[str]:
    """The address of a server that opens one connection, and then neither reads nor answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:

        def open_one() -> None:
            connection = stack.enter_context(listening.accept()[0])
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", connection.recv(4096), re.I)[1]
            proof = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: audio.freeswitch.org\r\nSec-WebSocket-Accept: "
                + proof
                + b"\r\n\r\n"
            )

        thread = threading.Thread(target=open_one)
        thread.start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join()


def test_a_session_that_has_reached_its_end(probe: Probe, call: SipCall, events: Listener) -> None:
    with model(faults=Faults(expire_after_s=0.3)) as sim:
        assert probe.command(call.call_id, f"openai_start api_key={KEY} url={sim.url}") == "+OK"
        expired = events.wait("openai_session_expired")
        assert is_of(expired, call) and expired["code"] == "session_expired"
        assert events.wait("stream_stopped")["reason"] == "the session has expired"


def test_pauses_and_heartbeats(probe: Probe, call: SipCall, server: StreamServer, events: Listener) -> None:
    set_variables(probe, call, STREAM_HEART_BEAT=1)
    start(probe, call, server, FORMS["json"])
    assert probe.command(call.call_id, "pause capture") == "+OK"
    paused = events.wait("stream_paused")
    assert (paused["capture"], paused["inject"]) == (True, False)
    assert probe.command(call.call_id, "resume") == "+OK"
    events.wait("stream_resumed")
    beats = [events.wait("stream_heartbeat") for _ in range(2)]
    assert beats[1]["at"] - beats[0]["at"] == pytest.approx(1000, abs=150)
    assert beats[0]["state"] == "open"


# ---- order, and the end ------------------------------------------------------------------------------------


def test_events_come_in_order(probe: Probe, call: SipCall, server: StreamServer, events: Listener) -> None:
    """Also those of threads that have nothing to do with each other; stream_started is always the first."""
    for number in range(20):
        peer = start(probe, call, server, FORMS["json"], f"s{number}")
        peer.send_json({"event": "n", "value": number})
        if number % 2:
            peer.close(1000)
        else:
            assert probe.command(call.call_id, f"s{number} graceful-shutdown") == "+OK"
        peer.wait_closed()
    wait_until(lambda: probe.command(call.call_id, "status").endswith('"streams":[]}'))
    names = events.names()
    assert names.count("stream_started") == names.count("stream_stopped") == 20
    assert names.count("connection_established") == names.count("connection_closed") == 20
    assert names[0] == "stream_started" and names[-1] == "stream_stopped"


def test_events_after_a_hangup(
    switch: FreeSwitch, probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    """stream_stopped comes at once, with the channel's data; what the connection says last comes without."""
    start(probe, call, server, FORMS["json"]).wait_audio(3200)
    call.hangup()
    stopped = events.wait("stream_stopped")
    assert is_of(stopped, call) and stopped["reason"] == "hangup"
    switch.wait_channels(0)
    closed = events.wait("connection_closed")
    assert (closed["streamId"], closed["headers"]["Unique-ID"]) == ("main", call.call_id)


def test_log_lines_have_the_calls_uuid(
    switch: FreeSwitch, probe: Probe, call: SipCall, server: StreamServer
) -> None:
    start(probe, call, server, FORMS["json"])
    shown = server.url.removesuffix("/stream")
    switch.wait_log(rf"^{call.call_id}.*\[INFO\].*stream main: connected to {shown}$")
    set_variables(probe, call, STREAM_SUPPRESS_LOG="true", STREAM_DEBUG_JSON="true")
    start(probe, call, server, FORMS["json"], "quiet")
    time.sleep(0.3)
    assert switch.log_lines("stream quiet: ") == []


def test_a_flood_of_messages_delays_nobody(
    probe: Probe,
    call: SipCall,
    server: StreamServer,
    events: Listener,
    configure: Configure,  # noqa: F811
) -> None:
    """Without a limit each is an event; they come in order, and audio flows meanwhile."""
    assert configure({"event-rate": "0"}) == []
    peer = start(probe, call, server, FORMS["json"])
    peer.wait_audio(1600)
    for number in range(3000):
        peer.send_json({"event": "n", "value": number})
    values = [events.wait("message_received", 10)["message"]["value"] for _ in range(3000)]
    assert values == list(range(3000))
    had = len(peer.audio())
    time.sleep(1.0)
    assert len(peer.audio()) - had == pytest.approx(16000, abs=1600)
    assert streams(probe, call)["main"]["eventsDropped"] == 0


@pytest.mark.parametrize(("form", "name"), [("binary", "json"), ("json", "message_received")])
def test_a_server_may_cause_so_many_events_a_second(
    switch: FreeSwitch,
    probe: Probe,
    call: SipCall,
    server: StreamServer,
    events: Listener,
    form: str,
    name: str,
) -> None:
    """The first come, the rest are counted, and that is said once. Another stream has all of its own."""
    flooding, other = (start(probe, call, server, FORMS[form], stream_id) for stream_id in ("flood", "calm"))
    began_s = time.monotonic()
    for number in range(3000):
        flooding.send_json({"event": "n", "value": number})
    wait_until(lambda: streams(probe, call)["flood"]["connection"]["receivedMessages"] >= 3000, 10.0)
    took_s = time.monotonic() - began_s
    other.send_json({"event": "calm"})
    dropped = streams(probe, call)["flood"]["eventsDropped"]
    came = 3000 - dropped
    assert 200 <= came <= 200 + 100 * took_s + 1
    assert streams(probe, call)["calm"]["eventsDropped"] == 0
    assert probe.command(call.call_id, "flood stop") == "+OK"
    names = events.names()
    assert names.count(name) == came + 1
    assert names.count("stream_stopped") == 1
    assert len(switch.log_lines(rf"^{call.call_id}.*stream flood: the server causes more events than")) == 1
    switch.wait_log(rf"^{call.call_id}.*stream flood: {dropped} events were dropped")


def test_an_end_of_the_servers_making_comes_behind_what_it_said(
    probe: Probe, call: SipCall, server: StreamServer, events: Listener
) -> None:
    """The tap is stopped by another thread than the one that fires events."""
    for number in range(5):
        peer = start(probe, call, server, FORMS["json"], f"s{number}")
        for value in range(20):
            peer.send_json({"event": "n", "value": value})
        peer.close(1000)
    wait_until(lambda: streams(probe, call) == {})
    order = [(e["Stream-ID"], e["Event-Subclass"].removeprefix(PREFIX)) for e in events.all()]
    for number in range(5):
        mine = [name for stream_id, name in order if stream_id == f"s{number}"]
        assert mine[0] == "stream_started" and mine[-1] == "stream_stopped", mine
        assert mine.count("message_received") == 20 and mine.count("connection_closed") == 1
