"""Calls and what their host does with them: ringing, keys, hold, a module that is missing or goes."""

from __future__ import annotations

import time

import pytest
from calls import APPEND, LINE, SAYS, SORRY, lengths_ms, loud_runs, wait_for

from ivr_ai.audio.stream import HostStream, Stream
from ivr_ai.gateways.caller import Digits, Hangup, Say
from ivr_ai.gateways.embedded_leg import EmbeddedLeg
from ivr_ai.gateways.embedded_session import Transfer
from ivr_ai.sim.faults import Faults

ACTIONS = [
    {},
    {"failure_action": "transfer", "failure_transfer": "5000 XML desk"},
    {"failure_action": "return"},
]
MISSING = "mod_audio_stream is not loaded in FreeSWITCH"


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


class TestRinging:
    def test_the_caller_is_told_that_it_rings_while_the_model_is_called(self, place, sim):
        placed = place(sim(faults=Faults(connect_delay_ms=300)), greeting="Say hello.")
        wait_for(lambda: placed.call.session.rang)
        assert not placed.call.session.answered()
        placed.wait("heard")
        placed.hang_up()
        placed.finish()

    def test_not_on_a_call_that_the_dialplan_has_answered(self, place, sim):
        def answer(session):
            session.answer()
            return session

        placed = place(sim(), [Hangup()], before=answer, greeting="Say hello.")
        assert not placed.finish().session.rang


class TestNoModule:
    """As where mod_audio_stream is not loaded in FreeSWITCH."""

    class Leg(EmbeddedLeg):
        def why_no_stream(self) -> str:
            return MISSING

    @pytest.mark.parametrize("action", ACTIONS, ids=str)
    def test_it_is_noticed_before_the_answer(self, place, sim, action):
        """A carrier gets the cause; nobody pays for a call without audio, and no server is asked."""
        server = sim()
        placed = place(server, before=self.Leg, greeting="Say hello.", **action)
        record = placed.finish()
        assert placed.kinds() == ["failure", "ended"]
        assert record.result.reason == MISSING
        assert server.attempts == 0
        assert not record.session.answered()
        assert not record.session.rang
        if not action:
            assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        elif action["failure_action"] == "transfer":
            assert placed.after["transferred"] == Transfer("5000", "XML", "desk")
        else:
            assert placed.after["ready"]


class TestModuleUnloaded:
    """As by `unload mod_audio_stream`, or a reload: streams close, and so do the library's connections."""

    class Gone(EmbeddedLeg):
        """The module does not come back."""

        opened = False

        def stream_command(self, words: str) -> str:
            if self.opened and "start" in words:
                return ""
            self.opened = self.opened or "start" in words
            return super().stream_command(words)

    @pytest.mark.parametrize("stream_first", [True, False])
    @pytest.mark.parametrize("back", [True, False], ids=["loaded again", "gone"])
    def test_the_caller_is_apologised_to(self, place, sim, sorry, back, stream_first):
        """Over a new stream, or by the host's own player."""
        server = sim(voice="tone:440:8000")
        settings = {"greeting": "Say hello.", "apology_file": sorry}
        leg = EmbeddedLeg if back else self.Gone
        placed = place(server, host=LINE, before=leg, **settings)
        placed.wait("heard")
        steps = [placed.call.unload, server.sessions[0].drop]
        for step in steps if stream_first else reversed(steps):
            step()
        record = placed.finish()
        assert record.result.reason == "mod_audio_stream was unloaded under the call"
        assert len(placed.of("failure")) == 1
        assert record.recording.ai.count(SORRY) == 1
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert placed.left_over() == []

    def test_a_caller_who_hangs_up_meanwhile(self, place, sim, sorry):
        server = sim(voice="tone:440:8000")
        placed = place(server, greeting="Say hello.", apology_file=sorry)
        placed.wait("heard")
        placed.call.unload()
        server.sessions[0].drop()
        placed.gone_after_s(placed.hang_up())
        placed.finish()


class TestStereo:
    """As where the dialplan has opened a stream of two channels for the conversation."""

    def test_the_call_ends_with_an_apology_and_says_what_to_change(self, place, sim, sorry, transport):
        """Instead of speech at half the speed, which interleaved channels would be to the model."""
        opened = []

        def open_stereo(session):
            opened.append(HostStream.create(session.get_uuid(), channels=2))
            hang_up = session.hangup

            def after_the_apology(*words):
                assert not opened[0].closed  # it is the dialplan's
                opened[0].close()
                hang_up(*words)

            session.hangup = after_the_apology
            return session

        server = sim()
        placed = place(
            server,
            before=open_stereo,
            host=LINE,
            transport=transport,
            greeting="Say hello.",
            apology_file=sorry,
        )
        record = placed.finish()
        assert opened[0].closed
        assert "is stereo, and the model hears one channel: leave out `stereo`" in record.result.reason
        assert len(placed.of("failure")) == 1
        assert record.recording.ai.count(SORRY) == 1
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert placed.left_over() == []


