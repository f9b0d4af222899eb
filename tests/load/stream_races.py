"""Many streams started, stopped and cut off at random moments on a real FreeSWITCH. What is left behind?

    python tests/load/stream_races.py --races 5000

Each race starts a stream on one of a few calls, in either dialect, to a server that listens, plays, resets
the connection or closes it, to none at all, or for an application in the switch. At times another thread
stops or starts the same stream, or kills its call, while the start is under way. At a random moment the
stream is stopped, shut down or started again, its call hangs up or is killed, or nothing is done to it.
Afterwards: every start that was accepted has been told of once, and so has its end; no channel within 2 s;
threads and descriptors as before; memory has stopped growing. Exits 1 when something is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[1]), str(_HERE.parents[1] / "freeswitch"), str(_HERE.parents[2])]

from esl import Esl  # noqa: E402
from stream_servers import Peer, StreamServer  # noqa: E402
from support.sip import SipCall, SipCaller  # noqa: E402
from support.switch import FreeSwitch  # noqa: E402

LEFT_AFTER_S = 2.0
SETTLED_S = 3.0  # closing handshakes, name look-ups, allocators
QUIET_S = 1.0
DEAD_URL = "ws://127.0.0.1:1/"
BLOCKS = 5
GROWTH_KB_PER_RACE = 0.5
ONE_ARENA = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "65536"}
STARTED, STOPPED = (f"mod_audio_stream::stream_{what}" for what in ("started", "stopped"))
FORMS = (
    "{url} mono 8k",
    '{url} mixed 16000 {{"a": 1}}',
    "{url} inbound 8000 5 1",
    "{url} both 24000 0 0 meta data",
    "embedded",
    "embedded mixed",
)
MEANWHILE = ("stop", "start", "kill", *[""] * 4)
MEANWHILE_S = 0.002
ENDS = ("stop", "stop", "graceful", "hangup", "kill", "restart", "nothing")
PLACES = ("park", "tone", "echo", "silence")


@dataclass
class Left:
    """What the switch holds when no call is up."""

    threads: int
    fds: int
    rss_kb: int


class Server:
    """Does something else with each connection: a seeded generator says what."""

    def __init__(self, seed: int) -> None:
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._server = StreamServer(greet=self._greet)

    def __enter__(self) -> StreamServer:
        return self._server.__enter__()

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def _greet(self, peer: Peer) -> None:
        with self._lock:
            what = self._chance.choice(("listen", "listen", "play", "play", "reset", "close", "late reset"))
            delay_s = self._chance.uniform(0, 0.08)
        with contextlib.suppress(Exception):  # the stream may have gone already
            if what == "play":
                peer.send(bytes(3200))
                peer.play_binary(bytes(1600), 8000)
                peer.play_json(bytes(1600), 8000)
            elif what == "reset":
                peer.kill()
            elif what in ("close", "late reset"):
                time.sleep(delay_s)
                peer.kill() if what == "late reset" else peer.close(1011)


@dataclass
class Races:
    """Runs races from a few threads, each with its own call and event socket."""

    switch: FreeSwitch
    url: str
    dead_url: str
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    accepted: Counter[tuple[str, str]] = field(default_factory=Counter)  # starts
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, races: range, workers: int) -> None:
        """races: their numbers, of which each means something else."""
        numbers = iter(races)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                with ExitStack() as stack:
                    caller = stack.enter_context(SipCaller(self.switch.sip_address))
                    esl, other = (stack.enter_context(Esl(*self.switch.event_socket)) for _ in range(2))
                    racer = Racer(self, caller, esl, other)
                    while (number := self._next(numbers)) is not None:
                        racer.race(number)
                    racer.end()
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _next(self, numbers: object) -> int | None:
        with self._lock:
            return next(numbers, None)  # type: ignore[call-overload]

    def count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def count_start(self, answer: str, uuid: str, stream_id: str) -> bool:
        """Whether it was accepted."""
        with self._lock:
            if answer == "+OK":
                self.accepted[uuid, stream_id] += 1
            else:
                reason = answer.partition("\n")[0].replace(uuid, "...").replace(stream_id, "...")
                self.outcomes[f"start: {reason}"] += 1
        return answer == "+OK"


class Racer:
    """One thread's call, replaced when it has been hung up."""

    def __init__(self, races: Races, caller: SipCaller, esl: Esl, other: Esl) -> None:
        """other: for what is said while esl waits for an answer."""
        self._races, self._caller, self._esl, self._other = races, caller, esl, other
        self._call: SipCall | None = None

    def race(self, number: int) -> None:
        chance = random.Random(self._races.seed * 1_000_003 + number)
        if self._call is None or self._call.ended_at_s is not None:
            self._call = self._caller.call(chance.choice(PLACES)).wait_answered()
        uuid, stream_id = self._call.call_id, f"r{number}"
        url = self._races.dead_url if chance.random() < 0.05 else self._races.url
        form = chance.choice(FORMS).format(url=url)
        if not self._start(chance, uuid, stream_id, form):
            return
        time.sleep(chance.choice((0, 0, 0.002, 0.01, 0.05, 0.1)) * chance.uniform(0.5, 1.5))
        if chance.random() < 0.3:
            for words in ("pause", 'send_text {"b": 2}', "status", "resume"):
                self._api(uuid, f"{stream_id} {words}")
        end = chance.choice(ENDS)
        self._races.count(end)
        self._end(end, uuid, stream_id, form)

    def _start(self, chance: random.Random, uuid: str, stream_id: str, form: str) -> bool:
        """Whether the stream has been started; whatever another thread does meanwhile."""
        what, delay_s = chance.choice(MEANWHILE), chance.uniform(0, MEANWHILE_S)
        thread = threading.Thread(target=self._meddle, args=(what, delay_s, uuid, stream_id, form))
        if what:
            thread.start()
        answer = self._api(uuid, f"{stream_id} start {form}")
        if what:
            thread.join()
        if what == "kill":
            self._call.wait_ended()
        return self._races.count_start(answer, uuid, stream_id)

    def _meddle(self, what: str, delay_s: float, uuid: str, stream_id: str, form: str) -> None:
        time.sleep(delay_s)
        if what == "kill":
            self._other.api(f"uuid_kill {uuid}")
            return
        answer = self._other.api(
            f"uuid_audio_stream {uuid} {stream_id} {what} {form if what == 'start' else ''}"
        )
        if what == "start":
            self._races.count_start(answer, uuid, stream_id)
        self._races.count(f"{what} meanwhile: {answer[:3]}")

    def _end(self, end: str, uuid: str, stream_id: str, form: str) -> None:
        if end == "stop":
            self._api(uuid, f"{stream_id} stop done")
        elif end == "graceful":
            self._api(uuid, f"{stream_id} graceful-shutdown done")
        elif end == "restart":
            self._api(uuid, f"{stream_id} stop")
            again = self._api(uuid, f"{stream_id}b start {form}")
            self._races.count_start(again, uuid, f"{stream_id}b")
            self._api(uuid, f"{stream_id}b stop")
        elif end == "hangup":
            self.end()
        elif end == "kill":
            self._esl.api(f"uuid_kill {uuid}")
            self._call.wait_ended()

    def _api(self, uuid: str, words: str) -> str:
        return self._esl.api(f"uuid_audio_stream {uuid} {words}")

    def end(self) -> None:
        if self._call is not None and self._call.ended_at_s is None:
            self._call.hangup()
        self._call = None


