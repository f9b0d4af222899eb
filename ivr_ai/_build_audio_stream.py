"""Builds ivr_ai._audio_stream (cffi, API mode) from the header in mod_audio_stream/include/audio_stream.h.

The compiler includes the header; cffi reads what lies between its two "cffi" lines. Nothing is written down
twice.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

INCLUDE_DIR = Path(__file__).resolve().parent.parent / "mod_audio_stream" / "include"


def declarations(header: str) -> str:
    """The part of the header that cffi reads: declarations and integer #defines."""
    match = re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", header, re.DOTALL)
    if match is None:
        raise ValueError("audio_stream.h has lost its cffi begin/end lines")
    return match.group(1)


ffibuilder = FFI()
ffibuilder.cdef(declarations((INCLUDE_DIR / "audio_stream.h").read_text(encoding="utf-8")))
ffibuilder.set_source(
    "ivr_ai._audio_stream",
    '#include "audio_stream.h"',
    include_dirs=[str(INCLUDE_DIR)],
    libraries=["audiostream"],
    py_limited_api=True,
)
