"""What the caller hears of what the server sends, and what is said about it."""

from __future__ import annotations

import base64
import itertools
import random
import time
from array import array

import numpy as np
import pytest
from line import FRAME_MS, Events, noise, stripped, tone
from support.packed import wav
from wire_server import WireServer

from ivr_ai.audio.stream import HostStream, StreamClosed
from ivr_ai.audio.streamer import Streamer

FADE_MS = 10
SAMPLES_PER_MS = 8
PLAIN = {"STREAM_INJECT_BUFFER_MS": 600000}


def heard_ms(line) -> float:
    return len(stripped(bytes(line.heard))) / 2 / SAMPLES_PER_MS


def silent_ms(line) -> float:
    """Silence in the middle of what was heard so far."""
    return array("h", stripped(bytes(line.heard))).count(0) / SAMPLES_PER_MS


class TestRates:
    @pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
    def test_a_sentence_cut_into_frames_sounds_as_one(self, talk, rate_hz):
        """One resampler runs through all messages: a boundary every 20 ms is not heard."""
        said = tone(1000, rate_hz)
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 300})
        size, start_s = rate_hz // 50 * 2, time.monotonic()
        for n, at in enumerate(range(0, len(said), size)):
            time.sleep(max(0.0, start_s + n * 0.02 - time.monotonic()))
            one.visit.stream_audio(said[at : at + size], rate_hz)
        one.events.wait("media_play_complete")
        heard = np.frombuffer(stripped(bytes(one.line.heard)), "<i2").astype(float)
        assert len(heard) == pytest.approx(8000, abs=160)
        middle = heard[400:7600]
        turn = 2 * np.pi * 440 / 8000 * np.arange(len(middle))
        basis = np.stack([np.sin(turn), np.cos(turn)], 1)
        left = middle - basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
        assert np.abs(left).max() < 80  # 8000 is the tone's level

    def test_every_piece_keeps_its_length(self, talk):
        one = talk(dialect="json", speed=10)
        for _ in range(10):
            one.visit.play(tone(100, 24000), 24000)
        one.events.wait("media_play_complete", 10)
        played = [event["playedMs"] for event in one.events.of("media_play_complete")]
        assert sum(played) == pytest.approx(1000, abs=10)
        assert all(ms == pytest.approx(100, abs=1) for ms in played)


