"""FreeSWITCH's objects when its Python library for them is missing, and what to tell the operator then.

libpython finds its library modules by the first `python3` in PATH. Where that is another Python's (a virtual
environment, pyenv), freeswitch.py is not found, and mod_python3 hands its objects over bare: without methods,
and without a destructor, so that FreeSWITCH's session would stay locked for ever, and its channel with it.
The module `_freeswitch` is part of mod_python3.so and is always there: its functions take bare objects.

Objects that were made before `_freeswitch` was first imported have no type, and any function of it crashes on
them: so ivr_ai.app, which mod_python3 imports before it makes any, begins with that import.

Imports nothing but sys: not much else may be trusted in such a process.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAUSE = "NORMAL_TEMPORARY_FAILURE"  # a caller's gateway gets 503
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class WrongPythonError(ImportError):
    """This process cannot hold calls; the message says why and what to do."""


def check() -> None:
    """Raises WrongPythonError when FreeSWITCH's Python has the library modules of another one."""
    if "_freeswitch" not in sys.builtin_module_names:
        return  # not inside FreeSWITCH
    try:
        import freeswitch  # noqa: F401
    except ImportError as error:
        raise WrongPythonError(explanation(error)) from error


def explanation(error: BaseException) -> str:
    """What is wrong with this process's Python, and what to do."""
    version = sys.version.split()[0]
    return (
        f"FreeSWITCH's Python (libpython {version}) has its library modules from {sys.prefix}, because "
        f"{sys.executable or 'python3'} is the first python3 in PATH; freeswitch.py is not found ({error}). "
        f"Start FreeSWITCH with the system's python3 first, in a systemd unit: "
        f"[Service] Environment=PATH={SYSTEM_PATH}. `ivr-ai doctor` checks"
    )


def _native() -> Any:
    """`_freeswitch`, or None outside FreeSWITCH."""
    try:
        import _freeswitch
    except ImportError:
        return None
    return _freeswitch


def console_log(level: str, text: str) -> None:
    """A line in FreeSWITCH's log, level as FreeSWITCH calls it; on stderr elsewhere."""
    native = _native()
    if native is None:
        print(f"ivr_ai: {text}", file=sys.stderr)
    else:
        native.consoleLog(level, f"ivr_ai: {text}\n")


def refuse(session: Any, error: BaseException) -> None:
    """Logs why a call cannot be held, hangs it up and releases its session. Raises nothing."""
    console_log("err", f"call {uuid_of(session)} cannot be held: {_why(error)}")
    hang_up(session)
    release(session)


def uuid_of(session: Any) -> str:
    """The session's uuid, "?" where it cannot be had. Raises nothing."""
    try:
        return str(
            session.get_uuid() if hasattr(session, "get_uuid") else _call("CoreSession_get_uuid", session)
        )
    except Exception:
        return "?"


def hang_up(session: Any) -> None:
    """Hangs up, so that the caller's gateway gets 503. Raises nothing."""
    try:
        if not hasattr(session, "hangup"):
            _call("CoreSession_hangup", session, CAUSE)
        elif session.ready():
            session.hangup(CAUSE)
    except Exception as error:  # nothing may keep the session from being released
        console_log("err", f"call {uuid_of(session)} cannot be hung up: {_why(error)}")


def release(session: Any) -> None:
    """Lets FreeSWITCH's session go now: left to the garbage collector, a channel could outlive its call.

    For any host's session; those that need no letting go have no destroy(). Raises nothing.
    """
    try:
        if hasattr(session, "destroy"):
            session.destroy()
        else:
            let_go("Session", session)
    except Exception as error:
        console_log("err", f"a session could not be released: {_why(error)}")


def _call(function: str, thing: Any, *arguments: Any) -> Any:
    """A function of `_freeswitch` with a bare object. Raises AttributeError outside FreeSWITCH."""
    return getattr(_native(), function)(thing, *arguments)


def let_go(kind: str, thing: Any) -> None:
    """Destroys a bare object of FreeSWITCH's ("Session", "Stream", "Event"), which cannot do so itself."""
    if type(thing).__name__ == "SwigPyObject":
        _call(f"delete_{kind}", thing)


def answer(stream: Any, env: Any, text: str) -> None:
    """Gives the answer of an API command. stream, env: as mod_python3 hands them over."""
    let_go("Event", env)
    if hasattr(stream, "write"):
        stream.write(text)
        return
    _call("Stream_write", stream, text)
    let_go("Stream", stream)


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, WrongPythonError) else f"{type(error).__name__}: {error}"
