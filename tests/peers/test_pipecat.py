"""pipecat's OpenAI Realtime service holds a dialogue with the simulator, in a pipeline of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip(
    "pipecat.services.openai.realtime.llm", reason="the package pipecat-ai is not installed (extra peers)"
)

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

from peers.conftest import DIALOGUE, PCM24, say

WAIT_S = 10.0


class Ear(FrameProcessor):
    """Keeps what passes, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]


class Stranger:
    """A pipeline with the service in it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        tool = FunctionSchema(
            name="look_up",
            description="Looks something up.",
            properties={"n": {"type": "integer"}},
            required=["n"],
        )
        audio = events.AudioConfiguration(
            input=events.AudioInput(
                transcription=events.InputAudioTranscription(model="whisper-1"),
                turn_detection=events.TurnDetection(silence_duration_ms=300),
            )
        )
        properties = events.SessionProperties(instructions="Be kind.", audio=audio)
        settings = OpenAIRealtimeLLMService.Settings(model="any", session_properties=properties)
        service = OpenAIRealtimeLLMService(api_key="any", base_url=server.url, settings=settings)
        service.register_function("look_up", self._look_up)
        self.outputs: list[str] = []
        context = LLMContext(
            [{"role": "user", "content": "Greet the caller."}], ToolsSchema(standard_tools=[tool])
        )
        pair = LLMContextAggregatorPair(context)
        self.context, self.ear, self.upper = context, Ear(), Ear()
        pipeline = Pipeline([self.upper, pair.user(), service, self.ear, pair.assistant()])
        self.worker = PipelineWorker(pipeline, cancel_on_idle_timeout=False, enable_rtvi=False)

    async def _look_up(self, params: Any) -> None:
        self.outputs.append(f"in drawer {params.arguments['n']}")
        await params.result_callback(self.outputs[-1])

    async def until(self, so: Callable[[], Any]) -> None:
        async def wait() -> None:
            while not so():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), WAIT_S)

    async def talk(self) -> None:
        await say(lambda pcm: self.worker.queue_frame(InputAudioRawFrame(pcm, 24000, 1)))

    def heard_ms(self) -> float:
        """How much of the model's voice has come down."""
        return sum(PCM24.ms_for_bytes(len(frame.audio)) for frame in self.ear.of(TTSAudioRawFrame))

    async def hold(self) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        running = asyncio.create_task(runner.run())
        try:
            await self._converse()
        finally:
            await runner.cancel()
            await asyncio.wait_for(running, WAIT_S)

    async def _converse(self) -> None:
        server = self.server
        await self.worker.queue_frame(LLMRunFrame())
        await self.until(lambda: len(server.said()) == 1)
        await self.talk()
        await self.until(lambda: len(server.said()) == 2)
        await self.until(lambda: self.outputs)
        before_ms = self.heard_ms()
        await self.talk()
        await self.until(lambda: self.heard_ms() > before_ms + 300)
        await self.talk()
        await self.until(lambda: len(server.said()) == 3)
        await self.until(lambda: server.of("conversation.item.truncated"))


def test_a_dialogue_with_a_tool_and_an_interruption(serve) -> None:
    async def run() -> Stranger:
        stranger = Stranger(server)
        await stranger.hold()
        return stranger

    server = serve(voice="tone:440:2500", pace=1.0)
    stranger = asyncio.run(run())
    assert server.errors == []
    assert [frame.error for frame in [*stranger.ear.of(ErrorFrame), *stranger.upper.of(ErrorFrame)]] == []
    says = [turn["say"] for turn in DIALOGUE["turn"]]
    assert stranger.outputs == ["in drawer 7"]
    assert server.said() == [says[1], 'it is "in drawer 7"', says[4]], "its first text is the first turn"
    cancelled = [
        event["response"]
        for event in server.of("response.done")
        if event["response"]["status"] == "cancelled"
    ]
    [interrupted] = cancelled
    cuts = {event["item_id"] for event in server.of("conversation.item.truncated")}
    assert interrupted["output"][0]["id"] in cuts
    kept = [message for message in stranger.context.get_messages() if message.get("role") == "user"]
    assert [message["content"] for message in kept[1:]] == [turn["heard"] for turn in DIALOGUE["turn"][2:]]
