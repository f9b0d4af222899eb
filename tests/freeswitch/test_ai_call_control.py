"""`python ivr_ai.app` on real calls: timing, interruption, endings, settings, calls the dialplan keeps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from ears import frequency_hz, noise, peaks, samples
from lines import TRIES, at_once
from models import (
    GREETING,
    KEY,
    REPLY,
    loud_s,
    model,
    place,
    settings,
    spoken,
    times_heard,
    wait_heard,
    wait_quiet,
)
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller, SipError
from support.switch import TONE_HZ, FreeSwitch
from taps import Probe, wait_until

from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

NewCaller = Callable[..., SipCaller]
AGENTS = Path(__file__).resolve().parents[2] / "conf" / "agents"
LONG = "One two three four five six seven eight nine ten."  # three and a half seconds
TALKATIVE = {"turn": [{"on": "greeting", "say": LONG}, {"say": REPLY}]}

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def sim() -> Iterator[SimServer]:
    """A model that greets and answers, in tones."""
    with model() as running:
        yield running


@pytest.fixture
def talkative() -> Iterator[SimServer]:
    """A model with a long greeting."""
    with model(dialogue=TALKATIVE) as running:
        yield running


def in_conversation(switch: FreeSwitch) -> list[str]:
    """The calls that ivr_ai says it is holding."""
    return [call["uuid"] for call in json.loads(switch.cli("python ivr_ai.app status"))["calls"]]


def wait_nothing_left(switch: FreeSwitch, probe: Probe, uuid: str) -> None:
    """Until no conversation and no stream of the call is left."""
    wait_until(lambda: uuid not in in_conversation(switch), 2.0, "the end of the conversation")
    assert probe.do("open_now", uuid=uuid) == []


# ---- timing ------------------------------------------------------------------------------------------------


def test_the_greeting_comes_within_300_ms_of_the_answer(sim: SimServer, caller: SipCaller) -> None:
    """The median of five calls, one after the other; the machine may be busy for two such medians."""
    medians = []
    for _ in range(TRIES):
        delays_ms = []
        for _ in range(5):
            call = place(caller, sim).wait_answered()
            wait_until(lambda call=call: call.first_audio_at_s)
            delays_ms.append((call.first_audio_at_s - call.answered_at_s) * 1000)
            call.hangup()
        medians.append(median(delays_ms))
        if medians[-1] < 300:
            return
    pytest.fail(f"the first sound came a median of {medians} ms after the answer")


class BargeIn(NamedTuple):
    """What an interruption looked like."""

    silent_after_ms: float  # from the server's speech_started to the last audible packet of the item
    told_ms: float  # truncate's audio_end_ms
    heard_ms: float  # what RTP carried of the item
    exact: bool  # all of that, but for the fade, was to the sample as it was said


def barge_in(caller: SipCaller, talk_s: float, said_into: str) -> BargeIn:
    """Interrupts a long greeting or a long reply after a while; then hears the next reply in full, and hangs
    up.
    """
    lines = [LONG, REPLY] if said_into == "greeting" else [GREETING, LONG, REPLY]
    greeting, *replies = lines
    dialogue = {"turn": [{"on": "greeting", "say": greeting}, *({"say": line} for line in replies)]}
    with model(dialogue=dialogue) as sim:
        call = place(caller, sim, IVR_AI_GREETING_INTERRUPTIBLE=1).wait_answered()
        record = sim.wait_session()
        if said_into == "reply":
            wait_quiet(call)
            call.say(noise(8000, 0.4, seed=2)).wait(5)
        before = len(call.media.audio_packets())
        wait_until(lambda: loud_s(call, before), 5)
        time.sleep(talk_s)
        call.say(noise(8000, 0.4))
        record.wait_sent("input_audio_buffer.speech_stopped", len(lines) - 1)
        item_packets = call.media.audio_packets()[before:]
        wait_heard(call, spoken(call, REPLY))
        call.hangup()
        record.wait_closed(3)
    [truncation] = record.truncations
    last_loud_s = [at_s for at_s in loud_s(call, before) if at_s <= item_packets[-1].arrived_s][-1]
    heard = samples(call.media.codec.decode(b"".join(packet.payload for packet in item_packets)))
    said, loud = samples(spoken(call, LONG)), np.flatnonzero(np.abs(heard) > AUDIBLE_PEAK)
    start = loud[0] - np.argmax(np.abs(said) > AUDIBLE_PEAK)
    whole = truncation["audio_end_ms"] * 8 - 80  # the flush fades for 10 ms
    started = [event.at_s for event in record.sent if event.type == "input_audio_buffer.speech_started"]
    return BargeIn(
        silent_after_ms=(last_loud_s - started[-1]) * 1000,
        told_ms=truncation["audio_end_ms"],
        heard_ms=(loud[-1] + 1 - start) / 8,
        exact=np.array_equal(heard[start : start + whole], said[:whole]),
    )


@pytest.mark.parametrize("said_into", ["greeting", "reply"])
def test_barge_in(new_caller: NewCaller, said_into: str) -> None:
    """At several moments at once: silence at once, and the model is told what was heard."""
    silences_ms = []
    for _ in range(TRIES):
        callers = [new_caller() for _ in range(5)]
        seen = at_once(partial(barge_in, one, 0.4 + n / 9, said_into) for n, one in enumerate(callers))
        assert all(one.exact for one in seen)
        assert median(abs(one.told_ms - one.heard_ms) for one in seen) <= 20
        assert all(one.told_ms < 3500 for one in seen)
        silences_ms.append(median(one.silent_after_ms for one in seen))
        if silences_ms[-1] <= 60:
            return
    pytest.fail(f"the caller heard the old reply for a median of {silences_ms} ms")


# ---- endings -----------------------------------------------------------------------------------------------


def test_the_models_close_ends_the_call_within_a_second(
    switch: FreeSwitch, probe: Probe, sim: SimServer, caller: SipCaller
) -> None:
    call = place(caller, sim).wait_answered()
    wait_quiet(call)
    closed_s = time.monotonic()
    sim.sessions[0].close(1000)
    assert call.wait_ended(2) == "NORMAL_CLEARING"
    assert call.ended_by == "switch"
    assert call.ended_at_s - closed_s < 1.0
    switch.wait_log(rf"\[INFO\].*call {call.call_id} over: the server ended the conversation")
    wait_nothing_left(switch, probe, call.call_id)


def test_a_caller_who_gives_up_before_the_answer(switch: FreeSwitch, probe: Probe, caller: SipCaller) -> None:
    with model(Faults(connect_delay_ms=2000)) as slow:
        call = place(caller, slow)
        wait_until(lambda: slow.attempts == 1)
        call.hangup()
        assert call.wait_ended(2) == "ORIGINATOR_CANCEL"
        switch.wait_channels(0, 1.0)
        wait_nothing_left(switch, probe, call.call_id)


def test_what_the_dialplan_does_after_a_conversation(
    switch: FreeSwitch, probe: Probe, sim: SimServer, caller: SipCaller
) -> None:
    call = place(caller, sim, "then-tone", IVR_AI_END_ACTION="return").wait_answered()
    wait_quiet(call)
    sim.sessions[0].close(1000)
    wait_nothing_left(switch, probe, call.call_id)
    call.wait_received(len(call.received()) / 16 + 600)
    assert frequency_hz(call.received()[-6400:], 8000) == pytest.approx(TONE_HZ, abs=3)
    assert call.ended_at_s is None


def test_a_call_that_is_transferred_away(
    switch: FreeSwitch, probe: Probe, talkative: SimServer, caller: SipCaller
) -> None:
    call = place(caller, talkative).wait_answered()
    wait_until(lambda: call.first_audio_at_s)
    switch.cli(f"uuid_transfer {call.call_id} music XML test")
    transferred_s = time.monotonic()
    talkative.sessions[0].wait_closed(2)
    assert time.monotonic() - transferred_s < 1.0
    wait_nothing_left(switch, probe, call.call_id)
    call.wait_received(len(call.received()) / 16 + 800)
    assert frequency_hz(call.received()[-6400:], 8000) == pytest.approx(620, abs=3)
    assert call.ended_at_s is None
    switch.wait_log(rf"call {call.call_id} over: ")


def test_a_call_that_goes_on_too_long(switch: FreeSwitch, sim: SimServer, caller: SipCaller) -> None:
    call = place(caller, sim, IVR_AI_MAX_CALL_S=1).wait_answered()
    assert call.wait_ended(3) == "NORMAL_CLEARING"
    switch.wait_log(rf"call {call.call_id} over: call limit of 1 s reached \(IVR_AI_MAX_CALL_S\)")


def test_stopping_the_stream_ends_the_conversation(
    switch: FreeSwitch, probe: Probe, talkative: SimServer, caller: SipCaller
) -> None:
    call = place(caller, talkative).wait_answered()
    wait_until(lambda: call.first_audio_at_s)
    assert probe.command(call.call_id, "stop") == "+OK"
    assert call.wait_ended(3) == "NORMAL_CLEARING"
    switch.wait_log(rf"call {call.call_id} over: the audio stream was stopped")


def test_a_caller_who_holds_the_call_misses_nothing(talkative: SimServer, caller: SipCaller) -> None:
    call = place(caller, talkative).wait_answered()
    wait_until(lambda: call.first_audio_at_s)
    call.hold()
    time.sleep(0.5)
    assert times_heard(call, spoken(call, LONG)) == 0
    call.unhold()
    wait_heard(call, spoken(call, LONG))


def test_digits_disturb_nothing(switch: FreeSwitch, sim: SimServer, caller: SipCaller) -> None:
    call = place(caller, sim).wait_answered()
    wait_until(lambda: call.first_audio_at_s)
    call.dtmf("159*#", 60, 60)
    wait_heard(call, spoken(call, GREETING))
    wait_quiet(call)
    call.dtmf("7")
    call.say(noise(8000, 0.5)).wait(5)
    wait_heard(call, spoken(call, REPLY))
    call.hangup()
    [line] = switch.wait_log(rf"call {call.call_id} over: ")
    assert "1 turns, 0 barge-ins" in line


# ---- settings ----------------------------------------------------------------------------------------------


def test_every_call_has_settings_of_its_own(sim: SimServer, new_caller: NewCaller) -> None:
    values = {
        "OPENAI_REALTIME_VOICE": "cedar",
        "VAD_SILENCE_DURATION_MS": 444,
        "OPENAI_REALTIME_MODEL": "mine",
    }
    own = place(new_caller(), sim, OPENAI_SYSTEM_INSTRUCTIONS="Be brief, and kind.", **values).wait_answered()
    other = place(new_caller(), sim, OPENAI_AUDIO_FORMAT="pcm").wait_answered()
    first, second = (record.first_update["session"] for record in sim.sessions)
    assert first["instructions"] == "Be brief, and kind." != second["instructions"]
    assert (first["audio"]["output"]["voice"], second["audio"]["output"]["voice"]) == ("cedar", "marin")
    assert first["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 444
    assert second["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert [record.query["model"] for record in sim.sessions] == ["mine", sim.sessions[1].query["model"]]
    assert sim.sessions[0].headers["authorization"] == f"Bearer {KEY}"
    wait_quiet(own)
    wait_quiet(other)


def test_an_agent_profile(sim: SimServer, caller: SipCaller) -> None:
    """`ivr_ai.app reception`: the profile's settings; a channel variable is worth more."""
    call = place(
        caller, sim, "reception", IVR_AI_AGENTS_DIR=AGENTS, VAD_PREFIX_PADDING_MS=222
    ).wait_answered()
    session = sim.sessions[0].first_update["session"]
    assert session["instructions"].strip().startswith("You are the receptionist of Harbour Dental")
    assert session["audio"]["output"]["voice"] == "cedar"
    turns = session["audio"]["input"]["turn_detection"]
    assert (turns["silence_duration_ms"], turns["prefix_padding_ms"]) == (600, 222)
    wait_heard(call, spoken(call, GREETING))


