"""Both directions on one time line, from Python."""

from __future__ import annotations

from array import array

from ivr_ai.audio.align import FAR, FRAME_MS, NEAR, Align

RATE_HZ = 8000
FRAME = RATE_HZ * FRAME_MS // 1000


def ramp(first: int, count: int = FRAME) -> bytes:
    return array("h", range(first, first + count)).tobytes()


def taken(line: Align, now_s: float) -> tuple[bytes, bytes]:
    """All that can be taken by then."""
    near, far = b"", b""
    while (frame := line.take(now_s)) is not None:
        near, far = near + frame[0], far + frame[1]
    return near, far


def test_what_came_together_is_taken_together():
    line = Align(RATE_HZ, 60, now_s=100.0)
    near, far = b"", b""
    for n in range(25):
        now_s = 100.02 + n * 0.02
        part = taken(line, now_s)
        near, far = near + part[0], far + part[1]
        line.put(NEAR, ramp(1 + n * FRAME), now_s)
        line.put(FAR, ramp(10_000 + n * FRAME), now_s)
    part = taken(line, now_s + line.held_s)
    near, far = near + part[0], far + part[1]
    assert len(near) == len(far)
    start = near.index(ramp(1, 8))
    assert far.index(ramp(10_000, 8)) == start
    assert near[start:][: 25 * FRAME * 2] == ramp(1, 25 * FRAME)


def test_a_silent_side_is_silence_in_its_place():
    line = Align(RATE_HZ, 60, now_s=100.0)
    near, far = b"", b""
    for n in range(50):
        now_s = 100.02 + n * 0.02
        part = taken(line, now_s)
        near, far = near + part[0], far + part[1]
        if n % 25 == 0:
            line.put(NEAR, ramp(1 + n), now_s)
        line.put(FAR, ramp(1000), now_s)
    first, second = near.index(ramp(1)), near.index(ramp(26))
    assert (second - first) // 2 == 25 * FRAME
    assert not any(near[first + 2 * FRAME : second])


def test_nothing_is_taken_before_its_time():
    line = Align(RATE_HZ, 60, now_s=100.0)
    line.put(NEAR, ramp(1), 100.02)
    early, _ = taken(line, 100.02 + 0.03)
    late, _ = taken(line, 100.02 + line.held_s)
    assert not any(early)
    assert ramp(1) in late
