"""Builds ivr_ai._audio_stream (cffi, API mode) from the public headers in mod_audio_stream/include/.

The compiler includes them; cffi reads what lies between their two "cffi" lines. Nothing is written down
twice.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HEADERS = ("audio_stream.h", "audio_stream_align.h", "audio_stream_ws.h")
# What ivr_ai/audio/streamer.py gives the library to call, on a service thread.
CALLBACKS = """
extern "Python" void ivr_ai_streamer_event(void *arg, const char *name, const char *body);
extern "Python" void ivr_ai_streamer_finished(void *arg, const char *reason);
"""
INCLUDE_DIR = Path(__file__).resolve().parent.parent / "mod_audio_stream" / "include"


def declarations(header: str) -> str:
    """The part of a header that cffi reads: declarations and integer #defines."""
    match = re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", header, re.DOTALL)
    if match is None:
        raise ValueError("a public header has lost its cffi begin/end lines")
    return match.group(1)


ffibuilder = FFI()
for header in HEADERS:
    ffibuilder.cdef(declarations((INCLUDE_DIR / header).read_text(encoding="utf-8")))
ffibuilder.cdef(CALLBACKS)
ffibuilder.set_source(
    "ivr_ai._audio_stream",
    "\n".join(f'#include "{header}"' for header in HEADERS),
    include_dirs=[str(INCLUDE_DIR)],
    libraries=["audiostream"],
    py_limited_api=True,
)
