"""Timelines: what happened in a call, as one JSON file in the directory that IVR_AI_TIMELINE_DIR names.

    {"uuid": "...", "agent": "default", "events": [
      {"kind": "heard", "at_s": 12.3, "wall": "2026-01-31T09:00:00.250Z", "turn": 1, "item": "item_1"}, ...]}

A subscriber of the bus. The directory is a setting of each call, so begin() is told it before the call's
first event; the file is written when `ended` comes. A Call without a bus has a Timelines of its own, called
directly.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ivr_ai.events import CallEvent

log = logging.getLogger("ivr_ai.call")

NAME_MAX_CHARS = 100
MAX_EVENTS = 50_000  # of one call, hours of talk; what comes later is counted
MAX_CALLS = 10_000  # under way; beyond it the oldest is given up, as when its `ended` was dropped
_UNSAFE = re.compile(r"[^A-Za-z0-9._@-]")


def file_name(uuid: str) -> str:
    """The name of a call's file, without a suffix: [A-Za-z0-9._@-], no dot first, at most NAME_MAX_CHARS.

    A uuid that is all this already is its own name. Any other (a caller's Call-ID may be anything, `../`
    included) is changed, and a part of its SHA-256 is added, so that two calls never share a file.
    """
    safe = _UNSAFE.sub("_", uuid).lstrip(".")[:NAME_MAX_CHARS]
    if safe == uuid and safe:
        return safe
    digest = hashlib.sha256(uuid.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{safe[: NAME_MAX_CHARS - 13] or 'call'}-{digest}"


def wall_clock(wall_s: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond: 2026-01-31T09:00:00.250Z."""
    at = datetime.fromtimestamp(wall_s, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Timeline:
    """What has been told of one call."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.events: list[CallEvent] = []
        self.left_out = 0

    def add(self, event: CallEvent) -> None:
        if len(self.events) < MAX_EVENTS or event.kind == "ended":
            self.events.append(event)
        else:
            self.left_out += 1

    def content(self) -> dict[str, Any]:
        last = self.events[-1]
        content = {"uuid": last.uuid, "agent": last.agent, "events": [_entry(event) for event in self.events]}
        return {**content, "events_left_out": self.left_out} if self.left_out else content


class Timelines:
    """Collects events and writes each call's file when the call has ended. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, _Timeline] = {}
        self._refused: set[str] = set()  # directories that have been complained of

    def begin(self, uuid: str, directory: str) -> None:
        """From now on the events of this call are kept; "" keeps none."""
        if not directory:
            return
        with self._lock:
            self._calls[uuid] = _Timeline(directory)
            given_up = [next(iter(self._calls))] if len(self._calls) > MAX_CALLS else []
            for each in given_up:
                del self._calls[each]
        for each in given_up:
            log.warning("call %s: no timeline, its end was never heard of", each)

    def wants(self, event: CallEvent) -> bool:
        """Whether the event is of a call that has a timeline. Takes no lock."""
        return event.uuid in self._calls

    def __call__(self, event: CallEvent) -> None:
        """Takes an event; with `ended`, writes the file. A disk that refuses is one warning a directory."""
        with self._lock:
            timeline = self._calls.get(event.uuid)
            if timeline is None:
                return
            timeline.add(event)
            if event.kind != "ended":
                return
            del self._calls[event.uuid]
        self._write(event.uuid, timeline)

    def _write(self, uuid: str, timeline: _Timeline) -> None:
        folder = Path(timeline.directory)
        try:
            _write_whole(folder, file_name(uuid), json.dumps(timeline.content(), indent=1, default=str))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the directory's name
            with self._lock:
                known = timeline.directory in self._refused
                self._refused.add(timeline.directory)
            log.log(
                logging.DEBUG if known else logging.WARNING,
                "call %s: no timeline in IVR_AI_TIMELINE_DIR: %s",
                uuid,
                error,
            )
        else:
            with self._lock:
                self._refused.discard(timeline.directory)


def _write_whole(folder: Path, name: str, text: str) -> None:
    """Leaves folder/<name>.json, whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.{os.getpid()}.part"  # hidden from whoever looks for *.json
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / f"{name}.json")
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _entry(event: CallEvent) -> dict[str, Any]:
    """An event as it stands in the file: what every event has comes first, and no detail takes its place."""
    entry: dict[str, Any] = {"kind": event.kind, "at_s": event.at_s}
    if event.wall_s:
        entry["wall"] = wall_clock(event.wall_s)
    entry["turn"] = event.turn
    if event.item:
        entry["item"] = event.item
    for name, value in event.data.items():
        entry.setdefault(name, value)
    return entry
