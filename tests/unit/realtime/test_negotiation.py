"""Which session a connection asks for, and what becomes of it when the server refuses something."""

from __future__ import annotations

import copy
import itertools

import pytest
from negotiating import (
    BOTH,
    FIELDS,
    FULL,
    GREETING,
    PCM_WIRE,
    PCMA,
    PCMU,
    SEMANTIC,
    TOOLS,
    WIDE,
    Talk,
    beta_name,
    kinds,
    reason,
    with_field,
)

from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.negotiation import PCM, Adjusted, Agreed, Impossible, Refused, Send, Settled
from ivr_ai.realtime.session_update import (
    FORMATS,
    OPTIONAL,
    SETTING_OF,
    TURN_DETECTION,
    TURN_DETECTION_TYPE,
    VOICE,
    build_session,
    value_at,
)


def without_field(session: dict, path: str) -> dict:
    slimmer = copy.deepcopy(session)
    parents, _, name = path.rpartition(".")
    del (value_at(slimmer, parents) if parents else slimmer)[name]
    return slimmer


class TestAsking:
    def test_the_session_is_asked_for_as_soon_as_there_is_one(self):
        talk = Talk()
        (step,) = talk.begin(expires_at=1_800_000_000)
        assert step.event["type"] == "session.update"
        assert step.event["event_id"] == "update_1"
        assert step.event["session"] == build_session(talk.settings, PCMU, TOOLS)

    def test_a_server_that_says_nothing_is_asked_all_the_same_and_once(self):
        talk = Talk()
        assert kinds(talk.note(talk.it.begin())) == ["Send"]
        assert talk.note(talk.it.begin()) == []
        assert talk.begin() == []

    def test_a_session_that_is_created_twice_is_asked_for_once(self):
        talk = Talk()
        talk.begin()
        assert talk.begin() == []

    def test_it_is_agreed_once_it_is_accepted(self):
        talk = Talk()
        assert talk.it.is_open
        talk.begin()
        assert (talk.it.is_open, talk.it.agreed) == (True, None)
        assert talk.accept(expires_at=1_800_000_000) == [Settled()]
        assert not talk.it.is_open
        assert talk.it.agreed == Agreed(PCMU, PCMU, BOTH, 1_800_000_000)

    def test_an_acceptance_that_answers_nothing_changes_nothing(self):
        talk = Talk()
        assert talk.accept(audio={"input": {"format": {"type": "audio/pcma"}}}) == []
        talk.begin()
        talk.accept()
        assert talk.accept(audio={"input": {"format": {"type": "audio/pcma"}}}) == []
        assert talk.it.agreed.heard == PCMU

    def test_when_the_session_expires_is_kept_where_a_later_answer_leaves_it_out(self):
        talk = Talk()
        talk.begin()
        talk.accept(expires_at=1_800_000_000.5)
        talk.want(wire=WIDE)
        talk.accept(expires_at="soon")
        assert talk.it.agreed.expires_at == 1_800_000_000.5

    @pytest.mark.parametrize("voice", ["voice_abc123", "marin"])
    def test_custom_voices_go_as_objects(self, voice):
        talk = Talk(voice=voice)
        talk.begin()
        assert value_at(talk.sent, VOICE) == ({"id": voice} if voice.startswith("voice_") else voice)

    def test_turns_are_as_the_call_wants_them(self):
        talk = Talk(turns=GREETING)
        talk.begin()
        detection = value_at(talk.sent, TURN_DETECTION)
        assert (detection["create_response"], detection["interrupt_response"]) == (False, False)
        talk.accept()
        assert talk.it.agreed.turns == GREETING


