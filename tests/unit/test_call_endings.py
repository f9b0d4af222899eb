"""Calls that end because the caller hangs up, whenever that is, or because the model fails, however."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from pathlib import Path

import pytest
from calls import GONE_S, LINE, SAYS, SORRY, lengths_ms

from ivr_ai.audio.formats import write_wav
from ivr_ai.audio.stream import Stream, open_streams
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.gateways.caller import Hangup, Say
from ivr_ai.gateways.embedded_leg import EmbeddedLeg
from ivr_ai.gateways.embedded_session import Transfer
from ivr_ai.sim.faults import Faults


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


def pause(seconds: float) -> None:
    time.sleep(seconds)


NOBODY = "ws://127.0.0.1:1/"  # listens there


class TestHangingUp:
    """Whatever is under way: a second later there is no thread, no socket, no stream."""

    def check(self, placed, server, hung_up_s: float) -> None:
        gone_s = placed.gone_after_s(hung_up_s)
        record = placed.finish()
        assert gone_s < GONE_S
        for session in server.sessions:
            session.wait_closed(1)
        assert placed.of("failure") == []
        assert record.result.reason.startswith("the caller hung up")
        assert record.session.hangupCause() in ("ORIGINATOR_CANCEL", "NORMAL_CLEARING")

    def test_while_connecting(self, place, sim):
        server = sim(faults=Faults(connect_delay_ms=20_000))
        placed = place(server)
        pause(0.1)
        assert placed.events == []
        self.check(placed, server, placed.hang_up())
        assert "answered" not in placed.kinds()

    def test_before_the_answer(self, place, sim):
        server = sim(faults=Faults(no_session_created=True))
        placed = place(server)
        placed.wait("connected")
        self.check(placed, server, placed.hang_up())
        assert "answered" not in placed.kinds()

    def test_in_silence(self, place, sim):
        server = sim()
        placed = place(server)
        placed.wait("answered")
        self.check(placed, server, placed.hang_up())
        assert server.sessions[0].close_code == 1000

    def test_while_the_model_speaks(self, place, sim):
        server = sim(voice="tone:440:60000")
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        self.check(placed, server, placed.hang_up())

    def test_while_the_model_still_makes_its_reply(self, place, sim):
        server = sim(voice="tone:440:60000", pace=4)
        placed = place(server, greeting="Say hello.")
        placed.wait("response_started")
        self.check(placed, server, placed.hang_up())

    def test_while_the_caller_speaks(self, place, sim):
        server = sim()
        placed = place(server, [Say(SAYS * 20, after="answer")])
        placed.wait("speech_started")
        self.check(placed, server, placed.hang_up())

    @pytest.mark.parametrize("settings", [{}, {"input_mode": "item"}], ids=str)
    def test_during_barge_in(self, place, sim, settings):
        server = sim(voice="tone:440:60000", pace=20, faults=Faults(late_deltas=20))
        script = [Say(SAYS * 5, after="reply_start", delay_ms=300)]
        placed = place(server, script, greeting="Say hello.", **settings)
        placed.wait("speech_started")
        self.check(placed, server, placed.hang_up())

    def test_during_a_function(self, place, sim):
        server = sim()
        release = threading.Event()
        placed = place(server, functions={"slow": lambda given: release.wait(0.3)})
        session = server.wait_session()
        session.wait_received("input_audio_buffer.append")  # all is up
        session.send({"type": "response.created", "response": {"id": "r"}})
        call = {"call_id": "c", "name": "slow", "arguments": "{}", "response_id": "r"}
        session.send({"type": "response.function_call_arguments.done", **call})
        placed.wait("function_call")
        self.check(placed, server, placed.hang_up())

    def test_from_a_server_that_ignores_our_goodbye(self, place, sim):
        server = sim(faults=Faults(ignore_close=True))
        placed = place(server, greeting="Say hello.", close_timeout_ms=300)
        placed.wait("heard")
        self.check(placed, server, placed.hang_up())

    def test_from_a_server_that_has_stopped_reading(self, place, sim):
        server = sim(voice="tone:440:60000")
        placed = place(server, greeting="Say hello.", close_timeout_ms=300)
        placed.wait("heard")
        server.sessions[0].stall()
        hung_up_s = placed.hang_up()
        assert placed.gone_after_s(hung_up_s) < GONE_S
        assert placed.finish().result.reason.startswith("the caller hung up")

    def test_many_at_random_moments(self, place, sim):
        """Nothing is left of any: threads, streams, descriptors."""
        server = sim(voice="tone:440:3000", pace=20)
        moments = random.Random(7)
        script = [Say(SAYS, "answer"), Say(SAYS, "reply_start", 100), Hangup(after=2)]

        def several(count: int) -> None:
            placed = []
            for _ in range(count):
                placed.append(place(server, script, greeting="Say hello."))
                pause(moments.uniform(0, 0.02))
                if moments.random() < 0.8:
                    placed[-1].hang_up()
            for each in placed:
                each.finish()
            for each in placed:
                each.gone_after_s(time.monotonic())
                assert each.of("failure") == []
            for session in server.sessions:
                session.wait_closed(5)

        several(5)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(4):
            several(10)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        assert open_streams() == []


FAILURES = [
    ({"refuse_status": 503}, {"connect_timeout_ms": 300}, "answered HTTP 503"),
    ({"refuse_status": 401}, {}, "answered HTTP 401"),
    ({"bad_key": True}, {}, "the server says invalid_api_key"),
    ({"bad_model": True}, {}, "the server says invalid_model"),
    ({"no_session_created": True}, {"connect_timeout_ms": 150}, "accepted no session within 150 ms"),
    ({"connect_delay_ms": 9000}, {"connect_timeout_ms": 150}, "did not answer within 150 ms"),
    ({"text_only": True}, {}, "the server answers in text only"),
    ({"refuse_fields": ("instructions",)}, {}, "the session: instructions (OPENAI_SYSTEM_INSTRUCTIONS): "),
    ({"drop_after_s": 0.3}, {}, "lost the server: connection closed with 1006"),
    ({"close_after_s": 0.3, "close_code": 1011, "close_reason": "oops"}, {}, "closed with 1011 (oops)"),
    ({"close_after_s": 0.3, "close_code": 1001}, {}, "closed with 1001"),
    ({"close_after_s": 0.3, "close_code": 1008}, {"reconnect_max": 3}, "closed with 1008"),
    ({"close_after_s": 0.3, "close_code": 3000}, {"reconnect_max": 3}, "closed with 3000"),
    ({"expire_after_s": 0.3}, {}, "the server's session has expired (session_expired)"),
    ({"stall_after_s": 0.2}, {"ping_interval_s": 0.4, "ping_timeout_s": 0.2}, " ping"),
    ({"no_response": True}, {"response_timeout_s": 0.3}, "no reply from the model for 0.3 s"),
    ({"rate_limited": -1}, {"response_timeout_s": 0.5}, "could not reply: rate_limit_exceeded: Rate limit"),
    (
        {"fail_responses": -1, "fail_code": "server_error"},
        {"response_timeout_s": 0.5},
        "could not reply: server_error",
    ),
    ({"fail_responses": -1, "fail_code": "odd"}, {}, "could not reply: odd"),
    ({"fail_responses": -1, "fail_how": "empty"}, {}, "could not reply: no_audio"),
    ({"fail_responses": -1, "fail_how": "text"}, {}, "could not reply: no_audio"),
    ({"fail_responses": -1, "fail_how": "content_filter"}, {}, "could not reply: no_audio"),
    ({"refuse_creates": -1, "refuse_create_code": "odd"}, {}, "could not reply: odd"),
    ({"drop_mid_response": True}, {}, "connection closed with 1006"),
    (
        {"huge_message_bytes": 100_000},
        {"max_message_bytes": 65536, "reconnect_max": 3},
        "IVR_AI_MAX_MESSAGE_BYTES is 65536",
    ),
    ({"error_code": "insufficient_quota"}, {"reconnect_max": 3}, "the server says insufficient_quota"),
]
TRANSFER = {"failure_action": "transfer", "failure_transfer": "5000 XML desk"}
ACTIONS = [{}, TRANSFER, {"failure_action": "return"}]


class TestFailing:
    def check(self, placed, record, caplog, reason: str, action: dict) -> None:
        """The apology was heard first, then came what the settings say; the log has why.

        A call that is to be transferred and has not been answered stays so: whoever answers there answers.
        """
        kinds = placed.kinds()
        before_answer = "answered" not in kinds[: kinds.index("failure")]
        if before_answer and action is TRANSFER:
            assert "answered" not in kinds
        else:
            assert SORRY in record.recording.ai
        assert reason in record.result.reason
        (failed,) = placed.of("failure")
        assert failed.data == {"reason": record.result.reason}
        logged = [entry for entry in caplog.records if entry.name == "ivr_ai.call"]
        assert any(entry.levelname == "ERROR" and reason in entry.getMessage() for entry in logged)
        assert logged[-1].getMessage() == record.result.line()
        assert logged[-1].levelname == "ERROR"
        if action.get("failure_action") == "transfer":
            assert placed.after["transferred"] == Transfer("5000", "XML", "desk")
        elif action.get("failure_action") == "return":
            assert placed.after["ready"]
        else:
            assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert placed.gone_after_s(time.monotonic()) < GONE_S

    @pytest.mark.parametrize(
        ("nth", "faults", "settings", "reason"),
        [(nth, *failure) for nth, failure in enumerate(FAILURES)],
        ids=[" ".join(f"{name}={value}" for name, value in faults.items()) for faults, _, _ in FAILURES],
    )
    def test_in_every_way(self, place, sim, caplog, sorry, nth, faults, settings, reason):
        """What follows is another thing each time, so that everything follows something."""
        action = ACTIONS[nth % len(ACTIONS)]
        server = sim(faults=Faults(**faults), pace=2)
        settings = {"greeting": "Say hello.", "apology_file": sorry, "reconnect_max": 0, **settings, **action}
        placed = place(server, host=LINE, **settings)
        record = placed.finish()
        self.check(placed, record, caplog, reason, action)

    @pytest.mark.parametrize("action", ACTIONS, ids=str)
    def test_nobody_listens(self, place, caplog, sorry, action):
        placed = place(NOBODY, host=LINE, apology_file=sorry, connect_timeout_ms=200, **action)
        self.check(placed, placed.finish(), caplog, "refused the connection", action)

    @pytest.mark.parametrize("action", ACTIONS, ids=str)
    def test_the_server_is_stopped_in_the_middle(self, place, sim, caplog, sorry, action):
        server = sim(voice="tone:440:60000", pace=2)
        settings = {"greeting": "Say hello.", "apology_file": sorry, "reconnect_max": 0, **action}
        placed = place(server, host=LINE, **settings)
        placed.wait("heard")
        server.stop()
        self.check(placed, placed.finish(), caplog, "closed with 1001", action)

    def test_a_server_that_minds_what_a_call_can_do_without(self, place, sim):
        """Told of, by the setting's name; the call goes on."""
        server = sim(faults=Faults(refuse_fields=("audio.output.voice:nobody",)))
        placed = place(server, [Say(SAYS), Hangup()], host=LINE, greeting="Say hello.", voice="nobody")
        assert placed.finish().result.turns == 1
        (refused,) = placed.of("setting_refused")
        assert refused.data["field"] == "audio.output.voice"
        assert refused.data["setting"] == "OPENAI_REALTIME_VOICE"

    def test_a_server_that_minds_the_rate_of_pcm_gets_its_own(self, place, sim):
        """PCM at 8 kHz, which the service refuses."""
        placed = place(sim(), [Say(SAYS), Hangup()], host=LINE, greeting="Say hello.", resample_input=False)
        assert placed.finish().result.turns == 1
        (adjusted,) = placed.of("format_adjusted")
        assert adjusted.data["field"] == "audio.format"

    def test_the_caller_is_apologised_to_on_a_call_not_yet_answered(self, place, sorry):
        placed = place(NOBODY, host=LINE, apology_file=sorry, connect_timeout_ms=200)
        placed.finish()
        assert placed.kinds() == ["failure", "answered", "ended"]

    @pytest.mark.parametrize("action", ACTIONS, ids=str)
    def test_a_call_without_an_apology_is_not_answered_in_order_to_fail(self, place, action):
        """A carrier gets the cause, and may go on to somebody else."""
        placed = place(NOBODY, apology_text="", connect_timeout_ms=200, **action)
        record = placed.finish()
        assert placed.kinds() == ["failure", "ended"]
        assert not record.session.answered()
        if action is TRANSFER:
            assert placed.after["transferred"] == Transfer("5000", "XML", "desk")
        elif not action:
            assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"

    def test_a_caller_who_hangs_up_during_the_apology(self, place, tmp_path):
        path = tmp_path / "long.wav"
        write_wav(path, SORRY * 100, 8000)
        placed = place(NOBODY, apology_file=str(path), connect_timeout_ms=200)
        placed.wait("answered")
        pause(0.1)
        assert placed.gone_after_s(placed.hang_up()) < GONE_S
        placed.finish()

    def test_the_rest_of_the_reply_is_not_heard_after_the_apology(self, place, sim, sorry):
        server = sim(voice="tone:440:5000", faults=Faults(drop_after_s=0.3))
        settings = {"greeting": "Say hello.", "apology_file": sorry, "reconnect_max": 0}
        record = place(server, host=LINE, **settings).finish()
        after = record.recording.ai.split(SORRY)[1]
        assert not any(after)

    def test_other_calls_are_not_touched(self, place, sim, sorry):
        server = sim(voice="tone:440:1500", faults=Faults(first_connections=1, drop_after_s=0.1))
        broken = place(server, greeting="Say hello.", apology_file=sorry, reconnect_max=0)
        broken.wait("connected")
        fine = place(server, [Hangup()], greeting="Say hello.")
        assert broken.finish().result.reason.startswith("lost the server")
        assert fine.finish().result.reason.startswith("the caller hung up")
        assert len(fine.of("item_finished")) == 1

    def test_a_call_that_can_have_no_stream(self, place, sim, caplog):
        """As where mod_audio_stream is unloaded in the moment of the answer: its command answers nothing."""

        class WithoutModule(EmbeddedLeg):
            def stream_command(self, words: str) -> str:
                return ""

        placed = place(sim(), before=WithoutModule)
        record = placed.finish()
        assert "no audio stream on call" in record.result.reason
        assert "mod_audio_stream" in record.result.reason
        assert "`ivr-ai doctor` checks" in record.result.reason
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"

    def test_a_url_that_cannot_be(self, place, sorry):
        """Not even begun to connect: the same apology as for any failure."""
        record = place(f"ws://127.0.0.1:1/{'x' * 3000}", host=LINE, apology_file=sorry).finish()
        assert SORRY in record.recording.ai
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"

    def test_an_error_of_our_own(self, place, sim, sorry, monkeypatch):
        """What nobody has thought of ends the call like any failure, and never the process."""
        monkeypatch.setattr(Conversation, "audio", lambda *arguments: 1 / 0)
        placed = place(sim(), host=LINE, apology_file=sorry, greeting="Say hello.")
        record = placed.finish()
        assert record.result.reason == "internal error: ZeroDivisionError: division by zero"
        assert SORRY in record.recording.ai