@pytest.mark.parametrize(
    ("name", "value"),
    [("VAD_THRESHOLD", "7"), ("OPENAI_REALTIME_URL", "http://127.0.0.1/"), ("IVR_AI_AGENT", "nobody")],
)
def test_a_wrong_setting_refuses_the_call(
    switch: FreeSwitch, sim: SimServer, caller: SipCaller, name: str, value: str
) -> None:
    call = place(caller, sim, IVR_AI_AGENTS_DIR=AGENTS, **{name: value})
    with pytest.raises(SipError, match="NORMAL_TEMPORARY_FAILURE"):
        call.wait_answered()
    assert sim.attempts == 0
    [line] = switch.wait_log(rf"\[ERR\].*ivr_ai: call {call.call_id} refused, its settings are wrong: ")
    assert f"{name} '{value}' (channel variable): " in line


# ---- calls the dialplan keeps ------------------------------------------------------------------------------


def converse(switch: FreeSwitch, caller: SipCaller, extension: str) -> SipCall:
    """Greeting and reply on a call that the dialplan has; afterwards the conversation is stopped."""
    with model() as sim:
        call = place(caller, sim, extension).wait_answered()
        uuid = call.call_id
        assert switch.cli(f"python ivr_ai.app start {uuid}") == "+OK"
        again = switch.cli(f"python ivr_ai.app start {uuid}")
        assert again == f"-ERR call {uuid} is in a conversation already"
        wait_heard(call, spoken(call, GREETING))
        assert uuid in in_conversation(switch)
        sim.sessions[0].wait_sent("response.done")
        wait_quiet(call) if extension != "tone" else time.sleep(0.5)
        call.say(noise(8000, 0.5)).wait(5)
        wait_heard(call, spoken(call, REPLY))
        assert switch.cli(f"python ivr_ai.app stop {uuid}") == "+OK"
        assert sim.sessions[0].wait_closed(2) == 1000
    return call


