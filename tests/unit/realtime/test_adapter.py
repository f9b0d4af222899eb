"""OpenAI's events as what a conversation hears."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ivr_ai.config import Settings
from ivr_ai.conversation.actions import (
    Ask,
    Fail,
    Notify,
    Recall,
)
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.conversation.history import Entry
from ivr_ai.conversation.requests import Done, Trouble
from ivr_ai.realtime.adapter import (
    FATAL_CODES,
    LIMITED_CODES,
    PASSING_CODES,
    RealtimeAdapter,
    retry_after_s,
)
from ivr_ai.sim.wire import SERVER_EVENTS

NOW_S = 100.0
SILENCE_MS = 300


class Asked:
    """A stand-in for Requests: whether an Ask is out that may be refused."""

    may_be_refused = False


class Heard:
    """A stand-in for a Conversation that gives back what it was told."""

    def __init__(self) -> None:
        self.requests = Asked()
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def told(*arguments: Any) -> list[Any]:
            self.calls.append((name, *arguments))
            return [Notify(name)]

        return told


class Wire:
    """An adapter with a stand-in behind it."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.adapter = RealtimeAdapter(self.heard, SILENCE_MS)

    def event(self, kind: Any, last_speech_s: float | None = None, **body: Any) -> list[tuple[Any, ...]]:
        """What the conversation is told of an event."""
        self.heard.calls.clear()
        self.adapter.on_event({"type": kind, **body}, NOW_S, last_speech_s)
        return list(self.heard.calls)

    def error(self, code: str | None = "invalid_value", message: str = "No.", **more: Any) -> list[Any]:
        """The actions that follow from an error."""
        self.heard.calls.clear()
        error = {"type": "invalid_request_error", "code": code, "message": message, **more}
        return self.adapter.on_event({"type": "error", "error": error}, NOW_S)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def done(wire: Wire, **response: Any) -> Done:
    """A response.done as the conversation is told it."""
    ((name, told, now_s),) = wire.event("response.done", response={"id": "r1", **response})
    assert (name, now_s) == ("response_done", NOW_S)
    return told


