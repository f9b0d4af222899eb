"""What is shipped is hardened: looked at in the files as they were built, with binutils' readelf."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "build/libaudiostream.so.1"
MODULE = ROOT / "build/mod_audio_stream.so"
EXTENSION = ROOT / "ivr_ai/_audio_stream.abi3.so"
ENTRIES = {"mod_audio_stream_load", "mod_audio_stream_shutdown"}  # told by address, not exported
ENDBR64 = bytes.fromhex("f30f1efa")


def readelf(path: Path, *options: str) -> str:
    done = subprocess.run(["readelf", "-W", *options, path], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(params=[LIBRARY, MODULE, EXTENSION], ids=lambda path: path.name)
def built(request: pytest.FixtureRequest) -> Path:
    """A file that is shipped. The module is there only where a FreeSWITCH is."""
    if not request.param.exists():
        assert request.param == MODULE, f"{request.param} is not built: run `make ext`"
        pytest.skip("the module is not built: run `make module`")
    return request.param


def imported(path: Path) -> set[str]:
    names = re.findall(r"\bUND (\w+)", readelf(path, "--dyn-syms"))
    return set(names)


def test_what_is_resolved_by_the_loader_is_resolved_at_once_and_read_only_after(built: Path):
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(BIND_NOW\)|\(FLAGS_1\).*\bNOW\b", readelf(built, "-d"))
    assert re.search(r"^ +GNU_RELRO ", readelf(built, "-l"), re.MULTILINE)


def test_no_memory_is_both_written_and_run(built: Path):
    segments = re.findall(
        r"^ +(LOAD|GNU_STACK) +(?:0x[0-9a-f]+ +){5}([RWE ]{3}) ", readelf(built, "-l"), re.MULTILINE
    )
    assert ("GNU_STACK", "RW ") in segments
    assert [flags for _, flags in segments if "W" in flags and "E" in flags] == []


def test_stacks_are_watched(built: Path):
    assert "__stack_chk_fail" in imported(built)


@pytest.mark.parametrize("path", [LIBRARY, MODULE], ids=lambda path: path.name)
def test_copies_know_how_much_room_there_is(path: Path):
    """The extension, which cffi writes, has none that could be checked."""
    if not path.exists():
        pytest.skip(f"{path.name} is not built")
    assert any(name.startswith("__") and name.endswith("_chk") for name in imported(path))


def functions(path: Path) -> dict[str, bytes]:
    """How the functions begin that others may call."""
    data = path.read_bytes()
    text = re.search(r"\.text +PROGBITS +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", readelf(path, "-S"))
    address, offset, size = (int(number, 16) for number in text.groups())
    known = re.findall(r"([0-9a-f]{16}) +\d+ FUNC +(\w+) +\w+ +\d+ (\w+)", readelf(path, "-s"))
    inside = {
        name: int(start, 16) - address
        for start, binding, name in known
        if binding != "LOCAL" or name in ENTRIES
    }
    return {name: data[offset + at : offset + at + 4] for name, at in inside.items() if 0 <= at < size}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an extension of x86")
def test_jumps_land_where_functions_begin(built: Path):
    """The file's note says so as well, where the C library's start-up files have it."""
    begins = functions(built)
    assert begins
    assert {name: first for name, first in begins.items() if first != ENDBR64} == {}
    asked = ["gcc", "-print-file-name=crti.o"]
    crti = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    if "IBT" in readelf(crti, "-n"):
        assert "IBT, SHSTK" in readelf(built, "-n")
