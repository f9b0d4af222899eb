"""What a start leaves alone, what events keep to themselves, and commands that meet at one id."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from ears import frequency_hz, noise
from esl import Esl
from lines import at_once
from stream_servers import StreamServer
from subclasses import ALL
from support.sip import SipCall, SipCaller
from support.switch import TONE_HZ, FreeSwitch
from taps import Probe, reason_of, wait_until
from test_stream_module import Configure, configure  # noqa: F401
from test_streaming_commands import DEAD, set_variables, start, streams

NewCaller = Callable[..., SipCaller]
PREFIX = "mod_audio_stream::"
STARTED, STOPPED, ERROR = (f"{PREFIX}stream_{what}" for what in ("started", "stopped", "error"))
EXAMPLES = Path(__file__).resolve().parents[2] / "dialplan" / "audio_stream.xml"

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
        esl.subscribe(STARTED, STOPPED, ERROR, *(PREFIX + name for name in ("json", "play", "openai_error")))
        yield esl


# ---- a start that is refused -------------------------------------------------------------------------------

REFUSED = {  # and a part of the reason
    "start {url} stereo 8000": "is not bridged",
    "start embedded stereo": "is not bridged",
    "start ws:///nobody mono 8k": "",
    "start ws://127.0.0.1:99999/ mono 8k": "port",
    "start wss://[::1/x inbound 8000 5 1": "",
    "start {url} mono 7k": "not a sample rate",
    "openai_start voice=marin": "OPENAI_API_KEY",
    "openai_start api_key=key url=http://127.0.0.1/": "",
}


def test_a_refused_start_does_not_bring_early_media_up(
    probe: Probe, caller: SipCaller, server: StreamServer
) -> None:
    call = caller.call("bridge-sofia-ring")
    wait_until(lambda: call.status_line.startswith("SIP/2.0 180"))
    uuid = call.call_id
    bugs = probe.esl.api(f"uuid_buglist {uuid}")
    for words, reason in REFUSED.items():
        answer = probe.command(uuid, words.format(url=server.url))
        assert answer.startswith("-ERR ") and reason in answer, (words, answer)
    set_variables(probe, call, STREAM_CODEC="MP3")
    assert probe.command(uuid, f"start {server.url} mono 8k").startswith(
        "-ERR channel variable STREAM_CODEC "
    )
    assert probe.esl.api(f"uuid_buglist {uuid}") == bugs
    dump = probe.esl.api(f"uuid_dump {uuid}")
    assert re.search(r"^Answer-State: ringing$", dump, re.M)
    assert re.search(r"^Channel-Call-State: RINGING$", dump, re.M)
    assert call.status_line.startswith("SIP/2.0 180")
    assert (call.early_at_s, call.answered_at_s, server.peers) == (None, None, [])


@pytest.mark.parametrize("codec", ["L16/8000", "L16/16000"])
def test_a_rate_that_the_calls_codec_does_not_have(probe: Probe, new_caller: NewCaller, codec: str) -> None:
    """Told by the codec, which is known while the call rings."""
    call = new_caller(codec).call("bridge-sofia-ring")
    wait_until(lambda: call.status_line.startswith("SIP/2.0 180"))
    answer = probe.command(call.call_id, f"openai_start api_key=key url={DEAD} rate=8000")
    assert reason_of(answer).startswith("rate=8000: OpenAI takes PCM at 24000 Hz, and G.711 at 8000 Hz")
    assert call.status_line.startswith("SIP/2.0 180") and call.early_at_s is None


def test_an_id_that_is_taken_changes_nothing(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    call = caller.call("early").wait_early()
    assert probe.command(call.call_id, "start embedded") == "+OK"
    bugs = probe.esl.api(f"uuid_buglist {call.call_id}")
    for words in (
        "start embedded",
        f"start {server.url} mono 8k",
        f"openai_start api_key=key url={server.url}",
    ):
        answer = probe.command(call.call_id, words)
        assert reason_of(answer) == "a stream with this id is open on this call already"
    assert probe.esl.api(f"uuid_buglist {call.call_id}") == bugs
    assert server.peers == []


def test_limits_hold_for_starts_at_the_same_time(
    switch: FreeSwitch,
    probe: Probe,
    new_caller: NewCaller,
    configure: Configure,  # noqa: F811
) -> None:
    assert configure({"max-streams": "5", "max-streams-per-call": "3"}) == []
    uuids = [new_caller().call("park").wait_answered().call_id for _ in range(2)]

    def start_on(uuid: str, esl: Esl) -> tuple[str, str]:
        return uuid, esl.api(f"uuid_audio_stream {uuid} s{id(esl)} start embedded")

    with ExitStack() as connections:
        hands = [connections.enter_context(Esl(*switch.event_socket)) for _ in range(12)]
        for _ in range(5):
            answers = at_once([lambda u=uuids[i % 2], e=esl: start_on(u, e) for i, esl in enumerate(hands)])
            started = [uuid for uuid, answer in answers if answer == "+OK"]
            assert sorted(started.count(uuid) for uuid in uuids) == [2, 3]
            refused = [answer for _, answer in answers if answer != "+OK"]
            assert all(re.match(r"-ERR max-streams(-per-call)? in audio_stream\.conf", a) for a in refused)
            for uuid in uuids:
                for stream in json.loads(probe.command(uuid, "status"))["streams"]:
                    assert probe.command(uuid, f"{stream['streamId']} stop") == "+OK"


# ---- one id, several commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["embedded", "embedded mixed", "{url} mono 8k", "{url} mixed 8k"])
def test_starts_and_stops_of_one_id_at_the_same_time(
    switch: FreeSwitch, probe: Probe, call: SipCall, server: StreamServer, events: Esl, form: str
) -> None:
    """Each stream that was started is announced, and ends before the next begins; no command hits another."""
    begin = f"uuid_audio_stream {call.call_id} start {form.format(url=server.url)}"

    def repeat(command: str) -> list[str]:
        with Esl(*switch.event_socket) as esl:
            return [esl.api(command) for _ in range(60)]

    stop = f"uuid_audio_stream {call.call_id} stop"
    starts, stops, more, others = at_once([lambda c=c: repeat(c) for c in (begin, stop, begin, stop)])
    starts, stops = starts + more, [*stops, *others, probe.command(call.call_id, "stop")]
    allowed = r"\+OK|-ERR (a stream with this id is open|stream 'main' was stopped meanwhile)"
    assert [answer for answer in starts if not re.match(allowed, answer)] == []
    seen = [event["Event-Subclass"] for event in events.drain(1.0)]
    told = [name for name in seen if name in (STARTED, STOPPED)]
    assert told == [STARTED, STOPPED] * starts.count("+OK")
    cut_short = sum("was stopped meanwhile" in answer for answer in starts)
    assert stops.count("+OK") == starts.count("+OK") + cut_short  # one is enough
    assert streams(probe, call) == {}
    assert "audio_stream" not in probe.esl.api(f"uuid_buglist {call.call_id}")


# ---- whose stream ------------------------------------------------------------------------------------------


def result(probe: Probe, call: SipCall) -> str:
    """What a dialplan was told."""
    variable = f"uuid_getvar {call.call_id} audio_stream_result"
    return wait_until(lambda: probe.esl.api(variable).replace("_undef_", ""))


@pytest.fixture(params=["desk-7", "0a1b2c3d-0000-4000-8000-00000000cafe"])
def other(switch: FreeSwitch, probe: Probe, request: pytest.FixtureRequest) -> Iterator[str]:
    """Another call, by its name."""
    address = "{}:{}".format(*switch.sip_address)
    desk = f"{{origination_uuid={request.param}}}sofia/test/park@{address}"
    assert probe.esl.api(f"originate {desk} &park()") == f"+OK {request.param}"
    yield request.param
    probe.esl.api(f"uuid_kill {request.param}")


@pytest.mark.parametrize("extension", ["apply", "apply-expand"])
def test_a_name_alone_may_be_another_call(
    probe: Probe, new_caller: NewCaller, other: str, extension: str
) -> None:
    """Whatever it looks like; any other name is a stream of the call's own."""

    def said(words: str) -> tuple[SipCall, str]:
        call = new_caller().call(extension, {"X-Apply": words}).wait_answered()
        return call, result(probe, call)

    first, started = said(f"{other} start embedded")
    second, started_too = said("desk-8 start embedded")
    assert (started, started_too) == ("+OK", "+OK")
    found = [probe.do("open_now", uuid=uuid) for uuid in (other, first.call_id, second.call_id)]
    assert found == [[[other, "main"]], [], [[second.call_id, "desk-8"]]]
    assert said(f"{other} stop")[1] == "+OK"
    assert probe.do("open_now", uuid=other) == []


