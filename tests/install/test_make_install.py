"""`make install` for real, into a prefix of our own, and a FreeSWITCH run on what it put there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ivr_ai import freeswitch_install

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "freeswitch")]

from support.sip import SipCaller, SipError  # noqa: E402
from support.switch import FreeSwitch, find_install  # noqa: E402

pytestmark = [
    pytest.mark.freeswitch,
    pytest.mark.skipif("IVR_AI_TEST_SITE" not in os.environ, reason="run by make test-freeswitch"),
]


class Prefix:
    """Where it is installed: directories of FreeSWITCH's kinds, and bin/."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lib, self.modules, self.scripts, self.conf = (
            root / name for name in ("lib", "mod", "scripts", "conf")
        )

    def make(self, target: str) -> str:
        command = ["make", target, f"PREFIX={self.root}", f"libdir={self.lib}", f"modulesdir={self.modules}"]
        command += [f"scriptdir={self.scripts}", f"confdir={self.conf}", f"FS_PREFIX={find_install().prefix}"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefix]:
    """An installation; afterwards it is taken out, and nothing but what was there before may be left."""
    at = Prefix(tmp_path_factory.mktemp("prefix"))
    at.modules.mkdir()
    installed_python = Path(find_install().modulesdir, "mod_python3.so")
    (at.modules / "mod_python3.so").symlink_to(installed_python)  # which Python? is read from modulesdir
    stock = at.conf / "autoload_configs" / "python.conf.xml"
    stock.parent.mkdir(parents=True)
    stock.write_text("<configuration name='python.conf'/>")
    before = at.files()
    at.make("install")
    yield at
    at.make("uninstall")
    assert at.files() == before


@pytest.fixture(scope="module")
def switch(prefix: Prefix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreeSwitch]:
    """A FreeSWITCH that finds module, scripts and Python packages in the prefix and nowhere else."""
    environ = {"PYTHONPATH": "", "LD_LIBRARY_PATH": "", "OPENAI_REALTIME_URL": "ws://127.0.0.1:9"}
    dialplan = (prefix.conf / "dialplan/default/ivr_ai.xml.sample").read_text()
    folder = tmp_path_factory.mktemp("switch")
    places = {"scripts_dir": prefix.scripts, "build_dir": prefix.modules}
    with FreeSwitch(folder, dialplan_xml=dialplan, env=environ, **places) as running:
        running.cli("pyrun ivr_ai_startup")  # what mod_python3 does with a startup-script of python.conf.xml
        yield running


def test_module_and_extension_name_the_same_library(prefix):
    module = freeswitch_install.linked_library(prefix.modules / "mod_audio_stream.so")
    extension = freeswitch_install.linked_library(prefix.scripts / "ivr_ai/_audio_stream.abi3.so")
    assert module == extension == str(prefix.lib / "libaudiostream.so.1")


def test_the_stock_configuration_is_kept(prefix):
    folder = prefix.conf / "autoload_configs"
    assert (folder / "python.conf.xml").read_text() == "<configuration name='python.conf'/>"
    assert "ivr_ai_startup" in (folder / "python.conf.xml.new").read_text()
    assert (folder / "audio_stream.conf.xml").is_file()


def test_no_extension_is_live(prefix):
    there = {path.name for path in (prefix.conf / "dialplan").rglob("*") if path.is_file()}
    assert there == {"ivr_ai.xml.sample", "audio_stream.xml.sample"}


def installed_command(prefix: Prefix, *arguments: str) -> list[str]:
    """The installed `ivr-ai`, with nothing of this test's environment or directory."""
    return ["env", "-i", "PATH=/usr/bin:/bin", str(prefix.root / "bin/ivr-ai"), *arguments]


def test_the_installed_command_runs_the_local_server(prefix):
    command = installed_command(prefix, "sim", "--port", "0", "--voice", "tone")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as server:
        try:
            [url] = re.findall(r"ws://127\.0\.0\.1:\d+/v1/realtime", server.stdout.readline())
            with connect(f"{url}?model=any") as client:
                assert json.loads(client.recv(timeout=10))["type"] == "session.created"
        finally:
            server.terminate()
            rest, _ = server.communicate(timeout=10)
    assert server.returncode == 0, rest


def test_the_installed_command_offers_what_it_can_do(prefix):
    done = subprocess.run(installed_command(prefix), capture_output=True, text=True, check=True, cwd="/")
    assert re.findall(r"^  ([a-z]+) ", done.stdout, re.MULTILINE) == ["sim", "doctor", "config"]
    demo = subprocess.run(
        installed_command(prefix, "demo"), capture_output=True, text=True, check=False, cwd="/"
    )
    assert demo.returncode == 2
    assert "demo runs from the source tree and is not installed: run `make demo` there" in demo.stderr


def test_something_missing_of_an_installation_is_brought_back_by_make_install(prefix):
    package = prefix.lib / "ivr_ai" / "websockets"
    away = package.with_name("websockets.away")
    package.rename(away)
    try:
        done = subprocess.run(
            installed_command(prefix, "sim", "--port", "0"), capture_output=True, text=True, cwd="/"
        )
    finally:
        away.rename(package)
    assert done.returncode != 0
    assert "`make install` again" in done.stderr
    assert "pip" not in done.stderr


def test_the_package_says_that_it_is_typed(prefix):
    assert (prefix.lib / "ivr_ai/ivr_ai/py.typed").is_file()


def test_installing_again_is_quick_and_changes_nothing(prefix):
    before = prefix.files()
    assert "CC " not in prefix.make("install")
    assert prefix.files() == before


def test_the_startup_script_warms_ivr_ai_through_the_script_directory_alone(switch):
    line = switch.wait_log(r"ivr_ai \S+ is warm after \d+ ms", timeout_s=20)[0]
    assert "INFO" in line


def test_one_library_is_mapped_into_the_switch(prefix, switch):
    switch.wait_log("is warm after", timeout_s=20)
    maps = Path(f"/proc/{switch.pid}/maps").read_text()
    assert set(re.findall(r"/\S*libaudiostream\S*", maps)) == {str(prefix.lib / "libaudiostream.so.1")}


def test_the_sample_dialplan_hands_a_caller_on_when_the_model_is_gone(switch):
    with SipCaller(switch.sip_address) as caller:
        call = caller.call("1235")
        switch.wait_log(r"Transfer \S+ to XML\[1236@", timeout_s=20)
        with pytest.raises(SipError, match="SUBSCRIBER_ABSENT"):  # nobody is registered there
            call.wait_answered()
        assert call.answered_at_s is None
    switch.wait_channels(0)


def test_the_doctor_finds_nothing_wrong(prefix, switch):
    fs_cli = f"-H 127.0.0.1 -P {switch.esl_port} -p {switch._password}"
    command = [prefix.root / "bin/ivr-ai", "doctor", "--json", "--offline", "--fs-cli", fs_cli]
    command += ["--fs-prefix", find_install().prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if check["status"] == "fail"] == []
    said = {check["name"]: check["message"] for check in report["checks"]}
    assert said["mod_audio_stream"] == said["mod_python3"] == "loaded"
    assert str(prefix.lib) in said["library"]
    assert f"FreeSWITCH (pid {switch.pid})" in said["settings"]
