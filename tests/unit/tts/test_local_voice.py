"""Voices: the tone everywhere, espeak-ng where it is installed."""

from __future__ import annotations

import shutil
from array import array
from itertools import pairwise

import pytest

from ivr_ai.tts import local_voice as voices
from ivr_ai.tts.local_voice import VoiceError, check_voice, speak

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def test_a_tone_is_steady_and_as_long_as_asked_for() -> None:
    samples = array("h", speak("anything", 8000, "tone:400:1000"))
    assert len(samples) == 8000
    assert max(samples) == 8000
    crossings = sum(a < 0 <= b for a, b in pairwise(samples))
    assert crossings in (399, 400)


def test_a_tone_lasts_by_the_word() -> None:
    assert len(speak("three short words", 8000, "tone")) == 3 * 350 * 16


def test_nothing_to_say() -> None:
    assert speak("", 8000, "en") == speak("  \n", 8000, "tone") == b""


@pytest.mark.parametrize("voice", ["tone:", "tone:low", "tone:440:1:2", "tone:0", "tone:-1"])
def test_bad_tones(voice: str) -> None:
    with pytest.raises(VoiceError, match="a tone is"):
        speak("x", 8000, voice)


@needs_espeak
def test_espeak_speaks_at_any_rate_and_speed() -> None:
    normal = speak("Good morning to you all.", 8000)
    assert 0.8 < len(normal) / 16000 < 3.0, "seconds"
    assert max(map(abs, array("h", normal))) > 3000
    wide = speak("Good morning to you all.", 24000)
    assert abs(len(wide) - 3 * len(normal)) <= 6
    assert len(speak("Good morning to you all.", 8000, wpm=300)) < 0.8 * len(normal)
    assert speak("Good morning to you all.", 8000) is normal, "kept"


@needs_espeak
def test_text_is_never_an_option() -> None:
    assert len(speak("--version", 8000)) > 1000


@needs_espeak
def test_a_voice_that_cannot_be_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESAMPLE_BACKEND", "none")
    with pytest.raises(VoiceError, match="has to be resampled: RESAMPLE_BACKEND='none' is unknown"):
        check_voice("en")


@needs_espeak
def test_unknown_voices_are_named() -> None:
    with pytest.raises(VoiceError, match="'klingonese'"):
        speak("x", 8000, "klingonese")


def test_missing_espeak_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices.shutil, "which", lambda name: None)
    with pytest.raises(VoiceError, match="apt-get install espeak-ng"):
        check_voice("en+f5")
    with pytest.raises(VoiceError, match="apt-get install espeak-ng"):
        speak("never said before", 8000)
    check_voice("tone:440:100")