# ---- texts -------------------------------------------------------------------------------------------------


def test_texts_that_cannot_be_sent(switch: FreeSwitch, probe: Probe, call: SipCall) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"ws://127.0.0.1:{deaf.getsockname()[1]}/"
        assert probe.command(call.call_id, f"start {url} mono 8k") == "+OK"
        answers = [probe.command(call.call_id, f"send_text {'x' * 60000}") for _ in range(18)]
        assert answers[0] == "+OK"
        assert answers[-1] == (
            "-ERR text for stream 'main' was not sent: 1 MB of text already waits for the server"
        )
        assert probe.command(call.call_id, "stop") == "+OK"
    late = probe.command(call.call_id, "send_text late")
    assert reason_of(late) == f"no stream 'main' on call {call.call_id}"


def test_bytes_that_are_not_utf8_are_replaced(probe: Probe, call: SipCall, server: StreamServer) -> None:
    """A caller's name in Latin-1 refuses neither a start nor a text."""
    assert probe.command(call.call_id, f'start {server.url} mono 8k {{"caller":"Andr\udce9"}}') == "+OK"
    peer = server.wait_peer()
    assert probe.command(call.call_id, "send_text Andr\udce9") == "+OK"
    wait_until(lambda: peer.texts() == ['{"caller":"Andr\ufffd"}', "Andr\ufffd"])


