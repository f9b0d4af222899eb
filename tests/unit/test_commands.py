"""`python ivr_ai.app <words>`: what reaches the runtime, and what is answered."""

from __future__ import annotations

import json

import pytest

from ivr_ai import __version__, commands


class Asked:
    """A runtime that notes what it is asked for."""

    def status(self):
        return {"calls": []}

    def __getattr__(self, name: str):
        return lambda *words: f"{name}{words}"


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ("start u-1", "start('u-1',)"),
        ("start u-1 sales", "start('u-1', 'sales')"),
        ("stop u-1", "stop('u-1',)"),
        (" drain ", "drain()"),
        ("undrain", "undrain()"),
        ("version", f"ivr_ai {__version__}\n"),
    ],
)
def test_commands(args, answer):
    assert commands.answer(Asked(), args) == answer


@pytest.mark.parametrize("args", ["status", " status ", "", None])
def test_status_is_json_on_a_line(args):
    answer = commands.answer(Asked(), args)
    assert json.loads(answer) == {"calls": []} and answer.endswith("\n")


@pytest.mark.parametrize(
    "args", ["dance", "version now", "status all", "start", "stop", "start a b c", "drain now", "undrain 1"]
)
def test_what_it_cannot_read(args):
    answer = commands.answer(Asked(), args)
    assert answer.startswith(f"-ERR cannot read {args!r}\n-USAGE: python ivr_ai.app status | version")
