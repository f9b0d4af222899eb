"""`ivr-ai config`."""

from __future__ import annotations

import argparse
import re

from loading import KEY, ROOT

from ivr_ai.config import SETTINGS, add_arguments, run
from ivr_ai.config.reference import env_example, markdown


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_command_shows_settings_with_their_source(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("FS_OUT_SAMPLE_RATE", "8000")
    assert command("--agent", "reception", "--agents-dir", str(ROOT / "conf" / "agents")) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^OPENAI_API_KEY +sk-…1234 +environment$", out, re.M)
    assert re.search(r"^OPENAI_REALTIME_VOICE +cedar +profile .*reception.toml$", out, re.M)
    assert len(out.splitlines()) == len(SETTINGS)
    assert err.startswith("warning: FS_OUT_SAMPLE_RATE has no effect on calls")
    assert KEY not in out + err


def test_command_check(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert command("--check") == 0
    assert capsys.readouterr() == ("The configuration can be used.\n", "")
    monkeypatch.setenv("IVR_AI_MAX_CALLS", "x")
    for words in (("--check",), ()):
        assert command(*words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "IVR_AI_MAX_CALLS 'x' (environment): must be a whole number, from 0 to 100000" in err


def test_command_prints_the_reference(capsys):
    assert command("--markdown") == 0
    assert capsys.readouterr().out == markdown()
    assert command("--env-example") == 0
    assert capsys.readouterr().out == env_example()
