"""The apology, and what becomes of a call that failed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from array import array
from pathlib import Path

import pytest

from ivr_ai import failure
from ivr_ai.audio.formats import Format, write_wav
from ivr_ai.audio.stream import Stream, StreamClosed
from ivr_ai.config import Settings
from ivr_ai.gateways.caller import Hangup
from ivr_ai.gateways.embedded_session import Transfer
from ivr_ai.leg import leg_of

S16 = Format("s16", 8000)
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")


def ramp(ms: int, rate_hz: int = 8000) -> bytes:
    """Loud, and different from sample to sample."""
    return array("h", ((n * 37) % 16000 - 8000 for n in range(rate_hz * ms // 1000))).tobytes()


@pytest.fixture
def wav(tmp_path) -> Path:
    path = tmp_path / "sorry.wav"
    write_wav(path, ramp(300), 8000)
    return path


def settings(**changed) -> Settings:
    return Settings(**{"realtime_url": "ws://localhost/", **changed})


class TestAudio:
    def test_a_file_as_it_is(self, wav):
        assert failure.apology_audio("not this", str(wav)) == (ramp(300), 8000)

    @needs_espeak
    def test_a_local_voice(self):
        pcm, rate_hz = failure.apology_audio("Sorry about that.", "")
        assert 0.3 < len(pcm) / 2 / rate_hz < 5
        assert max(array("h", pcm)) > 1000

    @needs_espeak
    @pytest.mark.parametrize("content", [None, b"this is no WAV file", b""], ids=["missing", "junk", "empty"])
    def test_a_file_that_cannot_be_played_leaves_the_voice(self, tmp_path, caplog, content):
        path = tmp_path / "sorry.wav"
        if content is not None:
            path.write_bytes(content)
        spoken = failure.apology_audio("Sorry.", "")
        assert failure.apology_audio("Sorry.", str(path)) == spoken
        assert f"IVR_AI_APOLOGY_FILE {path} cannot be played" in caplog.text

    def test_without_a_voice_there_are_tones(self, monkeypatch, tmp_path, caplog):
        monkeypatch.setenv("PATH", str(tmp_path))
        audio = failure.apology_audio("Nobody can say this one.", "")
        assert audio == (failure.tones(), failure.TONES_HZ)
        assert "no voice for IVR_AI_APOLOGY_TEXT: espeak-ng is not installed" in caplog.text

    def test_a_bad_file_and_no_text_is_not_silence(self, tmp_path):
        assert failure.apology_audio("", str(tmp_path / "none.wav"))[0] == failure.tones()

    def test_the_tones(self):
        samples = array("h", failure.tones())
        assert len(samples) == pytest.approx(0.75 * failure.TONES_HZ, rel=0.01)
        assert 5000 < max(samples) < 8000

    def test_a_file_is_read_once_while_it_stays_as_it_is(self, wav, monkeypatch):
        first = failure.apology_audio("", str(wav))
        monkeypatch.setattr(failure, "read_wav", lambda path: pytest.fail("read again"))
        assert failure.apology_audio("", str(wav)) is first

    def test_a_file_that_was_changed_is_read_again(self, wav):
        assert failure.apology_audio("", str(wav)) == (ramp(300), 8000)
        write_wav(wav, ramp(500), 8000)
        assert failure.apology_audio("", str(wav)) == (ramp(500), 8000)

    def test_a_file_put_right_later_is_used(self, tmp_path):
        path = tmp_path / "sorry.wav"
        assert failure.apology_audio("", str(path))[0] == failure.tones()
        path.write_bytes(b"junk")
        assert failure.apology_audio("", str(path))[0] == failure.tones()
        write_wav(path, ramp(300), 8000)
        assert failure.apology_audio("", str(path)) == (ramp(300), 8000)

    def test_a_voice_that_failed_once_is_tried_again(self, monkeypatch):
        def fails(text):
            raise RuntimeError("espeak-ng did not finish within 30 s")

        with monkeypatch.context() as patch:
            patch.setattr(failure, "spoken", fails)
            assert failure.apology_audio("Sorry.", "")[0] == failure.tones()
        monkeypatch.setattr(failure, "spoken", lambda text: (ramp(100), 8000))
        assert failure.apology_audio("Sorry.", "") == (ramp(100), 8000)

    def test_few_files_are_kept(self, tmp_path):
        for number in range(3 * failure.KEPT_FILES):
            path = tmp_path / f"{number}.wav"
            write_wav(path, ramp(100 + number), 8000)
            failure.apology_audio("", str(path))
        assert len(failure._files._read) == failure.KEPT_FILES

    @pytest.mark.parametrize(
        ("text", "file", "words"),
        [("", "", False), ("  ", " ", False), ("Sorry.", "", True), ("", "sorry.wav", True)],
    )
    def test_whether_there_are_words(self, text, file, words):
        assert failure.has_words(settings(apology_text=text, apology_file=file)) is words


class TestSpeaking:
    """On a real call: what the caller hears of it."""

    def apologise(self, fast_host, chosen: Settings, script=(), before=lambda stream: None):
        """Runs speak_apology() in a call; returns its record and how long it took, in media time."""

        def handler(session, args) -> int:
            session.execute("uuid_audio_stream", "start embedded")
            session.answer()
            stream = Stream.attach(session.get_uuid())
            before(stream)
            start_ticks = stream.stats().inject_ticks
            failure.speak_apology(leg_of(session), stream, chosen)
            return (stream.stats().inject_ticks - start_ticks) * 20

        return fast_host.place_call(handler, script, wire="s16", quiet_ms=300)

    def test_it_is_heard_to_its_end(self, fast_host, wav):
        record = self.apologise(fast_host, settings(apology_file=str(wav)))
        assert ramp(300) in record.recording.ai
        assert record.result >= 300

    def test_at_once_whatever_else_was_queued(self, fast_host, wav):
        def queue(stream: Stream) -> None:
            stream.inject(bytes(b"\x10\x10" * 8000 * 60), "a long reply", S16)

        record = self.apologise(fast_host, settings(apology_file=str(wav)), before=queue)
        assert ramp(300) in record.recording.ai
        assert record.result < 2000

    def test_silence_when_that_is_wanted(self, fast_host):
        record = self.apologise(fast_host, settings(apology_text="", apology_file=""))
        assert not any(record.recording.ai)
        assert record.result <= 100

    def test_a_caller_who_hangs_up_does_not_hear_it_out(self, fast_host, tmp_path):
        path = tmp_path / "long.wav"
        write_wav(path, ramp(60_000), 8000)
        start_s = time.monotonic()
        record = self.apologise(fast_host, settings(apology_file=str(path)), [Hangup(after=0.5)])
        assert record.recording.duration_s < 10
        assert time.monotonic() - start_s < 10

    def test_a_stream_that_has_ended(self, fast_host, wav):
        with pytest.raises(StreamClosed):
            self.apologise(fast_host, settings(apology_file=str(wav)), before=lambda stream: stream.close())


class TestPlaying:
    """Without a stream: the host's own player."""

    def apologise(self, fast_host, chosen: Settings, script=(), before=lambda session: session.answer()):
        def handler(session, args) -> None:
            before(session)
            failure.play_apology(leg_of(session), chosen)

        return fast_host.place_call(handler, script, wire="s16", quiet_ms=300)

    def test_it_is_heard_to_its_end(self, fast_host, wav):
        record = self.apologise(fast_host, settings(apology_file=str(wav)))
        assert ramp(300) in record.recording.ai

    def test_it_is_written_once_for_the_owner_alone(self, fast_host, wav):
        for _ in range(2):
            self.apologise(fast_host, settings(apology_file=str(wav)))
        folder = failure._folder._path
        files = [path for path in folder.iterdir() if path.stat().st_size == wav.stat().st_size]
        assert len(files) == 1
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_a_folder_that_somebody_removed_is_made_again(self, fast_host, wav):
        self.apologise(fast_host, settings(apology_file=str(wav)))
        shutil.rmtree(failure._folder._path)
        record = self.apologise(fast_host, settings(apology_file=str(wav)))
        assert ramp(300) in record.recording.ai

    def test_it_is_gone_with_the_process(self):
        code = """
from ivr_ai import failure
print(failure._folder.file(failure.tones(), 8000).parent)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not Path(done.stdout.strip()).exists()

    def test_silence_when_that_is_wanted(self, fast_host, monkeypatch):
        monkeypatch.setattr(failure, "apology_audio", lambda *wanted: pytest.fail("made"))
        record = self.apologise(fast_host, settings(apology_text="", apology_file=""))
        assert not any(record.recording.ai)

    def test_a_call_that_is_over_is_left_alone(self, fast_host, wav):
        record = self.apologise(
            fast_host,
            settings(apology_file=str(wav)),
            before=lambda session: session.hang_up("ORIGINATOR_CANCEL", "caller"),
        )
        assert record.error is None

    def test_a_player_that_fails_is_logged(self, wav, caplog):
        class Deaf:
            uuid = "call-1"

            def ready(self) -> bool:
                return True

            answered = ready

            def sleep(self, ms: int) -> None:
                time.sleep(ms / 1000)

            def play(self, path: str) -> None:
                raise OSError("no such format")

        failure.play_apology(Deaf(), settings(apology_file=str(wav)))
        assert "call call-1: the apology cannot be played: no such format" in caplog.text

    def test_a_disk_that_is_full_is_logged(self, fast_host, wav, monkeypatch, caplog):
        def full(*arguments, **more):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(failure, "_folder", failure._Folder())
        monkeypatch.setattr(failure.tempfile, "mkdtemp", full)
        self.apologise(fast_host, settings(apology_file=str(wav)))
        assert "the apology could not be made" in caplog.text
        assert "No space left on device" in caplog.text


class TestActing:
    def act(self, fast_host, before=lambda session: None, variables=None, **changed):
        """What act() does with a call; returns its record."""

        def handler(session, args) -> bool:
            before(session)
            failure.act(leg_of(session), settings(**changed))
            return session.ready()

        return fast_host.place_call(handler, variables=variables or {})

    def test_hangup(self, fast_host):
        record = self.act(fast_host)
        assert record.result is False
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"

    def test_hangup_with_another_cause(self, fast_host):
        def handler(session, args) -> None:
            failure.act(leg_of(session), settings(), "SWITCH_CONGESTION")

        assert fast_host.place_call(handler).session.hangupCause() == "SWITCH_CONGESTION"

    @pytest.mark.parametrize("action", ["hangup", "transfer", "return"])
    def test_nothing_of_it_answers(self, fast_host, action):
        record = self.act(fast_host, failure_action=action, failure_transfer="5000")
        assert not record.session.answered()

    def test_return(self, fast_host):
        record = self.act(fast_host, failure_action="return")
        assert record.result is True

    @pytest.mark.parametrize(
        ("where", "variables", "transfer"),
        [
            ("5000", {}, Transfer("5000", "XML", "default")),
            ("5000", {"context": "public"}, Transfer("5000", "XML", "public")),
            ("5000 enum", {"context": "public"}, Transfer("5000", "enum", "public")),
            ("5000 XML desk", {"context": "public"}, Transfer("5000", "XML", "desk")),
        ],
    )
    def test_transfer(self, fast_host, where, variables, transfer):
        chosen = {"failure_action": "transfer", "failure_transfer": where}
        record = self.act(fast_host, variables=variables, **chosen)
        assert record.session.transferred == transfer

    def test_nothing_on_a_call_that_is_over(self, fast_host):
        record = self.act(fast_host, before=lambda session: session.hang_up("ORIGINATOR_CANCEL", "caller"))
        assert record.session.hangupCause() == "ORIGINATOR_CANCEL"


def test_problems_are_logged_as_errors(tmp_path, caplog):
    with caplog.at_level(logging.ERROR, "ivr_ai.failure"):
        failure.apology_audio("", str(tmp_path / "none.wav"))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
