"""One response of the simulated model: from response.created to response.done, spoken at its pace, cancelled
at any point.

A response runs as a task on the server's loop; `cancel` may be called between any two of its events. Nothing
is said after it; what winds the response up follows at once, or after the server's cancel_lag_ms.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ivr_ai.audio.formats import Format, convert
from ivr_ai.sim import schema
from ivr_ai.sim.dialogue import FunctionCall, Reply, Spoken
from ivr_ai.sim.mishaps import token_limit
from ivr_ai.sim.speech import WORDS, Speech, with_words
from ivr_ai.sim.wire import AUDIO_DELTA, status_error
from ivr_ai.tts import local_voice as voices

if TYPE_CHECKING:
    from ivr_ai.sim.realtime_session import Session

AUDIO_TOKEN_MS = 50  # the service counts about 20 tokens per second of its own speech
_TEXT_WORD_MS = 60  # real time of a word of a text-only reply, before the pace
_DROP_AT_DELTA = 3


class Response:
    """A response of one session. `finished` is called once, after response.done."""

    def __init__(
        self, session: Session, reply: Reply, params: dict[str, Any], finished: Callable[[Response], None]
    ) -> None:
        self.id = session.new_id("resp")
        self.audio_ms = 0.0  # of its audio, as far as it has been sent
        self.in_conversation = params.get("conversation") != "none"
        self.cancelled = False  # from `cancel` on, while it is being wound up
        self._session, self._reply, self._params, self._finished = session, reply, params, finished
        self._format: Format = params[schema.OUTPUT_FORMAT]
        self._writes = params["output_modalities"] == ["text"]
        self._output: list[dict[str, Any]] = []
        self._open: list[Speech] = []  # message items whose ends have not been sent, the current one last
        self._deltas = 0
        self._text_tokens = 0
        self._reset_s: float | None = None  # of the rate limit it met
        self._status = "in_progress"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._session.faults.done_without_created:
            params = {**self._params, "metadata": None}  # begun by the service: nobody has asked for it
            ghost = Response(self._session, Reply(), params, lambda response: None)
            ghost._done("cancelled", {"type": "cancelled", "reason": "turn_detected"})
        self._writes = self._writes or self._session.mishaps.writes()
        delay_ms = self._session.faults.created_delay_ms
        if not delay_ms:
            self._emit("response.created", response=self._body())
        self._task = self._session.spawn(self._run(delay_ms))

    def cancel(self, reason: str) -> None:
        """Ends it: "turn_detected" or "client_cancelled". A response that was not announced yet never is:
        only its response.done comes, as it may from the service.
        """
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
        lag_ms = self._session.options.cancel_lag_ms
        if lag_ms:
            self._session.spawn(self._wind_up_later(reason, lag_ms))
        else:
            self._wind_up(reason)

    async def _wind_up_later(self, reason: str, lag_ms: int) -> None:
        await asyncio.sleep(lag_ms / 1000)
        self._wind_up(reason)

    def _wind_up(self, reason: str) -> None:
        current = self._open[-1] if self._open else None
        self._close_items()
        self._done("cancelled", {"type": "cancelled", "reason": reason})
        if current is not None and self._session.faults.late_deltas:
            self._session.spawn(self._late_deltas(current))

    # ---- the course of a response --------------------------------------------------------------------------

    async def _run(self, delay_ms: int) -> None:
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
            self._emit("response.created", response=self._body())
        ending = self._session.mishaps.ending()
        if ending is not None:
            self._reset_s = ending.reset_s
            self._done(ending.status, ending.details)
            return
        try:
            complete = await self._say_all(self._reply.items)
        except voices.VoiceError as error:
            self._close_items()
            self._done("failed", {"type": "failed", "error": status_error("server_error", str(error))})
            return
        if complete:
            for call in self._reply.calls:
                await self._pause()
                self._call(call)
        self._close_items()
        incomplete = {"type": "incomplete", "reason": "max_output_tokens"}
        self._done(*(("completed", None) if complete else ("incomplete", incomplete)))

    async def _say_all(self, items: tuple[Spoken, ...]) -> bool:
        """Says the items one after the other. False when max_output_tokens cut them short."""
        options = self._session.options
        for item in items:
            await self._pause()
            if not await self._say(item):
                return False
            if options.item_ends == "sequential":
                self._close_items()
        return True

    async def _pause(self) -> None:
        """The server's pause between items."""
        pause_ms = self._session.options.item_pause_ms
        if self._output and pause_ms:
            await asyncio.sleep(pause_ms / 1000)

    async def _say(self, item: Spoken) -> bool:
        """Says or writes a message. False when max_output_tokens cut it short."""
        self._session.note(f"model: {item.text}")
        pieces = self._written(item.text) if self._writes else await self._spoken(item.text)
        await asyncio.sleep(self._session.faults.first_delta_delay_ms / 1000)
        speech = Speech(self, "text" if self._writes else "audio", item.phase)
        self._open.append(speech)
        complete = await self._play(speech, pieces)
        if complete:
            speech.status = "completed"
        return complete

    def _close_items(self) -> None:
        """The ends of the items said so far: of their audio first, as the service sends them."""
        speeches, self._open = self._open, []
        for speech in speeches:
            speech.end_audio()
        for speech in speeches:
            speech.close()

    async def _spoken(self, text: str) -> Iterator[tuple[str, bytes, float]]:
        """(words, audio, ms) piece by piece. The voice works on a thread of its own: other sessions go on."""
        options, speed = self._session.options, self._params["audio.output.speed"]
        wpm = int(voices.DEFAULT_WPM * speed)
        pcm = await asyncio.to_thread(voices.speak, text, self._format.rate_hz, options.voice, wpm)
        audio = convert(pcm, Format("s16", self._format.rate_hz), self._format)
        size = self._session.faults.delta_bytes or self._format.bytes_for_ms(options.delta_ms)
        chunks = [audio[start : start + size] for start in range(0, len(audio), size)]
        return with_words(text, chunks, self._format)

    def _written(self, text: str) -> Iterator[tuple[str, bytes, float]]:
        return ((word, b"", _TEXT_WORD_MS) for word in WORDS.findall(text))

    async def _play(self, speech: Speech, pieces: Iterator[tuple[str, bytes, float]]) -> bool:
        """Sends the pieces at the server's pace, on a fixed schedule. False at max_output_tokens."""
        loop = asyncio.get_running_loop()
        due_s, pace = loop.time(), self._session.options.pace
        limit = self._params["max_output_tokens"]
        for words, audio, ms in pieces:
            if limit != "inf" and self._tokens() >= limit:
                return False
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            due_s += ms / 1000 / pace if pace else 0.0
            speech.piece(words, audio, ms)
            self._after_delta(speech)
        return True

    def _call(self, call: FunctionCall) -> None:
        """Calls a function: an item of its own, arguments in two deltas."""
        self._session.note(f"model calls {call.name}({call.arguments})")
        head = self.new_item("function_call")
        head.update(name=call.name, call_id=self._session.new_id("call"))
        place = self.open_item({**head, "status": "in_progress", "arguments": ""})
        where = {
            "response_id": self.id,
            "item_id": head["id"],
            "output_index": place,
            "call_id": head["call_id"],
        }
        middle = len(call.arguments) // 2
        for delta in (call.arguments[:middle], call.arguments[middle:]):
            self._emit("response.function_call_arguments.delta", **where, delta=delta)
        self._emit("response.function_call_arguments.done", **where, name=call.name, arguments=call.arguments)
        self.close_item({**head, "status": "completed", "arguments": call.arguments}, place)
        self._session.called(head["call_id"])
        self._text_tokens += len(call.arguments) // 4 + 1

    # ---- items and events ----------------------------------------------------------------------------------

    def new_item(self, kind: str) -> dict[str, Any]:
        return {"id": self._session.new_id("item"), "object": "realtime.item", "type": kind}

    def open_item(self, item: dict[str, Any]) -> int:
        """Announces an output item; returns its output_index."""
        place = len(self._output)
        self._output.append(item)
        self._emit("response.output_item.added", response_id=self.id, output_index=place, item=item)
        if self.in_conversation:
            before = self._session.conversation.add(item)
            self._emit("conversation.item.added", previous_item_id=before, item=item)
        return place

    def close_item(self, item: dict[str, Any], place: int) -> None:
        """Finishes an output item: in the conversation, unless it was deleted there, then in the response."""
        self._output[place] = item
        if self.in_conversation and item["id"] in self._session.conversation:
            before = self._session.conversation.replace(item)
            self._emit("conversation.item.done", previous_item_id=before, item=item)
        self._emit("response.output_item.done", response_id=self.id, output_index=place, item=item)

    def count(self, item_id: str, words: str, audio: bytes, audio_ms: float) -> None:
        """Keeps account of what has been sent."""
        self.audio_ms += audio_ms
        self._text_tokens += len(words.split())
        self._deltas += 1
        if audio_ms:
            self._session.state.voice_locked = True
            if self.in_conversation:
                self._session.conversation.add_speech(item_id, audio, audio_ms)

    def emit(self, kind: str, **body: Any) -> None:
        self._emit(kind, response_id=self.id, **body)

    def _emit(self, kind: str, **body: Any) -> None:
        self._session.emit(kind, **body)

    def _after_delta(self, speech: Speech) -> None:
        if self._deltas == 1:
            self._session.talk_nonsense(speech.where())
        if self._deltas == _DROP_AT_DELTA and self._session.faults.drop_mid_response:
            self._session.drop()

    async def _late_deltas(self, speech: Speech) -> None:
        """Audio of a cancelled response that was on its way: comes after response.done, and is counted
        nowhere.
        """
        for _ in range(self._session.faults.late_deltas if speech.kind == "audio" else 0):
            await asyncio.sleep(0.01)
            silence = base64.b64encode(self._format.silence(self._session.options.delta_ms)).decode()
            self._emit(AUDIO_DELTA, **speech.where(), delta=silence)

    def _done(self, status: str, details: dict[str, Any] | None) -> None:
        self._status = status
        self._emit(
            "response.done", response={**self._body(), "status_details": details, "usage": self._usage()}
        )
        self._emit("rate_limits.updated", rate_limits=[token_limit(self._tokens(), self._reset_s)])
        self._finished(self)

    def _body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self._status,
            "status_details": None,
            "output": list(self._output) if self._status != "in_progress" else [],
            "conversation_id": self._session.conversation_id if self.in_conversation else None,
            "output_modalities": self._params["output_modalities"],
            "max_output_tokens": self._params["max_output_tokens"],
            "audio": {"output": {"format": self._format.ga_wire, "voice": self._params[schema.VOICE]}},
            "metadata": self._params.get("metadata"),
            "usage": None,
        }

    def _tokens(self) -> int:
        return int(self.audio_ms / AUDIO_TOKEN_MS) + self._text_tokens

    def _usage(self) -> dict[str, Any]:
        heard, said = self._session.input_audio_tokens(), int(self.audio_ms / AUDIO_TOKEN_MS)
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": heard + self._tokens(),
            "input_tokens": heard,
            "output_tokens": self._tokens(),
            "input_token_details": {
                "text_tokens": 0,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": self._text_tokens, "audio_tokens": said},
        }
