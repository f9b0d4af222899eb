"""Streams to servers on a bridged call: ten that speak and hear at once, and both sides of stereo in time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
from ears import noise, samples, similarity
from lines import TRIES, at_once
from stream_servers import Peer, StreamServer
from support.sip import SipCall, SipCaller
from taps import Probe, wait_until
from test_streaming_audio import FORMS, check_messages, play, start
from test_tracks import Bridge, sides, the_sum

NewCaller = Callable[..., SipCaller]
STEREO = "stereo 8000"

pytestmark = pytest.mark.usefixtures("stream_switch")


@pytest.fixture
def bridged(probe: Probe, new_caller: NewCaller) -> tuple[SipCall, SipCall]:
    """Two callers whose calls say every sample as it is."""
    near, far = (new_caller("L16/8000").call("park").wait_answered() for _ in range(2))
    assert probe.esl.api(f"uuid_bridge {near.call_id} {far.call_id}").startswith("+OK")
    near.wait_packets(10)
    return near, far


# ---- ten ---------------------------------------------------------------------------------------------------


class Ten:
    """Ten streams of one call, each with a server of its own: the first one stereo, five of each dialect."""

    def __init__(self, probe: Probe, call: SipCall, servers: list[StreamServer]) -> None:
        self._probe, self.call = probe, call
        self.kinds = ["binary", "json"] * 5
        self.peers = at_once(
            partial(start, probe, call, server, STEREO if n == 0 else FORMS[kind], f"s{n}")
            for n, (kind, server) in enumerate(zip(self.kinds, servers, strict=True))
        )

    def states(self) -> list[dict[str, dict[str, int]]]:
        streams = json.loads(self._probe.command(self.call.call_id, "status"))["streams"]
        assert len(streams) == 10
        return streams

    def say(self, parts: list[bytes]) -> None:
        """Each server plays its own, all at once; returns when all of it has been heard."""
        before = [state["inject"]["played"] for state in self.states()]
        at_once(partial(play, *each) for each in zip(self.peers, self.kinds, parts, strict=True))

        def heard() -> bool:
            played = [state["inject"]["played"] for state in self.states()]
            return all(now - was == len(parts[0]) // 2 for now, was in zip(played, before, strict=True))

        wait_until(heard, 5.0, "the end of all that is played")

    def captured(self) -> list[bytes]:
        """The caller, as each server has them."""
        left = sides(self.peers[0].audio())[0]
        return [left, *(peer.audio() for peer in self.peers[1:])]


@pytest.fixture
def ten(probe: Probe, bridged: tuple[SipCall, SipCall]) -> Iterator[Ten]:
    with ExitStack() as stack:
        yield Ten(probe, bridged[0], [stack.enter_context(StreamServer()) for _ in range(10)])


def test_ten_that_speak_and_hear_at_once(ten: Ten) -> None:
    """Every server gets all that the caller says; the caller hears the sum, and so does the stereo stream.

    FreeSWITCH skips frames when the machine stalls: of three tries, one has to be whole for each of these.
    """
    missing = {"a server", "the caller", "the stereo stream"}
    for attempt in range(TRIES):
        first = len(ten.call.packets)
        parts = [noise(8000, 0.8, 20 * attempt + number, 3000) for number in range(10)]
        said = noise(8000, 1.2, 1000 + attempt)
        saying = ten.call.say(said)
        ten.say(parts)
        assert saying.wait(5)
        time.sleep(0.4)
        heard = b"".join(packet.payload for packet in ten.call.packets[first:])
        pcm = ten.call.media.codec.decode(heard)
        whole = {
            "a server": all(said in captured for captured in ten.captured()),
            "the caller": the_sum(parts, pcm),
            "the stereo stream": similarity(sides(ten.peers[0].audio())[1], trimmed(pcm))[0] > 0.95,
        }
        missing -= {who for who, all_of_it in whole.items() if all_of_it}
        if not missing:
            break
    assert missing == set()
    for peer, kind in zip(ten.peers[1:], ten.kinds[1:], strict=True):
        check_messages(peer, kind)
    for state in ten.states():
        assert state["capture"]["dropped"] == state["inject"]["underruns"] == state["inject"]["flushed"] == 0


def trimmed(pcm: bytes) -> bytes:
    """Without the silence before and behind."""
    loud = np.flatnonzero(samples(pcm))
    return pcm[2 * loud[0] : 2 * loud[-1] + 2]


# ---- stereo ------------------------------------------------------------------------------------------------


class Received:
    """What a server has of a stereo stream, at 8000 Hz, in the place of a Tap."""

    def __init__(self, peer: Peer, rate_hz: int) -> None:
        self._peer, self._step = peer, rate_hz // 8000

    def captured(self) -> bytes:
        pairs = np.frombuffer(self._peer.audio(), "<i2").reshape(-1, 2)
        return np.ascontiguousarray(pairs[:: self._step]).tobytes()


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_a_server_gets_both_sides_of_stereo_in_time(
    probe: Probe, new_caller: NewCaller, rate_hz: int
) -> None:
    near, far = (new_caller("PCMU").call("park").wait_answered() for _ in range(2))
    assert probe.esl.api(f"uuid_bridge {near.call_id} {far.call_id}").startswith("+OK")
    near.wait_packets(10)
    with StreamServer() as server:
        peer = start(probe, near, server, f"stereo {rate_hz}")
        bridge = Bridge(near, far, Received(peer, rate_hz), time.monotonic())
        for number in range(3):
            assert bridge.aligned(number) == []
            time.sleep(0.5)
        passed_s = time.monotonic() - bridge.started_s
        assert len(bridge.sides()[0]) / 16000 == pytest.approx(passed_s, abs=0.25)