class TestEvents:
    @pytest.mark.parametrize(
        ("kind", "body", "told"),
        [
            ("input_audio_buffer.speech_started", {"item_id": "u1"}, ("caller_started", NOW_S, "u1")),
            ("input_audio_buffer.speech_started", {}, ("caller_started", NOW_S, "")),
            ("input_audio_buffer.speech_started", {"item_id": None}, ("caller_started", NOW_S, "")),
            ("input_audio_buffer.committed", {"item_id": "u1"}, ("turn_committed", "u1")),
            ("response.created", {"response": {"id": "r1"}}, ("response_created", "r1", "", NOW_S)),
            (
                "response.created",
                {"response": {"id": "r1", "metadata": {"ivr_ai_ask": "ask_3"}}},
                ("response_created", "r1", "ask_3", NOW_S),
            ),
            (
                "response.output_item.added",
                {"response_id": "r1", "item": {"id": "i1", "type": "message"}},
                ("item_added", "r1", "i1", NOW_S),
            ),
            ("response.output_audio.done", {"response_id": "r1", "item_id": "i1"}, ("audio_ended", "i1")),
            (
                "response.output_audio_transcript.done",
                {"item_id": "i1", "transcript": "Hello."},
                ("item_text", "i1", "Hello."),
            ),
            ("response.output_audio_transcript.done", {"item_id": "i1"}, ("item_text", "i1", "")),
            (
                "response.function_call_arguments.done",
                {"response_id": "r1", "call_id": "c1", "name": "f", "arguments": "{}"},
                ("function_called", "r1", "c1", "f", "{}", NOW_S),
            ),
            (
                "conversation.item.input_audio_transcription.completed",
                {"item_id": "u1", "transcript": "Hi."},
                ("caller_said", "u1", "Hi."),
            ),
            (
                "conversation.item.input_audio_transcription.failed",
                {"item_id": "u1", "error": {"code": "audio_unintelligible", "message": "Too noisy."}},
                ("caller_not_understood", "u1", "Too noisy."),
            ),
            (
                "conversation.item.input_audio_transcription.failed",
                {"item_id": "u1", "error": {"code": "audio_unintelligible"}},
                ("caller_not_understood", "u1", "audio_unintelligible"),
            ),
            (
                "conversation.item.input_audio_transcription.failed",
                {"item_id": "u1"},
                ("caller_not_understood", "u1", "no reason given"),
            ),
        ],
    )
    def test_what_the_conversation_is_told(self, wire, kind, body, told):
        assert wire.event(kind, event_id="e1", **body) == [told]

    @pytest.mark.parametrize(
        ("last_speech_s", "told_s"), [(None, NOW_S - SILENCE_MS / 1000), (98.76, 98.76), (0.0, 0.0)]
    )
    def test_a_turn_ended_when_the_line_says_so_or_else_its_silence_before(self, wire, last_speech_s, told_s):
        told = wire.event("input_audio_buffer.speech_stopped", last_speech_s, item_id="u1")
        assert told == [("caller_stopped", NOW_S, told_s, "u1")]

    @pytest.mark.parametrize("kind", ["function_call", "function_call_output", "mcp_call", None])
    def test_only_messages_are_spoken_items(self, wire, kind):
        assert (
            wire.event("response.output_item.added", response_id="r1", item={"id": "i", "type": kind}) == []
        )

    @pytest.mark.parametrize(
        "metadata", [None, {}, {"ivr_ai_ask": None}, {"ivr_ai_ask": 7}, {"other": "ask_1"}, "ask_1", []]
    )
    def test_metadata_of_others_tells_nothing(self, wire, metadata):
        response = {"id": "r1", "metadata": metadata}
        assert wire.event("response.created", response=response) == [("response_created", "r1", "", NOW_S)]

    @pytest.mark.parametrize(
        "kind", [None, 7, "", "response.created ", "session.created", "transport.audio", []]
    )
    def test_other_events_mean_nothing_here(self, wire, kind):
        assert wire.event(kind, response={"id": "r1"}) == []

    def test_every_event_that_means_something_is_asked_for_by_the_name_servers_send(self):
        ours = RealtimeAdapter.EVENTS
        assert set(SERVER_EVENTS) >= ours
        assert {"session.created", "session.updated", "error", "response.done"} < ours
        assert not [kind for kind in ours if kind.endswith(".delta")]

    def test_what_cannot_be_read_is_told_by_the_documented_exceptions_only(self):
        """Whatever a server puts where; the call's complaint names the event."""
        junk: list[Any] = [None, 7, "x", [], {}, [7], {"id": 7}, {"a": {}}, float("nan"), True]
        names = ["item_id", "response_id", "call_id", "name", "arguments", "transcript", "error", "item"]
        names += ["response", "rate_limits"]
        random_ = random.Random(7)
        for _ in range(5000):
            wire = Wire()
            wire.heard.requests.may_be_refused = random_.random() < 0.5
            body = {name: random_.choice(junk) for name in random_.sample(names, 4)}
            inner = [
                "id",
                "status",
                "status_details",
                "usage",
                "metadata",
                "type",
                "code",
                "message",
                "param",
            ]
            for name in ("response", "error", "item"):
                if random_.random() < 0.5:
                    body[name] = {each: random_.choice(junk) for each in random_.sample(inner, 4)}
            try:
                wire.event(random_.choice(sorted(RealtimeAdapter.EVENTS)), **body)
            except (AttributeError, KeyError, TypeError, ValueError):
                continue

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("input_audio_buffer.speech_started", {"item_id": 7}),
            ("response.created", {"response": None}),
            ("response.created", {"response": {"id": ["r1"]}}),
            ("response.output_item.added", {"response_id": {}, "item": {"id": "i", "type": "message"}}),
            ("response.done", {"response": "r1"}),
            ("error", {"error": "it broke"}),
            ("rate_limits.updated", {"rate_limits": [{"remaining": 0, "reset_seconds": "soon"}]}),
        ],
    )
    def test_a_malformed_event_tells_the_conversation_nothing(self, wire, kind, body):
        with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
            wire.event(kind, **body)
        assert wire.heard.calls == []


