"""What must not be cut short: the greeting, and every reply where the caller may not interrupt."""

from __future__ import annotations

import itertools

import pytest
from calls import CREATE, SAYS, asked, errors, lengths_ms, loud_runs, statuses, wait_for

from ivr_ai.gateways.caller import Hangup, Say
from ivr_ai.sim.faults import Faults

HELLO = "Say that this is the harbour office."
INTO = (Say(SAYS, after="reply_start", delay_ms=300),)


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


def turns(session) -> list[tuple[bool, bool]]:
    """(create_response, interrupt_response) of each session.update that says something about turns."""
    updates = [event["session"]["audio"] for event in session.received("session.update")]
    asked_for = [audio["input"]["turn_detection"] for audio in updates if "turn_detection" in audio["input"]]
    return [(each["create_response"], each["interrupt_response"]) for each in asked_for]


def over(placed):
    """The caller hangs up. The record of a call in which nothing went wrong."""
    placed.hang_up()
    record = placed.finish()
    assert placed.of("failure") == []
    return record


class TestGreeting:
    @pytest.mark.parametrize("pace", [0, 10], ids=["all of it has come", "still being made"])
    def test_what_the_caller_says_into_it_is_answered_when_it_has_been_heard(self, place, sim, pace):
        server = sim(voice="tone:440:2000", pace=pace)
        placed = place(server, INTO, greeting=HELLO)
        placed.wait("item_finished", 2)
        server.sessions[0].wait_received("session.update", 2)
        record = over(placed)
        session = server.sessions[0]
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(4000, abs=50)
        assert (record.result.turns, record.result.barge_ins) == (1, 0)
        assert asked(session) == [HELLO, ""]
        assert turns(session) == [(False, False), (True, True)]
        assert session.truncations == []
        assert placed.of("speech_started")[0].data == {"turn": 1}
        assert placed.of("heard")[1].data["turn"] == 1
        assert placed.of("heard")[1].data["latency_ms"] is not None
        assert errors(session) == []

    def test_the_caller_may_interrupt_once_it_has_been_heard(self, place, sim):
        server = sim(voice="tone:440:2000")
        placed = place(server, [Say(SAYS), Say(SAYS, "reply_start", 500)], greeting=HELLO)
        placed.wait("barge_in")
        placed.wait("item_finished", 2)
        over(placed)
        assert len(server.sessions[0].truncations) == 1

    def test_a_server_that_cuts_it_all_the_same(self, place, sim):
        """It is still owed: with the same words, and before anything else."""
        server = sim(voice="tone:440:2000", pace=10, faults=Faults(ignore_interrupt_response=True))
        placed = place(server, INTO, greeting=HELLO)
        wait_for(lambda: statuses(server.wait_session()).count("completed") >= 1)
        server.sessions[0].wait_received("session.update", 2)
        over(placed)
        assert asked(server.sessions[0])[:2] == [HELLO, HELLO]
        assert statuses(server.sessions[0])[0] == "cancelled"
        assert placed.of("item_finished")[-1].data["played_ms"] == pytest.approx(2000, abs=1)

    def test_one_that_may_be_cut_is_cut_once(self, place, sim):
        server = sim(voice="tone:440:2000")
        placed = place(server, INTO, greeting=HELLO, greeting_interruptible=True)
        placed.wait("item_finished")
        record = over(placed)
        session = server.sessions[0]
        cut_ms, answer_ms = lengths_ms(record.recording.ai)
        assert cut_ms < 1500
        assert answer_ms == pytest.approx(2000, abs=25)
        assert asked(session) == [HELLO]
        assert turns(session) == [(True, True)]
        assert len(session.truncations) == record.result.barge_ins == 1

    def test_one_that_may_be_cut_is_given_when_none_of_it_was_heard(self, place, sim):
        """The caller's "Hello?" comes before its first sample: it is owed, as what answers them."""
        server = sim(voice="tone:440:500", faults=Faults(first_delta_delay_ms=400))
        script = [Say(SAYS, "answer", delay_ms=100)]
        placed = place(server, script, greeting=HELLO, greeting_interruptible=True)
        placed.wait("item_finished")
        wait_for(lambda: HELLO in asked(server.sessions[0])[1:])
        over(placed)

    @pytest.mark.parametrize(
        "faults",
        [
            {"fail_responses": 1, "fail_code": "server_error"},
            {"fail_responses": 1, "fail_code": "odd"},
            {"fail_responses": 1, "fail_how": "empty"},
            {"fail_responses": 1, "fail_how": "text"},
            {"fail_responses": 1, "fail_how": "content_filter"},
            {"fail_responses": 1, "fail_how": "max_output_tokens"},
            {"rate_limited": 1, "retry_after_s": 0.4},
            {"refuse_creates": 1},
            {"refuse_creates": 1, "refuse_create_code": "odd"},
        ],
        ids=str,
    )
    def test_one_that_failed_is_asked_for_again_in_the_same_words(self, place, sim, faults):
        server = sim(voice="tone:440:500", faults=Faults(**faults))
        placed = place(server, greeting=HELLO)
        placed.wait("item_finished")
        server.sessions[0].wait_received("session.update", 2)
        record = over(placed)
        assert asked(server.sessions[0]) == [HELLO, HELLO]
        assert lengths_ms(record.recording.ai) == pytest.approx([500], abs=25)
        if "rate_limited" in faults:
            first, second = (each.at_s for each in server.sessions[0].events if each.type == CREATE)
            assert 0.4 <= second - first < 0.4 + 0.5  # as told, and a look of the watch

    def test_a_server_that_is_slow_to_begin_it(self, place, sim):
        """The caller speaks before they are told that it begins: it is given, and they are answered."""
        server = sim(voice="tone:440:500", faults=Faults(created_delay_ms=400))
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], greeting=HELLO)
        placed.wait("item_finished", 2)
        record = over(placed)
        assert asked(server.sessions[0]) == [HELLO, ""]
        assert record.result.turns == 1
        assert errors(server.sessions[0]) == []