class TestAskingAgain:
    def test_another_session_once_the_calls_codec_is_known(self):
        talk = Talk()
        talk.begin()
        talk.accept()
        assert talk.want(wire=PCMU) == []
        assert kinds(talk.want(wire=WIDE)) == ["Send"]
        assert talk.it.is_open
        assert talk.sent == {
            "type": "realtime",
            "audio": {"input": {"format": PCM_WIRE}, "output": {"format": PCM_WIRE}},
        }
        assert talk.want(wire=WIDE) == []
        assert talk.accept() == [Settled()]
        assert talk.it.agreed == Agreed(PCM, PCM, BOTH)

    def test_before_the_first_update_a_want_only_says_what_that_asks_for(self):
        talk = Talk()
        assert talk.want(wire=PCMA, turns=GREETING) == []
        talk.begin()
        assert value_at(talk.sent, "audio.input.format") == {"type": "audio/pcma"}
        assert not value_at(talk.sent, f"{TURN_DETECTION}.create_response")

    def test_only_turn_detection_is_sent_when_the_greeting_is_over(self):
        """A server may refuse to be told its voice once it has spoken."""
        talk = Talk(turns=GREETING, **FULL)
        talk.begin()
        talk.accept()
        talk.want(turns=BOTH)
        assert talk.sent == {
            "type": "realtime",
            "audio": {
                "input": {
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 300,
                        "idle_timeout_ms": 5000,
                        "create_response": True,
                        "interrupt_response": True,
                    }
                }
            },
        }

    def test_the_second_session_does_not_begin_again_with_what_was_refused(self):
        """The server would go on with the first one's audio format: noise for the caller."""
        talk = Talk(**FULL)
        talk.begin()
        talk.refuse("session.reasoning")
        talk.refuse("session.audio.output.format")
        talk.accept()
        assert talk.want(wire=PCMA) == []  # PCM already: G.711 was refused
        assert talk.want(turns=GREETING)
        assert "reasoning" not in talk.sent
        assert talk.it.agreed.said == PCM

    def test_the_second_session_may_be_refused_like_the_first(self):
        talk = Talk(wire=WIDE)
        talk.begin()
        talk.accept()
        talk.want(wire=PCMU)
        assert kinds(talk.refuse("session.audio.input.format")) == ["Adjusted", "Settled"]
        assert talk.it.agreed == Agreed(PCM, PCM, BOTH)


