"""RTP streams ticked by hand, and the clock that ticks them."""

from __future__ import annotations

import socket
import struct
import time
from array import array
from collections.abc import Iterator
from itertools import pairwise

import pytest
from support.rtp import CODECS, RtpClock, RtpPacket, RtpStream, lay_out, parse_packet

from ivr_ai.audio import g711

PCMU = CODECS["PCMU"]
L16 = CODECS["L16/16000"]
FRAME = 160


class Listener:
    """The other end's socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2)

    def next(self) -> RtpPacket:
        packet = parse_packet(self.socket.recv(2048), time.monotonic())
        assert packet is not None
        return packet

    def take(self, count: int) -> list[RtpPacket]:
        return [self.next() for _ in range(count)]


@pytest.fixture
def listener() -> Iterator[Listener]:
    end = Listener()
    yield end
    end.socket.close()


@pytest.fixture
def stream(listener: Listener) -> Iterator[RtpStream]:
    made = RtpStream(PCMU)
    made.remote = listener.socket.getsockname()
    yield made
    made.close()
    made.socket.close()


def speech(samples: int) -> bytes:
    """s16 samples that survive G.711 exactly and are all different from silence."""
    codes = bytes(i % 100 + 1 for i in range(samples))
    return g711.pcmu_decode(codes)


def packet(timestamp: int, payload: bytes, arrived_s: float, ssrc: int = 1) -> RtpPacket:
    return RtpPacket(arrived_s, 0, timestamp, 0, False, ssrc, payload)


def test_silence_is_sent_when_nothing_is_said(stream: RtpStream, listener: Listener) -> None:
    stream.tick(0.0)
    stream.tick(0.02)
    first, second = listener.take(2)
    assert first.payload == second.payload == b"\xff" * FRAME
    assert (first.marker, second.marker) == (True, False)
    assert (second.sequence - first.sequence) % 2**16 == 1
    assert (second.timestamp - first.timestamp) % 2**32 == FRAME
    assert first.ssrc == second.ssrc


def test_what_is_said_goes_out_in_frames_and_the_rest_is_silence(
    stream: RtpStream, listener: Listener
) -> None:
    one, two = stream.say_at(0.0, speech(200)), stream.say_at(0.0, speech(40))
    for tick in range(3):
        stream.tick(tick * 0.02)
    sent = b"".join(p.payload for p in listener.take(3))
    assert sent == one.payload + two.payload + b"\xff" * (3 * FRAME - 240)
    assert (one.started_s, one.finished_s) == (0.0, pytest.approx(0.04))
    assert (two.started_s, two.finished_s) == (0.02, pytest.approx(0.04))
    assert one.wait(0) and two.wait(0)


def test_an_utterance_waits_for_its_time(stream: RtpStream, listener: Listener) -> None:
    later, sooner = stream.say_at(10.04, speech(FRAME)), stream.say_at(10.0, speech(FRAME))
    for tick in range(4):
        stream.tick(9.98 + tick * 0.02)
    silence = b"\xff" * FRAME
    assert [p.payload for p in listener.take(4)] == [silence, sooner.payload, silence, later.payload]


def test_a_closed_stream_says_nothing_more(stream: RtpStream) -> None:
    running, waiting = stream.say_at(0.0, speech(400)), stream.say_at(5.0, speech(400))
    stream.tick(0.0)
    stream.close()
    late = stream.say_at(0.0, speech(400))
    assert [u.wait(0) for u in (running, waiting, late)] == [False] * 3
    assert running.started_s == 0.0 and waiting.started_s is None


def test_a_pause_ends_with_the_marker(stream: RtpStream, listener: Listener) -> None:
    for tick, sending in enumerate([True, False, False, True]):
        stream.sending = sending
        stream.tick(tick * 0.02)
    first, second = listener.take(2)
    assert second.marker
    assert (second.timestamp - first.timestamp) % 2**32 == 3 * FRAME
    assert (second.sequence - first.sequence) % 2**16 == 1


def test_dtmf_follows_rfc_4733(stream: RtpStream, listener: Listener) -> None:
    stream.dtmf("5#", duration_ms=60, gap_ms=20)
    for tick in range(9):
        stream.tick(tick * 0.02)
    sent = listener.take(9 + 4)
    events = [p for p in sent if p.payload_type == 101]
    one, two = events[:5], events[5:]
    for digit, packets in ((5, one), (11, two)):
        assert len({p.timestamp for p in packets}) == 1
        assert [p.marker for p in packets] == [True, False, False, False, False]
        fields = [struct.unpack("!BBH", p.payload) for p in packets]
        assert {event for event, _, _ in fields} == {digit}
        assert [duration for _, _, duration in fields] == [160, 320, 480, 480, 480]
        assert [bool(flags & 0x80) for _, flags, _ in fields] == [False, False, True, True, True]
    assert (two[0].timestamp - one[0].timestamp) % 2**32 == 4 * FRAME
    assert [(b.sequence - a.sequence) % 2**16 for a, b in pairwise(sent)] == [1] * 12


def test_audio_waits_while_digits_are_sent(stream: RtpStream, listener: Listener) -> None:
    stream.dtmf("1", duration_ms=40, gap_ms=20)
    said = stream.say_at(0.0, speech(FRAME))
    for tick in range(3):
        stream.tick(tick * 0.02)
    assert listener.take(5)[-1].payload == said.payload


def test_what_is_no_digit_is_refused(stream: RtpStream, listener: Listener) -> None:
    with pytest.raises(ValueError, match="'1x' are no DTMF digits"):
        stream.dtmf("1x")
    stream.tick(0.0)
    assert listener.next().payload_type == PCMU.payload_type


def test_digits_received_count_once_each(stream: RtpStream, listener: Listener) -> None:
    sender = RtpStream(PCMU)
    sender.remote = ("127.0.0.1", stream.port)
    sender.dtmf("99D")
    for tick in range(40):
        sender.tick(tick * 0.02)
    stream.receive()
    assert stream.dtmf_received() == "99D"
    sender.socket.close()


def test_l16_travels_in_network_order(listener: Listener) -> None:
    stream = RtpStream(L16)
    stream.remote = listener.socket.getsockname()
    stream.say_at(0.0, array("h", [1, -2]).tobytes())
    stream.tick(0.0)
    sent = listener.next()
    assert (sent.payload_type, len(sent.payload)) == (97, 640)
    assert sent.payload[:6] == b"\x00\x01\xff\xfe\x00\x00"
    assert L16.decode(sent.payload)[:4] == array("h", [1, -2]).tobytes()
    stream.socket.close()


def test_levels_tell_sound_from_silence(stream: RtpStream) -> None:
    stream.packets += [packet(0, b"\xff" * 160, 1.0), packet(160, b"\x80" + b"\xff" * 159, 1.02)]
    assert stream.levels() == [(1.0, 0), (1.02, 32124)]


def test_gaps_and_late_packets_lie_where_they_belong() -> None:
    packets = [
        packet(1000, b"a", 0.0),
        packet(1003, b"d", 0.0),
        packet(1002, b"c", 0.0),
        packet(1003, b"d", 0.0),
    ]
    assert lay_out(packets, PCMU) == b"a\xffcd"


def test_timestamps_wrap() -> None:
    assert lay_out([packet(2**32 - 2, b"ab", 0.0), packet(0, b"cd", 0.0)], PCMU) == b"abcd"


@pytest.mark.parametrize("restart", [packet(7, b"b", 0.001, ssrc=2), packet(10**9, b"b", 0.001)])
def test_a_new_timeline_is_placed_by_arrival(restart: RtpPacket) -> None:
    laid = lay_out(
        [packet(1000, b"a", 0.0), restart, restart._replace(timestamp=restart.timestamp + 1)], PCMU
    )
    assert laid == b"a" + b"\xff" * 7 + b"bb"


def test_a_long_gap_in_time_is_a_gap_in_the_audio() -> None:
    laid = lay_out([packet(0, b"a", 0.0), packet(8000 * 60, b"b", 60.01)], PCMU)
    assert (len(laid), laid[0:1], laid[-1:]) == (8000 * 60 + 1, b"a", b"b")


def test_packets_with_contributors_extension_and_padding_are_read() -> None:
    header = struct.pack("!BBHII", 0x80 | 0x20 | 0x10 | 2, 0x80 | 8, 65535, 5, 6)
    datagram = header + bytes(8) + struct.pack("!HHI", 0xBEDE, 1, 0) + b"voice" + b"\0\0\x03"
    read = parse_packet(datagram, 1.5)
    assert read == RtpPacket(1.5, 65535, 5, 8, True, 6, b"voice")


@pytest.mark.parametrize("datagram", [b"", b"\x80" * 11, b"\x00" * 40])
def test_what_is_no_rtp_is_ignored(datagram: bytes) -> None:
    assert parse_packet(datagram, 0.0) is None


def test_the_clock_keeps_every_streams_time(listener: Listener) -> None:
    streams = [RtpStream(PCMU, ptime_ms) for ptime_ms in (10, 20, 20)]
    clock = RtpClock()
    for stream in streams:
        stream.remote = listener.socket.getsockname()
        clock.add(stream)
    said = [stream.say_at(0.0, speech(8 * 500)) for stream in streams]
    assert all(utterance.wait(3) for utterance in said)
    for utterance in said:
        assert utterance.finished_s - utterance.started_s == pytest.approx(0.5, abs=1e-6)
        assert utterance.finished_s <= time.monotonic() + 0.03
    clock.close()
    for stream in streams:
        stream.socket.close()


def test_the_clock_forgets_a_closed_stream(listener: Listener) -> None:
    closed, live = RtpStream(PCMU), RtpStream(PCMU)
    clock = RtpClock()
    for stream in (closed, live):
        stream.remote = listener.socket.getsockname()
        clock.add(stream)
    listener.take(2)
    closed.close()
    live.say_at(0.0, speech(8 * 100)).wait(1)
    seen, deadline_s = [], time.monotonic() + 5
    while [live] not in seen and time.monotonic() < deadline_s:  # a stream is out while it is served
        seen.append([entry[2] for entry in clock._due])
        time.sleep(0.001)
    assert [live] in seen
    assert all(closed not in streams for streams in seen)
    clock.close()
    for stream in (closed, live):
        stream.socket.close()
