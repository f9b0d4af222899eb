"""What the caller said over a lost connection of the native transport, and no answer has begun to."""

from __future__ import annotations

import base64
import json

import pytest
from native_line import FRAME, PCMU, Line, Listening, noise, settings

from ivr_ai.realtime.native import NativeTransport

QUIET_FRAMES = 100  # 2 s


def frames(first: int, count: int) -> bytes:
    """Audio of 20 ms each."""
    return b"".join(noise(FRAME, n) for n in range(first, first + count))


def heard(line: Line, size: int) -> bytes:
    """What a server hears next of the caller: so many bytes, or until another event comes."""
    audio = b""
    while len(audio) < size:
        event = json.loads(line.peer.read()[1])
        if event["type"] != "input_audio_buffer.append":
            break
        audio += base64.b64decode(event["audio"], validate=True)
    return audio


def says(line: Line, audio: bytes) -> None:
    """The caller says this, and the server hears it as it is said."""
    for at in range(0, len(audio), 2 * FRAME):
        frame = audio[at : at + 2 * FRAME]
        line.stream.host_capture(frame)
        assert heard(line, len(frame)) == frame


def told(line: Line, *kinds: str) -> None:
    """The server tells of these, and they have been taken."""
    for kind in kinds:
        if kind == "response.output_audio.delta":
            line.delta(bytes(2 * FRAME))
            line.recv("transport.audio")
        else:
            line.say(kind, response={"id": "resp_1"})
            line.recv(kind)


def lose(line: Line) -> None:
    line.listening.leave()
    line.peer.reset()
    line.listening.closed.get(timeout=5)


STARTED, STOPPED = "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"
CREATED, DELTA = "response.created", "response.output_audio.delta"


@pytest.mark.parametrize(
    "then",
    [(), (STOPPED,), (STOPPED, CREATED), (DELTA,)],
    ids=["speaks", "has spoken", "is being answered", "speaks over a reply"],
)
def test_an_open_turn_goes_before_what_is_new(meet, then):
    lost, said, more = meet(), frames(1, 5), frames(6, 3)
    told(lost, STARTED)
    says(lost, said)
    told(lost, *then)
    lose(lost)
    lost.stream.host_capture(more)
    line = meet(joined=lost.stream, listen=False)
    line.transport.resend(lost.transport)
    line.transport.listen()
    assert heard(line, len(said) + len(more)) == said + more


@pytest.mark.parametrize(
    "then", [None, (STARTED, STOPPED, CREATED, DELTA)], ids=["nobody has spoken", "answered"]
)
def test_only_what_is_new(meet, then):
    lost, more = meet(), frames(6, 3)
    if then:
        told(lost, then[0])
    says(lost, frames(1, 5))
    told(lost, *(then or ())[1:])
    lose(lost)
    lost.stream.host_capture(more)
    line = meet(joined=lost.stream, listen=False)
    line.transport.resend(lost.transport)
    line.transport.listen()
    assert heard(line, len(more)) == more


def test_the_padding_before_the_turn_comes_along(meet):
    """The server tells of a turn when it has begun; between turns half a second to a second is kept."""
    lost, before, said = meet(), frames(1, QUIET_FRAMES), frames(1 + QUIET_FRAMES, 2)
    says(lost, before)
    told(lost, STARTED)
    says(lost, said)
    lose(lost)
    line = meet(joined=lost.stream, listen=False)
    line.transport.resend(lost.transport)
    line.transport.send({"type": "last"})
    again = heard(line, len(before + said))
    assert (before + said).endswith(again)
    assert 25 * 2 * FRAME <= len(again) - len(said) <= 50 * 2 * FRAME


def test_through_two_lost_connections(meet):
    first, said, more = meet(), frames(1, 5), frames(6, 3)
    told(first, STARTED)
    says(first, said)
    lose(first)
    second = meet(joined=first.stream, listen=False)
    second.transport.resend(first.transport)
    second.transport.listen()
    assert heard(second, len(said)) == said
    says(second, more)
    lose(second)
    third = meet(joined=first.stream, listen=False)
    third.transport.resend(second.transport)
    assert heard(third, len(said) + len(more)) == said + more


def test_another_format_gets_nothing_of_it(meet):
    lost = meet()
    told(lost, STARTED)
    says(lost, frames(1, 5))
    lose(lost)
    line = meet(joined=lost.stream, listen=False, heard=PCMU)
    line.transport.resend(lost.transport)
    line.transport.send({"type": "last"})
    assert heard(line, 1) == b""


def test_a_connection_that_never_was_has_nothing(meet):
    line = meet(listen=False)
    line.transport.resend(NativeTransport(settings("ws://127.0.0.1:1/"), Listening()))
    line.transport.send({"type": "last"})
    assert heard(line, 1) == b""
