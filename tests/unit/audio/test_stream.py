"""Both ends of a stream from Python: what goes in, what comes out, what is counted, and the end."""

from __future__ import annotations

import contextlib
import gc
import random
import threading
import time
from array import array

import pytest
from stream_ends import FRAME_MS, PCMU, S16, SILENT_FRAME, play, ramp, say, tone

from ivr_ai.audio import g711
from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import (
    HostStream,
    Stream,
    StreamBusy,
    StreamClosed,
    StreamError,
    StreamExists,
    StreamFull,
    StreamNotFound,
    library_path,
    open_streams,
)


class TestFinding:
    def test_both_ends_see_the_same_stream(self, name):
        with HostStream.create(
            name, "b-leg", rate_hz=16000, app_rate_hz=24000, wire="s16", frame_ms=10
        ) as host:
            app = Stream.attach(name, "b-leg")
            for end in (host, app):
                assert (end.uuid, end.stream_id) == (name, "b-leg")
                assert (end.rate_hz, end.app_rate_hz, end.frame_ms) == (16000, 24000, 10)
                assert end.wire == Format("s16", 16000)
        assert app.closed

    def test_the_wire_of_a_g711_call(self, name):
        with HostStream.create(name, wire="pcma") as host:
            assert host.wire == Format("pcma", 8000)
            assert host.app_rate_hz == 8000

    def test_a_stream_that_is_not_there(self, name):
        with pytest.raises(StreamNotFound, match=f"stream 'main' of call {name}: no such stream"):
            Stream.attach(name)

    def test_waiting_for_a_stream_to_be_started(self, name):
        found = []
        waiter = threading.Thread(target=lambda: found.append(Stream.attach(name, timeout_s=10)))
        waiter.start()
        time.sleep(0.05)
        with HostStream.create(name):
            waiter.join(5)
            assert [stream.uuid for stream in found] == [name]

    def test_waiting_in_vain(self, name):
        start_s = time.monotonic()
        with pytest.raises(StreamNotFound):
            Stream.attach(name, timeout_s=0.1)
        assert time.monotonic() - start_s >= 0.1

    def test_one_id_once_per_call(self, host):
        with pytest.raises(StreamExists, match="open on this call already"):
            HostStream.create(host.uuid)
        with HostStream.create(host.uuid, "other"):
            assert sorted(open_streams(host.uuid)) == [(host.uuid, "main"), (host.uuid, "other")]

    def test_the_list_of_open_streams(self, name):
        assert open_streams(name) == []
        with HostStream.create(name):
            assert open_streams(name) == [(name, "main")]
            assert (name, "main") in open_streams()
        assert open_streams(name) == []
        assert (name, "main") not in open_streams()

    def test_many_open_streams_are_all_listed(self, name):
        streams = [HostStream.create(name, f"stream-{n}") for n in range(100)]
        assert len(open_streams(name)) == 100
        for stream in streams:
            stream.close()
        assert open_streams(name) == []

    def test_a_stream_nobody_holds_is_gone(self, name):
        stream = HostStream.create(name)
        assert open_streams(name)
        del stream
        gc.collect()
        assert open_streams(name) == []

    def test_a_name_is_free_again_after_the_end(self, host, app):
        host.close()
        with HostStream.create(host.uuid) as again:
            assert not again.closed
            assert app.closed

    def test_ids_may_be_in_any_script(self):
        with HostStream.create("звонок-☎-42", "hlavní"):
            app = Stream.attach("звонок-☎-42", "hlavní")
            assert (app.uuid, app.stream_id) == ("звонок-☎-42", "hlavní")
            assert open_streams("звонок-☎-42") == [("звонок-☎-42", "hlavní")]
            with pytest.raises(StreamNotFound, match="звонок"):
                Stream.attach("звонок-☎-42", "other")

    @pytest.mark.parametrize(("letter", "most"), [("x", 127), ("é", 63)])
    def test_ids_are_at_most_127_bytes_long(self, letter, most):
        longest = letter * most
        with HostStream.create(longest, longest):
            assert Stream.attach(longest, longest).uuid == longest
            with pytest.raises(StreamNotFound):
                Stream.attach(longest + letter, longest)
        for ids in ((longest + letter, "main"), (longest, longest + letter), ("", "main"), (longest, "")):
            with pytest.raises(ValueError, match="invalid argument"):
                HostStream.create(*ids)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"rate_hz": 7999},
            {"rate_hz": 48001},
            {"app_rate_hz": 4000},
            {"frame_ms": 1},
            {"prebuffer_ms": -1},
            {"fade_ms": 101},
            {"behind_ms": 1001},
            {"inject_max_ms": 1},
            {"wire": "opus"},
        ],
        ids=str,
    )
    def test_what_no_stream_can_be(self, name, wrong):
        with pytest.raises(ValueError, match=r"invalid argument|audio encoding 'opus' is unknown"):
            HostStream.create(name, **wrong)
        assert open_streams(name) == []

    def test_the_library_says_where_it_is(self):
        assert "libaudiostream.so" in library_path()


