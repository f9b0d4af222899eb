"""`ivr-ai config`, and the files it generates."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from ivr_ai.config import SETTINGS, Settings, add_arguments, run
from ivr_ai.config.reference import env_example, markdown

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-proj-abcdefgh1234"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No .env and no settings but a test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [*(row.name for row in SETTINGS), "IVR_AI_ENV_FILE"]:
        monkeypatch.delenv(name, raising=False)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_command_shows_settings_with_their_source(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PORT", "9")
    assert command("--agent", "reception", "--agents-dir", str(ROOT / "conf" / "agents")) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^OPENAI_API_KEY +sk-…1234 +environment$", out, re.M)
    assert re.search(r"^OPENAI_REALTIME_VOICE +cedar +profile .*reception.toml$", out, re.M)
    assert len(out.splitlines()) == len(SETTINGS)
    assert err.startswith("warning: PORT has no effect on calls")
    assert KEY not in out + err


def test_command_check(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert command("--check") == 0
    assert capsys.readouterr() == ("The configuration can be used.\n", "")
    monkeypatch.setenv("PORT", "x")
    for words in (("--check",), ()):
        assert command(*words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "PORT 'x' (environment): must be a whole number, from 0 to 65535" in err


def test_generated_files_are_up_to_date(capsys):
    assert command("--markdown") == 0
    assert (
        capsys.readouterr().out
        == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
        == markdown()
    )
    assert command("--env-example") == 0
    assert capsys.readouterr().out == (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


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
