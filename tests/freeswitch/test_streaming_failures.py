"""Streams whose server, call or module goes away, and servers that may not be trusted or ask for too much."""

from __future__ import annotations

import base64
import json
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from ears import noise, peaks
from esl import Esl
from stream_servers import Peer, StreamServer
from support.sip import SipCall, SipCaller
from support.switch import OUR_MODULE, FreeSwitch
from taps import Probe, wait_until
from test_stream_module import configure  # noqa: F401
from test_streaming_audio import FORMS, exactly, heard_by_all, play, start, wait_heard
from test_streaming_commands import set_variables, streams

NewCaller = Callable[..., SipCaller]
Configure = Callable[..., list[str]]
PREFIX = "mod_audio_stream::"
STARTED, STOPPED, FAILED = f"{PREFIX}stream_started", f"{PREFIX}stream_stopped", f"{PREFIX}connection_failed"
CLOSED, ESTABLISHED = f"{PREFIX}connection_closed", f"{PREFIX}connection_established"

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


@pytest.fixture
def call(caller: SipCaller) -> SipCall:
    return caller.call("park").wait_answered()


@pytest.fixture
def events(stream_switch: FreeSwitch) -> Iterator[Esl]:
    with Esl(*stream_switch.event_socket) as esl:
        esl.subscribe(STARTED, STOPPED, FAILED, CLOSED, ESTABLISHED)
        yield esl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def no_streams(probe: Probe, call: SipCall) -> bool:
    return streams(probe, call) == {} and "audio_stream" not in probe.esl.api(f"uuid_buglist {call.call_id}")


# ---- the server goes away ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_media_flows_again_after_a_reconnect(
    probe: Probe, call: SipCall, server: StreamServer, form: str
) -> None:
    set_variables(probe, call, STREAM_RECONNECT_MAX=5, STREAM_RECONNECT_DELAY_MS=50)
    first = start(probe, call, server, FORMS[form])
    assert heard_by_all(call, [first], noise(8000, 0.3, 1))
    first.kill()
    second = server.wait_peer(2)
    assert heard_by_all(call, [second], noise(8000, 0.3, 2))
    if form == "json":
        assert second.wait_event("start")["resumed"] == 1
    pcm = exactly(call, noise(8000, 0.4, 3))
    play(second, form, pcm)
    wait_heard(call, pcm)


def test_without_reconnects_the_stream_ends_with_its_server(
    probe: Probe, call: SipCall, server: StreamServer, events: Esl
) -> None:
    peer = start(probe, call, server, FORMS["json"])
    peer.wait_audio(3200)
    peer.kill()
    stopped = events.wait(STOPPED, call.call_id)["body"]
    assert (stopped["streamId"], stopped["connection"]["dialect"]) == ("main", "json")
    assert stopped["reason"].startswith("connection lost")
    wait_until(lambda: no_streams(probe, call))


def test_a_server_that_says_goodbye_is_left_alone(
    probe: Probe, call: SipCall, server: StreamServer, events: Esl
) -> None:
    set_variables(probe, call, STREAM_RECONNECT_MAX=5, STREAM_RECONNECT_DELAY_MS=20)
    start(probe, call, server, FORMS["json"]).close(1000)
    events.wait(STOPPED, call.call_id)
    time.sleep(0.4)
    assert len(server.peers) == 1
    assert no_streams(probe, call)


def test_nobody_there(probe: Probe, call: SipCall, events: Esl) -> None:
    assert probe.command(call.call_id, "start ws://127.0.0.1:1/ inbound 8000 2 1") == "+OK"
    events.wait(FAILED, call.call_id)
    wait_until(lambda: no_streams(probe, call))
    assert call.ended_at_s is None


# ---- the call goes away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_hangup(
    switch: FreeSwitch, probe: Probe, call: SipCall, server: StreamServer, events: Esl, form: str
) -> None:
    peers = [start(probe, call, server, FORMS[form], f"s{n}") for n in range(3)]
    for peer in peers:
        peer.wait_audio(3200)
    call.hangup()
    switch.wait_channels(0)
    for peer in peers:
        peer.wait_closed()
    stopped = [events.wait(STOPPED, call.call_id) for _ in peers]
    assert {event["body"]["streamId"] for event in stopped} == {"s0", "s1", "s2"}
    assert {event["body"]["reason"] for event in stopped} == {"hangup"}
    assert {event["Unique-ID"] for event in stopped} == {call.call_id}
    if form == "json":
        assert all(peer.events()[-1]["event"] == "stop" for peer in peers)


def test_each_stream_starts_and_stops_once(
    probe: Probe, call: SipCall, server: StreamServer, events: Esl
) -> None:
    for number, words in enumerate(("stop", "graceful-shutdown", "hangup")):
        start(probe, call, server, FORMS["binary"], f"s{number}").wait_audio(1600)
        if words == "hangup":
            call.hangup()
        else:
            assert probe.command(call.call_id, f"s{number} {words}") == "+OK"
    seen = events.drain(2.0)
    for subclass in (STARTED, STOPPED):
        ids = [e["body"]["streamId"] for e in seen if e["Event-Subclass"] == subclass]
        assert sorted(ids) == ["s0", "s1", "s2"], subclass


