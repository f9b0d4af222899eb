"""What is still to go wrong in one session: the faults that are counted down. Not thread-safe."""

from __future__ import annotations

from typing import Any, NamedTuple

from ivr_ai.sim.faults import COUNTS_OR_ALL, Faults
from ivr_ai.sim.wire import Rejected, status_error

UNINTELLIGIBLE = "audio_unintelligible"
_TOKENS_PER_MINUTE = 100_000


class Ending(NamedTuple):
    """How a response ends that is not to speak: what its response.done carries.

    `reset_s` is the time until the rate limit is lifted, None where no limit is met.
    """

    status: str
    details: dict[str, Any] | None
    reset_s: float | None = None


class Mishaps:
    """The counts of one session."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._left = {name: getattr(faults, name) for name in COUNTS_OR_ALL}
        self._closing = faults.closing_event()

    def _take(self, name: str) -> bool:
        """Is one due? Then it is counted; a negative count never ends."""
        if self._left[name] == 0:
            return False
        self._left[name] -= self._left[name] > 0
        return True

    def refuse_create(self) -> None:
        """Raises Rejected for a response.create that is to be refused."""
        if self._take("refuse_creates"):
            code = self._faults.refuse_create_code
            raise Rejected(code, f"Simulated refusal: {code}.")

    def ending(self) -> Ending | None:
        """How the next response ends, where it ends without a word."""
        if self._take("rate_limited"):
            return _rate_limited(self._faults.retry_after_s)
        how = self._faults.fail_how
        if how == "text" or not self._take("fail_responses"):
            return None
        if how == "failed":
            code = self._faults.fail_code
            error = status_error(code, f"Simulated failure: {code}.")
            return Ending("failed", {"type": "failed", "error": error})
        if how == "empty":
            return Ending("completed", None)
        return Ending("incomplete", {"type": "incomplete", "reason": how})

    def writes(self) -> bool:
        """Is the next response written, though audio was asked for?"""
        return self._faults.fail_how == "text" and self._take("fail_responses")

    def turn_end_is_lost(self) -> bool:
        """Whether the end of the caller's turn is to go unnoticed."""
        return self._take("lost_turn_ends")

    def transcription_error(self) -> str:
        """The code the next transcription fails with, or ""."""
        return UNINTELLIGIBLE if self._take("fail_transcriptions") else ""

    def closes_after(self, kind: str) -> bool:
        """An event of this type has come or gone: is it the one after which the server closes?"""
        if self._closing is None or self._closing[0] != kind:
            return False
        count = self._closing[1] - 1
        self._closing = (kind, count) if count else None
        return count == 0


def _rate_limited(after_s: float) -> Ending:
    # The service names times under a second in milliseconds.
    shown = f"{after_s:g}s" if after_s >= 1 else f"{round(after_s * 1000)}ms"
    message = (
        f"Rate limit reached on tokens per min (TPM): Limit {_TOKENS_PER_MINUTE}, Used {_TOKENS_PER_MINUTE}. "
        f"Please try again in {shown}."
    )
    return Ending(
        "failed", {"type": "failed", "error": status_error("rate_limit_exceeded", message)}, after_s
    )


def token_limit(used: int, reset_s: float | None) -> dict[str, Any]:
    """The entry of rate_limits.updated after a response that used so many tokens; nothing is left when the
    limit was met.
    """
    met = reset_s is not None
    remaining = 0 if met else max(0, _TOKENS_PER_MINUTE - used)
    return {
        "name": "tokens",
        "limit": _TOKENS_PER_MINUTE,
        "remaining": remaining,
        "reset_seconds": reset_s if met else 0.1,
    }
