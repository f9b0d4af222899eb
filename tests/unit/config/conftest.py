"""What the tests of this folder share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ivr_ai.config import SETTINGS

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `from loading import ...` in any import mode


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No .env and no settings but a test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [*(row.name for row in SETTINGS), "IVR_AI_ENV_FILE"]:
        monkeypatch.delenv(name, raising=False)
