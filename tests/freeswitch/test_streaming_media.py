"""What a start asks of a call's media: nothing before all else is right, and never what is not there."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from esl import Esl
from stream_servers import StreamServer
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, wait_until
from test_streaming_review import REFUSED

NewCaller = Callable[..., SipCaller]
NO_MEDIA = "has no media yet"
_names = (f"leg-{number}" for number in itertools.count(1))

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


def result(probe: Probe, uuid: str, timeout_s: float = 3.0) -> str:
    """What a dialplan was told."""

    def told() -> str:
        answer = probe.esl.api(f"uuid_getvar {uuid} audio_stream_result")
        return "" if answer in ("_undef_", "-ERR No such channel!") else answer

    return wait_until(told, timeout_s, "the result")


# ---- the application on a call that rings ------------------------------------------------------------------

HARMLESS = {  # and a part of the result
    "status": '"streams":[]',
    "stop": "no stream 'main'",
    "no such verb": "-ERR ",
    "main graceful-shutdown": "no stream 'main'",
    "send_text hello": "no stream 'main'",
    "pause": "no stream 'main'",
}


@pytest.mark.parametrize("words", [*REFUSED, *HARMLESS])
def test_an_application_that_starts_nothing_leaves_a_call_ringing(
    probe: Probe, caller: SipCaller, server: StreamServer, words: str
) -> None:
    told = {**REFUSED, **HARMLESS}[words]
    call = caller.call("apply-ringing", headers={"X-Apply": words.format(url=server.url)})
    wait_until(lambda: call.status_line.startswith("SIP/2.0 180"))
    said = result(probe, call.call_id)
    assert told in said and (words == "status" or said.startswith("-ERR ")), said
    dump = probe.esl.api(f"uuid_dump {call.call_id}")
    assert re.search(r"^Answer-State: ringing$", dump, re.M)
    assert re.search(r"^Channel-Call-State: RINGING$", dump, re.M)
    assert call.status_line.startswith("SIP/2.0 180")
    assert (call.early_at_s, call.answered_at_s, server.peers) == (None, None, [])


def test_a_wrong_channel_variable_leaves_a_call_ringing(
    probe: Probe, caller: SipCaller, server: StreamServer
) -> None:
    headers = {"X-Apply": f"start {server.url} mono 8k", "X-Set": "STREAM_CODEC=MP3"}
    call = caller.call("apply-ringing", headers=headers)
    assert result(probe, call.call_id).startswith("-ERR channel variable STREAM_CODEC ")
    assert call.status_line.startswith("SIP/2.0 180") and call.early_at_s is None


def test_an_application_that_starts_a_stream_brings_early_media_up(
    probe: Probe, caller: SipCaller, server: StreamServer
) -> None:
    call = caller.call("apply-ringing", headers={"X-Apply": f"start {server.url} mono 8k"}).wait_early()
    assert result(probe, call.call_id) == "+OK"
    assert call.answered_at_s is None
    server.wait_peer()


# ---- media that bypasses the switch ------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["status", "stop", "start embedded stereo", "start ws:///nobody mono 8k"])
def test_an_application_that_starts_nothing_leaves_media_bypassed(
    probe: Probe, caller: SipCaller, words: str
) -> None:
    call = caller.call("apply-bypassed", headers={"X-Apply": words}).wait_answered()
    assert result(probe, call.call_id)
    assert call._answered is None  # no re-INVITE has come


def test_an_application_that_starts_a_stream_brings_media_back(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("apply-bypassed", headers={"X-Apply": "start embedded"}).wait_answered()
    assert result(probe, call.call_id, 8.0) == "+OK"
    assert call._answered is not None
    call.wait_packets(10)


# ---- outbound legs that ring -------------------------------------------------------------------------------


class Originate:
    """`originate` of a leg to an extension, under way on a connection of its own; hangs up afterwards."""

    def __init__(self, switch: FreeSwitch, probe: Probe, extension: str, variables: str = "") -> None:
        self.uuid, self._esl, self._probe = next(_names), Esl(*switch.event_socket), probe
        address = "{}:{}".format(*switch.sip_address)
        settings = f"{{origination_uuid={self.uuid}{variables}}}"
        line = f"originate {settings}sofia/test/{extension}@{address} &park()"
        self._pool = ThreadPoolExecutor(1)
        self.answer = self._pool.submit(self._esl.api, line, 30.0)

    def wait_state(self, state: str) -> None:
        pattern = re.compile(f"^Channel-Call-State: {state}$", re.M)
        wait_until(lambda: pattern.search(self._probe.esl.api(f"uuid_dump {self.uuid}")), 5.0, state)

    def __enter__(self) -> Originate:
        return self

    def __exit__(self, *_: object) -> None:
        self._probe.esl.api(f"uuid_kill {self.uuid}")
        self.answer.result(10.0)
        self._pool.shutdown()
        self._esl.__exit__()


def assert_rings(probe: Probe, uuid: str) -> None:
    dump = probe.esl.api(f"uuid_dump {uuid}")
    assert re.search(r"^Answer-State: ringing$", dump, re.M)
    assert re.search(r"^Channel-Call-State: RINGING$", dump, re.M)
    assert re.search(r"^Caller-Channel-Progress-Media-Time: 0$", dump, re.M)


@pytest.mark.parametrize(
    "words", ["start embedded", "start {url} mono 8k", "openai_start api_key=k url={url}"]
)
def test_a_ringing_outbound_leg_has_no_media_yet(
    switch: FreeSwitch, probe: Probe, server: StreamServer, words: str
) -> None:
    with Originate(switch, probe, "ring") as leg:
        leg.wait_state("RINGING")
        answer = probe.command(leg.uuid, words.format(url=server.url))
        assert answer.startswith("-ERR ") and NO_MEDIA in answer and "-USAGE" not in answer, answer
        assert_rings(probe, leg.uuid)
        assert not leg.answer.done()
    assert leg.answer.result().startswith("-ERR ")
    assert server.peers == []


@pytest.mark.parametrize("hook", ["execute_on_originate", "execute_on_ring", "api_on_ring"])
def test_what_is_run_on_a_ringing_leg_changes_nothing(switch: FreeSwitch, probe: Probe, hook: str) -> None:
    uuid_of_api = "${uuid} " if hook.startswith("api") else ""
    with Originate(switch, probe, "ring", f",{hook}='uuid_audio_stream {uuid_of_api}start embedded'") as leg:
        leg.wait_state("RINGING")
        if hook.startswith("execute"):
            assert NO_MEDIA in result(probe, leg.uuid)
        assert_rings(probe, leg.uuid)
        assert not leg.answer.done()


@pytest.mark.parametrize("hook", ["execute_on_media", "execute_on_answer"])
def test_what_is_run_once_there_is_media_starts(switch: FreeSwitch, probe: Probe, hook: str) -> None:
    with Originate(switch, probe, "park", f",{hook}='uuid_audio_stream start embedded'") as leg:
        leg.wait_state("ACTIVE")
        assert result(probe, leg.uuid) == "+OK"


def test_an_outbound_leg_with_early_media_is_streamed(switch: FreeSwitch, probe: Probe) -> None:
    with Originate(switch, probe, "early", ",ignore_early_media=true") as leg:
        leg.wait_state("EARLY")
        tap = probe.start(leg.uuid)
        assert wait_until(lambda: tap.status()["capture"]["samples"]) > 0


def test_the_ringback_of_a_bridged_caller_goes_on(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("ringback").wait_early()
    call.wait_packets(25)
    far = far_leg(probe, call)
    assert NO_MEDIA in probe.command(far, "start embedded")
    call.wait_packets(75)  # 1.5 s
    assert_rings(probe, far)
    assert call.answered_at_s is None


def far_leg(probe: Probe, call: SipCall) -> str:
    """The leg that a call waits for."""
    rows = json.loads(probe.esl.api("show channels as json"))["rows"]
    return next(row["uuid"] for row in rows if row["direction"] == "outbound" and row["uuid"] != call.call_id)