class TestRepeated:
    STARTED = "input_audio_buffer.speech_started"

    def test_an_event_that_comes_twice_is_taken_once(self, wire):
        assert wire.event(self.STARTED, event_id="e1", item_id="u1") != []
        assert wire.event(self.STARTED, event_id="e1", item_id="u1") == []
        assert wire.event(self.STARTED, event_id="e2", item_id="u1") != []

    def test_all_events_of_a_server_with_one_id_for_all(self, wire):
        for turn in ("u1", "u2", "u3"):
            assert wire.event(self.STARTED, event_id="e", item_id=turn) != []
            assert wire.event("input_audio_buffer.speech_stopped", event_id="e", item_id=turn) != []
            assert wire.event("response.created", event_id="e", response={"id": f"r{turn}"}) != []
            assert wire.event("response.done", event_id="e", response={"id": f"r{turn}"}) != []


class TestDone:
    def test_a_completed_response(self, wire):
        told = done(wire, status="completed", usage={"total_tokens": 321}, metadata={"ivr_ai_ask": "ask_1"})
        assert told == Done("r1", request_id="ask_1", tokens=321)

    @pytest.mark.parametrize("usage", [None, {}, [], "many", {"total_tokens": None}, {"total_tokens": "9"}])
    @pytest.mark.parametrize("details", [None, {}, [], "why", {"reason": None}])
    def test_what_it_can_do_without(self, wire, usage, details):
        assert done(wire, status="completed", usage=usage, status_details=details) == Done("r1")

    @pytest.mark.parametrize(
        ("reason", "interrupted"), [("turn_detected", True), ("client_cancelled", False), (None, False)]
    )
    def test_a_cancelled_one(self, wire, reason, interrupted):
        told = done(wire, status="cancelled", status_details={"type": "cancelled", "reason": reason})
        assert (told.cancelled, told.interrupted, told.trouble) == (True, interrupted, None)

    def test_an_incomplete_one_is_no_failure_of_its_own(self, wire):
        told = done(wire, status="incomplete", status_details={"reason": "max_output_tokens"})
        assert told == Done("r1")

    @pytest.mark.parametrize(
        ("error", "trouble"),
        [
            ({"code": "c", "message": "m"}, Trouble("c", "m")),
            ({"type": "server_error", "message": "m"}, Trouble("server_error", "m", passing=True)),
            ({"code": None, "type": "t"}, Trouble("t", "the response failed")),
            ({}, Trouble("response_failed", "the response failed")),
            (None, Trouble("response_failed", "the response failed")),
            ("it broke", Trouble("response_failed", "the response failed")),
            (
                {"code": "rate_limit_exceeded", "message": "Please try again in 1.6s."},
                Trouble("rate_limit_exceeded", "Please try again in 1.6s.", True, True, 1.6),
            ),
        ],
    )
    def test_a_failed_one_says_why(self, wire, error, trouble):
        told = done(wire, status="failed", status_details={"type": "failed", "error": error})
        assert (told.trouble, told.fatal) == (trouble, False)

    @pytest.mark.parametrize("code", sorted(FATAL_CODES))
    def test_a_failure_after_which_none_will_succeed(self, wire, code):
        told = done(wire, status="failed", status_details={"error": {"code": code, "message": "No."}})
        assert told.fatal
        assert not told.trouble.passing

    @pytest.mark.parametrize("code", sorted(PASSING_CODES))
    def test_a_failure_that_may_pass(self, wire, code):
        told = done(wire, status="failed", status_details={"error": {"code": code, "message": "No."}})
        assert (told.trouble.passing, told.trouble.limited) == (True, code in LIMITED_CODES)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("message", "seconds"),
        [
            ("Rate limit reached. Please try again in 1.6s. Visit https://x/y to learn more.", 1.6),
            ("Please try again in 20s.", 20.0),
            ("Please try again in 120ms.", 0.12),
            ("Please try again in 1m2s.", 62.0),
            ("Please try again in 6m0s.", 360.0),
            ("Please try again in 1h12m0.5s.", 4320.5),
            ("please TRY AGAIN IN 2 S", 2.0),
            ("Try again in 20 seconds.", 20.0),
            ("Try again in 1 minute and 5 seconds.", 65.0),
            ("Try again in 1 min, 5 sec.", 65.0),
            ("Try again in 250 milliseconds", 0.25),
            ("Please retry after 26 seconds.", 26.0),
            ("Retry in 3s", 3.0),
            ("Try again in 0s", 0.0),
            ("Try again  in\n3s", 3.0),
            ("Please try again later.", None),
            ("Please try again in a moment.", None),
            ("Please try again in 3.", None),
            ("Please try again in 3 days.", None),
            ("try again in s", None),
            ("It took 3s.", None),
            ("", None),
        ],
    )
    def test_how_it_is_said(self, message, seconds):
        assert retry_after_s(message) == (None if seconds is None else pytest.approx(seconds))

    @pytest.mark.parametrize(
        "message",
        [
            "try again in " * 40_000,
            "try again in " + "1" * 400_000,
            "try again in " + "1a" * 200_000,
            "try again in 1" + " " * 400_000,
            "try again in 1s" + " ," * 200_000,
        ],
    )
    def test_a_long_message_takes_no_long_time(self, message):
        """Linear: quadratic would be minutes."""
        retry_after_s(message)


