"""What a call reports as it happens: to its log, its timeline, the demo, and whoever observes it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("ivr_ai.call")


@dataclass(frozen=True)
class CallEvent:
    """One thing that happened in a call.

    kind: what (see docs/architecture.md, "Events of a call"); at_s: time.monotonic() when; data: details,
    JSON-ready.
    """

    kind: str
    at_s: float
    data: dict[str, Any] = field(default_factory=dict)


Observer = Callable[[CallEvent], None]


class Reporter:
    """Tells what happens in one call. Thread-safe."""

    def __init__(
        self, uuid: str, observer: Observer | None, timeline_dir: str, clock: Callable[[], float]
    ) -> None:
        """timeline_dir: where write_timeline() leaves what was told; empty keeps nothing."""
        self._uuid, self._observer, self._timeline_dir, self._clock = uuid, observer, timeline_dir, clock
        self._told: list[CallEvent] = []
        self._complained: set[str] = set()

    def tell(self, kind: str, data: dict[str, Any] | None = None, at_s: float | None = None) -> None:
        """Something has happened, now unless at_s says when. Raises nothing that the observer raises."""
        event = CallEvent(kind, self._clock() if at_s is None else at_s, data or {})
        log.debug("call %s: %s %s", self._uuid, kind, event.data)
        if self._timeline_dir:
            self._told.append(event)
        if self._observer is not None:
            try:
                self._observer(event)
            except Exception:  # its fault, and no reason to end the call or to leave anything of it behind
                log.exception("call %s: observer of %s", self._uuid, kind)

    def complain(self, about: str, message: str) -> None:
        """Logs and tells a kind of nonsense once per call."""
        if about not in self._complained:
            self._complained.add(about)
            log.warning("call %s: %s", self._uuid, message)
            self.tell("error", {"code": about, "message": message})

    def write_timeline(self) -> None:
        """Leaves <uuid>.json in timeline_dir, whole or not at all; a disk that refuses is logged."""
        if not self._timeline_dir:
            return
        path = Path(self._timeline_dir, f"{self._uuid}.json")
        events = [{"kind": event.kind, "at_s": event.at_s, **event.data} for event in self._told]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps({"uuid": self._uuid, "events": events}, indent=1), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            log.warning("call %s: no timeline in IVR_AI_TIMELINE_DIR: %s", self._uuid, error)
