"""`reload mod_audio_stream` and `unload` under AI calls: the apology, then the failure action."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ears import frequency_hz
from models import APOLOGY, model, place, times_heard, wait_heard, wait_quiet, write_apology
from support.sip import SipCall, SipCaller
from support.switch import OUR_MODULE, TONE_HZ, FreeSwitch

NewCaller = Callable[..., SipCaller]
SAID = "One two three four five six seven eight nine ten."  # 3.5 s

pytestmark = pytest.mark.usefixtures("stream_switch")


def reload(switch: FreeSwitch) -> None:
    assert "+OK" in switch.cli(f"reload {OUR_MODULE}")


def unload(switch: FreeSwitch) -> None:
    assert "+OK" in switch.cli(f"unload {OUR_MODULE}")


@pytest.mark.parametrize("goes", [reload, unload], ids=["reload", "unload"])
@pytest.mark.parametrize("moment", ["silence", "speech"])
@pytest.mark.parametrize("transport", ["native", "python"])
def test_two_calls_lose_the_module(
    switch: FreeSwitch,
    new_caller: NewCaller,
    tmp_path: Path,
    goes: Callable[[FreeSwitch], None],
    moment: str,
    transport: str,
) -> None:
    """Over a new stream where the module is back, else by FreeSWITCH's own player: to the sample, once."""
    apology = write_apology(tmp_path)
    more: dict[str, object] = {"IVR_AI_APOLOGY_FILE": apology, "IVR_AI_TRANSPORT": transport}
    with model(dialogue={"turn": [{"on": "greeting", "say": SAID}]}) as sim:
        ends = place(new_caller(), sim, **more).wait_answered()
        more["IVR_AI_FAILURE_ACTION"] = "return"
        goes_on = place(new_caller(), sim, "then-tone", **more).wait_answered()
        for n in (1, 2):
            sim.wait_session(n).wait_sent("response.done")
        if moment == "silence":
            wait_quiet(ends), wait_quiet(goes_on)
        gone_s = time.monotonic()
        try:
            goes(switch)
            for call in (ends, goes_on):
                hear_the_apology(switch, call, gone_s)
            assert ends.wait_ended(3) == "NORMAL_TEMPORARY_FAILURE"
            goes_on.wait_received(len(goes_on.received()) / 16 + 600)
            assert frequency_hz(goes_on.received()[-6400:], 8000) == pytest.approx(TONE_HZ, abs=3)
            goes_on.hangup()
            switch.wait_channels(0)
        finally:
            if goes is unload:
                assert "+OK" in switch.cli(f"load {OUR_MODULE}")
        wait_quiet(place(new_caller(), sim).wait_answered())  # and the next call is like any other


def hear_the_apology(switch: FreeSwitch, call: SipCall, gone_s: float) -> None:
    """Within two seconds, and nothing of the model after it."""
    wait_heard(call, APOLOGY)
    assert times_heard(call, APOLOGY) == 1
    assert time.monotonic() - gone_s < 4.0
    [line] = [line for line in switch.wait_log(rf"ivr_ai: call {call.call_id}: ") if "[ERR]" in line]
    assert f"{OUR_MODULE} was unloaded under the call" in line
