"""Streams to WebSocket servers on real calls: what the caller says arrives, what the server says is heard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from ears import audible_span, frequency_hz, heard_in_order, level_db, noise, peaks, similarity, tone
from lines import CODECS, TRIES, at_once
from stream_servers import Peer, StreamServer
from support.packed import sound_file
from support.sip import SipCall, SipCaller
from support.switch import TONE_HZ
from taps import Probe, wait_until

NewCaller = Callable[..., SipCaller]
FRAME_MS = 20
FORMS = {"binary": "mono 8000", "json": "inbound 8000 5 1"}

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


def start(probe: Probe, call: SipCall, server: StreamServer, form: str, stream_id: str = "main") -> Peer:
    """Starts a stream and waits for its connection."""
    count = len(server.peers)
    answer = probe.command(call.call_id, f"{stream_id} start {server.url} {form}")
    assert answer == "+OK", answer
    return server.wait_peer(count + 1)


def exactly(call: SipCall, pcm: bytes) -> bytes:
    """What of it the call's codec can say."""
    return call.media.codec.decode(call.media.codec.encode(pcm))


def heard_by_all(call: SipCall, peers: Iterable[Peer], pcm: bytes) -> bool:
    """Whether every server gets what the caller says, to the bit.

    FreeSWITCH skips what comes while the machine stalls for longer than a frame: three tries, each whole.
    """
    for _ in range(TRIES):
        assert call.say(pcm).wait(len(pcm) / 2 / call.media.codec.rate_hz + 5)
        try:
            wait_until(lambda: all(exactly(call, pcm) in peer.audio() for peer in peers), 1.0)
        except AssertionError:
            continue
        return True
    return False


def play(peer: Peer, form: str, pcm: bytes, rate_hz: int = 8000, **more: object) -> None:
    (peer.play_binary if form == "binary" else peer.play_json)(pcm, rate_hz, **more)


def wait_heard(call: SipCall, pcm: bytes) -> None:
    payload = call.media.codec.encode(pcm)
    wait_until(lambda: payload in heard_in_order(call), len(pcm) / 2 / 8000 + 3, "what the server plays")


# ---- the caller to the server ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("extension", ["park", "tone", "bridge-sofia-music"])
def test_every_bit_arrives(
    probe: Probe, caller: SipCaller, server: StreamServer, extension: str, form: str
) -> None:
    call = caller.call(extension).wait_answered()
    peer = start(probe, call, server, FORMS[form])
    assert heard_by_all(call, [peer], noise(8000, 1.0))
    check_messages(peer, form)


