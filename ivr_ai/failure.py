"""When the model cannot go on: an apology in a local voice, then what IVR_AI_FAILURE_ACTION says.

The apology is a WAV file, or text spoken by espeak-ng, or without either two low tones: a caller is never
left in silence. It is made once per text, at whatever rate it comes, and goes through the call's own stream,
which converts it, so that it is heard whatever else happens.
"""

from __future__ import annotations

import array
import logging
import math
import threading
import time
from functools import lru_cache

from ivr_ai.audio.formats import Format, read_wav
from ivr_ai.audio.stream import Stream
from ivr_ai.config import Settings
from ivr_ai.leg import Leg
from ivr_ai.tts.local_voice import spoken

log = logging.getLogger("ivr_ai.failure")

APOLOGY = "apology"  # the item under which it is queued
POLL_MS = 100
TONES_HZ = 8000
CAUSE = "NORMAL_TEMPORARY_FAILURE"


def tones() -> bytes:
    """Two low tones: what is left when nothing can speak. s16 at TONES_HZ."""
    tone = (int(6000 * math.sin(2 * math.pi * 330 * i / TONES_HZ)) for i in range(TONES_HZ // 4))
    pause = [0] * (TONES_HZ // 8)
    return array.array("h", [*tone, *pause]).tobytes() * 2


def _from_file(path: str) -> tuple[bytes, int]:
    try:
        return read_wav(path)
    except (OSError, ValueError, RuntimeError) as error:
        log.error("IVR_AI_APOLOGY_FILE %s cannot be played: %s", path, error)
        return b"", 0


def _spoken(text: str) -> tuple[bytes, int]:
    try:
        return spoken(text)
    except (OSError, ValueError, RuntimeError) as error:
        log.error("no voice for IVR_AI_APOLOGY_TEXT: %s", error)
        return b"", 0


@lru_cache(maxsize=8)
def apology_audio(text: str, path: str) -> tuple[bytes, int]:
    """The apology as s16, and its rate: the file, or else the text, or else tones."""
    audio = _from_file(path) if path else (b"", 0)
    audio = audio if audio[0] or not text.strip() else _spoken(text)
    return audio if audio[0] else (tones(), TONES_HZ)


def _made_elsewhere(leg: Leg, settings: Settings) -> tuple[bytes, int]:
    made: list[tuple[bytes, int]] = []
    wanted = (settings.apology_text, settings.apology_file)
    maker = threading.Thread(
        target=lambda: made.append(apology_audio(*wanted)), name="ivr-apology", daemon=True
    )
    maker.start()
    while maker.is_alive() and leg.ready():
        leg.sleep(20)
    return made[0] if made else (b"", TONES_HZ)


def speak_apology(leg: Leg, stream: Stream, settings: Settings) -> None:
    """Says the apology and waits until it has been heard, or the call is over. Raises StreamClosed.

    On the call's thread, whose stack is too small for making the audio: that is another thread's work.
    """
    if not settings.apology_text and not settings.apology_file:
        return
    audio, rate_hz = _made_elsewhere(leg, settings)
    stream.flush()
    stream.inject(audio, APOLOGY, Format("s16", rate_hz))
    stream.end(APOLOGY)
    deadline_s = time.monotonic() + len(audio) / 2 / rate_hz + 2.0
    while leg.ready() and not stream.mark(APOLOGY).finished and time.monotonic() < deadline_s:
        leg.sleep(POLL_MS)


def act(leg: Leg, settings: Settings) -> None:
    """Does what IVR_AI_FAILURE_ACTION says with a call that is still up."""
    if not leg.ready() or settings.failure_action == "return":
        return
    if settings.failure_action == "transfer":
        extension, dialplan, context = [*settings.failure_transfer.split(), "", ""][:3]
        leg.transfer(extension, dialplan or "XML", context)
    else:
        leg.hang_up(CAUSE)