def test_text_for_a_stream_that_ends(probe: Probe, call: SipCall, server: StreamServer) -> None:
    """Whenever it comes, it is not said that there was no server."""
    allowed = (
        "+OK",
        "-ERR text for stream 'main' was not sent: the stream is at its end",
        f"-ERR no stream 'main' on call {call.call_id}",
        f"-ERR stream 'main' on call {call.call_id} has no connection yet, or any more",
    )
    for _ in range(5):
        start(probe, call, server).close(1000)
        answers = []
        while not answers or not answers[-1].startswith("-ERR no stream"):
            answers.append(probe.command(call.call_id, "send_text hello"))
        assert {answer.partition("\n")[0] for answer in answers} <= set(allowed)
        assert all(("-USAGE" in answer) == answer.startswith("-ERR no stream") for answer in answers)


# ---- events ------------------------------------------------------------------------------------------------


def test_keys_in_arguments_and_addresses_are_in_no_event(
    probe: Probe, new_caller: NewCaller, events: Esl
) -> None:
    key = "sk-in-the-dialplan"
    call = new_caller().call("apply", headers={"X-Apply": f"openai_start api_key={key} url={DEAD}"})
    call.wait_answered()
    other = new_caller().call("park").wait_answered()
    set_variables(probe, other, OPENAI_REALTIME_URL=f"ws://127.0.0.1:1/?token={key}", mine=f"API_KEY={key}")
    assert probe.command(other.call_id, "start embedded") == "+OK"
    seen = events.drain(1.0)
    names = {(event["Unique-ID"], event["Event-Subclass"]) for event in seen}
    assert {(call.call_id, STARTED), (call.call_id, STOPPED), (other.call_id, STARTED)} <= names
    assert all(f"variable_{name}" in str(seen) for name in ("sip_call_id", "uuid"))  # the rest is there
    assert key not in str(seen)


def test_secrets_in_addresses_are_in_no_event(
    switch: FreeSwitch, probe: Probe, new_caller: NewCaller, server: StreamServer
) -> None:
    """Of no form of a start, whether it goes well or not."""
    password, token, path = "pw-in-the-url", "sk-in-the-query", "sk-in-the-path"
    live, dead = (f"{url}{more}" for url, more in ((server.url, f"?token={token}"), (DEAD, path)))
    wrong = live.replace("://", f"://me:{password}@")
    starts = [f"s start {url} {form}" for url in (live, dead, wrong) for form in ("mono 8k", "both 8k 5 1")]
    with Esl(*switch.event_socket) as events:
        events.subscribe(*ALL)
        calls = [
            new_caller().call(extension, {"X-Apply": words}).wait_answered()
            for extension in ("apply", "apply-expand")
            for words in starts
        ]
        for number in range(4):
            server.wait_peer(number + 1).send_json({"any": "thing"})
        for call in calls:
            probe.command(call.call_id, "s stop")
        seen = events.drain(1.0)
    assert {event["Unique-ID"] for event in seen} == {call.call_id for call in calls}
    names = {event["Event-Subclass"].removeprefix(PREFIX) for event in seen}
    assert {"connect", "json", "error", "stream_error", "stream_started", "stream_stopped"} <= names
    assert "variable_sip_call_id" in str(seen)  # the rest is there
    texts = [f"{name}: {value}" for event in seen for name, value in event.items()]
    assert [text for text in texts if password in text or token in text or path in text] == []
    tokens = f"{password}|{token}|{path}"
    logged = [line for line in switch.log_lines(tokens) if "mod_audio_stream" in line or " stream s:" in line]
    assert logged == []  # FreeSWITCH itself logs what the dialplan says


