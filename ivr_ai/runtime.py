"""The product inside a process: loaded once, shared by all calls.

mod_python3 gives handlers the session's thread, with a 240 KB stack, and sets the interpreter's recursion
limit to match. Heavy imports, TLS and JSON need more: they run on threads of our own, made with
THREAD_STACK_BYTES of (virtual) stack.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import threading
import time
from typing import Any

from ivr_ai import __version__

THREAD_STACK_BYTES = 1 << 20
RECURSION_LIMIT = 1000
CAUSE = "NORMAL_TEMPORARY_FAILURE"
USAGE = "status | version | start <uuid> [agent] | stop <uuid>"

log = logging.getLogger("ivr_ai")

_loaded = threading.Lock()
_begun = threading.Event()  # loading; the lock guards it
_warm = threading.Event()  # loaded, or failed
_failed: list[BaseException] = []
_started_s = time.monotonic()
_calls: dict[str, Any] = {}  # uuid -> Call; the lock guards it and the total
_detached: dict[str, Any] = {}  # uuid -> DetachedLeg; guarded by the same lock
_calls_lock = threading.Lock()
_calls_total = 0


class _FreeSwitchLog(logging.Handler):
    """Python's log records in FreeSWITCH's log."""

    LEVELS = (
        (logging.CRITICAL, "crit"),
        (logging.ERROR, "err"),
        (logging.WARNING, "warning"),
        (logging.INFO, "info"),
    )

    def __init__(self, console_log: Any) -> None:
        super().__init__()
        self._console_log = console_log
        self.setFormatter(logging.Formatter("ivr_ai: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for least, name in self.LEVELS if record.levelno >= least), "debug")
        try:
            self._console_log(level, self.format(record) + "\n")
        except Exception:  # a log line must never end a call
            self.handleError(record)


def _set_up_logging() -> None:
    """Into FreeSWITCH's log inside FreeSWITCH; elsewhere whoever runs us has set logging up."""
    try:
        import freeswitch
    except ImportError:
        return
    logging.logThreads = False  # looking up a thread's name leaves an entry for each of FreeSWITCH's threads
    if not any(isinstance(handler, _FreeSwitchLog) for handler in log.handlers):
        log.addHandler(_FreeSwitchLog(freeswitch.consoleLog))
        log.propagate = False


def _load() -> None:
    """Everything slow, once."""
    from ivr_ai import call
    from ivr_ai.config import ConfigError, Settings
    from ivr_ai.failure import apology_audio
    from ivr_ai.realtime.choose import choose

    del call
    try:
        settings = Settings.load()
    except ConfigError as error:
        log.error("settings: %s", error)  # a call's channel variables may still mend it
        return
    log.setLevel(settings.log_level)
    for warning in settings.warnings:
        log.warning("%s", warning)
    if choose(settings) == "python":
        importlib.import_module("ivr_ai.realtime.websocket_client")
    apology_audio(settings.apology_text, settings.apology_file)


def _load_and_say() -> None:
    try:
        _load()
    except BaseException as error:  # reported by warm(), on the thread that asked
        _failed.append(error)
    finally:
        _warm.set()


def warm() -> None:
    """Loads everything a call needs; returns when it is loaded. Raises what importing raised. Any thread."""
    with _loaded:
        if not _begun.is_set():
            _begun.set()
            _set_up_logging()
            threading.stack_size(THREAD_STACK_BYTES)
            sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
            threading.Thread(target=_load_and_say, name="ivr-warm", daemon=True).start()
    _warm.wait()
    if _failed:
        why = _failed[0]
        raise RuntimeError(f"ivr_ai cannot be loaded: {why!r} (`ivr-ai doctor` checks)") from why


