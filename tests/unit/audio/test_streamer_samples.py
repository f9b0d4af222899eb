"""Every sample that the server sends is heard, wherever its messages were cut."""

from __future__ import annotations

import random

import numpy as np
import pytest
from line import noise, stripped, tone

from ivr_ai.audio import g711

PLAIN = {"STREAM_INJECT_BUFFER_MS": 600000}


def hear_all(one, size_bytes: int) -> bytes:
    """Lets the caller hear what has been sent, once all of it is queued."""
    one.events.until(lambda: one.streamer.describe()["queuedMs"] * 16 >= size_bytes, what="audio")
    one.line.stream.resume("inject")
    one.events.until(lambda: len(stripped(bytes(one.line.heard))) >= size_bytes, what="end of the audio")
    return stripped(bytes(one.line.heard))


class TestSampleExact:
    def test_binary_of_any_size(self, talk):
        """From one byte to ten seconds, in bursts, cut in the middle of samples."""
        source = random.Random(7)
        said = noise(25_000)
        one = talk(speed=20, options=PLAIN)
        one.line.stream.pause("inject")
        visit, at = one.visit, 0
        while at < len(said):
            size = source.choice([1, 2, 3, 319, 320, 321, 5000, 31_999, 160_000])
            visit.send(said[at : at + size])
            at += size
        assert hear_all(one, len(said)) == said
        assert one.events.wait("media_play_complete")["playedMs"] == 25_000

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_messages_of_any_size(self, talk, dialect):
        source = random.Random(8)
        said = noise(12_000, seed=3)
        one = talk(dialect=dialect, speed=20, options=PLAIN)
        one.line.stream.pause("inject")
        visit, at = one.visit, 0
        send = visit.play if dialect == "json" else visit.stream_audio
        while at < len(said):
            size = source.choice([1, 3, 318, 320, 4001, 30_000, 100_000])
            send(said[at : at + size])
            at += size
        assert hear_all(one, len(said)) == said

    def test_binary_and_messages_keep_their_order(self, talk):
        said = noise(3000, seed=4)
        one = talk(speed=20, options=PLAIN)
        one.line.stream.pause("inject")
        for at in range(0, len(said), 3200):
            part = said[at : at + 3200]
            one.visit.stream_audio(part) if at % 6400 else one.visit.send(part)
        assert hear_all(one, len(said)) == said

    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_half_a_sample_too_much_does_not_shift_what_follows(self, talk, dialect, channels):
        """Sentences of which each has a byte too many, one behind the other."""
        parts = [tone(400, hz=hz, level=6000) for hz in (440, 700, 550)]
        one = talk(dialect=dialect, speed=4, options=PLAIN)
        send = one.visit.play if dialect == "json" else one.visit.stream_audio
        for part in parts:
            both = np.repeat(np.frombuffer(part, "<i2"), channels).tobytes()
            send(both + b"\x7f", channels=channels)
        one.events.wait("media_play_complete", 3)
        assert stripped(bytes(one.line.heard)) == stripped(b"".join(parts))

    @pytest.mark.parametrize("between", ["checkpoint", "a checkpoint's play", "clear", "another rate"])
    def test_half_a_sample_ends_there_whatever_follows(self, talk, between):
        """Three samples, which do not tell where they begin."""
        one = talk(dialect="json", speed=4, options=PLAIN)
        first, last = noise(100)[:-1], noise(1)[:6]
        one.visit.play(first, **({"checkpoint": "a"} if between.endswith("play") else {}))
        if between == "checkpoint":
            one.visit.send({"event": "media.checkpoint", "payload": {"name": "a"}})
        elif between == "clear":
            one.visit.send({"event": "media.clear"})
        elif between == "another rate":
            one.visit.play(b"", 16000)
            one.visit.play(bytes(16 * 2), 16000)
        one.visit.play(last)
        one.events.until(lambda: bytes(one.line.heard).rstrip(b"\0").endswith(last))

    def test_a_refused_message_does_not_shift_what_follows(self, talk):
        one = talk(speed=4, options={"STREAM_INJECT_BUFFER_MS": 500, "STREAM_INJECT_BUFFER_STRICT": True})
        one.line.stream.pause("inject")
        said = noise(900)
        one.visit.send(said[:1001])
        one.visit.send(said[1001:10_600])  # 600 ms: refused, and it ends where samples do
        one.visit.send(said[10_600:])
        one.events.wait("stream_buffer_overrun")
        one.line.stream.resume("inject")
        one.events.until(lambda: stripped(bytes(one.line.heard)).endswith(said[10_600:]))

    def test_g711(self, talk):
        codes = bytes(random.Random(1).choices([n for n in range(256) if n not in (0x7F, 0xFF)], k=8000))
        one = talk(dialect="json", speed=20)
        one.visit.play(codes, format="ULAW")
        one.events.wait("media_play_complete")
        assert stripped(bytes(one.line.heard)) == g711.pcmu_decode(codes)

    def test_two_channels_are_mixed(self, talk):
        left, right = np.frombuffer(noise(500, 1), "<i2"), np.frombuffer(noise(500, 2), "<i2")
        one = talk(speed=20)
        one.visit.stream_audio(np.stack([left, right], 1).astype("<i2").tobytes(), channels=2)
        one.events.wait("media_play_complete")
        wanted = ((left.astype(int) + right) // 2).astype("<i2").tobytes()
        assert stripped(bytes(one.line.heard)) == wanted