class TestRateLimits:
    def limited(
        self, wire: Wire, message: str = "Rate limit reached.", code="rate_limit_exceeded"
    ) -> Trouble:
        return done(
            wire, status="failed", status_details={"error": {"code": code, "message": message}}
        ).trouble

    def limits(self, wire: Wire, *limits: Any) -> None:
        assert wire.event("rate_limits.updated", rate_limits=list(limits)) == []

    def test_the_limit_that_is_used_up_says_when(self, wire):
        self.limits(
            wire,
            {"name": "requests", "remaining": 0, "reset_seconds": 1.5},
            {"name": "tokens", "remaining": 0, "reset_seconds": 7},
            {"name": "other", "remaining": 5, "reset_seconds": 60},
        )
        assert self.limited(wire).retry_after_s == 7.0

    def test_the_message_knows_better(self, wire):
        self.limits(wire, {"remaining": 0, "reset_seconds": 7})
        assert self.limited(wire, "Please try again in 2s.").retry_after_s == 2.0

    def test_other_failures_do_not_wait_for_it(self, wire):
        self.limits(wire, {"remaining": 0, "reset_seconds": 7})
        assert self.limited(wire, code="server_error").retry_after_s is None

    @pytest.mark.parametrize(
        "then",
        [[], [{"remaining": 5, "reset_seconds": 9}], [{"remaining": 0, "reset_seconds": float("nan")}]],
    )
    def test_a_later_word_counts(self, wire, then):
        self.limits(wire, {"remaining": 0, "reset_seconds": 7})
        self.limits(wire, *then)
        assert self.limited(wire).retry_after_s is None

    def test_a_time_that_is_over_says_nothing(self, wire):
        self.limits(wire, {"remaining": 0, "reset_seconds": -3})
        assert self.limited(wire).retry_after_s is None

    def test_nothing_said(self, wire):
        assert wire.event("rate_limits.updated") == []
        assert self.limited(wire).retry_after_s is None


def notice(kind: str, code: str = "invalid_value", message: str = "No.") -> Notify:
    return Notify(kind, {"code": code, "message": message})


