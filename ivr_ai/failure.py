"""When the model cannot go on: an apology in a local voice, then what IVR_AI_FAILURE_ACTION says.

    speak_apology    through the call's own stream, which converts it: heard whatever the host is doing
    play_apology     through the host's own player, for a call without a stream
    act              hang up, transfer, or go on in the dialplan

The apology is a WAV file, or text spoken by espeak-ng, or without either two low tones: a caller is never
left in silence. What could be made is kept; what could not is tried again with the next failure.
"""

from __future__ import annotations

import array
import atexit
import hashlib
import logging
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ivr_ai.audio.formats import Format, read_wav, write_wav
from ivr_ai.audio.stream import Stream, StreamNotFound, StreamStereo
from ivr_ai.config import Settings
from ivr_ai.leg import Leg
from ivr_ai.mod_python import CAUSE
from ivr_ai.tts.local_voice import spoken

log = logging.getLogger("ivr_ai.failure")

APOLOGY = "apology"  # the item under which it is queued
POLL_MS = 100
TONES_HZ = 8000
KEPT_FILES = 8

Audio = tuple[bytes, int]  # s16 mono, and its rate in Hz
Made = TypeVar("Made")
_NOTHING: Audio = (b"", 0)


def has_words(settings: Settings) -> bool:
    """Whether there is anything to say. Without it a call need not be answered in order to fail."""
    return bool(settings.apology_text.strip() or settings.apology_file.strip())


# ---- the audio ---------------------------------------------------------------------------------------------