class TestCapture:
    def test_what_the_caller_says_comes_out_sample_for_sample(self, host, app):
        app.setup_capture(S16, chunk_ms=20, quiet_chunk_ms=20)
        said = ramp(400)
        say(host, said)
        heard = b""
        while chunk := app.capture(0):
            heard += chunk
        assert heard == said
        assert app.stats().capture_read_samples == 3200

    @pytest.mark.parametrize(("wire", "encode"), [("pcmu", g711.pcmu_encode), ("pcma", g711.pcma_encode)])
    def test_as_g711(self, host, app, wire, encode):
        app.setup_capture(Format(wire, 8000), chunk_ms=20, quiet_chunk_ms=20)
        said = ramp(100)
        say(host, said)
        assert app.capture(0) == encode(said)

    @pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
    def test_at_another_rate(self, host, app, rate_hz):
        app.setup_capture(Format("s16", rate_hz), chunk_ms=20, quiet_chunk_ms=20)
        say(host, tone(1000))
        host.close()
        heard = b""
        try:
            while True:
                heard += app.capture(0)
        except StreamClosed:
            assert len(heard) == rate_hz * 2
        loudness = array("h", heard[rate_hz // 2 * 2 :])
        assert max(loudness) > 5000

    def test_chunks_are_small_in_speech_and_large_in_silence(self, host, app):
        app.setup_capture(S16, chunk_ms=20, quiet_chunk_ms=100, hang_ms=200)
        for _ in range(4):
            host.host_capture(SILENT_FRAME)
            assert app.capture(0) == b""
        host.host_capture(SILENT_FRAME)
        assert len(app.capture(0)) == 1600
        for _ in range(5):
            host.host_capture(tone(20))
            assert len(app.capture(0)) == 320
        for _ in range(10):  # the hang-over
            host.host_capture(SILENT_FRAME)
            assert len(app.capture(0)) == 320
        host.host_capture(SILENT_FRAME)
        assert app.capture(0) == b""

    def test_speech_cuts_a_long_wait_in_silence_short(self, host, app):
        app.setup_capture(S16, chunk_ms=20, quiet_chunk_ms=1000)
        say(host, bytes(320 * 3))
        assert app.capture(0) == b""
        host.host_capture(tone(20))
        assert app.capture(0) == bytes(320 * 3) + tone(20)

    def test_at_most_a_second_at_once(self, host, app):
        app.setup_capture(Format("s16", 48000), chunk_ms=20, quiet_chunk_ms=20)
        say(host, ramp(3000))
        sizes = []
        while chunk := app.capture(0):
            sizes.append(len(chunk))
        assert max(sizes) <= 96000
        assert sum(sizes) >= 96000 * 2.9

    def test_nothing_within_the_timeout(self, app):
        start_s = time.monotonic()
        assert app.capture(100) == b""
        assert time.monotonic() - start_s >= 0.1

    def test_waiting_lets_other_threads_run(self, host, app):
        done = threading.Event()

        def wait() -> None:
            with pytest.raises(StreamClosed):
                app.capture(60_000)
            done.set()

        reader = threading.Thread(target=wait)
        reader.start()
        time.sleep(0.05)
        count = sum(1 for _ in range(10_000))  # would hang for a minute if the reader held the GIL
        assert (count, done.is_set()) == (10_000, False)
        host.close()
        assert done.wait(5)

    def test_audio_wakes_a_waiting_reader(self, host, app):
        app.setup_capture(S16, chunk_ms=20, quiet_chunk_ms=20)
        got = []
        reader = threading.Thread(target=lambda: got.append(app.capture(60_000)))
        reader.start()
        time.sleep(0.05)
        host.host_capture(ramp(20))
        reader.join(5)
        assert got == [ramp(20)]

    def test_two_readers_at_once_are_one_too_many(self, host, app):
        def read() -> None:
            while not host.closed:
                with contextlib.suppress(StreamBusy, StreamClosed):
                    app.capture(60_000)

        reader = threading.Thread(target=read)
        reader.start()
        with pytest.raises(StreamBusy, match="another thread is reading"):
            for _ in range(1000):
                app.capture(5)
        with pytest.raises(StreamBusy):
            app.setup_capture(S16)
        host.close()
        reader.join(5)

    @pytest.mark.parametrize(
        ("format", "chunks"),
        [
            (Format("pcmu", 16000), {}),
            (Format("s16", 4000), {}),
            (Format("opus", 48000), {}),
            (S16, {"chunk_ms": 0}),
            (S16, {"chunk_ms": 100, "quiet_chunk_ms": 20}),
            (S16, {"quiet_chunk_ms": 1001}),
            (S16, {"hang_ms": -1}),
        ],
    )
    def test_what_cannot_be_set_up(self, app, format, chunks):
        with pytest.raises(ValueError, match=r"invalid argument|audio encoding 'opus' is unknown"):
            app.setup_capture(format, **chunks)
        assert app.capture(0) == b""

    def test_a_full_ring_loses_the_newest_and_counts_it(self, name):
        with HostStream.create(name, capture_ms=100) as host:
            said = ramp(400)
            say(host, said)
            stats = host.stats()
            stored = stats.capture_samples
            assert 800 <= stored < 3200
            assert stats.capture_dropped_samples == 3200 - stored
            assert stats.capture_overruns > 0
            heard = b""
            while chunk := host.capture(0):
                heard += chunk
            assert heard == said[: stored * 2]

    def test_when_the_caller_last_spoke(self, host, app):
        """As far as has been captured, and as far as has been read."""
        say(host, bytes(16 * 200))
        assert app.last_speech_s() is None  # never
        assert app.silent_ms() == 86_400_000
        say(host, tone(400))
        assert app.last_speech_s() is None  # still does
        say(host, bytes(16 * 300))
        assert time.monotonic() - app.last_speech_s() == pytest.approx(0.3, abs=0.1)
        assert app.silent_ms() == 0
        while app.capture(0):
            pass
        assert app.silent_ms() == pytest.approx(300, abs=20)


class TestInject:
    def test_what_is_injected_is_heard_sample_for_sample(self, host, app):
        said = ramp(1000)
        assert app.inject(said, "a", S16) is True
        app.end("a")
        assert play(host, 1000) == said
        assert host.host_inject(SILENT_FRAME) == (SILENT_FRAME, False)

    def test_split_anywhere_even_inside_a_sample(self, host, app):
        random_sizes = random.Random(4)
        said, at = ramp(1000), 0
        while at < len(said):
            size = random_sizes.choice((0, 1, 2, 3, 159, 1334, 4000))
            app.inject(said[at : at + size], "a", S16)
            at += size
        app.end("a")
        assert play(host, 1000) == said

    @pytest.mark.parametrize(("law", "decode"), [("pcmu", g711.pcmu_decode), ("pcma", g711.pcma_decode)])
    def test_g711(self, host, app, law, decode):
        codes = bytes(range(256)) * 5
        app.inject(codes, "a", Format(law, 8000))
        app.end("a")
        assert play(host, 160) == decode(codes)

    @pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
    def test_from_another_rate_it_is_as_long(self, host, app, rate_hz):
        app.inject(ramp(1000, rate_hz), "a", Format("s16", rate_hz))
        app.end("a")
        assert app.mark("a").written_ms == pytest.approx(1000, abs=0.2)
        play(host, 1000 + FRAME_MS)
        assert app.mark("a").finished

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_any_buffer_will_do(self, host, app, kind):
        app.inject(kind(ramp(100)), "a", S16)
        app.end("a")
        assert play(host, 100) == ramp(100)

    def test_the_hosts_frame_is_kept_where_there_is_nothing_to_say(self, host):
        frame = ramp(20)
        heard, owned = host.host_inject(frame)
        assert (heard, owned) == (frame, False)

    def test_items_play_in_order_without_a_gap(self, host, app):
        app.inject(ramp(50), "a", S16)
        app.end("a")
        app.inject(ramp(70), "b", S16)
        app.end("b")
        assert play(host, 120) == ramp(50) + ramp(70)

    def test_the_course_of_an_item(self, host, app):
        with pytest.raises(StreamNotFound, match="item 'a' of stream 'main'"):
            app.mark("a")
        app.inject(ramp(100), "a", S16)
        mark = app.mark("a")
        assert (mark.item, mark.written_ms, mark.played_ms) == ("a", 100, 0)
        assert (mark.started_s, mark.finished_s) == (None, None)
        assert (mark.ended, mark.finished, mark.flushed) == (False, False, False)

        before_s = time.monotonic()
        play(host, 40)
        mark = app.mark("a")
        assert (mark.written_ms, mark.played_ms, mark.ended) == (100, 40, False)
        assert before_s <= mark.started_s <= time.monotonic()
        assert mark.finished_s is None

        app.end("a")
        assert (app.mark("a").ended, app.mark("a").finished) == (True, False)
        play(host, 60)
        mark = app.mark("a")
        assert (mark.played_ms, mark.finished, mark.flushed) == (100, True, False)
        assert mark.finished_s == pytest.approx(mark.started_s + 0.1, abs=0.001)

    def test_an_item_without_audio_is_finished_when_it_ends(self, app):
        app.end("empty")
        mark = app.mark("empty")
        assert (mark.written_ms, mark.ended, mark.finished) == (0, True, True)

    def test_an_item_that_runs_dry_and_goes_on_was_an_underrun(self, host, app):
        app.inject(ramp(20), "a", S16)
        assert play(host, 60) == ramp(20) + bytes(640)
        stats = app.stats()
        assert (stats.inject_underruns, stats.inject_underrun_samples) == (0, 320)
        app.inject(ramp(20), "a", S16)
        assert play(host, 40) == ramp(20) + bytes(320)
        assert app.stats().inject_underruns == 1
        app.end("a")
        assert host.host_inject(ramp(20)) == (ramp(20), False)
        assert app.stats().inject_underruns == 1

    def test_an_item_that_runs_dry_and_turns_out_to_be_over_was_none(self, host, app):
        app.inject(ramp(20), "a", S16)
        assert play(host, 60) == ramp(20) + bytes(640)
        app.end("a")
        app.inject(ramp(20), "b", S16)
        assert play(host, 20) == ramp(20)
        assert app.stats().inject_underruns == 0

    def test_prebuffer_holds_the_beginning_back(self, host, app):
        app.set_prebuffer(60)
        app.inject(ramp(40), "a", S16)
        assert host.host_inject(SILENT_FRAME)[1] is False
        app.inject(ramp(20), "a", S16)
        assert host.host_inject(SILENT_FRAME)[1] is True

    def test_prebuffer_does_not_hold_an_item_that_has_ended(self, host, app):
        app.set_prebuffer(5000)
        app.inject(ramp(40), "a", S16)
        app.end("a")
        assert play(host, 40) == ramp(40)

    @pytest.mark.parametrize("ms", [-1, 10_001])
    def test_prebuffer_has_bounds(self, app, ms):
        with pytest.raises(ValueError, match=f"prebuffer of {ms} ms"):
            app.set_prebuffer(ms)

    def test_beyond_the_bound_nothing_is_written_and_it_is_counted(self, name):
        with HostStream.create(name, inject_max_ms=100) as host:
            assert host.inject(ramp(60), "a", S16)
            with pytest.raises(StreamFull, match=r"960 bytes into stream 'main'.* queue is full"):
                host.inject(ramp(60), "a", S16)
            stats = host.stats()
            assert (stats.inject_full_writes, stats.inject_full_bytes) == (1, 960)
            assert stats.inject_queued_samples == 480
            host.end("a")
            assert play(host, 60) == ramp(60)
            assert host.inject(ramp(60), "b", S16)

    @pytest.mark.parametrize("format", [Format("pcma", 16000), Format("s16", 96000), Format("mp3", 8000)])
    def test_what_cannot_be_injected(self, app, format):
        with pytest.raises(ValueError, match=r"invalid argument|audio encoding 'mp3' is unknown"):
            app.inject(bytes(320), "a", format)


class TestClosing:
    def test_it_says_whether_it_is_open(self, host, app):
        assert (host.closed, app.closed) == (False, False)
        assert repr(app) == f"<Stream {host.uuid}/main 8000 Hz open>"
        app.close()
        assert (host.closed, app.closed) == (True, True)
        assert repr(host) == f"<HostStream {host.uuid}/main 8000 Hz closed>"
        app.close()
        host.close()

    def test_leaving_the_context_closes(self, host):
        with pytest.raises(KeyError), Stream.attach(host.uuid):
            raise KeyError("whatever went wrong")
        assert host.closed

    @pytest.mark.parametrize("end", ["host", "app"])
    def test_a_waiting_reader_learns_it_at_once(self, host, app, end):
        failures = []

        def read() -> None:
            try:
                app.capture(60_000)
            except StreamClosed as error:
                failures.append(str(error))

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.05)
        {"host": host, "app": app}[end].close()
        reader.join(5)
        assert failures == [f"stream 'main' of call {host.uuid}: the stream is closed"]

    def test_what_was_captured_before_can_still_be_read(self, host, app):
        app.setup_capture(S16, chunk_ms=20, quiet_chunk_ms=1000)
        say(host, ramp(100))
        host.close()
        assert app.capture(0) == ramp(100)
        with pytest.raises(StreamClosed):
            app.capture(0)

    @pytest.mark.parametrize(
        "use",
        [
            lambda stream: stream.capture(1000),
            lambda stream: stream.inject(ramp(20), "a", S16),
            lambda stream: stream.inject(ramp(20), "a", S16, 1),
            lambda stream: stream.end("a"),
            lambda stream: stream.end("new"),
        ],
        ids=["capture", "inject", "inject of a generation", "end", "end of a new item"],
    )
    def test_audio_neither_comes_nor_goes(self, host, app, use):
        app.inject(ramp(20), "a", S16)
        host.close()
        with pytest.raises(StreamClosed, match=rf"stream 'main' of call {host.uuid}: the stream is closed"):
            use(app)

    def test_everything_else_still_answers(self, host, app):
        app.inject(ramp(100), "a", S16)
        play(host, 40)
        host.close()
        assert app.mark("a").played_ms == 40
        assert app.flush().played_ms == {"a": 40}
        assert app.generation == 2
        with pytest.raises(StreamNotFound):
            app.mark("never written")
        app.set_prebuffer(100)
        app.setup_capture(PCMU)
        app.pause()
        app.resume()
        assert app.stats().inject_played_samples == 320

    def test_the_hosts_end_goes_on_without_effect(self, host):
        host.close()
        assert host.host_capture(ramp(20)) == 0
        assert host.host_inject(ramp(20)) == (ramp(20), False)

    def test_closing_from_many_threads_while_all_is_in_use(self, name):
        """Whatever happens at that moment ends with StreamClosed or not at all."""
        for n in range(20):
            host = HostStream.create(f"{name}-{n}")
            app = Stream.attach(host.uuid)
            unexpected: list[BaseException] = []
            start = threading.Barrier(5)

            def use(what, start=start, unexpected=unexpected) -> None:
                start.wait()
                try:
                    for _ in range(200):
                        what()
                except StreamClosed:
                    pass
                except BaseException as error:
                    unexpected.append(error)

            uses = (
                lambda app=app: app.capture(5),
                lambda app=app: app.inject(ramp(20), "a", S16),
                lambda app=app: app.flush(),
                lambda host=host: host.host_inject(SILENT_FRAME),
            )
            threads = [threading.Thread(target=use, args=(what,)) for what in uses]
            for thread in threads:
                thread.start()
            start.wait()
            host.close()
            for thread in threads:
                thread.join(10)
            assert unexpected == []
            assert open_streams(host.uuid) == []

    def test_one_kind_of_error_catches_them_all(self):
        for kind in (StreamBusy, StreamClosed, StreamExists, StreamFull, StreamNotFound):
            assert issubclass(kind, StreamError)
            assert issubclass(kind, RuntimeError)
