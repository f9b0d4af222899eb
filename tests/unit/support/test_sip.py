"""The scripted caller against a switch that each test plays by hand, over real sockets on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support import sip
from support.rtp import RtpPacket, parse_packet
from support.sip import SipCall, SipCaller, SipError
from support.sip_message import AudioSdp, Message, parse_sdp, write_sdp

from ivr_ai.audio import g711

FORMATS = {0: "PCMU/8000", 101: "telephone-event/8000"}


class Switch:
    """A SIP and an RTP socket. Says only what the test tells it to say."""

    def __init__(self) -> None:
        self.sip, self.rtp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for end in (self.sip, self.rtp):
            end.bind(("127.0.0.1", 0))
            end.settimeout(2)
        self.address: tuple[str, int] = self.sip.getsockname()
        self.peer: tuple[str, int] = ("", 0)
        self.contact = ("Contact", f"<sip:switch@127.0.0.1:{self.address[1]}>")

    def receive(self, method: str) -> Message:
        """The next message that is this request, or a response to one; others are passed over."""
        while True:
            datagram, self.peer = self.sip.recvfrom(65536)
            message = Message.parse(datagram)
            if message.method == method:
                return message

    def quiet_for(self, seconds: float) -> bool:
        self.sip.settimeout(seconds)
        try:
            self.sip.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.sip.settimeout(2)
        return False

    def send(self, message: Message) -> None:
        self.sip.sendto(message.encode(), self.peer)

    def sdp(self, direction: str = "sendrecv", formats: dict[int, str] | None = None) -> str:
        port = self.rtp.getsockname()[1]
        return write_sdp(AudioSdp("127.0.0.1", port, formats or FORMATS, direction), 1, 1, 20)

    def answer(self, invite: Message, status: str = "200 OK", body: str | None = None) -> Message:
        """Send a response with a session description and return it."""
        response = invite.reply(status, (self.contact,), self.sdp() if body is None else body)
        self.send(response)
        return response

    def establish(self, call: SipCall) -> Message:
        """Answer the call; returns our 200, which holds the dialogue's headers."""
        response = self.answer(self.receive("INVITE"))
        call.wait_answered(2)
        self.receive("ACK")
        return response

    def request(
        self, method: str, dialogue: Message, cseq: int = 100, body: str = "", reason: str = ""
    ) -> None:
        headers = [
            ("Via", f"SIP/2.0/UDP 127.0.0.1:{self.address[1]};branch=z9hG4bK{method}{cseq}"),
            ("From", dialogue.get("To")),
            ("To", dialogue.get("From")),
            ("Call-ID", dialogue.get("Call-ID")),
            ("CSeq", f"{cseq} {method}"),
            self.contact,
        ]
        headers += [("Reason", reason)] if reason else []
        self.send(Message(f"{method} sip:caller@127.0.0.1 SIP/2.0", tuple(headers), body))

    def packet(self) -> RtpPacket:
        packet = parse_packet(self.rtp.recv(2048), time.monotonic())
        assert packet is not None
        return packet


@pytest.fixture
def switch() -> Iterator[Switch]:
    played = Switch()
    yield played
    played.sip.close()
    played.rtp.close()


