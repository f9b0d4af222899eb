"""What the tests of this folder share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `from talk import ...` in any import mode

from talk import Talk


@pytest.fixture
def talk() -> Talk:
    """A conversation over a link that is up."""
    return Talk()