class TestKeys:
    def test_that_they_were_pressed_is_told_and_which_is_not(self, place, sim, caplog):
        placed = place(sim(), [Digits("4711", after="answer", delay_ms=500)])
        placed.wait("dtmf", 4)
        placed.hang_up()
        placed.finish()
        told = placed.of("dtmf")
        assert [event.data for event in told] == [{"duration_ms": 100}] * 4
        assert [event.at_s for event in told] == sorted(event.at_s for event in told)
        assert "4711" not in caplog.text

    def test_in_their_order_with_what_the_server_says(self, place, sim):
        """A key before the caller's words is told before them, one after the reply has begun after it."""
        script = [Digits("1", "answer", 500), Say(SAYS, "answer", 1200), Digits("2", "reply_start", 100)]
        placed = place(sim(), script)
        placed.wait("dtmf", 2)
        placed.hang_up()
        placed.finish()
        kinds = [kind for kind in placed.kinds() if kind in ("dtmf", "speech_started", "response_started")]
        assert kinds == ["dtmf", "speech_started", "response_started", "dtmf"]


class TestHold:
    def test_the_reply_waits_for_the_resume(self, place, sim):
        """What was being said goes on where it stopped, to its end."""
        server = sim(voice="tone:440:4000")
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        placed.call.hold()
        placed.wait("hold")
        time.sleep(0.3)  # 2.4 s of the call
        placed.call.unhold()
        placed.wait("unhold")
        placed.wait("item_finished")
        placed.hang_up()
        record = placed.finish()
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(4000, abs=50)
        assert len(loud_runs(record.recording.ai)) == 2
        assert server.sessions[0].truncations == placed.of("barge_in") == []

    def test_not_for_longer_than_it_is_kept(self, place, sim):
        """The model is told what was heard, and the caller is answered as on any call."""
        server = sim(voice="tone:440:20000")
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], hold_keep_s=0.2)
        placed.wait("heard")
        placed.call.hold()
        placed.wait("hold")
        time.sleep(0.4)
        placed.call.unhold()
        placed.wait("unhold")
        cut = server.sessions[0].wait_received("conversation.item.truncate")
        placed.say(SAYS)
        placed.wait("heard", 2)
        placed.hang_up()
        record = placed.finish()
        *before, _ = lengths_ms(record.recording.ai)
        assert cut["audio_end_ms"] == pytest.approx(sum(before), abs=20)
        assert placed.of("ai_said")[0].data["cut"]
        assert placed.of("failure") == []

    def test_a_reply_still_being_made_is_dropped_with_the_rest(self, place, sim):
        """Nothing of it is heard after the resume."""
        server = sim(voice="tone:440:20000", pace=10)
        placed = place(server, [Say(SAYS, "answer", delay_ms=100)], hold_keep_s=0.2)
        placed.wait("heard")
        placed.call.hold()
        placed.wait("hold")
        time.sleep(0.4)
        placed.call.unhold()
        placed.wait("unhold")
        server.sessions[0].wait_received("conversation.item.truncate")
        held_ms = len(placed.call.record(None).recording.ai) / 16
        placed.say(SAYS)
        placed.wait("heard", 2)
        placed.hang_up()
        record = placed.finish()
        runs = [run for run in loud_runs(record.recording.ai) if run[0] > held_ms + 50]
        answered_ms = loud_runs(record.recording.caller)[-1][1]
        assert all(start_ms > answered_ms for start_ms, _ in runs)

    def test_in_silence(self, place, sim):
        server = sim(voice="tone:440:300")
        placed = place(server, hold_keep_s=0.1)
        server.wait_session().wait_received(APPEND)
        placed.call.hold()
        placed.wait("hold")
        time.sleep(0.3)
        placed.call.unhold()
        placed.wait("unhold")
        placed.say(SAYS)
        placed.wait("item_finished")
        placed.hang_up()
        placed.finish()
        assert server.sessions[0].truncations == []

    def test_the_caller_hangs_up_on_hold(self, place, sim):
        server = sim(voice="tone:440:20000")
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        placed.call.hold()
        placed.wait("hold")
        assert placed.gone_after_s(placed.hang_up()) < 1
        placed.finish()


def test_a_stream_that_is_stopped_is_no_module_that_was_unloaded(place, sim, sorry):
    server = sim()
    placed = place(server, end_action="return", apology_file=sorry)
    server.wait_session().wait_received(APPEND)
    Stream.attach(placed.uuid).close()
    record = placed.finish()
    assert record.result.reason == "the audio stream was stopped"
    assert placed.after["ready"]
