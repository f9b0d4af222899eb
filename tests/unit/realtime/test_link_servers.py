"""Links to real servers on loopback, over either transport."""

from __future__ import annotations

import gc
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from front import Front, closes, hears, resets
from listening import PCMU, Line
from peer import CLOSE, TEXT, Peer, background, frame
from waiting import until

from ivr_ai.audio.formats import Format
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.link import GRACE_S, Gone
from ivr_ai.realtime.negotiation import PCM, Agreed
from ivr_ai.realtime.session_update import OPTIONAL, build_session, value_at
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

SLACK_S = 1.5  # of a busy machine
BOTH = Turns()
FULL = {
    "reasoning_effort": "low",
    "transcription_model": "gpt-live-transcribe",
    "noise_reduction": "near_field",
    "speed": 1.2,
    "max_output_tokens": 500,
    "vad_idle_timeout_ms": 5000,
}


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    return request.param


@pytest.fixture
def server() -> Iterator[Callable[..., SimServer]]:
    """Starts simulated servers; faults go by their names."""
    servers: list[SimServer] = []

    def start(options: dict[str, Any] | None = None, **faults: Any) -> SimServer:
        servers.append(SimServer(voice="tone", faults=Faults(**faults), **(options or {})).start())
        return servers[-1]

    yield start
    for each in servers:
        each.stop()


@pytest.fixture
def line(transport) -> Iterator[Callable[..., Line]]:
    """Opens links, and ends them when the test is over."""
    lines: list[Line] = []

    def open_one(url: str, **settings: Any) -> Line:
        lines.append(Line(url, transport=transport, **settings).open())
        return lines[-1]

    yield open_one
    for each in lines:
        each.end()


@pytest.fixture
def front() -> Iterator[Callable[..., Front]]:
    fronts: list[Front] = []

    def start(*arguments: Any) -> Front:
        fronts.append(Front(*arguments))
        return fronts[-1]

    yield start
    for each in fronts:
        each.close()


def gone_of(line: Line) -> Gone:
    return line.ear.wait("gone")


class TestConnecting:
    def test_a_server_that_has_nothing_to_complain_of(self, server, line):
        sim = server()
        it = line(sim.url)
        agreed = it.ear.wait("ready")
        assert it.ear.kinds()[:2] == ["open", "ready"]
        assert (agreed.heard, agreed.said, agreed.turns) == (PCMU, PCMU, BOTH)
        assert agreed.expires_at > time.time() + 3000
        assert sim.sessions[0].first_update["session"] == build_session(it.settings, PCMU)
        it.end()
        until(lambda: sim.sessions[0].closed)
        assert sim.sessions[0].close_code == 1000

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    def test_a_server_that_is_busy_at_first(self, server, line, status):
        sim = server(refuse_status=status, first_connections=2)
        it = line(sim.url)
        it.ear.wait("ready")
        assert (sim.attempts, it.ear.of("gone")) == (3, [])

    @pytest.mark.parametrize("behaviour", [resets, closes, hears])
    def test_a_connection_that_is_lost_before_its_upgrade(self, server, front, line, behaviour):
        door = front(server().port, behaviour, behaviour)
        line(door.url).ear.wait("ready")
        assert door.connections == 3

    @pytest.mark.parametrize("code", [1011, 1012, 1013])
    @pytest.mark.parametrize("after", ["session.created", "session.update"])
    def test_a_close_before_the_session_is_accepted(self, server, line, code, after):
        sim = server(close_after_event=after, close_code=code, first_connections=1)
        it = line(sim.url)
        it.ear.wait("ready")
        assert sim.attempts == 2
        assert sim.sessions[1].first_update["session"]["type"] == "realtime"

    def test_a_close_that_cannot_pass(self, server, line):
        sim = server(close_after_event="session.created", close_code=4004, close_reason="no")
        gone = gone_of(line(sim.url))
        assert gone == Gone("lost the server: connection closed with 4004 (no)", 4004)
        assert sim.attempts == 1

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_a_server_that_will_never_let_us_in(self, server, line, status):
        sim = server(refuse_status=status)
        gone = gone_of(line(sim.url))
        assert (gone.passing, sim.attempts) == (False, 1)
        assert f"answered HTTP {status}" in gone.reason

    def test_nobody_listens_for_a_second_at_most(self, line):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            began_s = time.monotonic()
            gone = gone_of(line(f"ws://127.0.0.1:{held.getsockname()[1]}/"))
        assert 0.3 < time.monotonic() - began_s < 1.0 + SLACK_S
        assert gone.passing
        assert "refused the connection" in gone.reason

    def test_a_server_that_is_restarted_meanwhile(self, line):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
        it = line(f"ws://127.0.0.1:{port}/v1/realtime")
        with SimServer(voice="tone", port=port):
            it.ear.wait("ready")

    @pytest.mark.parametrize(
        ("faults", "why"),
        [
            ({"refuse_status": 503}, "answered HTTP 503"),
            ({"no_session_created": True}, "the server accepted no session within 700 ms"),
            ({"connect_delay_ms": 60_000}, "700 ms (IVR_AI_CONNECT_TIMEOUT_MS)"),
            ({"omit_events": ("session.updated",)}, "the server accepted no session within 700 ms"),
            ({"stall_after_s": 0.0}, "the server accepted no session within 700 ms"),
        ],
    )
    def test_all_of_it_takes_no_longer_than_the_setting_says(self, server, line, faults, why):
        sim = server(**faults)
        began_s = time.monotonic()
        gone = gone_of(line(sim.url, connect_timeout_ms=700))
        assert time.monotonic() - began_s < 0.7 + GRACE_S + SLACK_S
        assert gone.passing
        assert why in gone.reason

    def test_a_server_that_does_not_say_that_there_is_a_session(self, server, line):
        sim = server(omit_events=("session.created",))
        line(sim.url).ear.wait("ready")
        assert len(sim.sessions[0].received("session.update")) == 1

    def test_a_key_that_is_wrong(self, server, line):
        sim = server(bad_key=True)
        it = line(sim.url)
        gone = gone_of(it)
        assert (gone.code, gone.passing, sim.attempts) == (3000, False, 1)
        (error,) = it.ear.of("event")
        assert error["error"]["code"] == "invalid_api_key"


