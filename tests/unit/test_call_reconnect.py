"""Calls whose connection to the model is lost: it is made again, and the conversation goes on."""

from __future__ import annotations

import os
import random
import threading
import time
from array import array

import pytest
from calls import (
    APPEND,
    GONE_S,
    LINE,
    SAYS,
    SORRY,
    asked,
    errors,
    given_history,
    lengths_ms,
    statuses,
    wait_for,
)

from ivr_ai.audio.stream import open_streams
from ivr_ai.gateways.caller import Say
from ivr_ai.sim.faults import Faults

GAP_MS = 1000  # until the model hears the caller again
WORDS = {
    "turn": [
        {"on": "greeting", "say": "Welcome to the harbour office."},
        {"heard": "A table for two.", "say": "At what time?"},
        {"heard": "At eight.", "say": "Eight it is."},
        {"heard": "Thank you.", "say": "Goodbye."},
    ]
}
EXPIRED = {"type": "error", "error": {"type": "invalid_request_error", "code": "session_expired"}}


def expire(session) -> None:
    session.send(EXPIRED)
    session.close(1001)


LOSSES = {
    "reset": lambda session: session.drop(),
    "1001": lambda session: session.close(1001),
    "1011": lambda session: session.close(1011, "internal error"),
    "1012": lambda session: session.close(1012),
    "1013": lambda session: session.close(1013),
    "session_expired": expire,
}


def noise(ms: int, seed: int = 1) -> bytes:
    """Loud, and like nothing else."""
    each = random.Random(seed)
    return array("h", (each.randrange(-8000, 8000) for _ in range(8 * ms))).tobytes()


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


@pytest.fixture
def talk(place, sim):
    """A call whose first turn has been answered, and its server."""

    def begin(faults: Faults | None = None, voice: str = "tone:440:300", **settings):
        server = sim(dialogue=WORDS, voice=voice, faults=faults)
        settings = {"transcription_model": "any", **settings}
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], **settings)
        placed.wait("ai_said", 2 if settings.get("greeting") else 1)
        placed.wait("caller_said")
        return placed, server

    return begin


def end(placed, server):
    """The caller hangs up; nothing is left, and no later session has complained. The record."""
    assert placed.of("failure") == []
    hung_up_s = placed.hang_up()
    record = placed.finish()
    assert placed.gone_after_s(hung_up_s) < GONE_S
    for session in server.sessions:
        session.wait_closed()
    assert [errors(session) for session in server.sessions[1:]] == [[]] * (len(server.sessions) - 1)
    return record


