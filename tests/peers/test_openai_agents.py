"""openai-agents' realtime client holds a dialogue with the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("agents.realtime", reason="the package openai-agents is not installed (extra peers)")

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner

from peers.conftest import DIALOGUE, say

WAIT_S = 10.0
SETTINGS = {
    "model_name": "any",
    "input_audio_transcription": {"model": "whisper-1"},
    "turn_detection": {"type": "server_vad", "interrupt_response": True, "silence_duration_ms": 300},
}


@function_tool
def look_up(n: int) -> str:
    """Looks something up."""
    return f"in drawer {n}"


class Stranger:
    """A session of openai-agents and the events it has told of."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.events: list[Any] = []
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        async for event in self.session:
            self.events.append(event)
            self._changed.set()

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    async def until(self, so: Callable[[], Any]) -> None:
        async def wait() -> None:
            while not so():
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), WAIT_S)

    async def talk(self) -> None:
        await say(self.session.send_audio)

    def history(self) -> list[tuple[str, str | None]]:
        """(role, words) of the messages, as openai-agents keeps them."""
        items = self.of("history_updated")[-1].history
        return [
            (item.role, getattr(part, "transcript", None) or getattr(part, "text", None))
            for item in items
            if item.type == "message"
            for part in item.content
        ]


async def hold(server: Any) -> Stranger:
    agent = RealtimeAgent(name="stranger", instructions="Be kind.", tools=[look_up])
    runner = RealtimeRunner(agent, config={"tracing_disabled": True})
    config = {"api_key": "any", "url": f"{server.url}?model=any", "initial_model_settings": SETTINGS}
    async with await runner.run(model_config=config) as session:
        stranger = Stranger(session)
        listening = asyncio.create_task(stranger.listen())
        await session.send_message("Good day.")
        await stranger.until(lambda: len(server.said()) == 1 and stranger.of("audio_end"))
        await stranger.talk()
        await stranger.until(lambda: len(server.said()) == 2 and len(stranger.of("audio_end")) == 2)
        heard = len(stranger.of("audio"))
        await stranger.talk()
        await stranger.until(lambda: len(stranger.of("audio")) > heard + 4)
        await stranger.talk()
        await stranger.until(lambda: len(server.said()) == 3 and stranger.of("audio_interrupted"))
        await asyncio.sleep(0.3)  # for what it sends afterwards
        listening.cancel()
        return stranger


def test_a_dialogue_with_a_tool_and_an_interruption(serve) -> None:
    server = serve(voice="tone:440:2500", pace=1.0)
    stranger = asyncio.run(hold(server))
    assert server.errors == []
    assert [event.error for event in stranger.of("error")] == []
    assert [event.output for event in stranger.of("tool_end")] == ["in drawer 7"]
    says = [turn["say"] for turn in DIALOGUE["turn"]]
    assert server.said() == [says[1], "it is in drawer 7", says[4]]
    [interrupted] = [
        event["response"]["output"][0]["id"]
        for event in server.of("response.done")
        if event["response"]["status"] == "cancelled"
    ]
    cut = server.got("conversation.item.truncate")[-1]
    assert cut["item_id"] == server.of("conversation.item.truncated")[-1]["item_id"] == interrupted
    history = stranger.history()
    assert ("user", "Good day.") in history
    assert ("user", "Where is it?") in history
    assert ("assistant", "it is in drawer 7") in history
    assert ("assistant", says[4]) in history
