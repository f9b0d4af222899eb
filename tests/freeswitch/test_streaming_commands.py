"""uuid_audio_stream with a server at the other end: every way to say it, and every way to say it wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from esl import Esl
from stream_servers import Peer, StreamServer
from subclasses import ALL
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, reason_of, wait_until

NewCaller = Callable[..., SipCaller]
DEAD = "ws://127.0.0.1:1/nobody"
METADATA = '{"language": "en-US", "tags": ["a, b", "c"], "note": "it\'s (not) simple"}'

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


@pytest.fixture
def call(caller: SipCaller) -> SipCall:
    return caller.call("park").wait_answered()


def start(
    probe: Probe, call: SipCall, server: StreamServer, form: str = "mono 8k", stream_id: str = "main"
) -> Peer:
    count = len(server.peers)
    answer = probe.command(call.call_id, f"{stream_id} start {server.url} {form}")
    assert answer == "+OK", answer
    return server.wait_peer(count + 1)


def streams(probe: Probe, call: SipCall) -> dict[str, dict[str, Any]]:
    status = json.loads(probe.command(call.call_id, "status"))
    return {stream["streamId"]: stream for stream in status["streams"]}


def set_variables(probe: Probe, call: SipCall, **variables: object) -> None:
    for name, value in variables.items():
        assert probe.esl.api(f"uuid_setvar {call.call_id} {name} {value}").startswith("+OK")


# ---- start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "mono", "8000", "mixed 16000", "mono 8000 just words", "mono 8k {}"])
def test_the_binary_form(probe: Probe, call: SipCall, server: StreamServer, form: str) -> None:
    peer = start(probe, call, server, form)
    peer.wait_audio(3200)
    metadata = [form.partition("8000 ")[2]] if "words" in form else ["{}"] if "{}" in form else []
    assert peer.texts() == metadata
    if metadata:
        assert peer.messages[0] == metadata[0]
    assert "Sec-WebSocket-Protocol" not in peer.headers
    assert streams(probe, call)["main"]["source"] == "websocket"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("inbound 8000 0 0", {"track": "inbound", "rate": 8000}),
        ("both 16k 5 1", {"track": "both", "rate": 16000}),
        (f"outbound 44100 30 1 {METADATA}", {"rate": 44100, "metadata": json.loads(METADATA)}),
        ("inbound 8000 5 0 plain words", {"metadata": "plain words"}),
    ],
)
def test_the_json_form(
    probe: Probe, call: SipCall, server: StreamServer, form: str, expected: dict[str, Any]
) -> None:
    peer = start(probe, call, server, form)
    began = peer.wait_event("start")
    assert {key: began.get(key) for key in expected} == expected
    assert (began["uuid"], began["streamId"], began["codec"]) == (call.call_id, "main", "L16")
    assert peer.headers["Sec-WebSocket-Protocol"] == "audio.freeswitch.org"
    peer.wait_event("media")


def test_embedded_streams_beside_it(probe: Probe, call: SipCall, server: StreamServer) -> None:
    assert probe.command(call.call_id, "mine start embedded") == "+OK"
    start(probe, call, server)
    found = streams(probe, call)
    assert {stream_id: stream["source"] for stream_id, stream in found.items()} == {
        "mine": "embedded",
        "main": "websocket",
    }
    assert "connection" not in found["mine"]
    for words in ("mine send_text hello", "mine graceful-shutdown"):
        answer = reason_of(probe.command(call.call_id, words))
        assert answer == f"stream 'mine' on call {call.call_id} is embedded: it has no server"


def test_the_connection_in_the_status(probe: Probe, call: SipCall, server: StreamServer) -> None:
    peer = start(probe, call, server)
    peer.wait_audio(3200)
    stream = wait_until(lambda: (s := streams(probe, call)["main"])["connection"]["state"] == "open" and s)
    assert stream["eventsDropped"] == 0
    [named] = json.loads(probe.command(call.call_id, "main status"))["streams"]
    assert named["connection"]["url"] == f"ws://127.0.0.1:{server.port}"


# ---- wrong -------------------------------------------------------------------------------------------------

WRONG = {  # and a part of the reason
    "start ws://": "host",
    "start ws://127.0.0.1:99999/": "port",
    "start http://127.0.0.1/": "cannot take the audio",
    "start {url} quadro": "'quadro",
    "start {url} mono 8001": "'8001' is not a sample rate",
    "start {url} stereo 8000": "is not bridged",
    "start {url} inbound": "sample rate is missing",
    "start {url} inbound 8000": "timeout is missing",
    "start {url} inbound 8000 5": "bidirectional flag is missing",
    "start {url} inbound 8000 soon 1": "'soon' is not a timeout",
    "start {url} inbound 8000 5 2": "'2' does not say whether the server may play",
    "start {url} both 7000 5 1": "'7000' is not a sample rate",
    "send_text": "needs the text",
    "send_text a \udcff byte": "no stream 'main'",
    "stop": "no stream 'main'",
    "pause": "no stream 'main'",
    "pause everything": "'everything'",
    "main status": "no stream 'main'",
    "send_text hello": "no stream 'main'",
    "graceful-shutdown": "no stream 'main'",
    "openai_start colour=blue": "colour",
    "openai_start rate=7": "'7'",
    "openai_start api_key=k rate=16000": "rate=16000",
    "openai_start api_key=k track=stereo": "track",
    "openai_start api_key=k url=ftp://127.0.0.1/": "url",
    "openai_start": "OPENAI_API_KEY",
}


def test_wrong_arguments_change_nothing(probe: Probe, call: SipCall, server: StreamServer) -> None:
    uuid = call.call_id
    bugs = probe.esl.api(f"uuid_buglist {uuid}")
    for words, reason in WRONG.items():
        answer = reason_of(probe.command(uuid, words.format(url=server.url)))
        assert answer and reason in answer, (words, answer)
    assert probe.esl.api(f"uuid_buglist {uuid}") == bugs
    assert streams(probe, call) == {}
    assert server.peers == []


def test_an_id_is_taken_until_its_stream_stops(probe: Probe, call: SipCall, server: StreamServer) -> None:
    first = start(probe, call, server)
    for form in (f"start {server.url} mono 8k", f"start {server.url} both 8000 0 1", "start embedded"):
        answer = reason_of(probe.command(call.call_id, form))
        assert answer == "a stream with this id is open on this call already"
    first.wait_audio(3200)
    assert probe.command(call.call_id, "stop") == "+OK"
    second = start(probe, call, server)
    second.wait_audio(3200)
    first.wait_closed()
    assert len(server.peers) == 2
    assert set(streams(probe, call)) == {"main"}


BAD_VALUES = {
    "STREAM_FRAME_MS": "4",
    "STREAM_BUFFER_SIZE": "30",
    "STREAM_INJECT_BUFFER_MS": "lots",
    "STREAM_MAX_AUDIO_BASE64_LEN": "4XB",
    "STREAM_RECONNECT_MAX": "-1",
    "STREAM_MESSAGE_DEFLATE": "perhaps",
    "STREAM_EXTRA_HEADERS": "not JSON",
    "STREAM_CODEC": "MP3",
    "STREAM_DIALECT": "latin",
}


def test_a_bad_variable_is_named(probe: Probe, call: SipCall, server: StreamServer) -> None:
    for name, value in BAD_VALUES.items():
        set_variables(probe, call, **{name: value})
        answer = probe.command(call.call_id, f"start {server.url} mono 8k")
        assert answer.startswith(f"-ERR channel variable {name} "), answer
        assert "\n" not in answer  # no argument is wrong
        assert re.search("must (be|have|not)", answer), answer
        probe.esl.api(f"uuid_setvar {call.call_id} {name}")
    assert streams(probe, call) == {}
    assert server.peers == []
    start(probe, call, server)


def test_a_start_that_fails_half_way(switch: FreeSwitch, probe: Probe, call: SipCall) -> None:
    """Nothing is left of it, though the call had been tapped by then; and only one event says so."""
    bugs = probe.esl.api(f"uuid_buglist {call.call_id}")
    with Esl(*switch.event_socket) as events:
        events.subscribe(*(f"mod_audio_stream::stream_{what}" for what in ("started", "stopped", "error")))
        answer = probe.command(call.call_id, "start ws://127.0.0.1:99999/ mono 8k")
        [event] = events.drain(0.5)
    assert "port" in reason_of(answer)
    assert event["Event-Subclass"] == "mod_audio_stream::stream_error"
    assert event["body"]["error"] == reason_of(answer)
    assert streams(probe, call) == {}
    assert probe.esl.api(f"uuid_buglist {call.call_id}") == bugs


# ---- the dialplan ------------------------------------------------------------------------------------------


def dialled(
    probe: Probe, caller: SipCaller, extension: str, server: StreamServer, arguments: str
) -> tuple[SipCall, str]:
    """A call whose dialplan says `start ${url} ${arguments}`, and how that went."""
    call = caller.call(f"prepare-{extension}").wait_answered()
    set_variables(probe, call, ws_url=server.url, ws_arguments=arguments)
    assert probe.esl.api(f"uuid_transfer {call.call_id} {extension}").startswith("+OK")
    variable = f"uuid_getvar {call.call_id} audio_stream_result"
    return call, wait_until(lambda: probe.esl.api(variable).replace("_undef_", ""))


@pytest.mark.parametrize("extension", ["stream-app", "stream-expand"])
@pytest.mark.parametrize(
    ("arguments", "metadata"),
    [
        ("inbound 8000 5 1", None),
        ('inbound 8000 5 1 {"a": [1, 2], "b": {"c": "d, e"}}', {"a": [1, 2], "b": {"c": "d, e"}}),
        ('inbound 8000 5 1 {"text": "it is (nearly) done", "n": 1}', {"text": "it is (nearly) done", "n": 1}),
        ("inbound 8000 5 1 'two words, one comma'", "two words, one comma"),
    ],
)
def test_the_dialplan_starts_a_stream(
    probe: Probe,
    caller: SipCaller,
    server: StreamServer,
    extension: str,
    arguments: str,
    metadata: object,
) -> None:
    call, result = dialled(probe, caller, extension, server, arguments)
    assert result == "+OK"
    peer = server.wait_peer()
    assert peer.wait_event("start").get("metadata") == metadata
    peer.wait_event("media")
    assert set(streams(probe, call)) == {"main"}


def test_everything_written_in_the_dialplan(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    """Quotes, commas, braces and parentheses as they stand in the XML; and each of the other verbs."""
    call = caller.call("prepare-stream-literal").wait_answered()
    set_variables(probe, call, ws_url=server.url)
    assert probe.esl.api(f"uuid_transfer {call.call_id} stream-literal").startswith("+OK")
    peer = server.wait_peer()
    peer.wait_closed(10)
    assert peer.wait_event("start")["metadata"] == {"greeting": "hello, (you) it's me", "list": [1, 2]}
    sent = [text for text in peer.texts() if "event" not in text]
    assert sent == ['{"say": "one, two (three)"}', "plain words"]
    assert peer.events()[-1] == {
        "event": "stop", "sequence": peer.events()[-1]["sequence"], "streamId": "lit", "reason": "all said"
    }  # fmt: skip
    assert probe.esl.api(f"uuid_getvar {call.call_id} audio_stream_result") == "+OK"


@pytest.mark.parametrize("extension", ["stream-app", "stream-expand"])
def test_the_dialplan_is_told_what_was_wrong(
    switch: FreeSwitch, probe: Probe, caller: SipCaller, server: StreamServer, extension: str
) -> None:
    call, result = dialled(probe, caller, extension, server, "inbound 8001 5 1")
    assert result.startswith("-ERR '8001' is not a sample rate")
    assert streams(probe, call) == {}
    if extension == "stream-app":
        switch.wait_log(rf"^{call.call_id}.*\[ERR\].*uuid_audio_stream: .*8001.* is not a sample rate")


# ---- options -----------------------------------------------------------------------------------------------


def test_channel_variables_reach_the_server(probe: Probe, call: SipCall, server: StreamServer) -> None:
    set_variables(
        probe,
        call,
        STREAM_FRAME_MS=40,
        STREAM_BUFFER_SIZE=40,
        STREAM_EXTRA_HEADERS='{"X-Tenant": "blue, green"}',
        MOD_AUDIO_STREAM_HTTP_AUTH_USER="me",
        MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD="secret-of-mine",
        MOD_AUDIO_STREAM_SUBPROTOCOL_NAME="my.protocol",
        stream_auth_id="A1",
        stream_account_id="B2",
        stream_subaccount_id="C3",
        stream_rate="0.01",
        stream_unit="60",
    )
    peer = start(probe, call, server, "inbound 8000 5 1")
    assert peer.headers["X-Tenant"] == "blue, green"
    assert peer.headers["Authorization"] == "Basic bWU6c2VjcmV0LW9mLW1pbmU="
    assert peer.headers["Sec-WebSocket-Protocol"] == "my.protocol"
    began = json.dumps(peer.wait_event("start"))
    assert all(value in began for value in ("A1", "B2", "C3", "0.01", "60"))
    peer.wait_audio(3200)
    assert len(peer.events("media")[0]["audio"]) == 8000 * 2 * 40 // 1000 * 4 // 3 // 4 * 4 + 4
    assert "secret-of-mine" not in json.dumps(streams(probe, call))


def test_the_dialect_may_be_set(probe: Probe, call: SipCall, server: StreamServer) -> None:
    set_variables(probe, call, STREAM_DIALECT="json")
    start(probe, call, server, "mono 8000").wait_event("start")
    assert probe.command(call.call_id, "stop") == "+OK"
    set_variables(probe, call, STREAM_DIALECT="binary")
    peer = start(probe, call, server, "inbound 8000 5 1")
    wait_until(lambda: any(isinstance(message, bytes) for message in peer.messages))


# ---- texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mono 8k", "inbound 8000 5 0"])
def test_send_text(probe: Probe, call: SipCall, server: StreamServer, form: str) -> None:
    peer = start(probe, call, server, form)
    texts = ["one", "two  words", METADATA, '{"a": {"b": [1, 2, {"c": "d e"}]}}', "ümlaut – €"]
    for text in texts:
        assert probe.command(call.call_id, f"send_text {text}") == "+OK"
    wait_until(lambda: [text for text in peer.texts() if '"event"' not in text] == texts)


def test_text_before_the_connection_is_open(probe: Probe, call: SipCall) -> None:
    """Kept until then."""
    with StreamServer() as server:
        assert probe.command(call.call_id, f"start {server.url} mono 8k") == "+OK"
        assert probe.command(call.call_id, "send_text early") == "+OK"
        wait_until(lambda: "early" in server.wait_peer().texts())


@pytest.mark.parametrize(("words", "text"), [("stop", None), ("stop thank you, bye", "thank you, bye")])
def test_stop(probe: Probe, call: SipCall, server: StreamServer, words: str, text: str | None) -> None:
    binary = start(probe, call, server)
    binary.wait_audio(3200)
    assert probe.command(call.call_id, words) == "+OK"
    assert binary.wait_closed() == 1000
    assert binary.texts() == ([text] if text else [])
    by_json = start(probe, call, server, "inbound 8000 5 1")
    by_json.wait_audio(3200)
    assert probe.command(call.call_id, words) == "+OK"
    assert by_json.wait_closed() == 1000
    last = by_json.events()[-1]
    assert (last["event"], last["streamId"], last["reason"]) == ("stop", "main", text or "stop")
    assert probe.command(call.call_id, "stop").startswith("-ERR no stream 'main'")


# ---- secrets -----------------------------------------------------------------------------------------------


def test_keys_are_shown_nowhere(
    switch: FreeSwitch, probe: Probe, call: SipCall, new_caller: NewCaller
) -> None:
    """FreeSWITCH itself logs what the dialplan says: of that, our events are looked at."""
    key, password, dialled_key = "sk-not-to-be-seen", "pw-not-to-be-seen", "sk-of-the-dialplan"
    with Esl(*switch.event_socket) as events:
        events.subscribe(*ALL)
        for words in (f"url={DEAD}", "url=ftp://127.0.0.1/", f"url={DEAD} rate=7"):
            words = f"openai_start api_key={dialled_key} {words}"
            new_caller().call("apply", {"X-Apply": words}).wait_answered()
            new_caller().call("apply-expand", {"X-Apply": words}).wait_answered()
        started = probe.command(call.call_id, f"openai_start api_key={key} url={DEAD}")
        wrong = probe.command(call.call_id, f"two openai_start api_key={key} rate=7 url={DEAD}")
        set_variables(probe, call, MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD=password)
        url = f"ws://me:{password}@127.0.0.1:1/{key}?token={key}"
        other = probe.command(call.call_id, f"three start {url} mono 8k")
        status = probe.command(call.call_id, "status")
        seen = events.drain(1.0)
        shown = [started, wrong, other, status, str(seen)]
    assert wrong.startswith("-ERR ")
    names = Counter(event["Event-Subclass"].removeprefix("mod_audio_stream::") for event in seen)
    assert names["stream_started"] == names["stream_stopped"] == 3
    assert (names["connection_failed"], names["stream_error"]) == (3, 4)
    assert dialled_key not in str(seen)
    variables = r"variable_MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD|uuid_setvar"  # FreeSWITCH's own
    logged = [line for line in switch.log_lines(f"{key}|{password}") if not re.search(variables, line)]
    assert logged == []
    assert not any(secret in text for secret in (key, password) for text in shown)


# ---- tab completion ----------------------------------------------------------------------------------------


def completions(probe: Probe, line: str) -> list[str]:
    """What fs_cli offers when tab is pressed at the line's end."""
    return re.findall(r"\[ *(\S+)\]", probe.esl.api(f"console_complete c={len(line)};{line}"))


def test_tab_completion(probe: Probe, call: SipCall) -> None:
    uuid = call.call_id
    assert probe.command(uuid, "greeter start embedded") == "+OK"
    assert completions(probe, "uuid_audio_st") == ["uuid_audio_stream"]
    wait_until(lambda: uuid in completions(probe, "uuid_audio_stream "))  # FreeSWITCH lists it late
    verbs = {"start", "stop", "pause", "resume", "status", "send_text", "graceful-shutdown", "openai_start"}
    assert set(completions(probe, f"uuid_audio_stream {uuid} ")) == verbs | {"greeter"}
    assert completions(probe, f"uuid_audio_stream {uuid} gre") == ["greeter"]
    assert set(completions(probe, f"uuid_audio_stream {uuid} greeter ")) >= verbs
    assert "capture" in completions(probe, f"uuid_audio_stream {uuid} greeter pause ")
