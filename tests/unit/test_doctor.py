"""The doctor on an installation of real parts: compiled modules, this interpreter, a live process, a server.

Only fs_cli is a stand-in, a shell script; tests/install asks a real switch.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ivr_ai
from ivr_ai import cli, doctor
from ivr_ai.audio.formats import write_wav
from ivr_ai.freeswitch_install import FreeSwitchInstall, run_command
from ivr_ai.machine import Machine, RunningSwitch, User
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

PACKAGE = Path(ivr_ai.__file__).resolve().parent
LIBRARY = PACKAGE.parent / "build" / "libaudiostream.so.1"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
KEY = "sk-test-0123456789abcdef"
FREESWITCH_CHECKS = (doctor.check_modules, doctor.check_library, doctor.check_python)


def compile_shared(path: Path, needs: Path) -> None:
    command = [
        "gcc",
        "-shared",
        "-Wl,--no-as-needed",
        "-x",
        "c",
        "/dev/null",
        "-x",
        "none",
        "-o",
        path,
        needs,
    ]
    subprocess.run([*command, f"-Wl,-rpath,{needs.parent}"], check=True)


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@dataclass
class Installation:
    """A FreeSWITCH with everything in its place, for tests to break."""

    root: Path

    @property
    def modules(self) -> Path:
        return self.root / "mod"

    @property
    def scripts(self) -> Path:
        return self.root / "scripts"

    @property
    def conf(self) -> Path:
        return self.root / "conf" / "autoload_configs"

    def runs(self, process: subprocess.Popen) -> None:
        """From now on fs_cli answers, for a switch that is this process."""
        write(self.root / "run" / "freeswitch.pid", str(process.pid))
        answers = f'case "$2" in *run_dir) echo {self.root}/run;; module_exists*) echo true;; *) echo;; esac'
        write(self.root / "bin" / "fs_cli", f"#!/bin/sh\n{answers}\n", 0o755)

    def report(self, *only, offline: bool = True) -> dict[str, list[doctor.Check]]:
        """Checks by name: those that the functions in only make, or all."""
        machine = doctor.look(str(self.root), "", offline)
        checks = [check for function in only or (doctor.diagnose,) for check in function(machine)]
        return {
            name: [check for check in checks if check.name == name]
            for name in {check.name for check in checks}
        }

    def failed(self, *only) -> dict[str, str]:
        """Message of each failed check by name."""
        return {
            name: checks[0].message
            for name, checks in self.report(*only).items()
            if checks[0].status == "fail"
        }


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's settings but the test's."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "IVR_AI_", "VAD_", "FS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    root = tmp_path / "fs"
    for name in ("mod", "scripts", "lib", "bin"):
        (root / name).mkdir(parents=True)
    libpython = root / "lib" / f"libpython{VERSION}.so.1.0"
    soname = f"-Wl,-soname,{libpython.name}"
    subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", soname, "-o", libpython], check=True)
    compile_shared(root / "mod" / "mod_python3.so", libpython)
    compile_shared(root / "mod" / "mod_audio_stream.so", LIBRARY)
    write(root / "bin" / f"python{VERSION}", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', 0o755)
    write(root / "bin" / "freeswitch", "#!/bin/sh\necho 'FreeSWITCH version: 1.10.12-test'\n", 0o755)
    (root / "scripts" / "ivr_ai").symlink_to(PACKAGE)
    write(root / "scripts" / "freeswitch.py", "")
    loads = '<load module="mod_audio_stream"/>\n<load module="mod_python3"/>'
    write(root / "conf/autoload_configs/modules.conf.xml", f"<modules>{loads}</modules>")
    shutil.copy(PACKAGE.parent / "conf/autoload_configs/python.conf.xml", root / "conf/autoload_configs")
    return Installation(root)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody may enter, with nothing closed above it; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A live process with an environment, a working directory and limits of its own."""
    folder = tmp_path / "cwd"
    write(folder / ".env", "OPENAI_REALTIME_VOICE=cedar\n")
    with subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env={"OPENAI_API_KEY": "sk-of-the-switch-0123456789"},
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000)),
    ) as running:
        yield running
        running.stdin.close()
        running.wait()


