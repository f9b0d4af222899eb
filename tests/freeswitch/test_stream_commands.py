"""uuid_audio_stream on real calls: as a command, as an application, and the events it fires."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from esl import Esl
from lines import Line, not_whole
from support.sip import SipCaller
from support.switch import FreeSwitch
from taps import Probe, Tap, reason_of, wait_until

OpenLine = Callable[..., Line]
NOBODY = "5c7a4b0e-8d1f-4a53-9f2e-0123456789ab"
STARTED, STOPPED, ERROR = (f"mod_audio_stream::stream_{what}" for what in ("started", "stopped", "error"))
CAPTURE = {"samples", "read", "dropped", "overruns", "paused_samples", "paused", "speech"}
INJECT = {"written", "queued", "played", "flushed", "flushes", "underruns", "underrun_samples", "full_writes"}
INJECT |= {"stale_writes", "paused", "playing"}

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def events(stream_switch: FreeSwitch) -> Iterator[Esl]:
    with Esl(*stream_switch.event_socket) as esl:
        esl.subscribe(STARTED, STOPPED, ERROR)
        yield esl


def check_stream(stream: dict[str, Any], uuid: str, stream_id: str) -> None:
    assert set(stream) - {"reason", "at"} == {
        "uuid", "streamId", "source", "rate", "callRate", "callCodec", "capture", "inject"
    }  # fmt: skip
    assert (stream["uuid"], stream["streamId"], stream["source"]) == (uuid, stream_id, "embedded")
    assert set(stream["capture"]) == CAPTURE
    assert set(stream["inject"]) == INJECT


# ---- the command -------------------------------------------------------------------------------------------


def test_status(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park", "L16/16000")
    uuid = line.call.call_id
    assert probe.command(uuid, "other start embedded 24k") == "+OK"
    status = json.loads(probe.command(uuid, "status"))
    streams = {stream["streamId"]: stream for stream in status["streams"]}
    assert (status["uuid"], set(status), set(streams)) == (uuid, {"uuid", "streams"}, {"main", "other"})
    for stream_id, stream in streams.items():
        check_stream(stream, uuid, stream_id)
        assert (stream["callRate"], stream["callCodec"]) == (16000, "L16")
    assert (streams["main"]["rate"], streams["other"]["rate"]) == (16000, 24000)
    [named] = json.loads(probe.command(uuid, "other status"))["streams"]
    assert named["streamId"] == "other"


def test_status_of_a_call_without_streams(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("park").wait_answered()
    assert json.loads(probe.command(call.call_id, "status")) == {"uuid": call.call_id, "streams": []}
    answer = probe.command(call.call_id, "main status")
    assert reason_of(answer) == f"no stream 'main' on call {call.call_id}"


UNREADABLE = {  # and a part of the reason
    "": "is not followed by start, stop, pause, resume, status, send_text, graceful-shutdown or openai_start",
    "main": "is not followed by",
    "jump": "is not followed by",
    "a b c stop": "is not a command",
    "start": "start needs to know what takes the audio",
    "start http://127.0.0.1:1/": "cannot take the audio",
    "start embedded 8001": "'8001' is not a sample rate",
    "start embedded 8k mono 16k": "one argument too many",
    "pause both": "'both' is not a direction",
    "resume capture inject": "one argument too many",
    "status please": "one argument too many",
    f"{'x' * 128} stop": "longer than 127 characters",
    "START EMBEDDED": "'EMBEDDED' is not a command",
}
IMPOSSIBLE = {
    "start embedded": "a stream with this id is open on this call already",
    "nobody stop": "no stream 'nobody'",
    "nobody pause": "no stream 'nobody'",
    "nobody resume inject": "no stream 'nobody'",
    "nobody status": "no stream 'nobody'",
}


def test_wrong_commands_change_nothing(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    uuid = line.call.call_id
    bugs = probe.esl.api(f"uuid_buglist {uuid}")
    payload = line.say(bytes(range(1, 41)) * 400)
    for words, reason in UNREADABLE.items():
        assert reason in reason_of(probe.command(uuid, words)), words
    for words, reason in IMPOSSIBLE.items():
        assert reason in reason_of(probe.command(uuid, words)), words
    assert probe.esl.api("uuid_audio_stream").startswith("-ERR no arguments\n-USAGE: ")
    assert reason_of(probe.command(NOBODY, "start embedded")) == f"no call with uuid '{NOBODY}'"
    assert probe.esl.api(f"uuid_buglist {uuid}") == bugs
    status = json.loads(probe.command(uuid, "status"))
    [stream] = status["streams"]
    assert not stream["capture"]["paused"] and not stream["inject"]["paused"]
    line.wait_heard(payload)


def test_a_pause_may_have_a_reason(switch: FreeSwitch, probe: Probe, open_line: OpenLine) -> None:
    """After a stream's id: where there is none it could be a direction that was misspelt."""
    line = open_line("park")
    for words, what in (("pause capture on hold", "paused"), ("resume on hold no more", "resumed")):
        assert line.tap.command(words) == "+OK"
        switch.wait_log(f"{line.call.call_id}.*stream main {what}: on hold")
    assert not line.tap.status()["capture"]["paused"]
    assert "is not a direction" in reason_of(probe.command(line.call.call_id, "pause on hold"))