class TestErrors:
    @pytest.mark.parametrize("code", sorted(FATAL_CODES))
    @pytest.mark.parametrize("about", [None, "ask_1", "late_1", "item_1"])
    def test_one_after_which_nothing_goes_ends_the_call_whatever_it_is_about(self, wire, code, about):
        assert wire.error(code, event_id=about) == [
            notice("error", code),
            Fail(f"the server says {code}: No."),
        ]

    def test_a_refused_ask_is_known_by_its_id(self, wire):
        assert wire.error(event_id="ask_7") == [notice("error"), Notify("request_refused")]
        assert wire.heard.calls == [
            ("request_refused", "ask_7", Trouble("invalid_value", "No."), False, NOW_S)
        ]

    def test_an_ask_that_was_in_the_way_of_another_response_is_no_news(self, wire):
        code = "conversation_already_has_active_response"
        assert wire.error(code, event_id="ask_7") == [notice("late", code), Notify("request_refused")]
        assert wire.heard.calls[0][3] is True

    @pytest.mark.parametrize("code", ["response_cancel_not_active", "item_truncate_invalid_item_id", None])
    def test_what_came_too_late_is_no_news(self, wire, code):
        assert wire.error(code, event_id="late_2") == [notice("late", code or "invalid_request_error")]

    @pytest.mark.parametrize("about", ["item_3", "update_1", "evt_of_somebody", "", None])
    def test_others_are_told(self, wire, about):
        assert wire.error(event_id=about) == [notice("error")]

    @pytest.mark.parametrize("code", ["session_expired", "cannot_update_voice"])
    def test_what_the_link_sees_to_ends_nothing_here(self, wire, code):
        assert wire.error(code) == [notice("error", code)]

    @pytest.mark.parametrize(
        "code", ["conversation_already_has_active_response", "server_error", "rate_limit_exceeded"]
    )
    def test_without_an_id_one_that_can_only_be_about_our_ask_refuses_it(self, wire, code):
        wire.heard.requests.may_be_refused = True
        assert wire.error(code) == [notice("error", code), Notify("request_refused")]
        busy = code == "conversation_already_has_active_response"
        ((_, request_id, trouble, told_busy, _),) = wire.heard.calls
        assert (request_id, trouble.code, told_busy) == ("", code, busy)

    @pytest.mark.parametrize("code", ["conversation_already_has_active_response", "server_error"])
    def test_where_nothing_was_asked_it_refuses_nothing(self, wire, code):
        assert wire.error(code) == [notice("error", code)]

    def test_without_an_id_any_other_refuses_nothing(self, wire):
        wire.heard.requests.may_be_refused = True
        assert wire.error("invalid_value") == [notice("error")]

    @pytest.mark.parametrize("error", [None, {}])
    def test_an_error_that_says_nothing(self, wire, error):
        assert wire.adapter.on_event({"type": "error", "error": error}, NOW_S) == [
            notice("error", "error", "")
        ]

    @pytest.mark.parametrize(
        "more", [{"param": "response.metadata"}, {"message": "Unknown parameter: 'response.metadata'."}]
    )
    def test_a_server_that_takes_no_metadata_is_asked_again_without(self, wire, more):
        assert wire.adapter.encode(Ask("ask_1"))[0]["response"] == {"metadata": {"ivr_ai_ask": "ask_1"}}
        wire.error("unknown_parameter", event_id="ask_1", **more)
        trouble = wire.heard.calls[0][2]
        assert (trouble.passing, trouble.retry_after_s) == (True, 0.0)
        assert wire.adapter.encode(Ask("ask_2")) == [{"type": "response.create", "event_id": "ask_2"}]
        wire.error("unknown_parameter", event_id="ask_2", **more)
        assert not wire.heard.calls[0][2].passing

    def test_with_the_conversation_behind_it(self):
        """Two refusals of what will not pass by itself, and the call ends with the server's words."""
        settings = Settings(realtime_url="ws://localhost/", greeting="Hello.")
        talk = Conversation(settings)
        adapter = RealtimeAdapter(talk, SILENCE_MS)
        (_, ask) = talk.start(NOW_S)
        actions: list[Any] = []
        for n in (1, 2):
            assert ask == Ask(f"ask_{n}", "Hello.")
            error = {"code": "invalid_value", "message": "I say nothing.", "event_id": ask.request_id}
            _, *actions = adapter.on_event({"type": "error", "error": error}, NOW_S)
            ask = actions[-1]
        assert actions == [Fail("the model could not reply: invalid_value: I say nothing.")]


def test_a_recall_is_the_history_replayed():
    """An output whose call is not known is left out of both."""
    entries = (
        Entry("user", "What about Sunday?", "u1"),
        Entry("call", "{}", call_id="c1", name="hours"),
        Entry("output", "{}", call_id="c1"),
        Entry("output", "{}", call_id="c0"),
        Entry("assistant", "We are closed on Sundays.", "i1", 0.6),
    )
    recalled, replayed = (RealtimeAdapter(Heard(), SILENCE_MS) for _ in range(2))
    events = recalled.encode(Recall(entries))
    assert events == replayed.replay(list(entries))
    assert [event["item"]["type"] for event in events] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