class TestSessions:
    @pytest.mark.parametrize("field", [path for path in OPTIONAL if not path.endswith("eagerness")])
    @pytest.mark.parametrize("code", ["unknown_parameter", "invalid_value"])
    def test_an_optional_field_that_is_refused(self, server, line, field, code):
        sim = server(refuse_fields=(field,), refuse_code=code)
        it = line(sim.url, **FULL)
        it.ear.wait("ready")
        (refused,) = it.ear.of("refused")
        assert refused.field == field
        first, second = sim.sessions[0].received("session.update")
        assert value_at(first["session"], field) is not None
        assert value_at(second["session"], field) is None

    def test_many_that_are_refused(self, server, line):
        sim = server(refuse_fields=(*OPTIONAL, "audio.output.voice", "audio.input.format.type:audio/pcmu"))
        it = line(sim.url, **FULL)
        agreed = it.ear.wait("ready")
        assert (agreed.heard, agreed.said) == (PCM, PCM)
        assert len(it.ear.of("refused")) == 8

    def test_a_field_that_no_call_can_do_without(self, server, line):
        gone = gone_of(line(server(refuse_fields=("instructions",)).url))
        assert "instructions (OPENAI_SYSTEM_INSTRUCTIONS): Unknown parameter" in gone.reason
        assert not gone.passing

    def test_a_voice_the_server_does_not_have(self, server, line):
        it = line(server().url, voice="nobody")
        it.ear.wait("ready")
        assert [refused.setting for refused in it.ear.of("refused")] == ["OPENAI_REALTIME_VOICE"]

    @pytest.mark.parametrize(
        ("stated", "heard", "said"),
        [
            ("audio/pcma", Format("pcma", 8000), Format("pcma", 8000)),
            ("audio/pcm@16000", Format("s16", 16000), Format("s16", 16000)),
            ("input:audio/pcmu,output:audio/pcm", PCMU, PCM),
        ],
    )
    def test_a_server_that_states_another_format_is_believed(self, server, line, stated, heard, said):
        agreed = line(server(state_format=stated).url).ear.wait("ready")
        assert (agreed.heard, agreed.said) == (heard, said)

    def test_a_server_that_has_text_only(self, server, line):
        sim = server(text_only=True)
        gone = gone_of(line(sim.url))
        assert "answers in text only" in gone.reason
        assert len(sim.sessions[0].received("session.update")) == 2

    def test_a_server_that_speaks_beta(self, server, line):
        sim = server({"dialect": "beta"})
        it = line(sim.url, **FULL, temperature=0.8)
        assert it.ear.wait("ready").heard == PCMU
        update = sim.sessions[0].received("session.update")[-1]["session"]
        assert update["input_audio_format"] == "g711_ulaw"
        assert "audio" not in update

    def test_a_server_that_speaks_beta_and_does_not_begin(self, server, line):
        """Its first word is the refusal of a session in GA's shape."""
        it = line(server({"dialect": "beta"}, omit_events=("session.created",)).url)
        assert it.ear.wait("ready").heard == PCMU

    def test_ga_is_insisted_on_where_it_is_set(self, server, line):
        gone = gone_of(line(server({"dialect": "beta"}).url, dialect="ga"))
        assert "does not accept the session" in gone.reason

    def test_every_event_twice(self, server, line):
        it = line(server(duplicate_events=True).url)
        it.ear.wait("ready")
        it.link.want(wire=Format("s16", 48000))
        assert it.link.wait_settled().said == PCM
        assert it.ear.of("changed") == [it.link.agreed]

    def test_what_is_wanted_anew(self, server, line):
        sim = server()
        it = line(sim.url)
        it.ear.wait("ready")
        it.link.want(turns=Turns(True, False, False))
        assert it.link.wait_settled() == Agreed(
            PCMU, PCMU, Turns(True, False, False), it.ear.of("ready")[0].expires_at
        )
        (_, update) = sim.sessions[0].received("session.update")
        assert list(update["session"]) == ["type", "audio"]

    @pytest.mark.parametrize("chunk", range(4))
    def test_updates_that_cross(self, server, line, chunk):
        """A link that takes 20 ms each way, and a call that changes its mind faster."""
        random_ = random.Random(chunk)
        sim = server(link_delay_ms=20, refuse_fields=("audio.input.noise_reduction",))
        it = line(sim.url, **FULL)
        it.ear.wait("ready")
        wires = [PCMU, Format("pcma", 8000), Format("s16", 48000)]
        for _ in range(12):
            turns = Turns(True, random_.random() < 0.5, random_.random() < 0.5)
            it.link.want(wire=random_.choice(wires), turns=turns)
            time.sleep(random_.uniform(0, 0.03))
        agreed = it.link.wait_settled()
        assert agreed.turns == turns
        states = [event.body for event in sim.sessions[0].sent if event.type == "session.updated"][-1]
        assert states["session"]["audio"]["output"]["format"] == agreed.said.ga_wire
        detection = states["session"]["audio"]["input"]["turn_detection"]
        assert (detection["create_response"], detection["interrupt_response"]) == turns_flags(turns)


