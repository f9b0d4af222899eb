"""Streams on calls whose media is not RTP audio for a while: what nobody hears is not counted as heard."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from ears import noise
from lines import Line, not_whole, other_leg
from support.sip import SipCall, SipCaller
from support.sip_message import Message
from support.switch import FreeSwitch
from taps import Probe, wait_until

OpenLine = Callable[..., Line]
NewCaller = Callable[..., SipCaller]
LOOK_S = 0.5

pytestmark = pytest.mark.usefixtures("stream_switch")


def assert_keeps_its_place(line: Line, seconds: float = LOOK_S) -> bytes:
    """Injects, and sees that nothing of it is taken. Returns what the caller is to hear in the end."""
    before = line.tap.status()["inject"]["played"]
    payload = line.say(noise(8000, 0.4), "meanwhile")
    time.sleep(seconds)
    inject = line.tap.status()["inject"]
    assert (inject["played"] - before, inject["queued"]) == (0, 3200)
    return payload


def test_while_media_bypasses_the_switch(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("bridge-sofia-park")
    uuid = line.call.call_id
    other_leg(probe, uuid)
    assert probe.esl.api(f"uuid_media off {uuid}").startswith("+OK")
    wait_until(lambda: line.call._answered, what="the re-INVITE")
    payload = assert_keeps_its_place(line)
    assert probe.esl.api(f"uuid_media {uuid}", 30.0).startswith("+OK")
    line.wait_heard(payload, "meanwhile")
    assert not_whole([line]) == []


def test_no_stream_where_packets_are_passed_on(probe: Probe, caller: SipCaller) -> None:
    call = caller.call("bridge-sofia-silence", {"X-Set": "proxy_media=true"}).wait_answered()
    far = other_leg(probe, call.call_id)
    for uuid in (call.call_id, far):
        answer = probe.command(uuid, "start embedded")
        assert "has no audio to stream: its media is proxied" in answer and "-USAGE" not in answer, answer
    call.wait_packets(10)


# ---- T.38 --------------------------------------------------------------------------------------------------

T38 = """v=0\r
o=- 1 {version} IN IP4 127.0.0.1\r
s=call\r
c=IN IP4 127.0.0.1\r
t=0 0\r
m=image {port} udptl t38\r
a=T38FaxVersion:0\r
a=T38MaxBitRate:9600\r
a=T38FaxRateManagement:transferredTCF\r
a=T38FaxMaxBuffer:72\r
a=T38FaxMaxDatagram:316\r
a=T38FaxUdpEC:t38UDPRedundancy\r
"""


def offer_t38(call: SipCall) -> int:
    """Re-INVITEs with an image and no audio; the final response's status."""
    body = T38.format(version=call._version + 1, port=call.media.port)
    request = call._new_request("INVITE", call._session_headers(), body)
    call._request(request)
    wait_until(lambda: call._reinvite_status[0] == request.cseq, 5.0, "the answer to T.38")
    return int(call._reinvite_status[1].split()[1])


def take_t38(call: SipCall) -> None:
    """From now on the call answers an image with an image."""
    with_audio = call._new_answer

    def answer(request: Message) -> Message:
        if "m=image" not in request.body:
            return with_audio(request)
        body = T38.format(version=call._version + 1, port=call.media.port)
        return request.reply("200 OK", call._session_headers(), body)

    call._new_answer = answer


def test_while_a_fax_is_sent_as_t38(switch: FreeSwitch, probe: Probe, new_caller: NewCaller) -> None:
    """Passed through from one leg to the other, as is usual without mod_spandsp."""
    near, far = (new_caller().call("park").wait_answered() for _ in range(2))
    for call in (near, far):
        for variable in ("fax_enable_t38", "t38_passthru"):
            assert probe.esl.api(f"uuid_setvar {call.call_id} {variable} true").startswith("+OK")
    line = Line(near, probe.start(near))
    assert probe.esl.api(f"uuid_bridge {near.call_id} {far.call_id}").startswith("+OK")
    other_leg(probe, near.call_id)
    assert not_whole([line]) == []
    take_t38(far)
    assert offer_t38(near) == 200
    switch.wait_log(f"{near.call_id}.*T38 ACCEPT")
    assert_keeps_its_place(line, 1.0)