def test_conversations_on_calls_that_the_dialplan_keeps(
    switch: FreeSwitch, probe: Probe, new_caller: NewCaller
) -> None:
    places = ("park", "sleep", "tone", "bridge-sofia-park")
    calls = at_once(partial(converse, switch, new_caller(), place) for place in places)
    for call in calls:
        wait_nothing_left(switch, probe, call.call_id)
        assert call.ended_at_s is None
    tone = calls[places.index("tone")]
    tone.wait_packets(15)
    after = tone.received()[-3200:]
    assert frequency_hz(after, 8000) == pytest.approx(TONE_HZ, abs=5)
    assert peaks(after, 8000).min() > AUDIBLE_PEAK


def test_a_conversation_that_ends_by_itself_ends_the_call(
    switch: FreeSwitch, sim: SimServer, new_caller: NewCaller
) -> None:
    """Unless IVR_AI_END_ACTION says that it goes on; and a hangup ends the conversation."""
    calls = [
        new_caller().call("park", settings(sim.url, IVR_AI_END_ACTION=action)).wait_answered()
        for action in ("hangup", "return", "return")
    ]
    for call in calls:
        assert switch.cli(f"python ivr_ai.app start {call.call_id}") == "+OK"
        wait_until(lambda call=call: call.first_audio_at_s)
    sim.sessions[0].close(1000)
    sim.sessions[1].close(1000)
    assert calls[0].wait_ended(2) == "NORMAL_CLEARING"
    wait_until(lambda: in_conversation(switch) == [calls[2].call_id])
    assert calls[1].ended_at_s is None
    calls[2].hangup()
    sim.sessions[2].wait_closed(2)
    wait_until(lambda: in_conversation(switch) == [])


