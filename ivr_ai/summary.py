"""How a call went: one line in the log, one object for whoever wants it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ivr_ai.audio.stream import Stream
from ivr_ai.conversation.conversation import Totals


@dataclass(frozen=True)
class CallSummary:
    """What is known of a call once it is over. Latency: from the caller's last word to the reply's first."""

    uuid: str
    reason: str
    duration_s: float
    turns: int = 0
    barge_ins: int = 0
    underruns: int = 0
    dropped_ms: float = 0.0
    turn_p50_ms: float | None = None
    tokens: int = 0

    def line(self) -> str:
        """The log line."""
        p50 = "-" if self.turn_p50_ms is None else f"{self.turn_p50_ms:.0f} ms"
        return (
            f"call {self.uuid} over: {self.reason}; {self.duration_s:.1f} s, {self.turns} turns, "
            f"{self.barge_ins} barge-ins, {self.underruns} underruns, turn latency p50 {p50}, "
            f"{self.tokens} tokens"
        )

    def data(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return asdict(self)


def summarise(
    uuid: str, reason: str, duration_s: float, totals: Totals, stream: Stream | None
) -> CallSummary:
    """The summary of a call: what its conversation counted, and what its stream did, if there was one."""
    stats = stream.stats() if stream is not None else None
    dropped = stats.capture_dropped_samples + stats.capture_discarded_samples if stats else 0
    return CallSummary(
        uuid=uuid,
        reason=reason,
        duration_s=duration_s,
        turns=totals.turns,
        barge_ins=totals.barge_ins,
        underruns=stats.inject_underruns if stats else 0,
        dropped_ms=dropped * 1000 / stream.rate_hz if stream else 0.0,
        turn_p50_ms=p50_ms(totals.turn_latencies_ms),
        tokens=totals.tokens,
    )


def p50_ms(latencies_ms: list[float]) -> float | None:
    """The median, None without any."""
    return round(median(latencies_ms), 1) if latencies_ms else None
