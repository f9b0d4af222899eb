"""A scripted caller: says things, presses keys and hangs up, each when what it hears says so.

    Say("I would like a table for two.", after="reply_end")
    Say("No, wait!", after="reply_start", delay_ms=1500)        # interrupts
    Digits("12", after=20.0)                                    # 20 s into the call
    Hangup(after="reply_end", delay_ms=500)

Steps run in order. A caller knows what is on the line and nothing else: a reply is sound that starts after
silence, and it has ended when `quiet_ms` of silence followed. A step's reply is one that began after the step
before it did, so an interruption is answered by the next reply, not by the rest of the one it cut short.

There is no thread and no clock in here: the host gives one frame and takes one, tick after tick. Times are
milliseconds since the call was answered.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

When = Literal["answer", "reply_start", "reply_end"] | int | float

HEARD = ("answer", "reply_start", "reply_end")
SPLIT_MS = 100  # silence that separates a reply from the next one when the caller has spoken over it
DTMF_CLOCK_HZ = 8000  # FreeSWITCH counts a digit's duration in samples of a telephone line
KEYS = frozenset("0123456789*#ABCD")


def _check_when(after: When, delay_ms: int) -> None:
    if after not in HEARD and not (isinstance(after, (int, float)) and after >= 0):
        raise ValueError(f"after is one of {', '.join(HEARD)} or a number of seconds, not {after!r}")
    if delay_ms < 0:
        raise ValueError(f"delay_ms is 0 or more, not {delay_ms}")


@dataclass(frozen=True)
class Say:
    """Says a text (spoken by espeak-ng), a WAV file (a Path) or s16 mono at the call's rate (bytes)."""

    what: str | bytes | Path
    after: When = "reply_end"
    delay_ms: int = 0

    def __post_init__(self) -> None:
        _check_when(self.after, self.delay_ms)


@dataclass(frozen=True)
class Digits:
    """Presses keys, one after the other, as a telephone reports them (events, no tones)."""

    digits: str
    after: When = "reply_end"
    delay_ms: int = 0
    tone_ms: int = 100
    gap_ms: int = 100

    def __post_init__(self) -> None:
        _check_when(self.after, self.delay_ms)
        wrong = set(self.digits) - KEYS
        if wrong or not self.digits:
            raise ValueError(f"digits are 0-9, *, #, A-D, and at least one; not {self.digits!r}")


@dataclass(frozen=True)
class Hangup:
    """Hangs up."""

    after: When = "reply_end"
    delay_ms: int = 0
    cause: str = "NORMAL_CLEARING"

    def __post_init__(self) -> None:
        _check_when(self.after, self.delay_ms)


Step = Say | Digits | Hangup
Speak = Callable[[str | bytes | Path], bytes]


class Digit:
    """One key press, with the names of FreeSWITCH's DTMF object: digit, and duration in 8 kHz samples."""

    def __init__(self, digit: str, tone_ms: int = 100) -> None:
        self.digit = digit
        self.duration = tone_ms * DTMF_CLOCK_HZ // 1000

    def __repr__(self) -> str:
        return "Digit(<hidden>)"  # keys may be a card number or a PIN: they stay out of logs


@dataclass
class Heard:
    """Sound on the line. end_ms is None while it goes on, afterwards the end of its last loud frame."""

    start_ms: int
    end_ms: int | None = None


