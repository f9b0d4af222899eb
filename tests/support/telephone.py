"""A scripted caller at a real telephone line: the embedded host's Caller, with SIP and RTP under it.

The caller's clock decides what to do when; what it says is then sent by the RTP clock. So the events are put
right, once the call is over, by what the RTP clock noted.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from ivr_ai.gateways.caller import Caller, Said, Say, Step
from ivr_ai.gateways.clock import TICK_MS, MediaClock
from ivr_ai.gateways.embedded import HostEvent, speech
from ivr_ai.gateways.recording import Recording
from support.rtp import Utterance
from support.sip import SipCall

FLOW_S = 5.0  # from the answer until the switch sends RTP


class Telephone:
    """Holds one call by script. hold() does it; the rest is for afterwards."""

    def __init__(
        self,
        script: Sequence[Step],
        *,
        rate_hz: int,
        voice: str,
        quiet_ms: int,
        patience_s: float,
        observe: Callable[[HostEvent], None],
    ) -> None:
        """Speaks the caller's lines already, at the codec's rate: it takes longer than a call can wait."""
        self._observe, self._rate_hz = observe, rate_hz
        self._lines = [speech(step.what, rate_hz, voice) for step in script if isinstance(step, Say)]
        lines = iter(self._lines)
        self._caller = Caller(
            script,
            lambda what: next(lines),
            rate_hz=rate_hz,
            quiet_ms=quiet_ms,
            patience_s=patience_s,
            observe=self._caller_did,
        )
        self._utterances: list[Utterance] = []
        self._events: list[HostEvent] = []
        self._heard_packets = 0
        self._first_tick_s = 0.0
        self._over = threading.Event()
        self.start_s = (
            0.0  # time.monotonic() at the recording's first sample: the arrival of the first packet
        )
        self.skipped_ticks = 0

    def hold(self, call: SipCall, max_s: float) -> None:
        """Talks until either side has hung up, at most max_s. Raises SipError when no audio comes at all."""
        self._call = call
        call.wait_packets(1, FLOW_S)
        self.start_s = call.packets[0].arrived_s
        clock = MediaClock(self._tick)
        clock.start()
        self._over.wait(max_s)
        clock.stop()
        self.skipped_ticks = clock.stats.skipped_ticks
        by, cause = call.ended_by or "caller", call.ended_cause or "NORMAL_CLEARING"
        call.hangup()
        self._note("hangup", time.monotonic(), {"cause": cause, "by": by})

    def events(self) -> list[HostEvent]:
        """What the caller did and heard, with the times at which its words were really sent."""
        return [self._put_right(event) for event in self._events]

    def recording(self) -> Recording:
        """Both directions: what was sent when it was sent, what came on the axis of its RTP timestamps."""
        ai = array("h", self._call.received())
        caller = array("h", bytes(2 * len(ai)))
        for utterance, line in zip(self._utterances, self._lines, strict=False):
            if utterance.started_s is not None:
                first = max(0, round((utterance.started_s - self.start_s) * self._rate_hz))
                samples = array("h", self._through_codec(line))[: max(0, len(caller) - first)]
                caller[first : first + len(samples)] = samples
        recording = Recording(self._rate_hz)
        recording.add(caller.tobytes(), ai.tobytes())
        return recording

    def _through_codec(self, pcm: bytes) -> bytes:
        codec = self._call.media.codec
        return codec.decode(codec.encode(pcm))

    # ---- the clock's thread ----

    def _tick(self, skipped: int) -> None:
        if self._call.ended_at_s is not None:
            self._over.set()
            return
        if not self._first_tick_s:
            self._first_tick_s = time.monotonic()
            self._note("answered", self._first_tick_s, {})
        self._caller.skip(skipped)
        self._act(self._caller.tick())
        self._caller.hear(self._next_frame())

    def _act(self, said: Said) -> None:
        for key in said.digits:
            self._call.dtmf(key.digit)
        if said.hangup:
            self._over.set()

    def _next_frame(self) -> bytes:
        """What came since the last tick; silence when nothing did. More than a frame is heard as one."""
        packets = self._call.packets[self._heard_packets :]
        self._heard_packets += len(packets)
        payloads = [
            packet.payload for packet in packets if packet.payload_type == self._call.media.payload_type
        ]
        return self._call.media.codec.decode(b"".join(payloads)) or bytes(self._rate_hz * TICK_MS // 500)

    def _caller_did(self, kind: str, at_ms: float, data: dict[str, Any]) -> None:
        if kind == "caller_speaks":
            self._utterances.append(self._call.say(self._lines[len(self._utterances)]))
        self._note(kind, self._first_tick_s + at_ms / 1000, data)

    def _note(self, kind: str, at_s: float, data: dict[str, Any]) -> None:
        event = HostEvent(kind, at_s, data)
        self._events.append(event)
        self._observe(event)

    def _put_right(self, event: HostEvent) -> HostEvent:
        if event.kind not in ("caller_speaks", "caller_quiet"):
            return event
        at = event.data["turn"] - 1
        started_s = self._utterances[at].started_s
        if started_s is None:
            return event
        lasts_s = len(self._lines[at]) / 2 / self._rate_hz if event.kind == "caller_quiet" else 0.0
        return event._replace(at_s=started_s + lasts_s)
