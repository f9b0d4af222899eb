"""A conversation on a call that the dialplan keeps: parked, sleeping, playing, bridged.

    <action application="set" data="ai=${python(ivr_ai.app start ${uuid})}"/>
    <action application="park"/>

The call's own thread is the dialplan's, so the conversation runs on one of ours, and reaches the call through
FreeSWITCH's API by its uuid. It ends with the call, with `stop`, or when the conversation does.
"""

from __future__ import annotations

import threading
import time
from typing import Any

POLL_S = 0.25  # how often we ask whether the call is still there
NO_VARIABLE = "_undef_"


class DetachedSession:
    """What a Call needs of a session, over API commands. Any thread."""

    def __init__(self, uuid: str, execute: Any) -> None:
        """execute: runs an API command, (name, arguments) -> its answer; freeswitch.API().execute, say."""
        self._uuid = uuid
        self._execute = execute
        self._awake = threading.Event()
        self._left = False
        self._exists = True
        self._asked_s = 0.0

    def _api(self, command: str, arguments: str) -> str:
        return str(self._execute(command, arguments) or "").strip()

    def get_uuid(self) -> str:
        return self._uuid

    def getVariable(self, name: str) -> str | None:
        """A channel variable, or else a global one, as FreeSWITCH's own session answers; None for neither."""
        value = self._api("uuid_getvar", f"{self._uuid} {name}")
        if value == NO_VARIABLE or value.startswith("-ERR"):
            value = self._api("global_getvar", name)
        return value if value and not value.startswith("-ERR") else None

    def setVariable(self, name: str, value: str) -> None:
        self._api("uuid_setvar", f"{self._uuid} {name} {value}")

    def ready(self) -> bool:
        """Whether the call is up and ours. Asks FreeSWITCH no more often than POLL_S."""
        now_s = time.monotonic()
        if self._exists and now_s - self._asked_s >= POLL_S:
            self._asked_s = now_s
            self._exists = self._api("uuid_exists", self._uuid) == "true"
        return self._exists and not self._left

    def answered(self) -> bool:
        return self.getVariable("answer_epoch") not in (None, "0") or self._state() == "ACTIVE"

    def _state(self) -> str:
        return self._api("eval", f"uuid:{self._uuid} ${{channel-call-state}}")

    def sleep(self, ms: int, sync: int = 0) -> int:
        """Waits ms, or until the call has gone. Returns 1, or 0 when it was cut short."""
        until_s = time.monotonic() + ms / 1000
        while self.ready() and not self._awake.is_set():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return 1
            self._awake.wait(min(left_s, POLL_S))
        self._awake.clear()
        return 0

    def wake(self) -> None:
        """Ends a sleep early; one that has not begun ends at once."""
        self._awake.set()

    def leave(self) -> None:
        """Ends the conversation; the call stays where the dialplan has it."""
        self._left = True
        self.wake()

    def execute(self, application: str, data: str = "") -> None:
        """Runs what a Call runs: `answer`. Raises ValueError for others."""
        if application == "answer":
            self._api("uuid_answer", self._uuid)
        else:
            raise ValueError(f"a detached conversation cannot run {application!r}: the dialplan has the call")

    def stream_command(self, words: str) -> str:
        """The first line of what `uuid_audio_stream` answers on this call."""
        return self._api("uuid_audio_stream", f"{self._uuid} {words}").partition("\n")[0]

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        if not self._left:
            self._api("uuid_kill", f"{self._uuid} {cause}")

    def transfer(self, extension: str, dialplan: str, context: str) -> None:
        self._api("uuid_transfer", f"{self._uuid} {extension} {dialplan} {context}")
        self._left = True
