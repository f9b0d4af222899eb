"""Where a stream's settings come from: the channel, then the environment, then audio_stream.conf.xml."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from ears import frequency_hz
from esl import Esl
from stream_servers import Peer, StreamServer
from support.sip import SipCall, SipCaller
from support.switch import TONE_HZ, FreeSwitch
from taps import Probe, wait_until
from test_stream_module import configure  # noqa: F401
from test_streaming_commands import set_variables, streams

NewCaller = Callable[..., SipCaller]
Configure = Callable[..., list[str]]
REPOSITORY = Path(__file__).resolve().parents[2]
FRAME_BYTES_PER_MS = 16  # s16 at 8 kHz


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


def frame_ms(peer: Peer) -> float:
    """The length of the messages that a peer gets."""
    return len(wait_until(lambda: peer.messages)[0]) / FRAME_BYTES_PER_MS


def start(
    esl: Esl, call: SipCall, server: StreamServer, form: str = "mono 8000", stream_id: str = "s"
) -> Peer:
    count = len(server.peers)
    assert esl.api(f"uuid_audio_stream {call.call_id} {stream_id} start {server.url} {form}") == "+OK"
    return server.wait_peer(count + 1)


@pytest.mark.usefixtures("stream_switch")
def test_the_file(
    configure: Configure,  # noqa: F811
    probe: Probe,
    new_caller: NewCaller,
    server: StreamServer,
) -> None:
    """Its values, by any of their names; a channel variable over them; wrong ones are logged and ignored."""
    lines = configure(
        {
            "STREAM_FRAME_MS": "40",
            "heart-beat": "often",
            "low_latency_config": "3,2,1",
            "http-auth-password": "a secret\x85",
            "colour": "blue",
            "max-streams-per-call": "2",
        }
    )
    assert len(lines) == 3 and all("[WARNING]" in line for line in lines)
    assert "heart-beat is 'often' but must be" in lines[0] and "ignored" in lines[0]
    assert "low_latency_config is '3,2,1' but must be" in lines[1]
    assert "unknown parameter 'colour' ignored" in lines[2]
    call = new_caller().call("park").wait_answered()
    assert frame_ms(start(probe.esl, call, server, stream_id="one")) == 40
    set_variables(probe, call, STREAM_FRAME_MS="20")
    assert frame_ms(start(probe.esl, call, server, stream_id="two")) == 20
    for form in ("embedded", f"{server.url} mono 8000"):
        answer = probe.command(call.call_id, f"three start {form}")
        assert answer.startswith("-ERR max-streams-per-call in audio_stream.conf.xml is reached")
    other = new_caller().call("park").wait_answered()
    start(probe.esl, other, server)


@pytest.mark.usefixtures("stream_switch")
def test_the_file_that_is_installed(
    configure: Configure,  # noqa: F811
    probe: Probe,
    new_caller: NewCaller,
    server: StreamServer,
) -> None:
    """Every parameter in it is known, and its value allowed."""
    text = REPOSITORY.joinpath("conf", "autoload_configs", "audio_stream.conf.xml").read_text(
        encoding="utf-8"
    )
    params = re.findall(r'<param name="([^"]+)" value="([^"]*)"/>', text)
    assert len(params) > 40
    assert configure(dict(params)) == []
    call = new_caller().call("park").wait_answered()
    assert frame_ms(start(probe.esl, call, server)) == 20


@pytest.mark.usefixtures("stream_switch")
def test_max_streams_counts_them_too(
    configure: Configure,  # noqa: F811
    probe: Probe,
    new_caller: NewCaller,
    server: StreamServer,
) -> None:
    assert configure({"max-streams": "1"}) == []
    call = new_caller().call("park").wait_answered()
    start(probe.esl, call, server)
    answer = probe.command(call.call_id, f"two start {server.url} mono 8000")
    assert answer.startswith("-ERR max-streams in audio_stream.conf.xml is reached")
    assert probe.command(call.call_id, "s stop") == "+OK"
    start(probe.esl, call, server, stream_id="two")


def prebuffer_ms(probe: Probe, call: SipCall, server: StreamServer, form: str) -> float:
    """Of a stream of this form, as its status says."""
    start(probe.esl, call, server, form)
    ms = streams(probe, call)["s"]["connection"]["prebufferMs"]
    assert probe.command(call.call_id, "s stop") == "+OK"
    return ms


@pytest.mark.usefixtures("stream_switch")
def test_presets_and_watermarks(
    configure: Configure,  # noqa: F811
    probe: Probe,
    new_caller: NewCaller,
    server: StreamServer,
) -> None:
    """Samples at 8 kHz, whatever the stream's rate: 8 are a millisecond."""
    forms = ["inbound 8000 5 0", "mono 8000", "both 16000 5 1"]
    files = (
        ({}, [20, 40, 80]),
        ({"balanced_config": "960,1120,10", "low-latency-config": "400,480,5"}, [50, 120, 80]),
        ({"buffer_low_watermark": "480", "balanced_config": "960,1120,10"}, [60, 60, 60]),
    )
    for params, expected in files:
        assert configure(params) == []
        call = new_caller().call("park").wait_answered()
        assert [prebuffer_ms(probe, call, server, form) for form in forms] == expected
        set_variables(probe, call, STREAM_INJECT_MIN_BUFFER_MS=250)
        assert [prebuffer_ms(probe, call, server, form) for form in forms] == [250, 250, 250]
        call.hangup()


