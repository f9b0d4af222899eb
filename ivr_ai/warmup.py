"""Loading what calls need: once per process, on a thread with room for it.

mod_python3 gives handlers the session's thread, with a 240 KB stack, and sets the interpreter's recursion
limit to match. Heavy imports, TLS and JSON need more: they run on threads of our own, made with
THREAD_STACK_BYTES of (virtual) stack.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ivr_ai import switch_log

if TYPE_CHECKING:
    from ivr_ai.config import Settings

THREAD_STACK_BYTES = 1 << 20
RECURSION_LIMIT = 1000

log = logging.getLogger("ivr_ai")


class Warmup:
    """Loads once, however many ask. Any thread."""

    def __init__(self, load: Callable[[], None]) -> None:
        """load: does it; what it raises is raised by each wait()."""
        self._load = load
        self._lock = threading.Lock()
        self._begun = False
        self._done = threading.Event()
        self._failed: BaseException | None = None

    def wait(self) -> None:
        """Returns when everything is loaded; the first caller begins it. Raises RuntimeError if it failed."""
        with self._lock:
            if not self._begun:
                switch_log.set_up()
                threading.stack_size(THREAD_STACK_BYTES)
                sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
                threading.Thread(target=self._run, name="ivr-warm", daemon=True).start()
                self._begun = True
        self._done.wait()
        if self._failed is not None:
            where = f"library modules from {sys.prefix}; `ivr-ai doctor` checks"
            raise RuntimeError(f"ivr_ai cannot be loaded: {self._failed!r} ({where})") from self._failed

    def _run(self) -> None:
        try:
            self._load()
        except BaseException as error:  # reported by wait(), on the threads that ask
            self._failed = error
        finally:
            self._done.set()


def process_settings() -> Settings:
    """The settings of a call that says nothing itself: FreeSWITCH's global variables, its default profile,
    the environment. What is wrong with them is logged, and a call's channel variables may still mend it."""
    from ivr_ai.config import ConfigError, Settings
    from ivr_ai.refusal import settings_left

    try:
        return Settings.load(channel=switch_log.global_variable)
    except ConfigError as error:
        log.error("settings: %s", error)
        return settings_left(None, switch_log.global_variable)


def load_for(settings: Settings) -> None:
    """What calls with these settings import."""
    importlib.import_module("ivr_ai.call")
    from ivr_ai.realtime.choose import choose

    if choose(settings) == "python":
        importlib.import_module("ivr_ai.realtime.websocket_client")


def prepare_apology(settings: Settings) -> None:
    """Makes the apology, so that it is there when it is needed. For a thread of its own: it may take long."""
    from ivr_ai.failure import apology_audio, has_words

    if has_words(settings):
        apology_audio(settings.apology_text, settings.apology_file)
