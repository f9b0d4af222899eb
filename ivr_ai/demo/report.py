"""What happened in a conversation, told from what both sides could hear and what the call itself reported.

Two witnesses: the caller (when it spoke, what it heard: see Caller) and the call (its CallEvents). Both give
time.monotonic(), and the recording's first sample ties them together: every time in here is in seconds into
the recording.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SOFT_S = 0.06  # how much of a reply's beginning and end an ear of 20 ms frames may miss
SILENT_PEAK = 8  # of 32768: the smallest steps of G.711
SLACK_S = 0.4  # how far a call's report of a reply may lie from what the caller heard of it


class Event(NamedTuple):
    """One report of either witness. at_s: seconds into the recording."""

    kind: str
    at_s: float
    data: Mapping[str, Any]


class Speech(NamedTuple):
    """One side speaking without interruption of its own. cut: the other side made it stop."""

    who: str  # "caller" or "ai"
    start_s: float
    end_s: float
    text: str
    turn: int  # of the caller; 0 for a greeting
    cut: bool = False


class Latency(NamedTuple):
    """From the caller's last sound to the reply's first, on the line; and by the call's own account."""

    turn: int
    from_s: float
    to_s: float
    reported_ms: float | None

    @property
    def ms(self) -> float:
        return (self.to_s - self.from_s) * 1000


class BargeIn(NamedTuple):
    """A reply that was cut short.

    heard_ms: how much of it was on the line; truncated_ms: what the model was told.
    """

    turn: int
    at_s: float
    silent_s: float
    heard_ms: float
    truncated_ms: float | None


@dataclass(frozen=True)
class Report:
    """A conversation. underruns: times a reply ran dry; skipped_ms: media time the host lost."""

    speeches: Sequence[Speech]
    latencies: Sequence[Latency]
    barge_ins: Sequence[BargeIn]
    underruns: int
    skipped_ms: int
    end_reason: str
    failures: Sequence[str]

    @property
    def turns(self) -> int:
        """Times the caller spoke and was answered."""
        return len(self.latencies)

    @property
    def latency_p50_ms(self) -> float | None:
        return statistics.median(latency.ms for latency in self.latencies) if self.latencies else None

    def problems(self, turns: int, barge_ins: int) -> list[str]:
        """What did not go as planned; empty when all did."""
        wanted = [
            (self.turns < turns, f"{self.turns} of {turns} turns were answered"),
            (len(self.barge_ins) < barge_ins, f"{len(self.barge_ins)} of {barge_ins} interruptions happened"),
            (self.underruns > 0, f"replies ran dry {self.underruns} times"),
            (self.skipped_ms > 0, f"the host lost {self.skipped_ms} ms of media time: is the machine busy?"),
        ]
        return [text for wrong, text in wanted if wrong] + list(self.failures)


def build(
    caller: Iterable[Event], call: Iterable[Event], ai: bytes, rate_hz: int, *, skipped_ms: int = 0
) -> Report:
    """The report of a call: both witnesses' events, and the AI's side of the recording (s16 at rate_hz)."""
    caller, call = sorted(caller, key=_time), sorted(call, key=_time)
    end_s = len(ai) / 2 / rate_hz
    spoken = _spoken(caller, end_s)
    heard = [_to_the_sample(ai, rate_hz, *span) for span in _heard(caller, end_s)]
    replies = [_reply(start_s, stop_s, spoken, call) for start_s, stop_s in heard]
    ended = next((event.data for event in call if event.kind == "ended"), {})
    return Report(
        speeches=sorted([*spoken, *replies], key=lambda speech: speech.start_s),
        latencies=_latencies(spoken, replies, call),
        barge_ins=_barge_ins(spoken, replies, call),
        underruns=int(ended.get("underruns", 0)),
        skipped_ms=skipped_ms,
        end_reason=str(ended.get("reason", "")),
        failures=[_failure(event) for event in call if event.kind in ("failure", "error")],
    )


