"""What a conversation costs FreeSWITCH, as a multiple of a call that plays silence, in one run.

    python tests/load/bench_calls.py --calls 50 --seconds 20

Callers speak for a second of every five. The model is a local one on the same machine; its own work is not
counted. Exits 1 when a call failed, or more gaps were heard inside replies than a busy machine explains.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).resolve()
sys.path[:0] = [
    str(_HERE.parents[1]),
    str(_HERE.parents[1] / "freeswitch"),
    str(_HERE.parents[2]),
    str(_HERE.parent),
]

from churn import dialplan, speech  # noqa: E402
from ears import gaps  # noqa: E402
from support.sip import SipCall, SipCaller, SipError  # noqa: E402
from support.switch import FreeSwitch  # noqa: E402

from ivr_ai.sim.server import SimServer  # noqa: E402

EVERY_S = 5.0
GAPS_PER_MINUTE = 6.0  # of a call: FreeSWITCH leaves time out where the machine stalls
TRANSPORTS = ("native", "python")
VARIABLES = (
    '<extension name="variables" continue="true"><condition field="${sip_h_X-Set}" expression="^(.+)$">'
    '<action application="multiset" data="^^|$1"/></condition></extension>'
)


class Cost(NamedTuple):
    """Of each of the calls of one kind."""

    cpu_percent: float  # of a core
    mb: float
    failed: int  # calls not answered, ended before their time, or in which nothing was heard
    gaps_per_minute: float


def cpu_s(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def place(caller: SipCaller, extension: str, variables: str, calls: int) -> list[SipCall]:
    """Those of that many calls that were answered."""
    up = []
    for _ in range(calls):
        try:
            up.append(caller.call(extension, {"X-Set": variables} if variables else None).wait_answered(10))
        except (SipError, TimeoutError) as error:
            print(f"{extension}: {error}", file=sys.stderr)
        time.sleep(0.02)
    return up


def measure(switch: FreeSwitch, extension: str, calls: int, seconds: float, variables: str = "") -> Cost:
    """While that many calls are up."""
    rss_kb = switch.rss_kb()
    voice = speech(random.Random(1)) * 4
    with SipCaller(switch.sip_address) as caller:
        up = place(caller, extension, variables, calls)
        started_s, cpu_before_s = time.monotonic(), cpu_s(switch.pid)
        while time.monotonic() - started_s < seconds:
            for call in up:
                call.say(voice)
            time.sleep(EVERY_S)
        wall_s = time.monotonic() - started_s
        used_s = cpu_s(switch.pid) - cpu_before_s
        grown_kb = switch.rss_kb() - rss_kb
        whole = [call for call in up if call.ended_at_s is None and call.media.audio_packets()]
        heard = sum(gaps(call) for call in whole)
        for call in up:
            call.hangup()
    switch.wait_channels(0, 5)
    minutes = max(1, len(whole)) * wall_s / 60
    return Cost(100 * used_s / wall_s / calls, grown_kb / 1024 / calls, calls - len(whole), heard / minutes)


def report(costs: dict[str, Cost], calls: int) -> None:
    silent = costs["playing silence"]
    print(f"{calls} calls               CPU % of a core   ratio   MB per call   failed   gaps a minute")
    for name, cost in costs.items():
        ratio = cost.cpu_percent / silent.cpu_percent
        print(
            f"{name:22} {cost.cpu_percent:15.3f} {ratio:7.2f} {cost.mb:13.3f} {cost.failed:8d}"
            f" {cost.gaps_per_minute:15.2f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = stack.enter_context(SimServer(voice="tone", keep_audio=False, keep_sessions=4))
        env = {"OPENAI_API_KEY": "local", "LOG_LEVEL": "WARNING"}
        plan = VARIABLES + dialplan([model.url])
        switch = stack.enter_context(FreeSwitch(root, dialplan_xml=plan, env=env))
        kinds = {"playing silence": ("silence", "")}
        kinds |= {f"talking, {name}": ("m0", f"IVR_AI_TRANSPORT={name}") for name in TRANSPORTS}
        for extension, variables in kinds.values():
            measure(switch, extension, 2, 1, variables)  # loads what a first call loads
        costs = {
            name: measure(switch, extension, options.calls, options.seconds, variables)
            for name, (extension, variables) in kinds.items()
        }
    report(costs, options.calls)
    return int(any(cost.failed or cost.gaps_per_minute > GAPS_PER_MINUTE for cost in costs.values()))


if __name__ == "__main__":
    sys.exit(main())
