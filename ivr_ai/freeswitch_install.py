"""Where FreeSWITCH is installed, and which Python its mod_python3 embeds: found, not assumed.

The one place that looks. Make runs this file (standard library only) and reads name=value lines; `ivr-ai
doctor`, the demo and the tests import it.

Order of search: an explicit prefix, else the `freeswitch` that pkg-config knows, else
/usr/local/freeswitch, else the layout of distribution packages under /usr. In each place freeswitch.pc
wins, and without one the directories are told by what is in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

DEFAULT_PREFIXES = ("/usr/local/freeswitch", "/usr")
MODULE = "mod_audio_stream.so"
PYTHON_MODULE = "mod_python3.so"
LIBRARY = "libaudiostream.so.1"
HEADER = "switch.h"
PYTHON_MIN = (3, 10)  # requires-python in pyproject.toml

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclasses.dataclass(frozen=True)
class FreeSwitchInstall:
    """Directories of one FreeSWITCH. The field names are those of freeswitch.pc; version may be empty."""

    prefix: str
    version: str
    bindir: str
    includedir: str
    libdir: str
    modulesdir: str
    scriptdir: str
    confdir: str

    @property
    def binary(self) -> Path:
        return Path(self.bindir, "freeswitch")

    @property
    def site_dir(self) -> Path:
        """Where `make install` puts ivr_ai and what it depends on."""
        return Path(self.libdir, "ivr_ai")


@dataclasses.dataclass(frozen=True)
class EmbeddedPython:
    """The Python inside mod_python3: version ("3.11"), libpython, and an interpreter of it ("" if none)."""

    version: str
    libpython: str
    interpreter: str


class EmbeddedPythonError(RuntimeError):
    """mod_python3 is missing, or its Python cannot be used. Says what to do."""


def run_command(argv: Sequence[str], timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Runs argv and captures its text; a program that is missing or hangs counts as status 127."""
    try:
        return subprocess.run(list(argv), capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(argv), 127, "", str(error))


def find(prefix: str | None = None, run: Run = run_command) -> FreeSwitchInstall | None:
    """The FreeSWITCH under prefix, or without one the first found. None when there is none."""
    if prefix:
        return _under(Path(prefix))
    known = run(["pkg-config", "--variable=pcfiledir", "freeswitch"])
    if known.returncode == 0 and known.stdout.strip():
        found = _from_pc(Path(known.stdout.strip(), "freeswitch.pc"))
        if found:
            return found
    return next(filter(None, map(_under, map(Path, DEFAULT_PREFIXES))), None)


def _under(prefix: Path) -> FreeSwitchInstall | None:
    for pattern in ("lib/pkgconfig", "lib/*/pkgconfig", "lib64/pkgconfig", "share/pkgconfig"):
        for directory in sorted(prefix.glob(pattern)):
            found = _from_pc(directory / "freeswitch.pc")
            if found:
                return found
    return _from_layout(prefix)


def _from_pc(path: Path) -> FreeSwitchInstall | None:
    if not path.is_file():
        return None
    values = parse_pc(path.read_text(encoding="utf-8"))
    if "modulesdir" not in values:
        return None
    names = [field.name for field in dataclasses.fields(FreeSwitchInstall)]
    return FreeSwitchInstall(**{name: values.get(name, "") for name in names})


