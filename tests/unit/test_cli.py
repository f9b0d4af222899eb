"""The command line: finding subcommands, exit statuses, and what is said when something is missing."""

from __future__ import annotations

import argparse
import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ivr_ai import __version__
from ivr_ai.cli import COMMANDS, ROOT, Command, available, explain, main, remedy

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


@pytest.mark.parametrize("argv", [["nonsense"], ["work", "--nonsense"], ["--nonsense"]])
def test_a_senseless_command_line_is_2(commands, capsys, argv):
    with pytest.raises(SystemExit) as exit_:
        main(argv, commands)
    assert exit_.value.code == 2
    assert "usage: ivr-ai" in capsys.readouterr().err


def test_a_command_that_does_not_exist_is_answered_with_those_that_do(commands, capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"], commands)
    assert "there is no command 'nonsense'; there are work, lack" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(commands, capsys):
    assert main([], commands) == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: ivr-ai ")
    assert "\n  work     works\n" in said


def test_a_missing_module_is_named_with_what_brings_it(commands, capsys):
    assert main(["lack"], commands) == 1
    said = capsys.readouterr().err
    assert said.startswith("ivr-ai lack: the Python package no_such_module_anywhere is not installed for ")
    assert "make ext" in said


MISSING = [
    ModuleNotFoundError("No module named 'websockets'", name="websockets.sync"),
    ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"),
    ModuleNotFoundError("No module named 'ivr_ai._audio_stream'", name="ivr_ai._audio_stream"),
    ImportError("libaudiostream.so.1: cannot open shared object file"),
]


@pytest.mark.parametrize("error", MISSING, ids=str)
def test_what_is_missing_comes_with_make_and_never_with_pip(error):
    said = explain(error)
    assert said.endswith(remedy())
    assert "pip" not in said


def test_in_the_source_tree_another_python_is_led_to_the_environment(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert remedy(in_tree=True) == f"run `make ext` in {ROOT}, then {ROOT}/.venv/bin/ivr-ai"


def test_an_environment_that_lacks_something_is_made_again(monkeypatch):
    monkeypatch.setattr(sys, "prefix", f"{ROOT}/.venv")
    assert remedy(in_tree=True) == f"run `rm -r {ROOT}/.venv`, then `make ext` in {ROOT}"


def test_an_installation_is_installed_again():
    assert "`make install` again" in remedy(in_tree=False)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'ivr_ai.nothing'", name="ivr_ai.nothing"), "ivr_ai.nothing"),
        (ImportError("cannot import name 'x' from 'y'", name="y", path="/there/y.py"), "/there/y.py"),
    ],
)
def test_other_failures_of_an_import_are_told_as_they_are(error, said):
    assert said in explain(error)


def test_what_runs_in_the_source_tree_is_offered_only_where_it_exists(commands, capsys):
    commands["tune"] = Command("cli_tune_nowhere", "plays a tune", tree_only=True)
    assert list(available(commands)) == ["work", "lack"]
    assert main([], commands) == 0
    assert "tune" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main(["tune"], commands)
    assert exit_.value.code == 2
    assert "tune runs from the source tree and is not installed: run `make tune`" in capsys.readouterr().err


def test_the_demo_is_offered_in_the_source_tree():
    assert COMMANDS["demo"].tree_only
    assert list(available()) == list(COMMANDS)


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
    said = capsys.readouterr().out
    assert f"usage: ivr-ai {name}" in said
    assert f"\nexample: {COMMANDS[name].example}\n" in said
    assert f"\nexit status: {COMMANDS[name].status}\n" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_one_that_parses(name):
    program, command, *arguments = shlex.split(COMMANDS[name].example)
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[name].module).add_arguments(parser)
    parser.parse_args(arguments)
    assert (program, command) == ("ivr-ai", name)


def test_a_description_keeps_the_capitals_of_names(capsys):
    with pytest.raises(SystemExit):
        main(["sim", "--help"])
    assert "Run a local Realtime server, for development without a key." in capsys.readouterr().out
