"""The session.update of a call's settings, and what it can do without."""

from __future__ import annotations

import copy

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.realtime.session_update import (
    OPTIONAL,
    build_session,
    input_format,
    output_format,
    server_takes_turns,
    slim,
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
            "create_response": True,
            "interrupt_response": False,
        }

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


class TestSlimming:
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

    @pytest.mark.parametrize("path", [path for path in OPTIONAL if not path.endswith("eagerness")])
    @pytest.mark.parametrize(
        "complaint",
        [
            "session.{path} Unknown parameter: 'session.{path}'.",
            "Unknown parameter: 'session.{path}'.",
            "We do not take '{leaf}' here.",
        ],
    )
    def test_what_the_server_names_goes(self, path, complaint):
        session, left_out = slim(self.full(), complaint.format(path=path, leaf=path.rsplit(".", 1)[-1]))
        assert left_out == path
        assert session == without(self.full(), path)

    def test_eagerness_can_go(self):
        session = build_session(settings(turn_detection="semantic_vad", eagerness="low"), PCMU)
        slimmer, left_out = slim(
            session, "Unknown parameter: 'session.audio.input.turn_detection.eagerness'."
        )
        assert left_out == "audio.input.turn_detection.eagerness"
        assert field(slimmer, "audio.input.turn_detection")["type"] == "semantic_vad"

    def test_without_a_name_they_go_in_order(self):
        session, gone = self.full(), []
        while (slimmer := slim(session, "Something is wrong.")) is not None:
            session, left_out = slimmer
            gone.append(left_out)
        assert gone == [path for path in OPTIONAL if not path.endswith("eagerness")]
        assert field(session, "audio.input.format") == {"type": "audio/pcmu"}
        assert field(session, "audio.output.voice") == "marin"
        assert "instructions" in session

    def test_a_name_that_is_not_there_any_more(self):
        session, _ = slim(self.full(), "'session.reasoning'")
        assert slim(session, "'session.reasoning'")[1] == "audio.input.transcription"

    def test_nothing_optional_is_left(self):
        assert slim(build_session(settings(), PCMU), "Unknown parameter: 'session.instructions'.") is None

    def test_the_original_stays_as_it_was(self):
        session = self.full()
        before = copy.deepcopy(session)
        slim(session, "session.audio.input.transcription")
        assert session == before

    @pytest.mark.parametrize("path", ["nothing", "audio.nothing.format", "voice.id", "type.of"])
    def test_a_field_that_is_not_there(self, path):
        assert without(self.full(), path) is None
