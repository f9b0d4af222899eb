"""A local OpenAI-Realtime server: develop, demonstrate and test without a key or a network.

`ivr_ai.sim.server.SimServer` is the server, `ivr_ai.sim.faults.Faults` what it can be told to do wrong,
`ivr_ai.sim.dialogue.Dialogue` what it says, `ivr_ai.tts.local_voice.speak` the voice it says it with.
"""
