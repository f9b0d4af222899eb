"""A call for tests: a stream whose host ticks every 20 ms, says something, and keeps what it hears."""

from __future__ import annotations

import math
import random
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

from ivr_ai.audio.stream import HostStream
from ivr_ai.audio.streamer import Event

FRAME_MS = 20
OVER_S = 10.0


def noise(ms: int, seed: int = 1, rate_hz: int = 8000) -> bytes:
    """Different at every sample, never 0, the same for the same seed."""
    source = random.Random(seed)
    return array("h", (source.randint(1, 12000) for _ in range(rate_hz * ms // 1000))).tobytes()


def tone(ms: int, rate_hz: int = 8000, hz: int = 440, level: int = 8000) -> bytes:
    turn = 2 * math.pi * hz / rate_hz
    return array("h", (round(level * math.sin(turn * n)) for n in range(rate_hz * ms // 1000))).tobytes()


def stripped(pcm: bytes) -> bytes:
    """Without the silence around it."""
    heard = array("h", pcm)
    loud = [n for n, sample in enumerate(heard) if sample]
    return heard[loud[0] : loud[-1] + 1].tobytes() if loud else b""


class Line:
    """Hosts a stream. Says `says` over and over, or silence."""

    def __init__(
        self, uuid: str, stream_id: str = "main", *, says: bytes = b"", speed: float = 1.0, **config: Any
    ) -> None:
        """speed: how much faster than the world's the clock runs. says: interleaved, with two channels."""
        self.stream = HostStream.create(uuid, stream_id, **config)
        channels = config.get("channels", 1)
        self.frame_bytes = self.stream.rate_hz * FRAME_MS // 1000 * 2
        self.says = says
        self.said = 0  # bytes
        self.heard = bytearray()
        self.ticks_s: list[float] = []
        self._said_bytes = self.frame_bytes * channels
        self._tick_s = FRAME_MS / 1000 / speed
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        silence = bytes(self.frame_bytes)
        due_s = time.monotonic()
        while not self._stopped.is_set():
            self.tick(silence)
            due_s += self._tick_s
            time.sleep(max(0.0, due_s - time.monotonic()))

    def tick(self, silence: bytes) -> None:
        self.ticks_s.append(time.monotonic())
        if self.says:
            frame = self.says[self.said : self.said + self._said_bytes]
            if len(frame) == self._said_bytes:
                self.stream.host_capture(frame)
                self.said += len(frame)
        self.heard += self.stream.host_inject(silence)[0]

    def close(self) -> None:
        """The call is over."""
        self.stream.close()
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def heard_at_s(self) -> float:
        """When the first sample was heard that is not silence."""
        at = next(n for n, sample in enumerate(array("h", bytes(self.heard))) if sample)
        return self.ticks_s[at * 2 // self.frame_bytes]


class Events:
    """Collects a streamer's events: give it as on_event."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self.times_s: list[float] = []
        self._more = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._more:
            self.all.append(event)
            self.times_s.append(time.monotonic())
            self._more.notify_all()

    def of(self, name: str) -> list[Any]:
        return [event.body for event in list(self.all) if event.name == name]

    def names(self) -> list[str]:
        return [event.name for event in list(self.all) if event.name != "log"]

    def wait(self, name: str, count: int = 1, timeout_s: float = OVER_S) -> Any:
        """The count-th event of this name; waits for it."""
        self.until(lambda: len(self.of(name)) >= count, timeout_s, f"{count}. {name}")
        return self.of(name)[count - 1]

    def until(self, so: Callable[[], Any], timeout_s: float = OVER_S, what: str = "it") -> None:
        deadline_s = time.monotonic() + timeout_s
        with self._more:
            while not so():
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no {what} in {self.names()}")
                self._more.wait(0.02)
