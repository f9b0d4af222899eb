"""Calls whose connections to the model are killed at random moments. Do they go on, or end as they should?

    python tests/load/kill_links.py --calls 100 --seed 1

The model is a process of its own. It resets connections, closes them with 1001, 1011 and 1012, and lets
sessions expire, at moments drawn from a seeded generator: while the greeting or a reply is under way, while
the caller speaks, in silence, now and then before the session has been agreed on. Most calls lose up to
IVR_AI_RECONNECT_MAX connections and have to go on: each loss is made good within a second, by the call's
timeline and the moment of the kill, and every question that the caller asks is answered. One in ten loses
every connection it gets: the caller hears the apology, and the call ends as configured.

Afterwards: no channel within 2 s, threads and descriptors as before, and no error in the log but those of the
calls that were to end. Exits 1 when something of this is not so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parent), str(_HERE.parents[1]), str(_HERE.parents[1] / "freeswitch")]
sys.path.insert(0, str(_HERE.parents[2]))

import churn  # noqa: E402
from ears import heard_in_order, noise  # noqa: E402
from models import APOLOGY, write_apology  # noqa: E402
from support.rtp import AUDIBLE_PEAK  # noqa: E402
from support.sip import SipCall, SipCaller, SipError  # noqa: E402
from support.switch import FreeSwitch  # noqa: E402

from ivr_ai.audio.g711 import pcmu_decode  # noqa: E402
from ivr_ai.sim.record import SessionRecord  # noqa: E402
from ivr_ai.sim.server import SimServer  # noqa: E402

WAYS = ("reset", "1001", "1011", "1012", "expired")
RECONNECT_MAX = 3  # the setting's default
LINK_KINDS = ("reconnecting", "reconnected")
GAP_MAX_S = 1.0  # from a kill until the next connection has taken over
ANSWER_MAX_S = 4.0  # from a question's end to its answer, whatever was killed meanwhile
DOOMED_EACH = 10  # one call in so many
EARLY_SHARE = 0.15  # of kills that come before the session is agreed on
GREETED_S = 15.0
LASTS_S = 90.0  # a call that has not lost all it is to lose by then is a problem
CAUSE = "NORMAL_TEMPORARY_FAILURE"
DIALOGUE = {"turn": [{"on": "greeting", "say": "One two."}], "fallback": ["One two three."]}
QUIET = bytes(
    code
    for code in range(256)
    if abs(int.from_bytes(pcmu_decode(bytes([code])), "little", signed=True)) <= AUDIBLE_PEAK
)


# ---- the plan ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What one call loses: (seconds after a connection was opened, how), one by one; for ever when doomed."""

    call: int
    kills: list[tuple[float, str]]
    doomed: bool


def plan_of(call: int, seed: int) -> Plan:
    chance = random.Random(seed * 1_000_003 + call)
    doomed = call % DOOMED_EACH == DOOMED_EACH - 1
    count = 12 if doomed else chance.randint(1, RECONNECT_MAX)
    kills = []
    for _ in range(count):
        early = not doomed and chance.random() < EARLY_SHARE
        after_s = chance.choice((0.0, chance.uniform(0, 0.03))) if early else chance.uniform(0.4, 6.0)
        kills.append((after_s, chance.choice(WAYS)))
    return Plan(call, kills, doomed)


# ---- the model, a process of its own -----------------------------------------------------------------------


def serve() -> int:
    """Reads plans from stdin, prints the server's URL, then each kill as a line of JSON, until stdin ends."""
    plans = {
        plan["call"]: [tuple(kill) for kill in plan["kills"]] for plan in json.loads(sys.stdin.readline())
    }
    over = threading.Event()
    with SimServer(dialogue=DIALOGUE, voice="tone:440", keep_audio=False) as sim:
        print(json.dumps({"url": sim.url}), flush=True)
        killer = threading.Thread(target=kill_as_planned, args=(sim, plans, over))
        killer.start()
        sys.stdin.read()
        over.set()
        killer.join()
    return 0


