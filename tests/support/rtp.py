"""One end of an RTP stream on loopback (RFC 3550, 3551, 4733): sends on an exact clock, keeps what comes.

`RtpClock` owns one thread that ticks all its `RtpStream`s. Received audio is laid out by RTP timestamp, so
`received()` is what a perfect telephone would have played, however late the packets came.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import secrets
import socket
import struct
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ivr_ai.audio import g711

TELEPHONE_EVENT_PT = 101
AUDIBLE_PEAK = 256  # of 32768: louder than G.711's quantised silence and any resampler's noise
_DIGITS = "0123456789*#ABCD"
_EVENT_VOLUME = 10  # dB below 0 dBm0
_EVENT_END = 0x80
_HEADER = struct.Struct("!BBHII")
_RESTART_S = 2.0  # a timestamp this far off the arrival time began a new timeline
_RECEIVE_BYTES = 2048


def _swap(samples: bytes) -> bytes:
    """Between this machine's byte order and the network's."""
    values = array("h", samples)
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()


class Codec(NamedTuple):
    """How s16 mono audio travels in a payload."""

    encoding: str  # as in a=rtpmap
    payload_type: int
    rate_hz: int
    sample_bytes: int
    silence: bytes  # one sample
    encode: Callable[[bytes], bytes]  # s16 in this machine's order -> payload
    decode: Callable[[bytes], bytes]

    def frame_bytes(self, ptime_ms: int) -> int:
        return self.rate_hz * ptime_ms // 1000 * self.sample_bytes


CODECS = {
    "PCMU": Codec("PCMU/8000", 0, 8000, 1, b"\xff", g711.pcmu_encode, g711.pcmu_decode),
    "PCMA": Codec("PCMA/8000", 8, 8000, 1, b"\xd5", g711.pcma_encode, g711.pcma_decode),
    "L16/8000": Codec("L16/8000", 96, 8000, 2, b"\0\0", _swap, _swap),
    "L16/16000": Codec("L16/16000", 97, 16000, 2, b"\0\0", _swap, _swap),
}


class RtpPacket(NamedTuple):
    """One received packet; arrived_s is time.monotonic()."""

    arrived_s: float
    sequence: int
    timestamp: int
    payload_type: int
    marker: bool
    ssrc: int
    payload: bytes


def parse_packet(datagram: bytes, arrived_s: float) -> RtpPacket | None:
    """None when the datagram is no RTP version 2 packet."""
    if len(datagram) < _HEADER.size or datagram[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    start, end = _HEADER.size + 4 * (first & 0x0F), len(datagram)
    if first & 0x10:
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    if first & 0x20:
        end -= datagram[-1]
    return RtpPacket(arrived_s, sequence, timestamp, second & 0x7F, second >= 0x80, ssrc, datagram[start:end])


def lay_out(packets: Iterable[RtpPacket], codec: Codec) -> bytes:
    """Payloads on the RTP timestamp axis, gaps filled with the codec's silence; the first packet is at 0.

    A new SSRC, or a timestamp that disagrees with the arrival clock, starts a new timeline placed by arrival.
    """
    laid = bytearray()
    for position, packet in _positions(packets, codec):
        start = position * codec.sample_bytes
        if start > len(laid):
            laid += codec.silence * ((start - len(laid)) // codec.sample_bytes)
        if start >= 0:
            laid[start : start + len(packet.payload)] = packet.payload
    return bytes(laid)


def _positions(packets: Iterable[RtpPacket], codec: Codec) -> Iterator[tuple[int, RtpPacket]]:
    """(first sample's place, packet) in order of arrival."""
    last: RtpPacket | None = None
    position = 0
    for packet in packets:
        if last is not None:
            step = (packet.timestamp - last.timestamp + 2**31) % 2**32 - 2**31
            elapsed = round((packet.arrived_s - last.arrived_s) * codec.rate_hz)
            if packet.ssrc != last.ssrc or abs(step - elapsed) > _RESTART_S * codec.rate_hz:
                step = max(elapsed, len(last.payload) // codec.sample_bytes)
            position += step
        last = packet
        yield position, packet


class Utterance:
    """Audio given to `say`.

    started_s: when its first sample was due to be sent; finished_s: when its last one had been, one frame
    after its tick. Both time.monotonic(), None before; finished_s stays None when the call ended first.
    """

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.started_s: float | None = None
        self.finished_s: float | None = None
        self._done = threading.Event()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it was sent, or the call ended; True when it was sent in full."""
        self._done.wait(timeout_s)
        return self.finished_s is not None

    def take(self, offset: int, size: int, now_s: float) -> bytes:
        """Clock thread. The next bytes to send."""
        self.started_s = now_s if self.started_s is None else self.started_s
        return self.payload[offset : offset + size]

    def close(self, finished_s: float | None) -> None:
        if not self._done.is_set():
            self.finished_s = finished_s
            self._done.set()


class RtpStream:
    """One call's audio. `tick` is for the clock's thread, `receive` for the reader's, the rest for any."""

    def __init__(self, codec: Codec, ptime_ms: int = 20, host: str = "127.0.0.1") -> None:
        self.codec = codec
        self.ptime_s = ptime_ms / 1000
        self.payload_type = codec.payload_type
        self.event_payload_type = TELEPHONE_EVENT_PT
        self.remote: tuple[str, int] | None = None
        self.sending = True
        self.closed = False
        self.packets: list[RtpPacket] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self._frame_bytes = codec.frame_bytes(ptime_ms)
        self._frame_samples = self._frame_bytes // codec.sample_bytes
        self._sequence, self._timestamp = secrets.randbits(16), secrets.randbits(32)
        self._ssrc = secrets.randbits(32)
        self._event_timestamp = 0
        self._resumed = True  # the next audio packet follows a gap: it carries the marker
        self._lock = threading.Lock()  # over _waiting, closed
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Utterance]] = []
        self._current: tuple[Utterance, int] | None = None  # clock thread: being sent, and how much of it was
        self._events: deque[tuple[bool, bytes]] = deque()

    # -- what to send ---------------------------------------------------------------------------

    def say_at(self, start_s: float, pcm: bytes) -> Utterance:
        """Send s16 audio at the codec's rate from time.monotonic() == start_s on, or after earlier audio."""
        utterance = Utterance(self.codec.encode(pcm))
        with self._lock:
            if self.closed:
                utterance.close(None)
            else:
                heapq.heappush(self._waiting, (start_s, next(self._order), utterance))
        return utterance

    def dtmf(self, digits: str, duration_ms: int = 100, gap_ms: int = 100) -> None:
        """Queue RFC 4733 events up to 4000 ms; audio waits meanwhile. Raises ValueError for a bad digit."""
        if not set(digits.upper()) <= set(_DIGITS):
            raise ValueError(f"{digits!r} are no DTMF digits: use any of {_DIGITS}")
        frames, gap = (max(1, round(ms / 1000 / self.ptime_s)) for ms in (duration_ms, gap_ms))
        for digit in digits.upper():
            event = _DIGITS.index(digit)
            # The last frame repeats the end packet, as RFC 4733 asks: three in all.
            for number in range(1, frames + 1):
                self._events.append((number == 1, self._event(event, number, end=number == frames)))
            self._events.extend([(False, b"")] * gap)

    def _event(self, event: int, frames: int, end: bool) -> bytes:
        flags = (_EVENT_END if end else 0) | _EVENT_VOLUME
        return struct.pack("!BBH", event, flags, frames * self._frame_samples)

    # -- clock thread ---------------------------------------------------------------------------

    def tick(self, due_s: float) -> None:
        """Send the packets of one frame, due at time.monotonic() == due_s."""
        first, event = self._events.popleft() if self._events else (False, b"")
        if event:
            self._send_event(first, event)
        else:
            self._send(self.payload_type, self._timestamp, self._next_frame(due_s), self._resumed)
        self._timestamp = (self._timestamp + self._frame_samples) % 2**32

    def _send_event(self, first: bool, event: bytes) -> None:
        """All packets of an event carry its start as their timestamp."""
        if first:
            self._event_timestamp = self._timestamp
        for repeat in range(3 if event[1] & _EVENT_END else 1):
            self._send(self.event_payload_type, self._event_timestamp, event, first and repeat == 0)

    def _send(self, payload_type: int, timestamp: int, payload: bytes, marker: bool) -> None:
        remote = self.remote
        if remote is None or not self.sending or self.closed:
            self._resumed = True
            return
        self._resumed = False
        second = payload_type | (0x80 if marker else 0)
        header = _HEADER.pack(0x80, second, self._sequence, timestamp, self._ssrc)
        self._sequence = (self._sequence + 1) % 2**16
        # A full socket buffer, or a port the other end has closed: lost, as on any network.
        with contextlib.suppress(OSError):
            self.socket.sendto(header + payload, remote)

    def _next_frame(self, due_s: float) -> bytes:
        frame = b""
        while len(frame) < self._frame_bytes:
            if self._current is None and not self._start_next(due_s):
                break
            frame += self._continue_current(self._frame_bytes - len(frame), due_s)
        return frame + self.codec.silence * ((self._frame_bytes - len(frame)) // self.codec.sample_bytes)

    def _start_next(self, due_s: float) -> bool:
        with self._lock:
            if not self._waiting or self._waiting[0][0] > due_s:
                return False
            self._current = heapq.heappop(self._waiting)[2], 0
            return True

    def _continue_current(self, room: int, due_s: float) -> bytes:
        utterance, offset = self._current
        part = utterance.take(offset, room, due_s)
        self._current = utterance, offset + len(part)
        if offset + len(part) >= len(utterance.payload):
            utterance.close(due_s + self.ptime_s)
            self._current = None
        return part

    # -- what was received ----------------------------------------------------------------------

    def receive(self) -> None:
        """Reader's thread. Keep all packets that have arrived."""
        while True:
            try:
                datagram = self.socket.recv(_RECEIVE_BYTES)
            except OSError:  # nothing more; or ICMP says that the other end has closed its port
                return
            packet = parse_packet(datagram, time.monotonic())
            if packet is not None:
                self.packets.append(packet)

    def audio_packets(self) -> list[RtpPacket]:
        return [packet for packet in self.packets if packet.payload_type == self.payload_type]

    def received_raw(self) -> bytes:
        """Codec bytes on the RTP timestamp axis (see lay_out)."""
        return lay_out(self.audio_packets(), self.codec)

    def received(self) -> bytes:
        """s16 audio at the codec's rate on the RTP timestamp axis."""
        return self.codec.decode(self.received_raw())

    def levels(self) -> list[tuple[float, int]]:
        """(arrival, loudest sample) of every audio packet."""
        return [(p.arrived_s, _peak(self.codec.decode(p.payload))) for p in self.audio_packets()]

    def dtmf_received(self) -> str:
        """The digits of RFC 4733 events received, one per event."""
        packets = [p for p in self.packets if p.payload_type == self.event_payload_type and p.payload]
        events = {(packet.ssrc, packet.timestamp): packet.payload[0] for packet in packets}
        return "".join(_DIGITS[event] for event in events.values() if event < len(_DIGITS))

    def close(self) -> None:
        """End sending; what waits to be said is dropped. The socket stays with its owner."""
        with self._lock:
            self.closed = True
            waiting, self._waiting = self._waiting, []
        current = self._current
        for utterance in [entry[2] for entry in waiting] + ([current[0]] if current else []):
            utterance.close(None)


def _peak(samples: bytes) -> int:
    values = array("h", samples)
    return max(max(values), -min(values)) if values else 0


class RtpClock:
    """Ticks streams from one thread, each on its own grid of frames. Late ticks are made up for: no drift."""

    def __init__(self) -> None:
        self.worst_late_ms = 0.0  # the latest tick so far: this process's share in what is measured
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._due: list[tuple[float, int, RtpStream]] = []
        self._running = True
        self._thread = threading.Thread(target=self._run, name="rtp-clock", daemon=True)
        self._thread.start()

    def add(self, stream: RtpStream) -> None:
        """Tick the stream from now on, until it is closed."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic(), next(self._order), stream))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            due_s, order, stream = entry
            stream.tick(due_s)
            with self._changed:
                heapq.heappush(self._due, (due_s + stream.ptime_s, order, stream))

    def _next(self) -> tuple[float, int, RtpStream] | None:
        """Sleep until a stream's frame is due; None when the clock was closed."""
        with self._changed:
            while self._running:
                while self._due and self._due[0][2].closed:
                    heapq.heappop(self._due)
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    self.worst_late_ms = max(self.worst_late_ms, -wait_s * 1000)
                    return heapq.heappop(self._due)
                self._changed.wait(wait_s)
            return None
