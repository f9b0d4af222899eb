"""Responses that fail, bring nothing or are refused: when they are asked for again, and when that ends."""

from __future__ import annotations

import pytest
from talk import Talk, asks, failures, notices, sent, types

from ivr_ai.conversation.actions import Ask
from ivr_ai.conversation.floor import Floor

BUSY = "conversation_already_has_active_response"
LIMITED, BROKEN = "rate_limit_exceeded", "server_error"
INVALID = "invalid_value"  # for a reason that will not pass


def greeted(**settings) -> Talk:
    """A greeting has been asked for: ask_1."""
    talk = Talk(**{"greeting": "Say hello.", **settings})
    assert asks(talk.it.start(talk.now_s)) == [Ask("ask_1", "Say hello.")]
    return talk


def asked_after(talk: Talk, seconds: float) -> list[Ask]:
    """What is asked for `seconds` later; a moment before, nothing is."""
    if seconds:
        assert asks(talk.later(seconds - 0.01)) == []
        seconds = 0.01
    return asks(talk.later(seconds))


class TestFailedResponses:
    def test_a_rate_limit_is_waited_for_as_long_as_told_and_the_same_is_asked_again(self):
        talk = greeted()
        talk.created("r1", "ask_1")
        actions = talk.failed("r1", LIMITED, "Rate limit reached. Please try again in 1.6s.")
        assert (asks(actions), failures(actions)) == ([], [])
        assert asked_after(talk, 1.6) == [Ask("ask_2", "Say hello.")]

    def test_a_rate_limit_that_only_rate_limits_updated_has_told(self, talk):
        talk.turn()
        talk.created()
        limits = [
            {"name": "requests", "limit": 10, "remaining": 3, "reset_seconds": 60},
            {"name": "tokens", "limit": 100, "remaining": 0, "reset_seconds": 2.5},
        ]
        talk.event("rate_limits.updated", rate_limits=limits)
        assert asks(talk.failed("r1", LIMITED)) == []
        assert len(asked_after(talk, 2.5)) == 1

    @pytest.mark.parametrize(("code", "waits_s"), [(LIMITED, [1, 2, 4, 8]), (BROKEN, [0, 1, 2, 4, 8])])
    def test_untold_times_grow_until_the_time_for_it_is_over(self, talk, code, waits_s):
        """20 s of IVR_AI_RESPONSE_TIMEOUT_S hold 1 + 2 + 4 + 8, and not 16 more."""
        talk.turn()
        for n, wait_s in enumerate(waits_s):
            talk.created(f"r{n}")
            actions = talk.failed(f"r{n}", code)
            again = asks(actions) if wait_s == 0 else asked_after(talk, wait_s)
            assert len(again) == 1, f"try {n}"
            assert failures(actions) == []
        talk.created("last")
        assert failures(talk.failed("last", code)) == [f"the model could not reply: {code}: It broke."]

    def test_a_told_time_beyond_the_limit_is_not_waited_for(self, talk):
        talk.turn()
        talk.created()
        actions = talk.failed("r1", LIMITED, "Please try again in 1m2s.")
        assert len(failures(actions)) == 1

    @pytest.mark.parametrize("told", ["Please try again in 0s.", "Please try again in 0ms."])
    def test_a_time_that_has_come_already_is_no_reason_to_hammer_at_the_service(self, talk, told):
        talk.turn()
        tries, actions = 0, []
        while tries < 100 and not failures(actions):
            if talk.it.requests.asked is not None or tries == 0:
                talk.created(f"r{tries}")
                actions = talk.failed(f"r{tries}", LIMITED, told)
                tries += 1
            else:
                talk.later(0.05)
        assert tries == 5

    def test_a_passing_failure_is_none_of_the_two_tries(self, talk):
        talk.turn()
        talk.created("r1")
        assert asks(talk.failed("r1", BROKEN))
        talk.created("r2")
        assert asks(talk.failed("r2", INVALID))
        talk.created("r3")
        assert failures(talk.failed("r3", INVALID)) == ["the model could not reply: invalid_value: It broke."]

    def test_with_no_response_timeout_passing_failures_are_given_a_minute(self):
        talk = Talk(response_timeout_s=0).turn()
        began_s = talk.now_s
        for n in range(20):
            talk.created(f"r{n}")
            if failures(talk.failed(f"r{n}", BROKEN)):
                break
            talk.later(0 if n == 0 else 2.0 ** (n - 1))
        assert 30 < talk.now_s - began_s <= 60

    def test_the_caller_who_speaks_meanwhile_is_answered_instead(self, talk):
        talk.turn()
        talk.created()
        talk.failed("r1", LIMITED)
        talk.turn()
        assert asks(talk.later(2)) == []
        talk.created("r2")
        talk.audio("r2", "i2")
        assert talk.done("r2")
        assert asks(talk.later(10)) == []

    def test_what_failed_after_it_spoke_is_asked_for_again_too(self, talk):
        talk.speaking()
        assert types(talk.failed("r1", BROKEN)) == ["response.create"]

    def test_nobody_waits_for_a_response_that_the_service_began_by_itself(self, talk):
        talk.created("idle")
        assert (sent(talk.done("idle")), sent(talk.later(5))) == ([], [])


