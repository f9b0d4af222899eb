from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from ivr_ai.demo import command
from ivr_ai.demo.hosts import Take
from ivr_ai.gateways.embedded import HostEvent


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_arguments_have_defaults():
    args = arguments()
    assert (args.host, args.realtime, args.rate) == ("embedded", "sim", 8000)


def test_files_go_where_make_demo_puts_them():
    assert arguments().out == Path(__file__).resolve().parents[3] / "build" / "demo"


@pytest.mark.parametrize("words", [("--host", "asterisk"), ("--realtime", "other"), ("--rate", "44100")])
def test_what_does_not_exist_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        arguments(*words)
    assert "choose from" in capsys.readouterr().err


def test_the_real_service_needs_a_key(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert command.run(arguments("--realtime", "openai", "--out", str(tmp_path))) == 1
    assert "REALTIME=openai needs OPENAI_API_KEY" in capsys.readouterr().err


def test_the_timeline_has_both_witnesses_in_seconds_into_the_recording(canned):
    caller = [HostEvent(event.kind, event.at_s + 1000.0, event.data) for event in canned.caller_events()]
    call = [{"kind": event.kind, "at_s": event.at_s + 1000.0, **event.data} for event in canned.call_events()]
    take = Take(canned.recording(), 1000.0, caller, {"uuid": "u-1", "events": call}, 0)
    told = json.loads(command.timeline(arguments(), take))
    assert {key: told[key] for key in ("uuid", "host", "realtime", "rate_hz", "duration_s")} == {
        "uuid": "u-1",
        "host": "embedded",
        "realtime": "sim",
        "rate_hz": 8000,
        "duration_s": 14.0,
    }
    assert [event["t_s"] for event in told["events"]] == sorted(event["t_s"] for event in told["events"])
    assert {"t_s": 9.1, "from": "call", "kind": "barge_in", "item": "item_2", "heard_ms": 1690} in told[
        "events"
    ]
    assert {"t_s": 4.0, "from": "caller", "kind": "caller_quiet", "turn": 1} in told["events"]


def test_the_summary_has_what_matters(canned):
    assert command.summary(canned.report()).splitlines() == [
        "  turns answered  3",
        "  reply latency   p50 400 ms, longest 400 ms",
        "  barge-in        1,700 ms heard, truncated at 1,690 ms, silent after 100 ms",
        "  underruns       0",
        "  ended by        the caller hung up",
    ]
