"""A server's complaints in an operator's words."""

from __future__ import annotations

import pytest

from ivr_ai.config.settings import SETTINGS
from ivr_ai.realtime import complaints
from ivr_ai.realtime.session_update import OPTIONAL

NAMES = {row.name for row in SETTINGS}


def test_every_name_in_the_tables_is_a_setting():
    assert set(complaints.NAME_BY_FIELD.values()) <= NAMES
    for todo in complaints.TODO_BY_CODE.values():
        assert {word for word in todo.split() if word.isupper() and "_" in word} <= NAMES


@pytest.mark.parametrize("field", OPTIONAL)
def test_whatever_a_call_may_go_on_without_has_a_setting(field):
    assert complaints.setting_of(field) in NAMES
    assert complaints.setting_of(f"session.{field}") == complaints.setting_of(field)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("session.audio.output.voice", "OPENAI_REALTIME_VOICE"),
        ("session.audio.input.transcription.model", "OPENAI_TRANSCRIPTION_MODEL"),
        ("session.audio.input.transcription.language", "OPENAI_LANGUAGE"),
        ("session.audio.input.turn_detection.eagerness", "OPENAI_VAD_EAGERNESS"),
        ("session.audio.input.turn_detection.create_response", "OPENAI_TURN_DETECTION"),
        ("session.audio.input.format.rate", "OPENAI_AUDIO_FORMAT"),
        ("session.reasoning.effort", "OPENAI_REASONING_EFFORT"),
        ("session.model", "OPENAI_REALTIME_MODEL"),
        ("input_audio_transcription", "OPENAI_TRANSCRIPTION_MODEL"),
        ("session.type", ""),
        ("item.id", ""),
        ("", ""),
        (".", ""),
        ("a." * 100_000, ""),
    ],
)
def test_the_setting_behind_a_field(field, name):
    assert complaints.setting_of(field) == name


@pytest.mark.parametrize(
    ("text", "todo"),
    [
        ("the server says invalid_api_key: Incorrect", "set OPENAI_API_KEY to a key that is valid"),
        ("rate_limit_exceeded", complaints.todo("rate_limit_exceeded")),
        ("my_invalid_api_key_2", ""),
        ("invalid_api_key: set OPENAI_API_KEY to a key that is valid", ""),
        ("", ""),
    ],
)
def test_what_to_do_about_a_text(text, todo):
    assert complaints.todo_in(text) == todo


def test_an_unknown_code_has_no_advice():
    assert complaints.todo("something_odd") == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n b\t\x00c", "a b c"), (None, "None"), ("x" * 1000, "x" * 299 + "…"), ("naïve 日本", "naïve 日本")],
)
def test_a_peers_words_become_one_short_line(text, line):
    assert complaints.one_line(text) == line
