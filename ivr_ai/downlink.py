"""What the model says, on its way to the caller: each item's audio goes into the stream under the
generation that the conversation gives it, and the conversation is told how far the caller has heard it.

With the native transport, audio is queued in C, and Downlink learns of each item now and then
(`transport.audio`). With the python transport every delta comes here.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from typing import Any

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import Mark, Stream, StreamFull, StreamNotFound
from ivr_ai.conversation.actions import Action
from ivr_ai.conversation.conversation import Conversation
from ivr_ai.outbox import Outbox
from ivr_ai.realtime.native import NativeTransport

Complain = Callable[[str, str], None]


class Downlink:
    """That of one call, over all of its links. delta() and queued(): on the thread that delivers events."""

    def __init__(self, conversation: Conversation, outbox: Outbox, complain: Complain) -> None:
        """complain(about, message): told what is wrong with the server's audio."""
        self._conversation, self._outbox, self._complain = conversation, outbox, complain

    def delta(self, event: dict[str, Any], stream: Stream | None, said: Format, now_s: float) -> None:
        """response.output_audio.delta: audio in the format `said`. stream: None before there is one."""
        item, delta = event.get("item_id"), event.get("delta")
        if not isinstance(item, str) or not isinstance(delta, str) or stream is None:
            self._complain("malformed", "the server sent audio without an item, or before it was asked to")
            return
        generation = self._place(str(event.get("response_id")), item, now_s)
        if generation is None:
            return
        try:
            stream.inject(base64.b64decode(delta, validate=True), item, said, generation)
        except ValueError as error:
            self._complain("base64", f"the server sent audio that is not base64: {error}")
        except StreamFull as error:
            self._complain("full", f"a reply is too long to hold and loses its end: {error}")

    def queued(self, event: dict[str, Any], stream: Stream, transport: NativeTransport, now_s: float) -> None:
        """transport.audio: an item is being queued, or held back until route() says what becomes of it."""
        response, item = event["response_id"], event["item_id"]
        stream.adopt(item, event["mark"])
        with self._outbox.lock:
            known = item in self._conversation.unheard_items()
        if not event["first"] and not known:
            return  # it has been heard to its end, or cut short, since this was written
        generation = self._place(response, item, now_s)
        if event["generation"] == 0:
            transport.route(response, generation)

    def _place(self, response_id: str, item_id: str, now_s: float) -> int | None:
        """The generation under which audio of an item is to be queued; None when it is to be dropped."""
        placed: list[int | None] = []

        def decide() -> list[Action]:
            generation, actions = self._conversation.audio(response_id, item_id, now_s)
            placed.append(generation)
            return actions

        self._outbox.decide(decide)
        return placed[0]

    def heard(self, stream: Stream | None, now_s: float) -> list[Action]:
        """Tells the conversation how far its items were heard. Any thread, under the outbox's lock."""
        marks = self.marks(stream) if stream is not None else []
        return [action for mark in marks for action in self._conversation.mark(mark, now_s)]

    def marks(self, stream: Stream) -> list[Mark]:
        """Where the items stand that have not been heard to their ends. Under the outbox's lock."""
        marks = []
        for item in self._conversation.unheard_items():
            with contextlib.suppress(StreamNotFound):
                marks.append(stream.mark(item))
        return marks
