"""Turns by what the line sounds like, without a server's opinion."""

from __future__ import annotations

import random

import pytest

from ivr_ai.realtime.local_turns import Fed, LocalTurns, Turn

BYTES_PER_MS = 16  # s16 at 8 kHz
LONG_AGO_MS = 86_400_000.0
NOTHING, STARTED, STOPPED = Turn.NOTHING, Turn.STARTED, Turn.STOPPED


def chunk(ms: int, fill: int = 0) -> bytes:
    return bytes([fill]) * (ms * BYTES_PER_MS)


def turns(
    whole: bool = True, silence_ms: int = 300, prefix_ms: int = 200, max_ms: float = 60_000
) -> LocalTurns:
    return LocalTurns(BYTES_PER_MS, silence_ms, prefix_ms, max_ms, whole=whole)


def of(local: LocalTurns, ms: int, *silent_ms: float) -> list[Turn]:
    """What chunks of a length do, each after so much silence."""
    return [local.feed(chunk(ms), each).turn for each in silent_ms]


BOTH_WAYS = pytest.mark.parametrize("whole", [True, False])


@BOTH_WAYS
class TestTurns:
    def test_nobody_speaks(self, whole):
        local = turns(whole)
        assert [local.feed(chunk(100), LONG_AGO_MS) for _ in range(50)] == [Fed(NOTHING, b"")] * 50

    def test_a_turn_begins_with_speech_and_ends_with_silence(self, whole):
        local = turns(whole)
        assert of(local, 20, LONG_AGO_MS, 0, 0, 20, 100, 0, 280, 299) == [NOTHING, STARTED, *[NOTHING] * 6]
        assert of(local, 20, 300, 320) == [STOPPED, NOTHING]

    @pytest.mark.parametrize(("silent_ms", "turn"), [(99, STARTED), (100, NOTHING)])
    def test_speech_anywhere_in_the_chunk_counts(self, silent_ms, turn, whole):
        assert of(turns(whole), 100, silent_ms) == [turn]

    def test_one_turn_after_the_other(self, whole):
        said = [turn for turn in of(turns(whole), 20, 0, 300, 320, 0, 0, 400) if turn is not NOTHING]
        assert said == [STARTED, STOPPED, STARTED, STOPPED]

    def test_no_patience_at_all(self, whole):
        assert of(turns(whole, silence_ms=0), 20, 0, 0) == [STARTED, STOPPED]

    def test_who_never_stops_is_answered_at_the_maximum_and_goes_on_with_a_next_turn(self, whole):
        """The next one begins when as much again has gone by, and is cut at the maximum like the first."""
        local = turns(whole, max_ms=100)
        for _ in range(3):
            assert of(local, 20, 0, 0, 0, 0, 0) == [STARTED, NOTHING, NOTHING, NOTHING, STOPPED]
            local.take()
            assert of(local, 20, 0, 0, 0, 0) == [NOTHING] * 4

    @pytest.mark.parametrize(("silent_ms", "turn"), [(299, NOTHING), (300, STARTED)])
    def test_silence_ends_the_rest(self, silent_ms, turn, whole):
        local = turns(whole, max_ms=100)
        of(local, 20, 0, 0, 0, 0, 0)
        assert of(local, 20, silent_ms, 0) == [NOTHING, turn]

    def test_a_turn_that_was_silent_at_its_maximum_needs_no_rest(self, whole):
        local = turns(whole, max_ms=100)
        assert of(local, 20, 0, 0, 0, 0, 300, 0) == [STARTED, *[NOTHING] * 3, STOPPED, STARTED]

    def test_what_is_said_in_the_rest_is_padding_of_the_next_turn(self, whole):
        local = turns(whole, max_ms=100, prefix_ms=40)
        of(local, 20, 0, 0, 0, 0, 0)
        local.take()
        for n in range(1, 5):
            assert local.feed(chunk(20, n), 0) == Fed(NOTHING, b"")
        fed = local.feed(chunk(20, 5), 0)
        assert fed.turn is STARTED
        assert fed.audio + local.take() == chunk(20, 3) + chunk(20, 4) + chunk(20, 5)

    def test_it_says_whether_turns_are_kept_whole(self, whole):
        assert turns(whole).whole is whole


