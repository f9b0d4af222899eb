"""The simulated server, through a real WebSocket: connecting, turns, interruptions, items, dialects."""

from __future__ import annotations

import cmath
import logging
import subprocess
import time
from array import array

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.sim.server import SimError, SimServer

PCM24 = Format("s16", 24000)
PCMU = Format("pcmu", 8000)
PCMA = Format("pcma", 8000)
TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
BETA_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.created",
    "response.created",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
ONE_LINE = {"turn": [{"heard": "Good day.", "say": "one two three four"}]}


def goertzel_share(pcm: bytes, rate_hz: int, tone_hz: int) -> float:
    """Share of the energy of s16 audio that is in one tone."""
    samples = array("h", pcm)
    turn = -2j * cmath.pi * tone_hz / rate_hz
    peak = abs(sum(value * cmath.exp(turn * index) for index, value in enumerate(samples)))
    energy = sum(value * value for value in samples)
    return 2 * peak * peak / len(samples) / energy


# ---- connecting --------------------------------------------------------------------------------------------


def test_session_created_has_the_defaults_of_the_service(start, dial) -> None:
    session = dial(start()).events[0]["session"]
    assert session["object"] == "realtime.session"
    assert session["model"] == "test"
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }
    assert session["audio"]["output"]["voice"] == "alloy"
    assert 3590 < session["expires_at"] - time.time() <= 3600


def test_keys(start, dial) -> None:
    sim = start(require_key="sim-key")
    bad = dial(sim, created=False, additional_headers={"Authorization": "Bearer other"})
    assert bad.read()["error"]["code"] == "invalid_api_key"
    assert bad.until_closed() == (3000, "invalid_request_error.invalid_api_key")
    dial(sim, additional_headers={"Authorization": "Bearer sim-key"})
    dial(sim, additional_headers={"api-key": "sim-key"})
    dial(sim, subprotocols=["realtime", "openai-insecure-api-key.sim-key"])
    assert sim.sessions[1].headers["authorization"] == "Bearer sim-key"
    assert "sim-key" not in repr(sim.sessions)


def test_a_model_is_needed(start, dial) -> None:
    client = dial(start(), query="x=1", created=False)
    assert client.read()["error"]["code"] == "missing_model"
    assert client.until_closed() == (4000, "invalid_request_error.missing_model")


def test_the_beta_header_is_refused_by_a_ga_server(start, dial) -> None:
    client = dial(start(), created=False, additional_headers={"OpenAI-Beta": "realtime=v1"})
    assert client.read()["error"]["code"] == "beta_api_shape_disabled"
    assert client.until_closed() == (4000, "invalid_request_error.beta_api_shape_disabled")


def test_wrong_path(start) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus, match="404"):
        connect(start().url.replace("/v1/realtime", "/v2"))


def test_tls(start, dial, tmp_path) -> None:
    import ssl

    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    sim = start(tls=context)
    assert sim.url.startswith("wss://127.0.0.1:")
    dial(sim, ssl=ssl.create_default_context(cafile=str(cert)))


