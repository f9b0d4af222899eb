"""Calls with a server that sends nonsense, or leaves out what it should send: the conversation goes on."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest
from calls import APPEND, SAYS, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from ivr_ai.conversation import conversation
from ivr_ai.gateways.caller import Hangup, Say
from ivr_ai.sim.faults import Faults


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


class TestNonsense:
    @pytest.mark.parametrize(
        "faults",
        [
            {"bad_json": True},
            {"bad_base64": True},
            {"binary_frame": True},
            {"huge_message_bytes": 2_000_000},
            {"error_code": "server_error"},
            {"error_code": "response_cancel_not_active"},
            {"done_without_created": True},
            {"reorder_events": True},
            {"delta_bytes": 1334},
            {"delta_bytes": 1},
            {"late_deltas": 5},
            {"fail_responses": 1},
            {"first_delta_delay_ms": 200},
        ],
        ids=str,
    )
    def test_the_conversation_goes_on(self, place, sim, faults):
        """And with it the audio: as much of it as there was."""
        server = sim(voice="tone:440:300", faults=Faults(**faults))
        placed = place(server, [Say(SAYS), Hangup()], greeting="Say hello.")
        record = placed.finish()
        assert (record.result.turns, record.result.reason[:18]) == (1, "the caller hung up")
        played = [event.data["played_ms"] for event in placed.of("item_finished")]
        assert played == pytest.approx([300, 300], abs=1)

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "response.created", "response": None},
            {"type": "response.done", "response": []},
            {"type": "response.done", "response": {"id": "r", "usage": 7}},
            {"type": "response.done", "response": {"id": {}}},
            {"type": "session.created", "session": 1},
            {"type": "error", "error": "text"},
            {"type": "response.output_audio.delta"},
            {"type": "response.output_audio.delta", "item_id": 1, "delta": "AAAA"},
            {"type": "response.output_audio.delta", "item_id": "i", "delta": None},
            {"type": "response.output_audio.delta", "item_id": "i", "response_id": "r", "delta": "A"},
            {"type": "response.output_audio.delta", "item_id": "i", "response_id": "r", "delta": "é"},
            {"type": "response.output_audio.delta", "item_id": "i", "response_id": {}, "delta": "****"},
            {"type": "response.output_audio.done", "item_id": []},
            {"type": "response.function_call_arguments.done", "response_id": ["r"]},
            {"type": "conversation.item.input_audio_transcription.completed", "transcript": 5},
            {"type": 5},
        ],
        ids=str,
    )
    def test_events_that_are_not_what_they_should_be(self, place, sim, caplog, event):
        """They end nothing, and are complained about once."""
        server = sim(voice="tone:440:200")
        placed = place(server)
        session = server.wait_session()
        session.wait_received(APPEND)  # all is up
        for _ in range(3):
            session.send(event)
        transcript = "conversation.item.input_audio_transcription.completed"
        session.send({"type": transcript, "item_id": "u", "transcript": "Still here."})
        wait_for(lambda: "Still here." in [told.data["text"] for told in placed.of("caller_said")])
        placed.hang_up()
        placed.finish()
        assert placed.of("failure") == []
        complaints = [entry for entry in caplog.records if entry.levelname == "WARNING"]
        assert len(complaints) <= 1

    def test_audio_before_anybody_could_hear_it(self, place):
        """Before the session, so before the answer: it is dropped, with a word about it."""
        audio = {"type": "response.output_audio.delta", "item_id": "i", "response_id": "r", "delta": "AAAA"}
        accepted = [{"type": "session.created", "session": {}}, {"type": "session.updated", "session": {}}]

        def talk(connection) -> None:
            for event in [audio, audio, *accepted]:
                connection.send(json.dumps(event))
            with suppress(ConnectionClosed):
                for _ in connection:
                    pass

        with serve(talk, "127.0.0.1", 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            placed = place(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/", [Hangup(after=0.5)])
            placed.finish()
            server.shutdown()
        assert [event.data["code"] for event in placed.of("error")] == ["malformed"]
        assert placed.of("failure") == []


class TestTurnEnds:
    """Servers that hear the caller begin, and not stop."""

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr(conversation, "TURN_END_LOST_S", 0.5)
        monkeypatch.setattr(conversation, "UNHEARD_TURN_S", 0.5)  # the line's time is faster than the clock

    def test_a_turn_whose_end_the_server_has_missed_is_answered(self, place, sim):
        server = sim(voice="tone:440:300", faults=Faults(lost_turn_ends=1))
        placed = place(server, [Say(SAYS), Hangup()], greeting="Say hello.")
        record = placed.finish()
        assert (record.result.turns, record.result.reason[:18]) == (1, "the caller hung up")
        assert len(placed.of("item_finished")) == 2
        types = [event.type for event in server.sessions[0].events if event.type != APPEND]
        assert types[-2:] == ["input_audio_buffer.commit", "response.create"]

    def test_a_server_that_does_not_tell_the_end_is_asked_for_nothing_twice(self, place, sim):
        faults = Faults(omit_events=("input_audio_buffer.speech_stopped",))
        server = sim(voice="tone:440:300", faults=faults)
        placed = place(server, [Say(SAYS), Hangup(delay_ms=15_000)], greeting="Say hello.")
        record = placed.finish()
        assert record.result.turns == 1
        assert len(placed.of("item_finished")) == 2
        types = [event.type for event in server.sessions[0].events if event.type != APPEND]
        assert types.count("response.create") == 1  # for the greeting
