"""Each fault of the simulated server, as its clients see it."""

from __future__ import annotations

import base64
import binascii
import time

import pytest
from websockets.exceptions import InvalidStatus

from ivr_ai.audio.formats import Format
from ivr_ai.sim.faults import Faults

PCMU, PCMA = Format("pcmu", 8000), Format("pcma", 8000)
TOOL = {"type": "function", "name": "look_up", "description": "", "parameters": {"type": "object"}}
CALLING = {"turn": [{"call": {"name": "look_up"}, "say": "it is {output}"}]}
LONG = {"voice": "tone:440:5000", "pace": 1.0}


def audio_deltas(client) -> list[bytes]:
    deltas = [e["delta"] for e in client.events if e["type"] == "response.output_audio.delta"]
    return [base64.b64decode(delta) for delta in deltas]


# ---- connecting --------------------------------------------------------------------------------------------


def test_connect_delay(start, dial) -> None:
    sim = start(faults=Faults(connect_delay_ms=150))
    start_s = time.monotonic()
    dial(sim)
    assert time.monotonic() - start_s >= 0.15


def test_a_delayed_connection_does_not_hold_up_the_stop(start) -> None:
    import socket

    sim = start(faults=Faults(connect_delay_ms=60_000))
    with socket.create_connection(("127.0.0.1", sim.port)) as raw:
        upgrade = "GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        raw.sendall(
            (
                upgrade + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        while not sim.attempts:
            time.sleep(0.005)
        start_s = time.monotonic()
        sim.stop()
        assert time.monotonic() - start_s < 5


@pytest.mark.parametrize("status", [401, 503])
def test_refuse(start, dial, status: int) -> None:
    sim = start(faults=Faults(refuse_status=status))
    with pytest.raises(InvalidStatus) as refused:
        dial(sim)
    assert refused.value.response.status_code == status
    assert (sim.attempts, sim.sessions) == (1, [])


@pytest.mark.parametrize(
    ("faults", "code", "close_code"),
    [(Faults(bad_key=True), "invalid_api_key", 3000), (Faults(bad_model=True), "invalid_model", 4000)],
)
def test_refused_after_the_upgrade(start, dial, faults: Faults, code: str, close_code: int) -> None:
    sim = start(faults=faults)
    client = dial(sim, created=False)
    assert client.read()["error"]["code"] == code
    assert client.until_closed() == (close_code, f"invalid_request_error.{code}")
    assert sim.sessions[0].wait_closed() == close_code


def test_no_session_created(start, dial) -> None:
    sim = start(faults=Faults(no_session_created=True))
    client = dial(sim, created=False)
    client.send("session.update", session={"type": "realtime"})
    assert not client.drain()
    assert sim.sessions[0].wait_received("session.update")


def test_only_the_first_connections(start, dial) -> None:
    sim = start(faults=Faults(refuse_status=503, first_connections=2))
    for _ in range(2):
        with pytest.raises(InvalidStatus):
            dial(sim)
    dial(sim)
    sim.faults = Faults(refuse_status=401)
    with pytest.raises(InvalidStatus, match="401"):
        dial(sim)


# ---- the session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field", "code"),
    [
        ({"refuse_fields": ("audio.output.voice",)}, "audio.output.voice", "unknown_parameter"),
        (
            {"refuse_fields": ("audio.output.voice",), "refuse_code": "invalid_value"},
            "audio.output.voice",
            "invalid_value",
        ),
        (
            {"refuse_fields": ("truncation", "audio.input.turn_detection.threshold")},
            "audio.input.turn_detection.threshold",
            "unknown_parameter",
        ),
        ({"refuse_fields": ("audio.output.voice:marin",)}, "audio.output.voice", "invalid_value"),
    ],
)
def test_refused_fields(start, dial, settings: dict, field: str, code: str) -> None:
    client = dial(start(faults=Faults(**settings)))
    turns = {"type": "server_vad", "threshold": 0.7}
    session = {
        "type": "realtime",
        "instructions": "New.",
        "audio": {"output": {"voice": "marin"}, "input": {"turn_detection": turns}},
    }
    client.send("session.update", session=session, event_id="mine")
    error = client.until("error")["error"]
    assert (error["code"], error["param"], error["event_id"]) == (code, f"session.{field}", "mine")
    assert client.update()["instructions"] != "New.", "nothing of the update is applied"