class TestEvents:
    def test_in_order_and_on_time(self, talk):
        one = talk(dialect="json")
        one.visit.play(noise(200, 1), checkpoint="first")
        one.visit.play(noise(300, 2), checkpoint="second")
        one.events.wait("media_checkpoint", 2)
        names = [name for name in one.events.names() if name.startswith("media")]
        each = ["media_play_start", "media_play_complete", "media_checkpoint"]
        assert names == each * 2
        began_ms = one.events.of("media_play_start")[0]["at"] / 1000
        offset_s = time.time() - time.monotonic()
        assert began_ms == pytest.approx(one.line.heard_at_s() + offset_s, abs=0.005)
        ends_ms = [event["at"] for event in one.events.of("media_play_complete")]
        assert ends_ms[0] - began_ms * 1000 == pytest.approx(200, abs=3)
        assert ends_ms[1] - ends_ms[0] == pytest.approx(300, abs=3)
        assert [event["playedMs"] for event in one.events.of("media_play_complete")] == [200, 300]
        reached = one.visit.wait(lambda visit: len(visit.events("media.checkpoint")) == 2 and visit.events())
        named = [
            (event["name"], event["reached"]) for event in reached if event["event"] == "media.checkpoint"
        ]
        assert named == [("first", True), ("second", True)]

    def test_they_are_prompt(self, talk):
        one = talk(dialect="json")
        one.visit.play(noise(100))
        one.events.wait("media_play_complete")
        for name in ("media_play_start", "media_play_complete"):
            at = [event.name for event in one.events.all].index(name)
            said_s = one.events.times_s[at] + time.time() - time.monotonic()
            assert said_s - one.events.all[at].body["at"] / 1000 < 0.06

    def test_a_checkpoint_alone(self, talk):
        one = talk(dialect="json")
        one.visit.play(noise(200))
        one.visit.send({"event": "media.checkpoint", "payload": {"name": "mid"}})
        one.visit.play(noise(200))
        one.events.wait("media_play_complete", 2)
        names = [name for name in one.events.names() if name.startswith("media_")]
        assert names[:3] == ["media_play_start", "media_play_complete", "media_checkpoint"]

    def test_a_checkpoint_with_nothing_before_it(self, talk):
        one = talk(dialect="json")
        one.visit.send({"event": "media.checkpoint", "payload": {"name": "now"}})
        assert one.events.wait("media_checkpoint", timeout_s=1)["reached"] is True

    def test_queued_audio_is_told(self, talk):
        one = talk()
        one.visit.stream_audio(noise(500))
        event = one.events.wait("play")
        assert (event["bytes"], event["ms"], event["rate"]) == (8000, 500, 8000)

    def test_a_spurt_of_binary_is_one_play(self, talk):
        one = talk()
        said = noise(200)
        for _ in range(2):
            for at in range(0, len(said), 320):
                one.visit.send(said[at : at + 320])
            one.events.until(lambda: True)
            time.sleep(0.7)
        assert [event["playedMs"] for event in one.events.of("media_play_complete")] == [200, 200]
        assert [event["ms"] for event in one.events.of("play")] == [20, 180, 20, 180]

    @pytest.mark.parametrize("how", ["streamAudio", "binary", "both"])
    def test_an_utterance_is_one_play_and_told_once_a_second(self, talk, how):
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 100})
        frame, count = noise(20), 130
        start_s = time.monotonic()
        for n in range(count):
            time.sleep(max(0.0, start_s + n * 0.02 - time.monotonic()))
            as_json = how == "streamAudio" or (how == "both" and n % 2)
            one.visit.stream_audio(frame) if as_json else one.visit.send(frame)
        assert one.events.wait("media_play_complete")["playedMs"] == count * 20
        assert len(one.events.of("media_play_start")) == len(one.events.of("media_play_complete")) == 1
        told = one.events.of("play")
        assert (sum(event["bytes"] for event in told), sum(event["ms"] for event in told)) == (
            count * len(frame),
            count * 20,
        )
        assert {event["playId"] for event in told} == {1}
        assert len(told) in (3, 4)
        gaps_ms = [b["at"] - a["at"] for a, b in itertools.pairwise(told)]
        assert all(gap >= 999 for gap in gaps_ms[:-1])
        names = one.events.names()
        assert len(names) - names[::-1].index("play") <= names.index("media_play_complete")

    def test_rates_are_told_apart(self, talk):
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 100})
        for rate_hz in (8000, 8000, 24000, 24000):
            one.visit.stream_audio(tone(100, rate_hz), rate_hz)
        one.events.wait("media_play_complete")
        told = [(event["bytes"], event["ms"], event["rate"]) for event in one.events.of("play")]
        assert sorted(told) == sorted([(1600, 100, 8000), (1600, 100, 8000), (9600, 200, 24000)])

    def test_what_was_thrown_away_was_told_too(self, talk):
        one = talk()
        for _ in range(10):
            one.visit.stream_audio(noise(100))
        one.visit.stream_audio(b"", clear=True)
        cleared = one.events.wait("media_cleared")
        assert cleared["plays"] == 1
        assert cleared["playedMs"] + cleared["clearedMs"] == pytest.approx(1000, abs=1)
        assert sum(event["ms"] for event in one.events.of("play")) == 1000

    def test_a_short_prompt_starts_at_once(self, talk):
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 0})
        assert one.visit
        time.sleep(0.1)
        sent_s = time.time()
        one.visit.stream_audio(noise(100))
        started_s = one.events.wait("media_play_start")["at"] / 1000
        assert started_s - sent_s < 0.045

    def test_a_prompt_shorter_than_the_prebuffer_is_heard(self, talk):
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 400})
        sent_s = time.time()
        one.visit.stream_audio(noise(100))
        assert one.events.wait("media_play_complete")["playedMs"] == 100
        started_s = one.events.of("media_play_start")[0]["at"] / 1000
        assert 0.3 < started_s - sent_s < 0.6
        assert heard_ms(one.line) == 100

    def test_transcriptions_and_other_messages(self, talk):
        one = talk(dialect="json", bidirectional=False)
        one.visit.send({"event": "transcription.send", "payload": {"text": "hello", "isFinal": True}})
        one.visit.send({"event": "whatever", "n": 1})
        assert one.events.wait("transcription_received")["payload"] == {"text": "hello", "isFinal": True}
        assert one.events.wait("message_received")["message"] == {"event": "whatever", "n": 1}

    def test_binary_passes_json_on_as_it_is(self, talk):
        one = talk()
        one.visit.send({"type": "mine", "x": [1, None]})
        assert one.events.wait("json") == {"type": "mine", "x": [1, None]}


