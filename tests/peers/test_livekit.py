"""livekit-plugins-openai's realtime session holds a dialogue with the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip(
    "livekit.plugins.openai", reason="the package livekit-plugins-openai is not installed (extra peers)"
)

from livekit import rtc
from livekit.agents import llm
from livekit.plugins import openai
from openai.types.realtime import realtime_audio_input_turn_detection as turn_detection

from peers.conftest import DIALOGUE, PCM24, say

WAIT_S = 10.0


@llm.function_tool
async def look_up(n: int) -> str:
    """Looks something up."""
    return f"in drawer {n}"


class Generation:
    """What one response has brought so far."""

    def __init__(self, event: Any) -> None:
        self.event = event
        self.message_id = ""
        self.text = ""
        self.samples = 0
        self.calls: list[Any] = []
        self.task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        await asyncio.gather(self._messages(), self._functions())

    async def _messages(self) -> None:
        async for message in self.event.message_stream:
            self.message_id = message.message_id
            await asyncio.gather(self._words(message), self._sound(message))

    async def _words(self, message: Any) -> None:
        async for piece in message.text_stream:
            self.text += str(piece)

    async def _sound(self, message: Any) -> None:
        async for frame in message.audio_stream:
            self.samples += frame.samples_per_channel

    async def _functions(self) -> None:
        async for call in self.event.function_stream:
            self.calls.append(call)

    async def over(self) -> Generation:
        await asyncio.wait_for(self.task, WAIT_S)
        return self


class Stranger:
    """A session of livekit's, without an AgentSession around it."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.generations: list[Generation] = []
        self.errors: list[Any] = []
        self.heard: list[str] = []
        self.speech_starts = 0
        session.on("generation_created", self._generation)
        session.on("error", self.errors.append)
        session.on("input_speech_started", self._speech)
        session.on("input_audio_transcription_completed", self._transcript)

    def _generation(self, event: Any) -> None:
        self.generations.append(Generation(event))

    def _speech(self, event: Any) -> None:
        self.speech_starts += 1

    def _transcript(self, event: Any) -> None:
        if event.is_final:
            self.heard.append(event.transcript)

    async def until(self, so: Callable[[], Any]) -> None:
        async def wait() -> None:
            while not so():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), WAIT_S)

    async def generation(self, number: int) -> Generation:
        await self.until(lambda: len(self.generations) > number)
        return self.generations[number]

    async def talk(self) -> None:
        async def push(pcm: bytes) -> None:
            self.session.push_audio(rtc.AudioFrame(pcm, 24000, 1, len(pcm) // 2))

        await say(push)


async def hold(server: Any) -> Stranger:
    turns = turn_detection.ServerVad(
        type="server_vad", create_response=True, interrupt_response=True, silence_duration_ms=300
    )
    model = openai.realtime.RealtimeModel(
        model="any", api_key="any", base_url=server.url.removesuffix("/realtime"), turn_detection=turns
    )
    stranger = Stranger(model.session())
    try:
        await converse(stranger, server)
    finally:
        await stranger.session.aclose()
        await model.aclose()
    return stranger


async def converse(stranger: Stranger, server: Any) -> None:
    session = stranger.session
    await session.update_instructions("Be kind.")
    await session.update_tools([look_up])
    await asyncio.wait_for(session.generate_reply(), WAIT_S)  # without instructions: it sends them as null
    await (await stranger.generation(0)).over()
    await stranger.talk()
    await (await stranger.generation(1)).over()
    await stranger.talk()
    [call] = (await (await stranger.generation(2)).over()).calls
    context = session.chat_ctx.copy()
    given = await look_up(7)
    context.items.append(
        llm.FunctionCallOutput(call_id=call.call_id, name=call.name, output=given, is_error=False)
    )
    await session.update_chat_ctx(context)
    await asyncio.wait_for(session.generate_reply(), WAIT_S)
    await (await stranger.generation(3)).over()
    await stranger.talk()
    long = await stranger.generation(4)
    await stranger.until(lambda: long.samples > 2400)
    await stranger.talk()
    await stranger.until(lambda: stranger.speech_starts == 4)
    session.truncate(message_id=long.message_id, modalities=["audio"], audio_end_ms=60)
    await (await stranger.generation(5)).over()
    await stranger.until(lambda: server.of("conversation.item.truncated") and len(stranger.heard) == 4)


def test_a_dialogue_with_a_tool_and_an_interruption(serve) -> None:
    server = serve(voice="tone:440:2500", pace=1.0)
    stranger = asyncio.run(hold(server))
    assert server.errors == []
    assert stranger.errors == []
    says = [turn["say"] for turn in DIALOGUE["turn"]]
    assert server.said() == [says[0], says[1], "it is in drawer 7", says[4]]
    words = [generation.text for generation in stranger.generations]
    assert words[:2] == says[:2]
    assert words[3] == "it is in drawer 7"
    assert words[5] == says[4]
    assert stranger.generations[0].samples == PCM24.bytes_for_ms(2500) // 2
    assert stranger.generations[4].samples < PCM24.bytes_for_ms(2500) // 2, "it was interrupted"
    assert stranger.heard == [turn["heard"] for turn in DIALOGUE["turn"][1:]]
    assert {event["response"]["instructions"] for event in server.got("response.create")} == {None}
    [cut] = server.got("conversation.item.truncate")
    assert (cut["item_id"], cut["audio_end_ms"]) == (stranger.generations[4].message_id, 60)
