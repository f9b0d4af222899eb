"""Settings from a test's own sources, and what is said when they are wrong."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ivr_ai.config import SETTINGS, ConfigError, Settings

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-proj-abcdefgh1234"
TODAY = date(2026, 11, 20)
BY_ATTRIBUTE = {row.attribute: row for row in SETTINGS}


def load(environ=None, **more) -> Settings:
    return Settings.load(environ=environ or {}, today=more.pop("today", TODAY), **more)


def with_profile(directory: Path, text: str, **more) -> Settings:
    (directory / "x.toml").write_text(text, encoding="utf-8")
    return load(agent="x", agents_dir=directory, **more)


def failure(function, *args, **more) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        function(*args, **more)
    return caught.value