def test_all_is_well(installed):
    report = installed.report()
    bad = [check for checks in report.values() for check in checks if check.status not in ("ok", "skip")]
    assert bad == []
    assert "1.10.12-test" in report["freeswitch"][0].message
    assert str(LIBRARY) in report["library"][0].message
    assert f"embeds Python {VERSION}" in report["python"][0].message
    assert "numpy" in report["imports"][0].message


@pytest.mark.parametrize(
    ("break_it", "name", "message"),
    [
        (lambda fs: (fs.modules / "mod_audio_stream.so").unlink(), "mod_audio_stream", "is not there"),
        (lambda fs: (fs.modules / "mod_python3.so").unlink(), "mod_python3", "is not there"),
        (lambda fs: (fs.scripts / "ivr_ai").unlink(), "library", "is not there"),
        (
            lambda fs: (fs.scripts / "freeswitch.py").unlink(),
            "freeswitch.py",
            "does not find the module freeswitch",
        ),
        (
            lambda fs: write(fs.conf / "modules.conf.xml", '<!-- <load module="mod_audio_stream"/> -->'),
            "mod_audio_stream",
            "not loaded at start",
        ),
        (
            lambda fs: write(
                fs.root / "bin" / f"python{VERSION}", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', 0o755
            ),
            "imports",
            "numpy: ModuleNotFoundError",
        ),
    ],
)
def test_what_is_missing_is_said(installed, break_it, name, message):
    break_it(installed)
    report = installed.report(*FREESWITCH_CHECKS)
    assert (report[name][0].status, message in report[name][0].message) == ("fail", True)
    assert all(check.todo for checks in report.values() for check in checks if check.status == "fail")


def test_two_libraries_are_two_registries(installed):
    copy = installed.root / "lib" / LIBRARY.name
    shutil.copy(LIBRARY, copy)
    compile_shared(installed.modules / "mod_audio_stream.so", copy)
    assert "two registries" in installed.failed(doctor.check_library)["library"]


def test_a_library_that_is_gone(installed):
    copy = installed.root / "lib" / LIBRARY.name
    shutil.copy(LIBRARY, copy)
    compile_shared(installed.modules / "mod_audio_stream.so", copy)
    copy.unlink()
    assert "does not find libaudiostream.so.1" in installed.failed(doctor.check_library)["library"]


def test_no_startup_script_is_a_warning(installed):
    write(installed.conf / "python.conf.xml", '<!--<param name="startup-script" value="ivr_ai_startup"/>-->')
    assert installed.report(doctor.check_python)["startup"][0].status == "warn"


def test_wrong_settings_are_all_listed(installed, monkeypatch):
    monkeypatch.setenv("VAD_THRESHOLD", "7")
    monkeypatch.setenv("FS_FRAME_MS", "21")
    problems = installed.report(doctor.check_settings)["settings"]
    assert [check.status for check in problems] == ["fail", "fail"]
    assert {check.message.split()[0] for check in problems} == {"VAD_THRESHOLD", "FS_FRAME_MS"}


def test_warnings_of_the_settings_are_passed_on(installed, monkeypatch):
    monkeypatch.setenv("OPENAI_REALTIME_MODEL", "gpt-4o-realtime-preview")
    assert "shut down" in " ".join(
        check.message
        for check in installed.report(doctor.check_settings)["settings"]
        if check.status == "warn"
    )


@pytest.mark.parametrize(
    ("url", "status"), [("wss://api.openai.com/v1/realtime", "fail"), ("ws://127.0.0.1:1/v1", "ok")]
)
def test_no_key_fails_only_where_one_is_needed(installed, monkeypatch, url, status):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_REALTIME_URL", url)
    assert installed.report(doctor.check_settings)["key"][0].status == status