class TestClear:
    def test_within_two_frames_and_counted_exactly(self, talk):
        one = talk(dialect="json")
        one.visit.play(noise(3000), checkpoint="never")
        one.events.wait("media_play_start")
        time.sleep(0.3)
        cleared_s = time.monotonic()
        one.visit.send({"event": "media.clear"})
        event = one.events.wait("media_cleared")
        time.sleep(0.2)
        heard = bytes(one.line.heard)
        last = len(heard.rstrip(b"\0")) // one.line.frame_bytes
        assert one.line.ticks_s[last] - cleared_s <= 2 * FRAME_MS / 1000 + 0.005
        assert event["playedMs"] == pytest.approx(heard_ms(one.line), abs=1.1)  # the fade ends in zeros
        assert (event["reason"], event["plays"]) == ("server", 1)
        assert event["playedMs"] + event["clearedMs"] == pytest.approx(3000, abs=1)
        assert one.events.wait("media_checkpoint")["reached"] is False
        assert one.events.of("media_play_complete") == []
        said = one.visit.wait(lambda visit: visit.events("media.cleared") and visit.events())
        assert [message["event"] for message in said][-2:] == ["media.checkpoint", "media.cleared"]

    def test_with_audio_that_follows_it(self, talk):
        one = talk()
        one.visit.stream_audio(noise(3000))
        one.events.wait("media_play_start")
        one.visit.stream_audio(noise(200, 5), clear=True)
        assert one.events.wait("media_play_complete")["playedMs"] == 200
        assert stripped(bytes(one.line.heard)).endswith(noise(200, 5))

    def test_of_many(self, talk):
        one = talk(dialect="json", options=PLAIN)
        for _ in range(200):
            one.visit.play(noise(20))
        one.events.wait("media_play_complete", 5)
        one.visit.send({"event": "media.clear"})
        event = one.events.wait("media_cleared")
        done = len(one.events.of("media_play_complete"))
        assert event["plays"] + done == 200
        assert done * 20 + event["playedMs"] + event["clearedMs"] == pytest.approx(4000, abs=1)

    def test_of_nothing(self, talk):
        one = talk()
        one.visit.stream_audio(b"", clear=True)
        event = one.events.wait("media_cleared")
        assert (event["plays"], event["clearedMs"]) == (0, 0)

    def test_stop_clears(self, talk):
        one = talk()
        one.visit.stream_audio(noise(3000))
        one.events.wait("media_play_start")
        one.stop("enough")
        assert one.events.of("media_cleared")[0]["reason"] == "enough"


