"""Events that come twice: proxies repeat what they are not sure to have sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EVENT_IDS_KEPT = 64  # a few turns of one connection; 100 bytes each


class Repeats:
    """What has come over one connection. Not thread-safe.

    A server that gives the same id to different events is taken at its word no more: nothing that comes from
    then on counts as repeated.
    """

    def __init__(self) -> None:
        self._digests: dict[int, int] = {}  # of events, by their ids' hashes; the oldest first
        self._ids_are_unique = True

    def is_repeated(self, event: Mapping[str, Any]) -> bool:
        """Whether this very event has come before. Raises ValueError for one that is nested too deep."""
        event_id = event.get("event_id")
        if not self._ids_are_unique or not isinstance(event_id, str) or not event_id:
            return False
        key, digest = hash(event_id), _digest(event)
        before = self._digests.get(key)
        if before is None:
            self._digests[key] = digest
            if len(self._digests) > EVENT_IDS_KEPT:
                del self._digests[next(iter(self._digests))]
            return False
        self._ids_are_unique = before == digest
        return self._ids_are_unique


def _digest(event: Mapping[str, Any]) -> int:
    try:
        return hash(repr(event))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