def test_the_server_pings(start, dial, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    dial(start(ping_interval_s=0.03))
    end_s = time.monotonic() + 3
    while caplog.text.count("< PING") < 2 and time.monotonic() < end_s:
        time.sleep(0.01)
    assert caplog.text.count("< PING") >= 2


def test_a_port_in_use_says_what_to_do(start) -> None:
    with pytest.raises(SimError, match="choose another HOST or PORT"):
        SimServer(port=start().port, voice="tone").start()


def test_stop_closes_clients_with_1001_and_can_be_repeated(start, dial) -> None:
    sim = start()
    client = dial(sim)
    sim.stop()
    sim.stop()
    assert client.until_closed()[0] == 1001


def test_bad_options_are_refused() -> None:
    with pytest.raises(SimError, match="dialect"):
        SimServer(dialect="alpha")
    with pytest.raises(SimError, match="pace and silence_ms are 0 or more"):
        SimServer(pace=-1)
    with pytest.raises(SimError, match="pace and silence_ms are 0 or more"):
        SimServer(pace=float("nan"))
    with pytest.raises(TypeError, match="speed"):
        SimServer(speed=2)


# ---- turns -------------------------------------------------------------------------------------------------


def test_a_spoken_turn_in_the_order_of_the_service(start, dial) -> None:
    sim = start(dialogue=ONE_LINE)
    client = dial(sim)
    client.events.clear()
    client.silence(500)
    client.talk()
    client.until("rate_limits.updated")
    assert client.types() == TURN
    started, stopped, committed = client.events[:3]
    assert started["audio_start_ms"] == 200, "500 ms of silence, less 300 of prefix padding"
    assert stopped["audio_end_ms"] == 1200, "after 200 ms of silence"
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == client.events[3]["item"]["id"]
    done = client.events[-2]["response"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "one two three four"}]
    assert done["usage"]["total_tokens"] > 0
    assert len({event["event_id"] for event in client.events}) == len(client.events)


def test_deltas_carry_the_whole_reply_once(start, dial) -> None:
    client = dial(start(dialogue=ONE_LINE))
    client.talk()
    client.until("response.done")
    assert len(client.audio(PCM24)) == PCM24.bytes_for_ms(400)
    assert goertzel_share(client.audio(PCM24), 24000, 440) > 0.99
    words = [e["delta"] for e in client.events if e["type"] == "response.output_audio_transcript.delta"]
    assert words == ["one ", "two ", "three ", "four"]
    deltas = [event for event in client.events if event["type"].endswith(".delta")]
    assert all(event["obfuscation"] for event in deltas)


def test_replies_come_at_the_pace_asked_for(start, dial) -> None:
    client = dial(start(voice="tone:440:1000", pace=4.0))
    client.send("response.create")
    client.until("response.output_audio.delta")
    start_s = time.monotonic()
    client.until("response.done")
    assert 0.2 < time.monotonic() - start_s < 0.8, "900 ms of audio at four times real time"


def test_what_the_record_keeps(start, dial) -> None:
    sim = start(dialogue=ONE_LINE)
    client = dial(sim)
    client.update(instructions="Be kind.")
    client.talk(ms=500)
    client.until("response.done")
    record = sim.sessions[0]
    assert record.query == {"model": "test"}
    assert record.first_update["session"]["instructions"] == "Be kind."
    assert record.audio_rate_hz == 24000
    assert len(record.audio) == PCM24.bytes_for_ms(800)
    assert record.audio_ms == 800
    appends = record.received("input_audio_buffer.append")
    assert [append["audio_bytes"] for append in appends] == [4800] * 8
    times = [event.at_s for event in record.events]
    assert times == sorted(times)
    assert record.wait_sent("response.done")["response"]["status"] == "completed"
    assert not record.closed
    client.ws.close()
    assert record.wait_closed() == 1000


