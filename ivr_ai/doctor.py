"""`ivr-ai doctor`: checks an installation, from the module to the model's server, and says what to do.

Every check looks at real things (files, the loader, the interpreter that mod_python3 embeds, the running
switch) and changes none. Exit status 1 when any check failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import resource
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ivr_ai import __version__, freeswitch_install
from ivr_ai.config import ConfigError, Settings
from ivr_ai.freeswitch_install import (
    MODULE,
    PYTHON_MODULE,
    EmbeddedPythonError,
    FreeSwitchInstall,
    Run,
    run_command,
)
from ivr_ai.probe import Probe, Target
from ivr_ai.realtime.request import make_dialect, request_headers, request_url

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"

DEPENDENCIES = ("cffi", "numpy", "soxr", "websocket", "requests", "dotenv")
EXTENSION = "_audio_stream.abi3.so"
NOFILE_MIN = 4096
INSTALL = "run `make install`"
KEY = "OPENAI_API_KEY"

# Run by the interpreter under test, with nothing of ours imported: what can it import, and from where?
_IMPORTS = """
import importlib, importlib.util, json, sys
sys.path[:] = [path for path in sys.path if path]  # not the directory this happens to run in
found = {"freeswitch": [importlib.util.find_spec("freeswitch") is not None, ""]}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        found[name] = [True, str(getattr(module, "__version__", ""))]
    except BaseException as error:
        found[name] = [False, type(error).__name__ + ": " + str(error)]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: str
    message: str
    todo: str = ""


@dataclass(frozen=True)
class RunningSwitch:
    """A FreeSWITCH that fs_cli reaches. pid is 0 where it cannot be told or read."""

    ask: Callable[[str], str]  # an API command's answer
    pid: int
    proc: Path = Path("/proc")

    def environ(self) -> dict[str, str] | None:
        """The environment it runs with; None when it may not be read."""
        try:
            text = (self.proc / str(self.pid) / "environ").read_bytes().decode(errors="surrogateescape")
        except OSError:
            return None
        return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)

    def env_file(self) -> str:
        """The .env in its working directory; "" without one."""
        try:
            path = Path(os.readlink(self.proc / str(self.pid) / "cwd"), ".env")
        except OSError:
            return ""
        return str(path) if path.is_file() else ""

    def nofile(self) -> int | None:
        """Its limit of open files; None when it may not be read."""
        try:
            limits = (self.proc / str(self.pid) / "limits").read_text()
        except OSError:
            return None
        found = re.search(r"Max open files\s+(\d+)", limits)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Machine:
    """What the checks look at, and how."""

    install: FreeSwitchInstall | None
    switch: RunningSwitch | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    run: Run = run_command
    prefix: str = ""  # asked for on the command line
    offline: bool = False


def look(prefix: str, fs_cli: str, offline: bool, run: Run = run_command) -> Machine:
    """This machine. A switch that fs_cli reaches says itself where its modules and scripts are."""
    install = freeswitch_install.find(prefix or None, run)
    if install is None:
        return Machine(None, prefix=prefix, offline=offline, run=run)
    switch = reach(install, fs_cli, run)
    if switch:
        names = {"modulesdir": "mod_dir", "scriptdir": "script_dir", "confdir": "conf_dir"}
        said = {name: switch.ask(f"global_getvar {variable}") for name, variable in names.items()}
        install = dataclasses.replace(
            install, **{name: path for name, path in said.items() if path.startswith("/")}
        )
    return Machine(install, switch, prefix=prefix, offline=offline, run=run)


def reach(install: FreeSwitchInstall, fs_cli: str, run: Run) -> RunningSwitch | None:
    """The running switch, over fs_cli with these arguments; None when it does not answer."""
    command = [str(Path(install.bindir, "fs_cli")), *shlex.split(fs_cli), "-x"]

    def ask(text: str) -> str:
        done = run([*command, text])
        return done.stdout.strip() if done.returncode == 0 else ""

    run_dir = ask("global_getvar run_dir")
    if not run_dir.startswith("/"):
        return None
    try:
        pid = int(Path(run_dir, "freeswitch.pid").read_text())
    except (OSError, ValueError):
        pid = 0
    return RunningSwitch(ask, pid)


