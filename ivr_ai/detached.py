"""The leg of a call that the dialplan keeps: parked, sleeping, playing, bridged.

    <action application="set" data="ai=${python(ivr_ai.app start ${uuid})}"/>
    <action application="park"/>

The call's own thread is the dialplan's, so the conversation runs on one of ours, and reaches the call through
FreeSWITCH's API by its uuid. It ends with the call, with `stop`, or when the conversation does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ivr_ai.audio.formats import read_wav
from ivr_ai.leg import CLEARED, MODULE, NOT_LOADED, LegBase

POLL_S = 0.25  # how often FreeSWITCH is asked whether the call is still there
NO_VARIABLE = "_undef_"


class DetachedLeg(LegBase):
    """Leg over API commands. Any thread."""

    def __init__(self, uuid: str, execute: Callable[[str, str], str]) -> None:
        """execute: runs an API command, (name, arguments) -> its answer; freeswitch.API().execute, say."""
        self._uuid = uuid
        self._execute = execute
        self._awake = threading.Event()
        self._left = False
        self._exists = True
        self._asked_s = 0.0

    def _api(self, command: str, arguments: str) -> str:
        return str(self._execute(command, arguments) or "").strip()

    @property
    def uuid(self) -> str:
        return self._uuid

    def ready(self) -> bool:
        """Whether the call is up and ours. Asks FreeSWITCH no more often than POLL_S."""
        now_s = time.monotonic()
        if self._exists and now_s - self._asked_s >= POLL_S:
            self._asked_s = now_s
            self._exists = self._api("uuid_exists", self._uuid) == "true"
        return self._exists and not self._left

    def answered(self) -> bool:
        return self.variable("answer_epoch") not in (None, "0") or self._state() == "ACTIVE"

    def _state(self) -> str:
        return self._api("eval", f"uuid:{self._uuid} ${{channel-call-state}}")

    def ring(self) -> None:
        """The dialplan has the call: whether it rings is the dialplan's to say."""

    def answer(self) -> None:
        self._api("uuid_answer", self._uuid)

    def sleep(self, ms: int) -> None:
        until_s = time.monotonic() + ms / 1000
        while self.ready() and not self._awake.is_set():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            self._awake.wait(min(left_s, POLL_S))
        self._awake.clear()

    def wake(self) -> None:
        self._awake.set()

    def leave(self) -> None:
        """Ends the conversation; the call stays where the dialplan has it."""
        self._left = True
        self.wake()

    def hang_up(self, cause: str = CLEARED) -> None:
        if not self._left:
            self._api("uuid_kill", f"{self._uuid} {cause}")

    def transfer(self, extension: str, dialplan: str = "XML", context: str = "") -> None:
        context = context or self.variable("context") or "default"
        self._api("uuid_transfer", f"{self._uuid} {extension} {dialplan or 'XML'} {context}")
        self._left = True

    def variable(self, name: str) -> str | None:
        value = self._api("uuid_getvar", f"{self._uuid} {name}")
        if value == NO_VARIABLE or value.startswith("-ERR"):
            value = self._api("global_getvar", name)
        return value if value and not value.startswith("-ERR") else None

    def set_variable(self, name: str, value: str) -> None:
        self._api("uuid_setvar", f"{self._uuid} {name} {value}")

    def why_no_stream(self) -> str:
        if self._api("module_exists", MODULE) == "true":
            return ""
        return NOT_LOADED

    def stream_command(self, words: str) -> str:
        return self._api("uuid_audio_stream", f"{self._uuid} {words}").partition("\n")[0]

    def send_dtmf(self, digits: str) -> None:
        self._api("uuid_send_dtmf", f"{self._uuid} {digits}")

    def play(self, path: str) -> None:
        """Broadcasts the file on the call, whose thread is the dialplan's, and waits as long as it lasts."""
        self._api("uuid_broadcast", f"{self._uuid} {path} aleg")
        pcm, rate_hz = read_wav(path)
        self.sleep(len(pcm) // 2 * 1000 // rate_hz)

    def release(self) -> None:
        """Nothing to let go of: the call is reached by its uuid."""
