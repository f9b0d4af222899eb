"""The session.update of a call's settings, and its fields by their paths."""

from __future__ import annotations

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.session_update import (
    IF_NAMED,
    OPTIONAL,
    build_session,
    input_format,
    output_format,
    server_takes_turns,
    turns_of,
    value_at,
    voice_of,
    with_value,
    without,
)
from ivr_ai.sim.schema import SessionState

PCMU, PCMA, WIDE = Format("pcmu", 8000), Format("pcma", 8000), Format("s16", 48000)
PCM_24K = Format("s16", 24000)
FULL = {
    "reasoning_effort": "low",
    "transcription_model": "gpt-live-transcribe",
    "noise_reduction": "near_field",
    "speed": 1.2,
    "max_output_tokens": 500,
    "vad_idle_timeout_ms": 5000,
}


def settings(**changed) -> Settings:
    return Settings(**{"realtime_url": "ws://localhost/", **changed})


def field(session: dict, path: str):
    for name in path.split("."):
        session = session[name]
    return session


class TestFormats:
    @pytest.mark.parametrize(
        ("changed", "wire", "up", "down"),
        [
            # a G.711 call keeps its own format end to end, whatever the PCM rates say
            ({}, PCMU, PCMU, PCMU),
            ({}, PCMA, PCMA, PCMA),
            ({"input_rate_hz": 16000, "output_rate_hz": 16000, "resample_input": False}, PCMU, PCMU, PCMU),
            # others are PCM at the rates of the settings
            ({}, WIDE, PCM_24K, PCM_24K),
            ({}, Format("s16", 8000), PCM_24K, PCM_24K),
            ({"input_rate_hz": 16000}, WIDE, Format("s16", 16000), PCM_24K),
            ({"output_rate_hz": 48000}, WIDE, PCM_24K, WIDE),
            # unless the settings say otherwise
            ({"audio_format": "pcm"}, PCMU, PCM_24K, PCM_24K),
            ({"audio_format": "pcma"}, PCMU, PCMA, PCMA),
            ({"audio_format": "pcmu"}, WIDE, PCMU, PCMU),
            # OPENAI_RESAMPLE_INPUT=0: up at the call's own rate
            ({"resample_input": False}, WIDE, WIDE, PCM_24K),
            ({"resample_input": False}, Format("s16", 16000), Format("s16", 16000), PCM_24K),
            ({"resample_input": False, "audio_format": "pcm"}, PCMU, Format("s16", 8000), PCM_24K),
        ],
    )
    def test_what_goes_up_and_what_comes_down(self, changed, wire, up, down):
        chosen = settings(**changed)
        assert (input_format(chosen, wire), output_format(chosen, wire)) == (up, down)
        session = build_session(chosen, wire)
        assert field(session, "audio.input.format") == up.ga_wire
        assert field(session, "audio.output.format") == down.ga_wire


class TestTurnDetection:
    @pytest.mark.parametrize(
        ("changed", "server"),
        [
            ({}, True),
            ({"turn_detection": "semantic_vad"}, True),
            ({"barge_in": False}, True),
            ({"turn_detection": "none"}, False),
            ({"input_mode": "item"}, False),
            ({"input_mode": "item", "turn_detection": "semantic_vad"}, False),
        ],
    )
    def test_who_takes_turns(self, changed, server):
        assert server_takes_turns(settings(**changed)) is server
        detection = field(build_session(settings(**changed), PCMU), "audio.input.turn_detection")
        assert (detection is not None) is server

    def test_server_vad(self):
        chosen = settings(vad_threshold=0.8, vad_silence_ms=450, vad_prefix_ms=200)
        assert field(build_session(chosen, PCMU), "audio.input.turn_detection") == {
            "type": "server_vad",
            "threshold": 0.8,
            "silence_duration_ms": 450,
            "prefix_padding_ms": 200,
            "create_response": True,
            "interrupt_response": True,
        }

    def test_semantic_vad(self):
        chosen = settings(turn_detection="semantic_vad", eagerness="high", barge_in=False)
        assert field(build_session(chosen, PCMU), "audio.input.turn_detection") == {
            "type": "semantic_vad",
            "eagerness": "high",
            "create_response": False,
            "interrupt_response": False,
        }

    @pytest.mark.parametrize("asks", [True, False])
    @pytest.mark.parametrize("interrupts", [True, False])
    @pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
    def test_who_asks_and_who_interrupts_is_as_the_conversation_wants_it(self, asks, interrupts, kind):
        turns = Turns(True, asks=asks, interrupts=interrupts)
        session = build_session(settings(turn_detection=kind), PCMU, turns=turns)
        detection = field(session, "audio.input.turn_detection")
        assert detection["type"] == kind
        assert (detection["create_response"], detection["interrupt_response"]) == (asks, interrupts)

    @pytest.mark.parametrize(
        ("changed", "turns"),
        [
            ({}, Turns(True, True, True)),
            ({"barge_in": False}, Turns(True, False, False)),
            ({"turn_detection": "none"}, Turns(False, False, False)),
            ({"input_mode": "item"}, Turns(False, False, False)),
        ],
    )
    def test_who_decides_where_nothing_is_protected(self, changed, turns):
        assert turns_of(settings(**changed)) == turns

    def test_idle_timeout(self):
        path = "audio.input.turn_detection.idle_timeout_ms"
        assert field(build_session(settings(vad_idle_timeout_ms=7000), PCMU), path) == 7000
        for changed in ({}, {"vad_idle_timeout_ms": 7000, "dialect": "beta"}):
            assert without(build_session(settings(**changed), PCMU), path) is None


