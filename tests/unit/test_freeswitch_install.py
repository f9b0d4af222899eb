"""Finding FreeSWITCH and its Python, in directories of our own, with the real compiler and loader."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ivr_ai import freeswitch_install
from ivr_ai.freeswitch_install import (
    PYTHON_MIN,
    EmbeddedPythonError,
    embedded_python,
    find,
    headers_error,
    linked_library,
    parse_pc,
    run_command,
)

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PC = """\
prefix={prefix}
exec_prefix=${{prefix}}
libdir=${{exec_prefix}}/lib
includedir=${{prefix}}/include/freeswitch
modulesdir=${{libdir}}/freeswitch/mod
scriptdir=${{prefix}}/share/freeswitch/scripts
confdir=${{prefix}}/etc/freeswitch
bindir=${{exec_prefix}}/bin

Name: freeswitch
Description: a telephony platform
Version: 1.10.12-release
"""


def shared_object(path: Path, soname: str = "", needs: Path | None = None) -> Path:
    """Compiles an empty shared object, which finds what it needs beside itself or in needs' directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-x", "c", "/dev/null", "-o", str(path), "-Wl,--no-as-needed"]
    command += [f"-Wl,-soname,{soname}"] if soname else []
    if needs:
        command += ["-x", "none", str(needs), f"-Wl,-rpath,{needs.parent}"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installed FreeSWITCH whose mod_python3 embeds this test's Python version."""
    root = tmp_path / "fs"
    libpython = f"libpython{VERSION}.so.1.0"
    library = shared_object(root / "lib" / libpython, libpython)
    shared_object(root / "lib/freeswitch/mod/mod_python3.so", needs=library)
    pc = root / "lib/pkgconfig/freeswitch.pc"
    pc.parent.mkdir(parents=True)
    pc.write_text(PC.format(prefix=root))
    return root


def add_interpreter(prefix: Path, body: str) -> Path:
    path = prefix / "bin" / f"python{VERSION}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_parse_pc_expands_variables():
    values = parse_pc("prefix=/p\nlibdir=${prefix}/lib\nmodulesdir=${libdir}/mod\nVersion: 1.11.0\n")
    assert values == {"prefix": "/p", "libdir": "/p/lib", "modulesdir": "/p/lib/mod", "version": "1.11.0"}


def test_a_prefix_with_freeswitch_pc(prefix):
    install = find(str(prefix))
    assert (install.version, install.modulesdir) == ("1.10.12-release", f"{prefix}/lib/freeswitch/mod")
    assert install.scriptdir == f"{prefix}/share/freeswitch/scripts"
    assert install.site_dir == prefix / "lib/ivr_ai"


def test_pkg_config_is_asked_without_a_prefix(prefix, monkeypatch):
    monkeypatch.setenv("PKG_CONFIG_PATH", f"{prefix}/lib/pkgconfig")
    assert find().prefix == str(prefix)


def test_the_old_layout_without_freeswitch_pc(tmp_path):
    """/usr/local/freeswitch with mod/, scripts/ and conf/ right below, as old source builds have it."""
    for name in ("mod", "scripts", "conf", "lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "mod/mod_python3.so").touch()
    install = find(str(tmp_path))
    assert install.modulesdir == f"{tmp_path}/mod"
    assert install.scriptdir == f"{tmp_path}/scripts"
    assert install.confdir == f"{tmp_path}/conf"
    assert install.version == ""


def test_the_layout_of_packages_without_freeswitch_pc(tmp_path):
    """The module directory below lib, the library in the multiarch directory."""
    (tmp_path / "lib/freeswitch/mod").mkdir(parents=True)
    (tmp_path / "lib/freeswitch/mod/mod_sofia.so").touch()
    (tmp_path / "lib/x86_64-linux-gnu").mkdir()
    (tmp_path / "lib/x86_64-linux-gnu/libfreeswitch.so.1").touch()
    install = find(str(tmp_path))
    assert install.libdir == f"{tmp_path}/lib/x86_64-linux-gnu"
    assert install.confdir == f"{tmp_path}/etc/freeswitch"


@pytest.mark.parametrize("content", ["nothing", "modules of something else"])
def test_no_freeswitch(tmp_path, content):
    if content != "nothing":
        (tmp_path / "mod").mkdir()
        (tmp_path / "mod/readme").touch()
    assert find(str(tmp_path)) is None


def test_embedded_python_is_read_from_the_module(prefix):
    beside = add_interpreter(prefix, f'exec "{sys.executable}" "$@"')
    python = embedded_python(f"{prefix}/lib/freeswitch/mod")
    assert python.version == VERSION
    assert python.libpython == f"{prefix}/lib/libpython{VERSION}.so.1.0"
    assert python.interpreter == str(beside)


def test_an_interpreter_that_is_not_what_its_name_says_is_not_used(prefix, monkeypatch):
    add_interpreter(prefix, "echo False")
    ldd = shutil.which("ldd")
    monkeypatch.setenv("PATH", str(prefix / "bin"))

    def run(argv):
        return run_command([ldd, *argv[1:]] if argv[0] == "ldd" else argv)

    assert embedded_python(f"{prefix}/lib/freeswitch/mod", run).interpreter == ""


def test_without_mod_python3_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(
        EmbeddedPythonError, match=r"mod_python3\.so is not there: enable languages/mod_python3"
    ):
        embedded_python(str(tmp_path))


def test_a_module_that_links_no_python(tmp_path):
    shared_object(tmp_path / "mod_python3.so")
    with pytest.raises(EmbeddedPythonError, match="links no libpython"):
        embedded_python(str(tmp_path))


def test_a_libpython_that_is_gone(tmp_path):
    library = shared_object(tmp_path / "lib" / "libpython3.99.so.1.0", "libpython3.99.so.1.0")
    shared_object(tmp_path / "mod_python3.so", needs=library)
    library.unlink()
    with pytest.raises(
        EmbeddedPythonError, match=r"needs libpython3\.99\.so\.1\.0, which the loader does not find"
    ):
        embedded_python(str(tmp_path))


def test_a_free_threaded_python_is_refused(tmp_path):
    library = shared_object(tmp_path / "lib" / "libpython3.99t.so.1.0", "libpython3.99t.so.1.0")
    shared_object(tmp_path / "mod_python3.so", needs=library)
    with pytest.raises(EmbeddedPythonError, match="free-threaded"):
        embedded_python(str(tmp_path))


def test_a_python_that_is_too_old_is_refused(tmp_path):
    """Debian 11's packages: their mod_python3 embeds 3.9."""
    library = shared_object(tmp_path / "lib" / "libpython3.9.so.1.0", "libpython3.9.so.1.0")
    shared_object(tmp_path / "mod_python3.so", needs=library)
    with pytest.raises(EmbeddedPythonError, match=r"embeds Python 3\.9, and ivr_ai needs 3\.10 or newer"):
        embedded_python(str(tmp_path))


def test_the_least_python_is_that_of_the_package():
    pyproject = Path(__file__).resolve().parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={".".join(map(str, PYTHON_MIN))}"' in pyproject


def test_linked_library(tmp_path):
    library = shared_object(tmp_path / "lib" / "libaudiostream.so.1", "libaudiostream.so.1")
    module = shared_object(tmp_path / "mod" / "mod_audio_stream.so", needs=library)
    assert linked_library(module) == str(library)
    library.unlink()
    assert linked_library(module) == ""


def test_headers_that_are_there(tmp_path):
    (tmp_path / "switch.h").touch()
    assert headers_error(str(tmp_path)) == ""


@pytest.mark.parametrize("there", [True, False], ids=["another header", "no directory"])
def test_headers_that_are_missing_are_named_with_their_package(tmp_path, there):
    include = tmp_path / "include"
    if there:
        include.mkdir()
        (include / "stdio.h").touch()
    said = headers_error(str(include))
    assert f"{include}/switch.h is not there" in said
    assert "apt-get install libfreeswitch-dev" in said


def test_make_is_told_whether_there_are_headers(prefix, tmp_path):
    command = [sys.executable, "-I", freeswitch_install.__file__, "--prefix", str(prefix)]

    def ask(*arguments: str) -> str:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout

    assert "headers=" not in ask()
    assert f"{prefix}/include/freeswitch/switch.h is not there" in ask("--get", "headers_error")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "switch.h").touch()
    assert f"headers={elsewhere}/switch.h" in ask("--includedir", str(elsewhere)).split()


def test_make_reads_words(prefix):
    add_interpreter(prefix, f'exec "{sys.executable}" "$@"')
    command = [sys.executable, "-I", freeswitch_install.__file__, "--prefix", str(prefix)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    facts = dict(word.split("=", 1) for word in words)
    assert facts["prefix"] == str(prefix)
    assert facts["python"] == f"{prefix}/bin/python{VERSION}"
    assert facts["python_version"] == VERSION


def test_make_is_told_why_there_is_no_python(tmp_path):
    (tmp_path / "mod").mkdir()
    (tmp_path / "mod/mod_sofia.so").touch()
    command = [sys.executable, "-I", freeswitch_install.__file__, "--prefix", str(tmp_path)]
    facts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    why = subprocess.run(
        [*command, "--get", "python_error"], capture_output=True, text=True, check=True
    ).stdout
    assert "python" not in facts.replace(str(tmp_path), "")
    assert "mod_python3.so is not there" in why
    nothing = subprocess.run([*command[:-1], f"{tmp_path}/none"], capture_output=True, text=True, check=False)
    assert (nothing.returncode, nothing.stdout.strip()) == (1, "")