def test_frequent_events_say_whose_they_are_and_no_more(
    probe: Probe, call: SipCall, server: StreamServer, events: Esl
) -> None:
    peer = start(probe, call, server)
    peer.send_json({"any": "thing"})
    peer.play_binary(noise(8000, 0.1))
    for name in ("json", "play"):
        event = events.wait(PREFIX + name, call.call_id)
        assert (event["Caller-Destination-Number"], event["Caller-Caller-ID-Number"]) == ("park", "caller")
        assert event["Channel-Name"].startswith("sofia/")
        assert event["Stream-ID"] == "main"
        others = {header for header in event if not header.startswith(("Event-", "Core-", "FreeSWITCH-"))}
        assert others == {
            "Unique-ID", "Channel-Name", "Caller-Caller-ID-Number", "Caller-Destination-Number", "Stream-ID",
            "Content-Length", "body",
        }  # fmt: skip
    assert "variable_uuid" in events.wait(STARTED, call.call_id)


def test_every_event_says_whose_it_is(probe: Probe, call: SipCall, server: StreamServer, events: Esl) -> None:
    """Above all those whose body is the server's own."""
    for number in range(3):
        start(probe, call, server, form="mono 8k", stream_id=f"s{number}").send_json({"n": number})
    assert probe.command(call.call_id, f"s0 start {server.url} mono 8k").startswith("-ERR")
    for number in range(3):
        assert probe.command(call.call_id, f"s{number} stop") == "+OK"
    seen = events.drain(1.0)
    said = {
        event["body"]["n"]: event["Stream-ID"] for event in seen if event["Event-Subclass"] == PREFIX + "json"
    }
    assert said == {number: f"s{number}" for number in range(3)}
    for name, count in ((STARTED, 3), (STOPPED, 3), (ERROR, 1)):
        ours = [event for event in seen if event["Event-Subclass"] == name]
        assert len(ours) == count
        assert all(event["Stream-ID"] == event["body"]["streamId"] for event in ours)


def test_the_status_in_the_dialplan_is_one_line(probe: Probe, caller: SipCaller, events: Esl) -> None:
    call = caller.call("apply", headers={"X-Apply": "status"}).wait_answered()
    wait_until(lambda: "uuid" in probe.esl.api(f"uuid_getvar {call.call_id} audio_stream_result"))
    assert probe.command(call.call_id, "start embedded") == "+OK"
    result = events.wait(STARTED, call.call_id)["variable_audio_stream_result"]
    assert result == json.dumps({"uuid": call.call_id, "streams": []}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("value", "fired", "warned"),
    [("perhaps", True, True), ("", True, True), ("2", True, True), ("No", False, False), ("ON", True, False)],
)
def test_whether_events_are_fired(
    probe: Probe,
    call: SipCall,
    events: Esl,
    configure: Configure,  # noqa: F811
    value: str,
    fired: bool,
    warned: bool,
) -> None:
    lines = configure({"events": value})
    assert len(lines) == warned
    assert all(f"events is '{value}' but must be true or false; using true" in line for line in lines)
    assert probe.command(call.call_id, "start embedded") == "+OK"
    assert bool(events.drain(0.4)) == fired


# ---- the example of a dialplan -----------------------------------------------------------------------------


@pytest.fixture
def examples(switch: FreeSwitch, probe: Probe) -> Iterator[None]:
    """dialplan/audio_stream.xml, with the server in ${ws_url} and a tone for an operator."""
    file = Path(switch.root, "conf", "extra_dialplan.xml")
    before = file.read_text(encoding="utf-8")
    text = re.sub(r"wss?://[\w.:]+/\w*", "${ws_url}", EXAMPLES.read_text(encoding="utf-8"))
    text = text.replace("user/1000@${domain_name}", "sofia/test/tone@127.0.0.1:$${sip_port}")
    file.write_text(before.replace("</include>\n", text + "</include>\n"), encoding="utf-8")
    assert probe.esl.api("reloadxml").startswith("+OK")
    yield
    file.write_text(before, encoding="utf-8")
    assert probe.esl.api("reloadxml").startswith("+OK")


@pytest.mark.usefixtures("examples")
def test_an_operator_takes_over_when_nobody_answers(
    probe: Probe, new_caller: NewCaller, server: StreamServer
) -> None:
    lost = new_caller().call("1241", headers={"X-Set": f"ws_url={DEAD}"}).wait_answered()
    well = new_caller().call("1241", headers={"X-Set": f"ws_url={server.url}"}).wait_answered()
    server.wait_peer().wait_audio(3200)
    wait_until(lambda: len(lost.received()) > 3200, 10.0, "the operator")
    heard = np.frombuffer(lost.wait_received(800)[-3200:], "<i2").tobytes()
    assert frequency_hz(heard, 8000) == pytest.approx(TONE_HZ, abs=4)
    variable = f"uuid_getvar {well.call_id} audio_stream_result"
    wait_until(lambda: probe.esl.api(variable).startswith("{"), 5.0, "the status")
    assert set(streams(probe, well)) == {"agent"}
    assert probe.esl.api(f"uuid_getvar {well.call_id} bridge_uuid") == "_undef_"
