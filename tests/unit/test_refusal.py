"""Settings that say what follows a failure, out of settings that are wrong."""

from __future__ import annotations

import pytest

from ivr_ai.config import Settings
from ivr_ai.refusal import NEEDED, settings_left


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IVR_AI_AGENTS_DIR", str(tmp_path))


def left(agent: str | None = None, **channel: str) -> dict[str, str]:
    """What is left and is not the default."""
    settings, plain = settings_left(agent, channel), Settings()
    return {
        name: getattr(settings, name) for name in NEEDED if getattr(settings, name) != getattr(plain, name)
    }


GOOD = {
    "IVR_AI_FAILURE_ACTION": "transfer",
    "IVR_AI_FAILURE_TRANSFER": "5000 XML desk",
    "IVR_AI_APOLOGY_TEXT": "Sorry.",
}


def test_what_is_right_stays():
    assert left(VAD_THRESHOLD="loud", LOG_LEVEL="DEBUG", **GOOD) == {
        "log_level": "DEBUG",
        "failure_action": "transfer",
        "failure_transfer": "5000 XML desk",
        "apology_text": "Sorry.",
    }


@pytest.mark.parametrize(
    ("wrong", "gone"),
    [
        ({"IVR_AI_FAILURE_ACTION": "dance"}, "failure_action"),
        ({"IVR_AI_FAILURE_TRANSFER": "a b c d e"}, "failure_action failure_transfer"),
    ],
)
def test_what_is_wrong_becomes_the_default(wrong, gone):
    found = left(**{**GOOD, **wrong})
    assert not set(gone.split()) & set(found)
    assert found["apology_text"] == "Sorry."


def test_a_profile_with_a_slip_still_counts(tmp_path):
    (tmp_path / "sales.toml").write_text('failure_action = "return"\nvoyce = "slip"\n')
    assert left("sales") == {"failure_action": "return"}


@pytest.mark.parametrize("text", ["not toml at all [", ""])
def test_a_profile_that_cannot_be_read_is_left_out(tmp_path, text):
    (tmp_path / "sales.toml").write_text(text)
    assert left("sales", **GOOD)["failure_action"] == "transfer"
    assert left("missing", **GOOD)["failure_action"] == "transfer"


def test_silence_that_was_wished_for_stays_silence(tmp_path):
    (tmp_path / "quiet.toml").write_text('apology_text = ""\nvoyce = "slip"\n')
    assert left("quiet") == {"apology_text": ""}