def test_profiles_are_looked_for_in_the_configuration_directory(installed, monkeypatch):
    monkeypatch.setenv("IVR_AI_AGENT", "support")
    assert "no such profile" in installed.failed(doctor.check_settings)["settings"]
    write(installed.root / "conf/ivr_ai/agents/support.toml", 'voice = "cedar"\n')
    assert "settings" not in installed.failed(doctor.check_settings)


def test_without_espeak_the_apology_has_no_voice(installed, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert installed.report(doctor.check_settings)["apology"][0].status == "warn"


SOUND = "sounds/sorry.wav"  # in the installation


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (None, "fail", "sounds/sorry.wav is not there"),
        (b"ID3 an MP3", "fail", "cannot be played: "),
        ("wav", "ok", "a failed call hears "),
    ],
)
def test_the_apologys_file(installed, monkeypatch, content, status, message):
    monkeypatch.setenv("IVR_AI_APOLOGY_FILE", "sorry.wav")
    path = installed.root / SOUND
    path.parent.mkdir()
    if content == "wav":
        write_wav(path, bytes(16000), 8000)
    elif content is not None:
        path.write_bytes(content)
    report = installed.report(doctor.check_settings)
    (check,) = report["apology"]
    assert (check.status, message in check.message) == (status, True)
    assert str(path) in check.message
    assert len(report["settings"]) == 1


def test_a_running_switch_is_asked_and_its_environment_read(installed, process):
    installed.runs(process)
    write(installed.conf / "modules.conf.xml", "<modules/>")
    report = installed.report(doctor.check_modules, doctor.check_settings, doctor.check_files)
    assert report["mod_audio_stream"][0].message == "loaded"
    assert f"FreeSWITCH (pid {process.pid})" in report["settings"][0].message
    assert "environment" in report["key"][0].message
    assert (report["open files"][0].status, "1000" in report["open files"][0].message) == ("warn", True)
    machine = doctor.look(str(installed.root), "", True)
    assert doctor.load_settings(machine)[1].voice == "cedar"


def test_the_running_switchs_env_file_is_nobodys_choice(installed, process):
    """What makes no sense in it is a warning: nobody has named it."""
    installed.runs(process)
    machine = doctor.look(str(installed.root), "", True)
    path = Path(machine.switch.working_dir(), ".env")
    path.write_text("set -e\nOPENAI_REALTIME_VOICE=ash\n")
    assert doctor.load_settings(machine)[1].voice == "ash"
    checks = installed.report(doctor.check_settings)["settings"]
    assert [(check.status, "not quite a .env file" in check.message) for check in checks] == [
        ("ok", False),
        ("warn", True),
    ]


NOBODY = User("somebody", 65534, frozenset({65534}))


@pytest.mark.parametrize(
    ("mode", "named", "user", "status", "message"),
    [
        (
            0o640,
            True,
            User("somebody", os.getuid(), frozenset()),
            "ok",
            "somebody can read it, not everybody can",
        ),
        (0o640, True, User("somebody", 65534, frozenset({os.getgid()})), "ok", "somebody can read it"),
        (0o600, True, NOBODY, "fail", "somebody cannot read "),
        (0o600, False, NOBODY, "warn", "somebody cannot read "),
        (0o644, True, NOBODY, "warn", "everybody on this machine can read "),
    ],
)
def test_who_may_read_the_env_file(open_dir, monkeypatch, mode, named, user, status, message):
    monkeypatch.chdir(open_dir)
    write(open_dir / ".env", f"OPENAI_API_KEY={KEY}\n", mode)
    environ = {"IVR_AI_ENV_FILE": str(open_dir / ".env")} if named else {}
    monkeypatch.setattr(Machine, "switch_user", lambda machine: user)
    (check,) = doctor.check_env_file(Machine(None, environ=environ))
    assert (check.status, message in check.message) == (status, True)
    assert check.status == "ok" or check.todo


