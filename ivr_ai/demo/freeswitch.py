"""The demo's call by SIP through a FreeSWITCH of its own, on loopback, with what was built or installed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivr_ai.demo.hosts import MAX_CALL_S, HostError, Take
from ivr_ai.demo.progress import Progress
from ivr_ai.demo.story import CALLER_VOICE, PATIENCE_S, QUIET_MS, Story
from ivr_ai.gateways.clock import TICK_MS

# The SIP caller and the switch's launcher are test support: the demo runs from the source tree.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.sip import SipCaller, SipError
from support.switch import FreeSwitch, SwitchError
from support.telephone import Telephone

EXTENSION = "1234"
ANSWER_S = 20.0  # the first call of a switch loads all of Python
TIMELINE_S = 5.0


def place(story: Story, environ: Mapping[str, str], scratch: Path, progress: Progress, folder: Path) -> Take:
    """Places the call by SIP through a FreeSWITCH that runs for it, on loopback, with its files in `folder`.

    Raises HostError when the switch, its modules or the call are not there.
    """
    settings = {**environ, "IVR_AI_TIMELINE_DIR": str(scratch)}
    for old in (folder / "log").glob("*.log"):
        old.unlink()  # FreeSWITCH would append, and the last demo's errors be taken for this one's
    try:
        with FreeSwitch(folder.resolve(), env=settings) as switch:
            _check_modules(switch)
            with SipCaller(switch.sip_address) as sip:
                telephone = _talk(sip, story, progress)
            timeline = _wait_timeline(scratch, switch)
    except (SwitchError, SipError) as error:
        raise HostError(f"{error}\nFreeSWITCH's log is in {folder}/log") from error
    events = telephone.events()
    return Take(telephone.recording(), telephone.start_s, events, timeline, telephone.skipped_ticks * TICK_MS)


def _check_modules(switch: FreeSwitch) -> None:
    for name, remedy in (
        ("mod_audio_stream", "run `make module`, or `make install`"),
        ("mod_python3", "install FreeSWITCH with mod_python3"),
    ):
        if switch.cli(f"module_exists {name}") != "true":
            raise HostError(f"FreeSWITCH runs without {name}: {remedy}, or choose HOST=embedded")


def _talk(sip: SipCaller, story: Story, progress: Progress) -> Telephone:
    telephone = Telephone(
        story.script,
        rate_hz=sip.codec.rate_hz,
        voice=CALLER_VOICE,
        quiet_ms=QUIET_MS,
        patience_s=PATIENCE_S,
        observe=progress.host_event,
    )
    telephone.hold(sip.call(EXTENSION).wait_answered(ANSWER_S), MAX_CALL_S)
    return telephone


def _wait_timeline(folder: Path, switch: FreeSwitch) -> dict[str, Any]:
    """The timeline, written when the call has ended in the switch."""
    deadline_s = time.monotonic() + TIMELINE_S
    while not (paths := list(folder.glob("*.json"))):
        if time.monotonic() > deadline_s:
            raise HostError(f"the call left no timeline; FreeSWITCH's log is in {switch.root}/log")
        time.sleep(0.05)
    return json.loads(paths[0].read_text(encoding="utf-8"))
