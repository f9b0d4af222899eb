"""The generated files: docs/configuration.md and .env.example."""

from __future__ import annotations

import re

from loading import ROOT

from ivr_ai.config import SETTINGS, Settings
from ivr_ai.config.reference import env_example, markdown
from ivr_ai.config.table import SIM


def test_generated_files_are_up_to_date():
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == markdown()
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_env_example_is_the_defaults(tmp_path):
    path = tmp_path / "all.env"
    path.write_text(re.sub(r"^#(?=[A-Z])", "", env_example(), flags=re.M), encoding="utf-8")
    settings = Settings.load(environ={}, env_file=path)
    assert settings == Settings()
    assert settings.source("instructions") == str(path)
    assert {line.partition("=")[0] for line in path.read_text().splitlines() if re.match("[A-Z]", line)} == {
        row.name for row in SETTINGS
    }


def test_reference_has_every_setting_in_a_sound_table():
    text = markdown()
    for row in SETTINGS:
        assert f"\n| `{row.name}`<br>`{row.attribute}` | " in text
    for row in SIM:
        assert f"\n| `{row.name}` | " in text
    for line in text.splitlines():
        if line.startswith("| `"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 5)
    example = re.search(r"```toml\n(.*?)```", text, re.S).group(1)
    assert "voice = " in example


def test_profile_in_the_reference_loads(tmp_path):
    example = re.search(r"```toml\n(.*?)```", markdown(), re.S).group(1)
    (tmp_path / "reception.toml").write_text(example, encoding="utf-8")
    settings = Settings.load(environ={}, agent="reception", agents_dir=tmp_path)
    assert settings.failure_transfer == "1000 XML default"
