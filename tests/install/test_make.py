"""What `make` and its scripts say and do where something is missing, and how a suite is judged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAKY = """
from pathlib import Path

def test_fails_the_first_time():
    been = Path(__file__).with_suffix(".been")
    there, _ = been.exists(), been.touch()
    assert there
"""


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make in the source tree, without what a make around this test has set."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def without_headers(tmp_path: Path) -> Path:
    """FreeSWITCH as Debian's packages without libfreeswitch-dev leave it: modules, no headers."""
    (tmp_path / "lib/freeswitch/mod").mkdir(parents=True)
    (tmp_path / "lib/freeswitch/mod/mod_sofia.so").touch()
    return tmp_path


SOURCE = "mod_audio_stream/freeswitch/config.c"
OBJECT = "build/obj/module/freeswitch/config.o"


@pytest.mark.parametrize("target", [("check-headers",), ("-W", SOURCE, OBJECT)], ids=["check", "compile"])
def test_missing_headers_are_told_by_package_and_not_by_the_compiler(without_headers, target):
    done = make(*target, f"FS_PREFIX={without_headers}")
    assert done.returncode == 2
    assert f"{without_headers}/include/freeswitch/switch.h is not there" in done.stderr
    assert "apt-get install libfreeswitch-dev" in done.stderr
    assert "fatal error" not in done.stderr


def test_without_a_freeswitch_headers_are_not_the_matter(tmp_path):
    done = make("check-headers", f"FS_PREFIX={tmp_path}")
    assert (done.returncode, f"no FreeSWITCH found under {tmp_path}" in done.stderr) == (2, True)
    assert "headers" not in done.stderr.replace("check-headers", "")


def compile_line(*settings: str) -> str:
    """How a file of the library would be compiled."""
    source = "mod_audio_stream/core/base.c"
    said = make("-n", "-W", source, "build/obj/lib/core/base.o", *settings).stdout
    return next(line for line in said.splitlines() if f"-c {source}" in line)


def test_what_is_shipped_is_hardened_and_cflags_have_the_last_word():
    line = compile_line("CFLAGS=-O3 -fno-stack-protector")
    assert "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2" in line
    assert line.index("-fstack-protector-strong") < line.index("-O3 -fno-stack-protector")


@pytest.mark.parametrize("cflags", ["-O0", "-g", "-O1 -fsanitize=address", "-O2 -D_FORTIFY_SOURCE=3"])
def test_source_is_not_fortified_twice_nor_where_that_does_harm(cflags):
    line = compile_line(f"CFLAGS={cflags}")
    assert "_FORTIFY_SOURCE=2" not in line
    assert f"{cflags} -c" in line


def test_lint_checks_types_of_what_exists():
    said = make("-n", "lint").stdout
    [paths] = re.findall(r"mypy --strict (.*)", said)
    assert paths.split()
    assert all((ROOT / path).exists() for path in paths.split())


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({}, ""),
        ({"clang-format": "14.0.6"}, "clang-format"),
        ({"clang-format": "19.1.7"}, ""),
        ({"clang-format": "19.1.7", "clang-format-14": "14.0.6"}, "clang-format-14"),
    ],
    ids=["none", "the right one", "another", "both"],
)
def test_only_the_version_that_c_is_formatted_with_judges_it(tmp_path, installed, found):
    (tmp_path / "bash").symlink_to("/bin/bash")
    for name, version in installed.items():
        (tmp_path / name).write_text(f"#!/bin/bash\necho 'Debian clang-format version {version}'\n")
        (tmp_path / name).chmod(0o755)
    command = ["/bin/bash", ROOT / "scripts/clang-format.sh", "14"]
    done = subprocess.run(
        command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == found


def run_suite(folder: Path, text: str) -> tuple[int, str]:
    """Exit status of scripts/test.sh on one test file, and the summary that it leaves."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [ROOT / "scripts/test.sh", "probe", sys.executable, "test_it.py", "test_that_is_not_there.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, (folder / "build/test-summary/pytest-probe").read_text()


def test_what_would_pass_the_second_time_fails_the_run(tmp_path):
    status, summary = run_suite(tmp_path, FLAKY)
    assert status == 1
    assert re.match(r"pytest probe, Python 3\.\d+\.\d+: 1 failed in ", summary)


def test_a_suite_that_passes_leaves_one_line(tmp_path):
    status, summary = run_suite(tmp_path, "def test_it():\n    pass\n")
    assert status == 0
    assert re.fullmatch(r"pytest probe, Python 3\.\d+\.\d+: 1 passed in .*\n", summary)