# ---- FreeSWITCH and what is installed into it --------------------------------------------------------------


def check_freeswitch(machine: Machine) -> Iterator[Check]:
    """Is there a FreeSWITCH, and which?"""
    if machine.install is None:
        place = f" under {machine.prefix}" if machine.prefix else ""
        status = FAIL if machine.prefix else WARN
        yield Check(
            "freeswitch", status, f"no FreeSWITCH found{place}", "name its prefix with --fs-prefix DIR"
        )
        return
    version = machine.install.version
    if not version:
        said = machine.run([str(machine.install.binary), "-version"]).stdout
        version = next(iter(re.findall(r"version: (\S+)", said)), "of unknown version")
    running = "running" if machine.switch else "not running, or fs_cli does not reach it (--fs-cli)"
    yield Check("freeswitch", OK, f"{version} in {machine.install.prefix}, {running}")


def check_modules(machine: Machine) -> Iterator[Check]:
    """Are the two modules there, and loaded or set to be?"""
    todo = {
        MODULE: INSTALL,
        PYTHON_MODULE: "build FreeSWITCH's languages/mod_python3, or install its package",
    }
    for module in (MODULE, PYTHON_MODULE):
        name = module.removesuffix(".so")
        path = Path(machine.install.modulesdir, module)
        if path.is_file():
            yield Check(name, *_loaded(machine, name))
        else:
            yield Check(name, FAIL, f"{path} is not there", todo[module])


def _loaded(machine: Machine, name: str) -> tuple[str, str, str]:
    """Status, message and what to do: the running switch knows, else modules.conf.xml does."""
    path = Path(machine.install.confdir, "autoload_configs", "modules.conf.xml")
    add = f'add <load module="{name}"/> to {path}'
    if machine.switch:
        if machine.switch.ask(f"module_exists {name}") == "true":
            return OK, "loaded", ""
        return FAIL, "installed and not loaded", f"fs_cli -x 'load {name}' shows why; {add}"
    try:
        text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    except OSError:
        return WARN, f"installed; {path} cannot be read to see whether it is loaded", add
    if re.search(rf'<load\s+module="{name}"', text):
        return OK, "installed, and loaded at start", ""
    return FAIL, "installed, and not loaded at start", add


def check_library(machine: Machine) -> Iterator[Check]:
    """Do module and extension find the very same libaudiostream? Two would mean two stream registries."""
    module = Path(machine.install.modulesdir, MODULE)
    extension = Path(machine.install.scriptdir, "ivr_ai", EXTENSION)
    found = {}
    for path in (module, extension):
        if not path.is_file():
            yield Check("library", FAIL, f"{path} is not there", INSTALL)
            return
        found[path] = freeswitch_install.linked_library(path, machine.run)
        if not found[path]:
            yield Check("library", FAIL, f"{path} does not find {freeswitch_install.LIBRARY}", INSTALL)
            return
    if os.path.samefile(*found.values()):
        yield Check("library", OK, f"module and extension share {found[module]}")
    else:
        message = f"the module uses {found[module]}, the extension {found[extension]}: two registries"
        yield Check(
            "library", FAIL, message, f"{INSTALL}; look for LD_LIBRARY_PATH in FreeSWITCH's environment"
        )


def check_python(machine: Machine) -> Iterator[Check]:
    """Can the Python in mod_python3 import ivr_ai and what it needs, through the script directory alone?"""
    try:
        python = freeswitch_install.embedded_python(machine.install.modulesdir, machine.run)
    except EmbeddedPythonError as error:
        message, _, todo = str(error).rpartition(": ")
        yield Check("python", FAIL, message, todo)
        return
    if not python.interpreter:
        todo = f"install python{python.version} to let `make install` and this check use it"
        yield Check(
            "python", FAIL, f"mod_python3 embeds Python {python.version}; its interpreter is missing", todo
        )
        return
    yield Check("python", OK, f"mod_python3 embeds Python {python.version} ({python.libpython})")
    yield from _check_imports(machine, python.interpreter, machine.install.scriptdir)
    yield _check_startup(Path(machine.install.confdir, "autoload_configs", "python.conf.xml"))


