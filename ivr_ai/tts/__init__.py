"""Speech from text: local_voice.py is espeak-ng, for the apology, the simulator and the demo."""
