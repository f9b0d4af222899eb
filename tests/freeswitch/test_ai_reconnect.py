"""A connection to the model that is lost in mid-call is made again: what the caller and the model hear of it.

Losses come in silence, while the model thinks, in a reply (under way or queued), and while the caller speaks;
as a reset, as CLOSE 1001 and as CLOSE 1011.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ears import heard_in_order, noise, samples
from lines import at_once
from models import (
    APOLOGY,
    REPLY,
    WORD_MS,
    loud_s,
    model,
    place,
    spoken,
    times_heard,
    utterances_ms,
    wait_heard,
    wait_quiet,
    write_apology,
)
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import wait_until

from ivr_ai.sim.dialogue import Dialogue
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.record import SessionRecord
from ivr_ai.sim.server import SimServer

GREETING = "One two."
LONG = "One two three four five six seven eight."  # 2.8 s, sent within 0.7 s
ASKED = "Where are you?"
DIALOGUE = {
    "turn": [
        {"on": "greeting", "say": GREETING},
        {"heard": ASKED, "say": LONG},
    ],
    "fallback": [REPLY],
    "loop": False,
}
AFTERWARDS = {"turn": [{"on": "greeting", "say": REPLY}], "fallback": [REPLY]}  # of a new connection
LOSSES: dict[str, Callable[[SessionRecord], None]] = {
    "reset": lambda record: record.drop(),
    "1001": lambda record: record.close(1001),
    "1011": lambda record: record.close(1011, "the server restarts"),
}
MOMENTS = ("silence", "thought", "reply under way", "queued reply", "caller speaks")
CASES = [(moment, loss) for moment in MOMENTS for loss in LOSSES]
STALLED_FRAMES = 4  # that FreeSWITCH may read late, and cut up, on a machine that stalls


@dataclass
class Lost:
    """A call whose connection was lost once. It is over."""

    call: SipCall
    records: list[SessionRecord]
    lost_s: float
    said: bytes  # by the caller around the loss, s16
    log: list[str]
    timeline: list[dict[str, Any]] = field(default_factory=list)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.timeline if event["kind"] == kind]

    @property
    def history(self) -> list[tuple[str, str]]:
        """Who said what, as the second connection was told before anything was asked of it."""
        items = [event["item"] for event in self.records[1].received("conversation.item.create")]
        return [(item["role"], item["content"][0]["text"]) for item in items]


def lose(switch: FreeSwitch, folder: Path, moment: str, loss: str) -> Lost:
    """Greeting, a turn, a loss, another turn; then the caller hangs up."""
    pace = 1.2 if moment == "reply under way" else 4.0
    delay_ms = 600 if moment == "thought" else 0
    with (
        model(Faults(created_delay_ms=delay_ms), DIALOGUE, pace=pace) as sim,
        SipCaller(switch.sip_address) as caller,
    ):
        extra = {"IVR_AI_TIMELINE_DIR": folder, "OPENAI_TRANSCRIPTION_MODEL": "any"}
        call = place(caller, sim, **extra).wait_answered()
        record = sim.wait_session()
        wait_quiet(call)
        record.wait_received("session.update", 2)
        said = noise(8000, 1.5 if moment == "caller speaks" else 0.4, seed=3, peak=9000)
        words = call.say(said)
        wait_for_moment(call, record, moment)
        sim.dialogue = Dialogue.load(AFTERWARDS)
        lost_s = time.monotonic()
        LOSSES[loss](record)
        next_record = sim.wait_session(2)
        words.wait(5)
        hear_the_next_reply(call, sim, moment)
        call.hangup()
        next_record.wait_closed(3)
        records = sim.sessions
    switch.wait_log(rf"call {call.call_id} over: ")
    timeline = json.loads((folder / f"{call.call_id}.json").read_text(encoding="utf-8"))["events"]
    log = switch.log_lines(f"ivr_ai: call {call.call_id}")
    payload = call.media.codec.encode(said)
    return Lost(call, records, lost_s, call.media.codec.decode(payload), log, timeline)


def wait_for_moment(call: SipCall, record: SessionRecord, moment: str) -> None:
    if moment == "caller speaks":
        record.wait_sent("input_audio_buffer.speech_started")
        time.sleep(0.3)
        return
    record.wait_sent("input_audio_buffer.speech_stopped")
    if moment == "thought":
        time.sleep(0.1)
        return
    record.wait_sent("response.created", 2)
    heard = len(call.media.audio_packets())
    if moment == "reply under way":
        wait_until(lambda: loud_s(call, heard))
        time.sleep(0.4)
        return
    record.wait_sent("response.done", 2)
    if moment == "silence":
        wait_quiet(call)


def hear_the_next_reply(call: SipCall, sim: SimServer, moment: str) -> None:
    """After a reply that was queued or heard the caller asks again; else their turn is still owed one."""
    if moment in ("silence", "queued reply"):
        wait_until(lambda: len(sim.sessions) == 2 and sim.sessions[1].received("session.update"))
        wait_quiet(call, 600)
        call.say(noise(8000, 0.4, seed=4, peak=9000)).wait(5)
    sim.sessions[1].wait_sent("response.done", 1, 8)
    wait_quiet(call)


@pytest.fixture(scope="module")
def all_lost(switch: FreeSwitch, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Lost]:
    folder = tmp_path_factory.mktemp("timelines")
    cases = [partial(lose, switch, folder, moment, loss) for moment, loss in CASES]
    lost = [each for start in range(0, len(cases), 5) for each in at_once(cases[start : start + 5])]
    switch.wait_channels(0)
    return dict(zip(CASES, lost, strict=True))


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def moment(request: pytest.FixtureRequest) -> str:
    return request.param[0]


@pytest.fixture
def lost(all_lost: dict[tuple[str, str], Lost], request: pytest.FixtureRequest, moment: str) -> Lost:
    loss = next(loss for case, loss in CASES if case == moment and f"{case}-{loss}" in request.node.name)
    return all_lost[moment, loss]


def test_the_call_goes_on_within_a_second(lost: Lost) -> None:
    """As the timeline tells it, and as the second connection was seen to be set up."""
    assert (lost.call.ended_by, len(lost.records)) == ("caller", 2)
    [gone], [back] = lost.events("reconnecting"), lost.events("reconnected")
    assert 0 < back["at_s"] - gone["at_s"] < 1.0
    assert back["ms"] == pytest.approx((back["at_s"] - gone["at_s"]) * 1000, abs=5)
    updated = next(event for event in lost.records[1].sent if event.type == "session.updated")
    assert updated.at_s - lost.lost_s < 1.0


def test_the_log_says_so_once_and_calls_it_no_error(lost: Lost) -> None:
    [warning] = [line for line in lost.log if "[WARNING]" in line]
    assert "lost the server" in warning and "connecting again" in warning
    assert not [line for line in lost.log if "[ERR]" in line]


def test_there_is_no_second_greeting(lost: Lost) -> None:
    """The reply is heard in full; what was queued of another has been played to its end before."""
    creates = [event for record in lost.records for event in record.received("response.create")]
    assert [create["response"].get("instructions") for create in creates].count("Greet.") == 1
    assert utterances_ms(lost.call)[0] == pytest.approx(len(GREETING.split()) * WORD_MS, abs=5)


def test_the_next_reply_is_heard_in_full(lost: Lost, moment: str) -> None:
    heard = lost.call.media.codec.decode(heard_in_order(lost.call))
    greeting_ms, long_ms, reply_ms = (len(line.split()) * WORD_MS for line in (GREETING, LONG, REPLY))
    reply = spoken(lost.call, REPLY)
    after = samples(heard[heard.rindex(reply) + len(reply) :])
    assert np.abs(after).max(initial=0) <= AUDIBLE_PEAK
    before_ms = sum(utterances_ms(lost.call)) - greeting_ms - reply_ms
    if moment in ("silence", "queued reply"):
        assert before_ms == pytest.approx(long_ms, abs=5)
    elif moment == "reply under way":  # what had come of it, and then the answer to the same turn
        assert 300 < before_ms < long_ms
    else:
        assert before_ms == pytest.approx(0, abs=5)


def test_the_model_is_told_what_was_said(lost: Lost, moment: str) -> None:
    """In order, before anything is asked of it: each side's words as far as they were heard.

    A turn that had no answer yet is not among them: its audio is sent again.
    """
    said = [("assistant", GREETING)]
    if moment not in ("caller speaks", "thought"):
        said.append(("user", ASKED))
    if moment in ("silence", "queued reply"):
        said.append(("assistant", LONG))
    assert lost.history == said  # a reply whose words the server had not told yet is left out
    kinds = [event.type for event in lost.records[1].events if event.type != "input_audio_buffer.append"]
    told = ["conversation.item.create"] * len(lost.history)
    assert kinds[: 1 + len(told)] == ["session.update", *told]


def test_the_turns_are_the_servers_from_the_start(lost: Lost) -> None:
    """The greeting has been heard: nothing is protected any more, and no second update is needed."""
    [update] = lost.records[1].received("session.update")
    turns = update["session"]["audio"]["input"]["turn_detection"]
    assert (turns["create_response"], turns["interrupt_response"]) == (True, True)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_caller_who_speaks_meanwhile_is_heard(all_lost: dict[tuple[str, str], Lost], loss: str) -> None:
    """The old connection has the beginning; the new one hears all of the turn, from its first word."""
    lost = all_lost["caller speaks", loss]
    said = lost.said
    first, second = (record.audio for record in lost.records)
    frames = [said[at : at + 320] for at in range(0, len(said) - 319, 320)]
    before = [n for n, frame in enumerate(frames) if frame in first]
    after = [n for n, frame in enumerate(frames) if frame in second]
    assert before and after and after[0] <= STALLED_FRAMES
    assert len(before) >= before[-1] + 1 - STALLED_FRAMES
    assert len(after) >= len(frames) - STALLED_FRAMES
    over = [event for event in lost.timeline if event["kind"] == "speech_stopped"]
    assert len(over) == 1


# ---- a server that stays away ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Away:
    """How a server stays away, what the log says of it, and how long it is waited for."""

    leave: Callable[[SimServer], None]
    log: str
    within_s: float
    connect_timeout_ms: int = 1000


def leave_and_refuse(status: int) -> Callable[[SimServer], None]:
    def leave(sim: SimServer) -> None:
        sim.faults = Faults(refuse_status=status)
        sim.sessions[0].drop()

    return leave


def leave_and_hang(sim: SimServer) -> None:
    sim.faults = Faults(connect_delay_ms=60_000)
    sim.sessions[0].drop()


AWAY = {
    "stopped": Away(SimServer.stop, "is the server of OPENAI_REALTIME_URL running?", 1.5, 5000),
    "HTTP 503": Away(leave_and_refuse(503), "answered HTTP 503", 1.7),
    "HTTP 401": Away(leave_and_refuse(401), "answered HTTP 401", 0.5, 5000),
    "hanging": Away(leave_and_hang, "did not answer within 1000 ms", 2.0),
}


@pytest.mark.parametrize("name", AWAY)
def test_a_server_that_stays_away(switch: FreeSwitch, caller: SipCaller, tmp_path: Path, name: str) -> None:
    """The apology, to the sample, and then what is configured."""
    away, apology = AWAY[name], write_apology(tmp_path)
    with model(dialogue=DIALOGUE) as sim:
        more = {"IVR_AI_APOLOGY_FILE": apology, "IVR_AI_CONNECT_TIMEOUT_MS": away.connect_timeout_ms}
        call = place(caller, sim, **more).wait_answered()
        wait_quiet(call)
        lost_s, before = time.monotonic(), len(call.media.audio_packets())
        away.leave(sim)
        wait_heard(call, APOLOGY)
        assert call.wait_ended(3) == "NORMAL_TEMPORARY_FAILURE"
    assert loud_s(call, before)[0] - lost_s < away.within_s
    [error] = [line for line in switch.log_lines(f"ivr_ai: call {call.call_id}: ") if "[ERR]" in line]
    assert away.log in error
    assert APOLOGY in call.media.codec.decode(heard_in_order(call)) and times_heard(call, APOLOGY) == 1


def test_a_caller_who_hangs_up_while_it_is_away(switch: FreeSwitch, caller: SipCaller) -> None:
    with model(dialogue=DIALOGUE) as sim:
        call = place(caller, sim).wait_answered()
        wait_quiet(call)
        leave_and_hang(sim)
        wait_until(lambda: sim.attempts == 2)
        call.hangup()
        switch.wait_channels(0, 1.0)
        [line] = switch.wait_log(rf"call {call.call_id} over: ")
        assert "the caller hung up" in line


def test_a_transport_in_python_does_the_same(switch: FreeSwitch, caller: SipCaller) -> None:
    with model(dialogue=AFTERWARDS) as sim:
        call = place(caller, sim, IVR_AI_TRANSPORT="python").wait_answered()
        wait_quiet(call)
        for n, loss in enumerate(LOSSES.values()):
            loss(sim.sessions[-1])
            sim.wait_session(n + 2).wait_received("session.update")
            call.say(noise(8000, 0.4, seed=n, peak=9000)).wait(5)
            wait_heard(call, spoken(call, REPLY), n + 2)  # the first is the greeting
            wait_quiet(call)
        call.hangup()
        [line] = switch.wait_log(rf"call {call.call_id} over: ")
    assert "3 turns, 0 barge-ins" in line
