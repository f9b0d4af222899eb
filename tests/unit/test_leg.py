"""A call's leg: what FreeSWITCH is told, and how its answers are understood."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import HostStream, StreamNotFound, StreamStereo
from ivr_ai.detached import DetachedLeg
from ivr_ai.gateways.embedded_leg import EmbeddedLeg
from ivr_ai.gateways.embedded_session import EmbeddedSession
from ivr_ai.leg import FreeSwitchLeg, Leg, first_codec, leg_of


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


class Session:
    """A session of mod_python3's, as far as a leg uses it. Keeps what was asked of it."""

    def __init__(self, *, answered=False, media=False, ready=True, variables=()) -> None:
        self.asked: list[tuple] = []
        self._answered, self._media, self._ready, self._variables = answered, media, ready, dict(variables)

    def get_uuid(self):
        return "u-1"

    def ready(self):
        return self._ready

    def answered(self):
        return self._answered

    def mediaReady(self):
        return self._media

    def getVariable(self, name):
        return self._variables.get(name)

    def execute(self, *arguments):
        self.asked.append(("execute", *arguments))

    def transfer(self, *arguments):
        self.asked.append(("transfer", *arguments))

    def hangup(self, *arguments):
        self.asked.append(("hangup", *arguments))

    def sleep(self, *arguments):
        self.asked.append(("sleep", *arguments))


def embedded() -> EmbeddedSession:
    return EmbeddedSession(SimpleNamespace(), "u-1", {}, tick_ms=20, on_hangup=lambda cause, by: None)


def test_every_host_has_an_adapter_that_is_a_leg():
    detached = DetachedLeg("u-1", lambda name, arguments: "")
    assert isinstance(leg_of(Session()), FreeSwitchLeg)
    assert isinstance(leg_of(embedded()), EmbeddedLeg)
    assert leg_of(detached) is detached
    for leg in (leg_of(Session()), leg_of(embedded()), detached):
        assert isinstance(leg, Leg)
        assert leg.uuid == "u-1"


class TestRinging:
    @pytest.mark.parametrize(
        ("state", "asked"),
        [
            ({}, [("execute", "ring_ready", "")]),
            ({"answered": True}, []),
            ({"media": True}, []),
            ({"ready": False}, []),
        ],
        ids=str,
    )
    def test_only_a_call_that_has_nothing_yet_is_told(self, state, asked):
        session = Session(**state)
        leg_of(session).ring()
        assert session.asked == asked

    def test_on_the_embedded_host(self):
        session = embedded()
        leg_of(session).ring()
        assert session.rang

    def test_an_answered_call_does_not_ring(self):
        session = embedded()
        session.answer()
        leg_of(session).ring()
        assert not session.rang


class TestTransfer:
    def test_stays_in_the_calls_own_context(self):
        session = Session(variables={"context": "public"})
        leg_of(session).transfer("5000")
        assert session.asked == [("transfer", "5000", "XML", "public")]

    def test_goes_where_it_is_told(self):
        session = Session()
        leg_of(session).transfer("5000", "inline", "desk")
        assert session.asked == [("transfer", "5000", "inline", "desk")]

    def test_of_a_call_that_the_dialplan_keeps_ends_our_part(self):
        asked = []
        leg = DetachedLeg(
            "u-1", lambda *words: asked.append(words) or ("true" if words[0] == "uuid_exists" else "")
        )
        assert leg.ready()
        leg.transfer("5000", "XML", "desk")
        assert asked[-1] == ("uuid_transfer", "u-1 5000 XML desk")
        assert not leg.ready()


def test_a_released_leg_does_nothing_and_keeps_no_session(freeswitch):
    freeswitch({})
    session = Session()
    leg = leg_of(session)
    leg.release()
    assert not leg.ready()
    assert not leg.answered()
    assert leg.variable("any") is None
    for act in (
        leg.ring,
        leg.answer,
        leg.hang_up,
        lambda: leg.sleep(20),
        lambda: leg.transfer("5000"),
        leg.wake,
    ):
        act()
    assert session.asked == []


@pytest.mark.parametrize(("loaded", "says"), [("true", ""), ("false", "mod_audio_stream is not loaded")])
def test_whether_a_stream_can_be_had_is_known_before_the_answer(freeswitch, loaded, says):
    freeswitch({"mod_audio_stream": loaded})
    detached = DetachedLeg("u-1", lambda name, arguments: loaded)
    for leg in (leg_of(SESSION), detached):
        assert leg.why_no_stream().startswith(says)
        assert bool(leg.why_no_stream()) == bool(says)


def test_keys_are_sent_by_uuid(freeswitch):
    api = freeswitch({})
    leg_of(SESSION).send_dtmf("12#")
    assert api.executed == [("uuid_send_dtmf", "u-1 12#")]


@pytest.mark.parametrize(
    ("offered", "first"),
    [
        (None, ""),
        ("", ""),
        ("VP8@90000h,PCMU@8000h", "pcmu"),
        ("telephone-event@8000h, PCMA@8000h", "pcma"),
        ("mod_opus.opus@48000h@20i,PCMU@8000h", "opus"),
    ],
)
def test_the_first_audio_codec_counts(offered, first):
    assert first_codec(offered) == first


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
    assert leg_of(Session(variables=variables)).expected_format(16000) == wire


def test_a_session_of_freeswitch_is_woken_by_its_api(freeswitch):
    api = freeswitch({})
    leg_of(SESSION).wake()
    assert api.executed == [("uuid_break", "u-1")]


def test_a_stream_is_opened_and_stopped(freeswitch):
    api = freeswitch({"start": "+OK\n", "stop": "+OK\n"})
    assert leg_of(SESSION).open_stream() == "main"
    leg_of(SESSION).stop_stream("main")
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
        assert leg_of(SESSION).open_stream() == stream_id
    assert [words for _, words in api.executed] == asked


def test_one_of_two_channels_is_refused(freeswitch):
    freeswitch({"status": '{"streams":[{"source":"embedded"}]}'})
    with (
        HostStream.create("u-1", "main", channels=2),
        pytest.raises(StreamStereo, match="call u-1 is stereo"),
    ):
        leg_of(SESSION).open_stream()


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
        leg_of(SESSION).open_stream()
