"""Many short calls through a real FreeSWITCH, hung up from both sides at random moments. What is left behind?

    python tests/load/churn.py --calls 2000

Callers hang up before the answer, while the call connects to the model, while the model speaks, during a
barge-in; models close, vanish, or are slow, at random moments too. Afterwards: no channel within 2 s,
threads, descriptors and sys.path as before, and memory that has stopped growing. What mod_python3 itself
loses per call is measured with an empty handler, and set apart. Exits 1 when something is left behind.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[1]), str(_HERE.parents[1] / "freeswitch"), str(_HERE.parents[2])]

from support.sip import SipCaller, SipError  # noqa: E402
from support.switch import FreeSwitch  # noqa: E402

from ivr_ai.sim.faults import Faults  # noqa: E402
from ivr_ai.sim.server import SimServer  # noqa: E402

RATE_HZ = 8000
LEFT_AFTER_S = 2.0
GROWTH_KB_PER_CALL = 2.0
PROBE = "def handler(session, args):\n    session.answer()\n    session.sleep(int(args or 300))\n\n\n"
STATE = (
    "import sys, threading\n\n\n"
    "def fsapi(session, stream, env, args):\n"
    '    stream.write(f"{threading.active_count()} {len(sys.path)}")\n'
)
MODELS = (  # what the servers do, and how often a call meets each
    (Faults(), 6),
    (Faults(connect_delay_ms=400), 2),
    (Faults(close_after_s=0.7, close_code=1000), 2),
    (Faults(drop_after_s=0.9), 1),
    (Faults(drop_mid_response=True), 1),
    (Faults(refuse_status=503), 1),
    (Faults(bad_key=True), 1),
    (Faults(late_deltas=3, delta_bytes=1334), 2),
)


@dataclass
class Left:
    """What the switch holds when no call is up."""

    threads: int
    fds: int
    rss_kb: int
    python_threads: int
    sys_path: int


@dataclass
class Churn:
    """Places calls from a few threads, each with a plan drawn from a seeded generator."""

    switch: FreeSwitch
    extensions: list[str]
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)

    def run(self, calls: int, workers: int) -> None:
        numbers = iter(range(calls))
        lock = threading.Lock()

        def work() -> None:
            with SipCaller(self.switch.sip_address) as caller:
                while True:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    outcome = one_call(caller, random.Random(self.seed * 1_000_003 + number), self.extensions)
                    with lock:
                        self.outcomes[outcome] += 1

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def one_call(caller: SipCaller, chance: random.Random, extensions: list[str]) -> str:
    """One call with a random plan; says how it went."""
    patience_s = chance.choice((0.02, 0.1, 0.3, 0.8, 1.5, 2.5)) * chance.uniform(0.5, 1.5)
    ends_s = time.monotonic() + patience_s
    call = caller.call(chance.choice(extensions))
    try:
        call.wait_answered(patience_s)
    except SipError:
        refused = call.ended_at_s is not None
        call.hangup()
        return "refused" if refused else "gave up before the answer"
    voice = speech(chance)
    call.say(voice)
    if chance.random() < 0.5:
        call.say_at(time.monotonic() + 0.4 + chance.uniform(0, 0.4), voice)
    try:
        call.wait_ended(max(0.0, ends_s - time.monotonic()))
        return "the other side hung up"
    except SipError:
        call.hangup()
        return "hung up while talking"


def speech(chance: random.Random) -> bytes:
    """A quarter of a second of something loud, s16."""
    samples = bytearray()
    for _ in range(RATE_HZ // 4):
        samples += chance.randrange(-9000, 9000).to_bytes(2, "little", signed=True)
    return bytes(samples)


def dialplan(urls: list[str]) -> str:
    """Extension m<n>: a call to model n; extension empty: a handler that does nothing."""
    model = (
        '<extension name="m{n}"><condition field="destination_number" expression="^m{n}$">'
        '<action application="set" data="OPENAI_REALTIME_URL={url}"/>'
        '<action application="python" data="ivr_ai.app"/></condition></extension>'
    )
    empty = (
        '<extension name="empty"><condition field="destination_number" expression="^empty$">'
        '<action application="python" data="churn_probe"/></condition></extension>'
    )
    return "".join(model.format(n=n, url=url) for n, url in enumerate(urls)) + empty


def left(switch: FreeSwitch) -> Left:
    """Waits until no channel is up, and looks. Raises SwitchError when one stays."""
    switch.wait_channels(0, LEFT_AFTER_S)
    time.sleep(1.5)  # threads of the last call end within a second of it
    python_threads, sys_path = map(int, switch.cli("python churn_state").split()[:2])
    return Left(switch.threads(), switch.fds(), switch.rss_kb(), python_threads, sys_path)


def measure(
    switch: FreeSwitch, extensions: list[str], calls: int, workers: int, seed: int
) -> dict[str, object]:
    """Compares before and after that many calls."""
    churn = Churn(switch, extensions, seed)
    before = left(switch)
    started_s = time.monotonic()
    churn.run(calls, workers)
    took_s = time.monotonic() - started_s
    after = left(switch)
    return {
        "calls": calls,
        "calls_per_s": round(calls / took_s, 1),
        "outcomes": dict(churn.outcomes),
        "before": vars(before),
        "after": vars(after),
        "kb_per_call": round((after.rss_kb - before.rss_kb) / calls, 3),
    }


def problems(product: dict, empty: dict, limit_kb: float = GROWTH_KB_PER_CALL) -> list[str]:
    """What is wrong with the measurements; empty when nothing is."""
    before, after = product["before"], product["after"]
    found = [
        f"{name}: {before[name]} before, {after[name]} after"
        for name, slack in (("threads", 3), ("fds", 3), ("python_threads", 0), ("sys_path", 0))
        if after[name] > before[name] + slack
    ]
    growth = product["kb_per_call"] - max(0.0, empty["kb_per_call"])
    if growth > limit_kb:
        found.append(f"memory: {growth:.2f} KB a call beyond an empty handler's {empty['kb_per_call']}")
    return found


def run(calls: int, warm_up: int, workers: int, seed: int, root: Path) -> tuple[dict, dict]:
    """Starts the models and the switch; after the warm-up, measures the product and the empty handler."""
    scripts = root / "churn"
    scripts.mkdir(parents=True, exist_ok=True)
    (scripts / "churn_probe.py").write_text(PROBE, encoding="utf-8")
    (scripts / "churn_state.py").write_text(STATE, encoding="utf-8")
    options = {"voice": "tone", "keep_audio": False, "keep_sessions": 8}
    with ExitStack() as stack:
        servers = [stack.enter_context(SimServer(faults=faults, **options)) for faults, _ in MODELS]
        weighted = [f"m{n}" for n, (_, weight) in enumerate(MODELS) for _ in range(weight)]
        env = {"IVR_AI_APOLOGY_TEXT": "Sorry.", "LOG_LEVEL": "WARNING", "OPENAI_API_KEY": "local"}
        plan = dialplan([server.url for server in servers])
        switch = stack.enter_context(FreeSwitch(root, dialplan_xml=plan, env=env, scripts_dir=scripts))
        Churn(switch, [*weighted, *["empty"] * len(weighted)], seed + 1).run(warm_up, workers)
        product = measure(switch, weighted, calls, workers, seed)
        empty = measure(switch, ["empty"], calls, workers, seed)
    return product, empty


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=1500, help="calls before anything is measured")
    parser.add_argument("--workers", type=int, default=16, help="calls at the same time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        product, empty = run(options.calls, options.warm_up, options.workers, options.seed, Path(root))
    found = problems(product, empty)
    print(json.dumps({"product": product, "empty_handler": empty, "problems": found}, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
