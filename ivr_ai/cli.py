"""The `ivr-ai` command: one subcommand per module, imported only when it is asked for.

Such a module has add_arguments(parser) and run(args) -> int.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ivr_ai import __version__

ROOT = Path(__file__).resolve().parent.parent  # the source tree, or the directory that `make install` fills
IN_TREE = (ROOT / "pyproject.toml").is_file()
VENV = ROOT / ".venv"

STATUS = "0 all is well, 1 it is not, 2 the command line makes no sense, 130 interrupted"


class Command(NamedTuple):
    """Where a subcommand lives, what it does, what its exit status says, and an example.

    tree_only: the module is in the source tree and not among what `make install` copies.
    """

    module: str
    help: str
    status: str = STATUS
    example: str = ""
    tree_only: bool = False


COMMANDS = {
    "sim": Command(
        "ivr_ai.sim.server",
        "run a local Realtime server, for development without a key",
        "0 ended with Ctrl-C, 1 a package is missing, 2 cannot start, or the command line makes no sense",
        "ivr-ai sim --port 8765",
    ),
    "demo": Command(
        "ivr_ai.demo",
        "hold a conversation and leave a recording, a picture and a timeline",
        "0 the conversation went as planned, 1 it did not or could not be held, "
        "2 the command line makes no sense, 130 interrupted",
        "ivr-ai demo --host embedded --realtime sim",
        tree_only=True,
    ),
    "doctor": Command(
        "ivr_ai.doctor",
        "check an installation and say what to do about what is wrong",
        "0 no check failed, 1 a check failed, 2 the command line makes no sense, 130 interrupted",
        "ivr-ai doctor --fs-cli '-P 8021 -p ClueCon'",
    ),
    "config": Command(
        "ivr_ai.config",
        "show and check the settings",
        "0 the settings are valid, 1 some are not, 2 the command line makes no sense, 130 interrupted",
        "ivr-ai config --check",
    ),
}


def available(commands: Mapping[str, Command] = COMMANDS) -> dict[str, Command]:
    """The commands that can run here: an installation lacks those of the source tree."""
    return {
        name: command
        for name, command in commands.items()
        if not command.tree_only or importlib.util.find_spec(command.module)
    }


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Runs the command line argv (default: the process's); returns the exit status."""
    there = available(commands)
    parser = _parser(there)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    if args.command not in there:
        parser.error(_no_such_command(args.command, commands, there))
    return _run(args.command, there[args.command], args.rest)


def _run(name: str, command: Command, rest: Sequence[str]) -> int:
    try:
        module = importlib.import_module(command.module)
        parser = _command_parser(name, command)
        module.add_arguments(parser)
        return module.run(parser.parse_args(rest))
    except ImportError as error:
        print(f"ivr-ai {name}: {explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<8} {command.help}" for name, command in commands.items())
    parser = argparse.ArgumentParser(
        prog="ivr-ai",
        usage="ivr-ai [-h] [--version] COMMAND ...",
        description="An AI voice IVR that lives inside FreeSWITCH.",
        epilog=f"commands:\n{lines}\n\nexit status: {STATUS}\n`ivr-ai COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ivr-ai {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _command_parser(name: str, command: Command) -> argparse.ArgumentParser:
    example = f"example: {command.example}\n" if command.example else ""
    return argparse.ArgumentParser(
        prog=f"ivr-ai {name}",
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        epilog=f"{example}exit status: {command.status}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _no_such_command(name: str, commands: Mapping[str, Command], there: Mapping[str, Command]) -> str:
    if name in commands:
        return f"{name} runs from the source tree and is not installed: run `make {name}` there"
    return f"there is no command {name!r}; there are {', '.join(there)}"


def explain(error: ImportError) -> str:
    """What is missing and how to get it."""
    name = (error.name or "").partition(".")[0]
    if error.name == "ivr_ai._audio_stream" or "libaudiostream" in str(error):
        return f"the audio extension cannot be loaded ({error}): {remedy()}"
    if not isinstance(error, ModuleNotFoundError) or name == "ivr_ai":
        return f"{error} ({error.path})" if error.path else str(error)
    return f"the Python package {name} is not installed for {sys.executable}: {remedy()}"


def remedy(in_tree: bool = IN_TREE) -> str:
    """What brings a package or extension that is missing. There is nothing of ours to be had with pip."""
    if not in_tree:
        return "run `make install` again in the source tree that this was installed from"
    if Path(sys.prefix).resolve() == VENV:
        return f"run `rm -r {VENV}`, then `make ext` in {ROOT}"
    return f"run `make ext` in {ROOT}, then {VENV}/bin/ivr-ai"


if __name__ == "__main__":
    sys.exit(main())
