"""What FreeSWITCH sees of a call reaches the application at a stream's other end: keys, hold, bridges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lines import Line, at_once
from support.sip import SipCaller
from support.switch import OUR_MODULE, FreeSwitch
from taps import Probe, wait_until

NewCaller = Callable[..., SipCaller]
OpenLine = Callable[..., Line]

pytestmark = pytest.mark.usefixtures("stream_switch")


def keys(events: list[dict]) -> str:
    return "".join(event["digit"] for event in events if event["type"] == "host.dtmf")


@pytest.mark.parametrize(
    ("extension", "pressed"), [("park", "159*0#D"), ("echo", "159*0#D"), ("tone", "1590#D"), ("sleep", "1")]
)
def test_keys_as_they_are_pressed(open_line: OpenLine, extension: str, pressed: str) -> None:
    """RFC 2833, whatever the dialplan does meanwhile. (A star ends `playback`, and any key ends `sleep`.)"""
    line = open_line(extension)
    tap = line.tap.subscribe()
    line.call.dtmf(pressed, duration_ms=120)
    events = tap.wait_told(len(pressed))
    assert keys(events) == pressed
    assert all(80 <= event["duration_ms"] <= 200 for event in events)
    assert tap.do("stats")["host_events"] == len(pressed)


def test_all_streams_of_a_call_and_no_other_hear_of_it(probe: Probe, open_line: OpenLine) -> None:
    line, other = open_line("park"), open_line("park")
    taps = [line.tap.subscribe(), probe.start(line.call, "second").subscribe()]
    other.tap.subscribe()
    line.call.dtmf("12")
    assert [keys(tap.wait_told(2)) for tap in taps] == ["12", "12"]
    other.call.dtmf("3")
    assert keys(other.tap.wait_told(1)) == "3"
    assert keys(taps[0].told()) == "12"


def test_others_have_the_keys_as_well(probe: Probe, open_line: OpenLine) -> None:
    """A bound key does what it is bound to, and an application that reads keys gets them."""
    bound, read = open_line("keys-bound"), open_line("keys-read")
    for line, digits in ((bound, "5"), (read, "42")):
        line.tap.subscribe()
        line.call.dtmf(digits)
        assert keys(line.tap.wait_told(len(digits))) == digits
    for line, variable, value in ((bound, "pressed", "five"), (read, "typed", "42")):
        name = f"uuid_getvar {line.call.call_id} {variable}"
        wait_until(lambda name=name, value=value: probe.esl.api(name) == value, what=name)


def test_a_bridge_passes_keys_on(probe: Probe, new_caller: NewCaller) -> None:
    call = new_caller().call("bridge-sofia-park").wait_answered()
    tap = probe.start(call).subscribe()
    far = probe.esl.api(f"uuid_getvar {call.call_id} bridge_uuid")
    far_tap = probe.start(probe.esl.api(f"uuid_getvar {far} sip_call_id")).subscribe()
    call.dtmf("7")
    assert keys(tap.wait_told(1)) == "7"
    assert keys(far_tap.wait_told(1)) == "7"


def test_hold_and_unhold(open_line: OpenLine) -> None:
    line = open_line("park")
    tap = line.tap.subscribe()
    line.call.hold()
    assert tap.wait_told(1) == [{"type": "host.hold"}]
    line.call.unhold()
    assert tap.wait_told(2)[1:] == [{"type": "host.unhold"}]
    line.call.unhold()  # a re-INVITE that changes nothing
    line.call.dtmf("1")
    assert [event["type"] for event in tap.wait_told(3)] == ["host.hold", "host.unhold", "host.dtmf"]


def test_bridged_and_unbridged(probe: Probe, open_line: OpenLine) -> None:
    near, far = open_line("park"), open_line("park")
    taps = near.tap.subscribe(), far.tap.subscribe()
    for line in (near, far):
        assert probe.esl.api(f"uuid_setvar {line.call.call_id} park_after_bridge true").startswith("+OK")
    assert probe.esl.api(f"uuid_bridge {near.call.call_id} {far.call.call_id}").startswith("+OK")
    assert taps[0].wait_told(1) == [{"type": "host.bridged", "other_uuid": far.call.call_id}]
    assert taps[1].wait_told(1) == [{"type": "host.bridged", "other_uuid": near.call.call_id}]
    far.call.hangup()
    assert taps[0].wait_told(2)[1:] == [{"type": "host.unbridged"}]
    near.call.dtmf("9")  # and the call goes on
    assert keys(taps[0].wait_told(3)) == "9"


def test_on_the_thread_that_delivers_and_no_other(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    line.tap.subscribe()
    line.call.dtmf("1")
    line.tap.wait_told(1)
    assert probe.do("told", uuid=line.tap.uuid, stream_id="main")["threads"] == ["ivr-events"]


def test_the_module_is_reloaded_while_keys_are_pressed(
    switch: FreeSwitch, probe: Probe, open_line: OpenLine
) -> None:
    """Keys pressed meanwhile are heard of by nobody; the next stream on a call hears those after it."""
    lines = [open_line("park") for _ in range(4)]
    for line in lines:
        line.tap.subscribe()
        line.call.dtmf("1" * 40, duration_ms=40, gap_ms=20)
    for _ in range(3):
        assert "+OK" in switch.cli(f"reload {OUR_MODULE}")
        for line in lines:
            probe.start(line.call).subscribe()
    at_once(lambda line=line: line.call.dtmf("2") for line in lines)
    for line in lines:
        wait_until(lambda line=line: keys(line.tap.told()).endswith("2"), 5.0)
