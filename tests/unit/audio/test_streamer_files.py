"""Files that the server names or sends: decoded elsewhere, whole or in slices, and played in their turn."""

from __future__ import annotations

import base64
import itertools
import random
import time

import numpy as np
import pytest
from line import noise, stripped, tone
from support.packed import sound_file, wav

from ivr_ai.audio import g711

PLAIN = {"STREAM_INJECT_BUFFER_MS": 600000}


class TestFiles:
    def test_packed_audio_waits_its_turn(self, talk):
        """A file is decoded elsewhere; what comes after it is heard after it."""
        one = talk(speed=4, options=PLAIN)
        parts = [noise(300, seed) for seed in range(6)]
        for n, part in enumerate(parts):
            if n % 2 == 0:
                one.visit.stream_audio(wav(part, 8000), audioDataType="wav")
            elif n == 3:
                one.visit.send(part)
            else:
                one.visit.stream_audio(part)
        one.events.wait("media_play_complete", 6)
        assert stripped(bytes(one.line.heard)) == b"".join(parts)

    def test_utterances_behind_a_file_keep_their_formats(self, talk):
        one = talk(speed=4, options=PLAIN)
        first, second, third = noise(1500, 1), noise(300, 2), noise(300, 3)
        codes = bytes(random.Random(1).choices([n for n in range(256) if n not in (0x7F, 0xFF)], k=2400))
        one.visit.stream_audio(wav(first, 8000), audioDataType="wav")
        one.visit.send(second[:2001])
        one.visit.stream_audio(second[2001:])
        one.visit.stream_audio(codes, audioDataType="pcmu")
        one.visit.stream_audio(third)
        last = first + second + g711.pcmu_decode(codes) + third
        one.events.until(lambda: len(stripped(bytes(one.line.heard))) >= len(last))
        assert stripped(bytes(one.line.heard)) == last

    def test_clear_drops_what_is_being_decoded(self, talk):
        one = talk(speed=4, options=PLAIN)
        for _ in range(5):
            one.visit.stream_audio(wav(noise(5000), 8000), audioDataType="wav")
        one.visit.stream_audio(noise(200, 5), clear=True)
        one.events.wait("media_play_complete")
        time.sleep(0.3)
        assert stripped(bytes(one.line.heard)).endswith(noise(200, 5))
        assert one.events.of("media_cleared")

    @pytest.mark.parametrize("how", ["file", "raw"])
    def test_a_long_one_keeps_no_other_call_waiting(self, talk, server, tmp_path, how):
        """Minutes of audio to resample, on a thread that other calls share; and it is heard whole."""
        (tmp_path / "long.wav").write_bytes(wav(bytes(600 * 2 * 44100), 44100))
        options = {**PLAIN, "STREAM_MAX_AUDIO_BASE64_LEN": "64MB", "STREAM_ALLOW_FILE_INJECTION": True}
        one = talk(speed=40, options={**options, "file-injection-dir": tmp_path})
        others = [talk(says=noise(60_000), server=server) for _ in range(4)]  # some share the thread
        for other in others:
            other.events.wait("stream_started")
        if how == "file":
            one.visit.send({"type": "streamAudio", "data": {"file": "long.wav"}})
        else:
            one.visit.stream_audio(bytes(360 * 2 * 48000), 48000)
        played = one.events.wait("media_play_complete", timeout_s=30)
        whole_ms = 600_000 if how == "file" else 360_000
        assert played["playedMs"] == pytest.approx(whole_ms, abs=50)  # a line so fast runs dry between slices
        for visit in server.visits:
            assert max(b - a for a, b in itertools.pairwise(visit.times_s)) < 1.0

    @pytest.mark.parametrize("kind", ["mp3", "ogg"])
    def test_packed_more_tightly(self, talk, tmp_path, kind):
        one = talk()
        packed = sound_file(tmp_path / "tone", kind, tone(1000, 24000), 24000)
        one.visit.stream_audio(packed, audioDataType=kind)
        assert one.events.wait("media_play_complete")["playedMs"] == pytest.approx(1000, abs=100)
        heard = np.frombuffer(stripped(bytes(one.line.heard)), "<i2").astype(float)
        assert np.abs(np.fft.rfft(heard[800:7200])).argmax() * 8000 / 6400 == pytest.approx(440, abs=5)

    def test_half_a_sample_before_one_is_dropped(self, talk):
        """What is left of a binary message does not shift a file, or audio of another rate, by a byte."""
        one = talk()
        one.visit.send(tone(100)[:-1])
        one.visit.stream_audio(wav(tone(300), 8000), audioDataType="wav")
        one.visit.stream_audio(tone(300, 16000), 16000)
        one.events.wait("media_play_complete", 3)
        heard = np.frombuffer(bytes(one.line.heard), "<i2").astype(int)
        assert np.abs(np.diff(heard)).max() < 8000  # a shifted byte is noise at full scale

    def test_nor_half_a_sample_after_one(self, talk, tmp_path):
        (tmp_path / "odd.raw").write_bytes(tone(300)[:-1])
        options = {"STREAM_ALLOW_FILE_INJECTION": True, "file-injection-dir": tmp_path}
        one = talk(options=options)
        file = {"file": "odd.raw", "audioDataType": "raw", "sampleRate": 8000}
        one.visit.send({"type": "streamAudio", "data": file})
        one.visit.stream_audio(tone(300))
        one.events.wait("media_play_complete", 2)
        heard = np.frombuffer(bytes(one.line.heard), "<i2").astype(int)
        assert np.abs(np.diff(heard)).max() < 8000

    def test_what_is_decoded_for_nobody_holds_up_nothing(self, talk):
        """A clear, and more than a moment of audio that needs no decoding."""
        one = talk(options={**PLAIN, "STREAM_MAX_AUDIO_BASE64_LEN": "64MB"})
        one.visit.stream_audio(wav(bytes(400 * 2 * 44100), 44100), audioDataType="wav")
        start_s = time.monotonic()
        one.visit.stream_audio(noise(3000), clear=True)
        one.events.wait("media_play_start")
        told_s = time.monotonic() - start_s
        assert told_s < 1.0
        assert one.events.of("media_play_start")[0]["playId"] == 2

    def test_a_broken_file(self, talk):
        one = talk(dialect="json")
        one.visit.play(b"RIFF but no more than that", format="wav", checkpoint="not heard")
        one.events.wait("stream_invalid_input")
        assert one.events.wait("media_checkpoint")["reached"] is False
        one.visit.play(noise(100))
        assert one.events.wait("media_play_complete")["playedMs"] == 100

    def test_a_broken_file_in_the_binary_dialect(self, talk):
        one = talk()
        one.visit.stream_audio(b"RIFF but no more than that", audioDataType="wav")
        one.events.wait("stream_invalid_input")
        one.visit.stream_audio(noise(100))
        assert one.events.wait("media_play_complete")["playedMs"] == 100

    def test_from_the_directory_and_only_from_there(self, talk, tmp_path):
        sounds = tmp_path / "sounds"
        sounds.mkdir()
        (sounds / "hello.wav").write_bytes(wav(noise(300), 8000))
        (tmp_path / "secret.wav").write_bytes(wav(noise(300), 8000))
        options = {"STREAM_ALLOW_FILE_INJECTION": True, "file-injection-dir": sounds}
        one = talk(options=options)
        one.visit.send({"type": "streamAudio", "data": {"file": "hello.wav"}})
        assert one.events.wait("media_play_complete")["playedMs"] == 300
        one.visit.send({"type": "streamAudio", "data": {"file": "../secret.wav"}})
        one.events.wait("stream_invalid_input")

    def test_not_unless_allowed(self, talk):
        one = talk()
        one.visit.send({"type": "streamAudio", "data": {"file": "/etc/passwd"}})
        assert "STREAM_ALLOW_FILE_INJECTION" in one.events.wait("stream_invalid_input")["error"]


