"""Plug-ins inside FreeSWITCH: an observer of another package hears every event, to FreeSWITCH's own end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from models import model, place
from support.sip import SipCaller
from support.switch import REPOSITORY, FreeSwitch, find_install

SLOW_S = 0.3
CODE = f"""
import json, threading, time
def observe(bus):
    bus.subscribe("notes", note)
def note(event):
    if event.kind == "ended":
        time.sleep({SLOW_S})
    with open({{path!r}}, "a") as file:
        print(json.dumps([event.uuid, event.kind, threading.current_thread().name]), file=file)
"""
POINTS = "[ivr_ai.observers]\nnotes = shop_voice:observe\nbroken = shop_voice:missing\n"


def install(folder: Path, notes: Path) -> None:
    """A package of this name, as pip would have left it."""
    (folder / "shop_voice.py").write_text(CODE.format(path=str(notes)))
    info = folder / "shop_voice-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-voice\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)


def test_an_observer_hears_every_call_to_its_end_even_when_the_switch_ends(tmp_path: Path) -> None:
    switch = find_install()
    if switch is None or not Path(switch.modulesdir, "mod_python3.so").is_file():
        pytest.skip("no mod_python3")
    notes, plugins = tmp_path / "notes", tmp_path / "plugins"
    plugins.mkdir()
    install(plugins, notes)
    site = os.environ.get("IVR_AI_TEST_SITE", "")
    path = os.pathsep.join(filter(None, (str(REPOSITORY), site, str(plugins))))
    extensions = Path(__file__).with_name("extensions.xml").read_text(encoding="utf-8")
    with (
        model() as sim,
        FreeSwitch(tmp_path / "switch", dialplan_xml=extensions, env={"PYTHONPATH": path}) as running,
        SipCaller(running.sip_address) as first,
        SipCaller(running.sip_address) as second,
    ):
        calls = [place(caller, sim).wait_answered() for caller in (first, second)]
        [line] = running.wait_log(r"\[ERR\].*ivr_ai: plug-in broken of ivr_ai.observers is left out: ")
        assert "AttributeError" in line
        running.stop()  # with both calls up: FreeSWITCH hangs them up
    noted = [json.loads(line) for line in notes.read_text().splitlines()]
    for call in calls:
        kinds = [kind for uuid, kind, _ in noted if uuid == call.call_id]
        assert (kinds[0], kinds[-1]) == ("connected", "ended")
    assert {thread for _, _, thread in noted} == {"ivr-bus-notes"}
