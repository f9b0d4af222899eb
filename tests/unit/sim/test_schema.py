"""The session object: updates, refusals, what it shows."""

from __future__ import annotations

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.sim.schema import is_session_field

TOOL = {"type": "function", "name": "look_up", "description": "", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        ({"modalities": ["audio", "text"]}, "unknown_parameter", "session.modalities"),
        ({"turn_detection": None}, "unknown_parameter", "session.turn_detection"),
        ({"temperature": 0.6}, "unknown_parameter", "session.temperature"),
        ({"audio": {"input": {"formats": 1}}}, "unknown_parameter", "session.audio.input.formats"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 8000}}}},
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence": 1}}}},
            "unknown_parameter",
            "session.audio.input.turn_detection.silence",
        ),
    ],
)
def test_one_bad_field_refuses_the_whole_update(start, dial, bad: dict, code: str, param: str) -> None:
    client = dial(start())
    client.send("session.update", session={"type": "realtime", "instructions": "New.", **bad}, event_id="e1")
    error = client.until("error")["error"]
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "e1")
    assert client.update()["instructions"] != "New."


def test_the_type_is_required(start, dial) -> None:
    client = dial(start())
    client.send("session.update", session={"instructions": "x"})
    error = client.until("error")["error"]
    assert (error["code"], error["param"]) == ("missing_required_parameter", "session.type")


def test_updates_change_only_what_they_name(start, dial) -> None:
    client = dial(start())
    client.update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}, "output": {"voice": "marin"}})
    session = client.update(audio={"input": {"noise_reduction": {"type": "near_field"}}}, tools=[TOOL])
    assert session["audio"]["input"]["turn_detection"]["type"] == "semantic_vad"
    assert session["audio"]["output"]["voice"] == "marin"
    assert session["tools"] == [TOOL]


def test_the_voice_is_locked_once_it_has_spoken(start, dial) -> None:
    client = dial(start())
    client.update(audio={"output": {"voice": "marin"}})
    client.send("response.create")
    client.until("response.done")
    client.update(audio={"output": {"voice": "marin"}})
    client.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "cedar"}}})
    assert client.until("error")["error"]["code"] == "cannot_update_voice"


def test_other_pcm_rates_where_the_server_allows_them(start, dial) -> None:
    sim = start(pcm_rates_hz=(24000, 8000))
    client = dial(sim)
    client.update(audio={"input": {"format": {"type": "audio/pcm", "rate": 8000}}})
    client.wire = Format("s16", 8000)
    client.talk()
    client.until("response.done")
    assert (sim.sessions[0].audio_rate_hz, sim.sessions[0].audio_ms) == (8000, 800)


def test_a_transcription_session_shows_nothing_of_responses(start, dial) -> None:
    client = dial(start(), query="intent=transcription")
    session = client.events[0]["session"]
    assert set(session) == {"id", "object", "type", "expires_at", "audio", "include"}
    assert set(session["audio"]) == {"input"}
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
    }
    wanted = ["item.input_audio_transcription.logprobs"]
    update = {"type": "transcription", "include": wanted, "audio": {"input": {"turn_detection": None}}}
    client.send("session.update", session=update)
    session = client.until("session.updated")["session"]
    assert (session["include"], session["audio"]["input"]["turn_detection"]) == (wanted, None)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("audio.input.format", True),
        ("audio.input.format.type", True),
        ("audio.output", True),
        ("voice", True),
        ("modalities", True),
        ("audio.input.formats", False),
        ("audio.voice", False),
        ("", False),
    ],
)
def test_names_of_fields(path: str, known: bool) -> None:
    assert is_session_field(path) is known