ENVIRONMENT = {
    "STREAM_FRAME_MS": "60",
    "STREAM_HEART_BEAT": "sometimes",
    "MOD_AUDIO_STREAM_SERVICE_THREADS": "5",
    "STREAM_ALLOW_ONE_LEG_STEREO": "true",
}
FILE = {"frame-ms": "40", "subprotocol-name": "from.the.file"}


@pytest.fixture(scope="module")
def own_server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


def examples(url: str) -> str:
    """dialplan/audio_stream.xml with a server, and somebody to talk with, that are there."""
    text = REPOSITORY.joinpath("dialplan", "audio_stream.xml").read_text(encoding="utf-8")
    text = re.sub(r"wss?://[\w.:]+/\w*", url, text)
    return text.replace("user/1000@${domain_name}", "sofia/test/tone@127.0.0.1:$${sip_port}")


@pytest.fixture(scope="module")
def own_switch(
    switch: FreeSwitch, own_server: StreamServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FreeSwitch]:
    """One with another environment. Stopping it with streams on its calls is a test in itself."""
    params = "".join(f"<param name={quoteattr(n)} value={quoteattr(v)}/>" for n, v in FILE.items())
    config = f'<configuration name="audio_stream.conf"><settings>{params}</settings></configuration>'
    root: Path = tmp_path_factory.mktemp("environment")
    plan = Path(__file__).with_name("extensions.xml").read_text(encoding="utf-8") + examples(own_server.url)
    with FreeSwitch(root, dialplan_xml=plan, config_xml=config, env=ENVIRONMENT) as running:
        yield running


def test_the_environment(own_switch: FreeSwitch, server: StreamServer) -> None:
    [line] = own_switch.log_lines(r"environment: ")
    assert "[WARNING]" in line and "STREAM_HEART_BEAT is 'sometimes' but must be" in line
    with SipCaller(own_switch.sip_address) as caller, Esl(*own_switch.event_socket) as esl:
        call = caller.call("park").wait_answered()
        threads = own_switch.threads()
        one = start(esl, call, server, stream_id="one")
        assert frame_ms(one) == 60  # not the file's
        assert own_switch.threads() >= threads + 5
        esl.api(f"uuid_setvar {call.call_id} STREAM_FRAME_MS 20")
        assert frame_ms(start(esl, call, server, stream_id="two")) == 20
        by_json = start(esl, call, server, "inbound 8000 5 0", "three")
        assert by_json.headers["Sec-WebSocket-Protocol"] == "from.the.file"
        start(esl, call, server, "stereo 8000", "four").wait_audio(3200)  # on one leg: allowed here


def test_the_examples_of_dialplans(own_switch: FreeSwitch, own_server: StreamServer) -> None:
    with SipCaller(own_switch.sip_address) as caller, Esl(*own_switch.event_socket) as esl:
        caller.call("1240").wait_answered()
        binary = own_server.wait_peer(1)
        assert json.loads(wait_until(binary.texts)[0]) == {"line": "sales", "caller_id_number": "caller"}
        call = caller.call("1241").wait_answered()
        began = own_server.wait_peer(2).wait_event("start")
        assert (began["streamId"], began["metadata"]) == ("agent", {"mode": "conversation"})
        assert esl.api(f"uuid_getvar {call.call_id} audio_stream_result") == "+OK"
        caller.call("1242").wait_answered()
        both = own_server.wait_peer(3)
        stereo = np.frombuffer(both.wait_audio(2 * 16000 * 2), "<i2").reshape(-1, 2)
        right = np.ascontiguousarray(stereo[16000 // 2 :, 1]).tobytes()
        assert frequency_hz(right, 16000) == pytest.approx(TONE_HZ, abs=4)


def test_a_start_that_is_refused_leads_elsewhere(own_switch: FreeSwitch) -> None:
    with SipCaller(own_switch.sip_address) as caller:
        call = caller.call("1241", headers={"X-Set": "STREAM_CODEC=MP3"}).wait_answered()
        heard = call.wait_received(800)
        assert frequency_hz(heard[-3200:], 8000) == pytest.approx(TONE_HZ, abs=4)


def test_a_switch_that_stops_with_streams_up(own_switch: FreeSwitch, server: StreamServer) -> None:
    with SipCaller(own_switch.sip_address) as caller:
        with Esl(*own_switch.event_socket) as esl:
            call = caller.call("park").wait_answered()
            peers = [
                start(esl, call, server, form, f"s{n}") for n, form in enumerate(("mono", "both 8k 5 1"))
            ]
        own_switch.stop()  # raises when it crashes
        for peer in peers:
            peer.wait_closed()
