"""A conversation, without the service that the model runs on: no I/O, no clock, no threads, no wire format.

    floor.py          who has the floor: a transition table
    requests.py       the life of a request for a response, and what is still to be asked for
    playout.py        what is being said to the caller: items, generations, what was heard
    history.py        what was said by both sides, as heard, for a model that has to begin again
    conversation.py   the four together: things that happen go in, actions come out
    actions.py        the actions, as values

An adapter turns a service's events into calls on Conversation, and actions into events of the service: see
ivr_ai/realtime/adapter.py for OpenAI Realtime.
"""
