"""A picture of a conversation: both waveforms on one time line, turns, latencies and barge-in marked."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from ivr_ai.demo.report import BargeIn, Latency, Report, Speech
from ivr_ai.gateways.recording import Recording

CALLER, AI, CUT, INK, SOFT = "#2563a8", "#b45309", "#c02b2b", "#1f2937", "#6b7280"
LANES = {"caller": ("Caller", CALLER), "ai": ("AI", AI)}
TURN_SHADES = ("#f6f7f9", "#e9edf3")
POINTS = 3200  # of an envelope: as many as the picture has pixels across
DPI = 110
WIDTH_IN, HEIGHT_IN = 16.0, 7.0
LEFT, RIGHT = 0.05, 0.985
CHARACTERS_PER_IN = 14.0  # of a caption
CAPTION_LINES = 4


def draw(report: Report, recording: Recording, path: Path | str, title: str) -> None:
    """Writes a PNG of a conversation. Raises OSError."""
    duration_s = max(recording.duration_s, 0.1)
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI)
    try:
        figure.subplots_adjust(left=LEFT, right=RIGHT, top=0.775, bottom=0.195, hspace=0.23)
        for axes, who, pcm in ((top, "caller", recording.caller), (bottom, "ai", recording.ai)):
            _shade_turns(axes, report, duration_s)
            _waveform(axes, pcm, recording.rate_hz, who)
            _captions(axes, [speech for speech in report.speeches if speech.who == who], duration_s)
        for latency in report.latencies:
            _mark_latency(bottom, latency)
        for barge_in in report.barge_ins:
            _mark_barge_in(top, bottom, barge_in)
        _label(top, bottom, report, duration_s)
        figure.text(LEFT, 0.955, title, fontsize=15, color=INK, weight="bold", va="center")
        figure.legend(
            handles=_legend(), loc="center right", bbox_to_anchor=(RIGHT, 0.957), ncols=4, frameon=False
        )
        figure.savefig(path, facecolor="white")
    finally:
        plt.close(figure)


def _turn_spans(report: Report, duration_s: float) -> Iterator[tuple[int, float, float]]:
    """(turn, start, end): a turn lasts until the caller speaks again."""
    starts = [(speech.turn, speech.start_s) for speech in report.speeches if speech.who == "caller"]
    spans = [(0, 0.0), *starts, (0, duration_s)]
    for (turn, start_s), (_, end_s) in pairwise(spans):
        if end_s > start_s:
            yield turn, start_s, end_s


def _shade_turns(axes: Axes, report: Report, duration_s: float) -> None:
    for turn, start_s, end_s in _turn_spans(report, duration_s):
        axes.axvspan(start_s, end_s, color=TURN_SHADES[turn % 2], lw=0, zorder=0)


def envelope(pcm: bytes, rate_hz: int, points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(seconds, lowest, highest) of s16 samples in `points` slices, as fractions of full scale."""
    samples = np.frombuffer(pcm, dtype=np.int16)
    width = max(1, -(-len(samples) // points))
    rows = np.pad(samples, (0, -len(samples) % width)).reshape(-1, width) / 32768
    return np.arange(len(rows)) * width / rate_hz, rows.min(axis=1), rows.max(axis=1)


def _waveform(axes: Axes, pcm: bytes, rate_hz: int, who: str) -> None:
    name, colour = LANES[who]
    seconds, low, high = envelope(pcm, rate_hz, POINTS)
    peak = max(0.05, float(np.abs([low, high]).max(initial=0)))
    axes.fill_between(seconds, low / peak, high / peak, color=colour, lw=0.3, zorder=3)
    axes.axhline(0, color=colour, lw=0.6, zorder=2)
    axes.set_ylabel(name, fontsize=13, color=colour, weight="bold")


def _captions(axes: Axes, speeches: Sequence[Speech], duration_s: float) -> None:
    """What was said, outside the axes: above the caller's, below the AI's; each as wide as there is room."""
    per_s = WIDTH_IN * (RIGHT - LEFT) / duration_s * CHARACTERS_PER_IN
    ends = [*(speech.start_s for speech in speeches[1:]), duration_s]
    for speech, room_end_s in zip(speeches, ends, strict=False):
        width = max(12, int((room_end_s - speech.start_s) * per_s) - 2)
        lines = textwrap.wrap(speech.text, width, max_lines=CAPTION_LINES, placeholder=" …")
        colour, above = LANES[speech.who][1], speech.who == "caller"
        axes.axvspan(speech.start_s, speech.end_s, color=colour, alpha=0.10, lw=0, zorder=1)
        axes.text(
            speech.start_s,
            1.05 if above else -0.19,
            "\n".join(lines),
            transform=axes.get_xaxis_transform(),
            va="bottom" if above else "top",
            fontsize=9.5,
            color=colour,
            linespacing=1.25,
        )


def _mark_latency(bottom: Axes, latency: Latency) -> None:
    """An arrow between the two lanes, from the caller's last sound to the reply's first."""
    between = {"xycoords": bottom.get_xaxis_transform(), "annotation_clip": False}
    arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    bottom.annotate(
        "",
        (latency.to_s, 1.06),
        (latency.from_s, 1.06),
        arrowprops=arrow,
        textcoords=between["xycoords"],
        **between,
    )
    middle_s = (latency.from_s + latency.to_s) / 2
    label = {"ha": "center", "va": "bottom", "fontsize": 10.5, "weight": "bold", "color": INK}
    bottom.annotate(f"{latency.ms:.0f} ms", (middle_s, 1.09), **between, **label)


def _mark_barge_in(top: Axes, bottom: Axes, barge_in: BargeIn) -> None:
    """Lines where the caller began to interrupt, through both lanes, and where the AI fell silent."""
    for axes in (top, bottom):
        axes.axvline(barge_in.at_s, color=CUT, lw=1.4, ls=(0, (4, 3)), zorder=4)
    bottom.axvspan(barge_in.at_s, barge_in.silent_s, color=CUT, alpha=0.28, lw=0, zorder=2)
    told = "" if barge_in.truncated_ms is None else f"\ntruncated {barge_in.truncated_ms:,.0f} ms"
    text = f"barge-in\nheard {barge_in.heard_ms:,.0f} ms{told}"
    place = (barge_in.silent_s, 0.74)
    box = {"facecolor": "white", "edgecolor": CUT, "boxstyle": "round,pad=0.35", "lw": 0.8}
    style = {"fontsize": 9.5, "color": CUT, "bbox": box, "zorder": 6, "va": "center"}
    bottom.annotate(text, place, (8, 0), bottom.get_xaxis_transform(), "offset points", **style)


def _label(top: Axes, bottom: Axes, report: Report, duration_s: float) -> None:
    for axes in (top, bottom):
        axes.set_ylim(-1.12, 1.12)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(SOFT)
        axes.tick_params(colors=SOFT, labelsize=10)
    top.tick_params(bottom=False)
    top.spines["bottom"].set_visible(False)
    bottom.set_xlim(0, duration_s)
    bottom.xaxis.set_major_locator(MultipleLocator(_tick_s(duration_s)))
    bottom.xaxis.set_major_formatter("{x:g} s")
    for turn, start_s, end_s in _turn_spans(report, duration_s):
        name = f"turn {turn}" if turn else "greeting"
        place = {"ha": "left", "va": "bottom", "fontsize": 9.5, "color": SOFT, "style": "italic"}
        if end_s - start_s > duration_s * 0.04:
            bottom.text(start_s + duration_s * 0.004, -1.08, name, **place)


def _tick_s(duration_s: float) -> float:
    return next((step for step in (0.5, 1, 2, 5, 10, 30, 60) if duration_s / step <= 20), 120)


def _legend() -> list[Patch]:
    return [
        Patch(color=CALLER, label="caller speaks"),
        Patch(color=AI, label="AI speaks"),
        Patch(color=CUT, alpha=0.4, label="barge-in until silence"),
        Patch(color=INK, label="latency of a reply"),
    ]
