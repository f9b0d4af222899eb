"""Audio of a call: formats and frame maths, WAV files, resampling, G.711, and the stream between host and
application.
"""
