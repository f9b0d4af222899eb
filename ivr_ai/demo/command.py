"""The demo's command line: places the call, writes what it left, says whether all went as planned."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ivr_ai.config import ConfigError
from ivr_ai.demo import hosts, report
from ivr_ai.demo.progress import Progress
from ivr_ai.demo.story import AI_VOICE, Story, openai_settings, sim_settings
from ivr_ai.gateways.embedded import WIRES, HandlerStuck, HostEvent
from ivr_ai.sim.dialogue import DialogueError
from ivr_ai.sim.server import SimError, SimServer
from ivr_ai.tts.local_voice import VoiceError

OUT = Path(__file__).resolve().parents[2] / "build" / "demo"
WAV, PNG, TIMELINE = "conversation.wav", "conversation.png", "timeline.json"
PACE = 6.0  # how much faster than real time the simulated model sends: models do so, too


class DemoError(RuntimeError):
    """The demo cannot be held; the message says what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `ivr-ai demo`."""
    parser.add_argument(
        "--host",
        choices=("embedded", "freeswitch"),
        default="embedded",
        help="what carries the call: this process, or a FreeSWITCH started for it (%(default)s)",
    )
    parser.add_argument(
        "--realtime",
        choices=("sim", "openai"),
        default="sim",
        help="the model: a simulated one on this machine, or the real service (%(default)s)",
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where files go (%(default)s)")
    parser.add_argument(
        "--fs-prefix", type=Path, metavar="DIR", help="where FreeSWITCH is installed (default: found)"
    )
    parser.add_argument(
        "--rate",
        type=int,
        choices=tuple(WIRES),
        default=8000,
        help="rate of the embedded host's call in Hz; 8000 is a telephone's G.711 (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Holds the conversation. Returns 0, or 1 when it could not be held or did not go as planned."""
    try:
        return _hold(args)
    except (
        DemoError,
        hosts.HostError,
        ConfigError,
        DialogueError,
        SimError,
        VoiceError,
        HandlerStuck,
    ) as error:
        print(f"ivr-ai demo: {error}", file=sys.stderr)
        return 1


def _hold(args: argparse.Namespace) -> int:
    from ivr_ai.demo import plot  # before the call: a missing matplotlib must not cost the conversation

    story = Story.load()
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"A call through {args.host}, answered by {_model_name(args.realtime)}:\n", flush=True)
    progress = Progress(lambda line: print(line, flush=True))
    with (
        tempfile.TemporaryDirectory(prefix="ivr-ai-demo-") as scratch,
        _realtime(args, story, progress) as environ,
    ):
        take = _place(args, story, environ, Path(scratch), progress)
    told = report.build(
        _events(take, take.caller_events),
        _events(take, take.timeline["events"]),
        take.recording.ai,
        take.recording.rate_hz,
        skipped_ms=take.skipped_ms,
    )
    take.recording.write_wav(args.out / WAV)
    plot.draw(told, take.recording, args.out / PNG, _title(args, told))
    (args.out / TIMELINE).write_text(timeline(args, take), encoding="utf-8")
    print(f"\n{summary(told)}\n\n{args.out}/: {WAV} (caller left, AI right), {PNG}, {TIMELINE}")
    problems = told.problems(story.turns, story.barge_ins)
    if problems:
        print(f"\nivr-ai demo: not as planned: {'; '.join(problems)}", file=sys.stderr)
    return 1 if problems else 0


@contextlib.contextmanager
def _realtime(args: argparse.Namespace, story: Story, progress: Progress) -> Iterator[dict[str, str]]:
    """The settings that lead a call to the model asked for. Raises DemoError when the real one has no key."""
    if args.realtime == "sim":
        # A call in FreeSWITCH reports when it is over; until then its words are known from the model only.
        trace = _overhear(progress) if args.host == "freeswitch" else None
        with SimServer(dialogue=story.dialogue, voice=AI_VOICE, pace=PACE, trace=trace) as sim:
            yield sim_settings(sim.url)
        return
    settings = openai_settings(os.environ)
    if not settings.get("OPENAI_API_KEY"):
        raise DemoError("REALTIME=openai needs OPENAI_API_KEY: export it, or write it into .env here")
    yield settings