def test_a_directory_that_is_closed_is_named(open_dir, monkeypatch):
    write(open_dir / "closed" / "env", "A=1\n")
    (open_dir / "closed").chmod(0o700)
    monkeypatch.setattr(Machine, "switch_user", lambda machine: NOBODY)
    machine = Machine(None, environ={"IVR_AI_ENV_FILE": str(open_dir / "closed" / "env")})
    (check,) = doctor.check_env_file(machine)
    assert f"it may not enter {open_dir / 'closed'}" in check.message


PACKAGED = FreeSwitchInstall(
    prefix="/usr",
    version="1.10.12",
    bindir="/usr/bin",
    includedir="/no/include/freeswitch",
    libdir="/usr/lib",
    modulesdir="/usr/lib/freeswitch/mod-of-nobody",
    scriptdir="/usr/share/freeswitch/scripts",
    confdir="/etc/freeswitch",
)


def test_packages_of_debian_are_told_from_an_installation_of_ones_own(installed):
    (packaged,) = doctor.check_freeswitch(Machine(PACKAGED))
    assert "1.10.12 from Debian's packages (configuration /etc/freeswitch, " in packaged.message
    assert f"1.10.12-test in {installed.root} (configuration {installed.root}/conf, " in (
        installed.report(doctor.check_freeswitch)["freeswitch"][0].message
    )


def test_what_is_missing_is_named_by_its_package(installed):
    module, python = doctor.check_modules(Machine(PACKAGED))
    assert "install libfreeswitch-dev: /no/include/freeswitch/switch.h is not there" in module.todo
    assert python.todo == "install the package freeswitch-mod-python3"
    for path in installed.modules.iterdir():
        path.rename(path.with_name(f"mod_other_{path.name}"))
    report = installed.report(doctor.check_modules)
    assert "libfreeswitch-dev" in report["mod_audio_stream"][0].todo
    assert "languages/mod_python3, or install the package" in report["mod_python3"][0].todo
    write(installed.root / "include" / "switch.h", "")
    assert installed.report(doctor.check_modules)["mod_audio_stream"][0].todo == "run `make install`"


def python_elsewhere(folder: Path) -> Path:
    """A python3 with a library directory of this version beside it, as pyenv's or one from source has."""
    library = Path(os.__file__).parent
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / library.name).symlink_to(library)
    (folder / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), folder / "bin" / "python3")
    return folder / "bin"


def venv_elsewhere(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin"


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    ("make", "status", "message"),
    [
        (python_elsewhere, "fail", "makes mod_python3 load the library modules of"),
        (venv_elsewhere, "warn", "puts mod_python3 into the environment"),
    ],
)
def test_another_python3_first_in_freeswitchs_path(
    installed, process, tmp_path, monkeypatch, make, status, message, running
):
    bin_dir = make(tmp_path / "other")
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    if running:
        installed.runs(process)
        monkeypatch.setattr(RunningSwitch, "environ", lambda switch: {"PATH": os.environ["PATH"]})
    (check,) = installed.report(doctor.check_python)["python path"]
    assert check.status == (status if running else "warn")
    assert check.message.startswith(f"{bin_dir}/python3 {message}")
    assert "PYTHONHOME=" in check.todo
    assert "Environment=PATH=" in check.todo


def test_a_pythonhome_that_leads_nowhere(installed, monkeypatch):
    environ = {"PATH": os.environ["PATH"], "PYTHONHOME": "/no/such/home"}
    monkeypatch.setattr(Machine, "switch_environ", lambda machine: ("FreeSWITCH", environ))
    (check,) = installed.report(doctor.check_python)["python path"]
    assert "PYTHONHOME=/no/such/home makes mod_python3 load no library modules" in check.message


def test_a_module_the_running_switch_lacks(installed, process):
    installed.runs(process)
    fs_cli = installed.root / "bin" / "fs_cli"
    fs_cli.write_text(fs_cli.read_text().replace("echo true", "echo false"))
    assert installed.failed(doctor.check_modules)["mod_audio_stream"] == "installed and not loaded"


