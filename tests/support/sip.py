"""A scripted SIP caller on loopback: places calls over UDP, talks and listens on an exact clock, hangs up.

    with SipCaller(("127.0.0.1", 5060), codec="PCMU") as caller:
        call = caller.call("1234")
        call.wait_answered(5)
        call.say(pcm).wait(10)
        heard = call.received()

One `SipCaller` serves any number of calls with two threads: one reads all sockets and repeats unanswered
requests, one sends all RTP. It knows no proxies, registration, authentication, TLS or TCP: the other end is a
switch on the same machine.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping

from support.rtp import (
    AUDIBLE_PEAK,
    CODECS,
    TELEPHONE_EVENT_PT,
    Codec,
    RtpClock,
    RtpPacket,
    RtpStream,
    Utterance,
)
from support.sip_message import AudioSdp, Message, parse_sdp, write_sdp

_LOG = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_REPEAT_S = 0.5  # RFC 3261 T1: first repetition of an unanswered request, doubled each time
_TIMEOUT_S = 8.0  # a request unanswered for so long has failed; loopback needs no 32 s
_CLOSE_S = 2.0
_SIP_BYTES = 65536


class SipError(RuntimeError):
    """A call did not do what was asked; status_line is the final response, empty when none came."""

    def __init__(self, message: str, status_line: str = "") -> None:
        super().__init__(f"{message}: {status_line}" if status_line else message)
        self.status_line = status_line


class _Pending:
    """A request that has no final response yet."""

    def __init__(self, request: Message, call: SipCall, now_s: float) -> None:
        self.request = request
        self.call = call
        self.data = request.encode()
        self.repeat_s = _REPEAT_S
        self.next_s = now_s + _REPEAT_S
        self.deadline_s = now_s + _TIMEOUT_S


class SipCaller:
    """A user agent on an ephemeral port of 127.0.0.1. Thread-safe. Close it: it is a context manager."""

    def __init__(
        self,
        server: tuple[str, int] = (_HOST, 5060),
        codec: str = "PCMU",
        ptime_ms: int = 20,
        name: str = "caller",
        display_name: str | None = None,
    ) -> None:
        """display_name: the caller's name where it differs. Raises ValueError for an unknown codec."""
        if codec not in CODECS:
            raise ValueError(f"unknown codec {codec!r}: use one of {', '.join(CODECS)}")
        self.server, self.codec, self.ptime_ms, self.name = server, CODECS[codec], ptime_ms, name
        self.display_name = name if display_name is None else display_name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((_HOST, 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._lock = threading.Lock()  # over _calls, _pending
        self._calls: dict[str, SipCall] = {}
        self._pending: dict[tuple[str, str], _Pending] = {}  # by transaction: branch and method
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ, self._receive)
        self._clock = RtpClock()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="sip-caller", daemon=True)
        self._thread.start()

    def call(self, extension: str, headers: Mapping[str, str] | None = None) -> SipCall:
        """Send an INVITE and return at once. A header X-Name becomes FreeSWITCH's variable sip_h_X-Name."""
        stream = RtpStream(self.codec, self.ptime_ms, _HOST)
        call = SipCall(self, stream, f"sip:{extension}@{self.server[0]}:{self.server[1]}")
        with self._lock:
            self._calls[call.call_id] = call
        self._selector.register(stream.socket, selectors.EVENT_READ, stream.receive)
        call._invite(tuple((headers or {}).items()))
        return call

    @property
    def worst_late_ms(self) -> float:
        """How late the latest RTP packet was sent: what this process adds to the latencies it measures."""
        return self._clock.worst_late_ms

    def calls(self) -> list[SipCall]:
        """The calls that have not ended."""
        with self._lock:
            return list(self._calls.values())

    def close(self) -> None:
        """Hang up all calls, wait up to 2 s for the switch to confirm, and end both threads."""
        if not self._running:
            return
        for call in self.calls():
            call.hangup()
        deadline_s = time.monotonic() + _CLOSE_S
        while self.calls() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._running = False
        self._thread.join()
        for call in self.calls():
            call._end("RECOVERY_ON_TIMER_EXPIRE", "caller")
        self._reap()
        self._clock.close()
        self._selector.close()
        self._socket.close()

    def __enter__(self) -> SipCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- used by SipCall, from any thread -------------------------------------------------------

    def _send(self, message: Message) -> None:
        try:
            self._socket.sendto(message.encode(), self.server)
        except OSError as error:  # as if lost on the way: the request is repeated, then times out
            _LOG.debug("could not send %s: %s", message.start, error)

    def _request(self, request: Message, call: SipCall) -> None:
        """Send a request and repeat it until it is answered."""
        with self._lock:
            self._pending[request.branch, request.method] = _Pending(request, call, time.monotonic())
        self._send(request)

    def _start_media(self, stream: RtpStream) -> None:
        self._clock.add(stream)

    # -- reader thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select(timeout=0.02):
                receive: Callable[[], None] = key.data
                receive()
            self._repeat(time.monotonic())
            self._reap()

    def _receive(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(_SIP_BYTES)
            except OSError:  # nothing more; or ICMP says that nobody listens there
                return
            try:
                self._dispatch(Message.parse(datagram))
            except ValueError as error:
                _LOG.warning("ignored a datagram: %s", error)

    def _dispatch(self, message: Message) -> None:
        transaction = message.branch, message.method
        with self._lock:
            call = self._calls.get(message.get("Call-ID"))
            pending = self._pending.get(transaction) if message.status else None
            if pending and message.status >= 200:
                del self._pending[transaction]
        if pending and message.status < 200:
            pending.next_s = pending.deadline_s = float("inf")
        if call is not None:
            call._on_response(message) if message.status else call._on_request(message)
        elif not message.status and message.method != "ACK":
            self._refuse(message)

    def _refuse(self, request: Message) -> None:
        """Answer what belongs to no call of ours."""
        statuses = {"OPTIONS": "200 OK", "INVITE": "486 Busy Here"}
        self._send(request.reply(statuses.get(request.method, "481 Call/Transaction Does Not Exist"), _ALLOW))

    def _repeat(self, now_s: float) -> None:
        with self._lock:
            due = [pending for pending in self._pending.values() if pending.next_s <= now_s]
            for pending in due:
                if pending.deadline_s <= now_s:
                    del self._pending[pending.request.branch, pending.request.method]
        for pending in due:
            if pending.deadline_s <= now_s:
                pending.call._on_timeout(pending.request)
                continue
            pending.repeat_s *= 2
            pending.next_s = min(now_s + pending.repeat_s, pending.deadline_s)
            self._send(pending.request)

    def _reap(self) -> None:
        """Forget the calls that have ended and close their sockets: on this thread, which reads them."""
        ended = [call for call in self.calls() if call.ended_at_s is not None]
        with self._lock:
            for call in ended:
                del self._calls[call.call_id]
            if ended:
                self._pending = {key: p for key, p in self._pending.items() if p.call.ended_at_s is None}
        for call in ended:
            self._selector.unregister(call.media.socket)
            call.media.socket.close()


_ALLOW = (("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE"),)


class SipCall:
    """One call placed by a SipCaller. All methods may be used from any thread; times are time.monotonic()."""

    def __init__(self, caller: SipCaller, stream: RtpStream, uri: str) -> None:
        self.media = stream
        self.call_id = str(uuid.uuid4())
        self.status_line = ""  # latest response to the INVITE
        self.invited_at_s = 0.0
        self.early_at_s: float | None = None  # media began before the answer
        self.answered_at_s: float | None = None
        self.ended_at_s: float | None = None
        self.ended_cause: str | None = None  # FreeSWITCH's name where it sends one, such as NORMAL_CLEARING
        self.ended_by: str | None = None  # "caller" or "switch"
        self._caller = caller
        self._changed = threading.Condition()  # over all that changes after __init__
        self._local = f'"{caller.display_name}" <sip:{caller.name}@{_HOST}>;tag={secrets.token_hex(4)}'
        self._remote = f"<{uri}>"
        self._target = uri
        self._cseq = 0
        self._session, self._version = secrets.randbits(31), 0
        self._first_invite: Message | None = None
        self._reinvite_status: tuple[int, str] = (0, "")  # (CSeq, status line) of the latest final response
        self._answered: tuple[int, Message] | None = None  # CSeq of the switch's re-INVITE, our response
        self._media_started = False
        self._hanging_up = False
        self._bye_sent = False

    # -- the script -----------------------------------------------------------------------------

    def wait_early(self, timeout_s: float = 10.0) -> SipCall:
        """Until media flows, answered or not. Raises SipError when the call ends first, or on timeout."""
        return self._wait_media(lambda: self._media_started, "no early media", timeout_s)

    def wait_answered(self, timeout_s: float = 10.0) -> SipCall:
        """Raises SipError with the status line when the call is refused, or on timeout."""
        return self._wait_media(lambda: self.answered_at_s is not None, "no answer", timeout_s)

    def _wait_media(self, reached: Callable[[], bool], what: str, timeout_s: float) -> SipCall:
        with self._changed:
            self._changed.wait_for(lambda: reached() or self.ended_at_s is not None, timeout_s)
            if reached():
                return self
            if self.ended_at_s is not None:
                raise SipError(f"the call ended with {self.ended_cause}", self.status_line)
            raise SipError(f"{what} within {timeout_s} s", self.status_line)

    def wait_ended(self, timeout_s: float = 10.0) -> str:
        """The cause. Raises SipError on timeout."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended_at_s is not None, timeout_s):
                raise SipError(f"the call has not ended within {timeout_s} s")
            return self.ended_cause or ""

    def wait_packets(self, count: int, timeout_s: float = 10.0) -> None:
        """Until so many more packets have come. Raises SipError on timeout or when the call ends first."""
        wanted, deadline_s = len(self.packets) + count, time.monotonic() + timeout_s
        while len(self.packets) < wanted:
            if self.ended_at_s is not None or time.monotonic() > deadline_s:
                missing = wanted - len(self.packets)
                raise SipError(
                    f"{missing} packets of {count} have not come within {timeout_s} s", self.status_line
                )
            time.sleep(0.01)

    def wait_received(self, duration_ms: float, timeout_s: float = 10.0) -> bytes:
        """received(), once it is so long. Raises SipError on timeout or when the call ends first."""
        wanted = int(duration_ms * self.media.codec.rate_hz / 1000) * 2
        deadline_s = time.monotonic() + timeout_s
        while len(heard := self.received()) < wanted:
            if self.ended_at_s is not None or time.monotonic() > deadline_s:
                had_ms = len(heard) // 2 * 1000 // self.media.codec.rate_hz
                raise SipError(f"{had_ms} ms of audio received instead of {duration_ms} ms", self.status_line)
            time.sleep(0.02)
        return heard

    def say(self, pcm: bytes) -> Utterance:
        """Send s16 audio at the codec's rate after what is already being said."""
        return self.media.say_at(time.monotonic(), pcm)

    def say_at(self, start_s: float, pcm: bytes) -> Utterance:
        """Send s16 audio from time.monotonic() == start_s on, to the frame."""
        return self.media.say_at(start_s, pcm)

    def dtmf(self, digits: str, duration_ms: int = 100, gap_ms: int = 100) -> None:
        """Send RFC 4733 events, each 4000 ms at most. Raises ValueError for a bad digit."""
        self.media.dtmf(digits, duration_ms, gap_ms)

    def dtmf_received(self) -> str:
        return self.media.dtmf_received()

    def received(self) -> bytes:
        """s16 audio at the codec's rate, laid on the RTP timestamp axis from the first packet on."""
        return self.media.received()

    def received_raw(self) -> bytes:
        """The same as codec bytes: G.711 codes, or L16 in network byte order."""
        return self.media.received_raw()

    @property
    def packets(self) -> list[RtpPacket]:
        return self.media.packets

    @property
    def first_audio_at_s(self) -> float | None:
        """Arrival of the first packet that is louder than silence; None so far."""
        return next((arrived_s for arrived_s, peak in self.media.levels() if peak > AUDIBLE_PEAK), None)

    def hold(self, timeout_s: float = 5.0) -> None:
        """Re-INVITE with a=sendonly. Raises SipError when the switch refuses or does not answer."""
        self._reinvite("sendonly", timeout_s)

    def unhold(self, timeout_s: float = 5.0) -> None:
        """Re-INVITE with a=sendrecv. Raises SipError when the switch refuses or does not answer."""
        self._reinvite("sendrecv", timeout_s)

    def hangup(self) -> None:
        """CANCEL or BYE, whichever fits; returns at once. No-op on a call that has ended."""
        with self._changed:
            if self._hanging_up or self.ended_at_s is not None:
                return
            self._hanging_up = True
        self.media.close()
        if self.answered_at_s is not None:
            self._bye()
        elif self.status_line:
            self._cancel()
        # Else the INVITE has drawn no response yet and may not be cancelled: its first one leads back here.

    # -- requests -------------------------------------------------------------------------------

    def _new_request(self, method: str, extra: tuple[tuple[str, str], ...] = (), body: str = "") -> Message:
        with self._changed:
            self._cseq += 1
            return self._message(method, self._cseq, f"z9hG4bK{secrets.token_hex(8)}", extra, body)

    def _message(
        self, method: str, cseq: int, branch: str, extra: tuple[tuple[str, str], ...] = (), body: str = ""
    ) -> Message:
        headers = (
            ("Via", f"SIP/2.0/UDP {_HOST}:{self._caller.port};branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", self._local),
            ("To", self._remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
        )
        return Message(f"{method} {self._target} SIP/2.0", headers + extra, body)

    def _request(self, request: Message) -> None:
        self._caller._request(request, self)

    def _session_headers(self) -> tuple[tuple[str, str], ...]:
        return (
            ("Contact", f"<sip:{self._caller.name}@{_HOST}:{self._caller.port}>"),
            ("Content-Type", "application/sdp"),
            *_ALLOW,
        )

    def _sdp(self, direction: str) -> str:
        codec, media = self.media.codec, self.media
        formats = {
            media.payload_type: codec.encoding,
            media.event_payload_type: f"telephone-event/{codec.rate_hz}",
        }
        self._version += 1
        sdp = AudioSdp(_HOST, media.port, formats, direction)
        return write_sdp(sdp, self._session, self._version, self._caller.ptime_ms)

    def _invite(self, headers: tuple[tuple[str, str], ...]) -> None:
        self.invited_at_s = time.monotonic()
        headers = self._session_headers() + headers
        self._first_invite = self._new_request("INVITE", headers, self._sdp("sendrecv"))
        self._request(self._first_invite)

    def _reinvite(self, direction: str, timeout_s: float) -> None:
        request = self._new_request("INVITE", self._session_headers(), self._sdp(direction))
        self._request(request)
        with self._changed:
            self._changed.wait_for(
                lambda: self._reinvite_status[0] == request.cseq or self.ended_at_s is not None, timeout_s
            )
            cseq, status_line = self._reinvite_status
        if cseq != request.cseq:
            raise SipError(f"no answer to the re-INVITE within {timeout_s} s")
        if not status_line.startswith("SIP/2.0 2"):
            raise SipError("the re-INVITE was refused", status_line)

    def _cancel(self) -> None:
        """CANCEL carries the INVITE's own branch and number."""
        first = self._first_invite
        self._request(self._message("CANCEL", first.cseq, first.branch))

    def _bye(self) -> None:
        with self._changed:
            if self._bye_sent:
                return
            self._bye_sent = True
        self._request(self._new_request("BYE"))

    def _ack(self, response: Message, branch: str) -> None:
        self._caller._send(self._message("ACK", response.cseq, branch))

    # -- reader thread: responses ---------------------------------------------------------------

    def _on_response(self, response: Message) -> None:
        if response.method == "INVITE":
            if response.cseq == self._first_invite.cseq:
                self._on_first_invite(response)
            elif response.status >= 200:
                self._on_reinvite(response)
        elif response.method == "BYE" and response.status >= 200:
            self._end("NORMAL_CLEARING", "caller")

    def _on_first_invite(self, response: Message) -> None:
        first_response = not self.status_line
        with self._changed:
            self.status_line = response.start
            if response.to_tag:
                self._remote = response.get("To")
        if response.status >= 300:
            self._ack(response, response.branch)
            self._end(self._refusal(response), "caller" if self._hanging_up else "switch")
        elif response.status >= 200:
            self._on_answer(response)
        elif self._hanging_up and first_response:
            self._cancel()
        elif response.body:
            self._on_early(response)

    def _refusal(self, response: Message) -> str:
        if self._hanging_up:
            return "ORIGINATOR_CANCEL"
        return response.reason or response.start.removeprefix("SIP/2.0 ")

    def _on_early(self, response: Message) -> None:
        if not self._media_started and self._use(response.body):
            with self._changed:
                self.early_at_s = time.monotonic()
                self._start_media()

    def _on_answer(self, response: Message) -> None:
        self._target = response.contact_uri or self._target
        self._ack(response, f"z9hG4bK{secrets.token_hex(8)}")
        if self.answered_at_s is not None:  # our ACK was lost
            return
        usable = self._use(response.body) if response.body else self._media_started
        with self._changed:
            self.answered_at_s = time.monotonic()
            if usable:
                self._start_media()
        if self._hanging_up:  # the answer crossed our CANCEL
            self._bye()
        elif not usable:
            self.hangup()

    def _on_reinvite(self, response: Message) -> None:
        ok = response.status < 300
        self._ack(response, f"z9hG4bK{secrets.token_hex(8)}" if ok else response.branch)
        if ok and response.body:
            self._use(response.body)
        with self._changed:
            self._reinvite_status = (response.cseq, response.start)
            self._changed.notify_all()

    def _on_timeout(self, request: Message) -> None:
        _LOG.warning("no answer to %s within %s s", request.start, _TIMEOUT_S)
        if request.method in ("BYE", "CANCEL") or request is self._first_invite:
            self._end("RECOVERY_ON_TIMER_EXPIRE", "caller")

    def _start_media(self) -> None:
        """With _changed held."""
        if not self._media_started and not self._hanging_up:
            self._media_started = True
            self._caller._start_media(self.media)
        self._changed.notify_all()

    def _use(self, body: str) -> bool:
        """Send as the switch's session description says; False when it does not take our codec."""
        try:
            sdp = parse_sdp(body)
        except ValueError as error:
            _LOG.warning("%s", error)
            return False
        payload_type = sdp.payload_type(self.media.codec.encoding)
        if payload_type is None:
            _LOG.warning("the switch does not take %s but %s", self.media.codec.encoding, sdp.formats)
            return False
        self.media.payload_type = payload_type
        self.media.event_payload_type = _event_payload_type(sdp, self.media.codec)
        self.media.remote = (sdp.host, sdp.port) if sdp.port else None
        self.media.sending = sdp.direction in ("sendrecv", "recvonly")
        return True

    # -- reader thread: requests ----------------------------------------------------------------

    def _on_request(self, request: Message) -> None:
        if request.method == "BYE":
            self._caller._send(request.reply("200 OK"))
            self._end(request.reason or "NORMAL_CLEARING", "switch")
        elif request.method == "INVITE":
            self._caller._send(self._answer_reinvite(request))
        elif request.method != "ACK":
            known = request.method in ("OPTIONS", "INFO", "UPDATE", "CANCEL")
            self._caller._send(request.reply("200 OK" if known else "405 Method Not Allowed", _ALLOW))

    def _answer_reinvite(self, request: Message) -> Message:
        """The same answer again to a repeated request."""
        if self._answered is None or self._answered[0] != request.cseq:
            self._target = request.contact_uri or self._target
            self._answered = request.cseq, self._new_answer(request)
        return self._answered[1]

    def _new_answer(self, request: Message) -> Message:
        if request.body and not self._use(request.body):
            return request.reply("488 Not Acceptable Here")
        direction = parse_sdp(request.body).answer_direction() if request.body else "sendrecv"
        return request.reply("200 OK", self._session_headers(), self._sdp(direction))

    def _end(self, cause: str, by: str) -> None:
        self.media.close()
        with self._changed:
            if self.ended_at_s is None:
                self.ended_at_s, self.ended_cause, self.ended_by = time.monotonic(), cause, by
                self._changed.notify_all()


def _event_payload_type(sdp: AudioSdp, codec: Codec) -> int:
    """The switch's number for DTMF events; ours when it names none."""
    for rate_hz in (codec.rate_hz, 8000):
        number = sdp.payload_type(f"telephone-event/{rate_hz}")
        if number is not None:
            return number
    return TELEPHONE_EVENT_PT