def parse_pc(text: str) -> dict[str, str]:
    """Variables of a pkg-config file, expanded; the Version field as "version"."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        variable = re.match(r"(\w+)\s*=\s*(.*)", line)
        if variable:
            name, value = variable.groups()
            values[name] = re.sub(r"\$\{(\w+)\}", lambda ref: values.get(ref[1], ""), value.strip())
        elif line.startswith("Version:"):
            values["version"] = line.split(":", 1)[1].strip()
    return values


def _from_layout(prefix: Path) -> FreeSwitchInstall | None:
    """A FreeSWITCH without freeswitch.pc: by its module directory, wherever that is under prefix."""
    modules = _first(prefix, "lib/freeswitch/mod", "lib/*/freeswitch/mod", "mod")
    if modules is None or not any(modules.glob("mod_*.so")):
        return None
    library = _first(prefix, "lib/libfreeswitch.so.1", "lib/*/libfreeswitch.so.1", "lib/libfreeswitch.so")
    etc = Path("/etc") if prefix == Path("/usr") else prefix / "etc"
    return FreeSwitchInstall(
        prefix=str(prefix),
        version="",
        bindir=str(prefix / "bin"),
        includedir=str(_first(prefix, "include/freeswitch", "include") or prefix / "include/freeswitch"),
        libdir=str(library.parent if library else prefix / "lib"),
        modulesdir=str(modules),
        scriptdir=str(
            _first(prefix, "scripts", "share/freeswitch/scripts") or prefix / "share/freeswitch/scripts"
        ),
        confdir=str(_first(prefix, "conf") or etc / "freeswitch"),
    )


def _first(prefix: Path, *patterns: str) -> Path | None:
    return next((path for pattern in patterns for path in sorted(prefix.glob(pattern))), None)


def embedded_python(modulesdir: str, run: Run = run_command) -> EmbeddedPython:
    """The Python that mod_python3.so in modulesdir is linked to. Raises EmbeddedPythonError."""
    module = Path(modulesdir, PYTHON_MODULE)
    if not module.is_file():
        raise EmbeddedPythonError(
            f"{module} is not there: enable languages/mod_python3 in FreeSWITCH's modules.conf and build it, "
            f"or install the package freeswitch-mod-python3; modulesdir=DIR names another module directory"
        )
    linked = re.search(r"(libpython(\d+\.\d+)(t?)\.so\S*)(?: => (/\S+))?", run(["ldd", str(module)]).stdout)
    if not linked:
        raise EmbeddedPythonError(
            f"{module} links no libpython that ldd can see: rebuild it with --enable-shared Python"
        )
    name, version, free_threaded, path = linked.groups()
    if free_threaded:
        raise EmbeddedPythonError(
            f"{module} embeds the free-threaded {name}: build it with a standard Python"
        )
    if tuple(map(int, version.split("."))) < PYTHON_MIN:
        least = ".".join(map(str, PYTHON_MIN))
        raise EmbeddedPythonError(
            f"{module} embeds Python {version}, and ivr_ai needs {least} or newer: "
            f"use a newer distribution (Debian 12 has 3.11), or build mod_python3 with a newer Python"
        )
    if not path:
        raise EmbeddedPythonError(f"{module} needs {name}, which the loader does not find: install it")
    return EmbeddedPython(version, path, _interpreter(version, Path(path), run))


def _interpreter(version: str, libpython: Path, run: Run) -> str:
    wanted = f"print(__import__('sys').version_info[:2] == {tuple(map(int, version.split('.')))})"
    for candidate in _interpreter_candidates(version, libpython):
        if run([candidate, "-c", wanted]).stdout.strip() == "True":
            return candidate
    return ""


def _interpreter_candidates(version: str, libpython: Path) -> Iterator[str]:
    """Beside the libpython first: pythonX.Y on the PATH may be another build of that version."""
    for parent in list(libpython.resolve().parents)[1:4]:
        path = parent / "bin" / f"python{version}"
        if path.is_file():
            yield str(path)
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path


def headers_error(includedir: str) -> str:
    """Why the module cannot be compiled against includedir, and what to do; "" when its headers are there."""
    if Path(includedir, HEADER).is_file():
        return ""
    return (
        f"FreeSWITCH's headers are missing: {Path(includedir, HEADER)} is not there. With FreeSWITCH's "
        f"Debian packages: apt-get install libfreeswitch-dev; built from source: run its `make install`; "
        f"includedir=DIR names another directory"
    )


def linked_library(path: Path, run: Run = run_command) -> str:
    """The libaudiostream that path would load; "" when it needs none, or when none is found."""
    found = re.search(rf"{re.escape(LIBRARY)} => (/\S+)", run(["ldd", str(path)]).stdout)
    return found[1] if found else ""


def facts(install: FreeSwitchInstall | None, modulesdir: str = "", includedir: str = "") -> dict[str, str]:
    """What Make asks for; empty without FreeSWITCH. python_error and headers_error say why one is missing."""
    if install is None:
        return {}
    if modulesdir:
        install = dataclasses.replace(install, modulesdir=modulesdir)
    if includedir:
        install = dataclasses.replace(install, includedir=includedir)
    return {**dataclasses.asdict(install), **_header_facts(install), **_python_facts(install)}


def _header_facts(install: FreeSwitchInstall) -> dict[str, str]:
    error = headers_error(install.includedir)
    return {"headers_error": error} if error else {"headers": str(Path(install.includedir, HEADER))}


def _python_facts(install: FreeSwitchInstall) -> dict[str, str]:
    try:
        python = embedded_python(install.modulesdir)
    except EmbeddedPythonError as error:
        return {"python_error": str(error)}
    if not python.interpreter:
        missing = (
            f"mod_python3 embeds Python {python.version}, and there is no python{python.version}: install it"
        )
        return {"python_version": python.version, "python_error": missing}
    return {"python": python.interpreter, "python_version": python.version}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints name=value words, or one value with --get. Status 1 when there is no FreeSWITCH."""
    parser = argparse.ArgumentParser(description="Where FreeSWITCH is installed")
    parser.add_argument("--prefix", default="", help="look here only")
    parser.add_argument(
        "--modulesdir", default="", help="where mod_python3.so is, when not where FreeSWITCH says"
    )
    parser.add_argument("--includedir", default="", help="where switch.h is, when not where FreeSWITCH says")
    parser.add_argument("--get", default="", metavar="NAME", help="print this value alone")
    args = parser.parse_args(argv)
    values = facts(find(args.prefix), args.modulesdir, args.includedir)
    if args.get:
        print(values.get(args.get, ""))
    else:
        print(*(f"{name}={value}" for name, value in values.items() if " " not in value), sep="\n")
    return 0 if values else 1


if __name__ == "__main__":
    sys.exit(main())
