"""Log records of ivr_ai in FreeSWITCH's log, and their level.

The level is the whole process's, and follows LOG_LEVEL from call to call where that is set for the process:
in the environment, .env, or a global variable. What a single call says about itself (a channel variable, a
profile) does not change what other calls log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivr_ai.config import Settings

log = logging.getLogger("ivr_ai")

DEFAULT_LEVEL = "INFO"
MAX_WARNINGS = 1000  # different ones that are remembered

_LEVELS = (
    (logging.CRITICAL, "crit"),
    (logging.ERROR, "err"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


class FreeSwitchHandler(logging.Handler):
    """Python's log records in FreeSWITCH's log."""

    def __init__(self, console_log: Callable[[str, str], Any]) -> None:
        super().__init__()
        self._console_log = console_log
        self.setFormatter(logging.Formatter("ivr_ai: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for least, name in _LEVELS if record.levelno >= least), "debug")
        try:
            self._console_log(level, self.format(record) + "\n")
        except Exception:  # a log line must never end a call
            self.handleError(record)


def set_up() -> None:
    """Into FreeSWITCH's log inside FreeSWITCH; elsewhere whoever runs us has set logging up. Idempotent."""
    try:
        from freeswitch import consoleLog
    except ImportError:
        return
    logging.logThreads = False  # looking up a thread's name leaves an entry for each of FreeSWITCH's threads
    if not any(isinstance(handler, FreeSwitchHandler) for handler in log.handlers):
        log.addHandler(FreeSwitchHandler(consoleLog))
        log.propagate = False
    if log.level == logging.NOTSET:
        log.setLevel(DEFAULT_LEVEL)  # until the settings have been read, which may fail


def global_variable(name: str) -> str | None:
    """A global variable of FreeSWITCH's; None when it is not set, and outside FreeSWITCH."""
    try:
        from freeswitch import API
    except ImportError:
        return None
    value = str(API().execute("global_getvar", name) or "").strip()
    return value if value and not value.startswith("-ERR") else None


class Levels:
    """Follows LOG_LEVEL, and logs each different warning of settings once. Thread-safe."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def follow(self, settings: Settings) -> None:
        """Takes the level of a call's settings where it is the process's, and logs their warnings."""
        source = settings.source("log_level")
        if source == "channel variable" and settings.log_level == _global_level():
            source = "global variable"  # which a channel answers for, too
        if source == "channel variable" or source.startswith("profile "):
            self.warn(
                f"LOG_LEVEL ({source}) is not read: the level is the process's; set it in its environment"
            )
        elif log.level != logging.getLevelName(settings.log_level):
            log.setLevel(settings.log_level)
        for text in settings.warnings:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Logs a text the first time it comes."""
        if text not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(text)
            log.warning("%s", text)


def _global_level() -> str | None:
    """LOG_LEVEL of FreeSWITCH's global variables, as settings read it."""
    from ivr_ai.config import ConfigError, Settings

    try:
        value = global_variable("LOG_LEVEL")
        return Settings(log_level=value).log_level if value else None
    except ConfigError:
        return None
