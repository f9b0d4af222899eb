"""tests/load/stream_races.py in short: streams that end at any moment, in any way, leave nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "load"))

import stream_races

RACES = 150
NO_LIMIT_KB = float("inf")  # what a race costs shows after thousands only: make stream-races


def test_streams_that_end_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    result = stream_races.run(RACES, RACES // 3, 6, seed=11, root=tmp_path)
    assert stream_races.problems(result, NO_LIMIT_KB) == []
    outcomes = set(result["outcomes"])
    assert {"stop", "graceful", "hangup", "kill", "restart", "nothing", "stop meanwhile: +OK"} <= outcomes
    assert any(outcome.startswith("start meanwhile: ") for outcome in outcomes)
    assert result["started"] >= RACES / 2
