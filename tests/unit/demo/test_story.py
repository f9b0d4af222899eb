from __future__ import annotations

from pathlib import Path

import pytest

from ivr_ai.config import Settings
from ivr_ai.demo.story import DIALOGUE, Story, openai_settings, sim_settings
from ivr_ai.gateways.caller import Hangup, Say
from ivr_ai.sim.dialogue import DialogueError


def test_the_demos_dialogue_has_three_turns_and_an_interruption_of_the_longest_reply():
    story = Story.load()
    assert (story.turns, story.barge_ins) == (3, 1)
    says, hangup = story.script[:-1], story.script[-1]
    assert [step.after for step in says] == ["reply_end", "reply_end", "reply_start"]
    assert [step.what for step in says] == [story.dialogue.turns[turn].heard for turn in (1, 2, 3)]
    assert isinstance(hangup, Hangup)
    assert all(isinstance(step, Say) for step in says)
    longest = max(story.dialogue.turns, key=lambda number: len(story.dialogue.turns[number].say))
    assert longest == 2


def test_a_dialogue_without_enough_turns_is_refused(tmp_path: Path):
    path = tmp_path / "short.toml"
    path.write_text('[[turn]]\nheard = "Hello?"\nsay = "Hello."\n', encoding="utf-8")
    with pytest.raises(DialogueError, match=r"short.toml: a demo needs three turns .*, not 1"):
        Story.load(path)


def test_without_its_dialogue_the_demo_says_where_it_runs(tmp_path: Path):
    with pytest.raises(DialogueError, match="the demo runs from the source tree"):
        Story.load(tmp_path / "none.toml")


def test_settings_for_the_simulator_are_valid_and_complete():
    settings = Settings.load(sim_settings("ws://127.0.0.1:9/v1/realtime"), env_file="")
    assert settings.realtime_url == "ws://127.0.0.1:9/v1/realtime"
    assert "Harbour Kitchen" in settings.greeting
    assert "Harbour Kitchen" in settings.instructions
    assert settings.transcription_model


def test_settings_for_the_service_are_the_environments_own(tmp_path):
    (tmp_path / ".env").write_text(
        "OPENAI_API_KEY=from-file\nOPENAI_GREETING='Say ahoy.'\n", encoding="utf-8"
    )
    environ = {
        "OPENAI_API_KEY": "own",
        "OPENAI_REALTIME_VOICE": "cedar",
        "HOME": "/",
        "NO_PROXY": "localhost",
    }
    chosen = openai_settings(environ, tmp_path / ".env")
    assert ("HOME" in chosen, chosen["NO_PROXY"]) == (False, "localhost")
    settings = Settings.load(chosen, env_file="")
    assert (settings.api_key, settings.greeting, settings.voice) == ("own", "Say ahoy.", "cedar")
    assert "Harbour Kitchen" in settings.instructions


def test_env_files_are_taken_literally_as_calls_take_them(tmp_path):
    (tmp_path / ".env").write_text('OPENAI_GREETING="Say ${HOME}."\n', encoding="utf-8")
    assert openai_settings({}, tmp_path / ".env")["OPENAI_GREETING"] == "Say ${HOME}."


def test_the_dialogue_is_where_the_package_expects_it():
    assert DIALOGUE.is_file()
