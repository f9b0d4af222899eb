"""A stream that is flushed, and one that is paused."""

from __future__ import annotations

import threading

import pytest
from stream_ends import FADE_MS, FRAME_MS, S16, SILENT_FRAME, paused, play, ramp


class TestFlush:
    def test_what_was_heard_to_the_sample_and_then_silence(self, host, app):
        app.inject(ramp(1000), "a", S16)
        app.end("a")
        heard = play(host, 140)
        flushed = app.flush()
        assert flushed.played_ms == {"a": 140 + FADE_MS}
        assert flushed.generation == 2 == app.generation
        after = play(host, 100)
        assert heard == ramp(140)
        assert after[FADE_MS * 16 :] == bytes(len(after) - FADE_MS * 16)
        assert after[: FADE_MS * 8] != bytes(FADE_MS * 8)  # it fades, without a click
        mark = app.mark("a")
        assert (mark.played_ms, mark.flushed, mark.finished) == (150, True, False)

    def test_every_item_that_was_cut_short_is_named(self, host, app):
        for item in ("played", "half", "unheard"):
            app.inject(ramp(100), item, S16)
            app.end(item)
        play(host, 140)
        assert app.flush().played_ms == {"half": 40 + FADE_MS, "unheard": 0}

    def test_an_item_that_has_been_heard_to_its_end_is_not_cut_short(self, host, app):
        app.inject(ramp(100), "a", S16)
        app.end("a")
        play(host, 120)
        assert app.flush().played_ms == {}

    def test_nothing_queued(self, app):
        assert app.flush() == (2, {})
        assert app.flush() == (3, {})

    def test_audio_of_a_flushed_generation_is_dropped_and_counted(self, host, app):
        before = app.generation
        assert app.inject(ramp(100), "a", S16, before) is True
        app.flush()
        assert app.inject(ramp(100), "a", S16, before) is False
        assert app.inject(ramp(40), "b", S16, app.generation) is True
        stats = app.stats()
        assert (stats.inject_stale_writes, stats.inject_stale_bytes) == (1, 1600)
        assert (stats.inject_flushes, stats.inject_generation) == (1, 2)
        app.end("b")
        assert play(host, FRAME_MS + 40) == SILENT_FRAME + ramp(40)  # the flush takes a tick

    def test_the_odd_byte_of_a_flushed_item_does_not_shift_the_next(self, host, app):
        app.inject(ramp(20)[:-1], "a", S16)
        app.flush()
        app.inject(ramp(40), "b", S16)
        app.end("b")
        assert play(host, FRAME_MS + 40) == SILENT_FRAME + ramp(40)

    def test_items_of_another_streams_end_keep_their_own_names(self, host, app):
        host.inject(ramp(100), "the dialplan's", S16)
        host.end("the dialplan's")
        app.inject(ramp(100), "ours", S16)
        play(host, 120)
        assert app.mark("ours").played_ms == 20
        assert app.flush().played_ms == {"ours": 20 + FADE_MS}
        assert host.mark("the dialplan's").finished

    def test_what_is_written_is_played_flushed_or_queued(self, host, app):
        """Two writers, a host and somebody who flushes, at once: no sample is lost or counted twice."""
        stop = threading.Event()

        def write(item: str) -> None:
            for n in range(200):
                app.inject(ramp(30), f"{item}-{n}", S16)
                app.end(f"{item}-{n}")

        def tick() -> None:
            while not stop.is_set():
                host.host_inject(SILENT_FRAME)

        clock = threading.Thread(target=tick)
        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for thread in (clock, *writers):
            thread.start()
        for _ in range(50):
            app.flush()
        for thread in writers:
            thread.join(20)
        stop.set()
        clock.join(20)
        host.host_inject(SILENT_FRAME)
        stats = app.stats()
        assert stats.inject_written_samples == 2 * 200 * 240
        accounted = stats.inject_played_samples + stats.inject_flushed_samples + stats.inject_queued_samples
        assert accounted == stats.inject_written_samples


class TestPause:
    def test_paused_capture_is_dropped_and_counted(self, host, app):
        app.setup_capture(S16, chunk_ms=20, quiet_chunk_ms=20)
        app.pause("capture")
        assert host.host_capture(ramp(20)) == 0
        assert app.capture(0) == b""
        app.resume("capture")
        assert host.host_capture(ramp(20)) == 160
        assert app.capture(0) == ramp(20)
        stats = app.stats()
        assert (stats.capture_paused_samples, stats.capture_samples) == (160, 160)

    def test_paused_inject_keeps_its_place(self, host, app):
        app.inject(ramp(200), "a", S16)
        app.end("a")
        play(host, 100)
        app.pause("inject")
        play(host, 100)
        played_ms = app.mark("a").played_ms
        assert 100 <= played_ms <= 100 + FADE_MS
        app.resume("inject")
        play(host, 120)
        assert app.mark("a").finished

    def test_both_when_none_is_named(self, app):
        app.pause()
        assert paused(app) == (1, 1)
        app.resume("inject", "inject")
        assert paused(app) == (1, 0)
        app.resume()
        assert paused(app) == (0, 0)

    def test_there_are_two_directions(self, app):
        with pytest.raises(ValueError, match="direction 'sideways' is unknown: use one of capture, inject"):
            app.pause("sideways")
