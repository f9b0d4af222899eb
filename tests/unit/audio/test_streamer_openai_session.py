"""`openai_start` with servers that are no OpenAI: other formats than were asked for, fields they refuse."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import pytest
from line import Events, Line, noise, tone
from websockets.exceptions import ConnectionClosed
from wire_server import Visit, WireServer

from ivr_ai.audio import g711
from ivr_ai.audio.streamer import Streamer

PCM = {"type": "audio/pcm", "rate": 24000}


class Talk:
    """A stream to a server that does what the test says."""

    def __init__(self, line: Line, server: WireServer, streamer: Streamer, events: Events) -> None:
        self.line, self.server, self.streamer, self.events = line, server, streamer, events

    @property
    def visit(self) -> Visit:
        return self.server.visit()

    def updates(self, count: int = 1) -> list[dict[str, Any]]:
        """The first session.updates; waits for them."""

        def arrived(visit: Visit) -> list[dict[str, Any]]:
            kinds = [json.loads(text) for text in visit.texts()]
            return [event for event in kinds if event["type"] == "session.update"]

        self.visit.wait(lambda visit: len(arrived(visit)) >= count)
        return arrived(self.visit)

    def create(self, **session: Any) -> dict[str, Any]:
        """The server begins; the update that follows."""
        self.visit.send({"type": "session.created", "session": {"id": "sess_1", **session}})
        return self.updates()[0]["session"]

    def accept(self, **session: Any) -> None:
        self.visit.send({"type": "session.updated", "session": {"id": "sess_1", **session}})

    def refuse(self, param: str | None, nth: int = 1, message: str = "no", **more: Any) -> None:
        error = {"type": "invalid_request_error", "code": "invalid_value", "message": message, "param": param}
        self.visit.send({"type": "error", "error": {**error, "event_id": f"update_{nth}", **more}})

    def speak(self, data: bytes, response: str = "resp_1") -> None:
        self.visit.send({"type": "response.created", "response": {"id": response}})
        ids = {"response_id": response, "item_id": f"item_{response}"}
        for at in range(0, len(data), 4800):
            delta = base64.b64encode(data[at : at + 4800]).decode()
            self.visit.send({"type": "response.output_audio.delta", **ids, "delta": delta})
        self.visit.send({"type": "response.output_audio.done", **ids})

    def heard(self, ms: int) -> np.ndarray:
        """What the caller has heard, once it is about that long."""
        self.events.until(lambda: len(bytes(self.line.heard).strip(b"\0")) >= 16 * (ms - 20))
        return np.frombuffer(
            bytes(self.line.heard).strip(b"\0").ljust(16 * ms, b"\0")[: 16 * ms], "<i2"
        ).astype(float)

    def appended(self, least_bytes: int) -> bytes:
        """What the server was sent of the caller."""

        def audio(visit: Visit) -> bytes:
            events = [json.loads(text) for text in visit.texts()]
            parts = [event["audio"] for event in events if event["type"] == "input_audio_buffer.append"]
            return b"".join(map(base64.b64decode, parts))

        self.visit.wait(lambda visit: len(audio(visit)) >= least_bytes)
        return audio(self.visit)


@pytest.fixture
def start() -> Iterator[Callable[..., Talk]]:
    with ExitStack() as stack:

        def start_one(wire: str = "pcmu", says: bytes = b"", **options: object) -> Talk:
            server = stack.enter_context(WireServer())
            line = stack.enter_context(Line(f"call-{id(server)}", wire=wire, says=says))
            events = Events()
            given = {"OPENAI_REALTIME_URL": server.url, "OPENAI_API_KEY": "sk", **options}
            streamer = Streamer(line.stream, "", dialect="openai", options=given, on_event=events)
            stack.callback(streamer.wait, 5)
            stack.callback(streamer.stop)
            return Talk(line, server, streamer, events)

        yield start_one


def is_tone(samples: np.ndarray, hz: int = 440) -> bool:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    at = np.fft.rfftfreq(len(samples), 1 / 8000)
    return power[np.abs(at - hz) < 40].sum() / power.sum() > 0.95


def both(given: Any) -> dict[str, Any]:
    return {"audio": {"input": {"format": given}, "output": {"format": given}}}


SAID = tone(600, 24000, 440, 6000)
SAID_8K = tone(600, 8000, 440, 6000)


@pytest.mark.parametrize("wire", ["pcmu", "s16"])
@pytest.mark.parametrize(
    ("stated", "sent", "told"),
    [
        (both(PCM), SAID, ("audio/pcm", 24000)),
        (both({"type": "audio/pcm"}), SAID, ("audio/pcm", 24000)),
        (both({"type": "audio/pcm", "rate": 16000}), tone(600, 16000, 440, 6000), ("audio/pcm", 16000)),
        (both({"type": "audio/pcma"}), g711.pcma_encode(SAID_8K), ("audio/pcma", 8000)),
        (both({"type": "audio/pcmu"}), g711.pcmu_encode(SAID_8K), ("audio/pcmu", 8000)),
        (both("g711_alaw"), g711.pcma_encode(SAID_8K), ("audio/pcma", 8000)),
        ({"input_audio_format": "pcm16", "output_audio_format": "pcm16"}, SAID, ("audio/pcm", 24000)),
        (
            {"audio": None, "output_audio_format": "g711_ulaw"},
            g711.pcmu_encode(SAID_8K),
            ("audio/pcmu", 8000),
        ),
    ],
)
def test_what_the_session_states_is_what_is_played(start, wire, stated, sent, told):
    talk = start(wire)
    talk.create()
    talk.accept(**stated)
    started = talk.events.wait("openai_session_started")
    assert (started["format"], started["rate"]) == told
    talk.speak(sent)
    assert is_tone(talk.heard(560)[400:4400])
    assert talk.events.of("openai_error") == []


def test_and_what_is_sent(start):
    """Each side by itself; and the description says so."""
    talk = start("pcmu", says=tone(3000, level=6000))
    talk.create()
    talk.accept(audio={"input": {"format": {"type": "audio/pcm", "rate": 24000}}})
    assert talk.events.wait("openai_session_started")["format"] == "audio/pcmu"
    sent = np.frombuffer(talk.appended(48_000)[9600:48_000], "<i2").astype(float)
    assert is_tone(sent[::3])
    talk.events.until(lambda: talk.streamer.describe()["codec"] == "L16")
    assert talk.streamer.describe()["rate"] == 24000


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        (both({"type": "audio/opus"}), "audio/opus as its input format"),
        ({"audio": {"output": {"format": {"type": "audio/pcm", "rate": 96000}}}}, "audio/pcm at 96000 Hz"),
        ({"output_modalities": ["text"]}, "no audio"),
    ],
)
def test_a_format_that_cannot_be_spoken_ends_it_with_its_name(start, stated, named):
    talk = start()
    talk.create()
    talk.accept(**stated)
    with suppress(ConnectionClosed):
        talk.speak(noise(300))
    assert talk.streamer.wait(5)
    assert named in talk.streamer.reason
    (error,) = talk.events.of("openai_error")
    assert (error["code"], error["fatal"]) == ("unsupported_format", True)
    assert not any(talk.line.heard)


def test_nothing_is_played_before_the_session_is_settled(start):
    """Nor what follows of a response that has begun by then; the next one is."""
    talk = start()
    talk.create()
    talk.speak(noise(300), "early")
    assert talk.events.wait("openai_error")["code"] == "early_audio"
    talk.accept(**both(PCM))
    talk.events.wait("openai_session_started")
    talk.speak(noise(300), "early")
    talk.speak(SAID, "resp_1")
    assert is_tone(talk.heard(560)[400:4400])
    assert len(talk.events.of("openai_error")) == 1


@pytest.mark.parametrize("param", ["session.audio.input.format.type", "session.audio.output.format", None])
def test_without_g711_it_is_pcm(start, param):
    talk = start()
    assert talk.create()["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    talk.refuse(param, message="Invalid value: 'audio/pcmu' for 'session.audio.input.format.type'.")
    second = talk.updates(2)[1]["session"]
    assert second["audio"]["input"]["format"] == second["audio"]["output"]["format"] == PCM
    assert second["audio"]["output"]["voice"] == "marin"
    talk.accept(**second)
    assert talk.events.wait("openai_session_started")["rate"] == 24000
    talk.speak(SAID)
    assert is_tone(talk.heard(560)[400:4400])
    (error,) = talk.events.of("openai_error")
    assert error["fatal"] is False
    assert error["field"] == (param or "session.audio.input.format.type").removeprefix("session.")


def test_without_the_voice_it_is_the_models(start):
    talk = start(OPENAI_REALTIME_VOICE="nobody")
    talk.create()
    talk.refuse("session.audio.output.voice")
    second = talk.updates(2)[1]["session"]
    assert second["audio"]["output"] == {"format": {"type": "audio/pcmu"}}
    talk.accept(audio={"output": {"voice": {"id": "voice_1"}}})
    assert talk.events.wait("openai_session_started")["voice"] == "voice_1"
    (error,) = talk.events.of("openai_error")
    assert (error["field"], error["fatal"]) == ("audio.output.voice", False)


def test_several_refusals_one_after_the_other(start):
    talk = start()
    talk.create()
    talk.refuse("session.audio.input.turn_detection.prefix_padding_ms")
    talk.updates(2)
    talk.refuse("session.audio.output.voice", 2)
    talk.updates(3)
    talk.refuse("session.audio.output.format", 3)
    last = talk.updates(4)[3]["session"]["audio"]
    assert last["output"] == {"format": PCM}
    assert "prefix_padding_ms" not in last["input"]["turn_detection"]
    assert last["input"]["turn_detection"]["type"] == "server_vad"


@pytest.mark.parametrize("param", ["session.tools", None])
def test_what_cannot_be_given_up_ends_it(start, param):
    talk = start()
    talk.create()
    talk.refuse(param, code="insufficient_quota")
    assert talk.streamer.wait(5)
    assert talk.streamer.reason.startswith("the server does not accept the session")
    (error,) = talk.events.of("openai_error")
    assert (error["code"], error["fatal"]) == ("insufficient_quota", True)


def test_somebody_elses_error_ends_nothing(start):
    talk = start()
    talk.create()
    talk.refuse("session.tools", event_id="of a proxy")
    talk.accept()
    talk.events.wait("openai_session_started")
    (error,) = talk.events.of("openai_error")
    assert error["fatal"] is False
    assert len(talk.updates()) == 1


def test_a_server_that_speaks_the_betas_shape(start):
    talk = start()
    update = talk.create(
        input_audio_format="pcm16", output_audio_format="pcm16", modalities=["audio", "text"]
    )
    assert "audio" not in update and "type" not in update
    assert (update["input_audio_format"], update["voice"]) == ("g711_ulaw", "marin")
    talk.accept(**update)
    talk.events.wait("openai_session_started")
    talk.speak(g711.pcmu_encode(SAID_8K))
    assert is_tone(talk.heard(560)[400:4400])


def test_a_session_that_answers_nobody_is_told(start):
    talk = start()
    talk.create()
    talk.accept(audio={"input": {"turn_detection": None}})
    error = talk.events.wait("openai_error")
    assert (error["code"], error["fatal"]) == ("turn_detection", False)


def fail(talk: Talk, nth: int, code: str = "rate_limit_exceeded") -> None:
    """The server answers a turn, or a retry, with a failure."""
    talk.visit.send({"type": "response.created", "response": {"id": f"resp_{nth}"}})
    error = {"code": code, "message": "Rate limit reached. Please try again in 0.3s."}
    details = {"type": "failed", "error": error}
    talk.visit.send(
        {
            "type": "response.done",
            "response": {"id": f"resp_{nth}", "status": "failed", "status_details": details},
        }
    )


def asked(talk: Talk) -> list[float]:
    """When responses were asked for."""
    visit = talk.visit
    pairs = zip(visit.messages, visit.times_s, strict=False)
    return [at_s for message, at_s in pairs if json.loads(message)["type"] == "response.create"]


def test_a_failure_that_passes_is_waited_for(start):
    """As long as the server says, and not for ever."""
    talk = start()
    talk.create()
    talk.accept()
    for nth in range(1, 4):
        before_s = time.monotonic()
        fail(talk, nth)
        talk.visit.wait(lambda _, nth=nth: len(asked(talk)) == nth)
        assert 0.3 <= asked(talk)[-1] - before_s < 0.8
    fail(talk, 4)
    talk.events.wait("openai_response_generated", 4)
    talk.events.wait("openai_error", 4)
    assert [error["fatal"] for error in talk.events.of("openai_error")] == [False] * 4
    time.sleep(0.5)
    assert len(asked(talk)) == 3


@pytest.mark.parametrize("instead", ["speech", "a response", "another reason"])
def test_it_is_not_asked_for_when_something_else_comes(start, instead):
    talk = start()
    talk.create()
    talk.accept()
    fail(talk, 1, "content_filter" if instead == "another reason" else "rate_limit_exceeded")
    if instead == "speech":
        talk.visit.send({"type": "input_audio_buffer.speech_started", "item_id": "u2"})
    elif instead == "a response":
        talk.visit.send({"type": "response.created", "response": {"id": "resp_9"}})
    talk.events.wait("openai_response_generated")
    time.sleep(0.6)
    assert asked(talk) == []


def test_complaints_come_once_a_second(start):
    talk = start()
    talk.create()
    talk.accept()
    for _ in range(500):
        talk.visit.send("no event")
    talk.visit.send({"type": "error", "error": {"code": "last", "message": ""}})
    talk.events.until(lambda: [error for error in talk.events.of("openai_error") if error["code"] == "last"])
    assert 1 <= sum(error["code"] == "malformed" for error in talk.events.of("openai_error")) <= 2


def test_a_long_response_costs_no_more_than_its_length(start):
    """As many parts as fit into a message."""
    talk = start()
    talk.create()
    talk.accept()
    parts = [{"type": "audio", "transcript": "a"}] * 25_000
    response = {"id": "r", "status": "completed", "output": [{"content": parts}]}
    done = json.dumps({"type": "response.done", "response": response}, separators=(",", ":"))
    assert len(done) < 1 << 20
    talk.visit.send(done)
    body = talk.events.wait("openai_response_generated", timeout_s=3)
    assert body["transcript"] == " ".join("a" * 25_000)