class TestUnderruns:
    def test_a_gap_in_a_sentence_is_one(self, talk):
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 20})
        one.visit.stream_audio(noise(100))
        one.events.wait("media_play_start")
        time.sleep(0.15)  # 50 ms of silence
        one.visit.stream_audio(noise(100))
        event = one.events.wait("stream_buffer_underrun")
        assert event["gapMs"] == pytest.approx(silent_ms(one.line), abs=21)
        assert one.events.wait("media_play_complete")["playedMs"] == 200
        assert one.streamer.describe()["underruns"] == 1

    def test_a_pause_between_sentences_is_none(self, talk):
        one = talk()
        for n in range(3):
            one.visit.stream_audio(noise(100))
            one.events.wait("media_play_complete", n + 1)
            time.sleep(0.3)
        assert one.events.of("stream_buffer_underrun") == []

    def test_the_prebuffer_follows_jitter(self, talk):
        """Frames that come in bursts: once it is known, they play without a gap."""
        one = talk()
        visit, source = one.visit, random.Random(3)
        start_s, standard_ms = time.monotonic(), one.streamer.describe()["prebufferMs"]
        for n in range(200):
            late_s = source.choice([0, 0, 0, 0.03, 0.045])
            time.sleep(max(0.0, start_s + n * 0.02 + late_s - time.monotonic()))
            visit.stream_audio(noise(20))
        assert standard_ms == 40
        assert one.streamer.describe()["prebufferMs"] >= 45 + 20
        assert len(one.events.of("stream_buffer_underrun")) < 10

    @pytest.mark.parametrize(
        ("options", "more", "prebuffer_ms"),
        [
            ({}, {"rate_hz": 8000, "dialect": "json", "bidirectional": False}, 20),
            ({}, {"rate_hz": 8000}, 40),
            ({}, {"rate_hz": 16000}, 80),
            ({"balanced_config": "800,1600,10"}, {"rate_hz": 8000}, 100),
            ({"buffer_low_watermark": 480}, {"rate_hz": 16000}, 60),
            ({"adaptive_buffer_enabled": "false"}, {"rate_hz": 16000}, 0),
        ],
    )
    def test_where_it_begins(self, talk, options, more, prebuffer_ms):
        one = talk(options=options, **more)
        one.events.wait("stream_started")
        assert one.streamer.describe()["prebufferMs"] == prebuffer_ms

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_long_message_is_not_jitter(self, talk, packed):
        """It comes in one piece, in however many it is queued."""
        one = talk(speed=4)
        if packed:
            one.visit.stream_audio(wav(noise(6000), 8000), audioDataType="wav")
        else:
            one.visit.stream_audio(noise(6000))
        one.events.wait("media_play_complete")
        assert one.streamer.describe()["prebufferMs"] == 40

    def test_a_prebuffer_that_is_set_stays(self, talk):
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 120})
        one.visit.stream_audio(noise(500))
        one.events.wait("media_play_complete")
        assert one.streamer.describe()["prebufferMs"] == 120


