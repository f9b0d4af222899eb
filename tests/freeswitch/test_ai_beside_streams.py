"""A conversation on a call that is streamed to a server as well: neither touches the other's stream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ears import noise
from lines import TRIES
from models import GREETING, REPLY, model, settings, spoken, wait_heard, wait_quiet
from stream_servers import StreamServer
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, wait_until
from test_streaming_audio import exactly, heard_by_all
from test_streaming_commands import start, streams

from ivr_ai.sim.server import SimServer

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def transcriber() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


@pytest.fixture
def sim() -> Iterator[SimServer]:
    with model() as running:
        yield running


def sources(probe: Probe, call: SipCall) -> dict[str, str]:
    return {stream_id: stream["source"] for stream_id, stream in streams(probe, call).items()}


def converse(probe: Probe, call: SipCall, transcriber: StreamServer, sim: SimServer) -> None:
    """Greeting, turn and reply; the transcriber gets the same as the model, every bit of it."""
    wait_heard(call, spoken(call, GREETING))
    assert sources(probe, call) == {"main": "websocket", "ivr_ai": "embedded"}
    wait_quiet(call)
    peer, record = transcriber.wait_peer(), sim.sessions[0]
    for attempt in range(TRIES):
        said = noise(8000, 0.6, attempt)
        assert call.say(said).wait(5)
        record.wait_sent("response.done", 2 + attempt)
        wait_quiet(call)
        if all(exactly(call, said) in heard for heard in (record.audio, peer.audio())):
            break
    else:
        pytest.fail("what the caller said has not come whole to the model and to the transcriber")
    wait_heard(call, spoken(call, REPLY))


def ends_alone(probe: Probe, call: SipCall, transcriber: StreamServer) -> bool:
    """The conversation's stream is gone; the transcriber's goes on."""
    wait_until(
        lambda: sources(probe, call) == {"main": "websocket"}, 3.0, "the end of the conversation's stream"
    )
    return heard_by_all(call, [transcriber.wait_peer()], noise(8000, 0.4, 9))


def test_after_a_stream_of_the_dialplan(
    probe: Probe, caller: SipCaller, transcriber: StreamServer, sim: SimServer
) -> None:
    variables = settings(sim.url, ws_url=transcriber.url, IVR_AI_END_ACTION="return")
    call = caller.call("transcribed", variables).wait_answered()
    converse(probe, call, transcriber, sim)
    sim.sessions[0].close(1000)
    assert ends_alone(probe, call, transcriber)


def test_on_a_call_that_the_dialplan_keeps(
    switch: FreeSwitch, probe: Probe, caller: SipCaller, transcriber: StreamServer, sim: SimServer
) -> None:
    call = caller.call("park", settings(sim.url)).wait_answered()
    start(probe, call, transcriber)
    assert switch.cli(f"python ivr_ai.app start {call.call_id}") == "+OK"
    converse(probe, call, transcriber, sim)
    assert switch.cli(f"python ivr_ai.app stop {call.call_id}") == "+OK"
    assert ends_alone(probe, call, transcriber)


def test_after_its_own_stream_was_replaced(
    switch: FreeSwitch, probe: Probe, caller: SipCaller, transcriber: StreamServer, sim: SimServer
) -> None:
    """The conversation is over then, and leaves the new stream alone."""
    call = caller.call("park", settings(sim.url)).wait_answered()
    assert switch.cli(f"python ivr_ai.app start {call.call_id}") == "+OK"
    wait_heard(call, spoken(call, GREETING))
    assert probe.command(call.call_id, "stop") == "+OK"
    start(probe, call, transcriber)
    [line] = switch.wait_log(rf"ivr_ai: call {call.call_id} over: ")
    assert "the audio stream was stopped" in line
    assert ends_alone(probe, call, transcriber)


def test_where_no_stream_is_to_be_had(
    switch: FreeSwitch, probe: Probe, caller: SipCaller, transcriber: StreamServer, sim: SimServer
) -> None:
    """The conversation says why it cannot begin, on one line, and ends no stream."""
    call = caller.call("park", settings(sim.url, IVR_AI_FAILURE_ACTION="return")).wait_answered()
    for stream_id in ("main", "ivr_ai"):
        start(probe, call, transcriber, stream_id=stream_id)
    assert switch.cli(f"python ivr_ai.app start {call.call_id}") == "+OK"
    [line] = switch.wait_log(rf"ivr_ai: call {call.call_id} over: ")
    assert "-ERR a stream with this id is open on this call already; is mod_audio_stream loaded?" in line
    assert sources(probe, call) == {"main": "websocket", "ivr_ai": "websocket"}
