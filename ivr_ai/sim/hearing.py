"""Hears where speech begins and ends in the caller's audio, as the service's turn detection would tell it.

No I/O and no clock: time is counted in the audio appended. Two ears: "energy", a level against a threshold,
works everywhere and is deterministic; "webrtc" needs `pip install webrtcvad-wheels` and tells speech from
other noise. Not thread-safe.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FRAME_MS = 20
ONSET_MS = 40  # speech for so long starts a turn: one loud frame is a click
ANALYSIS_HZ = 8000

# The level that stands for a server_vad threshold: 0 is -60 dBFS, the default 0.5 -38 dBFS, 1 -16 dBFS.
_QUIETEST_DBFS = -60
_THRESHOLD_SPAN_DB = 44
_RELEASE_DB = -6  # speech goes on down to this much below the threshold

# Fixed pauses in place of the model's judgement whether a sentence is over.
_SEMANTIC_SILENCE_MS = {"low": 1600, "medium": 800, "auto": 800, "high": 400}
_SEMANTIC_THRESHOLD = 0.5
SEMANTIC_PREFIX_MS = 300
_HEARD_BY = ("type", "threshold", "prefix_padding_ms", "silence_duration_ms", "eagerness")

Ear = Callable[["array[int]", bool], bool]  # (a frame at ANALYSIS_HZ, speaking already) -> is it speech


class Edge(NamedTuple):
    """Speech began or ended, at_ms after the first audio appended. A start includes the prefix padding."""

    started: bool
    at_ms: int


class HearingError(RuntimeError):
    """The ear asked for cannot be used here."""


class Hearing:
    """Turn detection over s16 mono audio at one rate."""

    def __init__(self, rate_hz: int, ear: str = "energy", silence_ms: int | None = None) -> None:
        """`silence_ms`, when given, overrides the silence that ends a turn, whatever the session says."""
        if ear not in _EARS:
            raise HearingError(f"ear {ear!r} is unknown: use one of {', '.join(_EARS)}")
        self._rate_hz, self._ear_name, self._forced_silence_ms = rate_hz, ear, silence_ms
        self._ear: Ear | None = None
        self._heard_by: dict[str, Any] = {}
        self._rest = b""
        self._loud_ms = self._quiet_ms = 0
        self._silence_ms = self._prefix_ms = 0
        self.position_ms = 0
        self.speaking = False

    def configure(self, turn_detection: Mapping[str, Any] | None) -> None:
        """Takes a session's turn_detection object; None switches hearing off (only time goes on).

        Speech under way is forgotten when it is to be heard otherwise from now on, and goes on when only what
        follows from it changes (create_response, interrupt_response).
        """
        heard_by = {name: value for name, value in (turn_detection or {}).items() if name in _HEARD_BY}
        if heard_by == self._heard_by:
            return
        self._heard_by = heard_by
        self.reset()
        if turn_detection is None:
            self._ear = None
            return
        semantic = turn_detection["type"] == "semantic_vad"
        silence_ms = (
            _SEMANTIC_SILENCE_MS[turn_detection["eagerness"]]
            if semantic
            else turn_detection["silence_duration_ms"]
        )
        self._silence_ms = silence_ms if self._forced_silence_ms is None else self._forced_silence_ms
        self._prefix_ms = SEMANTIC_PREFIX_MS if semantic else turn_detection["prefix_padding_ms"]
        self._ear = _EARS[self._ear_name](_SEMANTIC_THRESHOLD if semantic else turn_detection["threshold"])

    def change_rate(self, rate_hz: int) -> None:
        """The caller's audio now comes at another rate; the position stays."""
        if rate_hz != self._rate_hz:
            self._rate_hz, self._rest = rate_hz, b""

    def reset(self) -> None:
        """Forgets speech under way (the buffer was committed or cleared by hand)."""
        self.speaking = False
        self._loud_ms = self._quiet_ms = 0

    def feed(self, pcm: bytes) -> list[Edge]:
        """Hears s16 bytes of any length; returns the edges in them."""
        data = self._rest + pcm
        frame_bytes = self._rate_hz * FRAME_MS // 1000 * 2
        whole = len(data) // frame_bytes * frame_bytes
        self._rest = data[whole:]
        edges = []
        for start in range(0, whole, frame_bytes):
            edge = self._hear(data[start : start + frame_bytes])
            if edge is not None:
                edges.append(edge)
        return edges

    def _hear(self, frame: bytes) -> Edge | None:
        self.position_ms += FRAME_MS
        if self._ear is None:
            return None
        samples = array("h", frame)[
            :: max(1, self._rate_hz // ANALYSIS_HZ)
        ]  # aliasing does not matter to an ear
        speech = self._ear(samples, self.speaking)
        return self._still_speaking(speech) if self.speaking else self._still_silent(speech)

    def _still_silent(self, speech: bool) -> Edge | None:
        self._loud_ms = self._loud_ms + FRAME_MS if speech else 0
        if self._loud_ms < ONSET_MS:
            return None
        self.speaking, self._quiet_ms = True, 0
        return Edge(True, max(0, self.position_ms - self._loud_ms - self._prefix_ms))

    def _still_speaking(self, speech: bool) -> Edge | None:
        self._quiet_ms = 0 if speech else self._quiet_ms + FRAME_MS
        if speech or self._quiet_ms < self._silence_ms:
            return None
        self.reset()
        return Edge(False, self.position_ms)


def _energy_ear(threshold: float) -> Ear:
    start = _power(_QUIETEST_DBFS + _THRESHOLD_SPAN_DB * threshold)
    release = _power(_QUIETEST_DBFS + _THRESHOLD_SPAN_DB * threshold + _RELEASE_DB)

    def is_speech(samples: array[int], speaking: bool) -> bool:
        energy = sum(map(operator.mul, samples, samples))
        return energy >= (release if speaking else start) * len(samples)

    return is_speech


def _power(dbfs: float) -> float:
    """Mean square of 16-bit samples at a level relative to full scale."""
    return 32768.0**2 * 10 ** (dbfs / 10)


def _webrtc_ear(threshold: float) -> Ear:
    try:
        import webrtcvad
    except ImportError as error:
        raise HearingError('the ear "webrtc" needs a package: pip install webrtcvad-wheels') from error
    vad = webrtcvad.Vad(min(3, int(threshold * 4)))
    frame_samples = ANALYSIS_HZ * FRAME_MS // 1000

    def is_speech(samples: array[int], speaking: bool) -> bool:
        return vad.is_speech(samples[:frame_samples].tobytes().ljust(frame_samples * 2, b"\0"), ANALYSIS_HZ)

    return is_speech


_EARS: dict[str, Callable[[float], Ear]] = {"energy": _energy_ear, "webrtc": _webrtc_ear}
