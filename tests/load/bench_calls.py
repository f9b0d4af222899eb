"""What a conversation costs FreeSWITCH, as a multiple of a call that plays silence, in one run.

    python tests/load/bench_calls.py --calls 50 --seconds 20

Callers speak for a second of every five. The model is a local one on the same machine; its own work is not
counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[1] / "freeswitch"), str(_HERE.parents[2]), str(_HERE.parent)]

import random  # noqa: E402

from churn import dialplan, speech  # noqa: E402
from switch import FreeSwitch  # noqa: E402

from ivr_ai.sim.server import SimServer  # noqa: E402
from ivr_ai.sim.sip import SipCaller  # noqa: E402

EVERY_S = 5.0


def cpu_s(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(switch: FreeSwitch, extension: str, calls: int, seconds: float) -> tuple[float, float]:
    """CPU in percent of a core per call, and MB per call, while that many calls are up."""
    rss_kb = switch.rss_kb()
    voice = speech(random.Random(1)) * 4
    with SipCaller(switch.sip_address) as caller:
        up = []
        for _ in range(calls):
            up.append(caller.call(extension).wait_answered(10))
            time.sleep(0.02)
        started_s, cpu_before_s = time.monotonic(), cpu_s(switch.pid)
        while time.monotonic() - started_s < seconds:
            for call in up:
                call.say(voice)
            time.sleep(EVERY_S)
        wall_s = time.monotonic() - started_s
        used_s = cpu_s(switch.pid) - cpu_before_s
        grown_kb = switch.rss_kb() - rss_kb
        for call in up:
            call.hangup()
    switch.wait_channels(0, 5)
    return 100 * used_s / wall_s / calls, grown_kb / 1024 / calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = stack.enter_context(SimServer(voice="tone", keep_audio=False, keep_sessions=4))
        env = {"OPENAI_API_KEY": "local", "LOG_LEVEL": "WARNING"}
        switch = stack.enter_context(FreeSwitch(root, dialplan_xml=dialplan([model.url]), env=env))
        measure(switch, "m0", 2, 1)  # loads what a first call loads
        silent = measure(switch, "silence", options.calls, options.seconds)
        talking = measure(switch, "m0", options.calls, options.seconds)
    print(f"{options.calls} calls            CPU % of a core per call    MB per call")
    print(f"playing silence     {silent[0]:10.3f}          {silent[1]:18.3f}")
    print(f"talking to a model  {talking[0]:10.3f}          {talking[1]:18.3f}")
    print(f"ratio               {talking[0] / silent[0]:10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