def check_own_python(machine: Machine) -> Iterator[Check]:
    """Without FreeSWITCH: can the Python that runs this import what the embedded host needs?"""
    yield from _check_imports(machine, sys.executable, str(Path(__file__).resolve().parent.parent))


def _check_imports(machine: Machine, interpreter: str, path: str) -> Iterator[Check]:
    names = ("ivr_ai", *DEPENDENCIES, f"ivr_ai.{EXTENSION.partition('.')[0]}")
    done = machine.run(["env", f"PYTHONPATH={path}", interpreter, "-B", "-s", "-c", _IMPORTS, *names])
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        yield Check(
            "imports",
            FAIL,
            f"{interpreter} fails: {done.stderr.strip()[-200:]}",
            f"run {interpreter} by hand",
        )
        return
    has_switch_module, _ = found.pop("freeswitch")
    broken = {name: why for name, (works, why) in found.items() if not works}
    if broken:
        message = "; ".join(f"{name}: {why}" for name, why in broken.items())
        yield Check("imports", FAIL, f"{interpreter} with {path} cannot import {message}", INSTALL)
    else:
        versions = ", ".join(f"{name} {version}".strip() for name, (_, version) in found.items())
        yield Check("imports", OK, versions)
    if machine.install and not has_switch_module:
        todo = "copy src/mod/languages/mod_python3/freeswitch.py of FreeSWITCH into its script directory"
        yield Check("freeswitch.py", FAIL, f"{interpreter} does not find the module freeswitch", todo)


def _check_startup(path: Path) -> Check:
    todo = f'add <param name="startup-script" value="ivr_ai_startup"/> to the settings of {path}'
    try:
        text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    except OSError as error:
        return Check("startup", WARN, f"{path}: {error.strerror}", todo)
    if re.search(r'name="startup-script"\s+value="ivr_ai_startup\b', text):
        return Check("startup", OK, "imports are warmed when FreeSWITCH starts")
    return Check("startup", WARN, "the first call after a start will wait for imports", todo)


# ---- Settings and what they need ---------------------------------------------------------------------------


def check_settings(machine: Machine) -> Iterator[Check]:
    """Settings, key, apology voice and server, as a call without channel variables would see them."""
    try:
        whose, settings = load_settings(machine)
    except ConfigError as error:
        for problem in error.problems:
            yield Check("settings", FAIL, str(problem), "change it where it was set; docs/configuration.md")
        return
    yield Check("settings", OK, f"valid, as {whose} has them")
    yield _check_key(settings)
    for warning in settings.warnings:
        if not warning.startswith(KEY):
            yield Check("settings", WARN, warning)
    yield _check_apology(settings)
    yield from _check_server(machine, settings)


def load_settings(machine: Machine) -> tuple[str, Settings]:
    """(whose they are, settings): those of the running switch where they may be read. Raises ConfigError."""
    channel = {"conf_dir": machine.install.confdir} if machine.install else {}
    environ = machine.switch.environ() if machine.switch else None
    if environ is None:
        return "this shell", Settings.load(machine.environ, channel=channel)
    env_file = None if environ.get("IVR_AI_ENV_FILE") else machine.switch.env_file()
    return f"FreeSWITCH (pid {machine.switch.pid})", Settings.load(
        environ, env_file=env_file, channel=channel
    )


def _check_key(settings: Settings) -> Check:
    if settings.api_key:
        shown = next(value for name, value, _ in settings.describe() if name == KEY)
        return Check("key", OK, f"{KEY} {shown} from {settings.source('api_key')}")
    for warning in settings.warnings:
        if warning.startswith(KEY):
            return Check(
                "key", FAIL, warning, "set it in FreeSWITCH's environment, a .env file or the agent's profile"
            )
    return Check("key", OK, f"{KEY} is not set; {settings.realtime_url} may not ask for one")


