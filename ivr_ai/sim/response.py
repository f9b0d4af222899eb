"""One response of the simulated model: from response.created to response.done, spoken at its pace, cancelled
at any point.

A response runs as a task on the server's loop; `cancel` may be called between any two of its events and ends
it at once.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ivr_ai.audio.formats import Format, convert
from ivr_ai.sim import schema
from ivr_ai.sim.dialogue import FunctionCall, Reply
from ivr_ai.sim.wire import AUDIO_DELTA, error_body, new_id
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
        self.id = new_id("resp")
        self.audio_ms = 0.0  # of its audio, as far as it has been sent
        self.in_conversation = params.get("conversation") != "none"
        self._session, self._reply, self._params, self._finished = session, reply, params, finished
        self._format: Format = params[schema.OUTPUT_FORMAT]
        self._output: list[dict[str, Any]] = []
        self._speech: _Speech | None = None  # the message item being said
        self._deltas = 0
        self._text_tokens = 0
        self._status = "in_progress"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._session.faults.done_without_created:
            ghost = Response(self._session, Reply(), self._params, lambda response: None)
            ghost._done("cancelled", {"type": "cancelled", "reason": "turn_detected"})
        self._emit("response.created", response=self._body())
        self._task = self._session.spawn(self._run())

    def cancel(self, reason: str) -> None:
        """Ends it now: "turn_detected" or "client_cancelled"."""
        if self._task is not None:
            self._task.cancel()
        speech = self._speech
        if speech is not None:
            speech.close("incomplete")
        self._done("cancelled", {"type": "cancelled", "reason": reason})
        if speech is not None and self._session.faults.late_deltas:
            self._session.spawn(self._late_deltas(speech))

    # ---- the course of a response --------------------------------------------------------------------------

    async def _run(self) -> None:
        failure = self._session.take_failure()
        if failure:
            self._done(
                "failed", {"type": "failed", "error": error_body(failure, f"Simulated failure: {failure}.")}
            )
            return
        complete = True
        try:
            if self._reply.say:
                complete = await self._say(self._reply.say)
        except voices.VoiceError as error:
            self._done("failed", {"type": "failed", "error": error_body("server_error", str(error))})
            return
        if self._reply.call is not None and complete:
            self._call(self._reply.call)
        incomplete = {"type": "incomplete", "reason": "max_output_tokens"}
        self._done(*(("completed", None) if complete else ("incomplete", incomplete)))

    async def _say(self, text: str) -> bool:
        """Says or writes a message. False when max_output_tokens cut it short."""
        spoken = self._params["output_modalities"] == ["audio"]
        self._session.note(f"model: {text}")
        pieces = await self._spoken(text) if spoken else self._written(text)
        await asyncio.sleep(self._session.faults.first_delta_delay_ms / 1000)
        self._speech = speech = _Speech(self, "audio" if spoken else "text")
        complete = await self._play(speech, pieces)
        speech.close("completed" if complete else "incomplete")
        self._speech = None
        return complete

    async def _spoken(self, text: str) -> Iterator[tuple[str, bytes, float]]:
        """(words, audio, ms) piece by piece. The voice works on a thread of its own: other sessions go on."""
        options, speed = self._session.options, self._params["audio.output.speed"]
        wpm = int(voices.DEFAULT_WPM * speed)
        pcm = await asyncio.to_thread(voices.speak, text, self._format.rate_hz, options.voice, wpm)
        audio = convert(pcm, Format("s16", self._format.rate_hz), self._format)
        size = self._session.faults.delta_bytes or self._format.bytes_for_ms(options.delta_ms)
        chunks = [audio[start : start + size] for start in range(0, len(audio), size)]
        return _with_words(text, chunks, self._format)

    def _written(self, text: str) -> Iterator[tuple[str, bytes, float]]:
        return ((word, b"", _TEXT_WORD_MS) for word in re.findall(r"\S+\s*", text))

    async def _play(self, speech: _Speech, pieces: Iterator[tuple[str, bytes, float]]) -> bool:
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
        head = {"id": new_id("item"), "object": "realtime.item", "type": "function_call"}
        head.update(name=call.name, call_id=new_id("call"))
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
        self._text_tokens += len(call.arguments) // 4 + 1

    # ---- items and events ----------------------------------------------------------------------------------

    def open_item(self, item: dict[str, Any]) -> int:
        """Announces an output item; returns its output_index."""
        place = len(self._output)
        self._output.append(item)
        self._emit("response.output_item.added", response_id=self.id, output_index=place, item=item)
        if self.in_conversation:
            before = self._session.conversation.add(dict(item))
            self._emit("conversation.item.added", previous_item_id=before, item=item)
        return place

    def close_item(self, item: dict[str, Any], place: int) -> None:
        """Finishes an output item: in the conversation, then in the response."""
        self._output[place] = item
        if self.in_conversation:
            before = self._session.conversation.replace(item)
            self._emit("conversation.item.done", previous_item_id=before, item=item)
        self._emit("response.output_item.done", response_id=self.id, output_index=place, item=item)

    def count(self, item_id: str, words: str, audio_ms: float) -> None:
        """Keeps account of what has been sent."""
        self.audio_ms += audio_ms
        self._text_tokens += len(words.split())
        self._deltas += 1
        if audio_ms:
            self._session.state.voice_locked = True
            if self.in_conversation:
                self._session.conversation.add_audio(item_id, audio_ms)

    def emit(self, kind: str, **body: Any) -> None:
        self._emit(kind, response_id=self.id, **body)

    def _emit(self, kind: str, **body: Any) -> None:
        self._session.emit(kind, **body)

    def _after_delta(self, speech: _Speech) -> None:
        if self._deltas == 1:
            self._session.talk_nonsense(speech.where())
        if self._deltas == _DROP_AT_DELTA and self._session.faults.drop_mid_response:
            self._session.drop()

    async def _late_deltas(self, speech: _Speech) -> None:
        """Audio of a cancelled response that was on its way: comes after response.done, and is counted
        nowhere.
        """
        for _ in range(self._session.faults.late_deltas if speech.kind == "audio" else 0):
            await asyncio.sleep(0.01)
            silence = base64.b64encode(self._format.silence(self._session.options.delta_ms)).decode()
            self._emit(AUDIO_DELTA, **speech.where(), delta=silence)

    def _done(self, status: str, details: dict[str, Any] | None) -> None:
        self._status = status
        self._speech = None
        self._emit(
            "response.done", response={**self._body(), "status_details": details, "usage": self._usage()}
        )
        tokens = {
            "name": "tokens",
            "limit": 100_000,
            "remaining": 100_000 - self._tokens(),
            "reset_seconds": 0.1,
        }
        self._emit("rate_limits.updated", rate_limits=[tokens])
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


class _Speech:
    """A message item while it is said ("audio") or written ("text")."""

    def __init__(self, response: Response, kind: str) -> None:
        self.kind = kind
        self._response, self._text = response, ""
        self._head = {"id": new_id("item"), "object": "realtime.item", "type": "message", "role": "assistant"}
        self._place = response.open_item({**self._head, "status": "in_progress", "content": []})
        response.emit("response.content_part.added", **self.position(), part=self._part())

    def position(self) -> dict[str, Any]:
        return {"item_id": self._head["id"], "output_index": self._place, "content_index": 0}

    def where(self) -> dict[str, Any]:
        return {"response_id": self._response.id, **self.position()}

    def piece(self, words: str, audio: bytes, ms: float) -> None:
        """Sends some words and the audio that goes with them."""
        self._text += words
        name = "output_audio_transcript" if self.kind == "audio" else "output_text"
        if words:
            self._response.emit(f"response.{name}.delta", **self.position(), delta=words)
        if audio:
            self._response.emit(AUDIO_DELTA, **self.position(), delta=base64.b64encode(audio).decode())
        self._response.count(self._head["id"], words, ms if audio else 0.0)

    def close(self, status: str) -> None:
        """All the .done events, in the service's order; what was said so far stands."""
        said = self._text.strip()
        if self.kind == "audio":
            self._response.emit("response.output_audio.done", **self.position())
            self._response.emit("response.output_audio_transcript.done", **self.position(), transcript=said)
            content = {"type": "output_audio", "transcript": said}
        else:
            self._response.emit("response.output_text.done", **self.position(), text=said)
            content = {"type": "output_text", "text": said}
        self._response.emit("response.content_part.done", **self.position(), part=self._part(said))
        self._response.close_item({**self._head, "status": status, "content": [content]}, self._place)

    def _part(self, said: str = "") -> dict[str, str]:
        return {"type": self.kind, "transcript" if self.kind == "audio" else "text": said}


def _with_words(text: str, chunks: list[bytes], audio: Format) -> Iterator[tuple[str, bytes, float]]:
    """Spreads the words of `text` evenly over the audio."""
    words = re.findall(r"\S+\s*", text)
    said = 0
    for index, chunk in enumerate(chunks, 1):
        upto = -(-len(words) * index // len(chunks))  # rounded up: words come no later than their sound
        yield "".join(words[said:upto]), chunk, audio.ms_for_bytes(len(chunk))
        said = upto
