"""Calls with a stream on them, and what is asked of most: that every sample is heard, in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from ears import heard_in_order, noise
from support.rtp import CODECS as CODECS_BY_NAME
from support.sip import SipCall
from taps import Probe, Tap, wait_until

CODECS = ("PCMU", "PCMA", "L16/8000", "L16/16000")
TRIES = 3
Result = TypeVar("Result")
_OWN_ENCODING = {"PCMU/8000": "pcmu", "PCMA/8000": "pcma"}


class Line(NamedTuple):
    """A call, and a stream whose audio its caller is to hear."""

    call: SipCall
    tap: Tap

    @property
    def rate_hz(self) -> int:
        return self.call.media.codec.rate_hz

    @property
    def encoding(self) -> str:
        """The call's own, as a stream calls it."""
        return _OWN_ENCODING.get(self.call.media.codec.encoding, "s16")

    def say(self, pcm: bytes, item: str = "item", **more: object) -> bytes:
        """Injects in the call's own format; returns the payload the caller has to get."""
        data = pcm if self.encoding == "s16" else self.call.media.codec.encode(pcm)
        self.tap.inject(data, item, self.encoding, self.rate_hz, **more)
        return self.call.media.codec.encode(pcm)

    def wait_heard(self, payload: bytes, item: str = "item") -> None:
        """Until the item is over; every sample of it, in order, must have come. Raises AssertionError."""
        self.tap.wait_finished(item)
        wait_until(lambda: payload in heard_in_order(self.call), 1.0, f"{item}, to the sample,")


def not_whole(lines: Sequence[Line], duration_s: float = 0.5) -> list[str]:
    """The codecs of lines on which injected noise is not heard in one piece, without a gap in its timestamps.

    That every sample comes, in order, is asserted each time. A gap is FreeSWITCH's answer to a machine that
    stalls for longer than a frame: each line has three tries.
    """
    left = list(lines)
    for attempt in range(TRIES):
        item = f"noise {attempt}"
        said = [
            (line, line.say(noise(line.rate_hz, duration_s, 100 * attempt + i), item))
            for i, line in enumerate(left)
        ]
        for line, payload in said:
            line.wait_heard(payload, item)
        left = [line for line, payload in said if payload not in line.call.received_raw()]
        if not left:
            break
    return [line.call.media.codec.encoding for line in left]


def at_once(actions: Iterable[Callable[[], Result]]) -> list[Result]:
    """Runs all of them at the same time; what they return, in order. Raises what one of them raised."""
    with ThreadPoolExecutor(32) as pool:
        return [done.result() for done in [pool.submit(action) for action in actions]]


def other_leg(probe: Probe, uuid: str) -> str:
    """The leg that a call is bridged to."""
    bond = wait_until(lambda: probe.esl.api(f"uuid_getvar {uuid} bridge_uuid").replace("_undef_", ""))
    assert probe.esl.api(f"uuid_exists {bond}") == "true"
    return bond


def far_end(probe: Probe, call: SipCall) -> str:
    """The call that the other leg of a sofia bridge leads to: its Call-ID is the uuid there."""
    return probe.esl.api(f"uuid_getvar {other_leg(probe, call.call_id)} sip_call_id")


def change_codec(call: SipCall, name: str) -> None:
    """Re-INVITEs with another codec, and sends and hears that from now on.

    FreeSWITCH forgets to swap L16's bytes when a re-INVITE brings it: here it stays in the machine's order.
    """
    media, codec = call.media, CODECS_BY_NAME[name]
    if codec.encoding.startswith("L16"):
        codec = codec._replace(encode=bytes, decode=bytes)
    media.codec, media.payload_type = codec, codec.payload_type
    media._frame_bytes = codec.frame_bytes(round(media.ptime_s * 1000))
    media._frame_samples = media._frame_bytes // codec.sample_bytes
    call.unhold()
