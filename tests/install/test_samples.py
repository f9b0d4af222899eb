"""The sample dialplans and configurations: what an operator copies must be safe, and true."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIALPLANS = sorted((ROOT / "dialplan").glob("*.xml"))
CONFIGURATIONS = sorted((ROOT / "conf" / "autoload_configs").glob("*.xml"))
SNIPPET = ROOT / "conf" / "modules.conf.snippet.xml"

# Variables that FreeSWITCH sets itself. All others may have been chosen by the caller's side.
TRUSTED = {"audio_stream_result", "context", "domain_name", "uuid"}


def actions(path: Path) -> list[list[tuple[str, str]]]:
    """(application, data) of every action, by extension."""
    return [
        [(action.attrib["application"], action.attrib.get("data", "")) for action in extension.iter("action")]
        for extension in ET.parse(path).iter("extension")
    ]


@pytest.mark.parametrize("path", DIALPLANS, ids=lambda path: path.name)
def test_no_action_contains_what_the_caller_chooses(path):
    for extension in actions(path):
        for application, data in extension:
            names = set(re.findall(r"\$\{+(\w+)", data))
            assert names <= TRUSTED, f"{application} {data}"


def test_a_caller_hears_ringing_while_the_model_is_connected():
    told = [extension for path in DIALPLANS for extension in actions(path)]
    ours = [extension for extension in told if ("python", "ivr_ai.app") in extension]
    assert len(ours) == 2
    for extension in ours:
        assert extension[extension.index(("python", "ivr_ai.app")) - 1] == ("ring_ready", "")


@pytest.mark.parametrize("path", DIALPLANS, ids=lambda path: path.name)
def test_a_sample_says_how_to_enable_it(path):
    head = " ".join(path.read_text(encoding="utf-8").split("-->")[0].split())
    assert f"{path.name}.sample" in head
    assert f"rename it to {path.name}, then fs_cli -x reloadxml" in head


def test_the_snippet_loads_both_modules_in_order():
    loads = [load.attrib["module"] for load in ET.parse(SNIPPET).iter("load")]
    assert loads == ["mod_audio_stream", "mod_python3"]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_a_configuration_names_the_file_it_is_in(path):
    root = ET.parse(path).getroot()
    assert (root.tag, f"{root.attrib['name']}.xml") == ("configuration", path.name)


def test_the_startup_script_is_one_that_is_installed():
    [param] = ET.parse(ROOT / "conf" / "autoload_configs" / "python.conf.xml").iter("param")
    assert param.attrib["name"] == "startup-script"
    assert (ROOT / "fs_scripts" / f"{param.attrib['value']}.py").is_file()
