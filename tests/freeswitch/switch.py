"""The switch that tests run against; the demo runs on it too, so it lives in ivr_ai.sim.switch."""

from __future__ import annotations

from ivr_ai.sim.switch import (
    MUSIC_HZ,
    OUR_MODULE,
    TONE_HZ,
    FreeSwitch,
    SwitchError,
    default_modules,
    find_install,
)

__all__ = [
    "MUSIC_HZ",
    "OUR_MODULE",
    "TONE_HZ",
    "FreeSwitch",
    "SwitchError",
    "default_modules",
    "find_install",
]