def test_the_server_is_tried(installed, monkeypatch):
    with SimServer() as sim:
        monkeypatch.setenv("OPENAI_REALTIME_URL", sim.url)
        report = installed.report(doctor.check_settings, offline=False)
        assert report["server session"][0].status == "ok"
        sim.faults = Faults(bad_key=True)
        report = installed.report(doctor.check_settings, offline=False)
        assert "invalid_api_key" in report["server session"][0].message


def test_keys_in_urls_are_never_shown(installed, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    for url in (
        "ws://user:hidden-1@127.0.0.1:1/x?api-key=hidden-2",
        "ws://127.0.0.1:1/x?access_token=hidden-3",
    ):
        monkeypatch.setenv("OPENAI_REALTIME_URL", url)
        for words in (["--offline"], [], ["--json"]):
            cli.main(["doctor", *words, "--fs-prefix", str(installed.root)])
            out = capsys.readouterr().out
            assert "127.0.0.1" in out
            assert "hidden" not in out


@pytest.mark.parametrize(
    ("key", "status", "message"),
    [
        ('"sk-test-0123456789abcdef"', "warn", "is in quotes, which are left out"),
        ('"sk-test-0123456789abcdef', "fail", "begins with a quote"),
        ("'sk-test-0123456789abcdef", "fail", "begins with a quote"),
    ],
)
def test_quotes_of_a_key(installed, monkeypatch, key, status, message):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    first, second = installed.report(doctor.check_settings)["key"]
    assert (first.status, second.status, message in second.message) == ("ok", status, True)
    assert KEY not in first.message + second.message


def test_which_header_takes_the_key(installed, monkeypatch):
    monkeypatch.setenv("OPENAI_REALTIME_URL", "wss://x.openai.azure.us/openai/realtime")
    assert installed.report(doctor.check_settings)["key"][0].message.endswith(", sent as api-key")


def test_without_freeswitch_the_own_python_is_checked(monkeypatch):
    monkeypatch.setattr(doctor.freeswitch_install, "find", lambda prefix, run: None)
    checks = {check.name: check for check in doctor.diagnose(doctor.look("", "", True))}
    assert checks["freeswitch"].status == "warn"
    assert checks["imports"].status == "ok"


def test_a_prefix_without_freeswitch_fails(tmp_path, capsys):
    assert cli.main(["doctor", "--offline", "--fs-prefix", str(tmp_path)]) == 1
    assert f"no FreeSWITCH found under {tmp_path}" in capsys.readouterr().out


def test_text_and_exit_status(installed, capsys):
    assert cli.main(["doctor", "--offline", "--fs-prefix", str(installed.root)]) == 0
    good = capsys.readouterr().out
    assert good.endswith("checks, 0 failed, 0 warnings\n")
    assert KEY not in good
    (installed.modules / "mod_audio_stream.so").unlink()
    assert cli.main(["doctor", "--offline", "--fs-prefix", str(installed.root)]) == 1
    assert "-> run `make install`" in capsys.readouterr().out


def test_json(installed, capsys):
    assert cli.main(["doctor", "--offline", "--json", "--fs-prefix", str(installed.root)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert {"name", "status", "message", "todo"} == set(report["checks"][0])
    assert KEY not in json.dumps(report)


def test_a_check_that_breaks_is_a_failure_and_not_the_end(installed):
    (installed.modules / "mod_audio_stream.so").unlink()
    (installed.modules / "mod_audio_stream.so").mkdir()
    machine = doctor.look(str(installed.root), "", True)

    def broken_ldd(argv):
        if argv[0] == "ldd":
            raise MemoryError
        return run_command(argv)

    names = [check.name for check in doctor.diagnose(doctor.dataclasses.replace(machine, run=broken_ldd))]
    assert "doctor" in names
    assert names[-1] == "open files"
