"""Waiting for what another thread does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Returns as soon as it is so; fails when it does not come."""
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it does not come"
        time.sleep(0.002)