def check_messages(peer: Peer, form: str) -> None:
    """One frame each; numbered without a gap in the JSON dialect."""
    if form == "binary":
        assert {len(message) for message in peer.messages} == {8000 * 2 * FRAME_MS // 1000}
        return
    events = peer.events()
    assert [event["sequence"] for event in events] == list(
        range(events[0]["sequence"], events[0]["sequence"] + len(events))
    )
    assert [event["event"] for event in events] == ["start", *["media"] * (len(events) - 1)]


def test_nothing_is_missing_between_the_words(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    """The audio is as long as the time that has passed, speech and silence."""
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, "mono 8k")
    peer.wait_audio(1600)
    began_s, had = time.monotonic(), len(peer.audio())
    call.say(noise(8000, 0.5))
    time.sleep(3.0)
    seconds = (len(peer.audio()) - had) / 2 / 8000
    assert seconds == pytest.approx(time.monotonic() - began_s, abs=0.25)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec(probe: Probe, new_caller: NewCaller, server: StreamServer, codec: str) -> None:
    """At the call's own rate, to the bit."""
    call = new_caller(codec).call("park").wait_answered()
    rate_hz = call.media.codec.rate_hz
    peer = start(probe, call, server, f"mono {rate_hz}")
    assert heard_by_all(call, [peer], noise(rate_hz, 0.5))


@pytest.mark.parametrize("rate_hz", [16000, 24000, 32000, 44100, 48000])
def test_other_rates(probe: Probe, caller: SipCaller, server: StreamServer, rate_hz: int) -> None:
    call = caller.call("park").wait_answered()
    binary = start(probe, call, server, f"mono {rate_hz}" if rate_hz != 44100 else "mono 44100", "one")
    by_json = start(probe, call, server, f"inbound {rate_hz} 5 0", "two")
    call.wait_packets(5)
    assert call.say(tone(8000, 0.6, 1000)).wait(5)
    time.sleep(0.4)
    for peer in (binary, by_json):
        heard = peer.audio()
        start_ms, end_ms = audible_span(heard, rate_hz)
        assert end_ms - start_ms == pytest.approx(600, abs=10)
        middle = heard[int(start_ms + 50) * rate_hz // 1000 * 2 : int(end_ms - 50) * rate_hz // 1000 * 2]
        assert frequency_hz(middle, rate_hz) == pytest.approx(1000, abs=4)
        assert level_db(middle) == pytest.approx(level_db(tone(8000, 0.6, 1000)), abs=0.4)


def test_ulaw(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    """STREAM_CODEC=ULAW: the G.711 of the call."""
    call = caller.call("park").wait_answered()
    probe.esl.api(f"uuid_setvar {call.call_id} STREAM_CODEC ULAW")
    peer = start(probe, call, server, "inbound 8000 5 0")
    assert peer.wait_event("start")["codec"] == "ULAW"
    for _ in range(TRIES):
        said = call.say(noise(8000, 0.5))
        assert said.wait(5)
        time.sleep(0.3)
        if said.payload in peer.audio():
            return
    pytest.fail("what the caller said did not arrive as it was")


# ---- the server to the caller ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("extension", ["park", "tone"])
def test_every_bit_is_heard(
    probe: Probe, caller: SipCaller, server: StreamServer, extension: str, form: str
) -> None:
    call = caller.call(extension).wait_answered()
    peer = start(probe, call, server, FORMS[form])
    pcm = exactly(call, noise(8000, 1.0))
    play(peer, form, pcm)
    wait_heard(call, pcm)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_packed_audio_is_heard(
    probe: Probe, caller: SipCaller, server: StreamServer, tmp_path: Path, kind: str, form: str
) -> None:
    """From its beginning to its end, at its own rate."""
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, FORMS[form])
    packed = sound_file(tmp_path / f"tone.{kind}", kind, tone(24000, 1.0, 1000), 24000)
    name = {"audioDataType": kind} if form == "binary" else {"format": kind}
    play(peer, form, packed, 24000, **name)
    wait_until(lambda: peaks(call.received(), 8000).max(initial=0) > 1000, what="the tone")
    time.sleep(1.3)
    heard = call.received()
    start_ms, end_ms = audible_span(heard, 8000)
    assert end_ms - start_ms == pytest.approx(1000, abs=80)
    middle = heard[int(start_ms + 100) * 16 : int(end_ms - 100) * 16]
    assert frequency_hz(middle, 8000) == pytest.approx(1000, abs=4)
    assert level_db(middle) == pytest.approx(level_db(tone(8000, 1.0, 1000)), abs=1)


def test_raw_binary_audio_is_heard(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    """In pieces, as a synthesiser sends it: one after the other, to the sample, even split within one."""
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, "mono 8000")
    pcm = exactly(call, noise(8000, 1.0))
    for begin in range(0, len(pcm), 999):
        peer.send(pcm[begin : begin + 999])
    wait_heard(call, pcm)


def test_both_ways_at_once(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, "mono 8000")
    pcm = exactly(call, noise(8000, 1.5, 3))
    play(peer, "binary", pcm)
    assert heard_by_all(call, [peer], noise(8000, 1.0, 4))
    wait_heard(call, pcm)


@pytest.mark.parametrize("form", FORMS)
def test_clear(probe: Probe, caller: SipCaller, server: StreamServer, form: str) -> None:
    """What is queued is thrown away at once, and what comes after is heard."""
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, FORMS[form])
    play(peer, form, noise(8000, 10.0))
    wait_until(lambda: level_db(call.received()[-1600:]) > -30, what="the noise")
    if form == "binary":
        play(peer, form, b"", clear=True)
    else:
        peer.send_json({"event": "media.clear", "streamId": "main"})
    wait_until(lambda: peaks(call.received()[-1600:], 8000).max() < 100, 1.0, "silence")
    heard_ms = np.flatnonzero(peaks(call.received(), 8000) > 1000).size * FRAME_MS
    assert heard_ms < 3000
    pcm = exactly(call, noise(8000, 0.4, 9))
    play(peer, form, pcm)
    wait_heard(call, pcm)


def test_one_way_streams_are_not_heard(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, "inbound 8000 5 0")
    play(peer, "json", noise(8000, 1.0))
    peer.wait_audio(16000)
    assert not call.received() or peaks(call.received(), 8000).max() < 100


# ---- tracks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "channels"), [("stereo 8000", 2)])
def test_stereo_of_a_bridged_call(
    probe: Probe, caller: SipCaller, server: StreamServer, form: str, channels: int
) -> None:
    """The caller left, the other leg right."""
    call = caller.call("bridge-sofia-tone").wait_answered()
    call.wait_received(400)
    peer = start(probe, call, server, form)
    pcm = noise(8000, 0.8)
    for _ in range(TRIES):
        assert call.say(pcm).wait(5)
        time.sleep(0.5)
        sides = np.frombuffer(peer.audio(), "<i2").reshape(-1, channels)
        left, right = (np.ascontiguousarray(sides[:, side]).tobytes() for side in range(channels))
        if exactly(call, pcm) in left:
            break
    else:
        pytest.fail("the caller is not on the left, to the bit")
    assert frequency_hz(right[-16000:], 8000) == pytest.approx(TONE_HZ, abs=4)
    assert similarity(right, pcm)[0] < 0.2


def test_the_other_end_alone_and_both(probe: Probe, caller: SipCaller, server: StreamServer) -> None:
    call = caller.call("bridge-sofia-tone").wait_answered()
    call.wait_received(400)
    outbound = start(probe, call, server, "outbound 8000 5 0", "out")
    both = start(probe, call, server, "both 8000 5 0", "both")
    mixed = start(probe, call, server, "mixed 8000", "mixed")
    assert call.say(tone(8000, 1.0, 1000)).wait(5)
    time.sleep(0.4)
    heard = outbound.audio()
    assert frequency_hz(heard[-16000:], 8000) == pytest.approx(TONE_HZ, abs=4)
    assert strength(heard, 1000) < 0.05
    for peer in (both, mixed):
        assert strength(peer.audio(), 1000) > 0.5
        assert strength(peer.audio(), TONE_HZ) > 0.5


def strength(pcm: bytes, frequency: float, rate_hz: int = 8000) -> float:
    """Of a frequency in the last second but 400 ms, relative to the strongest."""
    values = np.frombuffer(pcm, "<i2")[-(rate_hz + 3200) : -3200].astype(float)
    spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values))))
    at = round(frequency * len(values) / rate_hz)
    return float(spectrum[at - 2 : at + 3].max() / spectrum.max())