class TestItIsMadeAgain:
    @pytest.mark.parametrize("how", LOSSES)
    def test_in_silence(self, talk, how):
        """The new session is told what was said, asked for nothing, and answers the caller's next words."""
        placed, server = talk()
        LOSSES[how](server.sessions[0])
        assert placed.wait("reconnected").data["ms"] < GAP_MS
        placed.say(SAYS)
        said = placed.wait("ai_said", 2)
        assert said.turn == 2
        record = end(placed, server)
        first, second = server.sessions
        assert given_history(second) == [("user", "A table for two."), ("assistant", "At what time?")]
        assert asked(second) == []
        assert second.first_update["session"]["audio"] == first.first_update["session"]["audio"]
        assert record.result.turns == 2
        assert lengths_ms(record.recording.ai) == pytest.approx([300, 300], abs=25)
        kinds = placed.kinds()
        assert kinds.index("reconnecting") < kinds.index("reconnected")
        assert kinds.count("connected") == 2

    @pytest.mark.parametrize("settings", [{"turn_detection": "none"}, {"input_mode": "item"}], ids=str)
    def test_where_turns_are_decided_here(self, talk, settings):
        placed, server = talk(**settings)
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.say(SAYS)
        placed.wait("ai_said", 2)
        end(placed, server)
        first, second = server.sessions
        assert given_history(second)[:2] == [("user", "A table for two."), ("assistant", "At what time?")]
        assert (len(asked(first)), len(asked(second))) == (1, 1)

    def test_in_the_beta_dialect(self, place, sim):
        server = sim(dialogue=WORDS, dialect="beta", voice="tone:440:300")
        settings = {"dialect": "beta", "transcription_model": "any"}
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], **settings)
        placed.wait("ai_said")
        placed.wait("caller_said")
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.say(SAYS)
        placed.wait("ai_said", 2)
        end(placed, server)

    def test_a_server_that_stops_answering_pings(self, talk):
        placed, server = talk(ping_interval_s=0.3, ping_timeout_s=0.2)
        server.sessions[0].stall()
        stalled_s = time.monotonic()
        lost = placed.wait("reconnecting")
        assert "ping" in lost.data["reason"]
        assert lost.at_s - stalled_s < 0.3 + 0.2 + 2 * 0.25 + 0.3  # interval, time-out, looks of the watch
        assert placed.wait("reconnected").data["ms"] < GAP_MS
        placed.say(SAYS)
        placed.wait("ai_said", 2)
        placed.hang_up()
        placed.finish()
        assert placed.of("failure") == []

    def test_in_a_reply_that_has_not_all_come(self, place, sim):
        """What is queued plays on; the reply is asked for again."""
        server = sim(dialogue=WORDS, voice="tone:440:2000", pace=1.5)
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], transcription_model="any")
        placed.wait("heard")
        placed.wait("caller_said")
        server.sessions[0].drop()
        placed.wait("reconnected")
        assert placed.wait("ai_said").data["text"]
        wait_for(lambda: len(placed.of("item_finished")) == 2)
        end(placed, server)
        assert given_history(server.sessions[1]) == [("user", "A table for two.")]
        assert asked(server.sessions[1]) == [""]
        assert statuses(server.sessions[1]) == ["completed"]

    def test_in_a_reply_that_has_all_come(self, talk, place, sim):
        """It plays to its end, counts as heard, and is asked for no more."""
        server = sim(dialogue=WORDS, voice="tone:440:3000")
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], transcription_model="any")
        placed.wait("heard")
        placed.wait("caller_said")
        server.sessions[0].wait_sent("response.done")
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.wait("ai_said")
        record = end(placed, server)
        assert asked(server.sessions[1]) == []
        assert given_history(server.sessions[1]) == [
            ("user", "A table for two."),
            ("assistant", "At what time?"),
        ]
        assert lengths_ms(record.recording.ai) == pytest.approx([3000], abs=25)

    def test_before_a_reply_that_is_awaited_has_begun(self, talk):
        placed, server = talk()
        server.faults = Faults()
        placed.say(SAYS)
        placed.wait("speech_stopped", 2)
        server.sessions[0].drop()
        placed.wait("ai_said", 2)
        end(placed, server)

    def test_only_what_was_heard_of_a_cut_reply_is_given_back(self, place, sim):
        words = " ".join(f"word{n}" for n in range(40))
        server = sim(dialogue={"turn": [{"heard": "Go.", "say": words}]}, voice="tone:440:4000")
        script = [Say(SAYS, "answer", delay_ms=100), Say(SAYS, "reply_start", delay_ms=1000)]
        placed = place(server, script, transcription_model="any")
        cut = placed.wait("ai_said")
        assert cut.data["cut"]
        placed.wait("ai_said", 2)
        placed.wait("caller_said", 2)
        server.sessions[0].drop()
        placed.wait("reconnected")
        end(placed, server)
        history = given_history(server.sessions[1])
        heard = cut.data["text"]
        assert history == [("user", "Go."), ("assistant", heard), ("user", "Go."), ("assistant", words)]
        assert 5 <= len(heard.split()) <= 30

    @pytest.mark.parametrize("later", [1, 2])
    def test_again_while_the_new_connection_is_being_used_for_the_first_time(self, talk, later):
        """The session is accepted, and the connection lost before the history has gone over it."""
        placed, server = talk()
        server.faults = Faults(first_connections=1 + later, close_after_event="session.updated")
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.say(SAYS)
        placed.wait("ai_said", 2)
        end(placed, server)

    def test_the_very_first_connection_before_it_was_used(self, place, sim):
        server = sim(dialogue=WORDS, faults=Faults(first_connections=1, close_after_event="session.updated"))
        placed = place(server, greeting="Say hello.", greeting_interruptible=False)
        placed.wait("ai_said")
        end(placed, server)
        assert sum(map(len, map(asked, server.sessions))) <= 2


