"""`ivr-ai config`: shows, checks and documents the settings."""

from __future__ import annotations

import argparse
import sys

from . import reference
from .errors import ConfigError
from .settings import Settings

_WIDEST_VALUE = 60  # characters; longer values, such as instructions, are cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ivr-ai config`."""
    parser.description = "Show the settings in effect and where each came from; secrets are masked."
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="only say what is wrong; exit with 1 if anything is"
    )
    what.add_argument("--markdown", action="store_true", help="print the reference, docs/configuration.md")
    what.add_argument("--env-example", action="store_true", help="print .env.example")
    parser.add_argument("--agent", metavar="NAME", help="the agent profile to use (IVR_AI_AGENT)")
    parser.add_argument("--agents-dir", metavar="DIR", help="where agent profiles are (IVR_AI_AGENTS_DIR)")
    parser.add_argument("--env-file", metavar="FILE", help="the .env file to read (IVR_AI_ENV_FILE)")


def run(args: argparse.Namespace) -> int:
    """Does what the options say. 0, or 1 when the configuration cannot be used."""
    if args.markdown or args.env_example:
        sys.stdout.write(reference.markdown() if args.markdown else reference.env_example())
        return 0
    try:
        settings = Settings.load(env_file=args.env_file, agent=args.agent, agents_dir=args.agents_dir)
    except ConfigError as error:
        print("The configuration cannot be used:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return 1
    if not args.check:
        _show(settings)
    for warning in settings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.check:
        print("The configuration can be used.")
    return 0


def _show(settings: Settings) -> None:
    rows = [(name, _cut(value), source) for name, value, source in settings.describe()]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    for name, value, source in rows:
        print(f"{name:{name_width}}  {value:{value_width}}  {source}")


def _cut(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= _WIDEST_VALUE else line[: _WIDEST_VALUE - 1] + "…"