class TestNoBargeIn:
    @pytest.mark.parametrize(
        "faults",
        [{}, {"ignore_create_response": True}, {"ignore_interrupt_response": True}],
        ids=str,
    )
    def test_what_is_said_into_a_reply_is_answered_once(self, place, sim, faults):
        server = sim(voice="tone:440:1500", faults=Faults(**faults))
        script = [Say(SAYS, "answer", delay_ms=100), Say(SAYS, "reply_start", 400)]
        placed = place(server, script, barge_in=False)
        placed.wait("item_finished", 2)
        wait_for(lambda: statuses(server.sessions[0]).count("completed") >= 2)
        placed.call.session.sleep(1000)
        record = over(placed)
        session = server.sessions[0]
        assert statuses(session) == ["completed", "completed"]
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(3000, abs=50)
        assert (record.result.turns, record.result.barge_ins) == (2, 0)
        assert [event.data["turn"] for event in placed.of("speech_started")] == [1, 2]
        assert [event.data["turn"] for event in placed.of("heard")] == [1, 2]
        assert session.truncations == session.received("response.cancel") == []

    def test_into_one_that_is_still_being_made(self, place, sim):
        server = sim(voice="tone:440:3000", pace=10)
        script = [Say(SAYS, "answer", delay_ms=100), Say(SAYS, "reply_start", 200)]
        placed = place(server, script, barge_in=False)
        placed.wait("item_finished", 2)
        record = over(placed)
        assert statuses(server.sessions[0]) == ["completed", "completed"]
        assert record.result.turns == 2
        assert errors(server.sessions[0]) == []

    @pytest.mark.parametrize("settings", [{"turn_detection": "none"}, {"input_mode": "item"}], ids=str)
    def test_where_turns_are_decided_here(self, place, sim, settings):
        server = sim(voice="tone:440:1500")
        script = [Say(SAYS, "answer", delay_ms=500), Say(SAYS, "reply_start", 400)]
        placed = place(server, script, barge_in=False, **settings)
        placed.wait("item_finished", 2)
        record = over(placed)
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(3000, abs=50)
        assert (record.result.turns, record.result.barge_ins) == (2, 0)
        assert server.sessions[0].truncations == []

    def test_the_caller_hears_the_reply_to_its_end_and_then_the_answer(self, place, sim):
        """No gap that a caller would take for the end of the call."""
        server = sim(voice="tone:440:1500")
        script = [Say(SAYS, "answer", delay_ms=100), Say(SAYS, "reply_start", 400), Hangup("reply_end", 500)]
        record = place(server, script, barge_in=False).finish()
        runs = loud_runs(record.recording.ai)
        gaps = [later - earlier for (_, earlier), (later, _) in itertools.pairwise(runs)]
        assert all(gap_ms < 8 * 600 for gap_ms in gaps)  # at eight times real time