@pytest.fixture
def caller(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> Iterator[SipCaller]:
    """A caller that does not wait long for the end of calls that a test leaves up."""
    monkeypatch.setattr(sip, "_CLOSE_S", 0.03)
    with SipCaller(switch.address) as made:
        yield made


def in_background(action: Callable[[], None]) -> tuple[threading.Thread, list[Exception]]:
    errors: list[Exception] = []

    def run() -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_the_invite_offers_the_codec(switch: Switch) -> None:
    with SipCaller(switch.address, "L16/16000", ptime_ms=40) as caller:
        caller.call("1234", headers={"X-Agent": "sales"})
        invite = switch.receive("INVITE")
        switch.send(invite.reply("486 Busy Here"))
    assert invite.start == f"INVITE sip:1234@127.0.0.1:{switch.address[1]} SIP/2.0"
    assert invite.get("X-Agent") == "sales"
    assert parse_sdp(invite.body).formats == {97: "L16/16000", 101: "telephone-event/16000"}
    assert "a=ptime:40" in invite.body


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown codec 'G729': use one of PCMU, PCMA, L16/8000, L16/16000"):
        SipCaller(codec="G729")


def test_an_answered_call_talks_and_listens(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.establish(call)
    said = call.say(g711.pcmu_decode(bytes(range(1, 101)) * 4))
    heard = b"".join(switch.packet().payload for _ in range(10))
    assert said.payload in heard
    for number, payload in enumerate([b"\xff" * 160, b"\x10" * 160]):
        header = b"\x80\x00" + number.to_bytes(2, "big") + (160 * number).to_bytes(4, "big") + b"ssrc"
        switch.rtp.sendto(header + payload, ("127.0.0.1", call.media.port))
    call.wait_received(40, timeout_s=2)
    assert call.received_raw() == b"\xff" * 160 + b"\x10" * 160
    assert call.received() == bytes(320) + g711.pcmu_decode(b"\x10") * 160
    assert call.invited_at_s < call.answered_at_s < call.first_audio_at_s
    assert call.first_audio_at_s == call.packets[1].arrived_s


def test_a_refusal_is_acknowledged_and_raised(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    invite = switch.receive("INVITE")
    switch.send(
        invite.reply(
            "503 Service Unavailable", [("Reason", 'Q.850;cause=41;text="NORMAL_TEMPORARY_FAILURE"')]
        )
    )
    ack = switch.receive("ACK")
    with pytest.raises(SipError, match="NORMAL_TEMPORARY_FAILURE") as refused:
        call.wait_answered(2)
    assert refused.value.status_line == "SIP/2.0 503 Service Unavailable"
    assert (ack.branch, ack.cseq) == (invite.branch, invite.cseq)
    assert call.ended_by == "switch"


def test_no_answer_in_time_is_raised_with_the_latest_response(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.send(switch.receive("INVITE").reply("180 Ringing"))
    with pytest.raises(SipError, match=r"no answer within 0\.2 s: SIP/2\.0 180 Ringing"):
        call.wait_answered(0.2)


def test_an_unanswered_request_is_repeated_until_a_response(
    switch: Switch, caller: SipCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sip, "_REPEAT_S", 0.05)
    caller.call("1234")
    first, second = switch.receive("INVITE"), switch.receive("INVITE")
    assert first == second
    switch.send(first.reply("100 Trying"))
    assert switch.quiet_for(0.3)


def test_a_request_that_is_never_answered_ends_the_call(
    switch: Switch, caller: SipCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sip, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(sip, "_REPEAT_S", 0.05)
    assert caller.call("1234").wait_ended(2) == "RECOVERY_ON_TIMER_EXPIRE"


def test_a_repeated_answer_is_acknowledged_again(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    answer = switch.establish(call)
    answered_at_s = call.answered_at_s
    switch.send(answer)
    assert switch.receive("ACK").cseq == answer.cseq
    assert call.answered_at_s == answered_at_s


def test_early_media_flows_before_the_answer(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    invite = switch.receive("INVITE")
    switch.answer(invite, "183 Session Progress")
    call.wait_early(2)
    assert switch.packet().payload == b"\xff" * 160
    assert call.answered_at_s is None
    switch.answer(invite)
    call.wait_answered(2)
    assert call.early_at_s < call.answered_at_s


def test_the_caller_hangs_up(switch: Switch, caller: SipCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip, "_REPEAT_S", 0.1)
    call = caller.call("1234")
    switch.establish(call)
    call.hangup()
    call.hangup()
    bye = switch.receive("BYE")
    assert bye.start == f"BYE sip:switch@127.0.0.1:{switch.address[1]} SIP/2.0"
    assert bye.to_tag
    switch.send(bye.reply("200 OK"))
    assert call.wait_ended(2) == "NORMAL_CLEARING"
    assert call.ended_by == "caller"
    assert switch.quiet_for(0.3)


def test_the_switch_hangs_up(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    dialogue = switch.establish(call)
    waiting = call.say_at(time.monotonic() + 60, bytes(320))
    switch.request("BYE", dialogue, reason='Q.850;cause=17;text="USER_BUSY"')
    assert switch.receive("BYE").start == "SIP/2.0 200 OK"
    assert call.wait_ended(2) == "USER_BUSY"
    assert call.ended_by == "switch"
    assert not waiting.wait(1)


def test_a_ringing_call_is_cancelled(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    invite = switch.receive("INVITE")
    switch.send(invite.reply("180 Ringing"))
    with pytest.raises(SipError):
        call.wait_answered(0.1)
    call.hangup()
    cancel = switch.receive("CANCEL")
    assert (cancel.branch, cancel.cseq) == (invite.branch, invite.cseq)
    switch.send(cancel.reply("200 OK"))
    switch.send(invite.reply("487 Request Terminated"))
    assert call.wait_ended(2) == "ORIGINATOR_CANCEL"
    assert switch.receive("ACK").branch == invite.branch


def test_a_call_is_not_cancelled_before_its_first_response(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    call.hangup()
    invite = switch.receive("INVITE")
    assert switch.quiet_for(0.2)
    switch.send(invite.reply("100 Trying"))
    assert switch.receive("CANCEL").branch == invite.branch


def test_an_answer_that_crosses_the_cancel_is_ended_by_bye(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    call.hangup()
    switch.answer(switch.receive("INVITE"))
    switch.receive("ACK")
    switch.send(switch.receive("BYE").reply("200 OK"))
    assert call.wait_ended(2) == "NORMAL_CLEARING"
    assert call.media.packets == []


def test_an_answer_in_another_codec_ends_the_call(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.answer(switch.receive("INVITE"), body=switch.sdp(formats={8: "PCMA/8000"}))
    switch.receive("ACK")
    switch.send(switch.receive("BYE").reply("200 OK"))
    call.wait_ended(2)


def test_an_answer_without_audio_ends_the_call(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.answer(switch.receive("INVITE"), body="v=0\r\n")
    switch.send(switch.receive("BYE").reply("200 OK"))
    call.wait_ended(2)


def test_the_switchs_payload_numbers_are_used(switch: Switch) -> None:
    with SipCaller(switch.address, "L16/8000") as caller:
        call = caller.call("1234")
        formats = {110: "L16/8000", 102: "telephone-event/8000"}
        switch.answer(switch.receive("INVITE"), body=switch.sdp(formats=formats))
        call.wait_answered(2)
        call.dtmf("1")
        assert {switch.packet().payload_type for _ in range(8)} == {110, 102}
        call.hangup()
        switch.send(switch.receive("BYE").reply("200 OK"))


def test_the_switch_puts_the_call_on_hold(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    dialogue = switch.establish(call)
    switch.request("INVITE", dialogue, 100, switch.sdp("sendonly"))
    answer = switch.receive("INVITE")
    assert parse_sdp(answer.body).direction == "recvonly"
    assert not call.media.sending
    switch.request("INVITE", dialogue, 100, switch.sdp("sendonly"))
    assert switch.receive("INVITE") == answer
    switch.request("INVITE", dialogue, 101, switch.sdp())
    assert parse_sdp(switch.receive("INVITE").body).direction == "sendrecv"
    assert call.media.sending


def test_a_reinvite_in_another_codec_is_refused(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    dialogue = switch.establish(call)
    switch.request("INVITE", dialogue, body=switch.sdp(formats={8: "PCMA/8000"}))
    assert switch.receive("INVITE").start == "SIP/2.0 488 Not Acceptable Here"
    assert call.ended_at_s is None


def test_the_caller_holds_and_unholds(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.establish(call)
    for action, direction in ((call.hold, "sendonly"), (call.unhold, "sendrecv")):
        thread, errors = in_background(action)
        reinvite = switch.receive("INVITE")
        assert parse_sdp(reinvite.body).direction == direction
        switch.answer(reinvite)
        assert switch.receive("ACK").cseq == reinvite.cseq
        thread.join(2)
        assert errors == []


def test_a_refused_hold_raises_and_leaves_the_call_up(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.establish(call)
    thread, errors = in_background(call.hold)
    reinvite = switch.receive("INVITE")
    switch.send(reinvite.reply("491 Request Pending"))
    assert switch.receive("ACK").branch == reinvite.branch
    thread.join(2)
    assert [str(error) for error in errors] == ["the re-INVITE was refused: SIP/2.0 491 Request Pending"]
    assert call.ended_at_s is None


@pytest.mark.parametrize(
    ("method", "status"), [("OPTIONS", "200 OK"), ("INFO", "200 OK"), ("REFER", "405 Method Not Allowed")]
)
def test_requests_within_a_call_are_answered(
    switch: Switch, caller: SipCaller, method: str, status: str
) -> None:
    call = caller.call("1234")
    switch.request(method, switch.establish(call))
    assert switch.receive(method).start == f"SIP/2.0 {status}"


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", "200 OK"), ("INVITE", "486 Busy Here"), ("BYE", "481 Call/Transaction Does Not Exist")],
)
def test_requests_outside_a_call_are_answered(
    switch: Switch, caller: SipCaller, method: str, status: str
) -> None:
    switch.peer = ("127.0.0.1", caller.port)
    stranger = Message(
        "SIP/2.0 200 OK", (("From", "<sip:a@b>"), ("To", "<sip:c@d>;tag=1"), ("Call-ID", "other"))
    )
    switch.request(method, stranger)
    assert switch.receive(method).start == f"SIP/2.0 {status}"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0\xff",
        b"INVITE sip:x SIP/2.0\r\n\r\n",
        b"SIP/2.0 two hundred\r\n\r\n",
        b"SIP/2.0 \r\nCSeq:\r\n\r\n",
    ],
)
def test_nonsense_is_ignored(switch: Switch, caller: SipCaller, datagram: bytes) -> None:
    switch.sip.sendto(datagram, ("127.0.0.1", caller.port))
    switch.establish(caller.call("1234"))


def test_one_caller_makes_many_calls(switch: Switch, caller: SipCaller) -> None:
    calls = [caller.call(str(number)) for number in range(10)]
    for _ in calls:
        switch.answer(switch.receive("INVITE"))
    for call in calls:
        call.wait_answered(2)
    assert set(caller.calls()) == set(calls)
    assert len({call.media.port for call in calls}) == 10


def test_closing_hangs_up_and_stops(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    switch.establish(call)
    threads = threading.active_count()
    caller.close()  # the switch does not answer the BYE
    assert call.ended_cause == "RECOVERY_ON_TIMER_EXPIRE"
    assert call.media.socket.fileno() == -1
    assert threading.active_count() == threads - 2
    caller.close()


def test_waiting_on_a_call_that_ended_is_an_error(switch: Switch, caller: SipCaller) -> None:
    call = caller.call("1234")
    dialogue = switch.establish(call)
    with pytest.raises(SipError, match="has not ended"):
        call.wait_ended(0.05)
    switch.request("BYE", dialogue)
    call.wait_ended(2)
    with pytest.raises(SipError, match="0 ms of audio received instead of 100 ms"):
        call.wait_received(100)
    with pytest.raises(SipError, match="5 packets of 5"):
        call.wait_packets(5)
