"""`python ivr_ai.app` on real calls: whole conversations with a local model, looked at from both ends."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ears import audible_span, chirp, gaps, heard_in_order, level_db, noise
from lines import TRIES, at_once, far_end
from models import GREETING, REPLY, WORD_MS, asked_format, check_tones, model, place, spoken, wait_quiet
from support.sip import SipCall, SipCaller
from support.switch import FreeSwitch
from taps import Probe

from ivr_ai.audio.formats import Format
from ivr_ai.sim.record import SessionRecord

PCM_24K = Format("s16", 24000)
FORMATS = {"PCMU": Format("pcmu", 8000), "PCMA": Format("pcma", 8000), "L16/16000": PCM_24K, "opus": PCM_24K}
G711 = ("PCMU", "PCMA")


@dataclass
class Held:
    """A conversation that is over: the greeting, the caller's turn, the reply, the caller's hangup."""

    uuid: str
    call: SipCall
    record: SessionRecord
    said: bytes
    hung_up_s: float
    closed_s: float
    timeline: list[dict[str, Any]]
    summary: str

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.timeline if event["kind"] == kind]


class Conversations:
    """Holds one conversation per codec, all at the same time."""

    def __init__(self, switch: FreeSwitch, probe: Probe, folder: Path) -> None:
        self._switch, self._probe, self._folder = switch, probe, folder
        self.held: dict[str, Held] = {}

    def hold(self, codec: str) -> None:
        """Opus is spoken between two legs inside the switch: the caller's own is L16 at 16 kHz."""
        own = "L16/16000" if codec == "opus" else codec
        with model() as sim, SipCaller(self._switch.sip_address, own) as caller:
            extension = "bridge-opus-1234" if codec == "opus" else "1234"
            call = place(caller, sim, extension, IVR_AI_TIMELINE_DIR=self._folder).wait_answered()
            uuid = far_end(self._probe, call) if codec == "opus" else call.call_id
            record = sim.wait_session()
            wait_quiet(call)
            said = noise(8000, 0.6) if codec in G711 else chirp(call.media.codec.rate_hz, 0.6)
            call.say(said).wait(5)
            record.wait_sent("response.done", 2)
            wait_quiet(call)
            hung_up_s = time.monotonic()
            call.hangup()
            record.wait_closed(5)
            ended = hung_up_s, time.monotonic()
            [summary] = self._switch.wait_log(f"ivr_ai: call {uuid} over: ")
            timeline = json.loads((self._folder / f"{uuid}.json").read_text(encoding="utf-8"))
        assert timeline["uuid"] == uuid
        self.held[codec] = Held(uuid, call, record, said, *ended, timeline["events"], summary)


@pytest.fixture(scope="module")
def conversations(
    switch: FreeSwitch, probe: Probe, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Held]:
    holding = Conversations(switch, probe, tmp_path_factory.mktemp("timelines"))
    at_once(partial(holding.hold, codec) for codec in FORMATS)
    switch.wait_channels(0)
    return holding.held