class TestWholeTurns:
    """For OPENAI_INPUT_MODE=item: kept until they are taken."""

    def test_what_was_said_with_its_padding(self):
        local = turns()
        for _ in range(10):
            assert local.feed(chunk(100, 1), LONG_AGO_MS).audio == b""
        assert local.feed(chunk(20, 2), 0) == Fed(STARTED, b"")
        for _ in range(4):
            assert local.feed(chunk(100, 3), 0).audio == b""
        assert local.feed(chunk(100, 4), 300) == Fed(STOPPED, b"")
        assert local.take() == chunk(200, 1) + chunk(20, 2) + chunk(400, 3) + chunk(100, 4)
        assert local.take() == b""

    def test_padding_does_not_reach_back_into_the_turn_before(self):
        local = turns()
        local.feed(chunk(20, 1), 0)
        local.feed(chunk(20, 2), 300)
        local.take()
        local.feed(chunk(20, 3), 320)
        local.feed(chunk(20, 4), 0)
        assert local.take() == chunk(20, 3) + chunk(20, 4)

    def test_no_padding(self):
        local = turns(prefix_ms=0)
        local.feed(chunk(100, 1), LONG_AGO_MS)
        local.feed(chunk(20, 2), 0)
        assert local.take() == chunk(20, 2)

    def test_an_hour_of_silence_keeps_no_more_than_the_padding(self):
        local = turns()
        for _ in range(36_000):
            local.feed(chunk(100), LONG_AGO_MS)
        assert len(local.take()) == 200 * BYTES_PER_MS

    def test_an_endless_turn_keeps_no_more_than_its_maximum(self):
        local = turns(max_ms=1000)
        for _ in range(49):
            assert local.feed(chunk(20), 0).turn is not STOPPED
        assert local.feed(chunk(20), 0).turn is STOPPED
        assert len(local.take()) == 1000 * BYTES_PER_MS


class TestTurnsAsTheyCome:
    """For OPENAI_TURN_DETECTION=none: nothing between turns is sent, and nothing of a turn waits."""

    def test_the_first_chunk_brings_the_padding_along(self):
        local = turns(whole=False)
        for _ in range(10):
            local.feed(chunk(100, 1), LONG_AGO_MS)
        assert local.feed(chunk(20, 2), 0) == Fed(STARTED, chunk(200, 1) + chunk(20, 2))
        assert local.feed(chunk(20, 3), 20) == Fed(NOTHING, chunk(20, 3))
        assert local.feed(chunk(20, 4), 300) == Fed(STOPPED, chunk(20, 4))
        assert local.feed(chunk(20, 5), 320) == Fed(NOTHING, b"")
        assert local.take() == chunk(20, 5)  # the padding of the next

    def test_two_turns_and_what_lies_between_is_only_the_padding(self):
        local = turns(whole=False, prefix_ms=40)
        sent = b""
        for n, silent_ms in enumerate([0, 300, 320, 340, 360, 380, 0, 300]):
            sent += local.feed(chunk(20, n), silent_ms).audio
        assert sent == b"".join(chunk(20, n) for n in (0, 1, 4, 5, 6, 7))


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("prefix_ms", [0, 1, 205, 300, 333])
def test_the_padding_begins_at_a_sample_whatever_the_rate(rate_hz, prefix_ms):
    """Half a sample too many would turn the whole turn into noise."""
    local = LocalTurns(rate_hz * 2 / 1000, 300, prefix_ms, 60_000, whole=True)
    counted = b"".join(n.to_bytes(2, "little") for n in range(rate_hz))
    at = 0
    while at < len(counted):
        local.feed(counted[at : at + 1000], LONG_AGO_MS)
        at += 1000
    local.feed(b"\xff\xff", 0)
    kept = local.take()
    assert (counted + b"\xff\xff").endswith(kept)
    assert len(kept) % 2 == 0


@pytest.mark.parametrize("seed", range(50))
@BOTH_WAYS
def test_nothing_of_a_turn_is_lost_or_said_twice(seed, whole):
    random_ = random.Random(seed)
    local = turns(whole, silence_ms=100, prefix_ms=0, max_ms=random_.choice([200, 60_000]))
    silent_ms, said, given, speaking = 0.0, b"", b"", False
    for number in range(500):
        ms = random_.choice([20, 40, 100])
        silent_ms = 0.0 if random_.random() < 0.4 else silent_ms + ms
        piece = chunk(ms, number % 256)
        fed = local.feed(piece, silent_ms)
        speaking = speaking or fed.turn is STARTED
        said += piece if speaking else b""
        given += fed.audio
        if fed.turn is STOPPED:
            speaking = False
            given += local.take() if whole else b""
    given += local.take() if speaking and whole else b""
    assert given == said
