"""tests/load/kill_links.py in short: connections killed at any moment, and no call that is lost by it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "load"))

import kill_links

CALLS = 20


def test_connections_killed_at_any_moment_leave_no_call_behind(tmp_path: Path) -> None:
    outcome = kill_links.run(CALLS, seed=7, root=tmp_path)
    assert outcome.problems() == []
    figures = outcome.figures()
    assert figures["doomed"] == figures["apologies"] == CALLS // kill_links.DOOMED_EACH
    assert figures["losses_made_good"] > CALLS
    assert set(figures["kills"]) == set(kill_links.WAYS)
