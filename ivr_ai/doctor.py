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
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ivr_ai import __version__, freeswitch_install
from ivr_ai.audio.formats import read_wav
from ivr_ai.config import ConfigError, Settings, mask_url
from ivr_ai.config.kinds import unquoted
from ivr_ai.config.service import key_header
from ivr_ai.config.sources import ENV_FILE
from ivr_ai.freeswitch_install import (
    MODULE,
    PYTHON_MODULE,
    EmbeddedPython,
    EmbeddedPythonError,
    FreeSwitchInstall,
)
from ivr_ai.machine import Machine, User, is_packaged, look
from ivr_ai.probe import Probe, Target
from ivr_ai.realtime.request import make_dialect, request_headers, request_url

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"

DEPENDENCIES = ("cffi", "numpy", "soxr", "websocket", "dotenv")
EXTENSION = "_audio_stream.abi3.so"
NOFILE_MIN = 4096
INSTALL = "run `make install`"
KEY = "OPENAI_API_KEY"
APOLOGY_FILE = "IVR_AI_APOLOGY_FILE"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"  # systemd's, for a unit that sets none

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

# Run by the interpreter under test with a PATH and a PYTHONHOME: where is its library, and where would it be
# looked for by an embedded Python? Python looks for its home beside the python3 that PATH finds, unless it is
# started by a path: so it is started again without one (CPython, Modules/getpath.py).
_HOME = """
import os, sys
print(os.path.dirname(os.__file__), sys.prefix, sys.base_prefix, sep="\\n", flush=True)
ask = "import os, sys; print(os.path.dirname(os.__file__), sys.prefix, sep='\\\\n')"
environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
environ.update({"PATH": sys.argv[1]}, **({"PYTHONHOME": sys.argv[2]} if sys.argv[2] else {}))
os.execve(sys.executable, ["python3", "-B", "-c", ask], environ)
"""


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: str
    message: str
    todo: str = ""


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
    place = "from Debian's packages" if is_packaged(machine.install) else f"in {machine.install.prefix}"
    found = machine.install
    where = f"configuration {found.confdir}, modules {found.modulesdir}, scripts {found.scriptdir}"
    yield Check("freeswitch", OK, f"{version} {place} ({where}), {running}")


def check_modules(machine: Machine) -> Iterator[Check]:
    """Are the two modules there, and loaded or set to be?"""
    for module in (MODULE, PYTHON_MODULE):
        name = module.removesuffix(".so")
        path = Path(machine.install.modulesdir, module)
        if path.is_file():
            yield Check(name, *_loaded(machine, name))
        else:
            yield Check(name, FAIL, f"{path} is not there", _how_to_get(module, machine.install))


def _how_to_get(module: str, install: FreeSwitchInstall) -> str:
    """What to do about a module that is missing."""
    if module == PYTHON_MODULE:
        package = "install the package freeswitch-mod-python3"
        return package if is_packaged(install) else f"build FreeSWITCH's languages/mod_python3, or {package}"
    if Path(install.includedir, "switch.h").is_file():
        return INSTALL
    headers = "" if is_packaged(install) else "the headers of your FreeSWITCH, as a package "
    return f"install {headers}libfreeswitch-dev: {install.includedir}/switch.h is not there; then {INSTALL}"


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
    yield from _check_home(machine, python)
    yield from _check_imports(machine, python.interpreter, machine.install.scriptdir)
    yield _check_startup(Path(machine.install.confdir, "autoload_configs", "python.conf.xml"))


def _check_home(machine: Machine, python: EmbeddedPython) -> Iterator[Check]:
    """Would mod_python3 find the library modules of its own Python, with FreeSWITCH's PATH?"""
    whose, environ = machine.switch_environ()
    path, home = environ.get("PATH") or DEFAULT_PATH, environ.get("PYTHONHOME", "")
    done = machine.run([python.interpreter, "-E", "-s", "-B", "-c", _HOME, path, home])
    own, embedded = done.stdout.splitlines()[:3], done.stdout.splitlines()[3:]
    if len(own) < 3:
        return  # the interpreter does not work, which the next check says
    if embedded == own[:2]:
        yield Check("python path", OK, f"library modules come from {own[0]}")
        return
    culprit = f"PYTHONHOME={home}" if home else shutil.which("python3", path=path) or "its PATH"
    if embedded[:1] == own[:1]:
        status, effect = WARN, f"puts mod_python3 into the environment {embedded[1]}, with other packages"
    else:
        loaded = f"the library modules of {embedded[0]}" if embedded else "no library modules"
        status, effect = FAIL, f"makes mod_python3 load {loaded} instead of {own[0]}: every AI call fails"
    if not machine.switch:
        status, whose = WARN, f"{whose}, if FreeSWITCH is started from it"
    todo = (
        "take it out of FreeSWITCH's PATH, in its unit: Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin; or "
        f"set PYTHONHOME={own[2]} there; and restart FreeSWITCH"
    )
    yield Check("python path", status, f"{culprit} {effect} (environment of {whose})", todo)


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
    yield from check_env_file(machine)
    try:
        whose, settings = load_settings(machine)
    except ConfigError as error:
        for problem in error.problems:
            yield Check("settings", FAIL, str(problem), "change it where it was set; docs/configuration.md")
        return
    yield Check("settings", OK, f"valid, as {whose} has them")
    yield from _check_key(settings)
    for warning in settings.warnings:
        if not warning.startswith((KEY, APOLOGY_FILE)):
            yield Check("settings", WARN, warning)
    yield _check_apology(machine, settings)
    yield from _check_server(machine, settings)