def turns_flags(turns: Turns) -> tuple[bool, bool]:
    return turns.asks, turns.interrupts


class TestGoing:
    @pytest.mark.parametrize(
        ("code", "passing", "goodbye"),
        [
            (1000, False, True),
            (1001, True, False),
            (1008, False, False),
            (1011, True, False),
            (1012, True, False),
            (1013, True, False),
            (4000, False, False),
        ],
    )
    def test_what_a_close_in_mid_call_means(self, server, line, code, passing, goodbye):
        sim = server()
        it = line(sim.url)
        it.ear.wait("ready")
        sim.sessions[0].close(code, "so")
        gone = gone_of(it)
        assert (gone.passing, gone.goodbye) == (passing, goodbye)
        assert gone.reason.startswith("lost the server: connection closed with ")
        assert len(it.ear.of("gone")) == 1

    def test_a_close_without_a_code(self, line):
        peer = Peer()
        serving = background(serve, peer, lambda: peer.send(frame(CLOSE, b"")))
        it = line(peer.url)
        gone = gone_of(it)
        serving.join(5)
        peer.close()
        assert (gone.passing, gone.goodbye) == (True, False)

    def test_a_reset(self, server, line):
        sim = server()
        it = line(sim.url)
        it.ear.wait("ready")
        sim.sessions[0].drop()
        gone = gone_of(it)
        assert (gone.passing, gone.goodbye, gone.code) == (True, False, 1006)

    @pytest.mark.parametrize("sent", [b"\xff\x00", frame(3, b"")], ids=["reserved bits", "unknown opcode"])
    def test_a_protocol_error_of_the_servers(self, line, transport, sent):
        """Over the native transport it looks like any lost connection: libwebsockets just ends it."""
        peer = Peer()
        serving = background(serve, peer, lambda: peer.send(sent))
        gone = gone_of(line(peer.url))
        serving.join(5)
        peer.close()
        native = transport == "native"
        assert (gone.code, gone.passing, gone.goodbye) == (1006 if native else 1002, native, False)

    def test_a_message_that_is_too_big(self, line):
        peer = Peer()
        serving = background(serve, peer, lambda: peer.send(frame(TEXT, b" " * 70_000)))
        gone = gone_of(line(peer.url, max_message_bytes=65_536))
        serving.join(5)
        peer.close()
        assert (gone.code, gone.passing, gone.goodbye) == (1009, False, False)
        assert "IVR_AI_MAX_MESSAGE_BYTES" in gone.reason

    def test_a_session_that_expires(self, server, line):
        it = line(server(expire_after_s=0.2).url)
        gone = gone_of(it)
        assert gone == Gone("the server's session has expired (session_expired)", passing=True)
        assert it.ear.of("event") == []

    def test_what_is_sent_to_a_link_that_is_gone(self, server, line):
        sim = server()
        it = line(sim.url)
        it.ear.wait("ready")
        sim.sessions[0].drop()
        gone_of(it)
        it.link.send({"type": "response.create"})


