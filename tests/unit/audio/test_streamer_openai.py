"""`openai_start`: a whole conversation that needs no application, against a simulated model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from line import Events, Line, tone
from wire_server import WireServer

from ivr_ai.audio.streamer import Streamer
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

KEY = "sk-very-secret"
SILENCE_MS = 200


class Conversation:
    def __init__(self, server: SimServer, line: Line, streamer: Streamer, events: Events) -> None:
        self.server, self.line, self.streamer, self.events = server, line, streamer, events

    def say(self, ms: int = 400) -> None:
        """The caller speaks, then is silent."""
        now = self.line.said + 20 * self.line.frame_bytes
        self.line.says = self.line.says[:now] + tone(ms) + bytes(16 * 60_000)


@pytest.fixture
def start() -> Iterator[Callable[..., Conversation]]:
    with ExitStack() as stack:

        def start_one(
            wire: str = "pcmu", faults: Faults | None = None, says_ms: int = 1000, **options
        ) -> Conversation:
            sim = SimServer(voice=f"tone:440:{says_ms}", pace=4, faults=faults or Faults())
            server = stack.enter_context(sim)
            line = stack.enter_context(Line(f"call-{id(server)}", wire=wire, says=bytes(16 * 60_000)))
            events = Events()
            there = {"OPENAI_REALTIME_URL": server.url, "OPENAI_API_KEY": KEY}
            chosen = {**there, "VAD_SILENCE_DURATION_MS": SILENCE_MS, **options}
            streamer = Streamer(line.stream, "", dialect="openai", options=chosen, on_event=events)
            stack.callback(streamer.stop)
            return Conversation(server, line, streamer, events)

        yield start_one


def test_a_turn(start):
    talk = start(OPENAI_REALTIME_VOICE="cedar", OPENAI_SYSTEM_INSTRUCTIONS="Be brief.")
    started = talk.events.wait("openai_session_started")
    assert (started["voice"], started["format"], started["rate"]) == ("cedar", "audio/pcmu", 8000)
    assert {"uuid", "streamId", "at", "sessionId", "model"} <= set(started)
    talk.say()
    done = talk.events.wait("openai_response_generated")
    assert (done["status"], done["transcript"]) == ("completed", "Thank you, I heard you well. Tell me more.")
    assert done["usage"]["total_tokens"] > 0
    talk.events.until(lambda: len(bytes(talk.line.heard).strip(b"\0")) >= 16 * 900)
    session = talk.server.sessions[0]
    assert session.headers["authorization"] == f"Bearer {KEY}"
    update = session.first_update["session"]
    assert (update["instructions"], update["audio"]["output"]["voice"]) == ("Be brief.", "cedar")
    assert update["audio"]["input"]["turn_detection"]["silence_duration_ms"] == SILENCE_MS
    talk.streamer.stop()
    assert session.wait_closed() == 1000


def test_a_barge_in_is_truncated_to_what_was_heard(start):
    talk = start(says_ms=10_000)
    talk.events.wait("openai_session_started")
    talk.say()
    talk.events.until(lambda: len(bytes(talk.line.heard).strip(b"\0")) >= 16 * 1000)
    talk.say()
    talk.events.until(lambda: talk.server.sessions[0].received("conversation.item.truncate"))
    (truncate,) = talk.server.sessions[0].received("conversation.item.truncate")
    assert truncate["audio_end_ms"] == pytest.approx(
        talk.line.stream.stats().inject_played_samples / 8, abs=20
    )
    talk.events.wait("openai_response_generated", 2)


def test_pcm_for_calls_that_are_not_g711(start):
    talk = start(wire="s16")
    assert talk.events.wait("openai_session_started")["format"] == "audio/pcm"
    talk.say()
    talk.events.wait("openai_response_generated")


@pytest.mark.parametrize(
    ("wire", "codec", "rate_hz"), [("pcmu", "ULAW", 8000), ("pcma", "ALAW", 8000), ("s16", "L16", 24000)]
)
def test_what_is_sent_is_told(start, wire, codec, rate_hz):
    """And that replies are not held back: they come faster than they are played."""
    shown = start(wire=wire, STREAM_INJECT_MIN_BUFFER_MS=2000).streamer.describe()
    assert (shown["codec"], shown["rate"], shown["prebufferMs"]) == (codec, rate_hz, 0)


def test_the_key_is_shown_nowhere(start):
    talk = start(STREAM_DEBUG_JSON="true")
    talk.events.wait("openai_session_started")
    talk.say()
    talk.events.wait("openai_response_generated")
    assert KEY not in json.dumps([event.body for event in talk.events.all])
    assert KEY not in json.dumps(talk.streamer.describe())


def test_audio_is_not_logged(start):
    talk = start(STREAM_DEBUG_JSON="true")
    talk.events.wait("openai_session_started")
    talk.say()
    talk.events.wait("openai_response_generated")
    deltas = [body["text"] for body in talk.events.of("log") if "response.output_audio.delta" in body["text"]]
    assert deltas
    assert max(map(len, deltas)) < 400


def test_other_servers_credentials_stay_here(start):
    others = {
        "MOD_AUDIO_STREAM_HTTP_AUTH_USER": "user",
        "MOD_AUDIO_STREAM_HTTP_AUTH_PASSWORD": "password",
        "STREAM_EXTRA_HEADERS": '{"authorization": "Bearer other", "X-Tenant": "blue"}',
    }
    talk = start(**others)
    talk.events.wait("openai_session_started")
    headers = talk.server.sessions[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-tenant"] == "blue"


def test_not_even_where_we_have_none_of_our_own(start):
    talk = start(OPENAI_API_KEY="", STREAM_EXTRA_HEADERS='{"Authorization": "Bearer other"}')
    talk.events.wait("openai_session_started")
    assert "authorization" not in talk.server.sessions[0].headers


def test_a_bound_below_one_message_is_as_long_as_one(start):
    talk = start(STREAM_MAX_QUEUE_MS=10)
    talk.events.wait("openai_session_started")
    talk.say()
    talk.events.wait("openai_response_generated")
    assert talk.streamer.describe()["droppedMs"] == 0


def test_a_session_that_is_never_accepted_is_not_waited_for(start):
    talk = start(faults=Faults(no_session_created=True), STREAM_CONNECT_TIMEOUT_MS=500)
    error = talk.events.wait("openai_error")
    assert (error["code"], error["fatal"]) == ("session_timeout", True)
    assert talk.streamer.wait(5)
    assert talk.streamer.reason == "the server has not accepted the session in time"


def test_what_is_said_before_the_session_is_bounded(start):
    """The oldest is dropped, counted and told."""
    talk = start(
        faults=Faults(no_session_created=True), STREAM_CONNECT_TIMEOUT_MS=3000, STREAM_MAX_QUEUE_MS=300
    )
    overrun = talk.events.wait("stream_buffer_overrun")
    assert (overrun["direction"], overrun["limitMs"]) == ("capture", 300)
    talk.events.until(lambda: talk.streamer.describe()["droppedMs"] > 1000)
    assert talk.streamer.describe()["unsentMs"] <= 420  # looked at every 100 ms


def test_messages_are_counted(start):
    talk = start()
    talk.events.wait("openai_session_started")
    talk.say()
    talk.events.wait("openai_response_generated")
    appends = len(talk.server.sessions[0].received("input_audio_buffer.append"))
    time.sleep(0.2)  # a description is up to 100 ms old
    described = talk.streamer.describe()
    assert described["sentMessages"] >= appends > 10
    assert described["sentBytes"] > 160 * appends


def test_errors_are_told_and_the_conversation_goes_on(start):
    talk = start(faults=Faults(error_code="server_error"))
    talk.events.wait("openai_session_started")
    talk.say()
    error = talk.events.wait("openai_error")
    assert (error["code"], error["fatal"]) == ("server_error", False)
    talk.events.wait("openai_response_generated")


def test_an_expired_session_ends_it(start):
    talk = start(faults=Faults(error_code="session_expired"))
    talk.say()
    talk.events.wait("openai_session_expired")
    assert "expired" in talk.events.wait("stream_stopped")["reason"]


def test_without_a_key_openai_is_not_even_asked():
    with Line("call-nokey") as line, pytest.raises(ValueError, match="OPENAI_API_KEY"):
        Streamer(line.stream, "", dialect="openai")


def refused(url: str, **options: str) -> str:
    """Why an openai_start with url= and a configured key is refused."""
    options = {"OPENAI_REALTIME_URL": "wss://api.openai.com/v1/realtime", **options}
    with Line("call-elsewhere") as line, pytest.raises(ValueError, match="another server") as refusal:
        Streamer(line.stream, url, dialect="openai", options={"OPENAI_API_KEY": KEY, **options})
    return str(refusal.value)


def test_a_configured_key_goes_to_no_other_server_than_the_configured_one():
    with WireServer() as evil:
        said = refused(evil.url)
        assert "OPENAI_REALTIME_URL" in said and "api_key=" in said
        assert KEY not in said and evil.url not in said
        refused(evil.url, OPENAI_REALTIME_URL="wss://models.example.com/v1")
        assert evil.visits == []


@pytest.mark.parametrize(
    "url",
    [
        "ws://models.example.com/v1",  # in clear
        "wss://models.example.com:8443/v1",
        "wss://models.example.com.evil.example/",
        "wss://evil.example/?wss://models.example.com/",
        "wss://xmodels.example.com/",
    ],
)
def test_almost_the_configured_server_is_another(url):
    refused(url, OPENAI_REALTIME_URL="wss://models.example.com/v1")


def test_a_key_given_with_a_url_and_no_other_server_is_for_that_url():
    with SimServer(voice="tone:440") as server, Line("call-one-server") as line:
        events = Events()
        options = {"openai-api-key": KEY}
        streamer = Streamer(line.stream, server.url, dialect="openai", options=options, on_event=events)
        events.wait("openai_session_started")
        assert server.sessions[0].headers["authorization"] == f"Bearer {KEY}"
        streamer.stop()
        assert streamer.wait(5)


def test_a_key_of_its_own_goes_to_the_server_that_the_command_names():
    with SimServer(voice="tone:440") as server, Line("call-own-key") as line:
        events = Events()
        options = {"OPENAI_API_KEY": KEY}
        streamer = Streamer(
            line.stream, server.url, dialect="openai", api_key="sk-own", options=options, on_event=events
        )
        events.wait("openai_session_started")
        assert server.sessions[0].headers["authorization"] == "Bearer sk-own"
        streamer.stop()
        assert streamer.wait(5)


def test_another_path_of_the_configured_server_gets_the_configured_key():
    with SimServer(voice="tone:440") as server, Line("call-same-server") as line:
        events = Events()
        options = {"OPENAI_API_KEY": KEY, "OPENAI_REALTIME_URL": server.url + "?deployment=another"}
        streamer = Streamer(line.stream, server.url, dialect="openai", options=options, on_event=events)
        events.wait("openai_session_started")
        assert server.sessions[0].headers["authorization"] == f"Bearer {KEY}"
        streamer.stop()
        assert streamer.wait(5)


@pytest.mark.parametrize("track", ["stereo", "both"])
def test_a_model_hears_one_channel(track):
    with Line("call-stereo", channels=2) as line, pytest.raises(ValueError, match="one channel; use both"):
        Streamer(line.stream, "ws://127.0.0.1:9/", dialect="openai", track=track)


def test_it_has_no_subprotocol_of_its_own(start):
    talk = start()
    talk.events.wait("openai_session_started")
    assert "sec-websocket-protocol" not in talk.server.sessions[0].headers


def test_a_rate_that_openai_does_not_take():
    with Line("call-rate") as line, pytest.raises(ValueError, match="24000"):
        Streamer(line.stream, "ws://127.0.0.1:9/", dialect="openai", rate_hz=16000)