class TestResponsesWithoutAudio:
    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            ("completed", None),
            ("incomplete", "max_output_tokens"),
            ("incomplete", "content_filter"),
            ("cancelled", "client_cancelled"),
        ],
    )
    def test_are_asked_for_once_more_and_then_fail(self, talk, status, reason):
        talk.turn()
        details = {"status_details": {"type": status, "reason": reason}} if reason else {}
        talk.created("r1")
        actions = talk.done("r1", status, **details)
        assert notices(actions) == [("error", {"code": "no_audio", "message": "the response has no audio"})]
        assert len(asks(actions)) == 1
        talk.created("r2")
        reasons = failures(talk.done("r2", status, **details))
        assert reasons == ["the model could not reply: no_audio: the response has no audio"]

    def test_cancelled_because_the_caller_speaks_is_the_turns_to_answer(self, talk):
        talk.turn()
        talk.created()
        assert talk.cancelled() == []
        talk.turn()
        assert asks(talk.later(2)) == []

    def test_one_that_calls_a_function_has_brought_something(self, talk):
        talk.turn()
        talk.created()
        talk.calls()
        assert talk.done() == []

    def test_the_latency_counts_up_to_the_response_that_says_something(self, talk):
        talk.turn()
        talk.created("r1")
        talk.done("r1")
        talk.created("r2")
        talk.audio("r2", "i2")
        talk.done("r2")
        talk.heard("i2", started_s=talk.now_s + 0.2, finished_s=talk.now_s + 1)
        assert talk.it.totals.turn_latencies_ms == [500.0]  # 0.3 s for the silence that ends a turn


class TestRefusals:
    def test_by_id_it_is_known_at_once(self):
        talk = greeted()
        assert asks(talk.error(INVALID, event_id="ask_1")) == [Ask("ask_2", "Say hello.")]
        assert failures(talk.error(INVALID, event_id="ask_2")) == [
            "the model could not reply: invalid_value: It is wrong."
        ]

    def test_without_an_id_a_passing_one_is_about_what_is_asked_for(self):
        talk = greeted()
        assert asks(talk.error(LIMITED, "Please try again in 120ms.")) == []
        assert asked_after(talk, 0.12) == [Ask("ask_2", "Say hello.")]

    def test_without_an_id_any_other_is_about_nothing_here(self):
        talk = greeted()
        actions = talk.error("cannot_update_voice")
        assert (asks(actions), failures(actions)) == ([], [])
        assert talk.it.floor is Floor.THINKING

    def test_of_metadata_asks_without_and_for_good(self):
        talk = greeted()
        assert talk.adapter.encode(Ask("ask_1"))[0]["response"]["metadata"] == {"ivr_ai_ask": "ask_1"}
        again = asks(talk.error("unknown_parameter", param="response.metadata", event_id="ask_1"))
        assert again == [Ask("ask_2", "Say hello.")]
        assert talk.adapter.encode(again[0]) == [
            {"type": "response.create", "event_id": "ask_2", "response": {"instructions": "Say hello."}}
        ]

    def test_because_a_response_is_under_way_waits_for_its_end(self):
        talk = greeted()
        talk.created("own")  # taken for the answer, until the refusal says that it is none
        assert asks(talk.error(BUSY, event_id="ask_1")) == []
        talk.audio("own", "i1")
        assert asks(talk.done("own")) == [Ask("ask_2", "Say hello.")]

    def test_because_of_one_that_nobody_has_told_of_yet_waits_for_a_second(self):
        talk = greeted()
        assert asks(talk.error(BUSY, event_id="ask_1")) == []
        assert asked_after(talk, 1.0) == [Ask("ask_2", "Say hello.")]

    def test_because_of_one_that_is_never_told_of_gives_up_in_time(self):
        talk = greeted()
        began_s, reasons = talk.now_s, []
        for n in range(1, 100):
            reasons = failures(talk.error(BUSY, event_id=f"ask_{n}"))
            if reasons:
                break
            talk.later(1.0)
        assert reasons == [f"the model could not reply: {BUSY}: It is wrong."]
        assert 15 < talk.now_s - began_s <= 20

    def test_of_a_reply_is_satisfied_by_the_services_own(self):
        talk = Talk(barge_in=False)
        assert asks(talk.turn().later(0)) == []
        talk.created("own")
        talk.error(BUSY, event_id="ask_1")
        talk.audio("own", "i1")
        assert asks(talk.done("own")) == []
        assert asks(talk.later(5)) == []

    def test_of_an_overtaken_request_asks_for_nothing(self, talk):
        talk.turn()
        talk.created()
        talk.done()
        talk.caller_starts()
        talk.flushed({})
        assert asks(talk.error(INVALID, event_id="ask_1")) == []
        assert failures(talk.error(INVALID, event_id="ask_1")) == []
        talk.caller_stops()
        assert asks(talk.later(3)) == []
        assert talk.created("r2")
        assert talk.audio("r2", "i2") is not None

    @pytest.mark.parametrize("code", [BUSY, LIMITED, BROKEN, INVALID])
    def test_of_somebody_elses_request_is_nothing_here(self, talk, code):
        talk.speaking()
        assert sent(talk.error(code, event_id="somebody_7")) == []
        assert sent(talk.done()) == []
        assert sent(talk.later(5)) == []

    @pytest.mark.parametrize("kind", ["response_cancel_not_active", "item_not_found"])
    def test_of_what_came_too_late_is_told_as_late(self, talk, kind):
        assert notices(talk.error(kind, event_id="late_3")) == [
            ("late", {"code": kind, "message": "It is wrong."})
        ]