def test_a_stream_stops_once(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    line.say(b"\x10\x20" * 8000)
    assert line.tap.command("stop") == "+OK"
    assert line.tap.command("stop").startswith("-ERR no stream 'main'")
    assert line.tap.do("info")["closed"]
    assert probe.do("open_now", uuid=line.call.call_id) == []
    again = Line(line.call, probe.start(line.call))
    assert not_whole([again], 0.2) == []


# ---- the application ---------------------------------------------------------------------------------------


def applied(probe: Probe, caller: SipCaller, words: str) -> tuple[str, str]:
    """(uuid, ${audio_stream_result}) of a call whose dialplan ran `uuid_audio_stream <words>`."""
    uuid = caller.call("apply", headers={"X-Apply": words}).wait_answered().call_id
    variable = f"uuid_getvar {uuid} audio_stream_result"
    return uuid, wait_until(lambda: probe.esl.api(variable).replace("_undef_", ""))


@pytest.mark.parametrize(
    ("words", "stream_id", "rate_hz"),
    [("start embedded", "main", 8000), ("mine start embedded 16k", "mine", 16000)],
)
def test_the_dialplan_starts_a_stream(
    probe: Probe, caller: SipCaller, words: str, stream_id: str, rate_hz: int
) -> None:
    uuid, result = applied(probe, caller, words)
    assert result == "+OK"
    assert Tap(probe, uuid, stream_id).status()["rate"] == rate_hz
    [call] = caller.calls()
    assert not_whole([Line(call, Tap(probe, uuid, stream_id))], 0.2) == []


def test_the_dialplan_gets_the_status(probe: Probe, caller: SipCaller) -> None:
    uuid, result = applied(probe, caller, "status")
    assert json.loads(result) == {"uuid": uuid, "streams": []}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("start", "start needs to know"),
        ("jump", "'jump' is not followed by"),
        ("stop", "no stream 'main' on call"),
        (f"{NOBODY} main stop", f"no call with uuid '{NOBODY}'"),
    ],
)
def test_the_dialplan_is_told_what_was_wrong(
    switch: FreeSwitch, probe: Probe, caller: SipCaller, words: str, reason: str
) -> None:
    uuid, result = applied(probe, caller, words)
    assert result.startswith("-ERR ")
    assert reason in result
    logged = re.escape(reason).replace("'", "'?")  # FreeSWITCH's log leaves quotes out
    switch.wait_log(rf"^{uuid}.*\[ERR\].*uuid_audio_stream: .*{logged}")
    assert probe.do("open_now", uuid=uuid) == []


def test_the_command_in_a_dialplan_expression(switch: FreeSwitch, probe: Probe, caller: SipCaller) -> None:
    call = caller.call("expand").wait_answered()
    switch.wait_log(rf"^{call.call_id}.*\[NOTICE\].* expanded: \+OK")
    assert probe.do("open_now", uuid=call.call_id) == [[call.call_id, "main"]]


# ---- events ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "reason"), [("stop", "stop"), ("stop  we are done ", "we are done")])
def test_events_of_a_stream(probe: Probe, events: Esl, open_line: OpenLine, words: str, reason: str) -> None:
    line = open_line("park")
    uuid = line.call.call_id
    started = events.wait(STARTED, uuid)
    assert started["Unique-ID"] == uuid
    check_stream(started["body"], uuid, "main")
    assert started["body"]["inject"]["written"] == 0
    line.wait_heard(line.say(bytes(range(1, 41)) * 80))
    assert line.tap.command(words) == "+OK"
    stopped = events.wait(STOPPED, uuid)["body"]
    check_stream(stopped, uuid, "main")
    assert stopped["reason"] == reason
    assert stopped["inject"]["played"] == stopped["inject"]["written"] == 1600


def test_the_event_of_a_hangup(probe: Probe, events: Esl, open_line: OpenLine) -> None:
    line = open_line("park")
    probe.start(line.call, "second")
    line.call.hangup()
    bodies = [events.wait(STOPPED, line.call.call_id)["body"] for _ in range(2)]
    assert {(body["streamId"], body["reason"]) for body in bodies} == {
        ("main", "hangup"),
        ("second", "hangup"),
    }


def test_the_event_of_a_refused_start(events: Esl, open_line: OpenLine) -> None:
    line = open_line("park")
    answer = line.tap.command("start embedded")
    body = events.wait(ERROR, line.call.call_id)["body"]
    assert (body["uuid"], body["streamId"]) == (line.call.call_id, "main")
    assert body["error"] == reason_of(answer)


def test_no_event_without_a_call(probe: Probe, events: Esl) -> None:
    probe.command(NOBODY, "start embedded")
    with pytest.raises(TimeoutError):
        events.wait(ERROR, NOBODY, 0.3)
    assert events.events == []


# ---- many times --------------------------------------------------------------------------------------------


def test_two_hundred_streams_one_after_the_other(
    switch: FreeSwitch, probe: Probe, open_line: OpenLine
) -> None:
    line = open_line("park")
    line.tap.stop()
    before = switch.fds(), switch.threads()
    for number in range(200):
        tap = probe.start(line.call)
        if number % 10 == 0:
            tap.inject(b"\x10\x20" * 2000)
        tap.stop()
    assert switch.fds() <= before[0] + 2  # those of an earlier call may still have been there
    assert switch.threads() <= before[1] + 2
    assert probe.do("open_now", uuid=line.call.call_id) == []
    assert "media-bug" not in probe.esl.api(f"uuid_buglist {line.call.call_id}").replace("media-bugs", "")
    assert not_whole([Line(line.call, probe.start(line.call))], 0.3) == []


def test_many_streams_of_a_call_end_with_it(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("tone")
    for number in range(20):
        assert probe.command(line.call.call_id, f"s{number} start embedded") == "+OK"
    assert len(json.loads(probe.command(line.call.call_id, "status"))["streams"]) == 21
    line.call.hangup()
    wait_until(lambda: probe.do("open_now", uuid=line.call.call_id) == [])