def kill_as_planned(sim: SimServer, plans: dict[int, list[tuple[float, str]]], over: threading.Event) -> None:
    seen, due = 0, []
    while not over.wait(0.005):
        for record in sim.sessions[seen:]:
            seen += 1
            kills = plans.get(int(record.query.get("call", -1)))
            if kills:
                after_s, how = kills.pop(0)
                due.append((record.connected_s + after_s, how, record, len(kills)))
        now_s = time.monotonic()
        for each in [each for each in due if each[0] <= now_s]:
            due.remove(each)
            _, how, record, left = each
            kill(record, how)
            line = {"call": int(record.query["call"]), "how": how, "at_s": time.monotonic(), "left": left}
            print(json.dumps(line), flush=True)


def kill(record: SessionRecord, how: str) -> None:
    if how == "reset":
        record.drop()
    elif how == "expired":
        error = {
            "type": "invalid_request_error",
            "code": "session_expired",
            "message": "It has lasted too long.",
        }
        record.send({"type": "error", "event_id": "event_expired", "error": error})
        record.close(1001)
    else:
        record.close(int(how))


class Model:
    """The process, and what it has killed."""

    def __init__(self, plans: list[Plan]) -> None:
        command = [sys.executable, str(_HERE), "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process.stdin.write(json.dumps([vars(plan) for plan in plans]) + "\n")
        self._process.stdin.flush()
        self.url: str = json.loads(self._process.stdout.readline())["url"]
        self.kills: list[dict[str, Any]] = []
        self._left = {plan.call: len(plan.kills) for plan in plans}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            kill = json.loads(line)
            self.kills.append(kill)
            self._left[kill["call"]] = kill["left"]

    def left(self, call: int) -> int:
        """How many of a call's connections are still to be killed."""
        return self._left.get(call, 0)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join()
        self._process.stdout.close()


@contextmanager
def model_process(plans: list[Plan]) -> Iterator[Model]:
    model = Model(plans)
    try:
        yield model
    finally:
        model.close()


# ---- the callers -------------------------------------------------------------------------------------------


class Ear:
    """When a call's caller last heard something, and first after a moment. Looks at each packet once."""

    def __init__(self, call: SipCall) -> None:
        self._call, self._seen = call, 0
        self.loud_s: list[float] = []

    def last_s(self) -> float:
        packets = self._call.packets
        for packet in packets[self._seen :]:
            self._seen += 1
            if packet.payload.translate(None, QUIET):
                self.loud_s.append(packet.arrived_s)
        return self.loud_s[-1] if self.loud_s else -math.inf

    def first_after(self, moment_s: float) -> float | None:
        self.last_s()
        return next((at_s for at_s in self.loud_s if at_s > moment_s), None)


@dataclass
class Talk:
    """One caller's call, as it was seen from outside."""

    plan: Plan
    uuid: str = ""
    answers: list[tuple[float, float]] = field(
        default_factory=list
    )  # (question's end, seconds to its answer)
    problem: str = ""
    apologies: int = 0
    ended: str = ""


class Callers:
    """Places the calls of the plans at once, and talks until each has lost what it is to lose."""

    def __init__(self, switch: FreeSwitch, model: Model, seed: int) -> None:
        self._switch, self._model, self._seed = switch, model, seed

    def run(self, plans: list[Plan]) -> list[Talk]:
        talks = [Talk(plan) for plan in plans]
        with SipCaller(self._switch.sip_address) as caller:
            threads = [threading.Thread(target=self._talk, args=(caller, talk)) for talk in talks]
            for thread in threads:
                thread.start()
                time.sleep(0.02)
            for thread in threads:
                thread.join()
        return talks

    def _talk(self, caller: SipCaller, talk: Talk) -> None:
        url = f"{self._model.url}?call={talk.plan.call}"
        call = caller.call("1234", {"X-Set": f"OPENAI_REALTIME_URL={url}"})
        talk.uuid = call.call_id
        try:
            call.wait_answered(10)
            self._converse(call, talk)
        except (SipError, TimeoutError) as error:
            talk.problem = f"{type(error).__name__}: {error}"
        if talk.plan.doomed:
            heard = call.media.codec.decode(heard_in_order(call))
            talk.apologies = heard.count(APOLOGY)
        call.hangup()
        talk.ended = f"{call.ended_by or 'caller'} {call.ended_cause or ''}".strip()

    def _converse(self, call: SipCall, talk: Talk) -> None:
        """Questions and answers. Raises TimeoutError for a question that is not answered."""
        chance = random.Random(self._seed * 7919 + talk.plan.call)
        ear, until_s = Ear(call), time.monotonic() + LASTS_S
        if not talk.plan.doomed:
            wait(lambda: ear.first_after(0.0), GREETED_S, call, "the greeting")
        for n in itertools.count():
            wait(lambda: time.monotonic() - ear.last_s() > 0.3, 20, call, "a pause")
            last = self._model.left(talk.plan.call) == 0
            time.sleep(chance.uniform(0.3, 1.5) if last else chance.uniform(0, 0.5))
            if call.ended_at_s is not None:
                return
            call.say(noise(8000, chance.uniform(0.4, 0.9), seed=n)).wait(5)
            asked_s = time.monotonic()
            answered_s = wait(
                partial(ear.first_after, asked_s), ANSWER_MAX_S, call, f"the answer to question {n}"
            )
            if answered_s is None:
                return
            talk.answers.append((asked_s, answered_s - asked_s))
            if last or time.monotonic() > until_s:
                wait(lambda: time.monotonic() - ear.last_s() > 0.3, 20, call, "a pause")
                return


def wait(reached: Any, timeout_s: float, call: SipCall, what: str) -> Any:
    """What reached() returns, once that is true; None when the call ends first. Raises TimeoutError."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := reached()):
        if call.ended_at_s is not None:
            return None
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what} has not come within {timeout_s} s")
        time.sleep(0.04)
    return value


# ---- what came of it ---------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """Everything that was seen."""

    talks: list[Talk]
    kills: list[dict[str, Any]]
    timelines: dict[str, list[dict[str, Any]]]  # by uuid
    log: list[str]  # WARNING and above, of ivr_ai and the module
    before: churn.Left
    after: churn.Left
    took_s: float

    def gaps(self) -> list[tuple[Talk, float, float]]:
        """(call, seconds from the kill to the next connection, those in the timeline) of each loss."""
        found = []
        for talk in self.talks:
            kills = [kill["at_s"] for kill in self.kills if kill["call"] == talk.plan.call]
            lost_s = None
            for event in self.timelines.get(talk.uuid, []):
                if event["kind"] == "reconnecting":
                    lost_s = event["at_s"]
                elif event["kind"] == "reconnected" and lost_s is not None:
                    # Of several kills in a row, before a session was agreed on, the last one counts.
                    killed_s = max((at_s for at_s in kills if at_s <= event["at_s"]), default=lost_s)
                    found.append((talk, event["at_s"] - killed_s, event["at_s"] - lost_s))
                    lost_s = None
        return found

    def problems(self) -> list[str]:
        found = [f"call {talk.plan.call}: {problem}" for talk in self.talks for problem in self._of(talk)]
        found += [
            f"call {talk.plan.call}: {gap_s:.2f} s from the kill to the next connection"
            for talk, gap_s, _ in self.gaps()
            if gap_s > GAP_MAX_S
        ]
        found += [
            f"{name}: {getattr(self.before, name)} before, {getattr(self.after, name)} after"
            for name, slack in (("threads", 3), ("fds", 3), ("python_threads", 0), ("sys_path", 0))
            if getattr(self.after, name) > getattr(self.before, name) + slack
        ]
        return found + self._unexpected()

    def _of(self, talk: Talk) -> list[str]:
        """What is wrong with one call."""
        kinds = Counter(event["kind"] for event in self.timelines.get(talk.uuid, []))
        found = [talk.problem] if talk.problem else []
        if kinds["ended"] != 1:
            found.append("its timeline has no end")
        if talk.plan.doomed:
            if (
                talk.ended != f"switch {CAUSE}"
                or talk.apologies != 1
                or kinds["reconnecting"] != RECONNECT_MAX
            ):
                found.append(
                    f"it ended with {talk.ended!r} after {talk.apologies} apologies and {dict(kinds)}"
                )
            return found
        if not talk.ended.startswith("caller") or kinds["failure"]:
            found.append(f"it ended with {talk.ended!r} and {kinds['failure']} failures")
        links = [event["kind"] for event in self.timelines.get(talk.uuid, []) if event["kind"] in LINK_KINDS]
        if links and links[-1] != "reconnected":  # of several in a row the last one counts
            found.append(f"{links.count('reconnecting')} losses, the last of them not made good")
        return found

    def _unexpected(self) -> list[str]:
        doomed = {talk.uuid for talk in self.talks if talk.plan.doomed}
        lines = [line for line in self.log if "connecting again" not in line]
        return [line for line in lines if not any(f"call {uuid}" in line for uuid in doomed)]

    def figures(self) -> dict[str, Any]:
        gaps = self.gaps()
        killed = {
            (talk.plan.call): [k["at_s"] for k in self.kills if k["call"] == talk.plan.call]
            for talk in self.talks
        }
        hit, clear = [], []
        for talk in self.talks:
            for asked_s, took_s in talk.answers:
                near = any(asked_s - 1.5 < at_s < asked_s + took_s for at_s in killed[talk.plan.call])
                (hit if near else clear).append(took_s)
        return {
            "calls": len(self.talks),
            "doomed": sum(talk.plan.doomed for talk in self.talks),
            "took_s": round(self.took_s, 1),
            "kills": dict(Counter(kill["how"] for kill in self.kills)),
            "losses_made_good": len(gaps),
            "kill_to_next_connection_ms": spread([gap_s for _, gap_s, _ in gaps]),
            "reconnecting_to_reconnected_ms": spread([told_s for _, _, told_s in gaps]),
            "questions": len(hit) + len(clear),
            "answer_ms": spread(clear),
            "answer_with_a_kill_meanwhile_ms": spread(hit),
            "apologies": sum(talk.apologies for talk in self.talks),
            "warnings_of_losses": sum("connecting again" in line for line in self.log),
            "before": vars(self.before),
            "after": vars(self.after),
        }


def spread(values_s: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile and maximum in ms."""
    if not values_s:
        return {"count": 0}
    ordered = sorted(values_s)
    p99 = ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)]
    return {
        "count": len(ordered),
        "p50": round(median(ordered) * 1000),
        "p99": round(p99 * 1000),
        "max": round(ordered[-1] * 1000),
    }


