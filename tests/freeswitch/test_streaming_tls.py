"""Certificates that are wrong in one way, and the settings that allow just that."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator

import pytest
from certificates import Authority, self_signed
from ears import noise
from esl import Esl
from stream_servers import StreamServer
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, wait_until
from test_streaming_audio import FORMS, exactly, heard_by_all, play, start, wait_heard
from test_streaming_commands import set_variables, streams

FAILED = "mod_audio_stream::connection_failed"
SELF_SIGNED, EXPIRED = "MOD_AUDIO_STREAM_ALLOW_SELFSIGNED", "MOD_AUDIO_STREAM_ALLOW_EXPIRED"
ANY_HOST = "STREAM_TLS_DISABLE_HOSTNAME_VALIDATION"
ANY_HOST_TOO = "MOD_AUDIO_STREAM_SKIP_SERVER_CERT_HOSTNAME_CHECK"
ALL = (SELF_SIGNED, EXPIRED, ANY_HOST, ANY_HOST_TOO)
WRONG = {  # how, the settings of which each allows it, and what is said without
    "self-signed": ((SELF_SIGNED,), "self"),
    "expired": ((EXPIRED,), "expired"),
    "another host's": ((ANY_HOST, ANY_HOST_TOO), "name"),
}

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def contexts(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    made = {
        "self-signed": self_signed(tmp_path_factory.mktemp("self")),
        "expired": authority.server_context("localhost", 0),
        "another host's": authority.server_context("elsewhere.example"),
    }
    time.sleep(1.1)  # by now it has
    return made


@pytest.fixture
def call(caller: SipCaller) -> SipCall:
    return caller.call("park").wait_answered()


@pytest.fixture
def failures(stream_switch: FreeSwitch) -> Iterator[Esl]:
    with Esl(*stream_switch.event_socket) as esl:
        esl.subscribe(FAILED)
        yield esl


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_certificate_can_be_allowed(
    probe: Probe,
    call: SipCall,
    authority: Authority,
    contexts: dict[str, ssl.SSLContext],
    failures: Esl,
    wrong: str,
) -> None:
    """By its own settings, and by no others; then audio flows."""
    allowing, said = WRONG[wrong]
    if wrong != "self-signed":
        set_variables(probe, call, STREAM_TLS_CA_FILE=authority.file)
    with StreamServer(contexts[wrong], host="localhost") as server:
        for others in ((), tuple(name for name in ALL if name not in allowing)):
            set_variables(probe, call, **dict.fromkeys(others, "true"))
            assert probe.command(call.call_id, f"start {server.url} {FORMS['json']}") == "+OK"
            failed = failures.wait(FAILED, call.call_id)["body"]
            assert failed["why"] == "tls" and said in json.dumps(failed).lower(), failed
            wait_until(lambda: streams(probe, call) == {})
        assert server.peers == []
        set_variables(probe, call, **dict.fromkeys(ALL, ""))
        for number, name in enumerate(allowing):
            set_variables(probe, call, **{name: "true"})
            peer = start(probe, call, server, FORMS["json"], f"s{number}")
            set_variables(probe, call, **{name: ""})
            assert heard_by_all(call, [peer], noise(8000, 0.3, number))
            pcm = exactly(call, noise(8000, 0.3, 10 + number))
            play(peer, "json", pcm)
            wait_heard(call, pcm)
