"""The two ways a demo's call is placed.

Both give a Take: the same recording, caller's events and timeline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivr_ai.demo.progress import Progress
from ivr_ai.demo.story import CALLER_VOICE, PATIENCE_S, QUIET_MS, Story
from ivr_ai.events import CallEvent
from ivr_ai.gateways.clock import TICK_MS
from ivr_ai.gateways.embedded import EmbeddedSession, HostEvent, place_call
from ivr_ai.gateways.recording import Recording

MAX_CALL_S = 120.0


class HostError(RuntimeError):
    """The call cannot be placed; the message says what to do."""


@dataclass(frozen=True)
class Take:
    """A call that is over.

    start_s: time.monotonic() at the recording's first sample; timeline: as the call wrote it.
    """

    recording: Recording
    start_s: float
    caller_events: Sequence[HostEvent]
    timeline: Mapping[str, Any]
    skipped_ms: int


def embedded(
    story: Story, environ: Mapping[str, str], scratch: Path, progress: Progress, rate_hz: int
) -> Take:
    """Places the call on the embedded host, in this process.

    Raises ConfigError for settings that make no sense.
    """
    from ivr_ai.call import Call
    from ivr_ai.config import Settings

    environ = {**environ, "IVR_AI_TIMELINE_DIR": str(scratch)}
    Settings.load(environ, env_file="")  # what is wrong with them is said before the telephone rings

    def application(session: EmbeddedSession, args: str) -> Call:
        settings = Settings.load(environ, env_file="", channel=session.getVariable)
        return Call(session, settings, observer=lambda event: _tell(progress, event))

    record = place_call(
        application,
        story.script,
        rate_hz=rate_hz,
        voice=CALLER_VOICE,
        quiet_ms=QUIET_MS,
        patience_s=PATIENCE_S,
        max_s=MAX_CALL_S,
        observe=progress.host_event,
    )
    timeline = read_timeline(scratch, record.session.get_uuid())
    skipped_ms = record.clock.skipped_ticks * TICK_MS
    return Take(record.recording, record.answered_s, record.events, timeline, skipped_ms)


def read_timeline(folder: Path, uuid: str) -> dict[str, Any]:
    """What the call wrote into IVR_AI_TIMELINE_DIR; an empty timeline when it wrote none."""
    path = folder / f"{uuid}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"uuid": uuid, "events": []}


def _tell(progress: Progress, event: CallEvent) -> None:
    if event.kind == "ai_said":
        progress.ai_said(event.data["text"])
    elif event.kind == "barge_in":
        progress.barge_in(event.at_s, event.data["heard_ms"])
    elif event.kind in ("error", "failure"):
        words = (str(event.data[name]) for name in ("code", "message", "reason") if event.data.get(name))
        progress.failure(event.at_s, f"{event.kind}: {' '.join(words)}")