def test_a_field_refused_for_one_value_takes_others(start, dial) -> None:
    faults = Faults(refuse_fields=("audio.input.format.type:audio/pcmu", "audio.output.voice:marin"))
    client = dial(start(faults=faults))
    session = client.update(audio={"input": {"format": {"type": "audio/pcma"}}, "output": {"voice": "cedar"}})
    assert session["audio"]["input"]["format"] == {"type": "audio/pcma"}
    pcmu = {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    client.send("session.update", session=pcmu)
    assert client.until("error")["error"]["param"] == "session.audio.input.format.type"


def test_refused_fields_of_a_beta_session(start, dial) -> None:
    client = dial(start(dialect="beta", faults=Faults(refuse_fields=("voice",))))
    client.send("session.update", session={"voice": "alloy"})
    assert client.until("error")["error"]["param"] == "session.voice"


@pytest.mark.parametrize(
    ("state", "heard", "said"),
    [
        ("audio/pcma", PCMA, PCMA),
        ("output:audio/pcma", PCMU, PCMA),
        ("input:audio/pcm@16000", Format("s16", 16000), PCMU),
    ],
)
def test_another_format_is_stated_and_spoken(start, dial, state: str, heard: Format, said: Format) -> None:
    sim = start(faults=Faults(state_format=state))
    client = dial(sim)
    pcmu = {"format": PCMU.ga_wire}
    session = client.update(audio={"input": pcmu, "output": pcmu})
    assert session["audio"]["input"]["format"] == heard.ga_wire
    assert session["audio"]["output"]["format"] == said.ga_wire
    client.wire = heard
    client.talk()
    response = client.until("response.done")["response"]
    assert response["audio"]["output"]["format"] == said.ga_wire
    assert sim.sessions[0].audio_rate_hz == heard.rate_hz
    assert len(client.audio(said)) == Format("s16", said.rate_hz).bytes_for_ms(400)
    client.send("response.create", response={"audio": {"output": pcmu}})
    assert client.until("response.created")["response"]["audio"]["output"]["format"] == said.ga_wire


def test_text_only(start, dial) -> None:
    client = dial(start(faults=Faults(text_only=True)))
    assert client.events[0]["session"]["output_modalities"] == ["text"]
    assert client.update(output_modalities=["audio"])["output_modalities"] == ["text"]
    client.send("response.create", response={"output_modalities": ["audio"]})
    response = client.until("response.done")["response"]
    assert (response["output_modalities"], response["output"][0]["content"][0]["type"]) == (
        ["text"],
        "output_text",
    )
    assert not audio_deltas(client)


def test_create_response_false_is_stated_and_not_obeyed(start, dial) -> None:
    client = dial(start(faults=Faults(ignore_create_response=True)))
    turns = {"type": "server_vad", "create_response": False}
    session = client.update(audio={"input": {"turn_detection": turns}})
    assert session["audio"]["input"]["turn_detection"]["create_response"] is False
    client.talk()
    assert client.until("response.done")["response"]["status"] == "completed"


def test_interrupt_response_false_is_stated_and_not_obeyed(start, dial) -> None:
    client = dial(start(**LONG, faults=Faults(ignore_interrupt_response=True)))
    client.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    client.send("response.create")
    client.until("response.output_audio.delta")
    client.speech()
    details = client.until("response.done")["response"]["status_details"]
    assert details == {"type": "cancelled", "reason": "turn_detected"}


def test_manual_turns_stay_manual_whatever_is_ignored(start, dial) -> None:
    client = dial(start(faults=Faults(ignore_create_response=True, ignore_interrupt_response=True)))
    client.update(audio={"input": {"turn_detection": None}})
    client.talk()
    client.send("input_audio_buffer.commit")
    client.until("conversation.item.done")
    assert not client.drain()


# ---- replies -----------------------------------------------------------------------------------------------


def test_no_response(start, dial) -> None:
    client = dial(start(faults=Faults(no_response=True)))
    client.talk()
    client.until("conversation.item.done")
    assert not client.drain()


def test_failed_responses(start, dial) -> None:
    client = dial(start(faults=Faults(fail_responses=1)))
    client.send("response.create")
    response = client.until("response.done")["response"]
    assert response["status"] == "failed"
    assert response["status_details"]["error"]["code"] == "rate_limit_exceeded"
    client.send("response.create")
    assert client.until("response.done")["response"]["status"] == "completed"


def test_every_response_fails(start, dial) -> None:
    client = dial(start(faults=Faults(fail_responses=-1, fail_code="insufficient_quota")))
    for _ in range(2):
        client.send("response.create")
        details = client.until("response.done")["response"]["status_details"]
        assert details["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize(
    ("how", "status", "details"),
    [
        ("empty", "completed", None),
        ("content_filter", "incomplete", {"type": "incomplete", "reason": "content_filter"}),
        ("max_output_tokens", "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}),
    ],
)
def test_responses_without_audio(start, dial, how: str, status: str, details: dict | None) -> None:
    client = dial(start(faults=Faults(fail_responses=1, fail_how=how)))
    client.send("response.create")
    response = client.until("response.done")["response"]
    assert (response["status"], response["status_details"], response["output"]) == (status, details, [])
    client.send("response.create")
    assert client.until("response.done")["response"]["output"]


def test_a_reply_in_text_where_audio_was_asked_for(start, dial) -> None:
    client = dial(start(faults=Faults(fail_responses=1, fail_how="text", done_without_created=True)))
    client.send("response.create")
    client.until("response.created")
    response = client.until("response.done")["response"]
    assert (response["status"], response["output_modalities"]) == ("completed", ["audio"])
    assert response["output"][0]["content"][0]["type"] == "output_text"
    assert not audio_deltas(client)
    client.send("response.create")
    client.until("response.output_audio.delta")


@pytest.mark.parametrize(("after_s", "words"), [(1.6, "in 1.6s."), (20.0, "in 20s."), (0.216, "in 216ms.")])
def test_rate_limits(start, dial, after_s: float, words: str) -> None:
    client = dial(start(faults=Faults(rate_limited=1, retry_after_s=after_s)))
    client.send("response.create")
    response = client.until("response.done")["response"]
    error = response["status_details"]["error"]
    assert (response["status"], error["code"]) == ("failed", "rate_limit_exceeded")
    assert error["message"].endswith(f"Please try again {words}")
    [limit] = client.until("rate_limits.updated")["rate_limits"]
    assert (limit["name"], limit["remaining"], limit["reset_seconds"]) == ("tokens", 0, after_s)
    client.send("response.create")
    assert client.until("response.done")["response"]["status"] == "completed"
    assert client.until("rate_limits.updated")["rate_limits"][0]["remaining"] > 0


def test_refused_creates(start, dial) -> None:
    client = dial(start(faults=Faults(refuse_creates=2, refuse_create_code="rate_limit_exceeded")))
    for name in ("one", "two"):
        client.send("response.create", event_id=name)
        error = client.until("error")["error"]
        assert (error["code"], error["event_id"]) == ("rate_limit_exceeded", name)
    assert "response.created" not in client.types()
    client.send("response.create")
    assert client.until("response.done")["response"]["status"] == "completed"


def test_a_turn_is_answered_though_creates_are_refused(start, dial) -> None:
    client = dial(start(faults=Faults(refuse_creates=-1)))
    client.talk()
    assert client.until("response.done")["response"]["status"] == "completed"


def test_a_late_response_created(start, dial) -> None:
    client = dial(start(faults=Faults(created_delay_ms=150)))
    for ask in (lambda: client.send("response.create"), client.talk):
        start_s = time.monotonic()
        ask()
        client.until("response.created")
        assert time.monotonic() - start_s >= 0.14
        client.until("response.done")


def test_a_response_counts_as_active_before_it_is_announced(start, dial) -> None:
    client = dial(start(faults=Faults(created_delay_ms=200)))
    client.send("response.create")
    client.send("response.create", event_id="second")
    error = client.until("error")["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
    assert client.until("response.created")["response"]["id"] in error["message"]


def test_a_response_cancelled_before_it_is_announced_never_is(start, dial) -> None:
    client = dial(start(faults=Faults(created_delay_ms=10_000)))
    client.send("response.create")
    client.speech()
    response = client.until("response.done")["response"]
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert "response.created" not in client.types()


def test_failed_transcriptions(start, dial) -> None:
    client = dial(start(faults=Faults(fail_transcriptions=1)))
    client.update(audio={"input": {"transcription": {"model": "any"}}})
    name = "conversation.item.input_audio_transcription"
    client.talk()
    assert client.until(f"{name}.failed")["error"]["code"] == "audio_unintelligible"
    client.talk()
    client.until(f"{name}.completed")


def test_functions_that_nobody_offers(start, dial) -> None:
    client = dial(start(faults=Faults(call_unoffered=True), dialogue=CALLING))
    client.talk()
    assert [item["type"] for item in client.until("response.done")["response"]["output"]] == ["function_call"]


def test_slow_first_delta(start, dial) -> None:
    client = dial(start(faults=Faults(first_delta_delay_ms=150)))
    client.send("response.create")
    client.until("response.created")
    start_s = time.monotonic()
    client.until("response.output_audio.delta")
    assert time.monotonic() - start_s >= 0.14


def test_late_deltas_of_a_cancelled_response(start, dial) -> None:
    client = dial(start(**LONG, faults=Faults(late_deltas=3)))
    client.send("response.create")
    first = client.until("response.output_audio.delta")
    client.send("response.cancel")
    client.until("response.done")
    late = [event for event in client.drain() if event["type"] == "response.output_audio.delta"]
    assert [event["item_id"] for event in late] == [first["item_id"]] * 3
    assert all(base64.b64decode(event["delta"]) == bytes(4800) for event in late)


def test_done_without_created(start, dial) -> None:
    client = dial(start(faults=Faults(done_without_created=True)))
    client.send("response.create")
    ghost = client.until("response.done")["response"]
    assert (ghost["status"], ghost["output"]) == ("cancelled", [])
    created = client.until("response.created")["response"]["id"]
    assert created == client.until("response.done")["response"]["id"] != ghost["id"]


@pytest.mark.parametrize("size", [1334, 1001])
def test_odd_sized_deltas(start, dial, size: int) -> None:
    client = dial(start(faults=Faults(delta_bytes=size)))
    client.send("response.create")
    client.until("response.done")
    deltas = audio_deltas(client)
    assert {len(delta) for delta in deltas[:-1]} == {size}
    assert len(b"".join(deltas)) == 400 * 48, "400 ms at 24 kHz, nothing lost"


# ---- nonsense ----------------------------------------------------------------------------------------------


def test_an_error_event_in_the_middle(start, dial) -> None:
    client = dial(start(faults=Faults(error_code="server_error")))
    client.send("response.create")
    error = client.until("error")["error"]
    assert (error["type"], error["code"]) == ("server_error", "server_error")
    assert client.until("response.done")["response"]["status"] == "completed"


def test_bad_json_and_binary_frames(start, dial) -> None:
    client = dial(start(faults=Faults(bad_json=True, binary_frame=True)))
    client.send("response.create")
    client.until("response.done")
    text, binary = client.raw
    assert isinstance(text, str)
    assert isinstance(binary, bytes)


def test_bad_base64(start, dial) -> None:
    client = dial(start(faults=Faults(bad_base64=True)))
    client.send("response.create")
    client.until("response.done")
    with pytest.raises(binascii.Error):
        [
            base64.b64decode(e["delta"], validate=True)
            for e in client.events
            if e["type"].endswith("audio.delta")
        ]


def test_a_huge_message(start, dial) -> None:
    client = dial(start(faults=Faults(huge_message_bytes=10_000_000)))
    client.send("response.create")
    assert len(client.until("simulated.huge")["padding"]) == 10_000_000
    assert client.until("response.done")["response"]["status"] == "completed"


# ---- all events --------------------------------------------------------------------------------------------


def test_duplicate_events(start, dial) -> None:
    client = dial(start(faults=Faults(duplicate_events=True)))
    client.talk()
    client.until("rate_limits.updated")
    client.until("rate_limits.updated")
    ids = [event["event_id"] for event in client.events]
    assert ids[0::2] == ids[1::2]
    assert len(set(ids)) == len(ids) / 2


@pytest.mark.parametrize("dialect", ["ga", "beta"])
def test_omitted_events(start, dial, dialect: str) -> None:
    omitted = ("session.created", "response.output_audio.done", "response.done")
    sim = start(dialect=dialect, faults=Faults(omit_events=omitted))
    client = dial(sim, created=False)
    for _ in range(2):
        client.send("response.create")
        client.until("rate_limits.updated")
    came = {event["type"] for event in client.events}
    assert not came & {*omitted, "response.audio.done"}
    assert len([e for e in client.events if e["type"] == "response.created"]) == 2, "the server goes on"
    assert len([event for event in sim.sessions[0].sent if event.type == "response.done"]) == 2, "as meant"


def test_long_ids(start, dial) -> None:
    client = dial(start(faults=Faults(id_chars=64), dialogue=CALLING))
    client.update(tools=[TOOL])
    client.talk()
    response = client.until("response.done")["response"]
    [call] = response["output"]
    assert {len(text) for text in (response["id"], call["id"], call["call_id"])} == {64}
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "late"}
    client.send("conversation.item.create", item=answer)
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "it is late"


def test_a_slow_link_delays_both_directions_and_keeps_the_order(start, dial) -> None:
    client = dial(start(faults=Faults(link_delay_ms=100)))
    start_s = time.monotonic()
    for name in ("one", "two", "three"):
        client.send("response.cancel", event_id=name)
    ids = [client.until("error")["error"]["event_id"] for _ in range(3)]
    assert ids == ["one", "two", "three"]
    assert 0.19 <= time.monotonic() - start_s < 0.4, "there and back, but once for all three"


def test_reordered_events(start, dial) -> None:
    sim = start(faults=Faults(reorder_events=True))
    client = dial(sim)
    client.send("response.create")
    client.until("rate_limits.updated")
    meant = [event.body["event_id"] for event in sim.sessions[0].sent]
    came = [event["event_id"] for event in client.events]
    assert came != meant
    assert sorted(came) == sorted(meant), "all of them, each once"


# ---- the end -----------------------------------------------------------------------------------------------


def test_stall(start, dial) -> None:
    sim = start(faults=Faults(stall_after_s=0.05), ping_interval_s=0.02)
    client = dial(sim)
    end_s = time.monotonic() + 3
    while client.ws.ping().wait(0.1) and time.monotonic() < end_s:
        time.sleep(0.01)
    client.send("response.create")
    assert not client.drain(), "nothing comes any more, not even a PONG"
    assert not sim.sessions[0].received("response.create")
    start_s = time.monotonic()
    sim.stop()
    assert time.monotonic() - start_s < 5


def test_drop(start, dial) -> None:
    sim = start(faults=Faults(drop_after_s=0.05))
    assert dial(sim).until_closed() == (1006, "")
    assert sim.sessions[0].wait_closed() == 1006


def test_drop_mid_response(start, dial) -> None:
    client = dial(start(faults=Faults(drop_mid_response=True), voice="tone:440:2000", pace=10.0))
    client.send("response.create")
    assert client.until_closed() == (1006, "")
    assert 1 <= len(audio_deltas(client)) <= 3, "a reset may overtake the last of them"
    assert "response.done" not in client.types()


def test_close_with_a_code(start, dial) -> None:
    faults = Faults(close_after_s=0.02, close_code=1013, close_reason="try again")
    assert dial(start(faults=faults)).until_closed() == (1013, "try again")


@pytest.mark.parametrize(
    ("event", "last"),
    [
        ("response.created", "response.created"),
        ("response.output_audio.delta:2", "response.output_audio.delta"),
        ("response.create", "session.created"),
    ],
)
def test_close_after_an_event(start, dial, event: str, last: str) -> None:
    faults = Faults(close_after_event=event, close_code=4321, close_reason="so told")
    client = dial(start(faults=faults))
    client.send("response.create")
    assert client.until_closed() == (4321, "so told")
    assert client.events[-1]["type"] == last
    assert len(audio_deltas(client)) == (2 if event.endswith(":2") else 0)


def test_expiry(start, dial) -> None:
    client = dial(start(faults=Faults(expire_after_s=0.02)))
    assert client.until("error")["error"]["code"] == "session_expired"
    code, reason = client.until_closed()
    assert code == 1001
    assert "maximum duration of 60 minutes" in reason


def test_an_unanswered_close(start, dial) -> None:
    sim = start(faults=Faults(ignore_close=True))
    client = dial(sim)
    start_s = time.monotonic()
    client.ws.close(1000)
    assert time.monotonic() - start_s >= 0.2, "the client's whole close timeout"
    assert sim.sessions[0].wait_closed() == 1000
