"""tests/load/churn.py in short: many calls hung up at any moment leave nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "load"))

import churn

CALLS = 150
NO_LIMIT_KB = float("inf")  # what memory a call costs shows after thousands only: python tests/load/churn.py


def test_calls_hung_up_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    product, empty = churn.run(CALLS, CALLS // 3, 16, seed=7, root=tmp_path)
    assert churn.problems(product, empty, NO_LIMIT_KB) == []
    outcomes = product["outcomes"]
    assert sum(outcomes.values()) == CALLS
    assert {"gave up before the answer", "hung up while talking", "the other side hung up"} <= set(outcomes)
