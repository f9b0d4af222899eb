"""openai_start: a conversation with a Realtime server that needs no Python in the switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from ears import heard_in_order, noise
from esl import Esl
from models import KEY, REPLY, model, spoken
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, wait_until
from test_streaming_commands import set_variables, streams

from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

NewCaller = Callable[..., SipCaller]
PREFIX = "mod_audio_stream::"
NAMES = [
    *(f"openai_{what}" for what in ("session_started", "response_generated", "error", "session_expired")),
    *("stream_started", "stream_stopped", "connection_established", "connection_failed", "media_cleared"),
]

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def sim() -> Iterator[SimServer]:
    with model() as running:
        yield running


@pytest.fixture
def call(caller: SipCaller) -> SipCall:
    return caller.call("park").wait_answered()


@pytest.fixture
def events(stream_switch: FreeSwitch) -> Iterator[Esl]:
    with Esl(*stream_switch.event_socket) as esl:
        esl.subscribe(*(PREFIX + name for name in NAMES))
        yield esl


def wait(events: Esl, name: str, call: SipCall, timeout_s: float = 8.0) -> dict[str, object]:
    return events.wait(PREFIX + name, call.call_id, timeout_s)["body"]


def start(probe: Probe, call: SipCall, words: str) -> None:
    answer = probe.command(call.call_id, f"openai_start {words}")
    assert answer == "+OK", answer


def test_a_conversation(probe: Probe, call: SipCall, sim: SimServer, events: Esl) -> None:
    """The caller speaks, the model answers; both in the call's own format."""
    instructions = 'Answer briefly, (always) with \\"yes\\".'
    start(probe, call, f'voice=cedar api_key={KEY} url={sim.url} instructions="{instructions}"')
    assert wait(events, "stream_started", call)["source"] == "websocket"
    session = wait(events, "openai_session_started", call)
    assert session["voice"] == "cedar"
    record = sim.wait_session()
    assert record.headers["authorization"] == f"Bearer {KEY}"
    asked = record.received("session.update")[0]["session"]
    assert asked["instructions"] == 'Answer briefly, (always) with "yes".'
    assert asked["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    call.say(noise(8000, 0.8))
    reply = wait(events, "openai_response_generated", call)
    assert (reply["status"], reply["transcript"]) == ("completed", REPLY)
    payload = call.media.codec.encode(spoken(call, REPLY))
    wait_until(lambda: payload in heard_in_order(call), 5.0, "the reply, to the sample,")
    assert KEY not in str(streams(probe, call)["main"])
    assert probe.command(call.call_id, "stop") == "+OK"
    assert wait(events, "stream_stopped", call)["reason"] == "stop"
    record.wait_closed(3)


def test_barge_in(probe: Probe, call: SipCall, sim: SimServer, events: Esl) -> None:
    """What the caller interrupts is cut, and the model is told how much of it was heard."""
    set_variables(probe, call, OPENAI_REALTIME_URL=sim.url, OPENAI_API_KEY=KEY)
    start(probe, call, "")
    wait(events, "openai_session_started", call)
    record = sim.wait_session()
    call.say(noise(8000, 0.8))
    record.wait_sent("response.output_audio.delta", 1)
    wait_until(lambda: streams(probe, call)["main"]["inject"]["played"] > 1600)
    call.say(noise(8000, 0.8, 2))
    wait_until(lambda: record.received("conversation.item.truncate"), 4.0)
    truncated = record.received("conversation.item.truncate")[0]
    assert 200 <= truncated["audio_end_ms"] < 1700
    assert streams(probe, call)["main"]["inject"]["flushes"] >= 1


def test_a_key_that_is_refused(probe: Probe, call: SipCall, events: Esl) -> None:
    with SimServer(require_key="sk-another") as sim:
        start(probe, call, f"api_key={KEY} url={sim.url}")
        refused, stopped = wait(events, "openai_error", call), wait(events, "stream_stopped", call)
    assert refused["fatal"] and "invalid_api_key" in str(refused["code"])
    assert stopped["reason"] == "the server does not accept the session"
    assert KEY not in str(stopped)
    wait_until(lambda: streams(probe, call) == {})


def test_without_a_key_there_is_no_start(probe: Probe, call: SipCall) -> None:
    answer = probe.command(call.call_id, "openai_start")
    assert answer.startswith("-ERR no key: set OPENAI_API_KEY")
    assert streams(probe, call) == {}


def test_a_server_that_goes_away(probe: Probe, call: SipCall, events: Esl) -> None:
    with model(faults=Faults(drop_after_s=0.5)) as sim:
        start(probe, call, f"api_key={KEY} url={sim.url}")
        wait(events, "openai_session_started", call)
        assert "connection lost" in str(wait(events, "stream_stopped", call)["reason"])
    assert call.ended_at_s is None


def test_hangup(switch: FreeSwitch, probe: Probe, call: SipCall, sim: SimServer, events: Esl) -> None:
    start(probe, call, f"api_key={KEY} url={sim.url}")
    wait(events, "openai_session_started", call)
    call.hangup()
    switch.wait_channels(0)
    assert wait(events, "stream_stopped", call)["reason"] == "hangup"
    sim.wait_session().wait_closed(3)