class TestWhatTheCallerSays:
    def test_while_they_speak_goes_on_in_the_new_session(self, talk):
        """The new session hears the whole turn, without a gap, and answers once."""
        placed, server = talk()
        placed.say(noise(6000))
        placed.wait("speech_started", 2)
        wait_for(lambda: server.sessions[0].audio_ms > 2000)
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.wait("ai_said", 2)
        record = end(placed, server)
        before, after = (session.audio for session in server.sessions)
        said = record.recording.caller
        assert said.index(after) <= said.index(before) + len(before)
        assert max(lengths_ms(after)) == pytest.approx(6000, abs=25)
        assert statuses(server.sessions[1]) == ["completed"]

    def test_in_the_gap_reaches_the_new_session_once(self, talk):
        placed, server = talk(Faults(first_connections=1))
        server.faults = Faults(connect_delay_ms=400)
        server.sessions[0].drop()
        placed.wait("reconnecting")
        words = noise(500)
        placed.say(words)
        placed.wait("ai_said", 2)
        record = end(placed, server)
        assert 400 <= placed.of("reconnected")[0].data["ms"] < 400 + GAP_MS
        assert record.result.turns == 2
        heard, said = server.sessions[1].audio, record.recording.caller
        assert heard in said
        assert lengths_ms(heard) == pytest.approx([500], abs=25)
        assert record.result.dropped_ms == 0

    @pytest.mark.parametrize("settings", [{"turn_detection": "none"}, {"input_mode": "item"}], ids=str)
    def test_in_the_gap_where_turns_are_decided_here(self, talk, settings):
        placed, server = talk(**settings)
        server.faults = Faults(connect_delay_ms=400)
        server.sessions[0].drop()
        placed.wait("reconnecting")
        placed.say(noise(500))
        placed.wait("ai_said", 2)
        end(placed, server)
        (length_ms,) = lengths_ms(server.sessions[1].audio)
        assert length_ms == pytest.approx(500, abs=25)


class TestGreeting:
    def test_lost_in_the_middle_of_it(self, place, sim):
        """It is given again, whole, and the new session does not let the caller into it either."""
        server = sim(dialogue=WORDS, voice="tone:440:2000", pace=1.5)
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        server.sessions[0].drop()
        placed.wait("reconnected")
        server.sessions[1].wait_received("session.update", 2)
        record = end(placed, server)
        second = server.sessions[1]
        assert asked(second) == ["Say hello."]
        first, later = (event["session"]["audio"]["input"] for event in second.received("session.update"))
        assert first["turn_detection"]["interrupt_response"] is False
        assert later["turn_detection"]["interrupt_response"] is True
        assert placed.of("item_finished")[-1].data["played_ms"] == pytest.approx(2000, abs=1)
        assert sum(lengths_ms(record.recording.ai)) > 2000

    def test_lost_while_all_of_it_plays(self, place, sim):
        """The caller hears it once; then the new session gets its turns."""
        server = sim(dialogue=WORDS, voice="tone:440:4000")
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        server.sessions[0].wait_sent("response.done")
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.wait("item_finished")
        server.sessions[1].wait_received("session.update", 2)
        placed.say(SAYS)
        placed.wait("ai_said", 2)
        record = end(placed, server)
        assert asked(server.sessions[1]) == []
        assert lengths_ms(record.recording.ai) == pytest.approx([4000, 4000], abs=25)

    def test_not_again_once_it_was_heard(self, talk):
        placed, server = talk(greeting="Say hello.")
        server.sessions[0].drop()
        placed.wait("reconnected")
        placed.say(SAYS)
        placed.wait("ai_said", 3)
        end(placed, server)
        second = server.sessions[1]
        assert asked(second) == []
        turns = second.first_update["session"]["audio"]["input"]["turn_detection"]
        assert (turns["create_response"], turns["interrupt_response"]) == (True, True)
        assert len(placed.of("greeting")) == 1


class TestFunctions:
    def call(self, session, name: str, call_id: str = "call_1", response: str = "resp_f") -> None:
        session.send({"type": "response.created", "response": {"id": response}})
        session.send(
            {
                "type": "response.function_call_arguments.done",
                "response_id": response,
                "item_id": f"item_{call_id}",
                "call_id": call_id,
                "name": name,
                "arguments": "{}",
            }
        )
        session.send({"type": "response.done", "response": {"id": response, "status": "completed"}})

    def test_running_when_the_connection_is_lost(self, place, sim):
        """The new session gets the call with its output, and answers it."""
        release = threading.Event()
        server = sim(voice="tone:440:300")
        placed = place(server, functions={"slow": lambda given: release.wait(10) and "done"})
        session = server.wait_session()
        session.wait_received(APPEND)
        self.call(session, "slow")
        placed.wait("function_call")
        session.drop()
        placed.wait("reconnected")
        assert given_history(server.sessions[1]) == []  # a call without an output is none of the history
        release.set()
        placed.wait("ai_said")
        end(placed, server)
        second = server.sessions[1]
        assert given_history(second) == [("call", "slow"), ("output", '"done"')]
        assert asked(second) == [""]

    def test_given_back_while_there_is_no_connection(self, place, sim):
        release = threading.Event()
        server = sim(voice="tone:440:300")
        placed = place(server, functions={"slow": lambda given: release.wait(10) and "done"})
        session = server.wait_session()
        session.wait_received(APPEND)
        self.call(session, "slow")
        placed.wait("function_call")
        server.faults = Faults(connect_delay_ms=400)
        session.drop()
        placed.wait("reconnecting")
        release.set()
        placed.wait("ai_said")
        end(placed, server)
        second = server.sessions[1]
        assert given_history(second) == [("call", "slow"), ("output", '"done"')]
        assert asked(second) == [""]

    def test_given_back_before_but_not_answered(self, place, sim):
        server = sim(voice="tone:440:300", faults=Faults(first_connections=1, no_response=True))
        placed = place(server, functions={"quick": lambda given: 17})
        session = server.wait_session()
        session.wait_received(APPEND)
        self.call(session, "quick")
        session.wait_received("response.create")
        session.drop()
        placed.wait("ai_said")
        end(placed, server)
        second = server.sessions[1]
        assert given_history(second) == [("call", "quick"), ("output", "17")]
        assert asked(second) == [""]