class TestFields:
    @pytest.mark.parametrize(
        ("changed", "path", "value"),
        [
            ({"instructions": "Be brief."}, "instructions", "Be brief."),
            ({"voice": "cedar"}, "audio.output.voice", "cedar"),
            ({"speed": 0.8}, "audio.output.speed", 0.8),
            ({"max_output_tokens": 800}, "max_output_tokens", 800),
            ({"reasoning_effort": "high"}, "reasoning", {"effort": "high"}),
            ({"noise_reduction": "near_field"}, "audio.input.noise_reduction", {"type": "near_field"}),
            (
                {"transcription_model": "gpt-live-transcribe"},
                "audio.input.transcription",
                {"model": "gpt-live-transcribe"},
            ),
            (
                {"transcription_model": "gpt-live-transcribe", "language": "pt"},
                "audio.input.transcription",
                {"model": "gpt-live-transcribe", "language": "pt"},
            ),
            ({"barge_in": False}, "audio.input.turn_detection.interrupt_response", False),
        ],
    )
    def test_every_setting_lands_in_its_field(self, changed, path, value):
        assert field(build_session(settings(**changed), PCMU), path) == value

    def test_what_is_at_its_default_is_not_sent(self):
        """The fewer fields, the fewer a server can refuse."""
        assert build_session(settings(instructions="Be brief."), PCMU) == {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "Be brief.",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 300,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
            },
        }

    def test_what_only_ga_has_is_not_sent_to_beta(self):
        session = build_session(settings(dialect="beta", **FULL), PCMU)
        assert "reasoning" not in session
        assert "idle_timeout_ms" not in field(session, "audio.input.turn_detection")

    def test_temperature_is_never_among_them(self):
        assert "temperature" not in build_session(settings(temperature=1.1), PCMU)

    @pytest.mark.parametrize(
        ("name", "voice"),
        [
            ("marin", "marin"),
            ("voice_abc", {"id": "voice_abc"}),
            ("voice", "voice"),
            ("my_voice_1", "my_voice_1"),
        ],
    )
    def test_a_custom_voice_is_an_object(self, name, voice):
        assert voice_of(name) == voice
        assert field(build_session(settings(voice=name), PCMU), "audio.output.voice") == voice

    def test_tools(self):
        tools = [{"type": "function", "name": "f", "description": "", "parameters": {}}]
        session = build_session(settings(), PCMU, tools)
        assert (session["tools"], session["tool_choice"]) == (tools, "auto")
        assert "tools" not in build_session(settings(), PCMU, [])

    @pytest.mark.parametrize("wire", [PCMU, PCMA, WIDE], ids=str)
    @pytest.mark.parametrize(
        "changed", [{}, FULL, {"turn_detection": "semantic_vad"}, {"input_mode": "item"}]
    )
    def test_a_strict_server_takes_it(self, changed, wire):
        state = SessionState("ga", "gpt-realtime-2.1", (24000,), 3600.0, False)
        state.update(build_session(settings(**changed), wire))
        assert state.view()["audio"]["output"]["voice"] == "marin"


class TestPaths:
    """Values by dotted paths, for leaving out what a server refuses."""

    def full(self) -> dict:
        return build_session(settings(**FULL), PCMU)

    def test_the_optional_fields_in_the_order_in_which_they_go(self):
        """What the caller would miss least goes first."""
        assert OPTIONAL == (
            "reasoning",
            "audio.input.transcription",
            "audio.input.noise_reduction",
            "audio.output.speed",
            "max_output_tokens",
            "audio.input.turn_detection.idle_timeout_ms",
            "audio.input.turn_detection.eagerness",
        )

    def test_every_field_that_settings_fill_can_be_read(self):
        session = build_session(settings(**FULL), PCMU, [{"type": "function", "name": "f"}])
        absent = {"audio.input.turn_detection.eagerness", "audio.input.transcription.language"}
        assert {path for path in (*OPTIONAL, *IF_NAMED) if value_at(session, path) is None} == absent

    @pytest.mark.parametrize(
        "path", ["nothing", "audio.nothing.format", "audio.output.voice.id", "type.of", ""]
    )
    def test_a_field_that_is_not_there(self, path):
        assert value_at(self.full(), path) is None
        assert without(self.full(), path) is None

    @pytest.mark.parametrize("path", [path for path in OPTIONAL if not path.endswith("eagerness")])
    def test_a_copy_without_a_field(self, path):
        session = self.full()
        slimmer = without(session, path)
        assert value_at(slimmer, path) is None
        assert with_value(slimmer, path, value_at(session, path)) == session == self.full()

    @pytest.mark.parametrize("path", ["reasoning", "audio.output.voice", "audio.input.format"])
    def test_a_copy_with_another_value(self, path):
        session = self.full()
        changed = with_value(session, path, {"id": "voice_1"})
        assert value_at(changed, path) == {"id": "voice_1"}
        assert session == self.full()
        assert without(changed, path) == without(session, path)
