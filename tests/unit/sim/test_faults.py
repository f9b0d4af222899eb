"""Faults from command-line settings."""

from __future__ import annotations

import pytest

from ivr_ai.sim.faults import FaultError, Faults


def test_parse_every_kind_of_value() -> None:
    settings = [
        "refuse_status=503",
        "bad_key",
        "late-deltas = 2",
        "drop_after_s=1.5",
        "close_reason=a=b",
        "bad_json=no",
    ]
    assert Faults.parse(settings) == Faults(
        refuse_status=503, bad_key=True, late_deltas=2, drop_after_s=1.5, close_reason="a=b"
    )


def test_active_lists_what_was_changed() -> None:
    assert Faults().active() == []
    assert Faults.parse(["delta_bytes=1334", "ignore_close"]).active() == [
        "delta_bytes=1334",
        "ignore_close=True",
    ]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("explode", "fault 'explode' is unknown: use first_connections, "),
        ("delta_bytes=-1", "it cannot be negative"),
        ("refuse_status=soon", "use a whole number"),
        ("drop_after_s=soon", "use a number"),
        ("bad_key=perhaps", "use 1 or 0"),
        ("refuse_status=200", r"use one of \[400, 401"),
        ("close_code=1006", "can be sent"),
    ],
)
def test_errors_say_what_is_allowed(setting: str, says: str) -> None:
    with pytest.raises(FaultError, match=says):
        Faults.parse([setting])


def test_every_fault_is_described() -> None:
    lines = Faults.describe()
    assert len(lines) == len(Faults.__dataclass_fields__)
    assert all(len(line.split(None, 2)[-1]) > 5 for line in lines)