class TestWhenItFails:
    def test_too_often(self, place, sim, sorry):
        server = sim(voice="tone:440:300", faults=Faults(drop_after_s=0.2))
        placed = place(server, host=LINE, reconnect_max=2, apology_file=sorry)
        record = placed.finish()
        assert len(server.sessions) == 3
        assert len(placed.of("reconnecting")) == 2
        assert record.result.reason.startswith("lost the server: connection closed with 1006")
        assert SORRY in record.recording.ai
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"

    def test_the_server_is_gone(self, place, sim, sorry):
        server = sim(voice="tone:440:60000", pace=2)
        placed = place(server, host=LINE, greeting="Say hello.", apology_file=sorry)
        placed.wait("heard")
        server.stop()
        record = placed.finish()
        assert "refused the connection" in record.result.reason
        assert SORRY in record.recording.ai
        assert placed.of("ended")[0].at_s - placed.of("reconnecting")[0].at_s < 3

    @pytest.mark.parametrize(
        ("faults", "reason"),
        [
            ({"refuse_status": 401}, "answered HTTP 401"),
            ({"bad_key": True}, "invalid_api_key"),
            ({"refuse_fields": ("instructions",)}, "does not accept the session: instructions"),
            ({"no_session_created": True}, "accepted no session within 400 ms"),
        ],
        ids=str,
    )
    def test_the_server_takes_no_second_session(self, talk, sorry, faults, reason):
        placed, server = talk(apology_file=sorry, connect_timeout_ms=400)
        server.faults = Faults(**faults)
        server.sessions[0].drop()
        record = placed.finish()
        assert reason in record.result.reason
        assert len(placed.of("failure")) == 1
        assert placed.gone_after_s(time.monotonic()) < GONE_S

    def test_a_failure_while_it_is_tried_again_waits_for_a_server_that_comes_back(self, talk):
        placed, server = talk()
        server.faults = Faults(first_connections=3, refuse_status=503)
        server.sessions[0].drop()
        placed.wait("reconnected")
        assert server.attempts == 4
        end(placed, server)


class TestNothingIsLeft:
    def test_of_links_before_the_current_one(self, talk):
        placed, server = talk(reconnect_max=20)

        def lose(nth: int) -> None:
            server.wait_session(nth).drop()
            placed.wait("reconnected", nth)
            server.sessions[nth].wait_received(APPEND)

        def things() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), len(placed.left_over())

        lose(1)
        before = things()
        for nth in range(2, 8):
            lose(nth)
        wait_for(lambda: things() <= before)
        placed.say(SAYS)
        placed.wait("ai_said", 2)
        end(placed, server)

    def test_of_calls_that_end_at_random_moments_of_it(self, place, sim):
        server = sim(voice="tone:440:500", pace=20, faults=Faults(connect_delay_ms=30))
        moments = random.Random(11)
        placed = [place(server, [Say(SAYS, "answer")], greeting="Say hello.") for _ in range(16)]
        for each in placed:
            each.wait("answered")
        for session in server.sessions:
            session.drop()
        for each in placed:
            time.sleep(moments.uniform(0, 0.02))
            each.hang_up()
        for each in placed:
            each.finish()
            each.gone_after_s(time.monotonic())
            assert each.of("failure") == []
        for session in server.sessions:
            session.wait_closed()
        assert open_streams() == []
