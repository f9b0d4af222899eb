"""The conversation, driven by hand: requests, functions, errors, time."""

from __future__ import annotations

import itertools
import json

import pytest
from talk import Talk, asks, failures, flushes, mark, notices, sent, types

from ivr_ai.conversation.actions import Ask, EndItem, Fail, Notify, RunFunction
from ivr_ai.conversation.floor import Floor
from ivr_ai.realtime.adapter import FATAL_CODES

LOCAL = [{"turn_detection": "none"}, {"input_mode": "item"}]
CREATE = {"type": "response.create"}


class TestAsking:
    def test_a_greeting_is_asked_for(self):
        talk = Talk(greeting="Say hello.")
        assert talk.it.start(talk.now_s) == [
            Notify("greeting"),
            Ask("ask_1", "Say hello."),
        ]

    def test_no_greeting_waits_for_the_caller(self, talk):
        assert talk.it.start(talk.now_s) == []

    def test_the_server_answers_turns_by_itself(self, talk):
        assert sent(talk.caller_starts()) == []
        assert sent(talk.caller_stops()) == []

    def test_an_utterance_as_an_item(self):
        talk = Talk(input_mode="item").turn()
        assert sent(talk.it.utterance("UklGRg==", talk.now_s)) == [
            {
                "type": "conversation.item.create",
                "item": {
                    "id": "turn_1",
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_audio", "audio": "UklGRg=="}],
                },
            },
            CREATE,
        ]

    def test_an_utterance_from_the_buffer(self):
        talk = Talk(turn_detection="none").turn()
        assert sent(talk.it.utterance(None, talk.now_s)) == [{"type": "input_audio_buffer.commit"}, CREATE]

    @pytest.mark.parametrize("local", LOCAL, ids=str)
    def test_the_answer_is_asked_for_when_the_interrupted_one_has_ended(self, local):
        talk = Talk(**local).speaking()
        talk.caller_starts()
        talk.flushed({"i1": 100})
        talk.caller_stops()
        assert "response.create" not in types(talk.it.utterance(None, talk.now_s))
        assert sent(talk.done("r1", "cancelled")) == [CREATE]
        talk.created("r2")
        talk.audio("r2", "i2")
        assert sent(talk.done("r2")) == []

    def test_what_is_said_into_a_reply_is_answered_after_it(self):
        """barge_in=0: the server was told to answer nothing by itself."""
        talk = Talk(barge_in=False).speaking()
        assert sent(talk.turn().done()) == [CREATE]
        talk.created("r2")
        assert sent(talk.done("other")) == []
        talk.audio("r2", "i2")
        assert sent(talk.done("r2")) == []

    def test_a_refusal_of_what_was_not_asked_for_here_owes_nothing(self, talk):
        assert sent(talk.error("conversation_already_has_active_response")) == []
        talk.speaking()
        assert sent(talk.error("conversation_already_has_active_response")) == []
        assert sent(talk.done()) == []
        assert sent(talk.later(5)) == []

    def test_an_interruption_takes_back_what_was_to_be_asked(self, talk):
        talk.speaking()
        talk.calls()
        talk.returns()
        talk.caller_starts()
        talk.flushed({"i1": 10})
        assert sent(talk.done("r1", "cancelled")) == []