def test_what_the_command_refuses(switch: FreeSwitch, caller: SipCaller) -> None:
    call = caller.call("park").wait_answered()
    nobody = "5c7a4b0e-8d1f-4a53-9f2e-0123456789ab"
    refusals = {
        f"start {nobody}": f"-ERR no call with uuid '{nobody}'",
        f"stop {call.call_id}": f"-ERR no conversation was started on call '{call.call_id}'",
        "start": "-ERR cannot read 'start'\n-USAGE: python ivr_ai.app status | version | start <uuid>",
        "dance": "-ERR cannot read 'dance'\n-USAGE: ",
    }
    for words, answer in refusals.items():
        assert switch.cli(f"python ivr_ai.app {words}").startswith(answer)
    assert switch.cli("python ivr_ai.app version").startswith("ivr_ai ")
    status = json.loads(switch.cli("python ivr_ai.app"))
    assert status["calls"] == []
    assert set(status) == {
        "version",
        "calls",
        "calls_total",
        "calls_refused",
        "draining",
        "events_dropped",
        "uptime_s",
    }


def test_draining_refuses_new_calls_and_leaves_the_others(
    switch: FreeSwitch, sim: SimServer, new_caller: NewCaller
) -> None:
    first = place(new_caller(), sim).wait_answered()
    wait_heard(first, spoken(first, GREETING))
    assert switch.cli("python ivr_ai.app drain") == "+OK draining, 1 calls under way"
    try:
        refused = place(new_caller(), sim)
        assert refused.wait_ended(3) == "SWITCH_CONGESTION"
        assert refused.answered_at_s is None
        elsewhere = {"IVR_AI_FAILURE_ACTION": "transfer", "IVR_AI_FAILURE_TRANSFER": "music XML test"}
        transferred = place(new_caller(), sim, **elsewhere).wait_answered()
        transferred.wait_packets(10)
        transferred.hangup()
    finally:
        assert switch.cli("python ivr_ai.app undrain") == "+OK"
    wait_quiet(first)
    first.say(noise(8000, 0.4)).wait(5)
    wait_heard(first, spoken(first, REPLY))
    [facts] = json.loads(switch.cli("python ivr_ai.app status"))["calls"]
    assert (facts["uuid"], facts["agent"], facts["turn"]) == (first.call_id, "default", 1)
    first.hangup()
    place(new_caller(), sim).wait_answered().hangup()


@pytest.mark.parametrize(
    ("extension", "answered"), [("1234", False), ("reception", False), ("answered-1234", True)]
)
def test_wrong_settings_follow_the_failure_action(
    switch: FreeSwitch, caller: SipCaller, extension: str, answered: bool
) -> None:
    """Unanswered, so that a gateway may go on; a caller who is connected already hears the apology."""
    wrong = {"X-Set": "VAD_THRESHOLD=loud|IVR_AI_APOLOGY_TEXT=Sorry."}
    call = caller.call(extension, wrong)
    assert call.wait_ended(8) == "NORMAL_TEMPORARY_FAILURE"
    assert (call.answered_at_s is not None) is answered
    if answered:
        assert np.abs(samples(call.received())).max() > AUDIBLE_PEAK
    [line] = switch.wait_log(
        rf"\[ERR\].*ivr_ai: call {call.call_id} refused, its settings are wrong: VAD_THRESHOLD"
    )
    assert "'loud'" in line
