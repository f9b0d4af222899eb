"""Local voices: espeak-ng, and a steady tone for tests that must not depend on it.

A voice is an espeak-ng voice name ("en", "en-us", "de", "en+f3", …) or "tone[:frequency_hz[:length_ms]]": a
sine, 350 ms per word unless a length is given. Functions are thread-safe; results are kept, since the same
lines are said again and again.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
from array import array
from functools import lru_cache

from ivr_ai.audio.formats import FormatError, read_wav
from ivr_ai.audio.resample import ResampleError, ResampleUnavailable, choose_backend, resample

DEFAULT_WPM = 165
_TONE_HZ = 440
_TONE_AMPLITUDE = 8000
_TONE_WORD_MS = 350
_ESPEAK_TIMEOUT_S = 30


class VoiceError(RuntimeError):
    """A voice cannot speak; the message says what to install or to change."""


def speak(text: str, rate_hz: int, voice: str = "en", wpm: int = DEFAULT_WPM) -> bytes:
    """Speaks `text` as s16 mono bytes at `rate_hz`, at `wpm` words per minute. Empty text gives b"".

    Takes tens of milliseconds the first time a text is said. Raises VoiceError.
    """
    if not text.strip():
        return b""
    if voice.partition(":")[0] == "tone":
        return _tone(*_tone_settings(voice, text), rate_hz)
    return _spoken_at(text, rate_hz, voice, wpm)


def spoken(text: str, voice: str = "en", wpm: int = DEFAULT_WPM) -> tuple[bytes, int]:
    """What espeak-ng says: s16 mono bytes, and their rate (22050 Hz for most voices). Raises VoiceError."""
    return _spoken(text, voice, wpm)


def check_voice(voice: str) -> None:
    """Raises VoiceError when this voice could not speak here; tries one word to find out."""
    if voice.partition(":")[0] == "tone":
        _tone_settings(voice, "")
        return
    _spoken("ready", voice, DEFAULT_WPM)
    try:
        choose_backend()
    except (ResampleError, ResampleUnavailable) as error:
        raise VoiceError(f"the voice {voice!r} has to be resampled: {error}") from error


def _tone_settings(voice: str, text: str) -> tuple[int, int]:
    """(frequency in Hz, length in ms)"""
    numbers = voice.split(":")[1:]
    if len(numbers) > 2 or not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise VoiceError(f'voice {voice!r}: a tone is "tone", "tone:440" or "tone:440:3000" (Hz, ms)')
    settings = [int(number) for number in numbers]
    return (settings or [_TONE_HZ])[0], settings[1] if len(settings) == 2 else len(
        text.split()
    ) * _TONE_WORD_MS


@lru_cache(maxsize=64)
def _tone(frequency_hz: int, length_ms: int, rate_hz: int) -> bytes:
    step = 2 * math.pi * frequency_hz / rate_hz
    return array(
        "h", (int(_TONE_AMPLITUDE * math.sin(step * i)) for i in range(rate_hz * length_ms // 1000))
    ).tobytes()


@lru_cache(maxsize=128)
def _spoken_at(text: str, rate_hz: int, voice: str, wpm: int) -> bytes:
    pcm, spoken_hz = _spoken(text, voice, wpm)
    return resample(pcm, spoken_hz, rate_hz)


@lru_cache(maxsize=128)
def _spoken(text: str, voice: str, wpm: int) -> tuple[bytes, int]:
    """What espeak-ng says, at its own rate (22050 Hz for most voices)."""
    command = [_espeak_path(), "-v", voice, "-s", str(wpm), "--stdin", "--stdout"]
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=_ESPEAK_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VoiceError(f"espeak-ng did not finish within {_ESPEAK_TIMEOUT_S} s") from error
    try:
        return read_wav(io.BytesIO(done.stdout))
    except FormatError as error:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise VoiceError(
            f"espeak-ng gave no audio with voice {voice!r}: {said} (espeak-ng --voices lists them)"
        ) from error


def _espeak_path() -> str:
    path = shutil.which("espeak-ng")
    if path is None:
        raise VoiceError('espeak-ng is not installed: apt-get install espeak-ng (or use the voice "tone")')
    return path
