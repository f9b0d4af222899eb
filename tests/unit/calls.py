"""What tests of whole calls share: sounds, what is audible of a recording, and what a server was sent."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from ivr_ai.sim.record import SessionRecord
from ivr_ai.tts.local_voice import speak

APPEND = "input_audio_buffer.append"
CREATE = "response.create"
ITEM = "conversation.item.create"
SAYS = speak("x", 8000, "tone:300:400")  # what the caller says: 400 ms, loud
SORRY = array("h", ((n * 37) % 16000 - 8000 for n in range(8 * 200))).tobytes()  # an apology: 200 ms
LINE = {"wire": "s16"}  # the recording has what is said sample for sample
GONE_S = 1.0  # until nothing of a call is left


def wait_for(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Returns as soon as it is so; fails when it does not come."""
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it does not come"
        time.sleep(0.005)


def wait_for_none(of: Callable[[], list], timeout_s: float = 10.0) -> None:
    """Returns as soon as the list is empty; fails with what is still in it."""
    deadline_s = time.monotonic() + timeout_s
    while left := of():
        assert time.monotonic() < deadline_s, left
        time.sleep(0.02)


# ---- what was heard ----------------------------------------------------------------------------------------


def loud_runs(pcm: bytes, rate_hz: int = 8000, gap_ms: int = 100) -> list[tuple[float, float]]:
    """(start, end) in ms of everything audible; silence shorter than gap_ms does not divide."""
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, "<i2").astype(int)) > 40)  # over G.711's smallest step
    if not len(loud):
        return []
    cuts = np.flatnonzero(np.diff(loud) > gap_ms * rate_hz // 1000)
    starts, ends = loud[[0, *(cuts + 1)]], loud[[*cuts, len(loud) - 1]] + 1
    return [(start * 1000 / rate_hz, end * 1000 / rate_hz) for start, end in zip(starts, ends, strict=True)]


def lengths_ms(pcm: bytes, rate_hz: int = 8000) -> list[float]:
    """How long everything audible lasts."""
    return [end - start for start, end in loud_runs(pcm, rate_hz)]


def purity(pcm: bytes, hz: float, rate_hz: int = 8000) -> float:
    """Which share of the energy of what is audible lies within 40 Hz of hz; 0 for silence."""
    runs = loud_runs(pcm, rate_hz)
    if not runs:
        return 0.0
    samples = np.frombuffer(pcm, "<i2").astype(float)
    samples = samples[int(runs[0][0] * rate_hz / 1000) : int(runs[-1][1] * rate_hz / 1000)]
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    at_hz = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    return float(power[np.abs(at_hz - hz) < 40].sum() / power.sum())


# ---- what a server was sent --------------------------------------------------------------------------------


def given_history(session: SessionRecord) -> list[tuple[str, str]]:
    """What a session was told of before: (role, words), ("call", name) and ("output", what it gave)."""
    given = []
    for event in session.received(ITEM):
        item = event["item"]
        match item["type"]:
            case "message":
                words = " ".join(part.get("text", "(audio)") for part in item["content"])
                given.append((item["role"], words))
            case "function_call":
                given.append(("call", item["name"]))
            case "function_call_output":
                given.append(("output", item["output"]))
    return given


def asked(session: SessionRecord) -> list[str]:
    """The instructions of what the client asked for; "" without any."""
    return [event.get("response", {}).get("instructions", "") for event in session.received(CREATE)]


def errors(session: SessionRecord) -> list[dict[str, Any]]:
    """What the server has complained of."""
    return [event.body["error"] for event in session.sent if event.type == "error"]


def statuses(session: SessionRecord) -> list[str]:
    """How the responses of a session ended."""
    return [event.body["response"]["status"] for event in session.sent if event.type == "response.done"]
