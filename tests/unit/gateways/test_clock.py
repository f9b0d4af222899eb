from __future__ import annotations

import threading
import time

import pytest

from ivr_ai.gateways.clock import Due, MediaClock, Pacer

PERIOD_S = 0.02


def test_ticks_are_due_on_a_grid_that_work_and_late_wakeups_do_not_move():
    pacer = Pacer(PERIOD_S, start_s=100.0)
    now_s, late_s = 100.0, [0.0, 0.003, 0.011, 0.0004]
    for nth in range(1, 180_001):  # an hour
        now_s += pacer.wait_s(now_s)
        assert now_s == pytest.approx(100.0 + nth * PERIOD_S, abs=1e-6)
        now_s += late_s[nth % 4]
        assert pacer.due(now_s) == Due(1, 0)
    assert pacer.stats.ticks == 180_000
    assert pacer.stats.late_ticks == pacer.stats.skipped_ticks == 0


def test_nothing_is_due_before_the_deadline():
    pacer = Pacer(PERIOD_S, start_s=0.0)
    assert pacer.due(0.0199) == Due(0, 0)
    assert pacer.wait_s(0.005) == pytest.approx(0.015)
    assert pacer.due(0.02) == Due(1, 0)


def test_a_short_stall_is_made_up_for_at_once():
    pacer = Pacer(PERIOD_S, start_s=0.0, burst=3)
    assert pacer.due(0.065) == Due(3, 0)
    assert pacer.wait_s(0.065) == pytest.approx(0.015)
    assert (pacer.stats.late_ticks, pacer.stats.skipped_ticks) == (2, 0)
    assert pacer.stats.worst_late_ms == pytest.approx(45)


def test_after_a_long_stall_the_clock_gives_up_the_rest_and_stays_in_step():
    pacer = Pacer(PERIOD_S, start_s=0.0, burst=3)
    assert pacer.due(1.005) == Due(3, 47)
    assert pacer.wait_s(1.005) == pytest.approx(0.015)
    assert pacer.stats.ticks + pacer.stats.skipped_ticks == 50


@pytest.mark.parametrize(("period_s", "burst"), [(0.0, 3), (0.02, 0)])
def test_a_clock_that_cannot_tick_is_refused(period_s, burst):
    with pytest.raises(ValueError, match="burst from 1 up"):
        Pacer(period_s, 0.0, burst)


def test_the_thread_keeps_time_and_tells_how_many_ticks_it_skipped():
    ticks: list[tuple[float, int]] = []
    stalled = threading.Event()

    def on_tick(skipped: int) -> None:
        ticks.append((time.monotonic(), skipped))
        if len(ticks) == 10:
            time.sleep(0.3)
            stalled.set()

    clock = MediaClock(on_tick, burst=2)
    clock.start()
    clock.start()  # a second start changes nothing
    started_s = ticks[0][0] if ticks else time.monotonic()
    assert stalled.wait(5)
    time.sleep(0.2)
    clock.stop()
    elapsed_s = ticks[-1][0] - started_s
    accounted = len(ticks) + sum(skipped for _, skipped in ticks)
    assert abs(accounted * PERIOD_S - elapsed_s) < 3 * PERIOD_S
    assert max(skipped for _, skipped in ticks) >= 8
    assert clock.stats.skipped_ticks == sum(skipped for _, skipped in ticks)


def test_after_stop_nothing_ticks_and_the_clock_can_start_again():
    ticks: list[int] = []
    clock = MediaClock(ticks.append, tick_ms=10)
    for _ in range(2):
        clock.start()
        time.sleep(0.06)
        clock.stop()
        count = len(ticks)
        assert count
        time.sleep(0.03)
        assert len(ticks) == count
