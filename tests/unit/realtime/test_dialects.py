"""GA and beta names for the same things, both ways."""

from __future__ import annotations

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.realtime.dialects import BetaDialect, GaDialect, server_types
from ivr_ai.realtime.session_update import build_session
from ivr_ai.sim.schema import SessionState

DECODED = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}
SAME = [
    "session.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "response.created",
    "response.done",
    "response.function_call_arguments.done",
    "conversation.item.truncated",
    "conversation.item.input_audio_transcription.completed",
    "error",
]
EVERYTHING = Settings(
    realtime_url="ws://localhost/",
    voice="verse",
    instructions="Be brief.",
    speed=1.25,
    max_output_tokens=900,
    reasoning_effort="low",
    transcription_model="whisper-1",
    language="en",
    noise_reduction="far_field",
    vad_threshold=0.7,
    vad_silence_ms=420,
    vad_prefix_ms=250,
    vad_idle_timeout_ms=6000,
)


def beta_session(session: dict) -> dict:
    return BetaDialect(0.8).encode({"type": "session.update", "event_id": "e", "session": session})["session"]


class TestServerTypes:
    def test_each_by_its_names_in_both(self):
        assert server_types(DECODED.values()) == {*DECODED, *DECODED.values()}
        assert server_types(SAME) == set(SAME)

    def test_only_those_that_are_asked_for(self):
        assert server_types({"response.output_audio.done"}) == {
            "response.output_audio.done",
            "response.audio.done",
        }
        assert server_types([]) == set()


class TestGa:
    def test_nothing_is_translated(self):
        event = {"type": "session.update", "session": build_session(EVERYTHING, Format("pcmu", 8000))}
        assert GaDialect().encode(event) is event
        assert GaDialect().decode(event) is event

    def test_no_beta_header(self):
        assert dict(GaDialect.headers) == {}


class TestBetaIn:
    @pytest.mark.parametrize("name", DECODED)
    def test_names(self, name):
        event = {"type": name, "response_id": "r", "item_id": "i", "delta": "AAAA", "obfuscation": "x"}
        assert BetaDialect().decode(event) == {**event, "type": DECODED[name]}

    @pytest.mark.parametrize("name", SAME)
    def test_names_that_did_not_change(self, name):
        event = {"type": name, "item_id": "i"}
        assert BetaDialect().decode(event) == event

    @pytest.mark.parametrize("event", [{}, {"type": None}, {"type": ["response.audio.delta"]}, {"type": {}}])
    def test_nonsense_is_handed_on(self, event):
        assert BetaDialect().decode(event) == event


class TestBetaOut:
    def test_the_header(self):
        assert dict(BetaDialect.headers) == {"OpenAI-Beta": "realtime=v1"}

    def test_a_session_with_everything(self):
        tools = [{"type": "function", "name": "f", "description": "", "parameters": {}}]
        assert beta_session(build_session(EVERYTHING, Format("pcma", 8000), tools)) == {
            "modalities": ["audio", "text"],
            "instructions": "Be brief.",
            "tools": tools,
            "tool_choice": "auto",
            "voice": "verse",
            "speed": 1.25,
            "input_audio_format": "g711_alaw",
            "output_audio_format": "g711_alaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "en"},
            "input_audio_noise_reduction": {"type": "far_field"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.7,
                "prefix_padding_ms": 250,
                "silence_duration_ms": 420,
                "create_response": True,
                "interrupt_response": True,
                "idle_timeout_ms": 6000,
            },
            "max_response_output_tokens": 900,
            "temperature": 0.8,
        }

    @pytest.mark.parametrize(
        ("wire", "name"),
        [
            (Format("s16", 24000), "pcm16"),
            (Format("pcmu", 8000), "g711_ulaw"),
            (Format("pcma", 8000), "g711_alaw"),
        ],
    )
    def test_formats(self, wire, name):
        session = beta_session(build_session(Settings(realtime_url="ws://localhost/"), wire))
        assert session["input_audio_format"] == session["output_audio_format"] == name

    def test_no_server_that_speaks_beta_refuses_it(self):
        """The simulator is as strict as the service was: one field it does not know refuses the update."""
        settings = EVERYTHING.replace(realtime_url="ws://localhost/?api-version=1")
        state = SessionState("beta", "m", (24000,), 3600.0, False)
        state.update(beta_session(build_session(settings, Format("pcmu", 8000))))
        assert state.view()["voice"] == "verse"

    def test_turn_detection_can_be_none(self):
        settings = Settings(realtime_url="ws://localhost/", turn_detection="none")
        session = beta_session(build_session(settings, Format("pcmu", 8000)))
        assert session["turn_detection"] is None

    def test_text_only(self):
        assert beta_session({"type": "realtime", "output_modalities": ["text"]}) == {
            "modalities": ["text"],
            "temperature": 0.8,
        }

    def test_no_temperature_unless_there_is_one(self):
        session = BetaDialect().encode({"type": "session.update", "session": {}})["session"]
        assert session == {"modalities": ["audio", "text"]}

    def test_what_else_an_update_says_stays(self):
        event = BetaDialect().encode({"type": "session.update", "event_id": "update_3", "session": {}})
        assert event["event_id"] == "update_3"

    def test_a_response(self):
        ga = {
            "instructions": "Greet.",
            "output_modalities": ["audio"],
            "max_output_tokens": 50,
            "audio": {"output": {"voice": "ash"}},
            "conversation": "none",
        }
        assert BetaDialect().encode({"type": "response.create", "response": ga})["response"] == {
            "instructions": "Greet.",
            "modalities": ["audio", "text"],
            "max_response_output_tokens": 50,
            "conversation": "none",
        }

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "response.create"},
            {"type": "input_audio_buffer.commit"},
            {"type": "response.cancel", "response_id": "r"},
            {
                "type": "conversation.item.truncate",
                "item_id": "i",
                "content_index": 0,
                "audio_end_ms": 5,
            },
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_audio", "audio": ""}],
                },
            },
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c", "output": "1"},
            },
        ],
        ids=lambda event: event["type"],
    )
    def test_what_is_the_same_in_both(self, event):
        assert BetaDialect().encode(event) == event

    def test_what_the_assistant_said(self):
        content = [{"type": "output_text", "text": "a"}, {"type": "output_audio", "transcript": "b"}]
        item = {"type": "message", "role": "assistant", "content": content}
        encoded = BetaDialect().encode({"type": "conversation.item.create", "item": item})["item"]
        assert encoded["content"] == [
            {"type": "text", "text": "a"},
            {"type": "audio", "transcript": "b"},
        ]
        assert item["content"][0]["type"] == "output_text"  # the caller's copy is left as it was