def test_transcription_is_what_the_dialogue_says(start, dial) -> None:
    sim = start(dialogue={"loop": False, **ONE_LINE})
    client = dial(sim)
    client.update(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    name = "conversation.item.input_audio_transcription"
    client.talk()
    assert client.until(f"{name}.delta")["delta"] == "Good day."
    assert client.until(f"{name}.completed")["transcript"] == "Good day."
    sim.sessions[0].wait_sent("response.done")
    client.talk(ms=600)
    assert client.until(f"{name}.completed")["transcript"] == "(speech, 900 ms)", "silence included"


def test_transcription_is_off_unless_asked_for(start, dial) -> None:
    client = dial(start())
    client.talk()
    client.until("response.done")
    assert not [event for event in client.drain() if "transcription" in event["type"]]


@pytest.mark.parametrize(("wire", "name"), [(PCMU, "audio/pcmu"), (PCMA, "audio/pcma")])
def test_g711_in_and_out(start, dial, wire: Format, name: str) -> None:
    sim = start()
    client = dial(sim)
    client.update(audio={"input": {"format": {"type": name}}, "output": {"format": {"type": name}}})
    client.wire = wire
    client.talk()
    client.until("response.done")
    assert sim.sessions[0].audio_rate_hz == 8000
    assert goertzel_share(sim.sessions[0].audio[:8000], 8000, 300) > 0.99
    said = client.audio(wire)
    assert len(said) == 2 * wire.bytes_for_ms(400)
    assert goertzel_share(said, 8000, 440) > 0.99


def test_greeting_then_manual_turns(start, dial) -> None:
    dialogue = {"turn": [{"on": "greeting", "say": "welcome"}, {"say": "first"}]}
    client = dial(start(dialogue=dialogue))
    client.update(audio={"input": {"turn_detection": None}})
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "welcome"
    client.until("response.done")
    client.talk()
    assert not client.drain()[1:], "nothing but rate_limits: nobody listens for turns"
    client.send("input_audio_buffer.commit")
    client.until("conversation.item.done")
    assert not client.drain(), "a commit starts no response"
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "first"


def test_commit_needs_100_ms(start, dial) -> None:
    client = dial(start())
    client.silence(100)
    client.send("input_audio_buffer.clear")
    client.until("input_audio_buffer.cleared")
    client.silence(80)
    client.send("input_audio_buffer.commit", event_id="mine")
    error = client.until("error")["error"]
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
    assert "80.00ms" in error["message"]


def test_create_response_false_only_commits(start, dial) -> None:
    client = dial(start())
    client.update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    client.talk()
    client.until("input_audio_buffer.committed")
    assert not [event for event in client.drain() if event["type"].startswith("response.")]


def test_semantic_vad_waits_longer_when_it_is_not_eager(start, dial) -> None:
    client = dial(start())
    client.update(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}})
    client.talk()
    client.until("input_audio_buffer.speech_started")
    assert not client.drain()
    client.silence(200)
    client.until("response.done")


def test_idle_timeout(start, dial) -> None:
    client = dial(start(dialogue={"turn": [{"on": "idle", "say": "hello?"}, {"say": "fine"}]}))
    client.update(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 1000}}})
    client.talk()
    client.until("response.done")
    client.silence(1300)
    assert not [event for event in client.drain() if "timeout" in event["type"]], "the reply lasts 400 ms"
    client.silence(200)
    event = client.until("input_audio_buffer.timeout_triggered")
    assert event["audio_end_ms"] - event["audio_start_ms"] == 1000
    assert client.until("response.output_audio_transcript.done")["transcript"] == "hello?"


def test_text_only(start, dial) -> None:
    client = dial(start(dialogue=ONE_LINE))
    client.update(output_modalities=["text"])
    client.events.clear()
    client.talk()
    client.until("response.done")
    assert client.types()[5:-3] == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
    ]
    done = client.events[-1]["response"]
    assert done["output_modalities"] == ["text"]
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "one two three four"}]


def test_a_transcription_session_never_answers(start, dial) -> None:
    client = dial(start(), query="intent=transcription")
    assert client.events[0]["session"]["object"] == "realtime.transcription_session"
    client.send(
        "session.update",
        session={
            "type": "transcription",
            "audio": {"input": {"transcription": {"model": "gpt-live-transcribe"}}},
        },
    )
    client.talk()
    client.until("conversation.item.input_audio_transcription.completed")
    assert not [event for event in client.drain() if event["type"].startswith("response.")]


