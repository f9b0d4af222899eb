"""Each fault of the simulated server, as its clients see it."""

from __future__ import annotations

import base64
import binascii
import time

import pytest
from websockets.exceptions import InvalidStatus

from ivr_ai.sim.faults import Faults

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


def test_duplicate_events(start, dial) -> None:
    client = dial(start(faults=Faults(duplicate_events=True)))
    client.send("response.create")
    client.until("rate_limits.updated")
    ids = [event["event_id"] for event in client.events if event["type"].startswith("response.")]
    assert ids[0::2] == ids[1::2]


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
