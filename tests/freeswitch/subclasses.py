"""The subclasses of all our events, as the module reserves them."""

from __future__ import annotations

import re
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2] / "mod_audio_stream" / "freeswitch" / "events.c"
_LIST = re.search(r"\bnames\[\] = \{(.*?)\};", _SOURCE.read_text(encoding="utf-8"), re.S)[1]
ALL = tuple(f"mod_audio_stream::{name}" for name in re.findall(r'"(\w+)"', _LIST))
