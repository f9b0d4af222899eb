"""Faults from command-line settings."""

from __future__ import annotations

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.sim.faults import FaultError, Faults
from ivr_ai.sim.schema import INPUT_FORMAT, OUTPUT_FORMAT, RefusedField


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


def test_lists_come_comma_separated_and_in_parts() -> None:
    settings = ["omit_events=session.created, response.done", "omit-events=error"]
    assert Faults.parse(settings).omit_events == ("session.created", "response.done", "error")


def test_fields_refused_whole_or_for_one_value() -> None:
    faults = Faults.parse(["refuse_fields=session.audio.output.voice,audio.input.format.type:audio/pcmu"])
    assert faults.refused() == (
        RefusedField("audio.output.voice", "", "unknown_parameter"),
        RefusedField("audio.input.format.type", "audio/pcmu", "invalid_value"),
    )
    [field] = Faults(refuse_fields=("voice",), refuse_code="invalid_value").refused()
    assert field.code == "invalid_value"


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("audio/pcma", {INPUT_FORMAT: Format("pcma", 8000), OUTPUT_FORMAT: Format("pcma", 8000)}),
        ("output:audio/pcm", {OUTPUT_FORMAT: Format("s16", 24000)}),
        (
            "input:audio/pcmu,output:audio/pcm@16000",
            {INPUT_FORMAT: Format("pcmu", 8000), OUTPUT_FORMAT: Format("s16", 16000)},
        ),
    ],
)
def test_formats_stated(text: str, formats: dict) -> None:
    assert Faults(state_format=text).formats() == formats


def test_the_event_to_close_after() -> None:
    assert Faults().closing_event() is None
    assert Faults(close_after_event="response.create").closing_event() == ("response.create", 1)
    assert Faults(close_after_event="response.done:3").closing_event() == ("response.done", 3)


def test_active_lists_what_was_changed() -> None:
    assert Faults().active() == []
    settings = ["delta_bytes=1334", "ignore_close", "omit_events=error,response.done"]
    assert Faults.parse(settings).active() == [
        "delta_bytes=1334",
        "omit_events=error,response.done",
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
        ("rate_limited=-2", "rate_limited=-2: it cannot be negative"),
        ("retry_after_s=-1", "it cannot be negative"),
        ("fail_how=badly", "use one of failed, max_output_tokens, content_filter, empty, text"),
        ("id_chars=8", "id_chars=8: use 32 to 1024, or 0 for off"),
        ("omit_events=response.end", "omit_events=response.end: the server sends error, session.created"),
        ("omit_events", "fault omit_events needs a value"),
        ("fail_code", "fault fail_code needs a value"),
        ("refuse_fields=audio.voice", "a session has no 'audio.voice': use names as audio.output.voice"),
        ("refuse_code=no", "use unknown_parameter or invalid_value"),
        ("state_format=audio/opus", "state_format=audio/opus: audio format"),
        ("state_format=audio/pcm@fast", "after the @ comes a rate in Hz"),
        ("state_format=audio/pcmu@16000", "G.711 is always 8000 Hz"),
        ("state_format=both:audio/pcmu", "before the colon only input or output can stand"),
        ("state_format=:audio/pcmu", "before the colon only input or output can stand"),
        ("close_after_event=response.end", "use one of error, session.created"),
        ("close_after_event=response.done:0", "after the colon comes a count from 1"),
        ("link_delay_ms=-1", "it cannot be negative"),
        ("retry_after_s=inf", "retry_after_s=inf: use a number of seconds"),
        ("drop_after_s=nan", "drop_after_s=nan: use a number of seconds"),
    ],
)
def test_errors_say_what_is_allowed(setting: str, says: str) -> None:
    with pytest.raises(FaultError, match=says):
        Faults.parse([setting])


def test_a_text_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(FaultError, match="omit_events='error': give a list of names"):
        Faults(omit_events="error")


def test_every_fault_is_described() -> None:
    lines = Faults.describe()
    assert len(lines) == len(Faults.__dataclass_fields__)
    assert all(len(line.split(None, 2)[-1]) > 5 for line in lines)
