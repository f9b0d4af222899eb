"""Replies of several spoken items: what is told of each, and what the model forgets when they are cut."""

from __future__ import annotations

import pytest
from calls import SAYS, errors, lengths_ms, loud_runs, statuses, wait_for

from ivr_ai.gateways.caller import Say
from ivr_ai.sim.faults import Faults

FIRST, SECOND = "I will look that up for you.", "There is a table at eight."
TWO = {
    "turn": [{"heard": "A table.", "say": [{"text": FIRST, "phase": "commentary"}, SECOND]}],
    "fallback": ["Yes?"],
    "loop": False,
}
ENDS = pytest.mark.parametrize("item_ends", ["sequential", "together"])


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


def spoken_items(session) -> list[str]:
    """The ids of the first response's items."""
    added = [event.body for event in session.sent if event.type == "response.output_item.added"]
    return [body["item"]["id"] for body in added if body["response_id"] == added[0]["response_id"]]


class TestHeard:
    @ENDS
    @pytest.mark.parametrize("pause_ms", [0, 150])
    def test_each_item_is_told_of(self, place, sim, item_ends, pause_ms):
        server = sim(dialogue=TWO, voice="tone:440:800", item_ends=item_ends, item_pause_ms=pause_ms)
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)])
        placed.wait("ai_said", 2)
        placed.hang_up()
        record = placed.finish()
        assert [event.data["text"] for event in placed.of("ai_said")] == [FIRST, SECOND]
        ids = spoken_items(server.sessions[0])
        for kind in ("heard", "item_finished", "ai_said"):
            assert [event.item for event in placed.of(kind)] == ids
            assert [event.data["turn"] for event in placed.of(kind)] == [1, 1]
        first, second = placed.of("heard")
        assert (first.data["latency_ms"] > 0, second.data["latency_ms"]) == (True, None)
        assert [event.data["played_ms"] for event in placed.of("item_finished")] == [800, 800]
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(1600, abs=25)
        assert record.result.turn_p50_ms == first.data["latency_ms"]
        assert errors(server.sessions[0]) == []

    @ENDS
    def test_the_pause_between_them_is_no_underrun(self, place, sim, item_ends):
        server = sim(dialogue=TWO, voice="tone:440:800", item_ends=item_ends, item_pause_ms=400)
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)])
        placed.wait("ai_said", 2)
        placed.hang_up()
        record = placed.finish()
        (_, first_end_ms), (second_ms, _) = loud_runs(record.recording.ai)
        assert second_ms - first_end_ms > 800  # the line was dry
        assert record.result.underruns == 0

    def test_a_server_whose_ends_of_audio_never_come(self, place, sim):
        """An item is over when the next one of its response begins, the last one with its response."""
        never = ("response.output_audio.done", "response.output_item.done")
        server = sim(dialogue=TWO, voice="tone:440:800", faults=Faults(omit_events=never))
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)])
        placed.wait("ai_said", 2)
        placed.hang_up()
        placed.finish()
        assert [event.data["played_ms"] for event in placed.of("item_finished")] == [800, 800]

    def test_a_server_that_never_says_that_a_response_is_done(self, place, sim):
        """No dead air: the caller is answered again."""
        server = sim(voice="tone:440:400", faults=Faults(omit_events=("response.done",)))
        script = [Say(SAYS, "answer", delay_ms=100), Say(SAYS)]
        placed = place(server, script, response_timeout_s=1.5)
        placed.wait("ai_said", 2)
        placed.hang_up()
        placed.finish()
        assert placed.of("failure") == []


class TestCut:
    """The caller interrupts, as the model is told: to the sample what the recording has."""

    def cut(self, place, server, delay_ms: int, after="reply_start"):
        script = [Say(SAYS, "answer", delay_ms=100), Say(SAYS, after, delay_ms)]
        placed = place(server, script)
        placed.wait("speech_stopped", 2)
        wait_for(lambda: "completed" in statuses(server.sessions[0])[1:])
        placed.wait("heard", len(placed.of("barge_in")) + len(placed.of("item_finished")))
        wait_for(lambda: any(each.data["turn"] == 2 for each in placed.of("item_finished")))
        placed.hang_up()
        record = placed.finish()
        session = server.sessions[0]
        deleted = [event["item_id"] for event in session.received("conversation.item.delete")]
        cut = {event["item_id"]: event["audio_end_ms"] for event in session.truncations}
        assert errors(session) == []
        assert placed.of("failure") == []
        return placed, record, spoken_items(session), cut, deleted

    @ENDS
    @pytest.mark.parametrize("pace", [0, 12], ids=["all has come", "still being made"])
    def test_in_the_first_the_second_is_deleted(self, place, sim, item_ends, pace):
        server = sim(dialogue=TWO, voice="tone:440:3000", item_ends=item_ends, pace=pace)
        placed, record, ids, cut, deleted = self.cut(place, server, 300)
        ai_ms = loud_runs(record.recording.ai)[0]
        assert cut == {ids[0]: pytest.approx(ai_ms[1] - ai_ms[0], abs=20)}
        assert deleted == ids[1:]
        (told,) = placed.of("barge_in")
        assert (told.item, told.data["heard_ms"]) == (ids[0], cut[ids[0]])
        assert placed.of("ai_said")[0].data["cut"]
        assert SECOND not in [event.data["text"] for event in placed.of("ai_said")]

    @ENDS
    def test_in_the_second_the_first_stays_whole(self, place, sim, item_ends):
        server = sim(dialogue=TWO, voice="tone:440:2000", item_ends=item_ends)
        placed, record, ids, cut, deleted = self.cut(place, server, 2400)
        start_ms, end_ms = loud_runs(record.recording.ai)[0]
        assert cut == {ids[1]: pytest.approx(end_ms - start_ms - 2000, abs=20)}
        assert deleted == []
        first, second = placed.of("ai_said")[:2]
        assert first.data["text"] == FIRST
        assert "cut" not in first.data
        assert second.data["cut"]
        assert SECOND.startswith(second.data["text"])

    @ENDS
    def test_in_the_pause_between_them_what_was_heard_stays(self, place, sim, item_ends):
        """The second has not begun, and never does; of the first the model keeps every word."""
        server = sim(dialogue=TWO, voice="tone:440:800", item_ends=item_ends, item_pause_ms=1500)
        placed, record, ids, cut, deleted = self.cut(place, server, 1600)
        assert set(cut) <= {ids[0]}
        assert all(ms == 800 for ms in cut.values())
        assert deleted == []
        assert placed.of("ai_said")[0].data["text"] == FIRST
        assert lengths_ms(record.recording.ai)[0] == pytest.approx(800, abs=25)
        # Where no end was told of, more might have come: then the caller has interrupted.
        assert record.result.barge_ins == len(cut)

    def test_an_item_that_begins_as_the_caller_does_is_deleted(self, place, sim):
        """Its audio comes after the flush: nobody hears it, and the model forgets it."""
        server = sim(dialogue=TWO, voice="tone:440:2000", pace=12, faults=Faults(late_deltas=3))
        _, record, ids, _, deleted = self.cut(place, server, 300)
        assert set(deleted) <= set(ids)
        assert record.result.barge_ins == 1
