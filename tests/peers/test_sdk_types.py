"""Every event of the simulator is one that OpenAI's SDK knows, and the SDK's own client can talk with it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("openai.types.realtime", reason="the package openai is not installed (extra peers)")

from openai import AsyncOpenAI

from ivr_ai.audio.formats import Format, convert
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.wire import SERVER_EVENTS
from ivr_ai.tts.local_voice import speak
from peers.conftest import DIALOGUE
from peers.sdk_types import CLIENT, SERVER, problems

TOOL = {"type": "function", "name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}}
PCM24 = Format("s16", 24000)
WAIT_S = 10.0
Course = Callable[["Peer"], Awaitable[None]]


class Peer:
    """A connection of the SDK's."""

    def __init__(self, connection: Any, wire: Format = PCM24) -> None:
        self.connection, self.wire = connection, wire

    async def send(self, kind: str, **body: Any) -> None:
        await self.connection.send({"type": kind, **body})

    async def until(self, kind: str) -> Any:
        """The next event of a type, as the SDK has parsed it."""

        async def search() -> Any:
            while (event := await self.connection.recv()).type != kind:
                pass
            return event

        return await asyncio.wait_for(search(), WAIT_S)

    async def update(self, **session: Any) -> Any:
        await self.send("session.update", session={"type": "realtime", **session})
        return (await self.until("session.updated")).session

    async def talk(self, speech_ms: int = 500, silence_ms: int = 400) -> None:
        pcm = speak("x", self.wire.rate_hz, f"tone:300:{speech_ms}") if speech_ms else b""
        pcm += Format("s16", self.wire.rate_hz).silence(silence_ms)
        data = convert(pcm, Format("s16", self.wire.rate_hz), self.wire)
        size = self.wire.bytes_for_ms(100)
        for start in range(0, len(data), size):
            audio = base64.b64encode(data[start : start + size]).decode()
            await self.send("input_audio_buffer.append", audio=audio)


def talk_to(server: Any, course: Course, query: dict[str, str] | None = None) -> None:
    """Runs a course of a conversation over the SDK's client."""

    async def run() -> None:
        base = server.url.removesuffix("/realtime")
        client = AsyncOpenAI(api_key="any", base_url="http://127.0.0.1:1/v1", websocket_base_url=base)
        async with client.realtime.connect(model="any", extra_query=query or {}) as connection:
            peer = Peer(connection)
            await peer.until("session.created")
            await course(peer)

    asyncio.run(run())


async def spoken_turns(peer: Peer) -> None:
    await peer.update(
        tools=[TOOL],
        instructions="Be kind.",
        audio={"input": {"transcription": {"model": "whisper-1"}, "noise_reduction": {"type": "near_field"}}},
    )
    await peer.send("response.create")
    await peer.until("response.done")
    await peer.talk()
    await peer.until("conversation.item.input_audio_transcription.completed")
    done = await peer.until("response.done")
    item_id = done.response.output[0].id
    await peer.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=100)
    await peer.until("conversation.item.truncated")
    await peer.send("conversation.item.retrieve", item_id=item_id)
    await peer.until("conversation.item.retrieved")
    await peer.send("conversation.item.delete", item_id=item_id)
    await peer.until("conversation.item.deleted")
    await peer.talk()
    call = await peer.until("response.function_call_arguments.done")
    await peer.until("response.done")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "here"}
    await peer.send("conversation.item.create", item=output)
    await peer.send("response.create", response={"metadata": {"why": "output"}, "instructions": None})
    await peer.until("response.done")
    await peer.talk()
    await peer.until("response.output_audio.delta")
    await peer.talk()
    assert (await peer.until("response.done")).response.status_details.reason == "turn_detected"
    await peer.until("response.done")
    await peer.until("rate_limits.updated")


async def written_turns(peer: Peer) -> None:
    await peer.update(output_modalities=["text"], audio={"input": {"turn_detection": None}})
    for text in ("Good day", "5"):
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await peer.send("conversation.item.create", item=item)
        await peer.send("response.create", response={"max_output_tokens": 3})
        await peer.until("response.done")


def g711(name: str) -> Course:
    async def course(peer: Peer) -> None:
        wire = {"format": {"type": f"audio/{name}"}}
        semantic = {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}
        await peer.update(audio={"input": {**wire, **semantic}, "output": {**wire, "voice": "marin"}})
        peer.wire = Format(name, 8000)
        await peer.talk(silence_ms=700)
        await peer.until("response.done")

    return course


async def turns_by_hand(peer: Peer) -> None:
    await peer.update(audio={"input": {"turn_detection": None}})
    await peer.talk()
    await peer.send("input_audio_buffer.clear")
    await peer.until("input_audio_buffer.cleared")
    await peer.talk()
    await peer.send("input_audio_buffer.commit")
    await peer.send("response.create")
    await peer.until("response.output_audio.delta")
    await peer.send("response.cancel")
    assert (await peer.until("response.done")).response.status_details.reason == "client_cancelled"


async def silence(peer: Peer) -> None:
    turns = {"type": "server_vad", "idle_timeout_ms": 5000}
    await peer.update(audio={"input": {"turn_detection": turns}})
    await peer.talk()
    await peer.until("response.done")
    await peer.talk(speech_ms=0, silence_ms=6500)
    await peer.until("input_audio_buffer.timeout_triggered")
    await peer.until("response.done")


