"""Whole calls: the product between an embedded host and a simulated model, as they go when nothing breaks."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from calls import APPEND, SAYS, lengths_ms, loud_runs

from ivr_ai.audio.stream import Stream
from ivr_ai.gateways.caller import Hangup, Say
from ivr_ai.sim.faults import Faults
from ivr_ai.tts.local_voice import speak


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


class TestConversation:
    def test_greeting_turn_and_goodbye(self, place, sim, caplog):
        server = sim()
        with caplog.at_level(logging.INFO, "ivr_ai.call"):
            placed = place(server, [Say(SAYS), Hangup()], greeting="Say hello.")
            record = placed.finish()
        kinds = placed.kinds()
        assert kinds.index("connected") < kinds.index("answered") < kinds.index("greeting")
        assert kinds.index("speech_started") < kinds.index("speech_stopped")
        assert [event.data["text"] for event in placed.of("ai_said")] == [
            "Hello, this is the simulator. How can I help you?",
            "Thank you, I heard you well. Tell me more.",
        ]
        greeting, reply = placed.of("heard")
        assert (greeting.data["turn"], greeting.data["latency_ms"]) == (0, None)
        assert (reply.data["turn"], reply.data["latency_ms"] > 0) == (1, True)
        assert lengths_ms(record.recording.ai) == pytest.approx([1000, 1000], abs=25)
        assert len(placed.of("item_finished")) == 2

        session = server.sessions[0]
        assert session.wait_closed() == 1000
        create = session.received("response.create")
        assert [event["response"]["instructions"] for event in create] == ["Say hello."]

        summary = record.result
        assert (summary.uuid, summary.turns, summary.barge_ins, summary.underruns) == (placed.uuid, 1, 0, 0)
        assert "hung up" in summary.reason
        assert (summary.dropped_ms, summary.tokens > 0, summary.turn_p50_ms > 0) == (0.0, True, True)
        assert placed.of("ended")[0].data == summary.data()
        lines = [entry for entry in caplog.records if entry.getMessage() == summary.line()]
        assert [entry.levelname for entry in lines] == ["INFO"]
        assert placed.left_over() == []

    def test_an_observer_that_raises_ends_nothing(self, place, sim, caplog):
        def raises(event):
            events.append(event.kind)
            raise RuntimeError("a fault of the observer's")

        events: list[str] = []
        server = sim()
        placed = place(server, [Say(SAYS), Hangup()], greeting="Say hello.", observer=raises)
        placed.finish()
        assert server.sessions[0].wait_closed() == 1000
        assert "a fault of the observer's" in caplog.text
        assert events[-1] == "ended"
        assert placed.left_over() == []

    def test_a_caller_who_speaks_first(self, place, sim):
        placed = place(sim(), [Say(SAYS, after="answer", delay_ms=100), Hangup()])
        placed.finish()
        assert placed.of("greeting") == []
        assert [event.data["turn"] for event in placed.of("heard")] == [1]

    def test_what_the_caller_says_reaches_the_model_sample_for_sample(self, place, sim):
        server = sim()
        record = place(server, [Say(SAYS, after="answer", delay_ms=100), Hangup()]).finish()
        heard = server.sessions[0].audio
        assert lengths_ms(heard) == pytest.approx([400], abs=5)
        assert heard in record.recording.caller
        lost_ms = (
            len(record.recording.caller) - len(heard)
        ) / 16  # before there was a stream, and at the end
        assert lost_ms <= 400

    def test_small_chunks_in_speech_large_ones_in_silence(self, place, sim):
        server = sim()
        script = [Say(SAYS, after="answer", delay_ms=1000), Hangup(after=3)]
        # The clock runs too fast for one that looks at the ring every 2 ms; test_native.py has its own.
        place(server, script, speech_hang_ms=200, quiet_chunk_ms=200, transport="python").finish()
        sizes = [event.body["audio_bytes"] for event in server.sessions[0].events if event.type == APPEND]
        assert 160 in sizes
        assert 1600 in sizes
        small_ms = 20 * sum(size == 160 for size in sizes)
        assert 400 <= small_ms <= 1100

    def test_a_call_the_dialplan_has_answered_keeps_what_is_said_before_the_model_is_there(self, place, sim):
        def answer(session):
            session.answer()
            return session

        server = sim(faults=Faults(connect_delay_ms=300))
        script = [Say(SAYS, after="answer", delay_ms=800), Hangup(after="reply_end")]
        placed = place(server, script, before=answer)
        record = placed.finish()
        heard = server.sessions[0].audio
        assert (
            heard in record.recording.caller
        )  # but for what was said before the product was told of the call
        assert lengths_ms(heard) == pytest.approx([400], abs=5)
        assert placed.wait("connected").data["ms"] >= 300
        assert placed.of("heard")[0].data["turn"] == 1

    def test_a_stream_the_dialplan_has_started(self, place, sim):
        def start(session):
            session.execute("uuid_audio_stream", "start embedded")
            return session

        placed = place(sim(), [Hangup()], before=start, greeting="Say hello.")
        placed.finish()
        assert len(placed.of("heard")) == 1
        assert placed.left_over() == []

    @pytest.mark.parametrize(
        ("rate_hz", "wire", "asked_for"),
        [
            (8000, "pcmu", {"type": "audio/pcmu"}),
            (8000, "pcma", {"type": "audio/pcma"}),
            (8000, "s16", {"type": "audio/pcm", "rate": 24000}),
            (48000, "s16", {"type": "audio/pcm", "rate": 24000}),
        ],
    )
    def test_every_kind_of_line(self, place, sim, rate_hz, wire, asked_for):
        server = sim()
        options = {"rate_hz": rate_hz, "wire": wire}
        said = speak("x", rate_hz, "tone:300:400")
        script = [Say(said), Hangup()]
        record = place(server, script, host=options, greeting="Say hello.", sample_rate_hz=rate_hz).finish()
        audio = server.sessions[0].first_update["session"]["audio"]
        assert audio["input"]["format"] == audio["output"]["format"] == asked_for
        _, *later = server.sessions[0].received("session.update")
        assert [list(update["session"]["audio"]) for update in later] == [["input"]]  # the greeting is over
        assert lengths_ms(record.recording.ai, rate_hz) == pytest.approx([1000, 1000], abs=25)
        assert record.result.turns == 1

    def test_a_codec_that_is_known_only_once_the_call_is_up(self, place, sim):
        """The session is put right before any audio goes up."""
        server = sim()
        unknown = {"read_codec": "", "ep_codec_string": ""}
        placed = place(server, [Say(SAYS), Hangup()], host={"variables": unknown}, greeting="Say hello.")
        record = placed.finish()
        types = [event.type for event in server.sessions[0].events]
        assert types[:2] == ["session.update", "session.update"]
        formats = [
            event["session"]["audio"]["input"]["format"]["type"]
            for event in server.sessions[0].received("session.update")[:2]
        ]
        assert formats == ["audio/pcm", "audio/pcmu"]
        assert lengths_ms(record.recording.ai) == pytest.approx([1000, 1000], abs=25)

    def test_beta_servers_too(self, place, sim):
        server = sim(dialect="beta")
        placed = place(server, [Say(SAYS), Hangup()], dialect="beta", greeting="Say hello.")
        record = placed.finish()
        assert lengths_ms(record.recording.ai) == pytest.approx([1000, 1000], abs=25)
        assert server.sessions[0].first_update["session"]["input_audio_format"] == "g711_ulaw"


class TestBargeIn:
    SCRIPT = (Say(SAYS), Say(SAYS, after="reply_start", delay_ms=500), Hangup())

    @pytest.mark.parametrize("settings", [{}, {"turn_detection": "none"}, {"input_mode": "item"}], ids=str)
    def test_the_model_is_told_what_the_recording_has(self, place, sim, settings):
        server = sim(voice="tone:440:4000", faults=Faults(late_deltas=3))
        placed = place(server, self.SCRIPT, greeting="Say hello.", **settings)
        record = placed.finish()
        session = server.sessions[0]
        told = [event["audio_end_ms"] for event in session.truncations]
        greeting_ms, cut_ms, answer_ms = lengths_ms(record.recording.ai)
        assert told == pytest.approx([cut_ms], abs=20)
        assert told[0] == placed.of("barge_in")[0].data["heard_ms"]
        assert (greeting_ms, answer_ms) == pytest.approx((4000, 4000), abs=25)
        assert (record.result.turns, record.result.barge_ins) == (2, 1)
        assert (
            session.received("response.cancel") == []
        )  # a server with nothing to send has nothing to cancel
        errors = [event.body["error"] for event in session.sent if event.type == "error"]
        assert errors == []

    def test_whoever_looks_in_between_does_not_take_the_cut_for_an_end(self, place, sim, monkeypatch):
        """The watch's thread may look at what has been heard at any moment, also during a flush."""
        flush, looked = Stream.flush, []

        def flush_and_let_look(stream):
            flushed = flush(stream)
            looking = threading.Thread(target=placed.product.tick)
            looking.start()
            looking.join(0.05)  # it has looked, or waits until it may
            looked.append(looking)
            return flushed

        monkeypatch.setattr(Stream, "flush", flush_and_let_look)
        server = sim(voice="tone:440:2000")
        placed = place(server, self.SCRIPT, greeting="Say hello.")
        record = placed.finish()
        assert looked
        assert len(server.sessions[0].truncations) == record.result.barge_ins == 1

    @pytest.mark.parametrize(
        ("settings", "cancels"),
        [({}, 0), ({"turn_detection": "none"}, 1), ({"input_mode": "item"}, 1)],
        ids=["server_vad", "none", "item"],
    )
    def test_while_the_reply_is_still_being_made(self, place, sim, settings, cancels):
        server = sim(voice="tone:440:20000", pace=30, faults=Faults(late_deltas=5))
        script = [Say(SAYS, "answer"), Say(SAYS, "reply_start", 300), Hangup("reply_start", 500)]
        placed = place(server, script, **settings)
        record = placed.finish()
        session = server.sessions[0]
        assert len(session.received("response.cancel")) == cancels
        cut_ms, _ = lengths_ms(record.recording.ai)
        assert [event["audio_end_ms"] for event in session.truncations] == pytest.approx([cut_ms], abs=20)
        statuses = [
            event.body["response"]["status"] for event in session.sent if event.type == "response.done"
        ]
        assert statuses[0] == "cancelled"
        assert [event.body for event in session.sent if event.type == "error"] == []

    def test_the_line_is_silent_at_once(self, place, sim):
        """From the moment the model hears the caller: two frames and the fade."""
        server = sim(voice="tone:440:2000")
        script = [Say(SAYS, after="reply_start", delay_ms=700), Hangup(after="reply_end")]
        record = place(server, script, greeting="Say hello.", greeting_interruptible=True).finish()
        (greeting, _) = loud_runs(record.recording.ai)
        spoke_ms = loud_runs(record.recording.caller)[0][0]
        assert greeting[1] - spoke_ms < 400  # five times real time: 80 ms of it for the way there and back

    def test_not_when_it_is_switched_off(self, place, sim):
        server = sim(voice="tone:440:1500")
        script = [Say(SAYS, after="reply_start", delay_ms=300), Hangup(after=4)]
        placed = place(server, script, greeting="Say hello.", barge_in=False)
        record = placed.finish()
        assert placed.of("barge_in") == []
        assert server.sessions[0].truncations == []
        assert sum(lengths_ms(record.recording.ai)) == pytest.approx(3000, abs=50)  # and then the answer

    def test_a_false_start_before_the_reply_has_begun(self, place, sim):
        """The caller goes on before the answer comes: nothing to truncate, and all of it is answered."""
        server = sim(faults=Faults(first_delta_delay_ms=150))
        script = [Say(SAYS, "answer"), Say(SAYS, after=1.0), Hangup("reply_end")]
        placed = place(server, script)
        record = placed.finish()
        assert server.sessions[0].truncations == []
        assert record.result.barge_ins == 0
        assert lengths_ms(record.recording.ai) == pytest.approx([1000], abs=25)


