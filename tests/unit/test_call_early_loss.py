"""Connections that are lost before the session is agreed on, or just after: the call goes on all the same."""

from __future__ import annotations

import pytest

from ivr_ai.sim.faults import Faults

EARLY = ("session.created", "session.update", "session.updated", "response.create", "response.created")


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


@pytest.mark.parametrize("event", EARLY)
@pytest.mark.parametrize("code", [1001, 1011])
def test_closed_after_one_of_the_first_events(place, sim, event, code):
    """A new connection negotiates its session from the start, and the greeting is heard on it."""
    server = sim(faults=Faults(close_after_event=event, close_code=code, first_connections=1))
    placed = place(server, greeting="Say hello.")
    placed.wait("item_finished")
    placed.hang_up()
    placed.finish()
    assert placed.of("failure") == []
    assert len(server.sessions) == 2
    second = server.sessions[1]
    session = second.first_update["session"]
    assert {"instructions", "audio"} <= set(session) and "format" in session["audio"]["input"]
    assert len(second.received("response.create")) == 1


@pytest.mark.parametrize("count", [2, 3])
def test_closed_early_several_times(place, sim, count):
    faults = Faults(close_after_event="session.created", close_code=1011, first_connections=count)
    server = sim(faults=faults)
    placed = place(server, greeting="Say hello.")
    placed.wait("item_finished")
    placed.hang_up()
    placed.finish()
    assert placed.of("failure") == []
    assert len(server.sessions) == count + 1


def test_a_session_that_has_expired_before_it_began(place, sim):
    """A service that drains a machine says so at once; another machine takes the call."""
    server = sim(faults=Faults(expire_after_s=0.0, first_connections=1))
    placed = place(server, greeting="Say hello.")
    placed.wait("item_finished")
    placed.hang_up()
    placed.finish()
    assert placed.of("failure") == []


def test_a_next_connection_that_is_lost_early_as_well(place, sim):
    """In mid-call: the second connection ends before its session, the third goes on."""
    server = sim()
    placed = place(server, greeting="Say hello.")
    placed.wait("item_finished")
    server.faults = Faults(close_after_event="session.created", close_code=1011, first_connections=2)
    server.sessions[0].drop()
    placed.wait("reconnected")
    placed.hang_up()
    placed.finish()
    assert placed.of("failure") == []
    assert len(server.sessions) == 3
    [create] = server.sessions[0].received("response.create")
    assert create["response"]["instructions"] == "Say hello."
    assert not server.sessions[2].received("response.create")