def tones() -> bytes:
    """Two low tones: what is left when nothing can speak. s16 at TONES_HZ."""
    tone = (int(6000 * math.sin(2 * math.pi * 330 * i / TONES_HZ)) for i in range(TONES_HZ // 4))
    pause = [0] * (TONES_HZ // 8)
    return array.array("h", [*tone, *pause]).tobytes() * 2


class _Files:
    """The last sound files that were read, for as long as they stay as they are. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[tuple[str, int, int], Audio] = {}

    def read(self, path: str) -> Audio:
        """Raises OSError and ValueError; keeps neither."""
        status = os.stat(path)
        key = (path, status.st_mtime_ns, status.st_size)
        with self._lock:
            audio = self._read.get(key)
        if audio is None:
            audio = read_wav(path)
            if not audio[0]:
                raise ValueError("it has no audio")
            with self._lock:
                self._read[key] = audio
                while len(self._read) > KEPT_FILES:
                    del self._read[next(iter(self._read))]
        return audio


_files = _Files()


def _from_file(path: str) -> Audio:
    try:
        return _files.read(path)
    except (OSError, ValueError, RuntimeError) as error:
        log.error("IVR_AI_APOLOGY_FILE %s cannot be played: %s", path, error)
        return _NOTHING


def _spoken(text: str) -> Audio:
    try:
        return spoken(text)
    except (OSError, ValueError, RuntimeError) as error:
        log.error("no voice for IVR_AI_APOLOGY_TEXT: %s", error)
        return _NOTHING


def apology_audio(text: str, path: str) -> Audio:
    """The apology: the file, or else the text, or else tones. Takes tens of milliseconds the first time.

    A file is read again when its time of change or its size is another; espeak-ng's words are kept by
    ivr_ai.tts. Nothing that failed is kept. Any thread with a stack of 1 MiB.
    """
    audio = _from_file(path.strip()) if path.strip() else _NOTHING
    if not audio[0] and text.strip():
        audio = _spoken(text)
    return audio if audio[0] else (tones(), TONES_HZ)


class _Folder:
    """A private directory of WAV files for the host's player, made with the first and removed at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None

    def file(self, audio: bytes, rate_hz: int) -> Path:
        """The file with this audio, written the first time. Raises OSError."""
        name = hashlib.sha256(audio + rate_hz.to_bytes(4, "big")).hexdigest()[:20] + ".wav"
        with self._lock:
            if self._path is None or not self._path.is_dir():  # a cleaner of /tmp may have been there
                self._path = Path(tempfile.mkdtemp(prefix="ivr_ai-"))
                atexit.register(shutil.rmtree, self._path, ignore_errors=True)
            path = self._path / name
            if not path.exists():
                partial = path.with_suffix(".part")
                write_wav(partial, audio, rate_hz)
                partial.replace(path)
            return path


_folder = _Folder()


# ---- on a call ---------------------------------------------------------------------------------------------


def _made_elsewhere(leg: Leg, make: Callable[[], Made]) -> Made | None:
    """What make() returns, made on a thread with room for it; None when the call was over first, or make()
    failed.

    The call's own thread has a stack of 240 KB in FreeSWITCH, and must go on with the call's audio.
    """
    made: list[Made] = []

    def run() -> None:
        try:
            made.append(make())
        except Exception:
            log.exception("call %s: the apology could not be made", leg.uuid)

    maker = threading.Thread(target=run, name="ivr-apology", daemon=True)
    maker.start()
    while maker.is_alive() and leg.ready():
        leg.sleep(20)
    return made[0] if made else None


def speak_apology(leg: Leg, stream: Stream, settings: Settings) -> None:
    """Says the apology and waits until it has been heard, or the call is over. Raises StreamClosed.

    On the call's thread.
    """
    if not has_words(settings):
        return
    made = _made_elsewhere(leg, lambda: apology_audio(settings.apology_text, settings.apology_file))
    audio, rate_hz = made or (tones(), TONES_HZ)
    stream.flush()
    stream.inject(audio, APOLOGY, Format("s16", rate_hz))
    stream.end(APOLOGY)
    deadline_s = time.monotonic() + len(audio) / 2 / rate_hz + 2.0
    while leg.ready() and not stream.mark(APOLOGY).finished and time.monotonic() < deadline_s:
        leg.sleep(POLL_MS)


def should_apologise(leg: Leg, settings: Settings) -> bool:
    """Whether the caller is to hear the apology.

    Before the answer not when there is nothing to say, nor when the call is to be transferred: whoever sent
    the call here may still send it elsewhere, and an answer would take that from them.
    """
    if not leg.ready() or not has_words(settings):
        return False
    return leg.answered() or settings.failure_action != "transfer"


def stream_again(leg: Leg) -> Stream | None:
    """A new stream on a call whose stream was closed under it; None where there can be none."""
    try:
        return Stream.attach(leg.uuid, leg.open_stream())
    except (StreamNotFound, StreamStereo):
        return None


def play_apology(leg: Leg, settings: Settings) -> None:
    """Says the apology with the host's own player, for a call without a stream, and waits for its end.

    A call that has not been answered is not answered for this. On the call's thread. Raises nothing: what
    goes wrong is logged.
    """
    if not has_words(settings) or not leg.ready() or not leg.answered():
        return
    path = _made_elsewhere(
        leg, lambda: _folder.file(*apology_audio(settings.apology_text, settings.apology_file))
    )
    if path is None or not leg.ready():
        return
    try:
        leg.play(str(path))
    except Exception as error:  # the host's player: whatever it raises, the call ends as configured
        log.error("call %s: the apology cannot be played: %s", leg.uuid, error)


def act(leg: Leg, settings: Settings, cause: str = CAUSE) -> None:
    """Does what IVR_AI_FAILURE_ACTION says with a call that is still up. cause: of a hang-up.

    A call that has not been answered stays so: its caller's gateway gets the cause and may go on to another,
    and the extension of a transfer answers for itself.
    """
    if not leg.ready() or settings.failure_action == "return":
        return
    if settings.failure_action == "transfer":
        extension, dialplan, context = [*settings.failure_transfer.split(), "", ""][:3]
        leg.transfer(extension, dialplan or "XML", context)
    else:
        leg.hang_up(cause)
