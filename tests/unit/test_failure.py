"""The apology, and what becomes of a call that failed."""

from __future__ import annotations

import logging
import shutil
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


@pytest.fixture(autouse=True)
def forgetful():
    """Apologies are made once; here everybody gets their own."""
    failure.apology_audio.cache_clear()
    yield
    failure.apology_audio.cache_clear()


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

    def test_it_is_made_once(self, wav):
        first = failure.apology_audio("", str(wav))
        wav.unlink()
        assert failure.apology_audio("", str(wav)) is first


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
