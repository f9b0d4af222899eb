"""What streams capture: what the caller says, what the caller hears, or both. And several that inject.

FreeSWITCH skips and repeats frames when the machine stalls: what is measured or compared has three tries.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from ears import chirp, frequency_hz, heard_in_order, level_db, noise, samples, similarity, tone
from lines import TRIES, Line, at_once, change_codec
from stream_servers import StreamServer
from support.sip import SipCall, SipCaller
from support.switch import MUSIC_HZ, TONE_HZ, FreeSwitch
from taps import Probe, Tap, reason_of, wait_until
from test_streaming_audio import exactly

NewCaller = Callable[..., SipCaller]
OpenLine = Callable[..., Line]

pytestmark = pytest.mark.usefixtures("stream_switch")


def listen(probe: Probe, call: SipCall, track: str, encoding: str = "s16", rate_hz: int = 8000) -> Tap:
    """A stream of a track, captured from now on."""
    tap = probe.start(call, track, track)
    tap.capture(encoding, rate_hz)
    return tap


def sides(pcm: bytes) -> tuple[bytes, bytes]:
    """(left, right) of interleaved stereo."""
    pairs = np.frombuffer(pcm[: len(pcm) // 4 * 4], "<i2").reshape(-1, 2)
    return pairs[:, 0].tobytes(), pairs[:, 1].tobytes()


# ---- outbound: what the caller hears -----------------------------------------------------------------------


def hear_injected(line: Line, listener: Tap) -> None:
    """What is injected is in the listener's track to the sample, in one piece."""
    for attempt in range(TRIES):
        payload = line.say(noise(line.rate_hz, 0.5, attempt), f"heard {attempt}")
        line.wait_heard(payload, f"heard {attempt}")
        time.sleep(0.3)  # quiet chunks come in tenths of a second
        wanted = payload if line.encoding != "s16" else line.call.media.codec.decode(payload)
        if wanted in listener.captured():
            return
    pytest.fail("what the caller heard is not in the outbound track to the sample")


@pytest.mark.parametrize("codec", ["PCMU", "L16/16000"])
@pytest.mark.parametrize("extension", ["park", "sleep", "tone", "bridge-sofia-music"])
def test_outbound_has_what_is_injected(probe: Probe, open_line: OpenLine, extension: str, codec: str) -> None:
    """By a stream started earlier, by one started later, and by itself."""
    line = open_line(extension, codec)
    listener = listen(probe, line.call, "outbound", line.encoding, line.rate_hz)
    later = Line(line.call, probe.start(line.call, "later"))
    for each in (line, later, Line(line.call, listener)):
        hear_injected(each, listener)