class TestBounds:
    def test_more_than_the_buffer_is_told_once(self, talk):
        one = talk(options={"STREAM_INJECT_BUFFER_MS": 1000})
        for _ in range(10):
            one.visit.stream_audio(noise(300))
        event = one.events.wait("stream_buffer_overrun")
        assert (event["direction"], event["limitMs"], event["refusedMs"]) == ("inject", 1000, 0)
        one.events.wait("media_play_complete")
        assert sum(event["ms"] for event in one.events.of("play")) == 3000
        assert len(one.events.of("stream_buffer_overrun")) == 1

    def test_strict_refuses_it(self, talk):
        one = talk(speed=5, options={"STREAM_INJECT_BUFFER_MS": 1000, "STREAM_INJECT_BUFFER_STRICT": True})
        for _ in range(2):
            one.visit.stream_audio(noise(900))
        assert one.events.wait("stream_buffer_overrun")["refusedMs"] == 900
        one.events.wait("media_play_complete")
        time.sleep(0.2)
        assert heard_ms(one.line) == 900
        one.visit.stream_audio(noise(900))
        one.events.wait("media_play_complete", 2)

    def test_what_is_refused_is_not_told_as_played(self, talk):
        """A checkpoint behind it was not reached."""
        one = talk(
            dialect="json", options={"STREAM_INJECT_BUFFER_MS": 500, "STREAM_INJECT_BUFFER_STRICT": True}
        )
        one.visit.play(noise(1000), checkpoint="too long")
        one.visit.play(noise(200), checkpoint="good")
        assert [one.events.wait("media_checkpoint", n)["reached"] for n in (1, 2)] == [False, True]
        one.visit.wait(lambda visit: len(visit.events("media.checkpoint")) == 2)
        told = [(event["name"], event["reached"]) for event in one.visit.events("media.checkpoint")]
        assert told == [("too long", False), ("good", True)]

    def test_a_checkpoint_alone_knows_of_what_was_refused(self, talk):
        one = talk(
            dialect="json", options={"STREAM_INJECT_BUFFER_MS": 500, "STREAM_INJECT_BUFFER_STRICT": True}
        )
        one.visit.play(noise(1000))
        one.visit.send({"event": "media.checkpoint", "payload": {"name": "after what was refused"}})
        one.visit.play(noise(100))
        one.visit.send({"event": "media.checkpoint", "payload": {"name": "after what was heard"}})
        assert [one.events.wait("media_checkpoint", n)["reached"] for n in (1, 2)] == [False, True]

    def test_many_small_values_are_refused(self, talk):
        """What a library would be busy with for half a second, and other calls would wait for."""
        one = talk()
        one.visit.send('{"x":[' + '{"a":1},' * 200_000 + "0]}")
        assert "longer than 1048576 bytes" in one.events.wait("stream_invalid_input")["error"]
        one.visit.send('{"x":123456789012345678901234567890}')
        assert one.events.wait("json") == {"x": pytest.approx(1.2345678901234568e29)}

    def test_too_long_a_message(self, talk):
        one = talk(options={"STREAM_MAX_AUDIO_BASE64_LEN": "64k"})
        one.visit.stream_audio(noise(10_000))
        assert "error" in one.events.wait("stream_invalid_input")
        one.visit.stream_audio(noise(100))
        one.events.wait("media_play_complete")

    def test_one_way_means_one_way(self, talk):
        one = talk(dialect="json", bidirectional=False)
        for _ in range(3):
            one.visit.play(noise(100))
            one.visit.send({"event": "media.clear"})
        one.visit.send({"event": "last"})
        one.events.wait("message_received")
        assert len(one.events.of("stream_invalid_input")) == 1
        assert "bidirectional" in one.events.of("stream_invalid_input")[0]["error"]
        assert not any(one.line.heard)

    def test_one_way_in_the_binary_dialect(self, talk):
        one = talk(dialect="json", bidirectional=False, options={"STREAM_DIALECT": "binary"})
        for _ in range(3):
            one.visit.stream_audio(noise(100))
            one.visit.send(noise(100))
            one.visit.stream_audio(b"", clear=True)
        one.visit.send({"type": "last"})
        assert one.events.wait("json") == {"type": "last"}
        assert len(one.events.of("stream_invalid_input")) == 1
        assert "bidirectional" in one.events.of("stream_invalid_input")[0]["error"]
        assert one.line.stream.stats().inject_queued_samples == 0
        assert one.streamer.describe()["queuedMs"] == 0
        assert not any(one.line.heard)
        assert not {"play", "media_play_start", "media_cleared"} & set(one.events.names())

    def test_garbage_does_no_harm(self, talk):
        one = talk(dialect="json", says=noise(2000))
        source = random.Random(5)
        for _ in range(200):
            one.visit.send("".join(chr(source.randint(1, 0x2FF)) for _ in range(source.randint(0, 60))))
        one.visit.send('{"event":"media.play","payload":{"audioData":"%%%","format":"LINEAR16"}}')
        one.visit.send({"event": "media.play", "streamId": "other", "payload": {"audioData": "AAAA"}})
        one.visit.send(b"\0\1\2")
        one.visit.send({"event": "alive"})
        one.events.until(
            lambda: any(told["message"] == {"event": "alive"} for told in one.events.of("message_received"))
        )
        invalid = one.events.of("stream_invalid_input")
        assert 1 <= len(invalid) <= 3
        one.visit.play(noise(100))
        one.events.wait("media_play_complete")


class TestPaused:
    def test_it_is_told(self, talk):
        one = talk()
        assert one.visit
        one.line.stream.pause("capture")
        assert one.events.wait("stream_paused")["capture"] is True
        one.line.stream.resume()
        assert one.events.wait("stream_resumed") | {"uuid": 0, "at": 0} == {
            "capture": True,
            "inject": False,
            "uuid": 0,
            "streamId": "main",
            "at": 0,
        }

    def test_playing_goes_on_where_it_was(self, talk):
        one = talk()
        one.visit.stream_audio(noise(400))
        one.events.wait("media_play_start")
        one.line.stream.pause("inject")
        time.sleep(0.4)
        assert one.events.of("media_play_complete") == []
        one.line.stream.resume()
        assert one.events.wait("media_play_complete")["playedMs"] == 400


