"""What a caller chooses is never read as part of a command, and keys go where they were meant to go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from models import model, settings
from stream_servers import StreamServer
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe, wait_until
from test_stream_module import configure  # noqa: F401
from test_streaming_commands import set_variables, streams

from ivr_ai.sim.server import SimServer

Configure = Callable[..., list[str]]
Dial = Callable[[str, dict[str, str]], SipCall]

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def evil() -> Iterator[StreamServer]:
    """A server that no dialplan has named."""
    with StreamServer() as running:
        yield running


@pytest.fixture
def sim() -> Iterator[SimServer]:
    with model() as running:
        yield running


@pytest.fixture
def name(evil: StreamServer) -> str:
    """Closes a quote, and goes on with arguments."""
    return f'x" url={evil.url} voice="y'


@pytest.fixture
def dial(switch: FreeSwitch, name: str) -> Iterator[Dial]:
    """A call of somebody with that name. FreeSWITCH reads %22 as a quote."""
    with ExitStack() as stack:
        written = name.replace('"', "%22")
        caller = stack.enter_context(SipCaller(switch.sip_address, display_name=written))

        def call(extension: str, headers: dict[str, str]) -> SipCall:
            return caller.call(extension, headers).wait_answered()

        yield call
    switch.wait_channels(0)


def result(probe: Probe, call: SipCall) -> str:
    """What became of the dialplan's command."""

    def told() -> str:
        value = probe.esl.api(f"uuid_getvar {call.call_id} audio_stream_result")
        return "" if value == "_undef_" else value

    return wait_until(told)


def test_a_name_in_the_instructions_stays_a_name(
    probe: Probe, dial: Dial, sim: SimServer, evil: StreamServer, name: str
) -> None:
    call = dial("introduce", settings(sim.url))
    assert result(probe, call) == "+OK"
    record = sim.wait_session()
    asked = wait_until(lambda: record.received("session.update"))[0]["session"]
    assert asked["instructions"] == f"You speak with {name}."
    assert evil.peers == []


def test_a_name_in_the_command_itself_does_not_get_the_key(
    probe: Probe, dial: Dial, sim: SimServer, evil: StreamServer
) -> None:
    """The dialplan that docs/module.md warns of."""
    call = dial("introduce-badly", settings(sim.url))
    assert result(probe, call).startswith("-ERR url= names another server than OPENAI_REALTIME_URL")
    assert (streams(probe, call), evil.peers, sim.sessions) == ({}, [], [])


def test_a_name_in_the_metadata_adds_no_member(
    probe: Probe, dial: Dial, evil: StreamServer, name: str
) -> None:
    with StreamServer() as server:
        call = dial("tell-who", {"X-Set": f"ws_url={server.url}"})
        assert result(probe, call) == "+OK"
        told = json.loads(wait_until(server.wait_peer().texts)[0])
        assert told == {"caller_id_name": name, "caller_id_number": "caller", "no_such_variable": None}
        words = f"two start {server.url} inbound 8000 5 1 metadata_var=caller_id_name"
        assert probe.command(call.call_id, words) == "+OK"
        assert server.wait_peer(2).wait_event("start")["metadata"] == name
    assert evil.peers == []


def test_variables_that_cannot_be_told(probe: Probe, dial: Dial, evil: StreamServer) -> None:
    call = dial("park", {})
    set_variables(probe, call, OPENAI_API_KEY="sk-secret", long="x" * 65537)
    for words, reason in {
        "metadata_var=missing": "metadata_var=missing: the call has no such variable",
        "metadata_var=OPENAI_API_KEY": "metadata_var=OPENAI_API_KEY: that setting is secret",
        "metadata_vars=caller_id_name,openai-api-key": "metadata_vars=openai-api-key: that setting is secret",
        "metadata_var=long": "metadata_var=long: the value is longer than 65536 bytes",
        "metadata_vars=long": "metadata_vars=: the values are longer than 65536 bytes",
    }.items():
        answer = probe.command(call.call_id, f"start {evil.url} mono 8000 {words}")
        assert answer.startswith(f"-ERR {reason}"), answer
    answer = probe.command(call.call_id, f"openai_start api_key=k url={evil.url} instructions_var=missing")
    assert answer.startswith("-ERR instructions_var=missing: the call has no such variable")
    assert (streams(probe, call), evil.peers) == ({}, [])


# ---- where streams may go ----------------------------------------------------------------------------------


def test_streams_go_only_where_the_file_says(
    configure: Configure,  # noqa: F811
    probe: Probe,
    dial: Dial,
    evil: StreamServer,
) -> None:
    """Whatever the call's variables say; a host that is named is reached."""
    assert configure({"allow-hosts": "*.example.com, localhost"}) == []
    call = dial("park", {})
    variables = {"allow_hosts": "127.0.0.1", "STREAM_ALLOW_HOSTS": "127.0.0.1"}
    set_variables(probe, call, **variables, OPENAI_REALTIME_URL=evil.url)
    for words in (f"start {evil.url} mono 8000", f"openai_start api_key=k url={evil.url}", "openai_start"):
        answer = probe.command(call.call_id, words)
        assert answer.startswith("-ERR allow-hosts in audio_stream.conf.xml does not name the URL's host")
    assert (streams(probe, call), evil.peers) == ({}, [])
    allowed = evil.url.replace("127.0.0.1", "localhost")
    assert probe.command(call.call_id, f"start {allowed} mono 8000") == "+OK"
    evil.wait_peer()


def test_a_list_of_hosts_with_a_mistake_in_it_lets_nobody_through(
    configure: Configure,  # noqa: F811
    probe: Probe,
    dial: Dial,
    evil: StreamServer,
) -> None:
    [line] = configure({"allow-hosts": "127.0.0.1, ws://localhost"})
    assert "allow-hosts has 'ws://localhost' in it but must be hosts" in line
    assert "no server is allowed" in line and "ignored" not in line
    answer = probe.command(dial("park", {}).call_id, f"start {evil.url} mono 8000")
    assert answer.startswith("-ERR allow-hosts in audio_stream.conf.xml does not name")
