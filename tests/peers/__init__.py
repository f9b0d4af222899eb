"""Strangers against the simulator: other people's Realtime clients hold dialogues with it, and OpenAI's own
types judge what it and our client send. `make test-peers` runs these tests in an environment of their own.
"""
