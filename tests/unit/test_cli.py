"""The command line: finding subcommands, exit statuses, and what is said when something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ivr_ai import __version__
from ivr_ai.cli import COMMANDS, Command, explain, main

WORKING = """
import sys

def add_arguments(parser):
    parser.add_argument("--status", type=int, default=0)

def run(args):
    if args.status == 9:
        raise KeyboardInterrupt
    print("ran with", args.status)
    return args.status
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Real modules in a directory of their own: one that works, one that needs what nobody has."""
    (tmp_path / "cli_working.py").write_text(WORKING)
    (tmp_path / "cli_lacking.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield {"work": Command("cli_working", "works"), "lack": Command("cli_lacking", "lacks a module")}
    sys.modules.pop("cli_working", None)


@pytest.mark.parametrize("status", [0, 1, 3])
def test_the_subcommands_status_is_the_exit_status(commands, capsys, status):
    assert main(["work", "--status", str(status)], commands) == status
    assert capsys.readouterr().out == f"ran with {status}\n"


def test_an_interrupt_is_130(commands):
    assert main(["work", "--status", "9"], commands) == 130


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["work", "--nonsense"], ["--nonsense"]])
def test_a_senseless_command_line_is_2(commands, capsys, argv):
    with pytest.raises(SystemExit) as exit_:
        main(argv, commands)
    assert exit_.value.code == 2
    assert "usage: ivr-ai" in capsys.readouterr().err


def test_a_missing_module_is_named_with_what_brings_it(commands, capsys):
    assert main(["lack"], commands) == 1
    assert capsys.readouterr().err == (
        "ivr-ai lack: no_such_module_anywhere is not installed: pip install 'ivr-ai'\n"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModuleNotFoundError("No module named 'websockets'", name="websockets.sync"),
            "pip install 'ivr-ai[sim]'",
        ),
        (
            ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"),
            "pip install 'ivr-ai[demo]'",
        ),
        (
            ModuleNotFoundError("No module named 'ivr_ai._audio_stream'", name="ivr_ai._audio_stream"),
            "make ext",
        ),
        (ImportError("libaudiostream.so.1: cannot open shared object file"), "make ext"),
        (ModuleNotFoundError("No module named 'ivr_ai.nothing'", name="ivr_ai.nothing"), "ivr_ai.nothing"),
        (ImportError("cannot import name 'x' from 'y'", name="y", path="/there/y.py"), "/there/y.py"),
    ],
)
def test_explain_says_what_to_do(error, said):
    assert said in explain(error)


def test_help_lists_every_command_and_imports_none():
    script = (
        "import sys\nfrom ivr_ai.cli import COMMANDS, main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({c.module for c in COMMANDS.values()} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert said.endswith("[]\n")


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"ivr-ai {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_has_help(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert f"usage: ivr-ai {name}" in capsys.readouterr().out