def _overhear(progress: Progress) -> Callable[[int, str, dict[str, Any]], None]:
    def trace(number: int, direction: str, event: dict[str, Any]) -> None:
        if event["type"] == "response.output_audio_transcript.done":
            progress.ai_said(event["transcript"])
        elif event["type"] == "conversation.item.truncate":
            progress.barge_in(time.monotonic(), event["audio_end_ms"])

    return trace


def _place(
    args: argparse.Namespace, story: Story, environ: dict[str, str], scratch: Path, progress: Progress
) -> hosts.Take:
    if args.host == "embedded":
        return hosts.embedded(story, environ, scratch, progress, args.rate)
    from ivr_ai.demo import freeswitch

    if args.fs_prefix:
        os.environ["FS_PREFIX"] = str(args.fs_prefix)
    return freeswitch.place(story, environ, scratch, progress, args.out / "freeswitch")


def _model_name(realtime: str) -> str:
    return "a simulated model" if realtime == "sim" else "OpenAI Realtime"


def _title(args: argparse.Namespace, told: report.Report) -> str:
    host = "FreeSWITCH" if args.host == "freeswitch" else "the embedded host"
    return f"{told.turns} turns, {len(told.barge_ins)} barge-in — {host} and {_model_name(args.realtime)}"


def _events(take: hosts.Take, events: Iterable[HostEvent | Mapping[str, Any]]) -> list[report.Event]:
    """Either witness's events, timed in seconds into the recording."""
    return [report.Event(kind, at_s - take.start_s, data) for kind, at_s, data in map(_parts, events)]


def _parts(event: HostEvent | Mapping[str, Any]) -> tuple[str, float, dict[str, Any]]:
    """(kind, time.monotonic(), details) of a host's event or of one in a timeline file."""
    if isinstance(event, HostEvent):
        return event.kind, event.at_s, event.data
    return event["kind"], event["at_s"], {key: event[key] for key in event if key not in ("kind", "at_s")}


def timeline(args: argparse.Namespace, take: hosts.Take) -> str:
    """Both witnesses' events as JSON, in order; t_s counts from the first sample of the recording."""
    witnesses = (("caller", take.caller_events), ("call", take.timeline["events"]))
    events = [
        {"t_s": round(event.at_s, 4), "from": witness, "kind": event.kind, **event.data}
        for witness, told in witnesses
        for event in _events(take, told)
    ]
    head = {
        "uuid": take.timeline["uuid"],
        "host": args.host,
        "realtime": args.realtime,
        "rate_hz": take.recording.rate_hz,
        "duration_s": round(take.recording.duration_s, 4),
    }
    return json.dumps({**head, "events": sorted(events, key=lambda event: event["t_s"])}, indent=1) + "\n"


def summary(told: report.Report) -> str:
    """The conversation in a few lines."""
    rows = [("turns answered", str(told.turns))]
    if told.latency_p50_ms is not None:
        worst_ms = max(latency.ms for latency in told.latencies)
        rows.append(("reply latency", f"p50 {told.latency_p50_ms:.0f} ms, longest {worst_ms:.0f} ms"))
    for barge_in in told.barge_ins:
        silent_ms = (barge_in.silent_s - barge_in.at_s) * 1000
        truncated = "not" if barge_in.truncated_ms is None else f"at {barge_in.truncated_ms:,.0f} ms"
        heard = f"{barge_in.heard_ms:,.0f} ms heard, truncated {truncated}, silent after {silent_ms:.0f} ms"
        rows.append(("barge-in", heard))
    rows += [("underruns", str(told.underruns)), ("ended by", told.end_reason or "unknown")]
    return "\n".join(f"  {name:<16}{value}" for name, value in rows)