class TestFunctions:
    def call(self, session, name: str, arguments: str, response: str = "resp_f") -> None:
        """The server asks for a function, in a response of its own."""
        session.send({"type": "response.created", "response": {"id": response}})
        session.send(
            {
                "type": "response.function_call_arguments.done",
                "response_id": response,
                "item_id": "item_f",
                "call_id": "call_1",
                "name": name,
                "arguments": arguments,
            }
        )
        session.send({"type": "response.done", "response": {"id": response, "status": "completed"}})

    def fail(self, given):
        raise LookupError("no such order")

    @pytest.mark.parametrize(
        ("name", "arguments", "output"),
        [
            ("look_up", '{"order": 17}', {"order": 17, "state": "sent"}),
            ("look_up", "", {"state": "sent"}),
            ("broken", "{}", {"error": "LookupError: no such order"}),
            ("no_json", "{}", {"error": "TypeError: Object of type set is not JSON serializable"}),
            ("look_up", "{not JSON", None),
            ("nobody_knows", "{}", {"error": "there is no function 'nobody_knows'"}),
        ],
    )
    def test_its_output_goes_to_the_model_which_goes_on(self, place, sim, name, arguments, output):
        server = sim()
        functions = {
            "look_up": lambda given: {**given, "state": "sent"},
            "broken": self.fail,
            "no_json": lambda given: {1, 2},
        }
        placed = place(server, functions=functions)
        session = server.wait_session()
        session.wait_received(APPEND)  # all is up
        self.call(session, name, arguments)
        created = session.wait_received("conversation.item.create")["item"]
        session.wait_received("response.create")
        placed.wait("heard")
        placed.hang_up()
        placed.finish()
        assert (created["type"], created["call_id"]) == ("function_call_output", "call_1")
        given = json.loads(created["output"])
        assert given == output if output else "JSONDecodeError" in given["error"]
        assert placed.of("function_call")[0].data == {"name": name, "arguments": arguments}

    def test_a_slow_one_holds_nothing_up(self, place, sim):
        server = sim()
        release = threading.Event()
        functions = {"slow": lambda given: release.wait(10)}
        placed = place(server, [Say(SAYS, after="answer", delay_ms=1000)], functions=functions)
        session = server.wait_session()
        session.wait_received(APPEND)  # all is up
        self.call(session, "slow", "{}")
        placed.wait("heard")  # the answer to what the caller said meanwhile
        assert session.received("conversation.item.create") == []
        release.set()
        session.wait_received("conversation.item.create")
        placed.hang_up()
        placed.finish()
        assert placed.left_over() == []


