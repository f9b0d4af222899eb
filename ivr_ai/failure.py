"""When the model cannot go on: an apology in a local voice, then what IVR_AI_FAILURE_ACTION says.

The apology is a WAV file, or text spoken by espeak-ng, or without either two low tones: a caller is never
left in silence. It is made once per text and rate, and goes through the call's own stream, so that it is
heard whatever else happens.
"""

from __future__ import annotations

import array
import logging
import math
import threading
import time
from functools import lru_cache
from typing import Any

from ivr_ai.audio.formats import Format, read_wav
from ivr_ai.audio.resample import resample
from ivr_ai.audio.stream import Stream
from ivr_ai.config import Settings
from ivr_ai.sim.voices import speak

log = logging.getLogger("ivr_ai.failure")

APOLOGY = "apology"  # the item under which it is queued
POLL_MS = 100
CAUSE = "NORMAL_TEMPORARY_FAILURE"


def tones(rate_hz: int) -> bytes:
    """Two low tones: what is left when nothing can speak. s16."""
    tone = (int(6000 * math.sin(2 * math.pi * 330 * i / rate_hz)) for i in range(rate_hz // 4))
    pause = [0] * (rate_hz // 8)
    return array.array("h", [*tone, *pause]).tobytes() * 2


def _from_file(path: str, rate_hz: int) -> bytes:
    try:
        pcm, file_rate_hz = read_wav(path)
        return resample(pcm, file_rate_hz, rate_hz)
    except (OSError, ValueError, RuntimeError) as error:
        log.error("IVR_AI_APOLOGY_FILE %s cannot be played: %s", path, error)
        return b""


def _spoken(text: str, rate_hz: int) -> bytes:
    try:
        return speak(text, rate_hz)
    except (OSError, ValueError, RuntimeError) as error:
        log.error("no voice for IVR_AI_APOLOGY_TEXT: %s", error)
        return b""


@lru_cache(maxsize=8)
def apology_audio(text: str, path: str, rate_hz: int) -> bytes:
    """The apology as s16 at rate_hz: the file, or else the text, or else tones."""
    return (path and _from_file(path, rate_hz)) or _spoken(text, rate_hz) or tones(rate_hz)


def _made_elsewhere(session: Any, settings: Settings, rate_hz: int) -> bytes:
    made: list[bytes] = []
    wanted = (settings.apology_text, settings.apology_file, rate_hz)
    maker = threading.Thread(
        target=lambda: made.append(apology_audio(*wanted)), name="ivr-apology", daemon=True
    )
    maker.start()
    while maker.is_alive() and session.ready():
        session.sleep(20)
    return made[0] if made else b""


def speak_apology(session: Any, stream: Stream, settings: Settings) -> None:
    """Says the apology and waits until it has been heard, or the call is over. Raises StreamClosed.

    On the session's thread, whose stack is too small for making the audio: that is another thread's work.
    """
    if not settings.apology_text and not settings.apology_file:
        return
    audio = _made_elsewhere(session, settings, stream.rate_hz)
    stream.flush()
    stream.inject(audio, APOLOGY, Format("s16", stream.rate_hz))
    stream.end(APOLOGY)
    deadline_s = time.monotonic() + len(audio) / 2 / stream.rate_hz + 2.0
    while session.ready() and not stream.mark(APOLOGY).finished and time.monotonic() < deadline_s:
        session.sleep(POLL_MS)


def act(session: Any, settings: Settings) -> None:
    """Does what IVR_AI_FAILURE_ACTION says with a call that is still up."""
    if not session.ready() or settings.failure_action == "return":
        return
    if settings.failure_action == "transfer":
        extension, dialplan, context = [*settings.failure_transfer.split(), "", ""][:3]
        session.transfer(extension, dialplan or "XML", context or session.getVariable("context") or "default")
    else:
        session.hangup(CAUSE)
