"""What FreeSWITCH calls: application `python` with data `ivr_ai.app`; in fs_cli, `python ivr_ai.app status`.

mod_python3 imports and reloads this module on every call, on a thread with a 240 KB stack. So it holds no
state: everything is in ivr_ai.runtime, which stays loaded.
"""


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


def runtime(args):
    """The startup script's entry: gets slow imports out of the way of the first call."""
    warm()


def warm():
    """Loads everything a call needs, on a thread with room for it. Returns when that is done."""
    from ivr_ai import mod_python

    mod_python.check()
    from ivr_ai import runtime as state

    state.warm()