def test_a_transfer_and_a_bridge_leave_streams_alone(
    probe: Probe, call: SipCall, server: StreamServer
) -> None:
    peer = start(probe, call, server, FORMS["binary"])
    for extension in ("tone", "bridge-sofia-tone", "park"):
        assert probe.esl.api(f"uuid_transfer {call.call_id} {extension}").startswith("+OK")
        time.sleep(0.5)
        assert heard_by_all(call, [peer], noise(8000, 0.3))
        pcm = exactly(call, noise(8000, 0.3, 5))
        play(peer, "binary", pcm)
        wait_heard(call, pcm)


# ---- graceful-shutdown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_graceful_shutdown_plays_what_is_queued(
    probe: Probe, call: SipCall, server: StreamServer, form: str
) -> None:
    peer = start(probe, call, server, FORMS[form])
    peer.wait_audio(1600)
    pcm = exactly(call, noise(8000, 1.5))
    play(peer, form, pcm)
    wait_until(lambda: streams(probe, call)["main"]["inject"]["written"] == 12000)
    assert probe.command(call.call_id, "graceful-shutdown that was all") == "+OK"
    wait_heard(call, pcm)
    assert peer.wait_closed() == 1000
    wait_until(lambda: no_streams(probe, call))
    if form == "json":
        assert peer.events()[-1]["reason"] == "that was all"


# ---- the module goes away ----------------------------------------------------------------------------------


def test_unloading_ends_streams_and_no_call(
    switch: FreeSwitch, probe: Probe, new_caller: NewCaller, events: Esl
) -> None:
    calls = [new_caller().call(place).wait_answered() for place in ("park", "tone", "bridge-sofia-music")]
    with StreamServer() as server:
        peers = [start(probe, call, server, FORMS[form], form) for call in calls for form in FORMS]
        for peer in peers:
            peer.wait_audio(1600)
        assert probe.esl.api(f"unload {OUR_MODULE}", 20.0) == "+OK"
        for peer in peers:
            peer.wait_closed()
        for call in calls:
            bodies = [events.wait(STOPPED, call.call_id)["body"] for _ in FORMS]
            assert {body["reason"] for body in bodies} == {"module unloaded"}
            assert {body["streamId"] for body in bodies} == set(FORMS)
        assert "+OK" in probe.esl.api(f"load {OUR_MODULE}")
        assert all(call.ended_at_s is None for call in calls)
        for call in calls:
            assert heard_by_all(call, [start(probe, call, server, FORMS["binary"])], noise(8000, 0.3))


def test_reloading_while_streams_come_and_go(
    switch: FreeSwitch, probe: Probe, new_caller: NewCaller, server: StreamServer
) -> None:
    stop, answers = threading.Event(), set()

    def work() -> None:
        with Esl(*switch.event_socket) as esl:
            call = new_caller().call("park").wait_answered()
            while not stop.is_set():
                for words in (f"start {server.url} mono 8k", "send_text hello", "status", "stop"):
                    answers.add(esl.api(f"uuid_audio_stream {call.call_id} {words}")[:4])
                time.sleep(0.02)
            call.hangup()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    reloaded = 0
    for _ in range(30):
        time.sleep(0.1)
        if probe.esl.api(f"unload {OUR_MODULE}", 20.0) == "+OK":  # refused while a command runs
            assert "+OK" in probe.esl.api(f"load {OUR_MODULE}")
            reloaded += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert reloaded >= 3
    assert {"+OK", '{"uu'} <= answers <= {"+OK", "-ERR", '{"uu'}
    switch.wait_channels(0)


def test_comings_and_goings_leave_nothing(
    switch: FreeSwitch, probe: Probe, call: SipCall, server: StreamServer
) -> None:
    def come_and_go(times: int) -> None:
        for number in range(times):
            stream_id = f"s{number}"
            assert probe.command(call.call_id, f"{stream_id} start {server.url} mono 8k") == "+OK"
            assert probe.command(call.call_id, f"{stream_id} stop") == "+OK"
        wait_until(lambda: all(peer.closed.is_set() for peer in server.peers))
        time.sleep(0.3)

    come_and_go(20)
    before = switch.fds(), switch.threads()
    come_and_go(100)
    assert switch.fds() <= before[0] + 2
    assert switch.threads() <= before[1] + 2
    assert no_streams(probe, call)


# ---- certificates ------------------------------------------------------------------------------------------