def _time(event: Event) -> float:
    return event.at_s


def _failure(event: Event) -> str:
    words = (event.data.get(name) for name in ("code", "message", "reason"))
    return f"{event.kind}: " + " ".join(str(word) for word in words if word)


def _spoken(caller: Sequence[Event], end_s: float) -> list[Speech]:
    """What the caller said."""
    ends = {event.data["turn"]: event.at_s for event in caller if event.kind == "caller_quiet"}
    return [
        Speech(
            "caller", event.at_s, ends.get(event.data["turn"], end_s), event.data["text"], event.data["turn"]
        )
        for event in caller
        if event.kind == "caller_speaks"
    ]


def _heard(caller: Sequence[Event], end_s: float) -> list[tuple[float, float]]:
    """When the caller heard something: (start, end), the last one perhaps cut off by the end of the call."""
    starts = [event.at_s for event in caller if event.kind == "caller_hears"]
    ends = [event.at_s for event in caller if event.kind == "caller_heard"]
    return list(zip(starts, [*ends, end_s], strict=False))


def _to_the_sample(ai: bytes, rate_hz: int, start_s: float, end_s: float) -> tuple[float, float]:
    """The span of a reply with its soft beginning and its fade-out, which an ear counts as silence."""
    samples = array("h", ai)
    first = max(0, round((start_s - SOFT_S) * rate_hz))
    last = min(len(samples), round((end_s + SOFT_S) * rate_hz))
    sounding = [at for at in range(first, last) if abs(samples[at]) > SILENT_PEAK]
    return (sounding[0] / rate_hz, (sounding[-1] + 1) / rate_hz) if sounding else (start_s, end_s)


def _reply(start_s: float, end_s: float, spoken: Sequence[Speech], call: Sequence[Event]) -> Speech:
    """The reply that was on the line from start_s to end_s, with its words and the turn it answers."""
    turn = max((speech.turn for speech in spoken if speech.start_s < start_s), default=0)
    items = [event.data.get("item") for event in _near(call, "heard", start_s, end_s)]
    words = [
        event.data["text"] for event in call if event.kind == "ai_said" and event.data.get("item") in items
    ]
    cut = any(
        speech.start_s < end_s <= speech.end_s + SLACK_S and speech.start_s > start_s for speech in spoken
    )
    cut = cut and bool(_near(call, "barge_in", start_s, end_s))
    return Speech("ai", start_s, end_s, " ".join(words), turn, cut)


def _near(call: Sequence[Event], kind: str, start_s: float, end_s: float) -> list[Event]:
    return [
        event for event in call if event.kind == kind and start_s - SLACK_S <= event.at_s <= end_s + SLACK_S
    ]


def _latencies(spoken: Sequence[Speech], replies: Sequence[Speech], call: Sequence[Event]) -> list[Latency]:
    """One per turn that was answered after the caller had finished."""
    found = []
    for speech in spoken:
        reply = next((reply for reply in replies if reply.turn == speech.turn), None)
        if reply is not None:
            reported = [
                event.data.get("latency_ms") for event in _near(call, "heard", reply.start_s, reply.end_s)
            ]
            found.append(Latency(speech.turn, speech.end_s, reply.start_s, reported[0] if reported else None))
    return found


def _barge_ins(spoken: Sequence[Speech], replies: Sequence[Speech], call: Sequence[Event]) -> list[BargeIn]:
    found = []
    for reply in replies:
        if reply.cut:
            at = next(speech for speech in spoken if reply.start_s < speech.start_s < reply.end_s)
            told = [
                event.data.get("heard_ms") for event in _near(call, "barge_in", reply.start_s, reply.end_s)
            ]
            heard_ms = (reply.end_s - reply.start_s) * 1000
            found.append(BargeIn(at.turn, at.start_s, reply.end_s, heard_ms, told[0] if told else None))
    return found