class TestFunctions:
    def test_a_call_is_run_and_told(self, talk):
        talk.turn()
        talk.created()
        assert talk.calls() == [
            Notify("function_call", {"name": "look_up", "arguments": '{"order": 17}'}),
            RunFunction("c1", "look_up", '{"order": 17}'),
        ]

    def test_output_after_the_response_asks_for_the_next(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        assert talk.it.floor is Floor.LISTENING
        assert sent(talk.returns("c1", '"sent"')) == [
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c1", "output": '"sent"'},
            },
            CREATE,
        ]

    def test_output_while_the_response_is_active_waits_for_its_end(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        assert types(talk.returns()) == ["conversation.item.create"]
        assert sent(talk.done()) == [CREATE]

    @pytest.mark.parametrize("order", list(itertools.permutations(["c1", "c2", "done"])), ids=" ".join)
    def test_two_calls_in_one_response_are_answered_once_when_all_is_in(self, talk, order):
        talk.turn()
        talk.created()
        talk.calls("c1")
        talk.calls("c2")
        steps = [talk.done() if step == "done" else talk.returns(step) for step in order]
        assert [len(asks(actions)) for actions in steps] == [0, 0, 1]
        assert steps[2] and isinstance(steps[2][-1], Ask)  # after the output, where that came last
        talk.created("r2", "ask_1")
        talk.audio("r2", "i2")
        assert sent(talk.done("r2")) == []
        assert sent(talk.later(3)) == []

    def test_calls_of_two_responses_are_answered_for_themselves(self, talk):
        talk.turn()
        talk.created("r1")
        talk.calls("c1", "r1")
        talk.done("r1")
        talk.turn()
        talk.created("r2")
        talk.calls("c2", "r2")
        talk.done("r2")
        assert len(asks(talk.returns("c1"))) == 1
        talk.created("r3", "ask_1")
        talk.audio("r3", "i3")
        assert not asks(talk.returns("c2"))
        assert len(asks(talk.done("r3"))) == 1

    def test_output_while_the_caller_speaks_leaves_the_answer_to_their_turn(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        talk.caller_starts()
        assert types(talk.returns()) == ["conversation.item.create"]
        assert types(talk.caller_stops()) == []
        talk.created("r2")
        talk.audio("r2", "i2")
        assert types(talk.done("r2")) == []

    def test_output_after_the_turn_is_answered_after_its_reply(self, talk):
        """The reply that is expected may have begun on the service before the output came there."""
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        talk.turn()
        assert types(talk.returns()) == ["conversation.item.create"]
        talk.created("r2")
        talk.audio("r2", "i2")
        assert types(talk.done("r2")) == ["response.create"]

    def test_a_call_is_not_quiet_while_a_function_runs(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        assert not talk.it.is_quiet()

    def test_a_request_for_the_answer_that_crosses_the_callers_first_word_is_their_turns_to_answer(
        self, talk
    ):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        assert asks(talk.returns()) == [Ask("ask_1")]
        talk.caller_starts()
        talk.flushed({})
        assert types(talk.created("r2", "ask_1")) == ["response.cancel"]
        assert talk.audio("r2", "i2") is None
        assert asks(talk.cancelled("r2", ask="ask_1")) == []
        assert asks(talk.caller_stops()) == []
        talk.created("r3")
        assert talk.audio("r3", "i3") is not None
        assert asks(talk.done("r3")) == []
        talk.heard("i3")
        assert talk.it.is_quiet()

    def test_a_reply_is_waited_for(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.done()
        talk.returns()
        assert failures(talk.later(talk.settings.response_timeout_s))

    def test_a_call_is_run_once_however_often_it_is_told(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        assert talk.calls() == []
        assert len(types(talk.returns())) == 1
        assert talk.calls() == []
        assert talk.returns() == []

    def test_one_that_was_overtaken_gets_its_output_once(self, talk):
        talk.speaking()
        talk.caller_starts()
        talk.flushed({"i1": 100})
        assert types(talk.calls()) == ["conversation.item.create"]
        assert types(talk.calls()) == []

    def test_a_call_is_a_sign_of_a_response_whose_beginning_is_not_told(self, talk):
        talk.turn()
        assert RunFunction("c1", "look_up", '{"order": 17}') in talk.calls()
        assert asks(talk.done()) == []
        assert len(asks(talk.returns())) == 1

    def test_an_output_of_nobody_is_nothing(self, talk):
        assert talk.returns("c9") == []


class TestFailures:
    def test_a_failed_response_is_asked_for_once_more(self, talk):
        talk.turn()
        talk.created()
        actions = talk.failed(code="content_filter")
        assert notices(actions) == [("error", {"code": "content_filter", "message": "It broke."})]
        assert sent(actions) == [CREATE]
        talk.created("r2")
        actions = talk.failed("r2", "content_filter")
        assert sent(actions) == []
        assert failures(actions) == ["the model could not reply: content_filter: It broke."]

    def test_a_success_in_between_starts_counting_anew(self, talk):
        for n in range(3):
            talk.turn()
            talk.created(f"a{n}")
            assert sent(talk.failed(f"a{n}")) == [CREATE]
            talk.created(f"b{n}")
            talk.audio(f"b{n}", f"i{n}")
            talk.done(f"b{n}")
            talk.heard(f"i{n}")

    def test_a_response_that_fails_without_having_begun(self, talk):
        talk.turn()
        assert sent(talk.failed()) == [CREATE]

    def test_one_that_the_caller_spoke_over_may_fail(self, talk):
        talk.speaking()
        talk.caller_starts()
        talk.flushed({"i1": 10})
        for n in range(3):
            actions = talk.failed(f"r{n}")
            assert (sent(actions), failures(actions)) == ([], [])

    def test_a_failure_without_details(self, talk):
        talk.turn()
        talk.created()
        talk.done(status="failed", status_details=None)
        assert failures(talk.done("r2", "failed")) == [
            "the model could not reply: response_failed: the response failed"
        ]

    @pytest.mark.parametrize("code", sorted(FATAL_CODES))
    def test_codes_after_which_no_reply_will_come(self, talk, code):
        actions = talk.error(code, "No more.")
        assert actions == [
            Notify("error", {"code": code, "message": "No more."}),
            Fail(f"the server says {code}: No more."),
        ]

    @pytest.mark.parametrize("code", sorted(FATAL_CODES))
    def test_they_are_fatal_before_the_session_is_accepted_too(self, code):
        assert failures(Talk().error(code))

    @pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key"])
    def test_and_in_a_failed_response(self, talk, code):
        talk.turn()
        talk.created()
        assert failures(talk.failed(code=code)) == [f"the model could not reply: {code}: It broke."]

    @pytest.mark.parametrize(
        "code",
        [
            "cannot_update_voice",
            "input_audio_buffer_commit_empty",
            "invalid_event",
            "invalid_json",
            "invalid_value",
            "item_not_found",
            "item_truncate_invalid_item_id",
            "rate_limit_exceeded",
            "response_cancel_not_active",
            "server_error",
            "something_nobody_has_heard_of",
            None,
        ],
    )
    @pytest.mark.parametrize("state", ["listening", "hearing", "thinking", "speaking"])
    def test_other_errors_end_nothing(self, talk, code, state):
        {
            "listening": lambda: None,
            "hearing": talk.caller_starts,
            "thinking": talk.turn,
            "speaking": talk.speaking,
        }[state]()
        before = talk.it.floor
        actions = talk.error(code)
        assert notices(actions) == [
            ("error", {"code": code or "invalid_request_error", "message": "It is wrong."})
        ]
        assert (sent(actions), failures(actions), flushes(actions)) == ([], [], 0)
        assert talk.it.floor is before

    @pytest.mark.parametrize("error", [{}, {"error": None}, {"error": {}}])
    def test_an_error_that_says_nothing(self, talk, error):
        assert talk.event("error", **error) == [Notify("error", {"code": "error", "message": ""})]


class TestTime:
    def wait(self, talk: Talk, seconds: float) -> list[str]:
        return failures(talk.later(seconds))

    def test_no_reply_in_time(self):
        talk = Talk(response_timeout_s=8).turn()
        assert self.wait(talk, 7.9) == []
        assert self.wait(talk, 0.2) == ["no reply from the model for 8 s (IVR_AI_RESPONSE_TIMEOUT_S)"]
        assert self.wait(talk, 100) == []

    def test_off(self):
        talk = Talk(response_timeout_s=0).turn()
        assert self.wait(talk, 1e6) == []

    @pytest.mark.parametrize("step", ["created", "audio"])
    def test_every_sign_of_a_reply_counts(self, talk, step):
        talk.turn()
        if step == "audio":
            talk.created()
        talk.now_s += 9
        getattr(talk, step)()
        assert self.wait(talk, 19.9) == []
        if step == "created":
            assert self.wait(talk, 0.2) != []

    def test_a_response_whose_end_is_never_told_is_over_when_no_more_comes_of_it(self, talk):
        talk.speaking()
        assert talk.later(20) == [EndItem("i1")]
        talk.heard()
        assert talk.it.is_quiet()
        assert self.wait(talk, 100) == []

    @pytest.mark.parametrize("local", LOCAL, ids=str)
    def test_an_interrupted_response_whose_end_is_never_told_keeps_nobody_waiting_for_ever(self, local):
        talk = Talk(**local)
        talk.caller_starts()
        talk.turn_ends()
        talk.created()
        talk.audio()
        talk.caller_starts()
        talk.flushed({"i1": 100})
        assert "response.create" not in types(talk.turn_ends())
        talk.later(0.1)
        assert types(talk.later(20)) == ["response.create"]

    def test_a_function_call_whose_response_is_never_said_to_be_done_is_answered(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        talk.returns()
        assert types(talk.later(20)) == ["response.create"]

    @pytest.mark.parametrize("how", ["refused", "done"])
    def test_what_is_left_when_something_is_over_is_waited_for(self, how):
        """The service begins a response by itself while one is asked for; then one of the two is over."""
        talk = Talk(barge_in=False)
        talk.created("r0", "ask_0")  # it gives back what an Ask carried
        talk.calls("c0", "r0")
        talk.done("r0")
        talk.returns("c0")
        talk.created("own")
        if how == "refused":
            talk.error("conversation_already_has_active_response", event_id="ask_1")
        else:
            talk.audio("own", "i1")
            talk.done("own")
        assert failures(talk.later(20))

    def test_a_turn_that_the_service_does_not_answer_is_asked_about_in_half_the_time(self, talk):
        talk.turn()
        assert types(talk.later(9.9)) == []
        assert types(talk.later(0.1)) == ["response.create"]
        assert self.wait(talk, 9.9) == []
        assert self.wait(talk, 0.1) != []

    @pytest.mark.parametrize("step", ["done", "caller_starts"])
    def test_nobody_waits_when_it_is_done_or_the_caller_speaks(self, talk, step):
        talk.turn()
        talk.created()
        talk.audio()
        getattr(talk, step)()
        assert self.wait(talk, 100) == []

    def test_a_long_reply_may_play_for_as_long_as_it_likes(self, talk):
        talk.speaking()
        talk.done()
        assert self.wait(talk, 500) == []

    def test_a_greeting_is_waited_for(self):
        talk = Talk(greeting="Hello.")
        talk.it.start(talk.now_s)
        assert self.wait(talk, 21) != []

    def test_a_silent_caller_is_not(self, talk):
        assert self.wait(talk, 10_000) == []


class TestTelling:
    def test_what_was_said(self, talk):
        """It is told when it has been heard, not when it has been generated."""
        talk.speaking()
        transcript = {"item_id": "i1", "transcript": "Hello there."}
        assert talk.event("response.output_audio_transcript.done", **transcript) == []
        said = Notify("ai_said", {"item": "i1", "turn": 1, "text": "Hello there."})
        assert talk.heard()[-1] == said

    def test_what_was_said_before_its_words_were_told(self, talk):
        talk.speaking()
        talk.heard()
        transcript = {"item_id": "i1", "transcript": "Hello there."}
        said = Notify("ai_said", {"item": "i1", "turn": 1, "text": "Hello there."})
        assert talk.event("response.output_audio_transcript.done", **transcript) == [said]

    def test_of_what_was_cut_only_the_words_heard(self, talk):
        talk.speaking()
        talk.event("response.output_audio_transcript.done", item_id="i1", transcript="One two three four.")
        talk.caller_starts()
        actions = talk.flushed({"i1": 500}, [mark("i1", 500, started_s=99.0, written_ms=1000)])
        said = ("ai_said", {"item": "i1", "turn": 1, "text": "One two", "cut": True})
        assert said in notices(actions)

    def test_a_transcript_belongs_to_the_turn_of_its_item(self, talk):
        talk.turn().turn()
        name = "conversation.item.input_audio_transcription.completed"
        assert notices(talk.event(name, item_id="user_1", transcript="One.")) == [
            ("caller_said", {"turn": 1, "text": "One."})
        ]
        error = {"code": "audio_unintelligible", "message": "I did not get that."}
        failed = talk.event(
            "conversation.item.input_audio_transcription.failed", item_id="user_1", error=error
        )
        assert notices(failed) == [("transcription_failed", {"turn": 1, "message": "I did not get that."})]

    def test_what_the_caller_said(self, talk):
        talk.turn().turn()
        name = "conversation.item.input_audio_transcription.completed"
        said = talk.event(name, item_id="u", transcript=" A table for two. \n")
        assert said == [Notify("caller_said", {"turn": 2, "text": "A table for two."})]
        assert talk.event(name, item_id="u", transcript=None) == [
            Notify("caller_said", {"turn": 2, "text": ""})
        ]

    def test_when_the_caller_speaks(self, talk):
        assert talk.caller_starts() == [Notify("speech_started", {"turn": 1})]
        spoke_until_s = talk.now_s - talk.settings.vad_silence_ms / 1000
        assert talk.caller_stops() == [Notify("speech_stopped", {"turn": 1}, spoke_until_s)]

    def test_responses(self, talk):
        talk.turn()
        assert talk.created("r7") == [Notify("response_started", {"response": "r7"})]
        talk.audio("r7", "i7")
        talk.done("r7", usage={"total_tokens": 250})
        talk.created("r8")
        talk.done("r8", usage=None)
        assert (talk.it.totals.responses, talk.it.totals.tokens, talk.it.totals.turns) == (2, 250, 1)

    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"type": None},
            {"type": ["response.done"]},
            {"type": "rate_limits.updated", "rate_limits": []},
            {"type": "response.output_audio_transcript.delta", "delta": "He"},
            {"type": "conversation.item.added", "item": {}},
            {"type": "something.new"},
        ],
        ids=json.dumps,
    )
    def test_what_means_nothing_here(self, talk, event):
        assert talk.adapter.on_event(event, 1.0) == []
        assert talk.it.mark(mark("nobody's"), 1.0) == []
