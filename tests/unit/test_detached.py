"""The leg of a call that the dialplan keeps. Most of it is tested on FreeSWITCH: test_ai_call_control.py."""

from __future__ import annotations

import time

from ivr_ai.audio.formats import write_wav
from ivr_ai.detached import DetachedLeg


def test_playing_a_file_lasts_as_long_as_the_file(tmp_path):
    """uuid_broadcast returns at once, and what follows (a hang-up, say) must not cut the file."""
    path, asked = tmp_path / "sorry.wav", []

    def execute(command: str, arguments: str) -> str:
        asked.append((command, arguments))
        return "true"

    write_wav(path, bytes(2 * 8000 // 5), 8000)
    leg = DetachedLeg("u-1", execute)
    started_s = time.monotonic()
    leg.play(str(path))
    assert 0.2 <= time.monotonic() - started_s < 5
    assert ("uuid_broadcast", f"u-1 {path} aleg") in asked
