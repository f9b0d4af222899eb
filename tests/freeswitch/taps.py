"""A test's hand inside the switch (scripts/stream_probe.py): starts streams, and is their application.

    tap = probe.start(call)                 # uuid_audio_stream <uuid> start embedded
    tap.inject(pcm, item="hello")
    tap.wait_finished("hello")

Audio is s16 at 8000 Hz unless an encoding and a rate are given.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esl import Esl
from support.sip import SipCall
from support.switch import FreeSwitch

SCRIPTS = Path(__file__).with_name("scripts")


class ProbeError(RuntimeError):
    """What the stream's method raised; kind is the exception's name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def wait_until(
    reached: Callable[[], Any], timeout_s: float = 3.0, what: str = "", every_s: float = 0.02
) -> Any:
    """What `reached` returns, once that is true. Raises AssertionError."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := reached()):
        assert time.monotonic() < deadline_s, f"{what or 'it'} did not happen within {timeout_s} s"
        time.sleep(every_s)
    return value


def reason_of(answer: str) -> str:
    """Why wrong arguments were refused; the usage has to follow."""
    error, _, usage = answer.partition("\n")
    assert error.startswith("-ERR ") and usage.startswith("-USAGE: uuid_audio_stream <uuid> "), answer
    return error.removeprefix("-ERR ")


class Probe:
    """All streams of a switch. Thread-safe."""

    def __init__(self, switch: FreeSwitch, folder: Path) -> None:
        """folder: for the audio that goes in and out."""
        self.esl = Esl(*switch.event_socket)
        self._folder, self._files = folder, itertools.count(1)
        for script in SCRIPTS.glob("*.py"):
            shutil.copy(script, switch.root / "scripts")

    def close(self) -> None:
        self.esl.__exit__()

    def command(self, uuid: str, words: str) -> str:
        """The answer to `uuid_audio_stream <uuid> <words>`."""
        return self.esl.api(f"uuid_audio_stream {uuid} {words}")

    def do(self, name: str, **arguments: Any) -> Any:
        """Runs one function of stream_probe_state. Raises ProbeError."""
        text = self.esl.api(f"python stream_probe {json.dumps({'do': name, **arguments})}")
        answer = json.loads(text)
        if "error" in answer:
            raise ProbeError(answer["error"], answer["message"])
        return answer["result"]

    def file(self) -> Path:
        """A new name."""
        return self._folder / f"{next(self._files)}.raw"

    def start(self, call: SipCall | str, stream_id: str = "main", track: str = "") -> Tap:
        """Starts a stream on a call, by uuid or as its caller has it."""
        uuid = call if isinstance(call, str) else call.call_id
        answer = self.command(uuid, f"{stream_id} start embedded {track}".strip())
        assert answer == "+OK", answer
        return Tap(self, uuid, stream_id)


class Tap:
    """One stream's application end."""

    def __init__(self, probe: Probe, uuid: str, stream_id: str = "main") -> None:
        self._probe, self.uuid, self.stream_id = probe, uuid, stream_id
        self._captured: Path | None = None

    def do(self, name: str, **arguments: Any) -> Any:
        """Runs a method of the stream. Raises ProbeError."""
        return self._probe.do(name, uuid=self.uuid, stream_id=self.stream_id, **arguments)

    def command(self, words: str) -> str:
        return self._probe.command(self.uuid, f"{self.stream_id} {words}")

    def inject(
        self, data: bytes, item: str = "item", encoding: str = "s16", rate_hz: int = 8000, **more: Any
    ) -> dict[str, Any]:
        """Queues an item; see stream_probe_state.inject for what more there is."""
        path = self._probe.file()
        path.write_bytes(data)
        return self.do("inject", item=item, file=str(path), encoding=encoding, rate_hz=rate_hz, **more)

    def mark(self, item: str = "item") -> dict[str, Any]:
        return self.do("mark", item=item)

    def wait_finished(self, item: str = "item", timeout_s: float = 10.0) -> dict[str, Any]:
        """The item's mark, once its last sample has been played."""

        def finished() -> dict[str, Any] | None:
            mark = self.mark(item)
            return mark if mark["finished"] else None

        return wait_until(finished, timeout_s, f"the end of {item}")

    def status(self) -> dict[str, Any]:
        """This stream in `uuid_audio_stream <uuid> status`."""
        streams = json.loads(self.command("status"))["streams"]
        return next(each for each in streams if each["streamId"] == self.stream_id)

    def capture(self, encoding: str = "s16", rate_hz: int = 8000) -> None:
        """Keeps what the caller says from now on, for captured()."""
        self._captured = self._probe.file()
        self.do("capture", file=str(self._captured), encoding=encoding, rate_hz=rate_hz)

    def captured(self) -> bytes:
        return self._captured.read_bytes()

    def reading(self) -> bool:
        """Whether more may be captured."""
        return self._probe.do("reading", file=str(self._captured))

    def subscribe(self) -> Tap:
        """Hears what the switch sees of the call from now on, for told()."""
        self.do("subscribe")
        return self

    def told(self) -> list[dict[str, Any]]:
        return self._probe.do("told", uuid=self.uuid, stream_id=self.stream_id)["events"]

    def wait_told(self, count: int) -> list[dict[str, Any]]:
        """What has been told, once it is so many events. Raises AssertionError."""

        def enough() -> list[dict[str, Any]] | None:
            events = self.told()
            return events if len(events) >= count else None

        return wait_until(enough, 5.0, f"{count} events of the host")

    def stop(self) -> None:
        assert self.command("stop") == "+OK"
