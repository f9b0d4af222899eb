"""What outlives a call: the calls under way, the bus, plug-ins; begun once per process and kept loaded.

    handle    one call on its session's thread: warm up, read its settings, admit it, hold it
    start     the same for a call that stays with the dialplan, on a thread of ours; stop ends it
    drain     no new calls; those under way go on. undrain
    status    the calls under way
    shutdown  ends what can be ended, and hands out what was told

The functions at the end do the same for the process's own Runtime: they are what ivr_ai.app calls. A Runtime
of its own is for tests and other hosts.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ivr_ai import __version__, commands, mod_python, warmup
from ivr_ai.bus import Bus
from ivr_ai.registry import Entry, Refused, Registry
from ivr_ai.switch_log import Levels
from ivr_ai.timeline import Timelines

if TYPE_CHECKING:
    from ivr_ai.call import Call
    from ivr_ai.config import Settings
    from ivr_ai.detached import DetachedLeg
    from ivr_ai.leg import Leg
    from ivr_ai.summary import CallSummary

SHUTDOWN_S = 3.0

log = logging.getLogger("ivr_ai")


class Runtime:
    """The product inside a process. All methods from any thread, but for what handle() says."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.tools: dict[str, Callable[[dict[str, Any]], Any]] = {}  # of plug-ins, once warm
        self.registry = Registry()
        self._timelines = Timelines()
        self._levels = Levels()
        self._warmup = warmup.Warmup(self._load)
        self._started_s = time.monotonic()

    # ---- loading -------------------------------------------------------------------------------------------

    def warm(self) -> None:
        """Loads everything a call needs; returns when it is loaded. Raises RuntimeError when it cannot be."""
        self._warmup.wait()

    def _load(self) -> None:
        """Everything slow, once, on a thread with room for it."""
        from ivr_ai import plugins

        settings = warmup.process_settings()
        self._levels.follow(settings)
        warmup.load_for(settings)
        self.bus.subscribe("timeline", self._timelines, wants=self._timelines.wants)
        self.tools = plugins.load_tools()
        plugins.load_observers(self.bus)
        atexit.register(self.shutdown)
        threading.Thread(
            target=warmup.prepare_apology, args=(settings,), name="ivr-apology", daemon=True
        ).start()

    # ---- calls ---------------------------------------------------------------------------------------------

    def handle(self, session: Any, args: str = "") -> CallSummary | None:
        """Holds one call, on the session's thread. Its summary; None when it was not held. Never raises."""
        try:
            self.warm()
            return self._handle(session, args.strip() or None)
        except Exception as error:
            log.exception("call %s: %s", mod_python.uuid_of(session), error)
            mod_python.hang_up(session)
            return None
        finally:
            mod_python.release(session)

    def _handle(self, session: Any, agent: str | None) -> CallSummary | None:
        from ivr_ai import refusal
        from ivr_ai.config import ConfigError
        from ivr_ai.failure import CAUSE
        from ivr_ai.leg import leg_of

        leg = leg_of(session)
        try:
            settings = self._settings(leg, agent)
        except ConfigError as error:
            log.error("call %s refused, its settings are wrong: %s", leg.uuid, error)
            self._refuse(leg, refusal.settings_left(agent, leg.variable), CAUSE)
            return None
        try:
            entry = self._begin(leg, settings)
        except Refused as error:
            log.warning("%s", error)
            if error.full:
                self._refuse(leg, settings, refusal.CONGESTION)
            return None
        return self._run(self._call(leg, settings, entry), entry)

    def _settings(self, leg: Leg, agent: str | None) -> Settings:
        """A call's settings; what they say about logging is done. Raises ConfigError."""
        from ivr_ai.config import Settings

        settings = Settings.load(agent=agent, channel=leg.variable)
        self._levels.follow(settings)
        return settings

    def _refuse(self, leg: Leg, settings: Settings, cause: str) -> None:
        from ivr_ai import refusal

        try:
            refusal.refuse(leg, settings, cause)
        finally:
            leg.release()

    def _begin(self, leg: Leg, settings: Settings, detached: DetachedLeg | None = None) -> Entry:
        return self.registry.begin(leg.uuid, settings.agent, getattr(settings, "max_calls", 0), detached)

    def _call(self, leg: Leg, settings: Settings, entry: Entry) -> Call:
        from ivr_ai.call import Call

        try:
            call = Call(leg, settings, observer=entry.observe, functions=self.tools, bus=self.bus)
        except BaseException:
            self.registry.end(entry)
            raise
        self._timelines.begin(entry.uuid, settings.timeline_dir)
        entry.call = call
        return call

    def _run(self, call: Call, entry: Entry) -> CallSummary:
        try:
            return call.run()
        finally:
            self.registry.end(entry)
            if not self.registry.entries() and _is_switch_ending():
                self.bus.flush(
                    SHUTDOWN_S
                )  # FreeSWITCH waits for its last sessions, and for nothing after them

    # ---- calls that the dialplan keeps ---------------------------------------------------------------------

    def start(self, uuid: str, agent: str = "") -> str:
        """Begins a conversation on a call that stays with the dialplan. Returns +OK, or -ERR and why not.

        Its end leaves the call alone, unless IVR_AI_END_ACTION or IVR_AI_FAILURE_ACTION is set to something
        else.
        """
        from freeswitch import API  # there only inside mod_python3

        from ivr_ai.detached import DetachedLeg

        leg = DetachedLeg(uuid, API().execute)
        if not leg.ready():
            return f"-ERR no call with uuid {uuid!r}\n"
        try:
            self.warm()
            settings = self._settings(leg, agent or None)
            keep = {name: "return" for name in ("end_action", "failure_action") if not settings.is_set(name)}
            settings = settings.replace(**keep) if keep else settings
            entry = self._begin(leg, settings, leg)
            call = self._call(leg, settings, entry)
        except Exception as error:
            return f"-ERR {error}\n"
        return self._run_detached(call, entry)

    def _run_detached(self, call: Call, entry: Entry) -> str:
        def run() -> None:
            try:
                self._run(call, entry)
            except Exception as error:
                log.exception("call %s: %s", entry.uuid, error)

        try:
            threading.Thread(target=run, name=f"ivr-call-{entry.uuid[:8]}", daemon=True).start()
        except RuntimeError as error:  # no thread to be had
            self.registry.end(entry)
            return f"-ERR {error}\n"
        return "+OK\n"

    def stop(self, uuid: str) -> str:
        """Ends a conversation begun with start(); the call stays."""
        entry = self.registry.get(uuid)
        if entry is None or entry.leg is None:
            return f"-ERR no conversation was started on call {uuid!r}\n"
        entry.leg.leave()
        return "+OK\n"

    # ---- operation -----------------------------------------------------------------------------------------

    def drain(self) -> str:
        """From now on no conversation begins; those under way go on. Answers how many there are."""
        self.registry.draining = True
        log.warning("draining: new calls are refused until `python ivr_ai.app undrain`")
        return f"+OK draining, {len(self.registry.entries())} calls under way\n"

    def undrain(self) -> str:
        """New conversations begin again."""
        self.registry.draining = False
        log.warning("not draining any more: new calls are taken")
        return "+OK\n"

    def status(self) -> dict[str, Any]:
        """The calls under way, and how many there were; JSON-ready."""
        registry = self.registry
        return {
            "version": __version__,
            "calls": [entry.facts() for entry in registry.entries()],
            "calls_total": registry.total,
            "calls_refused": registry.refused,
            "draining": registry.draining,
            "events_dropped": {each.name: each.dropped for each in self.bus.subscribers if each.dropped},
            "uptime_s": round(time.monotonic() - self._started_s, 1),
        }

    def shutdown(self, timeout_s: float = SHUTDOWN_S) -> bool:
        """Takes no more calls, ends conversations on calls that the dialplan keeps, and delivers what was
        told.

        Calls on a session's thread end with their sessions, which FreeSWITCH hangs up. Returns within
        timeout_s; False when something was left. Idempotent.
        """
        deadline_s = time.monotonic() + timeout_s
        self.registry.draining = True
        detached = [entry for entry in self.registry.entries() if entry.leg is not None]
        for entry in detached:
            if entry.leg is not None:
                entry.leg.leave()
        ended = not detached or self.registry.wait_empty(timeout_s / 2)
        return self.bus.close(max(0.0, deadline_s - time.monotonic())) and ended


def _is_switch_ending() -> bool:
    """Whether this FreeSWITCH takes no new sessions: it shuts down, or has been paused.

    mod_python3 is not unloaded and Python is not finalised when FreeSWITCH ends, so that nothing else tells.
    """
    try:
        from freeswitch import API
    except ImportError:
        return False
    return str(API().execute("fsctl", "ready_check")).strip() == "false"


_process = Runtime()


def warm() -> None:
    """Loads everything a call needs into the process; see Runtime.warm()."""
    _process.warm()


def handle(session: Any, args: str = "") -> Any:
    """Holds one call; see Runtime.handle()."""
    return _process.handle(session, args)


def command(args: str | None) -> str:
    """The answer to `python ivr_ai.app <args>`; see ivr_ai/commands.py."""
    return commands.answer(_process, args)