def load_settings(machine: Machine) -> tuple[str, Settings]:
    """(whose they are, settings): those of the running switch where they may be read. Raises ConfigError."""
    whose, environ = machine.switch_environ()
    return whose, Settings.load(environ, channel=machine.channel(), working_dir=_working_dir(machine))


def _working_dir(machine: Machine) -> str | None:
    """The directory in which calls look for `.env`; None for this process's own."""
    running = machine.switch is not None and machine.switch.environ() is not None
    return (machine.switch.working_dir() or "/") if running else None


def check_env_file(machine: Machine) -> Iterator[Check]:
    """Can FreeSWITCH's user read the file that has the key, and nobody else?"""
    _, environ = machine.switch_environ()
    named = unquoted(environ.get(ENV_FILE, "").strip())
    path = os.path.join(_working_dir(machine) or "", named or ".env")
    user = machine.switch_user()
    if not os.path.isfile(path) or user is None:
        return  # settings say what is wrong with a file that was named
    barrier = user.barrier(path)
    if barrier:
        yield Check("env file", FAIL if named else WARN, *_closed(path, barrier, user))
    elif os.stat(path).st_mode & 0o007:
        todo = f"chmod 640 {path}, and chgrp it to the group of {user.name}"
        yield Check("env file", WARN, f"everybody on this machine can read {path}", todo)
    else:
        yield Check("env file", OK, f"{path}: {user.name} can read it, not everybody can")


def _closed(path: str, barrier: str, user: User) -> tuple[str, str]:
    """What keeps FreeSWITCH's user from a file, and what to do."""
    if os.path.isdir(barrier):
        return f"{user.name} cannot read {path}: it may not enter {barrier}", f"chmod g+x,o+x {barrier}"
    return f"{user.name} cannot read {path}", f"chgrp it to a group of {user.name}, and chmod 640 {path}"


def _check_key(settings: Settings) -> Iterator[Check]:
    said = [warning for warning in settings.warnings if warning.startswith(KEY)]
    if settings.api_key:
        shown = next(value for name, value, _ in settings.describe() if name == KEY)
        header = key_header(settings)
        sent = f", sent as {header}" if header else ""
        yield Check("key", OK, f"{KEY} {shown} from {settings.source('api_key')}{sent}")
    elif not any("is not set" in warning for warning in said):
        yield Check("key", OK, f"{KEY} is not set; {mask_url(settings.realtime_url)} may not ask for one")
    for warning in said:
        serious = "is not set" in warning or "begins with a quote" in warning
        todo = "set it in FreeSWITCH's environment, a .env file or the agent's profile" if serious else ""
        yield Check("key", FAIL if serious else WARN, warning, todo)


def _check_apology(machine: Machine, settings: Settings) -> Check:
    if settings.apology_file:
        return _check_apology_file(machine, settings.apology_file)
    if not settings.apology_text:
        return Check("apology", OK, "a failed call hears silence")
    espeak = shutil.which("espeak-ng")
    if espeak:
        return Check("apology", OK, f"spoken by {espeak}")
    todo = f"install espeak-ng, or set {APOLOGY_FILE} to a recording"
    return Check("apology", WARN, "espeak-ng is not installed: a failed call hears two tones", todo)


def _check_apology_file(machine: Machine, path: str) -> Check:
    todo = f"set {APOLOGY_FILE} to a PCM WAV file, by its whole path or one in FreeSWITCH's sounds_dir"
    try:
        audio, rate_hz = read_wav(path)
    except FileNotFoundError:
        return Check("apology", FAIL, f"{APOLOGY_FILE} {path} is not there", todo)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Check("apology", FAIL, f"{APOLOGY_FILE} {path} cannot be played: {why}", todo)
    user = machine.switch_user()
    barrier = user.barrier(path) if user else ""
    if user and barrier:
        return Check("apology", FAIL, *_closed(path, barrier, user))
    return Check("apology", OK, f"a failed call hears {path}, {len(audio) / 2 / rate_hz:.1f} s")


def _check_server(machine: Machine, settings: Settings) -> Iterator[Check]:
    if machine.offline:
        yield Check("server", SKIP, f"{mask_url(settings.realtime_url)} not tried: --offline")
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
