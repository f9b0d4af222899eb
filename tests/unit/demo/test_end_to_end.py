"""The whole demo in a few seconds: short tones instead of speech, everything else is the real thing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import wave
from array import array

import pytest

from ivr_ai.demo import command, hosts, story
from ivr_ai.gateways.caller import Hangup

DIALOGUE = """
[[turn]]
on = "greeting"
say = "greeting"

[[turn]]
heard = "first question"
say = "first answer"

[[turn]]
heard = "second question"
say = "a long answer"

[[turn]]
heard = "interruption"
say = "last answer"
"""


@pytest.fixture
def short_demo(monkeypatch, tmp_path):
    path = tmp_path / "dialogue.toml"
    path.write_text(DIALOGUE, encoding="utf-8")
    monkeypatch.setattr(story, "INTERRUPT_AFTER_MS", 500)
    monkeypatch.setattr(story, "LINGER_MS", 0)
    monkeypatch.setattr(story, "THINK_MS", 0)
    monkeypatch.setattr(hosts, "QUIET_MS", 300)
    planned = story.Story.load(path)
    monkeypatch.setattr(command.Story, "load", lambda: planned)
    monkeypatch.setattr(command, "AI_VOICE", "tone:440:700")
    monkeypatch.setattr(hosts, "CALLER_VOICE", "tone:300:400")
    return planned


def hold(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_the_demo_holds_its_conversation_and_leaves_its_files(short_demo, tmp_path, capsys):
    out = tmp_path / "out"
    assert hold("--out", str(out)) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "caller  interruption" in printed
    assert "AI      last answer   [after" in printed
    assert "barge-in" in printed

    with wave.open(str(out / "conversation.wav")) as wav:
        assert (wav.getnchannels(), wav.getframerate()) == (2, 8000)
        both = array("h", wav.readframes(wav.getnframes()))
    assert max(both[0::2]) > 5000
    assert max(both[1::2]) > 5000
    assert (out / "conversation.png").stat().st_size > 20_000

    told = json.loads((out / "timeline.json").read_text(encoding="utf-8"))
    kinds = [event["kind"] for event in told["events"] if event["from"] == "call"]
    for kind in ("connected", "answered", "speech_started", "heard", "ai_said", "barge_in", "ended"):
        assert kind in kinds
    (barge_in,) = (event for event in told["events"] if event["kind"] == "barge_in")
    heard_ms = [e["t_s"] * 1000 - e["start_ms"] for e in told["events"] if e["kind"] == "caller_heard"][2]
    assert barge_in["heard_ms"] == pytest.approx(heard_ms, abs=25)


def test_a_conversation_that_ends_too_soon_fails_and_still_leaves_its_files(
    short_demo, tmp_path, capsys, monkeypatch
):
    curt = dataclasses.replace(short_demo, script=[Hangup(after=0.5)])
    monkeypatch.setattr(command.Story, "load", lambda: curt)
    out = tmp_path / "out"
    assert hold("--out", str(out)) == 1
    problem = "not as planned: 0 of 3 turns were answered; 0 of 1 interruptions happened"
    assert problem in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"conversation.wav", "conversation.png", "timeline.json"}
