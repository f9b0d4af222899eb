"""SIP messages and session descriptions between text and values."""

from __future__ import annotations

import pytest
from support.sip_message import AudioSdp, Message, parse_sdp, write_sdp

BYE = b"\r\n".join(
    [
        b"BYE sip:caller@127.0.0.1:4000 SIP/2.0",
        b"v: SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bKone",
        b"Via: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKtwo",
        b"From: <sip:1234@127.0.0.1>;tag=ours",
        b"t: <sip:caller@127.0.0.1>",
        b"i: call-1",
        b"CSeq: 7 BYE",
        b"Reason: Q.850;cause=16;",
        b'  text="NORMAL_CLEARING"',
        b"m: <sip:switch@127.0.0.1:5060;transport=udp>",
        b"",
        b"",
    ]
)


def test_a_request_is_read_with_compact_and_folded_headers() -> None:
    message = Message.parse(BYE)
    assert (message.method, message.status, message.cseq) == ("BYE", 0, 7)
    assert message.get("Call-ID") == "call-1"
    assert message.branch == "z9hG4bKone"
    assert message.reason == "NORMAL_CLEARING"
    assert message.contact_uri == "sip:switch@127.0.0.1:5060;transport=udp"
    assert message.get("Subject") == ""


def test_a_response_names_the_method_it_answers() -> None:
    message = Message.parse(b"SIP/2.0 486 Busy Here\r\nCSeq: 1 INVITE\r\nTo: <sip:x@y>;tag=t1\r\n\r\n")
    assert (message.method, message.status, message.to_tag) == ("INVITE", 486, "t1")


def test_a_reply_copies_what_ties_it_to_its_request() -> None:
    reply = Message.parse(Message.parse(BYE).reply("200 OK", body="x").encode())
    assert reply.start == "SIP/2.0 200 OK"
    assert reply.all("Via") == Message.parse(BYE).all("Via")
    assert (reply.get("Call-ID"), reply.get("CSeq"), reply.get("Content-Length")) == ("call-1", "7 BYE", "1")
    assert reply.to_tag  # a response must have one


@pytest.mark.parametrize("datagram", [b"", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff\x00\x80junk"])
def test_what_is_no_sip_is_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError, match="not a SIP message"):
        Message.parse(datagram)


def test_a_name_may_be_any_bytes() -> None:
    name = "J\xfcrg".encode("latin-1").decode("utf-8", "surrogateescape")
    sent = Message("BYE sip:a@b SIP/2.0", (("From", f'"{name}" <sip:a@b>'),)).encode()
    assert b'From: "J\xfcrg" <sip:a@b>\r\n' in sent


def test_a_session_description_survives_the_trip() -> None:
    sdp = AudioSdp("127.0.0.1", 4002, {97: "L16/16000", 101: "telephone-event/16000"}, "sendonly")
    body = write_sdp(sdp, session=3, version=4, ptime_ms=20)
    assert parse_sdp(body) == sdp
    assert "o=- 3 4 IN IP4 127.0.0.1\r\n" in body
    assert "a=ptime:20\r\n" in body
    assert "a=fmtp:101 0-15\r\n" in body


def test_static_payload_types_need_no_map_and_directions_have_answers() -> None:
    sdp = parse_sdp("v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 9 RTP/AVP 8 0\r\nc=IN IP4 127.0.0.1\r\n")
    assert sdp == AudioSdp("127.0.0.1", 9, {8: "PCMA/8000", 0: "PCMU/8000"}, "sendrecv")
    assert sdp.payload_type("pcmu/8000") == 0
    assert sdp.payload_type("L16/8000") is None
    answers = [sdp._replace(direction=d).answer_direction() for d in ("sendonly", "recvonly", "inactive")]
    assert answers == ["recvonly", "sendonly", "inactive"]


def test_a_description_without_audio_is_refused() -> None:
    with pytest.raises(ValueError, match="no audio"):
        parse_sdp("v=0\r\nc=IN IP4 127.0.0.1\r\nm=video 9 RTP/AVP 96\r\n")
