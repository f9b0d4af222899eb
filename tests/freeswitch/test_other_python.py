"""FreeSWITCH started with another Python's python3 first in PATH, as from an activated virtual environment.

mod_python3 then has no freeswitch.py and hands over bare objects. No call can be held, but none may stay for
ever either, and the operator must learn what to do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lines import at_once
from support.sip import SipCaller
from support.switch import FreeSwitch, find_install

REPOSITORY = Path(__file__).resolve().parents[2]
STARTUP = """
<configuration name="python.conf">
  <settings><param name="startup-script" value="ivr_ai_startup"/></settings>
</configuration>
"""
CALLS = 3
CAUSE = "NORMAL_TEMPORARY_FAILURE"


def make_venv(folder: Path) -> Path:
    """A virtual environment without the system's packages, as libpython sees it; its folder of programs."""
    python = Path(shutil.which("python3", path=os.defpath) or "/usr/bin/python3")
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "python3").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    return programs


@pytest.fixture(scope="module", params=["", "startup script"])
def switch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreeSwitch]:
    """That switch, alone and with the startup script. Its end, in good order and in time, is a test, too."""
    install = find_install()
    if install is None or not Path(install.modulesdir, "mod_python3.so").is_file():
        pytest.skip("no mod_python3")
    programs = make_venv(tmp_path_factory.mktemp("venv"))
    path = os.pathsep.join((str(programs), os.defpath))
    with FreeSwitch(
        tmp_path_factory.mktemp("other_python"),
        config_xml=STARTUP if request.param else "",
        scripts_dir=REPOSITORY / "fs_scripts",
        env={"PATH": path},
    ) as running:
        yield running


def test_a_call_is_refused_and_leaves_no_channel(switch: FreeSwitch) -> None:
    def refused(_: int) -> tuple[str, float | None]:
        with SipCaller(switch.sip_address) as caller:
            call = caller.call("1234")
            return call.wait_ended(5), call.answered_at_s

    assert at_once([lambda n=n: refused(n) for n in range(CALLS)]) == [(CAUSE, None)] * CALLS
    switch.wait_channels(0)


def test_the_log_says_for_each_call_what_is_wrong_and_what_to_do(switch: FreeSwitch) -> None:
    lines = switch.wait_log(r"\[ERR\].*ivr_ai: call \S+ cannot be held: ", count=CALLS)
    assert len(lines) == CALLS
    for line in lines:
        assert "FreeSWITCH's Python (libpython 3." in line
        assert "bin/python3 is the first python3 in PATH" in line
        assert "Environment=PATH=/usr/local/sbin:" in line


@pytest.mark.parametrize("words", ["status", "version", "start nobody"])
def test_commands_are_answered(switch: FreeSwitch, words: str) -> None:
    answer = switch.cli(f"python ivr_ai.app {words}")
    assert answer.startswith("-ERR ivr_ai cannot run: FreeSWITCH's Python (libpython 3.")


def test_other_calls_are_taken(switch: FreeSwitch) -> None:
    with SipCaller(switch.sip_address) as caller:
        call = caller.call("tone").wait_answered()
        call.wait_packets(10)
        call.hangup()
    switch.wait_channels(0)


def test_nothing_of_freeswitchs_is_left_behind(switch: FreeSwitch) -> None:
    """SWIG says so when it frees an object that nobody has destroyed."""
    switch.cli("python ivr_ai.app status")
    assert "memory leak" not in switch.console()


def test_a_startup_script_says_so_and_stops_nothing(switch: FreeSwitch) -> None:
    if "startup-script" not in (switch.root / "conf" / "extra_config.xml").read_text():
        pytest.skip("this switch has no startup script")
    [line] = switch.wait_log(r"\[ERR\].*ivr_ai: cannot start: ")
    assert "is the first python3 in PATH" in line
