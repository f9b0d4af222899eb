"""What the server states is what counts; the beta interface; what of a session is new."""

from __future__ import annotations

import copy

import pytest
from negotiating import (
    BETA_NAMES,
    BETA_SESSION,
    BOTH,
    FULL,
    GREETING,
    PCM_16K,
    PCMA,
    PCMU,
    WIDE,
    Talk,
    kinds,
    reason,
)

from ivr_ai.audio.formats import Format
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.negotiation import (
    PCM,
    Adjusted,
    Refused,
    Settled,
    SpeakBeta,
    Stated,
    changes,
    ga_path,
    is_beta,
)
from ivr_ai.realtime.session_update import TURN_DETECTION, value_at


class TestStated:
    @pytest.mark.parametrize(
        ("stated", "heard", "said"),
        [
            ({}, PCMU, PCMU),
            ({"audio": None}, PCMU, PCMU),
            ({"audio": []}, PCMU, PCMU),
            ({"audio": {"input": {"format": None}, "output": {}}}, PCMU, PCMU),
            ({"audio": {"input": {"format": {}}, "output": {"format": ""}}}, PCMU, PCMU),
            ({"audio": {"input": {"format": {"type": "audio/pcma"}}}}, PCMA, PCMU),
            ({"audio": {"output": {"format": {"type": "audio/pcma"}}}}, PCMU, PCMA),
            ({"audio": {"output": {"format": {"type": "audio/pcm"}}}}, PCMU, PCM),
            ({"audio": {"output": {"format": {"type": "audio/pcm", "rate": None}}}}, PCMU, PCM),
            ({"audio": {"output": {"format": {"type": "audio/pcm", "rate": 16000}}}}, PCMU, PCM_16K),
            ({"audio": {"output": {"format": "audio/pcma"}}}, PCMU, PCMA),
            ({"input_audio_format": "pcm16", "output_audio_format": "g711_alaw"}, PCM, PCMA),
            ({"input_audio_format": "g711_ulaw"}, PCMU, PCMU),
            ({"output_audio_format": {"type": "audio/pcm", "rate": 8000}}, PCMU, Format("s16", 8000)),
        ],
    )
    def test_what_the_server_states_decides_and_what_it_leaves_out_is_as_asked(self, stated, heard, said):
        talk = Talk()
        talk.begin()
        talk.accept(**stated)
        assert (talk.it.agreed.heard, talk.it.agreed.said) == (heard, said)
        assert len(talk.refused) == (heard != PCMU) + (said != PCMU)

    def test_pcm_without_a_rate_has_the_one_asked_for(self):
        talk = Talk(wire=WIDE, input_rate_hz=16000, output_rate_hz=48000)
        talk.begin()
        talk.accept(input_audio_format="pcm16", audio={"output": {"format": {"type": "audio/pcm"}}})
        assert (talk.it.agreed.heard, talk.it.agreed.said) == (PCM_16K, WIDE)

    @pytest.mark.parametrize(
        "stated",
        [
            {"type": "audio/opus"},
            "opus",
            {"type": "audio/pcm", "rate": 4000},
            {"type": "audio/pcm", "rate": "fast"},
            {"type": "audio/pcmu", "rate": 16000},
            {"type": 7},
        ],
    )
    @pytest.mark.parametrize("side", ["input", "output"])
    def test_one_that_no_call_can_use_ends_it_and_is_named(self, stated, side):
        talk = Talk()
        talk.begin()
        why = reason(talk.accept(audio={side: {"format": stated}}))
        assert why.startswith("the server states an audio format that calls cannot use: ")
        assert talk.it.agreed is None

    def test_a_difference_is_told_once_in_words(self):
        other = {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 16000}}}}
        talk = Talk(turns=GREETING)
        talk.begin()
        first = talk.accept(**other)
        assert first[0] == Adjusted(
            "audio.output.format", "the server uses audio/pcm at 16000 Hz: audio is converted"
        )
        talk.want(turns=BOTH)
        assert talk.accept(**other) == [Settled()]

    @pytest.mark.parametrize("stated", [{"output_modalities": ["text"]}, {"modalities": ["text"]}])
    def test_text_only_is_asked_about_once_more_and_then_the_end(self, stated):
        talk = Talk()
        talk.begin()
        assert kinds(talk.accept(**stated)) == ["Send"]
        assert talk.sent["output_modalities"] == ["audio"]
        assert talk.it.is_open
        assert reason(talk.accept(**stated)) == (
            "the server answers in text only, says its session.updated; it was asked twice for audio "
            "(output_modalities)"
        )

    def test_text_only_in_a_later_answer_asks_for_the_whole_session_again(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.accept()
        talk.want(wire=WIDE)
        talk.accept(output_modalities=["text"])
        assert talk.sent["output_modalities"] == ["audio"]
        assert talk.accept(output_modalities=["audio"]) == [Settled()]

    @pytest.mark.parametrize(
        "stated",
        [{"modalities": ["text", "audio"]}, {"output_modalities": []}, {"output_modalities": "text"}],
    )
    def test_anything_else_about_modalities_is_no_matter(self, stated):
        talk = Talk()
        talk.begin()
        assert talk.accept(**stated) == [Settled()]

    @pytest.mark.parametrize("place", ["ga", "beta"])
    @pytest.mark.parametrize(
        ("stated", "turns"),
        [
            ({"type": "server_vad"}, BOTH),
            ({"type": "server_vad", "create_response": False}, Turns(True, False, True)),
            ({"interrupt_response": False}, Turns(True, True, False)),
            ({"create_response": None, "interrupt_response": "yes"}, BOTH),
        ],
    )
    def test_who_decides_about_turns_is_as_stated(self, stated, turns, place):
        session = {"turn_detection": stated}
        talk = Talk()
        talk.begin()
        talk.accept(**({"audio": {"input": session}} if place == "ga" else session))
        assert talk.it.agreed.turns == turns

    @pytest.mark.parametrize(
        "session", [{"audio": {"input": {"turn_detection": None}}}, {"turn_detection": None}]
    )
    def test_a_server_that_detects_no_turns_ends_the_call(self, session):
        talk = Talk()
        talk.begin()
        assert reason(talk.accept(**session)) == (
            "the server does not detect the caller's turns (session.updated says turn_detection null: set "
            "OPENAI_TURN_DETECTION=none)"
        )

    @pytest.mark.parametrize("changed", [{"turn_detection": "none"}, {"input_mode": "item"}])
    def test_turn_detection_null_is_as_it_should_be_where_the_call_detects_them(self, changed):
        talk = Talk(**changed)
        talk.begin()
        assert value_at(talk.sent, "audio.input")["turn_detection"] is None
        assert talk.accept(audio={"input": {"turn_detection": None}}) == [Settled()]
        assert talk.it.agreed.turns == Turns(False, False, False)

    def test_a_place_without_turn_detection_says_nothing(self):
        assert Stated({"audio": {"input": {}}}).turns(GREETING) == GREETING


class TestBeta:
    def test_a_server_whose_session_has_its_shape_is_spoken_to_in_beta(self):
        talk = Talk()
        assert kinds(talk.begin(**BETA_SESSION)) == ["SpeakBeta", "Send"]
        assert talk.begin(**BETA_SESSION) == []

    @pytest.mark.parametrize("dialect", ["ga", "beta"])
    def test_not_where_the_dialect_is_set(self, dialect):
        assert kinds(Talk(dialect=dialect).begin(**BETA_SESSION)) == ["Send"]

    def test_also_when_its_session_comes_after_the_first_update(self):
        talk = Talk(**FULL)
        talk.note(talk.it.begin())
        assert kinds(talk.begin(**BETA_SESSION)) == ["SpeakBeta", "Send"]
        assert talk.refuse("session.type", "Unknown parameter: 'session.type'.", update=1) == []
        assert talk.accept(**BETA_SESSION, output_audio_format="g711_ulaw")[-1] == Settled()
        assert talk.begin(**BETA_SESSION) == []

    @pytest.mark.parametrize("field", ["type", "audio", "output_modalities"])
    def test_one_that_does_not_know_what_every_ga_session_has_speaks_beta(self, field):
        talk = Talk()
        talk.begin()
        unknown = {"code": "unknown_parameter", "message": f"Unknown parameter: 'session.{field}'."}
        assert kinds(talk.refuse(f"session.{field}", **unknown)) == ["SpeakBeta", "Send"]
        assert f"{field}: " in reason(talk.refuse(f"session.{field}", **unknown))

    @pytest.mark.parametrize("changed", [{"dialect": "ga"}, {}])
    def test_but_not_where_it_is_set_or_for_another_complaint(self, changed):
        talk = Talk(**changed)
        talk.begin()
        code = "unknown_parameter" if changed else "invalid_value"
        assert "type: No." in reason(talk.refuse("session.type", code=code))

    def test_a_temperature_that_is_refused_is_not_said_again(self):
        talk = Talk(temperature=0.9)
        assert talk.begin(**BETA_SESSION)[0] == SpeakBeta()
        steps = talk.refuse("session.temperature")
        assert steps[0] == Refused("temperature", "No.", "OPENAI_TEMPERATURE")
        assert steps[1] == SpeakBeta(temperature=False)
        assert kinds(steps[2:]) == ["Send"]

    def test_also_where_beta_is_set_and_only_where_there_is_one(self):
        talk = Talk(temperature=0.9, dialect="beta")
        talk.begin()
        assert kinds(talk.refuse("session.temperature")) == ["Refused", "SpeakBeta", "Send"]
        talk = Talk()
        talk.begin()
        assert "temperature (OPENAI_TEMPERATURE)" in reason(talk.refuse("session.temperature"))

    @pytest.mark.parametrize(
        ("session", "beta"),
        [
            (BETA_SESSION, True),
            ({"input_audio_format": "pcm16"}, True),
            ({"output_audio_format": "pcm16"}, True),
            ({"modalities": ["text"]}, True),
            ({**BETA_SESSION, "audio": {}}, False),
            ({"audio": {}}, False),
            ({}, False),
            ({"id": "sess_1", "model": "m"}, False),
        ],
    )
    def test_its_shape(self, session, beta):
        assert is_beta(session) is beta

    @pytest.mark.parametrize(
        ("field", "path"),
        [
            *((beta, ga) for ga, beta in BETA_NAMES.items()),
            ("turn_detection.threshold", f"{TURN_DETECTION}.threshold"),
            ("input_audio_transcription.model", "audio.input.transcription.model"),
            ("modalities", "output_modalities"),
            ("instructions", "instructions"),
            ("audio.input.format", "audio.input.format"),
        ],
    )
    def test_its_names(self, field, path):
        assert ga_path(field) == path


class TestAnotherConnection:
    def test_it_begins_from_the_beginning_but_for_what_was_refused(self):
        talk = Talk(**FULL)
        talk.begin(**BETA_SESSION)
        talk.refuse("session.reasoning")
        talk.it.begin_again()
        assert talk.accept() == []
        assert kinds(talk.begin(**BETA_SESSION)) == ["SpeakBeta", "Send"]
        assert "reasoning" not in talk.sent
        assert talk.sent["type"] == "realtime"
        assert talk.accept() == [Settled()]

    def test_a_temperature_that_was_refused_is_left_out_from_the_beginning(self):
        talk = Talk(temperature=0.9, dialect="beta")
        talk.begin()
        talk.refuse("session.temperature")
        talk.it.begin_again()
        assert talk.begin()[0] == SpeakBeta(temperature=False)


SESSION = {"type": "realtime", "instructions": "a", "audio": {"input": {"format": {"type": "x"}, "b": 1}}}


class TestChanges:
    @pytest.mark.parametrize(
        ("after", "changed"),
        [
            (SESSION, {}),
            ({**SESSION, "instructions": "b"}, {"instructions": "b"}),
            ({"type": "realtime"}, {}),
            (
                {**SESSION, "audio": {"input": {"format": {"type": "x"}, "b": 2}}},
                {"audio": {"input": {"b": 2}}},
            ),
            (
                {**SESSION, "audio": {"input": {"format": {"type": "x", "rate": 1}, "b": 1}}},
                {"audio": {"input": {"format": {"type": "x", "rate": 1}}}},
            ),
            ({**SESSION, "new": {"c": {"d": 1}}}, {"new": {"c": {"d": 1}}}),
        ],
    )
    def test_only_what_is_new_and_formats_voices_and_turn_detection_whole(self, after, changed):
        assert changes([SESSION], after) == {"type": "realtime", **changed}

    def test_what_differs_from_any_of_those_that_may_be_in_force(self):
        other = {**SESSION, "instructions": "z"}
        assert changes([SESSION, other], SESSION) == {"type": "realtime", "instructions": "a"}

    def test_sessions_stay_as_they_were(self):
        before, after = copy.deepcopy(SESSION), {**SESSION, "instructions": "b"}
        changes([before], after)["instructions"] = "c"
        assert (before, after["instructions"]) == (SESSION, "b")