class TestEndingWell:
    @pytest.mark.parametrize("end_action", ["hangup", "return"])
    def test_the_server_ends_the_conversation(self, place, sim, end_action):
        server = sim(faults=Faults(close_after_s=0.2, close_code=1000))
        placed = place(server, end_action=end_action)
        record = placed.finish()
        assert record.result.reason == "the server ended the conversation"
        assert placed.of("failure") == []
        assert placed.after["ready"] == (end_action == "return")
        assert record.session.hangupCause() == "NORMAL_CLEARING"
        assert not any(record.recording.ai)

    def test_what_the_server_has_said_is_heard_before_its_goodbye_counts(self, place, sim):
        server = sim(voice="tone:440:4000")
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        server.sessions[0].close(1000)
        record = placed.finish()
        assert record.result.reason == "the server ended the conversation"
        assert lengths_ms(record.recording.ai) == pytest.approx([4000], abs=25)
        assert len(placed.of("item_finished")) == len(placed.of("ai_said")) == 1
        assert placed.of("failure") == placed.of("reconnecting") == []
        assert record.session.hangupCause() == "NORMAL_CLEARING"

    def test_a_caller_who_hangs_up_on_the_last_words(self, place, sim):
        server = sim(voice="tone:440:60000")
        placed = place(server, greeting="Say hello.")
        placed.wait("heard")
        server.sessions[0].close(1000)
        server.sessions[0].wait_closed()
        assert placed.gone_after_s(placed.hang_up()) < GONE_S
        assert placed.finish().result.reason.startswith("the caller hung up")

    def test_a_call_has_a_limit(self, place, sim):
        placed = place(sim(), max_call_s=0.3)
        record = placed.finish()
        assert record.result.reason == "call limit of 0.3 s reached (IVR_AI_MAX_CALL_S)"
        assert placed.of("failure") == []
        assert record.session.hangupCause() == "NORMAL_CLEARING"

    @pytest.mark.parametrize("pace", [0, 8], ids=["all of it has come", "still being made"])
    def test_the_limit_cuts_no_sentence(self, place, sim, pace):
        server = sim(voice="tone:440:8000", pace=pace)
        placed = place(server, greeting="Say hello.", max_call_s=0.4)
        record = placed.finish()
        assert record.result.reason.startswith("call limit of 0.4 s reached")
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(8000, abs=50)
        assert len(placed.of("item_finished")) == 1
        assert placed.of("failure") == []

    def test_the_limit_leaves_no_question_unanswered(self, place, sim):
        """What the caller has said before it is answered still."""
        server = sim(voice="tone:440:500", faults=Faults(created_delay_ms=1000))
        placed = place(server, [Say(SAYS, "answer")], max_call_s=0.6)
        placed.wait("speech_stopped")
        record = placed.finish()
        assert record.result.reason.startswith("call limit of 0.6 s reached")
        assert lengths_ms(record.recording.ai) == pytest.approx([500], abs=25)

    def test_no_limit(self, place, sim):
        placed = place(sim(), [Hangup(after=2)], max_call_s=0)
        assert placed.finish().result.reason.startswith("the caller hung up")

    def test_somebody_else_stops_the_stream(self, place, sim):
        placed = place(sim(), end_action="return")
        placed.wait("answered")
        Stream.attach(placed.uuid, timeout_s=5).close()
        record = placed.finish()
        assert record.result.reason == "the audio stream was stopped"
        assert placed.after["ready"]

    def test_the_call_is_transferred_under_us(self, place, sim):
        server = sim()
        placed = place(server)
        placed.wait("answered")
        moved_s = time.monotonic()
        placed.call.session.transfer("5000", "XML", "default")
        assert placed.gone_after_s(moved_s) < GONE_S
        placed.finish()
        assert placed.of("failure") == []
        assert server.sessions[0].wait_closed() == 1000


class TestSignsOfLife:
    def test_a_quiet_server_that_answers_pings_is_alive(self, place, sim):
        placed = place(sim(), ping_interval_s=0.2, ping_timeout_s=0.15)
        placed.wait("answered")
        pause(1.0)
        assert placed.of("failure") == []
        placed.hang_up()
        placed.finish()

    def test_0_sends_no_pings(self, place, sim):
        placed = place(sim(faults=Faults(stall_after_s=0.1)), ping_interval_s=0, ping_timeout_s=0.1)
        placed.wait("answered")
        pause(0.8)
        assert placed.of("failure") == []
        placed.hang_up()
        placed.finish()


def test_no_file_of_a_call_is_left_behind(place, sim, tmp_path):
    place(sim(), [Hangup(after=0.5)], timeline_dir=str(tmp_path)).finish()
    assert [path.suffix for path in Path(tmp_path).iterdir()] == [".json"]


def test_what_is_logged_of_an_ordinary_call_is_one_line(place, sim, caplog):
    with caplog.at_level(logging.INFO):
        place(sim(), [Hangup(after=0.5)]).finish()
    assert len([entry for entry in caplog.records if entry.name.startswith("ivr_ai.call")]) == 1