def _check_apology(settings: Settings) -> Check:
    if settings.apology_file or not settings.apology_text:
        said = settings.apology_file or "silence"
        return Check("apology", OK, f"a failed call hears {said}")
    espeak = shutil.which("espeak-ng")
    if espeak:
        return Check("apology", OK, f"spoken by {espeak}")
    todo = "install espeak-ng, or set IVR_AI_APOLOGY_FILE to a recording"
    return Check("apology", WARN, "espeak-ng is not installed: a failed call hears two tones", todo)


def _check_server(machine: Machine, settings: Settings) -> Iterator[Check]:
    if machine.offline:
        yield Check("server", SKIP, f"{settings.realtime_url} not tried: --offline")
        return
    for stage in Probe(target(settings)).run():
        yield Check(f"server {stage.name}", OK if stage.ok else FAIL, stage.detail, stage.todo)


def check_files(machine: Machine) -> Iterator[Check]:
    """Is the limit of open files enough for many calls?"""
    limit = machine.switch.nofile() if machine.switch else None
    whose = "FreeSWITCH"
    if limit is None:
        limit, whose = resource.getrlimit(resource.RLIMIT_NOFILE)[0], "this shell"
    if limit == resource.RLIM_INFINITY or limit >= NOFILE_MIN:
        yield Check("open files", OK, f"{whose} may open {limit}")
        return
    todo = "raise it: LimitNOFILE= in FreeSWITCH's unit, or ulimit -n"
    yield Check(
        "open files", WARN, f"{whose} may open {limit}; each call takes several (RTP, RTCP, the model)", todo
    )


# ---- The report --------------------------------------------------------------------------------------------


def diagnose(machine: Machine) -> Iterator[Check]:
    """Every check that makes sense on this machine, in order. One that breaks is a failure, not the end."""
    yield from check_freeswitch(machine)
    if machine.install is None:
        yield Check("installation", SKIP, "module, library and mod_python3 not checked: no FreeSWITCH")
        checks = [check_own_python]
    else:
        checks = [check_modules, check_library, check_python]
    for check in (*checks, check_settings, check_files):
        try:
            yield from check(machine)
        except Exception as error:
            what = (check.__doc__ or check.__name__).partition("\n")[0]
            yield Check(
                "doctor", FAIL, f"could not find out: {what} {type(error).__name__}: {error}", "report this"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ivr-ai doctor`."""
    parser.add_argument("--fs-prefix", default="", metavar="DIR", help="where FreeSWITCH is installed")
    parser.add_argument(
        "--fs-cli", default="", metavar="ARGS", help='arguments of fs_cli, as "-P 8021 -p ClueCon"'
    )
    parser.add_argument("--offline", action="store_true", help="do not connect to the model's server")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 when a check failed."""
    checks = []
    for check in diagnose(look(args.fs_prefix, args.fs_cli, args.offline)):
        checks.append(check)
        if not args.json:
            print(line(check), flush=True)
    failed = sum(check.status == FAIL for check in checks)
    if args.json:
        report = {
            "version": __version__,
            "ok": not failed,
            "checks": [dataclasses.asdict(check) for check in checks],
        }
        print(json.dumps(report, indent=1))
    else:
        warned = sum(check.status == WARN for check in checks)
        print(f"\n{len(checks)} checks, {failed} failed, {warned} {'warning' if warned == 1 else 'warnings'}")
    return 1 if failed else 0


def line(check: Check) -> str:
    """A check as text; what to do about it follows on a line of its own."""
    text = f"{check.status:<4}  {check.name:<16}  {check.message}"
    return text if check.status == OK or not check.todo else f"{text}\n{'':<24}-> {check.todo}"


def target(settings: Settings) -> Target:
    """The server as the conversation would connect to it."""
    headers = request_headers(settings, make_dialect(settings))
    return Target(request_url(settings), headers, settings.ca_file, settings.connect_timeout_ms / 1000)