class TestTwoUpdates:
    def test_the_answer_to_the_later_one_counts(self):
        talk = Talk()
        talk.begin()
        talk.want(wire=WIDE)
        assert talk.accept() == []
        assert (talk.it.is_open, talk.it.agreed) == (True, None)
        assert talk.accept() == [Settled()]
        assert talk.it.agreed == Agreed(PCM, PCM, BOTH)

    def test_the_later_one_is_whole_while_nothing_is_agreed(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.want(wire=WIDE)
        assert talk.sent == build_session(talk.settings, WIDE, TOOLS)

    def test_both_are_refused_for_the_same_field(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.want(wire=WIDE)
        talk.refuse("session.reasoning", update=1)
        talk.refuse("session.reasoning", update=2)
        assert talk.refused == ["reasoning"]
        assert "reasoning" not in talk.sent
        assert value_at(talk.sent, "audio.input.format") == PCM_WIRE
        assert talk.accept() == [Settled()]

    def test_both_are_refused_and_nothing_is_named(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.want(wire=WIDE)
        talk.refuse(update=1)
        talk.refuse(update=2)
        assert talk.refused == ["reasoning"]
        assert talk.accept() == [Settled()]

    def test_an_earlier_ones_refusal_without_an_id(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.want(wire=WIDE)
        talk.refuse("session.reasoning", event_id=None)
        talk.refuse("session.reasoning", event_id=None)
        assert talk.refused == ["reasoning"]
        assert talk.accept() == [Settled()]

    def test_the_first_is_accepted_and_the_second_refused(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.accept()
        talk.want(turns=GREETING)
        talk.want(wire=WIDE)
        assert value_at(talk.sent, f"{TURN_DETECTION}.create_response") is False  # not known to be there
        assert talk.accept() == []
        talk.refuse("session.audio.input.turn_detection.idle_timeout_ms", update=3)
        assert talk.refused == [f"{TURN_DETECTION}.idle_timeout_ms"]
        assert value_at(talk.sent, "audio.input.format") == PCM_WIRE
        assert talk.accept() == [Settled()]
        assert talk.it.agreed == Agreed(PCM, PCM, GREETING)

    def test_what_is_wanted_back_is_said_though_it_was_agreed_before(self):
        """Else the server keeps what the update in between has told it."""
        talk = Talk()
        talk.begin()
        talk.accept()
        talk.want(turns=GREETING)
        talk.want(turns=BOTH)
        detection = value_at(talk.sent, TURN_DETECTION)
        assert (detection["create_response"], detection["interrupt_response"]) == (True, True)
        assert talk.accept() == []
        assert talk.accept() == [Settled()]
        assert talk.it.agreed.turns == BOTH


class TestWhatErrorsAreAbout:
    @pytest.mark.parametrize(
        ("error", "about"),
        [
            ({"event_id": "update_1"}, True),
            ({"event_id": "update_7"}, False),
            ({"event_id": "ask_1", "param": "session.reasoning"}, False),
            ({"param": "session.reasoning"}, True),
            ({"param": "session"}, True),
            ({"param": "response.metadata"}, False),
            ({"param": 7}, False),
            ({"code": "server_error", "message": "Please wait."}, False),
            ({"message": "Unknown parameter: 'session.reasoning'."}, True),
            ({"message": "Incorrect API key provided."}, False),
            ({}, False),
        ],
    )
    def test_an_error_while_an_update_is_open(self, error, about):
        talk = Talk(**FULL)
        talk.begin()
        assert talk.it.is_about_update(error) is about

    def test_before_an_update_nothing_is_about_it(self):
        assert not Talk().it.is_about_update({"event_id": "update_1", "param": "session.voice"})

    def test_once_accepted_a_stray_error_changes_no_setting(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.accept()
        assert not talk.it.is_about_update({"param": "session.audio.output.speed"})
        assert not talk.it.is_about_update({"message": "Unknown parameter: 'session.reasoning'."})

    def test_late_errors_of_old_updates_are_known_as_such(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.refuse("session.reasoning")
        assert talk.it.is_about_old_update({"event_id": "update_1"})
        assert not talk.it.is_about_old_update({"event_id": "update_2"})
        assert not talk.it.is_about_old_update({"event_id": "ask_1"})
        assert not talk.it.is_about_old_update({"event_id": None})
        talk.accept()
        assert talk.it.is_about_old_update({"event_id": "update_2"})


class TestRefusals:
    @pytest.mark.parametrize("path", FIELDS)
    @pytest.mark.parametrize(
        ("param", "message"),
        [
            ("session.{ga}", "No."),
            ("{ga}", "No."),
            ("session.{beta}", "No."),
            ("session.{ga}.part", "No."),
            (None, "Unknown parameter: 'session.{ga}'."),
            ("session", "Unknown parameter: 'session.{ga}'."),
            (None, "Unknown parameter: 'session.{beta}'."),
            ("", 'We do not take "{leaf}" here.'),
            (None, "We do not take `{leaf}` here."),
        ],
    )
    def test_every_field_that_is_named_goes_and_no_other(self, path, param, message):
        names = {"ga": path, "beta": beta_name(path), "leaf": path.rpartition(".")[2]}
        talk = Talk(**with_field(path))
        talk.begin()
        before = talk.sent
        assert value_at(before, path) is not None
        steps = talk.refuse(param and param.format(**names), message.format(**names))
        assert kinds(steps) == ["Refused", "Send"]
        assert steps[0] == Refused(path, message.format(**names), SETTING_OF.get(path, ""))
        assert without_field(before, path) == talk.sent
        assert talk.accept() == [Settled()]

    def test_every_field_that_goes_has_a_setting_by_which_operators_know_it(self):
        assert {path for path in FIELDS if path not in SETTING_OF} == {"tool_choice"}

    @pytest.mark.parametrize("told", ["param", "message", "nothing"])
    @pytest.mark.parametrize("changed", [FULL, SEMANTIC], ids=["server_vad", "semantic_vad"])
    def test_every_optional_field_goes_before_the_call_is_given_up(self, told, changed):
        talk = Talk(wire=WIDE, **changed)
        talk.begin()
        expected = [path for path in OPTIONAL if value_at(talk.sent, path) is not None]
        for path in expected:
            param = f"session.{path}" if told == "param" else None
            message = f"Unknown parameter: 'session.{path}'." if told == "message" else "No."
            assert kinds(talk.refuse(param, message)) == ["Refused", "Send"]
        assert talk.refused == expected
        assert reason(talk.refuse("session.instructions", "I do not take 'instructions'.")) == (
            "the server does not accept the session: instructions (OPENAI_SYSTEM_INSTRUCTIONS): "
            "I do not take 'instructions'."
        )

    def test_a_server_that_never_says_why_gets_all_it_might_mind_removed_one_by_one(self):
        talk = Talk(**SEMANTIC)
        talk.begin()
        first, *others = (f"No, for the {n}. time." for n in range(1, 30))
        steps = talk.refuse(message=first)
        while not isinstance(steps[0], Impossible):
            assert kinds(steps)[0] in ("Refused", "Adjusted")
            assert kinds(steps)[1:] == ["Send"]
            steps = talk.refuse(message=others.pop(0))
        optional = [path for path in OPTIONAL if not path.endswith("idle_timeout_ms")]
        assert talk.refused == [*optional, TURN_DETECTION_TYPE, "audio.format", VOICE]
        assert reason(steps) == f"the server does not accept the session: {first}"
        assert len({update["event_id"] for update in talk.updates}) == len(talk.updates)
        assert value_at(talk.sent, "audio.input.format") == PCM_WIRE

    def test_after_an_unnamed_complaint_about_g711_the_session_settles_on_pcm(self):
        talk = Talk()
        talk.begin()
        talk.refuse()
        assert talk.refused == ["audio.format"]
        assert value_at(talk.sent, VOICE) == "marin"
        assert talk.accept() == [Settled()]
        assert talk.it.agreed == Agreed(PCM, PCM, BOTH)

    @pytest.mark.parametrize(
        ("path", "how"),
        [
            *itertools.product(
                ["instructions", "output_modalities", "type", TURN_DETECTION], ["param", "message"]
            ),
            ("model", "param"),  # the update has none
        ],
    )
    def test_a_named_field_that_no_call_can_do_without_ends_it_at_once(self, path, how):
        talk = Talk(**FULL)
        talk.begin()
        param = f"session.{path}" if how == "param" else None
        message = f"Invalid value for 'session.{path}'."
        setting = f" ({SETTING_OF[path]})" if path in SETTING_OF else ""
        assert reason(talk.refuse(param, message)) == (
            f"the server does not accept the session: {path}{setting}: {message}"
        )
        assert talk.refused == []

    def test_tools_are_named_without_their_index(self):
        talk = Talk()
        talk.begin()
        assert "tools: No." in reason(talk.refuse("session.tools[0].parameters"))

    def test_values_in_a_message_are_taken_for_no_fields(self):
        """'audio' and 'type' are words of the session's too."""
        talk = Talk(**FULL)
        talk.begin()
        talk.refuse(message="Invalid value: 'text'. Supported values are: 'audio', 'type', 'realtime'.")
        assert talk.refused == ["reasoning"]

    @pytest.mark.parametrize(
        "param", [*(f"session.{path}" for path in FORMATS), "session.audio.input.format.type"]
    )
    def test_g711_refused_is_pcm_for_both_directions(self, param):
        talk = Talk()
        talk.begin()
        refused, _ = talk.refuse(param, "No G.711 here.")
        assert refused == Adjusted("audio.format", "No G.711 here. PCM is used instead.")
        assert [value_at(talk.sent, path) for path in FORMATS] == [PCM_WIRE, PCM_WIRE]
        assert talk.accept() == [Settled()]
        assert talk.it.agreed == Agreed(PCM, PCM, BOTH)
        assert talk.want(wire=PCMA) == []
        assert talk.want(wire=WIDE) == []

    def test_pcm_refused_too_ends_the_call(self):
        talk = Talk()
        talk.begin()
        talk.refuse("session.audio.input.format")
        assert reason(talk.refuse("session.audio.output.format", "Not that either.")) == (
            "the server does not accept the session: audio.output.format (OPENAI_AUDIO_FORMAT): "
            "Not that either."
        )

    def test_another_rate_than_24_khz_may_be_refused(self):
        talk = Talk(wire=WIDE, input_rate_hz=16000, output_rate_hz=16000)
        talk.begin()
        assert value_at(talk.sent, "audio.input.format.rate") == 16000
        talk.refuse("session.audio.input.format.rate")
        assert [value_at(talk.sent, path) for path in FORMATS] == [PCM_WIRE, PCM_WIRE]

    @pytest.mark.parametrize("voice", ["nobody", "voice_gone"])
    @pytest.mark.parametrize(
        "param", ["session.audio.output.voice", "session.voice", "session.audio.output.voice.id"]
    )
    def test_a_voice_that_is_refused_leaves_the_models_default(self, voice, param):
        talk = Talk(voice=voice)
        talk.begin()
        talk.refuse(param)
        assert talk.refused == [VOICE]
        assert value_at(talk.sent, "audio.output") == {"format": {"type": "audio/pcmu"}}
        talk.accept()
        assert value_at(changes_of(talk, wire=WIDE), VOICE) is None

    @pytest.mark.parametrize(
        ("param", "message"),
        [
            (f"session.{TURN_DETECTION_TYPE}", "No."),
            (f"session.{TURN_DETECTION}", "No."),
            ("session.turn_detection.type", "No."),
            (None, "Invalid value: 'semantic_vad'. Supported values are: 'server_vad'."),
        ],
    )
    def test_semantic_vad_that_is_refused_becomes_server_vad(self, param, message):
        talk = Talk(turn_detection="semantic_vad", vad_silence_ms=450)
        talk.begin()
        refused, _ = talk.refuse(param, message)
        assert refused == Refused(TURN_DETECTION_TYPE, message, "OPENAI_TURN_DETECTION")
        assert value_at(talk.sent, TURN_DETECTION) == {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 450,
            "create_response": True,
            "interrupt_response": True,
        }
        talk.accept()
        talk.want(turns=GREETING)
        assert value_at(talk.sent, TURN_DETECTION_TYPE) == "server_vad"
        assert not value_at(talk.sent, f"{TURN_DETECTION}.create_response")

    def test_server_vad_refused_too_ends_the_call(self):
        talk = Talk(turn_detection="semantic_vad")
        talk.begin()
        talk.refuse(f"session.{TURN_DETECTION_TYPE}")
        assert f"{TURN_DETECTION_TYPE} (OPENAI_TURN_DETECTION)" in reason(
            talk.refuse(f"session.{TURN_DETECTION_TYPE}")
        )

    def test_what_was_refused_of_semantic_vad_is_not_asked_for_of_server_vad(self):
        flag = f"{TURN_DETECTION}.interrupt_response"
        talk = Talk(turn_detection="semantic_vad")
        talk.begin()
        talk.refuse(f"session.{flag}")
        talk.refuse(f"session.{TURN_DETECTION_TYPE}")
        assert value_at(talk.sent, TURN_DETECTION_TYPE) == "server_vad"
        assert value_at(talk.sent, flag) is None

    def test_a_language_goes_without_the_transcription(self):
        talk = Talk(**FULL)
        talk.begin()
        talk.refuse("session.audio.input.transcription.language", "Invalid value: 'pt'.")
        assert value_at(talk.sent, "audio.input.transcription") == {"model": "gpt-live-transcribe"}
        assert talk.steps[-2].setting == "OPENAI_LANGUAGE"

    def test_a_flag_that_was_refused_is_what_the_interface_has_as_its_default(self):
        talk = Talk(turns=GREETING)
        talk.begin()
        talk.refuse("session.audio.input.turn_detection.create_response")
        talk.accept()
        assert talk.it.agreed.turns == Turns(True, asks=True, interrupts=False)

    @pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
    def test_an_error_that_may_pass_costs_no_field(self, code):
        talk = Talk(**FULL)
        talk.begin()
        assert kinds(talk.refuse(code=code)) == ["Send"]
        assert talk.updates[-1]["session"] == talk.updates[0]["session"]
        talk.refuse(code=code)
        assert talk.refused == []
        talk.refuse(code=code)
        assert talk.refused == ["reasoning"]  # it does not pass: something in the update is the matter

    def test_no_reason_at_all(self):
        talk = Talk(wire=WIDE)
        talk.begin()
        talk.it.refused({"event_id": "update_1"})
        assert reason(talk.it.refused({"event_id": "update_2", "code": "x"})) == (
            "the server does not accept the session: no reason given"
        )


class TestOnceAgreed:
    """A session that is in force stays in force: no later update costs the call."""

    @pytest.mark.parametrize("param", [f"session.{TURN_DETECTION}", None])
    def test_turns_that_cannot_be_changed_stay_as_agreed(self, param):
        talk = Talk(turns=GREETING, **FULL)
        talk.begin()
        talk.accept()
        talk.want(turns=BOTH)
        steps = talk.refuse(param, "Not now.")
        while isinstance(steps[-1], Send):
            steps = talk.refuse(param, "Not now.")
        assert kinds(steps) == ["Refused", "Settled"]
        assert (talk.it.is_open, talk.it.agreed.turns) == (False, GREETING)
        assert not {"reasoning", "audio.input.transcription", VOICE} & set(talk.refused)

    def test_the_audio_formats_stay_as_agreed(self):
        talk = Talk(wire=WIDE)
        talk.begin()
        talk.accept()
        talk.want(wire=PCMU)
        steps = talk.refuse("session.audio.output.format", "Not now.")
        assert [step for step in steps if isinstance(step, Settled)]
        assert talk.it.agreed == Agreed(PCM, PCM, BOTH)

    def test_the_next_update_says_again_what_that_one_could_not(self):
        talk = Talk(turns=GREETING)
        talk.begin()
        talk.accept()
        talk.want(turns=BOTH)
        talk.refuse(f"session.{TURN_DETECTION}")
        assert kinds(talk.want(turns=BOTH)) == ["Send"]
        talk.accept()
        assert talk.it.agreed.turns == BOTH


def changes_of(talk: Talk, **wanted) -> dict:
    talk.want(**wanted)
    return talk.sent