# ---- the run -----------------------------------------------------------------------------------------------


def run(calls: int, seed: int, root: Path) -> Outcome:
    """Starts the switch; after as many calls that lose nothing, the ones that do."""
    scripts, timelines = root / "probe", root / "timelines"
    for folder in (scripts, timelines):
        folder.mkdir(parents=True, exist_ok=True)
    (scripts / "churn_state.py").write_text(churn.STATE, encoding="utf-8")
    env = {
        "IVR_AI_APOLOGY_FILE": str(write_apology(root)),
        "IVR_AI_TIMELINE_DIR": str(timelines),
        "LOG_LEVEL": "WARNING",
        "OPENAI_API_KEY": "local",
        "OPENAI_GREETING": "Greet.",
    }
    extensions = (_HERE.parents[1] / "freeswitch" / "extensions.xml").read_text(encoding="utf-8")
    with FreeSwitch(root, dialplan_xml=extensions, env=env, scripts_dir=scripts) as switch:
        rehearse(switch, calls, seed)
        before, seen = churn.left(switch), len(switch.log())
        started_s = time.monotonic()
        plans = [plan_of(number, seed) for number in range(calls)]
        with model_process(plans) as model:
            talks = Callers(switch, model, seed).run(plans)
            took_s = time.monotonic() - started_s
            after = churn.left(switch)
        log = [line for line in switch.log()[seen:].splitlines() if is_ours(line)]
        told = {talk.uuid: events_of(timelines, talk.uuid) for talk in talks}
        return Outcome(talks, model.kills, told, log, before, after, took_s)


def rehearse(switch: FreeSwitch, calls: int, seed: int) -> None:
    """As many calls at once, with nothing killed: the threads and the memory that FreeSWITCH keeps."""
    plans = [Plan(number, [], False) for number in range(calls)]
    with model_process(plans) as model:
        Callers(switch, model, seed).run(plans)


def is_ours(line: str) -> bool:
    loud = any(f"[{level}]" in line for level in ("WARNING", "ERR", "CRIT", "ALERT"))
    return loud and ("ivr_ai" in line or "audio_stream" in line)


def events_of(timelines: Path, uuid: str) -> list[dict[str, Any]]:
    path = timelines / f"{uuid}.json"
    return json.loads(path.read_text(encoding="utf-8"))["events"] if path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100, help="at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    with tempfile.TemporaryDirectory() as root:
        outcome = run(options.calls, options.seed, Path(root))
    problems = outcome.problems()
    print(json.dumps({**outcome.figures(), "problems": problems}, indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
