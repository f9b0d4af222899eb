from __future__ import annotations

import math
from array import array

import pytest

from ivr_ai.gateways.caller import Caller, Digits, Hangup, Listener, Said, Say, rms, trimmed

RATE_HZ = 8000
FRAME = 320  # bytes of 20 ms
SILENCE = bytes(FRAME)


def tone(ms: int, amplitude: int = 8000) -> bytes:
    count = RATE_HZ * ms // 1000
    return array("h", (int(amplitude * math.sin(n * 0.4)) for n in range(count))).tobytes()


LOUD = tone(20)


class Room:
    """A caller, and what the line plays to it."""

    def __init__(self, script, **options) -> None:
        self.events: list[tuple[str, float, dict]] = []
        self.caller = Caller(
            script,
            lambda what: what if isinstance(what, bytes) else tone(len(what) * 100),
            rate_hz=RATE_HZ,
            observe=lambda *event: self.events.append(event),
            **options,
        )
        self.said: list[Said] = []

    def play(self, ms: int, frame: bytes = SILENCE) -> None:
        for _ in range(ms // 20):
            self.said.append(self.caller.tick())
            self.caller.hear(frame)

    def talk(self, ms: int) -> None:
        self.play(ms, LOUD)

    def speaks_at(self) -> list[float]:
        return [at_ms for kind, at_ms, _ in self.events if kind == "caller_speaks"]

    def hung_up_at(self) -> list[int]:
        return [nth * 20 for nth, said in enumerate(self.said) if said.hangup]


def test_a_step_after_answer_starts_with_its_delay():
    room = Room([Say("abc", after="answer", delay_ms=300)])
    room.play(1000)
    audio = b"".join(said.frame for said in room.said)
    assert room.events == [
        ("caller_speaks", 300, {"turn": 1, "text": "abc"}),
        ("caller_quiet", 600, {"turn": 1}),
    ]
    assert audio == bytes(15 * FRAME) + tone(300) + bytes(20 * FRAME)


def test_an_utterance_that_ends_inside_a_frame_is_padded_and_ends_on_time():
    room = Room([Say(tone(50), after="answer")])
    room.play(100)
    assert b"".join(said.frame for said in room.said) == tone(50) + bytes(50 * 16)
    assert room.events[-1] == ("caller_quiet", 50, {"turn": 1})


def test_reply_end_waits_until_the_line_has_been_quiet():
    room = Room([Say("hello", after="reply_end", delay_ms=100)], quiet_ms=800)
    room.play(200)
    room.talk(1000)
    room.play(500)  # a breath between two sentences
    room.talk(400)
    room.play(2000)
    assert room.speaks_at() == [2100 + 800]
    assert [(h.start_ms, h.end_ms) for h in room.caller.heard] == [(200, 2100)]
    assert room.events[:2] == [("caller_hears", 200, {}), ("caller_heard", 2100, {"start_ms": 200})]


def test_a_delay_after_the_end_counts_from_the_end_itself():
    room = Room([Say("hello", after="reply_end", delay_ms=1500)], quiet_ms=800)
    room.talk(500)
    room.play(3000)
    assert room.speaks_at() == [2000]


def test_reply_start_interrupts_and_the_next_step_waits_for_the_reply_after_that():
    room = Room([Say("greeting", "answer"), Say("stop", "reply_start", 1000), Hangup(delay_ms=900)])
    room.play(1000)  # speaks until 800
    room.talk(1000 + 200)  # interrupted at 2000, falls silent at 2200
    room.play(400)  # speaks until 2400; gap of 400 ms
    room.talk(600)  # the answer to the interruption, 2600 to 3200
    room.play(1000)
    assert room.speaks_at() == [0, 2000]
    assert [(h.start_ms, h.end_ms) for h in room.caller.heard] == [(1000, 2200), (2600, 3200)]
    assert room.hung_up_at() == [3200 + 900]


def test_an_old_reply_that_goes_on_after_the_interruption_does_not_count():
    room = Room([Say("stop", "reply_start", 500), Hangup(delay_ms=0)])
    room.talk(2000)
    room.play(300)
    assert not room.hung_up_at()
    room.talk(200)
    room.play(1000)
    assert room.hung_up_at() == [2500 + 800]


def test_seconds_are_counted_from_answer():
    room = Room([Say("x", after=0.5), Digits("7#", after=1, tone_ms=60, gap_ms=80), Hangup(after=2.0)])
    room.play(2500)
    keys = [(nth * 20, key.digit, key.duration) for nth, said in enumerate(room.said) for key in said.digits]
    assert room.speaks_at() == [500]
    assert keys == [(1000, "7", 480), (1140, "#", 480)]
    assert room.hung_up_at() == [2000]
    assert ("digits", 1000, {"count": 2}) in room.events


def test_missing_ticks_pass_without_sound():
    room = Room([Say("x", after=1.0)])
    room.play(200)
    room.caller.skip(30)
    room.play(400)
    assert room.speaks_at() == [1000]


@pytest.mark.parametrize(
    ("script", "waiting_for"), [([Say("x", "reply_start")], "reply_start"), ([], "hangup")]
)
def test_a_caller_loses_patience_with_a_silent_line(script, waiting_for):
    room = Room(script, patience_s=2)
    room.play(3000)
    assert room.hung_up_at() == [2000]
    assert room.events == [("caller_gives_up", 2000, {"waiting_for": waiting_for})]


def test_sound_and_a_step_whose_time_is_known_keep_the_caller_on_the_line():
    room = Room([Say("x", after=5)], patience_s=2)
    room.play(3500)
    room.talk(1000)
    room.play(4000)
    assert room.speaks_at() == [5000]
    assert room.hung_up_at() == [5100 + 2000]


def test_threshold_tells_speech_from_line_noise():
    listener = Listener(quiet_ms=100, threshold_dbfs=-45)
    assert listener.hear(tone(20, amplitude=150), 0, 20) is None
    assert listener.hear(tone(20, amplitude=600), 20, 40) is not None
    assert listener.hearing


def test_silence_around_speech_is_trimmed():
    quiet = array("h", [150, -150] * 400).tobytes()
    speech = array("h", [300, 0, 0, -300]).tobytes()
    assert trimmed(quiet + speech + quiet) == speech
    assert trimmed(quiet) == quiet


def test_rms():
    assert rms(b"") == 0.0
    assert rms(array("h", [100, -100] * 80).tobytes()) == pytest.approx(100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Say("x", after="sometime"), "after is one of"),
        (lambda: Hangup(after=-1), "number of seconds"),
        (lambda: Say("x", delay_ms=-5), "delay_ms is 0 or more"),
        (lambda: Digits("12e"), "digits are"),
        (lambda: Digits(""), "digits are"),
        (lambda: Room([Say(b"")]), "0 bytes of audio"),
        (lambda: Room([Say(b"abc")]), "3 bytes of audio"),
    ],
)
def test_bad_steps_say_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_keys_stay_out_of_logs():
    room = Room([Digits("9", after="answer")])
    room.play(20)
    assert "9" not in repr(room.said[0].digits)
