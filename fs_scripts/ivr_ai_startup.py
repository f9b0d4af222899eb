"""Startup script for mod_python3 (python.conf.xml): imports happen when the switch starts, not in a call.

mod_python3 runs `runtime` once, on a thread of its own with a small stack; ivr_ai.app.warm() does the heavy
part on a thread with a large one. A failure is logged and ends nothing: `ivr-ai doctor` says what to do
about it.
"""

from __future__ import annotations

import time

import freeswitch


def runtime(args: str) -> None:
    """Warms ivr_ai. args is what follows the script's name in python.conf.xml; there is nothing to say."""
    started_s = time.monotonic()
    try:
        import ivr_ai.app

        ivr_ai.app.warm()
    except Exception as error:
        freeswitch.consoleLog(
            "err", f"ivr_ai: cannot start: {type(error).__name__}: {error}; run `ivr-ai doctor`\n"
        )
        return
    took_ms = (time.monotonic() - started_s) * 1000
    freeswitch.consoleLog("info", f"ivr_ai {ivr_ai.__version__} is warm after {took_ms:.0f} ms\n")
