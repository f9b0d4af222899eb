"""The conversation with an OpenAI-Realtime-shaped server.

conversation.py      what to do about what happens: events in, actions out, no I/O and no clock
session_update.py    the session.update that a call's settings ask for
dialects.py          GA and beta names for the same things
transport.py         how events travel: native.py and websocket_client.py carry them, choose.py picks one
"""