class Listener:
    """Tells replies apart by energy, as an ear does. `heard` lists them, oldest first."""

    def __init__(self, quiet_ms: int, threshold_dbfs: float) -> None:
        self.heard: list[Heard] = []
        self._quiet_ms = quiet_ms
        self._threshold = 32768 * math.pow(10, threshold_dbfs / 20)
        self._loud_until_ms = 0
        self._splitting = False

    @property
    def hearing(self) -> bool:
        """Whether a reply is under way (it may be pausing for breath)."""
        return bool(self.heard) and self.heard[-1].end_ms is None

    def hear(self, frame: bytes, start_ms: int, end_ms: int) -> Heard | None:
        """Takes what was on the line; returns the reply that this frame began or ended, if it did either."""
        if rms(frame) < self._threshold:
            return self._close(end_ms)
        self._loud_until_ms = end_ms
        if self.hearing:
            return None
        self.heard.append(Heard(start_ms))
        return self.heard[-1]

    def interrupted(self) -> None:
        """The caller spoke over the reply that is under way: what follows its next silence is another one."""
        self._splitting = self.hearing

    def _close(self, now_ms: int) -> Heard | None:
        quiet_ms = SPLIT_MS if self._splitting else self._quiet_ms
        if not self.hearing or now_ms - self._loud_until_ms < quiet_ms:
            return None
        self._splitting = False
        self.heard[-1].end_ms = self._loud_until_ms
        return self.heard[-1]


@dataclass
class Said:
    """What the caller does in one tick. `frame` is always a whole frame; silence is zeros."""

    frame: bytes
    digits: list[Digit] = field(default_factory=list)
    hangup: str = ""


Observer = Callable[[str, float, dict[str, Any]], None]


def _ignore(kind: str, at_ms: float, data: dict[str, Any]) -> None:
    """The observer of a caller nobody watches."""