@pytest.fixture(params=list(FORMATS))
def codec(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def held(conversations: dict[str, Held], codec: str) -> Held:
    return conversations[codec]


def test_the_model_is_connected_before_the_answer(held: Held) -> None:
    configured = [event for event in held.record.sent if event.type == "session.updated"]
    assert held.record.connected_s < configured[0].at_s < held.call.answered_at_s


def test_the_formats_asked_for_are_the_calls(held: Held, codec: str) -> None:
    """With one session.update before the greeting."""
    assert asked_format(held.record, "input") == FORMATS[codec]
    assert asked_format(held.record, "output") == FORMATS[codec]
    assert held.record.audio_rate_hz == FORMATS[codec].rate_hz
    events = [event for event in held.record.events if event.type in ("session.update", "response.create")]
    assert [event.type for event in events][:2] == ["session.update", "response.create"]


def test_the_model_gets_the_turns_when_the_greeting_has_been_heard(held: Held) -> None:
    """Until then it neither answers nor interrupts; the update that changes this says nothing else."""
    turns = held.record.first_update["session"]["audio"]["input"]["turn_detection"]
    assert (turns["create_response"], turns["interrupt_response"]) == (False, False)
    last = [event for event in held.record.events if event.type == "session.update"][-1]
    turns = {**turns, "create_response": True, "interrupt_response": True}
    assert last.body["session"] == {"type": "realtime", "audio": {"input": {"turn_detection": turns}}}
    heard = held.events("item_finished")[0]["at_s"]
    assert heard <= last.at_s < heard + 1.0


def test_greeting_and_reply_are_heard_in_full(held: Held, codec: str) -> None:
    """G.711 to the sample; where it was resampled, by length, frequency and level."""
    if codec in G711:
        heard = held.call.media.codec.decode(heard_in_order(held.call))
        greeting, reply = (spoken(held.call, text) for text in (GREETING, REPLY))
        assert greeting in heard
        assert reply in heard[heard.index(greeting) + len(greeting) :]
        return
    if (
        codec == "opus"
    ):  # two hops, each of which may leave out a frame; its bridge is up after the greeting began
        heard, lines, slack_ms = held.call.received(), [REPLY], 90
    else:
        heard = held.call.media.codec.decode(heard_in_order(held.call))
        lines, slack_ms = [GREETING, REPLY], 10
    check_tones(heard, held.call.media.codec.rate_hz, lines, slack_ms)


def test_no_gaps_inside_replies(
    conversations: dict[str, Held], switch: FreeSwitch, probe: Probe, tmp_path: Path
) -> None:
    """FreeSWITCH leaves a frame's time out when the machine stalls: one of a few must be whole."""
    counts = [gaps(held.call) for held in conversations.values()]
    again = Conversations(switch, probe, tmp_path)
    for _ in range(TRIES):
        if min(counts) > 0:
            at_once(partial(again.hold, codec) for codec in G711)
            counts += [gaps(held.call) for held in again.held.values()]
    assert min(counts) == 0, counts


def test_the_caller_is_heard_by_the_model(held: Held, codec: str) -> None:
    heard = held.record.audio
    if codec in G711:
        sip = held.call.media.codec
        assert sip.decode(sip.encode(held.said)) in heard
        return
    start_ms, end_ms = audible_span(heard, 24000)
    assert end_ms - start_ms == pytest.approx(600, abs=30)
    voice = heard[int(start_ms) * 48 : int(end_ms) * 48]
    assert level_db(voice) == pytest.approx(level_db(held.said), abs=1.5)


def test_all_the_time_of_the_call_is_heard_by_the_model(held: Held) -> None:
    """Silence too: the model's turn detection counts it."""
    lasted_ms = (held.hung_up_s - held.call.answered_at_s) * 1000
    assert held.record.audio_ms == pytest.approx(lasted_ms, abs=300)


def test_the_callers_hangup_ends_the_session_within_a_second(held: Held) -> None:
    assert held.closed_s - held.hung_up_s < 1.0
    assert held.record.close_code == 1000


def test_the_summary_says_how_it_went(held: Held) -> None:
    assert "[INFO]" in held.summary
    for part in ("1 turns", "0 barge-ins", "0 underruns", "turn latency p50 ", "the caller hung up"):
        assert part in held.summary


def test_the_timeline_tells_what_happened(held: Held) -> None:
    kinds = [event["kind"] for event in held.timeline]
    story = ["connected", "answered", "greeting", "response_started", "heard", "item_finished", "ai_said"]
    story += ["speech_started", "speech_stopped", "response_started", "heard", "item_finished", "ai_said"]
    story += ["ended"]
    rest = iter(kinds)
    assert all(kind in rest for kind in story), kinds
    assert [event["text"] for event in held.events("ai_said")] == [GREETING, REPLY]
    assert [event["turn"] for event in held.events("heard")] == [0, 1]
    assert kinds.count("item_finished") == 2
    assert not {"error", "failure", "barge_in", "setting_refused"} & set(kinds)


def test_the_timelines_times_are_those_of_the_line(held: Held, codec: str) -> None:
    """The first audible packet is there when the timeline says that it was heard."""
    first = held.events("heard")[0]["at_s"]
    slack_s = 0.15 if codec == "opus" else 0.06  # two more hops, and their jitter
    assert -0.005 < held.call.first_audio_at_s - first < slack_s
    assert held.events("answered")[0]["at_s"] == pytest.approx(held.call.answered_at_s, abs=0.1)
    played = [event["played_ms"] for event in held.events("item_finished")]
    assert played == pytest.approx([len(text.split()) * WORD_MS for text in (GREETING, REPLY)], abs=1)


# ---- every sample ------------------------------------------------------------------------------------------


class Monologue(NamedTuple):
    """What a caller said, as G.711 says it, and what the model heard."""

    said: list[bytes]
    record: SessionRecord


def talk(switch: FreeSwitch, codec: str) -> Monologue:
    """From the answer on, for three seconds, too softly for the model to take it for speech."""
    with model() as sim, SipCaller(switch.sip_address, codec) as caller:
        call = place(caller, sim, OPENAI_GREETING="").wait_answered()
        utterances = [call.say(noise(8000, 1.0, seed, peak=200)) for seed in range(3)]
        assert utterances[-1].wait(8)
        time.sleep(0.5)
        call.hangup()
        record = sim.wait_session()
        record.wait_closed(5)
        return Monologue([call.media.codec.decode(each.payload) for each in utterances], record)


def test_every_sample_from_shortly_after_the_answer(switch: FreeSwitch) -> None:
    """FreeSWITCH drops what comes while it sets up its end of the RTP. For stalls there are three tries."""
    for _ in range(TRIES):
        monologues = at_once(partial(talk, switch, codec) for codec in G711)
        settled = 2 * 8000 // 5  # a fifth of a second
        if all(b"".join(said)[settled:] in record.audio for said, record in monologues):
            return
    pytest.fail("the model did not hear every sample of any of three tries")