# ---- many --------------------------------------------------------------------------------------------------


def test_ten_streams_on_one_call(probe: Probe, caller: SipCaller) -> None:
    """Five in each dialect, each to a server of its own: each gets everything, each is heard in its turn."""
    call = caller.call("park").wait_answered()
    forms = ["binary", "json"] * 5
    with ExitStack() as servers:
        running = [servers.enter_context(StreamServer()) for _ in forms]
        peers = at_once(
            lambda n=n, form=form, server=server: start(probe, call, server, FORMS[form], f"s{n}")
            for n, (form, server) in enumerate(zip(forms, running, strict=True))
        )
        for seed in range(3):
            assert heard_by_all(call, peers, noise(8000, 0.5, seed))
        for peer, form in zip(peers, forms, strict=True):
            check_messages(peer, form)
        for seed, (peer, form) in enumerate(zip(peers, forms, strict=True)):
            pcm = exactly(call, noise(8000, 0.3, 20 + seed))
            play(peer, form, pcm)
            wait_heard(call, pcm)
        status = json.loads(probe.command(call.call_id, "status"))["streams"]
        assert {stream["streamId"] for stream in status} == {f"s{n}" for n in range(10)}
        assert all(stream["capture"]["dropped"] == 0 for stream in status)


# ---- pause -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_pause_and_resume(probe: Probe, caller: SipCaller, server: StreamServer, form: str) -> None:
    call = caller.call("park").wait_answered()
    peer = start(probe, call, server, FORMS[form])
    assert heard_by_all(call, [peer], noise(8000, 0.4, 1))
    pcm = exactly(call, noise(8000, 1.0, 2))
    assert probe.command(call.call_id, "pause") == "+OK"
    time.sleep(0.2)
    play(peer, form, pcm)
    had, heard = len(peer.audio()), len(call.packets)
    assert call.say(noise(8000, 0.4, 3)).wait(5)
    time.sleep(0.3)
    assert len(peer.audio()) - had <= 3200
    assert not call.packets[heard:] or peaks(call.received()[-1600:], 8000).max() < 100
    assert probe.command(call.call_id, "resume") == "+OK"
    wait_heard(call, pcm)
    assert heard_by_all(call, [peer], noise(8000, 0.4, 4))
    assert exactly(call, noise(8000, 0.4, 3))[:3200] not in peer.audio()