def serve(peer: Peer, then: Callable[[], None]) -> None:
    """Accepts one client's session, then does something."""
    peer.accept()
    peer.say({"type": "session.created", "session": {}})
    peer.read()
    peer.say({"type": "session.updated", "session": {}})
    then()


class TestSignsOfLife:
    """Over the python transport; the native one looks after them in C."""

    @pytest.fixture
    def transport(self) -> str:
        return "python"

    def test_a_server_that_hangs(self, server, line):
        sim = server()
        it = line(sim.url, ping_interval_s=0.3, ping_timeout_s=0.2)
        it.ear.wait("ready")
        sim.sessions[0].stall()
        began_s = time.monotonic()
        gone = gone_of(it)
        assert (gone.code, gone.passing, gone.goodbye) == (1006, True, False)
        assert "answers no ping" in gone.reason
        assert time.monotonic() - began_s < 0.5 + SLACK_S

    def test_a_server_that_only_answers_pings(self, server, line):
        it = line(server().url, ping_interval_s=1.1, ping_timeout_s=1.0)
        it.ear.wait("ready")
        for _ in range(2):
            last_s = it.link.transport.last_received_s
            until(lambda before_s=last_s: it.link.transport.last_received_s > before_s)
        assert it.ear.of("gone") == []

    def test_without_an_interval_nobody_is_asked(self, server, line):
        it = line(server().url, ping_interval_s=0.0, ping_timeout_s=0.1)
        it.ear.wait("ready")
        it.stop_ticking()
        it.link.tick(time.monotonic() + 1000)
        it.link.tick(time.monotonic() + 2000)
        assert it.ear.of("gone") == []


# ---- nothing is left ---------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


MISHAPS: list[dict[str, Any]] = [
    {},
    {"refuse_status": 503},
    {"connect_delay_ms": 60_000},
    {"no_session_created": True},
    {"close_after_event": "session.created", "close_code": 1013},
    {"drop_after_s": 0.02},
    {"refuse_fields": ("audio.input.noise_reduction", "reasoning")},
    {"link_delay_ms": 15},
    {"stall_after_s": 0.01},
    {"ignore_close": True},
]


def test_ends_at_random_moments_leave_no_thread_and_no_descriptor(transport):
    random_ = random.Random(11)
    lines_of({}, transport, random_, 3)  # what the process keeps once it has connected
    before, threads_before = settled(descriptors), settled(threading.active_count)
    for mishap in MISHAPS:
        lines_of(mishap, transport, random_, 6)
    gc.collect()
    until(lambda: descriptors() <= before)
    until(lambda: threading.active_count() <= threads_before)


def settled(count: Callable[[], int]) -> int:
    """A count once it has stopped changing."""
    last = -1
    while last != (last := count()):
        time.sleep(0.2)
    return last


def lines_of(mishap: dict[str, Any], transport: str, random_: random.Random, count: int) -> None:
    """Links to a server, ended in some way after some time."""
    ways = [["close"], ["abort"], ["abort", "close"], ["release"], ["close", "close"]]
    with SimServer(voice="tone", faults=Faults(**mishap)) as sim:
        for _ in range(count):
            settings = {"close_timeout_ms": 50, "connect_timeout_ms": 1000, **FULL}
            it = Line(sim.url, transport=transport, **settings).open()
            time.sleep(random_.choice([0.0, 0.001, 0.005, 0.02, 0.06, 0.15]))
            for how in random_.choice(ways):
                getattr(it.link, how)()
            heard = settled(lambda it=it: len(it.ear.heard))  # what was being told as the link was ended
            it.end()
            assert len(it.ear.heard) == heard
