"""The `ivr-ai` command: one subcommand per module, imported only when it is asked for.

Such a module has add_arguments(parser) and run(args) -> int. Exit status: 0 all is well, 1 it is not, 2 the
command line makes no sense, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ivr_ai import __version__


class Command(NamedTuple):
    """Where a subcommand lives and what it does."""

    module: str
    help: str


COMMANDS = {
    "sim": Command("ivr_ai.sim.server", "run a local Realtime server, for development without a key"),
    "demo": Command("ivr_ai.demo", "hold a conversation and leave a recording, a picture and a timeline"),
    "doctor": Command("ivr_ai.doctor", "check an installation and say what to do about what is wrong"),
    "config": Command("ivr_ai.config", "show and check the settings"),
}

# Which extra of the package brings an optional import; anything else comes with the package itself.
EXTRAS = {"websockets": "sim", "matplotlib": "demo", "samplerate": "samplerate", "audioop": "audioop"}


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Runs the command line argv (default: the process's); returns the exit status."""
    args = _parser(commands).parse_args(argv)
    command = commands[args.command]
    try:
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(
            prog=f"ivr-ai {args.command}", description=command.help.capitalize() + "."
        )
        module.add_arguments(parser)
        return module.run(parser.parse_args(args.rest))
    except ImportError as error:
        print(f"ivr-ai {args.command}: {explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<8} {command.help}" for name, command in commands.items())
    parser = argparse.ArgumentParser(
        prog="ivr-ai",
        description="An AI voice IVR that lives inside FreeSWITCH.",
        epilog=f"commands:\n{lines}\n\n`ivr-ai COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ivr-ai {__version__}")
    parser.add_argument("command", choices=commands, metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the command's own arguments")
    return parser


def explain(error: ImportError) -> str:
    """What is missing and how to get it."""
    name = (error.name or "").partition(".")[0]
    if error.name == "ivr_ai._audio_stream" or "libaudiostream" in str(error):
        return f"the audio extension cannot be loaded ({error}): run `make ext`, or `make install`"
    if not isinstance(error, ModuleNotFoundError) or name == "ivr_ai":
        return f"{error} ({error.path})" if error.path else str(error)
    extra = EXTRAS.get(name)
    return f"{name} is not installed: pip install '{f'ivr-ai[{extra}]' if extra else 'ivr-ai'}'"


if __name__ == "__main__":
    sys.exit(main())
