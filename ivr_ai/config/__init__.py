"""Settings of a call: what they are, where they come from, what they may be.

    from ivr_ai.config import ConfigError, Settings
    settings = Settings.load(channel=session.getVariable)

One table, the fields of `Settings`, drives everything here:

    table.py      the rows
    kinds.py      what a value may be, how it is read, how it is shown; headers.py: those that become HTTP
    settings.py   the settings of a call: judged, traced to their sources, masked
    sources.py    channel variables, agent profiles, environment, .env
    rules.py      what must hold between settings; what a call does without; warnings; shut-down dates
    service.py    whose server it is, and where that server looks for the key
    reference.py  docs/configuration.md and .env.example, generated from the table
    command.py    `ivr-ai config`

Nothing here keeps state but a cache of parsed files; everything may be used from any thread.
"""

from __future__ import annotations

from .command import add_arguments, run
from .errors import ConfigError, Problem
from .kinds import mask_url
from .settings import SETTINGS, Settings

__all__ = ["SETTINGS", "ConfigError", "Problem", "Settings", "add_arguments", "mask_url", "run"]