async def refusals(peer: Peer) -> None:
    text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    await peer.send("conversation.item.create", item={**text, "id": "one"})
    for kind, body in (
        ("session.update", {"session": {"type": "realtime", "modalities": []}}),
        ("input_audio_buffer.commit", {}),
        ("conversation.item.create", {"item": {**text, "id": "one"}}),
        ("conversation.item.create", {"item": text, "previous_item_id": "none"}),
        ("conversation.item.delete", {"item_id": "none"}),
        ("conversation.item.truncate", {"item_id": "one", "content_index": 0, "audio_end_ms": 0}),
        ("response.cancel", {}),
        ("output_audio_buffer.clear", {}),
    ):
        await peer.send(kind, event_id="mine", **body)
        assert (await peer.until("error")).error.event_id == "mine"


async def one_reply(peer: Peer) -> None:
    await peer.update(audio={"input": {"transcription": {"model": "whisper-1"}}}, tools=[TOOL])
    await peer.talk()
    await peer.until("response.done")
    await peer.until("rate_limits.updated")


async def failed_transcription(peer: Peer) -> None:
    await peer.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    await peer.talk()
    await peer.until("conversation.item.input_audio_transcription.failed")


async def transcription(peer: Peer) -> None:
    session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    await peer.send("session.update", session=session)
    await peer.until("session.updated")
    await peer.talk()
    await peer.until("conversation.item.input_audio_transcription.completed")


SEVERAL = {"turn": [{"say": [{"text": "one", "phase": "commentary"}, "two"], "first": ["wait", "please"]}]}
CALLS = {"turn": [{"first": ["wait", "please"], "call": [{"name": "look_up"}, {"name": "look_up"}]}]}
COURSES: dict[str, tuple[Course, dict[str, Any]]] = {
    "speech": (spoken_turns, {}),
    "text": (written_turns, {}),
    "pcmu": (g711("pcmu"), {}),
    "pcma": (g711("pcma"), {}),
    "manual": (turns_by_hand, {"voice": "tone:440:3000", "pace": 1.0}),
    "idle": (silence, {"pace": 40.0}),
    "refusals": (refusals, {}),
    "several items": (one_reply, {"dialogue": SEVERAL}),
    "ends together": (one_reply, {"dialogue": SEVERAL, "item_ends": "together"}),
    "several calls": (one_reply, {"dialogue": CALLS}),
    "rate limit": (one_reply, {"faults": Faults(rate_limited=1)}),
    "failure": (one_reply, {"faults": Faults(fail_responses=1, fail_code="server_error")}),
    "filtered": (one_reply, {"faults": Faults(fail_responses=1, fail_how="content_filter")}),
    "other format": (one_reply, {"faults": Faults(state_format="output:audio/pcma")}),
    "no transcript": (failed_transcription, {"faults": Faults(fail_transcriptions=1)}),
}


@pytest.mark.parametrize("name", COURSES)
def test_the_sdk_knows_every_event_of_the_server(serve, name: str) -> None:
    course, options = COURSES[name]
    server = serve(**options)
    talk_to(server, course)
    assert [fault for event in server.sent for fault in problems(event, SERVER)] == []
    assert len(server.sent) > 5


def test_the_sdk_knows_every_event_of_a_transcription_session(serve) -> None:
    server = serve()
    talk_to(server, transcription, {"intent": "transcription"})
    assert server.of("session.created")[0]["session"]["type"] == "transcription"
    assert [fault for event in server.sent for fault in problems(event, SERVER)] == []


def test_the_courses_bring_every_event_the_server_has(serve) -> None:
    seen = set()
    for name in ("speech", "text", "manual", "idle", "refusals", "no transcript"):
        course, options = COURSES[name]
        server = serve(**options)
        talk_to(server, course)
        seen |= {event["type"] for event in server.sent}
    assert seen == set(SERVER_EVENTS) - {"conversation.created"}, "which the beta dialect alone has"


@pytest.mark.parametrize(
    ("bad", "known"),
    [
        ({"type": "response.finished", "event_id": "e"}, SERVER),
        ({"type": "response.output_audio.delta", "event_id": "e", "delta": "AA=="}, SERVER),
        ({"type": "input_audio_buffer.cleared", "event_id": 7}, SERVER),
        ({"type": "input_audio_buffer.cleared", "event_id": "e", "more": 1}, SERVER),
        ({"type": "conversation.item.deleted", "event_id": "e"}, SERVER),
        (
            {
                "type": "conversation.item.truncated",
                "event_id": "e",
                "item_id": "i",
                "content_index": 0,
                "audio_end_ms": 1.5,
            },
            SERVER,
        ),
        ({"type": "response.done", "event_id": "e", "response": {"status": "finished"}}, SERVER),
        ({"type": "response.create", "response": {"instruction": "x"}}, CLIENT),
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0}, CLIENT),
        ({"type": "session.update", "session": {"type": "realtime", "turn_detection": None}}, CLIENT),
        ({"type": "input_audio_buffer.append", "audio": 5}, CLIENT),
        ({"type": "response.cancelled"}, CLIENT),
    ],
)
def test_the_judge_finds_what_is_wrong(bad: dict[str, Any], known: dict[str, Any]) -> None:
    assert problems(bad, known)


def test_the_sdks_client_hears_what_was_said(serve) -> None:
    server = serve()
    heard = bytearray()

    async def course(peer: Peer) -> None:
        await peer.send("response.create")
        while (event := await peer.connection.recv()).type != "response.done":
            if event.type == "response.output_audio.delta":
                heard.extend(base64.b64decode(event.delta))

    talk_to(server, course)
    assert len(heard) == PCM24.bytes_for_ms(800)
    assert server.said() == [DIALOGUE["turn"][0]["say"]]
