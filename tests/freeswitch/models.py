"""Calls to `python ivr_ai.app` with a model of their own: what is set for them, and what they are to hear."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ears import audible_span, frequency_hz, heard_in_order, level_db, noise, peaks, samples
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller
from taps import wait_until

from ivr_ai.audio.formats import Format, write_wav
from ivr_ai.audio.g711 import pcmu_decode, pcmu_encode
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.record import SessionRecord
from ivr_ai.sim.server import SimServer
from ivr_ai.tts.local_voice import speak

KEY = "sk-not-for-the-log"
VOICE = "tone:440"  # 350 ms a word
WORD_MS = 350
GREETING = "One two three."
REPLY = "One two three four five."
# What G.711 says exactly: between two of its steps, coders may differ.
APOLOGY = pcmu_decode(pcmu_encode(noise(8000, 0.4, seed=99, peak=12000)))
DIALOGUE = {"turn": [{"on": "greeting", "say": GREETING}, {"say": REPLY}], "fallback": [REPLY]}


@contextmanager
def model(
    faults: Faults | None = None, dialogue: dict[str, Any] | None = None, **options: Any
) -> Iterator[SimServer]:
    """A server that says tones."""
    with SimServer(faults=faults, dialogue=dialogue or DIALOGUE, **{"voice": VOICE, **options}) as sim:
        yield sim


def settings(url: str, **more: object) -> dict[str, str]:
    """The caller's header that sets these variables on the call. No value may hold a bar."""
    values = {"OPENAI_REALTIME_URL": url, "OPENAI_API_KEY": KEY, "OPENAI_GREETING": "Greet.", **more}
    return {"X-Set": "|".join(f"{name}={value}" for name, value in values.items())}


def place(caller: SipCaller, sim: SimServer, extension: str = "1234", **more: object) -> SipCall:
    """Dials; returns at once."""
    return caller.call(extension, settings(sim.url, **more))


def write_apology(folder: Path) -> Path:
    """APOLOGY as a file for IVR_AI_APOLOGY_FILE."""
    path = folder / "sorry.wav"
    write_wav(path, APOLOGY, 8000)
    return path


def spoken(call: SipCall, text: str, voice: str = VOICE) -> bytes:
    """What the caller is to hear of a line, s16; as G.711 says it where that is the call's codec."""
    codec = call.media.codec
    return codec.decode(codec.encode(speak(text, codec.rate_hz, voice)))


def times_heard(call: SipCall, pcm: bytes) -> int:
    """How often an utterance has been received, to the sample and with nothing in between."""
    return call.media.codec.decode(heard_in_order(call)).count(pcm)


def wait_heard(call: SipCall, pcm: bytes, times: int = 1, timeout_s: float = 10.0) -> None:
    what = f"hearing {len(pcm) // 2} samples {times} times"
    wait_until(lambda: times_heard(call, pcm) >= times, timeout_s, what, every_s=0.1)


def wait_quiet(call: SipCall, quiet_ms: float = 300, timeout_s: float = 10.0) -> None:
    """Until something has been heard, and then nothing for so long."""
    seen, loud_s = 0, math.inf

    def quiet() -> bool:
        nonlocal seen, loud_s
        packets, decode = call.media.audio_packets(), call.media.codec.decode
        for packet in packets[seen:]:
            if np.abs(samples(decode(packet.payload))).max() > AUDIBLE_PEAK:
                loud_s = packet.arrived_s
        seen = len(packets)
        return bool(packets) and packets[-1].arrived_s - loud_s >= quiet_ms / 1000

    wait_until(quiet, timeout_s, "silence", every_s=0.05)


def asked_format(record: SessionRecord, direction: str) -> Format:
    """What the last session.update that says something about it asks for; direction: "input" or "output"."""
    asked = [
        update["session"].get("audio", {}).get(direction, {}) for update in record.received("session.update")
    ]
    return Format.from_wire([audio["format"] for audio in asked if "format" in audio][-1])


def loud_s(call: SipCall, first: int = 0) -> list[float]:
    """When the audible packets came, from a packet on."""
    packets, decode = call.media.audio_packets()[first:], call.media.codec.decode
    return [p.arrived_s for p in packets if np.abs(samples(decode(p.payload))).max() > AUDIBLE_PEAK]


def utterances_ms(call: SipCall, gap_ms: int = 60) -> list[float]:
    """How long each stretch of sound lasted that the caller heard, in order; shorter gaps are none."""
    heard, rate_hz = call.media.codec.decode(heard_in_order(call)), call.media.codec.rate_hz
    loud = np.flatnonzero(np.abs(samples(heard)) > AUDIBLE_PEAK)
    if not len(loud):
        return []
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > gap_ms * rate_hz // 1000) + 1)
    return [(stretch[-1] + 1 - stretch[0]) * 1000 / rate_hz for stretch in stretches]


def check_tones(heard: bytes, rate_hz: int, lines: list[str], slack_ms: float) -> None:
    """The last spurts of sound are these lines, in length, frequency and level. Raises AssertionError."""
    loud = np.concatenate([[False], peaks(heard, rate_hz) > AUDIBLE_PEAK, [False]])
    starts, ends = (np.flatnonzero(np.diff(loud.astype(int)) == edge) * 20 for edge in (1, -1))
    spurts = [(start, end) for start, end in zip(starts, ends, strict=True) if end - start > WORD_MS]
    for text, (start_ms, end_ms) in zip(lines, spurts[-len(lines) :], strict=True):
        around = heard[max(0, start_ms - 20) * rate_hz // 500 : (end_ms + 20) * rate_hz // 500]
        first_ms, last_ms = audible_span(around, rate_hz)
        assert last_ms - first_ms == pytest.approx(len(text.split()) * WORD_MS, abs=slack_ms)
        middle = around[int(first_ms + 50) * rate_hz // 500 : int(last_ms - 50) * rate_hz // 500]
        assert frequency_hz(middle, rate_hz) == pytest.approx(440, abs=2)
        assert level_db(middle) == pytest.approx(level_db(speak(text, rate_hz, VOICE)), abs=1)
