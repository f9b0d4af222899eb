"""Startup script for mod_python3 (python.conf.xml): imports happen when the switch starts, not in a call.

mod_python3 runs `runtime` once, on a thread of its own with a small stack; ivr_ai.app.warm() does the heavy
part on a thread with a large one. A failure is logged and ends nothing: calls try again, and say why not.
"""

import time

import _freeswitch  # part of mod_python3.so: there even where freeswitch.py is not found


def runtime(args):
    """Warms ivr_ai. args is what follows the script's name in python.conf.xml; there is nothing to say."""
    started_s = time.monotonic()
    try:
        import ivr_ai.app

        ivr_ai.app.warm()
    except BaseException as error:
        _freeswitch.consoleLog(
            "err", f"ivr_ai: cannot start: {type(error).__name__}: {error}; run `ivr-ai doctor`\n"
        )
        return
    took_ms = (time.monotonic() - started_s) * 1000
    _freeswitch.consoleLog("info", f"ivr_ai {ivr_ai.__version__} is warm after {took_ms:.0f} ms\n")
