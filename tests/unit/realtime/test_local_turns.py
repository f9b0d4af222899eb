"""Turns by what the line sounds like, without a server's opinion."""

from __future__ import annotations

import pytest

from ivr_ai.realtime.local_turns import LocalTurns, Turn

BYTES_PER_MS = 16  # s16 at 8 kHz
LONG_AGO_MS = 86_400_000.0


def chunk(ms: int, fill: int = 0) -> bytes:
    return bytes([fill]) * (ms * BYTES_PER_MS)


def turns(keep: bool = True, silence_ms: int = 300, prefix_ms: int = 200) -> LocalTurns:
    return LocalTurns(BYTES_PER_MS, silence_ms, prefix_ms, keep)


def test_nobody_speaks():
    local = turns()
    assert [local.feed(chunk(100), LONG_AGO_MS) for _ in range(50)] == [Turn.NOTHING] * 50


def test_a_turn_begins_with_speech_and_ends_with_silence():
    local = turns()
    said = [local.feed(chunk(20), LONG_AGO_MS)]
    said += [local.feed(chunk(20), silent_ms) for silent_ms in (0, 0, 20, 100, 0, 280, 299)]
    assert said == [Turn.NOTHING, Turn.STARTED, *[Turn.NOTHING] * 6]
    assert local.feed(chunk(20), 300) is Turn.STOPPED
    assert local.feed(chunk(20), 320) is Turn.NOTHING


@pytest.mark.parametrize(("silent_ms", "turn"), [(99, Turn.STARTED), (100, Turn.NOTHING)])
def test_speech_anywhere_in_the_chunk_counts(silent_ms, turn):
    assert turns().feed(chunk(100), silent_ms) is turn


def test_one_turn_after_the_other():
    local = turns()
    heard = [local.feed(chunk(20), silent_ms) for silent_ms in (0, 300, 320, 0, 0, 400)]
    said = [turn for turn in heard if turn is not Turn.NOTHING]
    assert said == [Turn.STARTED, Turn.STOPPED, Turn.STARTED, Turn.STOPPED]


def test_no_patience_at_all():
    local = turns(silence_ms=0)
    assert local.feed(chunk(20), 0) is Turn.STARTED
    assert local.feed(chunk(20), 0) is Turn.STOPPED


def test_what_was_said_with_its_padding():
    local = turns()
    for _ in range(10):
        local.feed(chunk(100, 1), LONG_AGO_MS)
    local.feed(chunk(20, 2), 0)
    for _ in range(4):
        local.feed(chunk(100, 3), 0)
    assert local.feed(chunk(100, 4), 300) is Turn.STOPPED
    assert local.take() == chunk(200, 1) + chunk(20, 2) + chunk(400, 3) + chunk(100, 4)
    assert local.take() == b""


def test_padding_does_not_reach_back_into_the_turn_before():
    local = turns()
    local.feed(chunk(20, 1), 0)
    local.feed(chunk(20, 2), 300)
    local.take()
    local.feed(chunk(20, 3), 320)
    local.feed(chunk(20, 4), 0)
    assert local.take() == chunk(20, 3) + chunk(20, 4)


def test_no_padding():
    local = turns(prefix_ms=0)
    local.feed(chunk(100, 1), LONG_AGO_MS)
    local.feed(chunk(20, 2), 0)
    assert local.take() == chunk(20, 2)


def test_nothing_is_kept_where_the_audio_was_sent_as_it_came():
    local = turns(keep=False)
    local.feed(chunk(20, 1), 0)
    assert local.take() == b""