def test_a_certificate_that_can_be_checked(probe: Probe, call: SipCall, authority: Authority) -> None:
    with StreamServer(authority.server_context(), host="localhost") as server:
        set_variables(probe, call, STREAM_TLS_CA_FILE=authority.file)
        peer = start(probe, call, server, FORMS["binary"])
        assert heard_by_all(call, [peer], noise(8000, 0.3))
        pcm = exactly(call, noise(8000, 0.3, 2))
        play(peer, "binary", pcm)
        wait_heard(call, pcm)


@pytest.mark.parametrize(
    ("host", "days", "variables", "word"),
    [
        ("localhost", 2, {}, "certificate"),  # of an authority that nobody has heard of
        ("elsewhere.example", 2, {"STREAM_TLS_CA_FILE": "ca"}, "name"),
        ("localhost", 0, {"STREAM_TLS_CA_FILE": "ca"}, "expired"),
    ],
)
def test_a_bad_certificate_is_refused(
    probe: Probe,
    call: SipCall,
    authority: Authority,
    events: Esl,
    host: str,
    days: int,
    variables: dict[str, str],
    word: str,
) -> None:
    if days == 0:
        authority.issue("warm-up", host, 0)
        time.sleep(1.1)
    with StreamServer(authority.server_context(host, days), host="localhost") as server:
        time.sleep(1.1 if days == 0 else 0)
        set_variables(probe, call, **dict.fromkeys(variables, authority.file))
        assert probe.command(call.call_id, f"start {server.url} inbound 8000 5 1") == "+OK"
        failed = events.wait(FAILED, call.call_id)
        assert word in json.dumps(failed["body"]).lower()
        wait_until(lambda: no_streams(probe, call))
        assert server.peers == []


def test_a_client_certificate(probe: Probe, call: SipCall, authority: Authority, events: Esl) -> None:
    certificate, key = authority.issue("client", "client")
    with StreamServer(authority.server_context(ask=True), host="localhost") as server:
        set_variables(probe, call, STREAM_TLS_CA_FILE=authority.file)
        assert probe.command(call.call_id, f"one start {server.url} inbound 8000 5 1") == "+OK"
        events.wait(STOPPED, call.call_id)
        assert server.peers == []
        set_variables(probe, call, STREAM_TLS_CERT_FILE=certificate, STREAM_TLS_KEY_FILE=key)
        start(probe, call, server, FORMS["json"], "two").wait_audio(3200)


# ---- files -------------------------------------------------------------------------------------------------


def write_wav(path: Path, pcm: bytes) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(pcm)


def play_file(peer: Peer, name: str) -> None:
    data = {"audioDataType": "wav", "file": name, "sampleRate": 8000}
    peer.send_json({"type": "streamAudio", "data": data})


def is_silent(call: SipCall) -> bool:
    time.sleep(0.6)
    return not call.received() or peaks(call.received()[-3200:], 8000).max() < 100


def test_files_are_played_from_one_folder_when_allowed(
    probe: Probe,
    new_caller: NewCaller,
    server: StreamServer,
    configure: Configure,  # noqa: F811
    tmp_path: Path,
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    assert configure({"file-injection-dir": str(inside)}) == []
    call = new_caller().call("park").wait_answered()
    said = exactly(call, noise(8000, 0.4, 5))
    write_wav(inside / "said.wav", said)
    write_wav(outside / "other.wav", said)
    (inside / "link.wav").symlink_to(outside / "other.wav")
    peer = start(probe, call, server, FORMS["binary"])
    play_file(peer, "said.wav")
    assert is_silent(call)  # STREAM_ALLOW_FILE_INJECTION is false
    assert probe.command(call.call_id, "stop") == "+OK"
    set_variables(probe, call, STREAM_ALLOW_FILE_INJECTION="true")
    peer = start(probe, call, server, FORMS["binary"])
    for name in ("../outside/other.wav", str(outside / "other.wav"), "link.wav", "/etc/passwd", "nobody.wav"):
        play_file(peer, name)
    assert is_silent(call)
    play_file(peer, "said.wav")
    wait_heard(call, said)


def test_without_a_folder_no_file_is_played(
    probe: Probe, call: SipCall, server: StreamServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "said.wav", noise(8000, 0.4))
    set_variables(probe, call, STREAM_ALLOW_FILE_INJECTION="true")
    peer = start(probe, call, server, FORMS["binary"])
    play_file(peer, str(tmp_path / "said.wav"))
    assert is_silent(call)


def test_audio_that_is_too_long_is_refused(probe: Probe, call: SipCall, server: StreamServer) -> None:
    set_variables(probe, call, STREAM_MAX_AUDIO_BASE64_LEN="4096")
    peer = start(probe, call, server, FORMS["binary"])
    play(peer, "binary", noise(8000, 1.0))
    assert is_silent(call)
    pcm = exactly(call, noise(8000, 0.1, 6))
    assert len(base64.b64encode(pcm)) < 4096
    play(peer, "binary", pcm)
    wait_heard(call, pcm)