class Caller:
    """Runs a script. One thread at a time may use it: the host's clock.

    speak turns what a Say says into s16 at rate_hz and is called once per Say, in the constructor.
    observe(kind, at_ms, data) is told: caller_speaks{turn, text}, caller_quiet{turn}, caller_hears,
    caller_heard{start_ms}, digits{count}, caller_gives_up{waiting_for}, caller_hangs_up{cause}. A caller
    whose next step does not come, or who has none left, hangs up after `patience_s` in which neither side
    made a sound.
    """

    def __init__(
        self,
        script: Sequence[Step],
        speak: Speak,
        *,
        rate_hz: int,
        frame_ms: int = 20,
        quiet_ms: int = 800,
        threshold_dbfs: float = -45.0,
        patience_s: float = 30.0,
        observe: Observer = _ignore,
    ) -> None:
        self._steps = list(script)
        self._audio = [_audio_of(step, speak) for step in self._steps]
        self._rate_hz, self._frame_ms = rate_hz, frame_ms
        self._frame_bytes = rate_hz * frame_ms // 1000 * 2
        self._listener = Listener(quiet_ms, threshold_dbfs)
        self._patience_ms = patience_s * 1000
        self._observe = observe
        self._now_ms = 0
        self._last_sound_ms = 0
        self._step_began_ms = 0
        self._at = 0
        self._turn = 0
        self._speech = memoryview(b"")
        self._keys: list[tuple[int, Digit]] = []
        self._hung_up = False

    @property
    def heard(self) -> list[Heard]:
        """Every sound the caller has taken for a reply."""
        return self._listener.heard

    def tick(self) -> Said:
        """What the caller does in the tick that begins now."""
        said = Said(b"")
        if not self._speech and not self._keys and not self._hung_up:
            self._begin_due_step(said)
        said.frame = self._next_frame()
        while self._keys and self._keys[0][0] <= self._now_ms:
            said.digits.append(self._keys.pop(0)[1])
        if not said.hangup and not self._hung_up:
            said.hangup = self._give_up()
        self._hung_up = self._hung_up or bool(said.hangup)
        return said

    def hear(self, frame: bytes) -> None:
        """What was on the line during the tick; then the tick is over."""
        end_ms = self._now_ms + self._frame_ms
        changed = self._listener.hear(frame, self._now_ms, end_ms)
        if changed is not None and changed.end_ms is None:
            self._observe("caller_hears", changed.start_ms, {})
        elif changed is not None:
            self._observe("caller_heard", changed.end_ms or 0, {"start_ms": changed.start_ms})
        if self._listener.hearing:
            self._last_sound_ms = end_ms
        self._now_ms = end_ms

    def skip(self, ticks: int) -> None:
        """Ticks went missing: nothing was said or heard in them."""
        self._now_ms += ticks * self._frame_ms

    def _begin_due_step(self, said: Said) -> None:
        if self._at >= len(self._steps):
            return
        step, audio = self._steps[self._at], self._audio[self._at]
        due_ms = self._due_ms(step)
        if due_ms is None or due_ms > self._now_ms:
            return
        self._at += 1
        self._step_began_ms = self._last_sound_ms = self._now_ms
        if isinstance(step, Say):
            self._begin_speech(step, audio)
        elif isinstance(step, Digits):
            self._begin_digits(step)
        else:
            said.hangup = step.cause
            self._observe("caller_hangs_up", self._now_ms, {"cause": step.cause})

    def _due_ms(self, step: Step) -> float | None:
        """When the step is to begin, as far as that can be said by now."""
        if step.after == "answer":
            return step.delay_ms
        if isinstance(step.after, (int, float)):
            return step.after * 1000 + step.delay_ms
        for reply in self._listener.heard:
            moment_ms = reply.start_ms if step.after == "reply_start" else reply.end_ms
            if reply.start_ms >= self._step_began_ms and moment_ms is not None:
                return moment_ms + step.delay_ms
        return None

    def _begin_speech(self, step: Say, audio: bytes) -> None:
        self._turn += 1
        self._speech = memoryview(audio)
        text = step.what if isinstance(step.what, str) else ""
        self._observe("caller_speaks", self._now_ms, {"turn": self._turn, "text": text})

    def _begin_digits(self, step: Digits) -> None:
        every_ms = step.tone_ms + step.gap_ms
        keys = enumerate(step.digits)
        self._keys = [(self._now_ms + nth * every_ms, Digit(key, step.tone_ms)) for nth, key in keys]
        self._observe("digits", self._now_ms, {"count": len(step.digits)})

    def _next_frame(self) -> bytes:
        if not self._speech:
            return bytes(self._frame_bytes)
        frame, self._speech = bytes(self._speech[: self._frame_bytes]), self._speech[self._frame_bytes :]
        self._last_sound_ms = self._now_ms + self._frame_ms
        if not self._speech:
            self._end_speech(self._now_ms + len(frame) * self._frame_ms / self._frame_bytes)
        return frame.ljust(self._frame_bytes, b"\0")

    def _end_speech(self, at_ms: float) -> None:
        if self._listener.hearing and self._listener.heard[-1].start_ms < self._step_began_ms:
            self._listener.interrupted()
        self._observe("caller_quiet", at_ms, {"turn": self._turn})

    def _give_up(self) -> str:
        if self._now_ms - self._last_sound_ms < self._patience_ms or self._waits_for_time():
            return ""
        step = self._steps[self._at] if self._at < len(self._steps) else None
        self._observe("caller_gives_up", self._now_ms, {"waiting_for": str(step.after) if step else "hangup"})
        return "NORMAL_CLEARING"

    def _waits_for_time(self) -> bool:
        """Whether the next step has its moment already, which is no reason to lose patience before it."""
        due_ms = self._due_ms(self._steps[self._at]) if self._at < len(self._steps) else None
        return due_ms is not None and due_ms >= self._now_ms


def _audio_of(step: Step, speak: Speak) -> bytes:
    if not isinstance(step, Say):
        return b""
    audio = speak(step.what)
    if not audio or len(audio) % 2:
        raise ValueError(f"{step!r} gave {len(audio)} bytes of audio: s16 samples are needed, at least one")
    return audio


def trimmed(pcm: bytes, threshold: int = 200) -> bytes:
    """s16 samples without the near-silence before and after them: engines add up to half a second of it."""
    samples = array("h", pcm)
    loud = [at for at, sample in enumerate(samples) if abs(sample) > threshold]
    return samples[loud[0] : loud[-1] + 1].tobytes() if loud else pcm


def rms(frame: bytes) -> float:
    """Root mean square of s16 samples in host byte order; 0.0 for none."""
    samples = array("h", frame)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples)) if samples else 0.0