def test_max_output_tokens_cuts_a_reply_short(start, dial) -> None:
    client = dial(start(voice="tone:440:2000"))
    client.send("response.create", response={"max_output_tokens": 10})
    response = client.until("response.done")["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
    assert 0 < len(client.audio(PCM24)) <= PCM24.bytes_for_ms(600)


def test_cut_short_messages_are_answered_with_errors(start, dial) -> None:
    client = dial(start())
    for message, code in (
        ('{"type":', "invalid_json"),
        ("[]", "invalid_event"),
        (b"\x00\x01", "invalid_event"),
        ('{"no":"type"}', "missing_required_parameter"),
        ('{"type":"session.close"}', "invalid_value"),
        ('{"type":"input_audio_buffer.append"}', "missing_required_parameter"),
        ('{"type":"input_audio_buffer.append","audio":"*"}', "invalid_value"),
        ('{"type":"output_audio_buffer.clear"}', "invalid_value"),
        ('{"type":"conversation.item.delete","item_id":[1]}', "item_delete_invalid_item_id"),
        ('{"type":"conversation.item.delete"}', "missing_required_parameter"),
        ('{"type":"conversation.item.retrieve","item_id":null}', "missing_required_parameter"),
        ('{"type":"response.cancel","response_id":{}}', "response_cancel_not_active"),
        ('{"type":"response.create","response":[]}', "invalid_value"),
        ("[" * 100_000, "invalid_json"),
    ):
        client.ws.send(message)
        assert client.until("error")["error"]["code"] == code
    client.update()  # and the session goes on


# ---- the beta dialect --------------------------------------------------------------------------------------


def test_beta_session_and_turn(start, dial) -> None:
    client = dial(start(dialect="beta", dialogue=ONE_LINE), additional_headers={"OpenAI-Beta": "realtime=v1"})
    session = client.events[0]["session"]
    assert (session["input_audio_format"], session["modalities"]) == ("pcm16", ["audio", "text"])
    assert client.read()["type"] == "conversation.created"
    update = {
        "modalities": ["text", "audio"],
        "input_audio_format": "g711_ulaw",
        "output_audio_format": "g711_alaw",
        "temperature": 0.7,
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 100},
    }
    client.send("session.update", session=update)
    session = client.until("session.updated")["session"]
    assert (session["input_audio_format"], session["output_audio_format"]) == ("g711_ulaw", "g711_alaw")
    client.wire = PCMU
    client.events.clear()
    client.talk()
    client.until("rate_limits.updated")
    assert client.types() == BETA_TURN
    response = client.events[-2]["response"]
    assert response["output"][0]["content"] == [{"type": "audio", "transcript": "one two three four"}]
    assert (response["modalities"], response["output_audio_format"]) == (["audio", "text"], "g711_alaw")
    assert len(client.audio(PCMA, "response.audio.delta")) == 2 * PCMA.bytes_for_ms(400)
    assert "obfuscation" not in client.events[8]


def test_beta_refuses_ga_names(start, dial) -> None:
    client = dial(start(dialect="beta"), query="api-version=2025-04-01&deployment=test")
    client.send("session.update", session={"output_modalities": ["audio"]})
    error = client.until("error")["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "session.output_modalities")


# ---- several at once ---------------------------------------------------------------------------------------


def test_sessions_do_not_disturb_each_other(start, dial) -> None:
    sim = start(dialogue={"turn": [{"say": "first"}, {"say": "second"}]})
    clients = [dial(sim) for _ in range(8)]
    for number, client in enumerate(clients):
        client.talk()
        if number % 2:
            client.until("response.done")
            client.talk()
    for number, client in enumerate(clients):
        response = client.until("response.done")["response"]
        said = response["output"][0]["content"][0]["transcript"]
        assert said == ("second" if number % 2 else "first")
    assert [record.number for record in sim.sessions] == list(range(1, 9))
    assert sim.attempts == 8


def test_a_record_drives_its_connection(start, dial) -> None:
    sim = start()
    client = dial(sim)
    record = sim.wait_session()
    record.send({"type": "surprise", "n": 1})
    record.send("not json")
    record.send(b"\x01")
    assert client.until("surprise")["n"] == 1
    record.close(4321, "because")
    assert client.until_closed() == (4321, "because")
    assert client.raw == ["not json", b"\x01"]
    assert record.wait_closed() == 4321
    record.send("too late")  # nothing happens
    with pytest.raises(TimeoutError, match=r"received no 1\. response\.cancel"):
        record.wait_received("response.cancel", timeout_s=0.01)
    with pytest.raises(TimeoutError, match="1 of 2 sessions"):
        sim.wait_session(2, timeout_s=0.01)
