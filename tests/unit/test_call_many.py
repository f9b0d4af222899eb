"""A hundred calls at once whose connections are killed at random: each goes on, or ends as configured."""

from __future__ import annotations

import os
import random
import threading
import time
from statistics import median

import pytest
from calls import SAYS, wait_for_none

from ivr_ai.audio.stream import open_streams
from ivr_ai.gateways.caller import Hangup, Say

CALLS = 100
KILLING_S = 6.0
GAP_MS = 1000  # on a machine that keeps up
USUAL_GAP_MS = 250
CONNECT_MS = 5500  # IVR_AI_CONNECT_TIMEOUT_MS, and a look of the watch
SEED = 28
ENDS = (
    lambda session: session.drop(),
    lambda session: session.close(1001),
    lambda session: session.close(1011, "internal error"),
    lambda session: session.close(1012),
)


@pytest.fixture
def tick_s() -> float:
    """The host's clock is nearly the world's: so many calls are work enough."""
    return 0.02


class Killer:
    """Ends connections of a server, now this one and now that one, from a thread of its own."""

    def __init__(self, server, every_s: float, new_too: bool) -> None:
        """new_too: also ones that no audio has come over, because they are still being agreed on."""
        self.killed = 0
        self._server, self._every_s, self._new_too = server, every_s, new_too
        self._random = random.Random(SEED)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._random.uniform(0, 2 * self._every_s)):
            alive = [each for each in self._server.sessions if not each.closed]
            alive = alive if self._new_too else [each for each in alive if each.audio_ms > 0]
            if alive:
                self._random.choice(ENDS)(self._random.choice(alive))
                self.killed += 1

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class Lateness:
    """How late the machine was at worst with a thread that wanted to do something every 20 ms."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            since_s = time.monotonic()
            time.sleep(0.02)
            self.worst_ms = max(self.worst_ms, (time.monotonic() - since_s) * 1000 - 20)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def losses(placed) -> list:
    """What was told of lost connections, in order."""
    return [event for event in placed.events if event.kind in ("reconnecting", "reconnected", "failure")]


def told(placed) -> tuple[str, list[str]]:
    """A call and what it has told."""
    return placed.uuid, placed.kinds()


def is_settled(placed) -> bool:
    """Whether the call is over, or has a connection."""
    lost = losses(placed)
    return placed.call.over or not lost or lost[-1].kind == "reconnected"


@pytest.mark.slow
@pytest.mark.parametrize("new_too", [False, True], ids=["in use", "new ones too"])
@pytest.mark.parametrize("transport", ["native", "python"])
def test_connections_killed_at_random_in_a_hundred_calls(place, sim, transport, new_too):
    server = sim(voice="tone:440:600", pace=4, keep_audio=False)
    place(server, [Say(SAYS, "answer"), Hangup()]).finish()  # what the first call of a process opens stays
    server.sessions[0].wait_closed()
    before = len(os.listdir("/proc/self/fd"))
    script = [Say(SAYS, "answer", delay_ms=nth * 500) for nth in range(1, 8)]
    settings = {"greeting": "Say hello.", "apology_text": "", "reconnect_max": 3, "host": {"wire": "s16"}}
    calls = [place(server, script, **settings) for _ in range(CALLS)]
    for each in calls:
        each.wait("answered", timeout_s=30)
    late = Lateness()
    killer = Killer(server, KILLING_S / 200, new_too)
    time.sleep(KILLING_S)
    killer.stop()
    late.stop()
    wait_for_none(lambda: [told(each) for each in calls if not is_settled(each)])

    up = [each for each in calls if not each.call.over]
    failed = [each for each in calls if each.of("failure")]
    assert killer.killed > CALLS
    assert len(up) + len(failed) == CALLS
    assert len(up) >= CALLS // 2
    for each in failed:
        assert len(each.of("reconnecting")) == 3, each.of("failure")
        assert each.finish().session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
    heard = {each: len(each.of("item_finished")) for each in up}
    for each in up:
        each.say(SAYS)
    wait_for_none(lambda: [told(each) for each in up if len(each.of("item_finished")) == heard[each]], 20)
    for each in up:
        each.hang_up()
    for each in calls:
        each.finish()
        each.gone_after_s(time.monotonic())
    gaps_ms = [event.data["ms"] for each in calls for event in each.of("reconnected")]
    assert median(gaps_ms) < USUAL_GAP_MS + late.worst_ms
    # A connection that is lost while it is being made is made again, which takes its time.
    assert max(gaps_ms) < (CONNECT_MS if new_too else GAP_MS + late.worst_ms)
    assert open_streams() == []
    wait_for_none(lambda: os.listdir("/proc/self/fd")[before:])
