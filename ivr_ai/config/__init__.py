"""Settings of a call: what they are, where they come from, what they may be.

    from ivr_ai.config import ConfigError, Settings
    settings = Settings.load(channel=session.getVariable)

One table, the fields of `Settings` (settings.py), drives everything here:

    kinds.py      what a value may be, and how it is read
    settings.py   the table, the precedence of the sources, masking
    sources.py    channel variables, agent profiles, environment, .env
    rules.py      what must hold between settings; warnings; known shut-down dates
    reference.py  docs/configuration.md and .env.example, generated from the table
    command.py    `ivr-ai config`

Nothing here keeps state but a cache of parsed files; everything may be used from any thread.
"""

from __future__ import annotations

from .command import add_arguments, run
from .errors import ConfigError, Problem
from .settings import SETTINGS, Settings

__all__ = ["SETTINGS", "ConfigError", "Problem", "Settings", "add_arguments", "run"]
