"""What FreeSWITCH calls: application `python` with data `ivr_ai.app`; in fs_cli, `python ivr_ai.app status`.

mod_python3 reloads this module each call, on a thread with a 240 KB stack: all state is in ivr_ai.runtime.
"""

try:  # noqa: SIM105  objects that mod_python3 makes before this import have no type: using them crashes
    import _freeswitch  # noqa: F401
except ImportError:
    pass  # not inside FreeSWITCH


def handler(session, args):
    """The dialplan application. args: the name of an agent profile, or nothing."""
    from ivr_ai import mod_python

    try:
        mod_python.check()
        from ivr_ai import runtime

        runtime.handle(session, args)
    except BaseException as error:  # whatever it is: an exception here would leave the channel for ever
        mod_python.refuse(session, error)


def fsapi(session, stream, env, args):
    """The API command; ivr_ai.commands has the list."""
    from ivr_ai import mod_python

    try:
        mod_python.check()
        from ivr_ai import runtime

        answer = runtime.command(args)
    except BaseException as error:
        answer = f"-ERR ivr_ai cannot run: {error}\n"
    mod_python.answer(stream, env, answer)


def warm(args=""):
    """Loads everything a call needs, on a thread with room for it. Returns when that is done."""
    from ivr_ai import mod_python

    mod_python.check()
    from ivr_ai import runtime

    runtime.warm()


runtime = warm  # what mod_python3 calls of a startup script
