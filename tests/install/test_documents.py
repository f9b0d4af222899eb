"""README.md and docs/install.md: what can be copied from them is right."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ivr_ai.cli import COMMANDS
from ivr_ai.config import SETTINGS
from ivr_ai.config.sources import ENV_FILE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/install.md")
OTHERS = {"OPENAI_API_KEY", ENV_FILE}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[ET.Element]:
    """The XML blocks of a document, each in an element of its own. Raises ParseError."""
    found = re.findall(r"```xml\n(.*?)```", text(name), re.DOTALL)
    return [ET.fromstring(f"<block>{block}</block>") for block in found]


@pytest.mark.parametrize("name", ["README.md", "docs/install.md"])
def test_the_modules_are_those_of_the_snippet_in_its_order(name):
    snippet = ET.parse(ROOT / "conf" / "modules.conf.snippet.xml")
    wanted = [load.attrib["module"] for load in snippet.iter("load")]
    assert [load.attrib["module"] for block in blocks(name) for load in block.iter("load")] == wanted


def test_the_extension_of_the_readme_is_that_of_the_sample():
    def actions(tree: ET.Element) -> list[dict[str, str]]:
        [extension] = [
            extension
            for extension in tree.iter("extension")
            if extension.find("condition").attrib["expression"] == "^1234$"
        ]
        return [action.attrib for action in extension.iter("action")]

    [block] = [block for block in blocks("README.md") if block.find(".//extension") is not None]
    assert actions(block) == actions(ET.parse(ROOT / "dialplan" / "ivr_ai.xml").getroot())


def test_the_startup_script_is_that_of_the_sample():
    wanted = [
        param.attrib for param in ET.parse(ROOT / "conf/autoload_configs/python.conf.xml").iter("param")
    ]
    assert [param.attrib for block in blocks("docs/install.md") for param in block.iter("param")] == wanted


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_exists(name):
    makefile = text("Makefile")
    for line in re.findall(r"(?:sudo )?make ([a-z -]+)", "\n".join(code(name))):
        for target in line.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_of_ours_exists(name):
    for command in re.findall(r"\bivr-ai ([a-z]+)", "\n".join(code(name))):
        assert command in COMMANDS


@pytest.mark.parametrize("name", ["README.md", "docs/install.md"])
def test_every_setting_exists(name):
    known = {row.name for row in SETTINGS} | OTHERS
    assert set(re.findall(r"\b(?:OPENAI|IVR_AI|VAD)_[A-Z_]+\b", text(name))) <= known


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_into_the_tree_leads_somewhere(name):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(name)):
        assert (ROOT / name).parent.joinpath(target).exists(), target


def code(name: str) -> list[str]:
    """Indented code without comments, and what stands in backquotes."""
    lines = re.findall(r"^    (.*)", text(name), re.MULTILINE)
    return [line.partition(" #")[0] for line in lines] + re.findall(r"`([^`\n]+)`", text(name))
