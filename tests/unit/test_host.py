"""What is asked of a call's host: what FreeSWITCH is told, and how it is understood."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream, StreamNotFound
from ivr_ai.config import Settings
from ivr_ai.host import expected_wire, open_stream, stop_stream, wake


class FreeSwitch:
    """Answers of its API, and what it was asked."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.executed = answers, []

    def execute(self, *command: str) -> str:
        self.executed.append(command)
        return next((answer for words, answer in self.answers.items() if words in command[-1]), "")


@pytest.fixture
def freeswitch(monkeypatch):
    """Takes FreeSWITCH's place inside mod_python3."""

    def answering(answers: dict[str, str]) -> FreeSwitch:
        api = FreeSwitch(answers)
        monkeypatch.setitem(sys.modules, "freeswitch", SimpleNamespace(API=lambda: api))
        return api

    return answering


SESSION = SimpleNamespace(get_uuid=lambda: "u-1")


@pytest.mark.parametrize(
    ("variables", "wire"),
    [
        ({}, Format("s16", 16000)),
        ({"read_codec": "PCMU"}, Format("pcmu", 8000)),
        ({"read_codec": "opus", "ep_codec_string": "PCMA@8000h"}, Format("s16", 16000)),
        ({"ep_codec_string": "CORE_PCM_MODULE.PCMA@8000h@20i@64000b,opus@48000h"}, Format("pcma", 8000)),
        ({"ep_codec_string": "mod_opus.opus@48000h@20i,PCMU@8000h"}, Format("s16", 16000)),
    ],
    ids=str,
)
def test_the_line_as_far_as_it_is_known_before_the_answer(variables, wire):
    session = SimpleNamespace(getVariable=variables.get)
    settings = Settings(realtime_url="ws://localhost/", sample_rate_hz=16000)
    assert expected_wire(session, settings) == wire


def test_a_session_of_freeswitch_is_woken_by_its_api(freeswitch):
    api = freeswitch({})
    wake(SESSION)
    assert api.executed == [("uuid_break", "u-1")]


def test_a_stream_is_opened_and_stopped(freeswitch):
    api = freeswitch({"start": "+OK\n", "stop": "+OK\n"})
    assert open_stream(SESSION, "u-1") == "main"
    stop_stream(SESSION, "main")
    assert [words for _, words in api.executed] == ["u-1 start embedded", "u-1 stop"]


@pytest.mark.parametrize(
    ("status", "stream_id", "asked"),
    [
        ('{"streams":[{"source":"embedded"}]}', "main", ["u-1 main status"]),
        ('{"streams":[{"source":"websocket"}]}', "ivr_ai", ["u-1 main status", "u-1 ivr_ai start embedded"]),
    ],
)
def test_one_that_is_there_is_taken_if_it_is_for_us(freeswitch, status, stream_id, asked):
    api = freeswitch({"status": status, "start": "+OK\n"})
    with HostStream.create("u-1", "main"):
        assert open_stream(SESSION, "u-1") == stream_id
    assert [words for _, words in api.executed] == asked


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("-ERR no call\n-USAGE: uuid_audio_stream <uuid>\n", "call u-1: -ERR no call; is mod_audio_stream"),
        ("", "call u-1: no answer; is mod_audio_stream loaded"),
    ],
)
def test_why_there_is_none(freeswitch, answer, says):
    freeswitch({"start": answer})
    with pytest.raises(StreamNotFound, match=says):
        open_stream(SESSION, "u-1")