def test_a_listener_that_comes_in_the_middle(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    pcm = noise(8000, 2.0)
    line.say(pcm)
    time.sleep(0.5)
    listener = listen(probe, line.call, "outbound", "pcmu")
    line.tap.wait_finished()
    time.sleep(0.3)
    rest = line.call.media.codec.encode(pcm)[-8000:]
    assert rest in listener.captured()
    assert rest in heard_in_order(line.call)


@pytest.mark.parametrize(("extension", "hz"), [("tone", TONE_HZ), ("bridge-sofia-music", MUSIC_HZ)])
def test_outbound_has_what_the_dialplan_and_the_other_leg_play(
    probe: Probe, open_line: OpenLine, extension: str, hz: float
) -> None:
    line = open_line(extension)
    listener = listen(probe, line.call, "outbound")
    line.call.wait_received(1000)
    line.call.wait_packets(100)
    heard = line.call.media.codec.decode(heard_in_order(line.call)[-8000:])
    captured = listener.captured()
    assert similarity(captured, heard)[0] > 0.99
    assert frequency_hz(captured[-8000:], 8000) == pytest.approx(hz, abs=4)
    assert level_db(captured[-8000:]) == pytest.approx(level_db(heard), abs=0.5)


def test_outbound_does_not_have_the_caller(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    listener = listen(probe, line.call, "outbound")
    assert line.call.say(noise(8000, 0.5)).wait(5)
    time.sleep(0.3)
    assert len(listener.captured()) > 0.5 * 16000  # time passes although nobody writes
    assert not np.any(samples(listener.captured()))


def test_outbound_after_a_change_of_codec(probe: Probe, open_line: OpenLine) -> None:
    """PCMU, then L16 at 16 kHz: what is heard is resampled to the stream's rate."""
    line = open_line("park")
    listener = listen(probe, line.call, "outbound")
    change_codec(line.call, "L16/16000")
    line.call.wait_packets(5)
    line.tap.inject(chirp(8000, 0.6))
    line.tap.wait_finished()
    time.sleep(0.3)
    assert similarity(listener.captured()[-24000:], chirp(8000, 0.6))[0] > 0.97
    assert listener.status()["callRate"] == 8000


# ---- mixed -------------------------------------------------------------------------------------------------


def mixed_exactly(probe: Probe, line: Line, listener: Tap, peak: int, item: str) -> bool:
    """Whether caller and injected audio are in the mix to the sample, clipped where they have to be."""
    said, injected = noise(8000, 1.0, 5, peak), noise(8000, 1.0, 6, peak)
    line.tap.inject(injected, item)
    line.call.say(said).wait(5)
    line.tap.wait_finished(item)
    time.sleep(0.4)
    heard = samples(listener.captured()[-48000:])
    at = [similarity(heard.astype("<i2").tobytes(), each)[1] for each in (said, injected)]
    sum_ = np.zeros(len(heard))
    for start, pcm in zip(at, (said, injected), strict=True):
        sum_[start : start + 8000] += samples(pcm)
    first, last = min(at), max(at) + 8000
    return abs(at[0] - at[1]) < 8000 and np.array_equal(
        heard[first:last], np.clip(sum_, -32768, 32767)[first:last]
    )


@pytest.mark.parametrize("peak", [8000, 30000])
def test_mixed_is_the_sum(probe: Probe, open_line: OpenLine, peak: int) -> None:
    line = open_line("park", "L16/8000")
    listener = listen(probe, line.call, "mixed")
    line.call.wait_packets(25)
    assert any(mixed_exactly(probe, line, listener, peak, f"try {n}") for n in range(TRIES))


# ---- stereo ------------------------------------------------------------------------------------------------


class Bridge(NamedTuple):
    """Two callers, bridged, and a stereo stream on the first one's call."""

    near: SipCall
    far: SipCall
    tap: Tap
    started_s: float

    def sides(self) -> tuple[bytes, bytes]:
        return sides(self.tap.captured())

    def off_ms(self, seed: int) -> float:
        """Both say something at once: how much later is the right side than the left, beyond how much later
        FreeSWITCH sent it to the other caller?

        The moment of sending would not do: a packet waits for one or two ticks of 20 ms before it is read.
        """
        pcm, when_s = noise(8000, 0.5, seed, 12000), time.monotonic() + 0.2
        said = [call.say_at(when_s, pcm) for call in (self.near, self.far)]
        assert all(each.wait(5) for each in said)
        time.sleep(0.4)
        left, right = (similarity(side[-32000:], pcm) for side in self.sides())
        if min(left[0], right[0]) < 0.6:
            return float("inf")  # not in one piece
        passed_ms = (heard_at_s(self.near, pcm) - heard_at_s(self.far, pcm)) * 1000
        return (right[1] - left[1]) / 8 - passed_ms

    def aligned(self, seed: int) -> list[float]:
        """What off_ms() says when it is more than 20, or []. What was not in one piece is said again.

        A machine that stalls makes FreeSWITCH read one utterance a tick late: two of three have to be right.
        """
        off: list[float] = []
        for number in range(2 * TRIES):
            ms = self.off_ms(10 * seed + number)
            off += [ms] if np.isfinite(ms) else []
            if len(off) in (1, TRIES) and abs(np.median(off)) <= 20:
                return []
            if len(off) == TRIES:
                break
        return off or [np.inf]


def heard_at_s(call: SipCall, pcm: bytes) -> float:
    """When the packet with the beginning of this arrived, within the last two seconds."""
    packets = call.media.audio_packets()[-100:]
    payload = b"".join(packet.payload for packet in packets)
    at = similarity(call.media.codec.decode(payload), pcm)[1]
    return packets[at // 160].arrived_s - at % 160 / 8000


def new_bridge(probe: Probe, new_caller: NewCaller) -> Bridge:
    near, far = (new_caller("PCMU").call("park").wait_answered() for _ in range(2))
    assert probe.esl.api(f"uuid_bridge {near.call_id} {far.call_id}").startswith("+OK")
    near.wait_packets(10)
    tap = probe.start(near, "both", "stereo")
    started_s = time.monotonic()
    tap.capture()
    return Bridge(near, far, tap, started_s)


@pytest.fixture
def bridge(probe: Probe, new_caller: NewCaller) -> Bridge:
    return new_bridge(probe, new_caller)


def alone_on_its_side(bridge: Bridge, side: int) -> bool:
    """Whether what one of the two says is on its own side as it was said, and not on the other."""
    pcm = tone(8000, 0.6, 700 + 200 * side, 9000)
    time.sleep(0.5)
    (bridge.near, bridge.far)[side].say(pcm).wait(5)
    time.sleep(0.4)
    both = [heard[-24000:] for heard in bridge.sides()]
    fit, at = similarity(both[side], pcm)
    own, other = (both[each][2 * at : 2 * at + 9600] for each in (side, 1 - side))
    return fit > 0.97 and abs(level_db(own) - level_db(pcm)) < 0.5 and level_db(other) < -60


@pytest.mark.parametrize("side", [0, 1])
def test_stereo_has_the_caller_left_and_the_other_leg_right(bridge: Bridge, side: int) -> None:
    assert any(alone_on_its_side(bridge, side) for _ in range(TRIES))


def test_stereo_stays_aligned(bridge: Bridge) -> None:
    """Over half a minute, and as long as the time that has passed."""
    for number in range(3):
        assert bridge.aligned(number) == []
        time.sleep(max(0.0, bridge.started_s + 10 * (number + 1) - time.monotonic()))
    passed_s = time.monotonic() - bridge.started_s
    captured_s = len(bridge.sides()[0]) / 16000
    assert passed_s > 20
    assert captured_s == pytest.approx(
        passed_s, abs=0.25
    )  # what waits: a chunk of 100 ms, and what is held back


def test_stereo_stays_aligned_when_a_caller_sends_nothing_for_a_while(bridge: Bridge) -> None:
    """As in silence suppression, on either side."""
    for seed, call in enumerate((bridge.near, bridge.far)):
        for pause_s in (0.1, 0.7):
            call.media.sending = False
            time.sleep(pause_s)
            call.media.sending = True
            time.sleep(1.5)
            assert bridge.aligned(10 * seed + int(pause_s * 10)) == []


class FaultySocket:
    """A socket that sends every tenth packet late, or not every twentieth, or none: late, lost, silent."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.count, self.fault = socket, 0, "late"

    def sendto(self, data: bytes, remote: tuple[str, int]) -> None:
        self.count += 1
        if self.fault == "late" and self.count % 10 == 0:
            threading.Timer(0.05, self.socket.sendto, (data, remote)).start()
        elif self.fault != "silent" and (self.fault != "lost" or self.count % 20):
            self.socket.sendto(data, remote)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)


def test_stereo_stays_aligned_when_packets_are_late_or_lost(bridge: Bridge) -> None:
    media, faulty = bridge.near.media, FaultySocket(bridge.near.media.socket)
    media.socket = faulty
    for seed, fault in enumerate(("late", "lost")):
        faulty.fault = fault
        time.sleep(5)
        faulty.fault = ""
        time.sleep(1.5)
        assert bridge.aligned(seed) == []


def injected_on_time(bridge: Bridge, line: Line, seed: int) -> bool:
    """Whether what the caller says is echoed, and then something injected, on the right when it is heard."""
    said, injected = (noise(8000, 0.5, each, 12000) for each in (seed, seed + 50))
    bridge.near.say(said).wait(5)
    time.sleep(0.2)
    line.say(injected, f"{seed}")
    line.tap.wait_finished(f"{seed}")
    time.sleep(0.4)
    left, right = (side[-32000:] for side in bridge.sides())
    own, echo, after = similarity(left, said), similarity(right, said), similarity(right, injected)
    passed_ms = (heard_at_s(bridge.near, injected) - heard_at_s(bridge.near, said)) * 1000
    fits = min(own[0], echo[0], after[0]) > 0.9
    return fits and abs(echo[1] - own[1]) <= 160 and abs((after[1] - own[1]) / 8 - passed_ms) <= 20


def test_words_after_lost_packets_are_whole(bridge: Bridge) -> None:
    """What is put in place of lost packets leaves the next words where they belong."""
    media, faulty = bridge.near.media, FaultySocket(bridge.near.media.socket)
    media.socket = faulty
    for count in (2, 4, 8):
        for attempt in range(TRIES):
            faulty.fault = "silent"
            time.sleep(0.02 * count)
            faulty.fault = ""
            bridge.near.wait_packets(3)
            pcm = noise(8000, 0.8, 10 * count + attempt, 12000)
            assert bridge.near.say(pcm).wait(5)
            time.sleep(0.4)
            if exactly(bridge.near, pcm) in bridge.sides()[0]:
                break
        else:
            pytest.fail(f"words after {count} lost packets are not in one piece")


def say_until_read(bridge: Bridge, seed: int) -> bytes:
    """Says something until FreeSWITCH has read it: the other caller has the last packet. Gives it back.

    The moment of sending would not do: packets wait before they are read, for a whole call after a stall.
    """
    near, far = bridge.near, bridge.far
    near.wait_packets(15)  # a start makes FreeSWITCH throw away what waits to be read
    pcm = noise(8000, 0.5, seed, 12000)
    last = near.media.codec.encode(pcm)[-160:]
    near.say(pcm)
    wait_until(
        lambda: any(packet.payload == last for packet in far.media.audio_packets()[-10:]),
        what="the last packet's arrival",
        every_s=0.001,
    )
    return exactly(near, pcm)


def test_the_last_words_before_a_stop(probe: Probe, bridge: Bridge) -> None:
    """What is held back for the sake of the clock is not lost."""
    for attempt in range(TRIES):
        tap = listen(probe, bridge.near, "mixed")
        said = say_until_read(bridge, attempt)
        tap.stop()
        wait_until(lambda tap=tap: not tap.reading())
        if said in tap.captured():
            return
    pytest.fail("the end of what the caller said is missing")


def test_the_last_words_before_a_hangup(probe: Probe, new_caller: NewCaller) -> None:
    for attempt in range(TRIES):
        bridge = new_bridge(probe, new_caller)
        with StreamServer() as server:
            assert probe.command(bridge.near.call_id, f"words start {server.url} stereo 8000") == "+OK"
            peer = server.wait_peer()
            said = say_until_read(bridge, attempt)
            bridge.near.hangup()
            peer.wait_closed()
            if said in sides(peer.audio())[0]:
                return
    pytest.fail("the end of what the caller said is missing")


def test_the_last_words_before_a_graceful_shutdown(probe: Probe, bridge: Bridge) -> None:
    for attempt in range(TRIES):
        with StreamServer() as server:
            assert probe.command(bridge.near.call_id, f"words start {server.url} stereo 8000") == "+OK"
            peer = server.wait_peer()
            said = say_until_read(bridge, attempt)
            assert probe.command(bridge.near.call_id, "words graceful-shutdown") == "+OK"
            peer.wait_closed()
            if said in sides(peer.audio())[0]:
                return
    pytest.fail("the end of what the caller said is missing")


def test_stereo_has_what_is_injected_on_the_right(probe: Probe, bridge: Bridge) -> None:
    """By another stream, and by itself. The call has left the bridge."""
    assert probe.esl.api(f"uuid_transfer {bridge.near.call_id} echo").startswith("+OK")
    other = Line(bridge.near, probe.start(bridge.near, "other"))
    bridge.near.wait_packets(50)
    for number, line in enumerate((other, Line(bridge.near, bridge.tap))):
        assert any(injected_on_time(bridge, line, 10 * number + attempt) for attempt in range(TRIES))


def test_stereo_needs_the_other_leg(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    answer = probe.command(line.call.call_id, "both start embedded stereo")
    assert reason_of(answer) == (
        f"stereo needs the other leg: call {line.call.call_id} is not bridged; bridge it first, or use "
        "mixed, or allow it for all calls: allow-one-leg-stereo in audio_stream.conf.xml, or "
        "STREAM_ALLOW_ONE_LEG_STEREO=true in FreeSWITCH's environment"
    )
    assert len(json.loads(probe.command(line.call.call_id, "status"))["streams"]) == 1


# ---- streams that only listen ------------------------------------------------------------------------------


@pytest.mark.parametrize("track", ["inbound", "both"])
def test_a_listener_leaves_the_call_alone(probe: Probe, caller: SipCaller, track: str) -> None:
    """Under `park` FreeSWITCH sends nothing: nor does it because of a stream that does not inject."""
    call = caller.call("park").wait_answered()
    with StreamServer() as server:
        assert probe.command(call.call_id, f"main start {server.url} {track} 8000 5 0") == "+OK"
        peer = server.wait_peer()
        time.sleep(0.5)
        assert call.packets == []
        for _ in range(TRIES):
            assert call.say(chirp(8000, 0.5)).wait(5)
            time.sleep(0.5)
            if similarity(peer.audio(), chirp(8000, 0.5))[0] > 0.97:
                break
        else:
            pytest.fail("the server has not got what the caller said")
        assert call.packets == []


# ---- several streams that inject ---------------------------------------------------------------------------


def the_sum(parts: list[bytes], heard: bytes) -> bool:
    """Whether what is heard is exactly the sum of all parts, each in one piece, from whenever it began."""
    sum_ = np.zeros(len(heard) // 2)
    for pcm in parts:
        at = similarity(heard, pcm)[1]
        sum_[at : at + len(pcm) // 2] += samples(pcm)
    first = np.flatnonzero(sum_)[0]
    return np.array_equal(np.clip(sum_, -32768, 32767)[first:], samples(heard)[first:])


@pytest.mark.parametrize("extension", ["park", "tone"])
@pytest.mark.parametrize("count", [2, 10])
def test_all_are_heard_at_once(probe: Probe, open_line: OpenLine, extension: str, count: int) -> None:
    line = open_line(extension, "L16/8000")
    taps = [line.tap, *(probe.start(line.call, f"s{number}") for number in range(1, count))]
    for attempt in range(TRIES):
        item, first = f"{attempt}", len(line.call.packets)
        parts = [noise(8000, 0.8, 20 * attempt + number, 3000) for number in range(count)]
        for tap, pcm in zip(taps, parts, strict=True):
            tap.inject(pcm, item)
        for tap in taps:
            tap.wait_finished(item)
        line.call.wait_packets(10)
        heard = b"".join(packet.payload for packet in line.call.packets[first:])
        whole = the_sum(parts, line.call.media.codec.decode(heard)) if extension == "park" else None
        states = json.loads(probe.command(line.call.call_id, "status"))["streams"]
        assert len(states) == count
        for state in states:
            inject = state["inject"]
            assert inject["played"] == inject["written"] == 6400 * (attempt + 1)
            assert inject["underruns"] == inject["flushed"] == 0
        if whole is None:  # the tone comes back between frames: look for each one
            pcm = line.call.media.codec.decode(heard)
            whole = min(similarity(pcm, part)[0] for part in parts) > 0.8 / np.sqrt(count)
        if whole:
            return
    pytest.fail("what is heard is not the sum of what is said")


def test_loud_ones_are_clipped(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park", "L16/8000")
    taps = [line.tap, probe.start(line.call, "second")]
    parts = [noise(8000, 0.5, seed, 30000) for seed in (1, 2)]
    for tap, pcm in zip(taps, parts, strict=True):
        tap.inject(pcm)
    for tap in taps:
        tap.wait_finished()
    line.call.wait_packets(5)
    heard = line.call.media.codec.decode(heard_in_order(line.call))
    at = [similarity(heard, pcm)[1] for pcm in parts]
    sum_ = np.zeros(len(heard) // 2)
    for start, pcm in zip(at, parts, strict=True):
        sum_[start : start + 4000] += samples(pcm)
    assert np.array_equal(np.clip(sum_, -32768, 32767)[min(at) :], samples(heard)[min(at) :])


def test_started_and_stopped_while_another_plays(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park", "L16/8000")
    payload = line.say(noise(8000, 4.0, 1))
    for number in range(30):
        tap = probe.start(line.call, f"s{number}", ("", "outbound", "mixed")[number % 3])
        if number % 10 == 9:
            assert tap.status()["inject"]["played"] == 0
        tap.stop()
    line.wait_heard(payload)
    assert probe.do("open_now", uuid=line.call.call_id) == [[line.call.call_id, "main"]]


def test_ten_streams_capture_and_inject(switch: FreeSwitch, probe: Probe, open_line: OpenLine) -> None:
    """Of all tracks that one leg has; stopped by a hangup."""
    line = open_line("park")
    tracks = ["inbound", "outbound", "mixed", "both", "mono"] * 2
    taps = [probe.start(line.call, f"{n}", track) for n, track in enumerate(tracks)]
    at_once(tap.capture for tap in taps)
    line.call.wait_packets(15)
    said = line.call.say(chirp(8000, 0.6))
    line.tap.inject(tone(8000, 0.6, 1000))
    line.tap.wait_finished()
    assert said.wait(5)
    time.sleep(0.4)
    for tap, track in zip(taps, tracks, strict=True):
        caller = similarity(tap.captured(), chirp(8000, 0.6))[0]
        heard = similarity(tap.captured(), tone(8000, 0.6, 1000))[0]
        assert (caller > 0.5) == (track != "outbound"), track
        assert (heard > 0.5) == (track in ("outbound", "mixed", "both")), track
    line.call.hangup()
    wait_until(lambda: probe.do("open_now", uuid=line.call.call_id) == [])