def slices_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def play_packed(one, dialect: str, data: bytes, kind: str, **more) -> None:
    """One message of packed audio."""
    text = base64.b64encode(data).decode()
    if dialect == "json":
        one.visit.send({"event": "media.play", "payload": {"audioData": text, "format": kind, **more}})
    else:
        one.visit.send({"type": "streamAudio", "data": {"audioDataType": kind, "audioData": text, **more}})


def heard_ms(line) -> int:
    """How much has been heard that is not silence."""
    heard = np.frombuffer(bytes(line.heard), "<i2").astype(float)
    frames = heard[: len(heard) // 80 * 80].reshape(-1, 80)
    return int((np.sqrt((frames**2).mean(1)) > 1000).sum()) * 10


def is_one_tone(line, hz: int = 440) -> bool:
    """Is all that has been heard this tone, without a break?"""
    heard = np.frombuffer(stripped(bytes(line.heard)), "<i2").astype(float)
    power = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(heard), 1 / 8000) - hz) < 40
    return power[near].sum() / power.sum() > 0.98 and heard_ms(line) >= len(heard) // 80 * 10 - 30


class TestSlices:
    """One file in many messages, as speech services stream it."""

    @pytest.mark.parametrize("size", [100, 417, 1024, 4096])
    @pytest.mark.parametrize("kind", ["mp3", "ogg"])
    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_they_are_heard_as_one(self, talk, tmp_path, dialect, kind, size):
        packed = sound_file(tmp_path / "tone", kind, tone(1200, 24000), 24000)
        one = talk(dialect=dialect, speed=2, options=PLAIN)
        for slice_ in slices_of(packed, size):
            play_packed(one, dialect, slice_, kind)
        one.events.until(lambda: heard_ms(one.line) >= 1150)
        assert is_one_tone(one.line)
        assert one.events.of("stream_invalid_input") == []

    @pytest.mark.parametrize("kind", ["mp3", "ogg"])
    def test_as_they_come(self, talk, tmp_path, kind):
        """Slices as long as they take to be heard: each is played before the next one is there."""
        packed = sound_file(tmp_path / "tone", kind, tone(2000, 24000), 24000)
        one = talk(options={"STREAM_INJECT_MIN_BUFFER_MS": 400})
        start_s = time.monotonic()
        for n, slice_ in enumerate(slices_of(packed, len(packed) // 20)):
            time.sleep(max(0.0, start_s + n * 0.1 - time.monotonic()))
            play_packed(one, "binary", slice_, kind)
            if n == 15 and kind == "mp3":  # this Ogg file has pages of a second
                assert heard_ms(one.line) > 200, "it is heard while it comes"
        one.events.until(lambda: heard_ms(one.line) >= 1950)
        assert is_one_tone(one.line)

    @pytest.mark.parametrize("kind", ["mp3", "ogg"])
    def test_a_checkpoint_behind_the_last_one(self, talk, tmp_path, kind):
        packed = sound_file(tmp_path / "tone", kind, tone(800, 24000), 24000)
        one = talk(dialect="json", speed=2, options=PLAIN)
        *first, last = slices_of(packed, 700)
        for slice_ in first:
            play_packed(one, "json", slice_, kind)
        play_packed(one, "json", last, kind, checkpoint="spoken")
        assert one.events.wait("media_checkpoint") | {"at": 0, "uuid": ""} == {
            "name": "spoken", "reached": True, "streamId": "main", "at": 0, "uuid": "",
        }  # fmt: skip
        played = sum(event["playedMs"] for event in one.events.of("media_play_complete"))
        assert played == pytest.approx(800, abs=60)

    @pytest.mark.parametrize("between", ["a checkpoint", "raw audio", "a clear", "another kind"])
    def test_what_ends_a_file(self, talk, tmp_path, between):
        """The rest of it is refused then, and another file is heard from its beginning."""
        packed = sound_file(tmp_path / "tone", "mp3", tone(900, 24000), 24000)
        one = talk(dialect="json", speed=2, options=PLAIN)
        half = len(packed) // 2 + 50
        play_packed(one, "json", packed[:half], "mp3")
        if between == "a checkpoint":
            one.visit.send({"event": "media.checkpoint", "payload": {"name": "here"}})
        elif between == "raw audio":
            one.visit.play(bytes(3200))
        elif between == "a clear":
            one.visit.send({"event": "media.clear"})
        else:
            play_packed(one, "json", sound_file(tmp_path / "other", "ogg", tone(300, 16000), 16000), "ogg")
        play_packed(one, "json", packed[half:], "mp3")
        assert "MP3" in one.events.wait("stream_invalid_input")["error"]
        play_packed(one, "json", packed, "mp3", checkpoint="whole")
        one.events.until(
            lambda: [body for body in one.events.of("media_checkpoint") if body["name"] == "whole"]
        )
        assert one.events.of("media_play_complete")[-1]["playedMs"] == pytest.approx(900, abs=60)

    @pytest.mark.parametrize("kind", ["mp3", "ogg"])
    def test_one_file_behind_the_other(self, talk, tmp_path, kind):
        packed = sound_file(tmp_path / "tone", kind, tone(500, 24000), 24000)
        one = talk(speed=2, options=PLAIN)
        for slice_ in slices_of(packed * 3, 1000):
            play_packed(one, "binary", slice_, kind)
        one.events.until(lambda: heard_ms(one.line) >= 1430)
        assert one.events.of("stream_invalid_input") == []

    def test_a_sentence_broken_off_does_not_spoil_the_next(self, talk, tmp_path):
        packed = sound_file(tmp_path / "tone", "mp3", tone(900, 24000), 24000)
        one = talk(speed=2, options=PLAIN)
        play_packed(one, "binary", packed[: len(packed) // 2 + 31], "mp3")
        play_packed(one, "binary", packed, "mp3")
        one.events.wait("media_play_complete", 2)
        heard = np.frombuffer(bytes(one.line.heard), "<i2").astype(int)
        assert np.abs(heard).max() < 10_000  # 8000 was sent; a frame of two halves is louder
        assert [event["playedMs"] for event in one.events.of("media_play_complete")][1] == 900

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_other_files_in_between(self, talk, tmp_path, dialect):
        """WAV files called MP3 are what they are."""
        packed = sound_file(tmp_path / "tone", "mp3", tone(400, 24000), 24000)
        one = talk(dialect=dialect, speed=2, options=PLAIN)
        for data in (packed, wav(tone(300), 8000), packed):
            play_packed(one, dialect, data, "mp3")
        one.events.wait("media_play_complete", 3)
        played = [event["playedMs"] for event in one.events.of("media_play_complete")]
        assert played == [pytest.approx(400, abs=60), 300, pytest.approx(400, abs=60)]

    @pytest.mark.parametrize("kind", ["mp3", "ogg"])
    def test_what_has_no_audio_is_told(self, talk, kind):
        nothing = b"ID3\4\0\0\0\0\0\0" if kind == "mp3" else b"OggS and no more"
        one = talk(dialect="json")
        play_packed(one, "json", nothing, kind, checkpoint="not heard")
        assert "has no audio in it" in one.events.wait("stream_invalid_input")["error"]
        assert one.events.wait("media_checkpoint")["reached"] is False
        play_packed(one, "json", nothing, kind)
        one.events.until(lambda: len(one.events.of("stream_invalid_input")) == 2)

    def test_more_than_can_be_held(self, talk, tmp_path):
        """It is told; what is said afterwards is heard."""
        packed = sound_file(tmp_path / "tone", "mp3", tone(60_000, 24000), 24000)
        one = talk(speed=20, options={**PLAIN, "STREAM_MAX_AUDIO_BASE64_LEN": "64MB"})
        play_packed(one, "binary", packed * 30, "mp3")
        assert "longer than 1200.0 s" in one.events.wait("stream_invalid_input")["error"]
        one.visit.stream_audio(noise(100))
        one.events.until(lambda: bytes(one.line.heard).rstrip(b"\0").endswith(noise(100)))