def handle(session: Any, args: str = "") -> Any:
    """Holds one call, on the session's thread. Returns its CallSummary, or None when it could not begin.

    Never raises.
    """
    try:
        warm()
        return _hold(session, args.strip() or None)
    except Exception as error:
        log.exception("call %s: %s", session.get_uuid(), error)
        if session.ready():
            session.hangup(CAUSE)
        return None
    finally:
        # Lets FreeSWITCH's session go now. Left to the garbage collector, a channel could outlive its call.
        getattr(session, "destroy", lambda: None)()


def _hold(session: Any, agent: str | None) -> Any:
    from ivr_ai.call import Call
    from ivr_ai.config import ConfigError, Settings

    try:
        settings = Settings.load(agent=agent, channel=session.getVariable)
    except ConfigError as error:
        log.error("call %s refused, its settings are wrong: %s", session.get_uuid(), error)
        session.hangup(CAUSE)
        return None
    return _run(Call(session, settings))


def _run(call: Any) -> Any:
    """Runs a call as the only one with its uuid; None when there is one already."""
    global _calls_total
    with _calls_lock:
        if call.uuid in _calls:
            log.error("call %s is in a conversation already: not begun again", call.uuid)
            return None
        _calls[call.uuid] = call
        _calls_total += 1
    try:
        return call.run()
    finally:
        with _calls_lock:
            del _calls[call.uuid]


def start(uuid: str, agent: str = "") -> str:
    """Begins a conversation on a call that stays with the dialplan. Returns +OK, or -ERR and why not.

    Its end leaves the call alone, unless IVR_AI_END_ACTION or IVR_AI_FAILURE_ACTION is set to something else.
    """
    from freeswitch import API  # there only inside mod_python3

    from ivr_ai.detached import DetachedLeg

    leg = DetachedLeg(uuid, API().execute)
    if not leg.ready():
        return f"-ERR no call with uuid {uuid!r}\n"
    try:
        call = _detached_call(leg, agent)
    except Exception as error:
        return f"-ERR {error}\n"
    with _calls_lock:
        if uuid in _calls or uuid in _detached:
            return f"-ERR call {uuid} is in a conversation already\n"
        _detached[uuid] = leg
    threading.Thread(target=_run_detached, args=(call,), name=f"ivr-call-{uuid[:8]}", daemon=True).start()
    return "+OK\n"


def _detached_call(leg: Any, agent: str) -> Any:
    """The call for start(). Raises ConfigError, and RuntimeError when ivr_ai cannot be loaded."""
    warm()
    from ivr_ai.call import Call
    from ivr_ai.config import Settings

    settings = Settings.load(agent=agent or None, channel=leg.variable)
    keep = {name: "return" for name in ("end_action", "failure_action") if not settings.is_set(name)}
    return Call(leg, settings.replace(**keep) if keep else settings)


def _run_detached(call: Any) -> None:
    try:
        _run(call)
    except Exception as error:
        log.exception("call %s: %s", call.uuid, error)
    finally:
        with _calls_lock:
            del _detached[call.uuid]


def stop(uuid: str) -> str:
    """Ends a conversation begun with start(); the call stays."""
    with _calls_lock:
        leg = _detached.get(uuid)
    if leg is None:
        return f"-ERR no conversation was started on call {uuid!r}\n"
    leg.leave()
    return "+OK\n"


def status() -> str:
    """The calls under way, as JSON."""
    with _calls_lock:
        state = {"version": __version__, "calls": sorted(_calls), "calls_total": _calls_total}
    state["uptime_s"] = round(time.monotonic() - _started_s, 1)
    return json.dumps(state) + "\n"


def command(args: str) -> str:
    """The answer to `python ivr_ai.app <args>` in fs_cli."""
    name, *rest = (args or "").split() or ["status"]
    match name, rest:
        case "status", []:
            return status()
        case "version", []:
            return f"ivr_ai {__version__}\n"
        case "start", [uuid]:
            return start(uuid)
        case "start", [uuid, agent]:
            return start(uuid, agent)
        case "stop", [uuid]:
            return stop(uuid)
    return f"-ERR cannot read {args!r}\n-USAGE: python ivr_ai.app {USAGE}\n"