class TestTelling:
    def test_a_timeline(self, place, sim, tmp_path):
        folder = tmp_path / "deep" / "timelines"
        settings = {"timeline_dir": str(folder), "transcription_model": "any", "greeting": "Say hello."}
        placed = place(sim(), [Say(SAYS), Hangup()], **settings)
        placed.finish()
        (path,) = folder.iterdir()
        assert path.name == f"{placed.uuid}.json"
        timeline = json.loads(path.read_text(encoding="utf-8"))
        assert timeline["uuid"] == placed.uuid
        events = timeline["events"]
        assert [event["kind"] for event in events] == placed.kinds()
        assert events[0]["kind"] == "connected"
        assert events[0]["ms"] > 0
        assert events[-1]["kind"] == "ended"
        assert {"caller_said", "ai_said", "heard", "item_finished", "response_started"} <= set(placed.kinds())
        assert all(isinstance(event["at_s"], float) for event in events)

    def test_a_timeline_that_cannot_be_written_is_only_a_warning(self, place, sim, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        placed = place(sim(), [Hangup()], timeline_dir=str(tmp_path / "file"), greeting="Say hello.")
        assert placed.finish().result.turns == 0
        assert f"call {placed.uuid}: no timeline in IVR_AI_TIMELINE_DIR" in caplog.text

    def test_what_the_caller_said(self, place, sim):
        server = sim(dialogue={"turn": [{"heard": "A table for two.", "say": "At what time?"}]})
        placed = place(server, [Say(SAYS, "answer"), Hangup()], transcription_model="any")
        placed.finish()
        assert placed.of("caller_said")[0].data == {"turn": 1, "text": "A table for two."}

    def test_the_key_is_never_logged(self, place, sim, caplog):
        key = "sk-proj-never-to-be-seen"
        with caplog.at_level(logging.DEBUG):
            place(sim(), [Hangup()], api_key=key, greeting="Say hello.").finish()
            place("ws://127.0.0.1:1/", api_key=key, apology_text="").finish()
        ours = [record.getMessage() for record in caplog.records if not record.name.startswith("ivr_ai.sim")]
        assert any("refused the connection" in line for line in ours)
        assert not any(key in line for line in ours)