class Events:
    """How often each stream was said to have started and stopped: (uuid, stream id)."""

    def __init__(self, switch: FreeSwitch) -> None:
        self._esl = Esl(*switch.event_socket)
        self._esl.subscribe(STARTED, STOPPED)
        self.started: Counter[tuple[str, str]] = Counter()
        self.stopped: Counter[tuple[str, str]] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set() or self._take(self._esl.drain(QUIET_S)):
            self._take(self._esl.drain(0.05))

    def _take(self, events: list[dict[str, Any]]) -> int:
        for event in events:
            seen = self.started if event["Event-Subclass"] == STARTED else self.stopped
            seen[event["body"]["uuid"], event["body"]["streamId"]] += 1
        return len(events)

    def close(self) -> None:
        """Once no more come."""
        self._over.set()
        self._thread.join()
        self._esl.__exit__()


def left(switch: FreeSwitch) -> Left:
    """Waits until no channel is up and connections have ended. Raises SwitchError when a channel stays."""
    switch.wait_channels(0, LEFT_AFTER_S)
    time.sleep(SETTLED_S)
    return Left(switch.threads(), switch.fds(), switch.rss_kb())


def measure(switch: FreeSwitch, racing: Races, races: int, workers: int) -> dict[str, Any]:
    """Compares before and after that many races.

    Memory is looked at in blocks: what leaks makes each of them grow. FreeSWITCH itself takes a few megabytes
    more at times, calls without a stream on them or not, which the median of the blocks leaves out.
    """
    looks, events = [left(switch)], Events(switch)
    took_s = 0.0
    try:
        for block in range(BLOCKS):
            began_s = time.monotonic()
            racing.run(range(races * block // BLOCKS, races * (block + 1) // BLOCKS), workers)
            took_s += time.monotonic() - began_s
            looks.append(left(switch))
    finally:
        events.close()
    growth_kb = [after.rss_kb - before.rss_kb for before, after in pairwise(looks)]
    return {
        "races": races,
        "races_per_s": round(races / took_s, 1),
        "outcomes": dict(racing.outcomes),
        "before": vars(looks[0]),
        "after": vars(looks[-1]),
        "rss_kb": [look.rss_kb for look in looks],
        "kb_per_race": round(median(growth_kb) * BLOCKS / races, 3),
        "started": sum(events.started.values()),
        "stopped": sum(events.stopped.values()),
        "not_once": sorted(map(str, not_once(racing.accepted, events))),
    }


def not_once(accepted: Counter[tuple[str, str]], events: Events) -> set[tuple[str, str]]:
    """Streams of which there is not one stream_started and one stream_stopped for each start accepted."""
    return {
        stream
        for stream in {*accepted, *events.started, *events.stopped}
        if not accepted[stream] == events.started[stream] == events.stopped[stream]
    }


def problems(result: dict[str, Any], limit_kb: float = GROWTH_KB_PER_RACE) -> list[str]:
    """What is wrong with the measurements; empty when nothing is."""
    before, after = result["before"], result["after"]
    found = [
        f"{name}: {before[name]} before, {after[name]} after"
        for name in ("threads", "fds")
        if after[name] > before[name] + 3
    ]
    if result["kb_per_race"] > limit_kb:
        found.append(f"memory: {result['kb_per_race']:.2f} KB a race")
    if result["not_once"]:
        found.append(f"not started and stopped once: {result['not_once'][:10]}")
    return found


def run(races: int, warm_up: int, workers: int, seed: int, root: Path) -> dict[str, Any]:
    """Starts server and switch; after the warm-up, measures. Raises SwitchError when the switch crashes."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(seed))
        switch = stack.enter_context(FreeSwitch(root, env=ONE_ARENA))
        Races(switch, server.url, DEAD_URL, seed + 1).run(range(warm_up), workers)
        return measure(switch, Races(switch, server.url, DEAD_URL, seed), races, workers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=5000)
    parser.add_argument("--warm-up", type=int, default=2000, help="races before anything is measured")
    parser.add_argument("--workers", type=int, default=8, help="calls at the same time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        result = run(options.races, options.warm_up, options.workers, options.seed, Path(root))
    found = problems(result)
    print(json.dumps({**result, "problems": found}, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