class TestEndOfTalk:
    def test_what_is_queued_is_heard_after_the_server_has_gone(self, talk):
        one = talk()
        said = noise(600)
        one.visit.stream_audio(said)
        one.events.wait("media_play_start")
        one.visit.connection.close()
        assert one.over() == "closed by the server: 1000"
        assert stripped(bytes(one.line.heard)) == said
        names = one.events.names()
        assert names.index("disconnect") < names.index("media_play_complete") < names.index("stream_stopped")

    def test_it_is_heard_however_long_it_is(self, talk):
        """A graceful shutdown's limit is no limit to what a server has left behind."""
        one = talk(dialect="json", options={"STREAM_GRACEFUL_TIMEOUT_MS": 200})
        said = noise(1500)
        one.visit.play(said)
        one.events.wait("media_play_start")
        one.visit.connection.close()
        one.events.wait("connection_closed")
        with pytest.raises(StreamClosed):
            one.streamer.send_text("to nobody")
        assert one.over() == "closed by the server: 1000"
        assert stripped(bytes(one.line.heard)) == said
        assert one.events.of("stream_timeout") == []

    @pytest.mark.parametrize("how", ["file", "raw"])
    def test_also_what_is_not_queued_yet(self, talk, how):
        """Longer than the spare time after which a host that plays nothing is given up."""
        one = talk(options={"STREAM_MAX_AUDIO_BASE64_LEN": "16MB"})
        audio = bytes(12 * 2 * 44100) if how == "file" else bytes(12 * 2 * 48000)
        if how == "file":
            one.visit.stream_audio(wav(audio, 44100), audioDataType="wav")
        else:
            one.visit.stream_audio(audio, 48000)
        one.visit.connection.close(1000)
        assert one.events.wait("media_play_complete", timeout_s=20)["playedMs"] == 12_000
        assert one.over().startswith("closed by the server: 1000")

    def test_graceful_limits_it_when_asked_for(self, talk):
        one = talk(dialect="json", options={"STREAM_GRACEFUL_TIMEOUT_MS": 200})
        one.visit.play(noise(5000))
        one.events.wait("media_play_start")
        one.visit.connection.close()
        one.events.wait("connection_closed")
        one.streamer.stop("enough", graceful=True)
        assert one.over(1.5) == "closed by the server: 1000"
        assert one.events.of("stream_timeout")[0]["what"] == "graceful-shutdown"
        assert one.events.of("media_cleared")

    def test_a_host_that_has_stopped_ends_it(self):
        """What is queued and 5 s: nobody waits for ever."""
        with WireServer() as server:
            stream = HostStream.create("stopped-host")
            events = Events()
            streamer = Streamer(stream, server.url, on_event=events)
            server.visit().stream_audio(noise(100))
            events.wait("play")
            server.visit().connection.close()
            start_s = time.monotonic()
            assert streamer.wait(8)
            assert 4.5 < time.monotonic() - start_s < 6.5
            stream.close()

    def test_graceful_plays_what_is_queued(self, talk):
        one = talk(dialect="json")
        one.visit.play(noise(600))
        one.events.wait("media_play_start")
        one.streamer.stop("bye", graceful=True)
        assert one.over() == "bye"
        assert heard_ms(one.line) == 600
        assert one.events.of("media_play_complete")[0]["playedMs"] == 600
        one.visit.wait_closed()
        assert one.visit.events()[-1]["event"] == "stop"

    def test_graceful_has_a_limit(self, talk):
        one = talk(dialect="json", options={"STREAM_GRACEFUL_TIMEOUT_MS": 300})
        one.visit.play(noise(5000))
        one.events.wait("media_play_start")
        one.streamer.stop("bye", graceful=True)
        assert one.over(2) == "bye"
        assert one.events.of("stream_timeout")[0]["what"] == "graceful-shutdown"
        assert one.events.of("media_cleared")


def test_both_directions_at_once(talk):
    """What the caller says is not disturbed by what they hear."""
    says, hears = noise(3000, 1), noise(3000, 2)
    with WireServer() as server:
        one = talk(dialect="json", says=says, server=server, speed=4)
        one.visit.send(
            {
                "event": "media.play",
                "payload": {"audioData": base64.b64encode(hears).decode(), "sampleRate": 8000},
            }
        )
        one.events.wait("media_play_complete")
        one.visit.wait(lambda visit: len(visit.audio()) >= len(says))
        assert one.visit.audio() == says
        assert stripped(bytes(one.line.heard)) == hears
