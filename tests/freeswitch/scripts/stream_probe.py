"""`python stream_probe <JSON>` in fs_cli: does what a test wants done with a stream; answers JSON.

mod_python3 reloads this module with every command. What lasts is in stream_probe_state.
"""


def fsapi(session, stream, env, args):
    import stream_probe_state as state

    stream.write(state.answer(args))
