"""A message item of a response while it is said ("audio") or written ("text"): its events, from
response.output_item.added to response.output_item.done.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Protocol

from ivr_ai.audio.formats import Format
from ivr_ai.sim.wire import AUDIO_DELTA

WORDS = re.compile(r"\S+\s*")


class ItemHost(Protocol):
    """The response that an item belongs to."""

    id: str

    def new_item(self, kind: str) -> dict[str, Any]: ...
    def open_item(self, item: dict[str, Any]) -> int: ...
    def close_item(self, item: dict[str, Any], place: int) -> None: ...
    def emit(self, kind: str, **body: Any) -> None: ...
    def count(self, item_id: str, words: str, audio: bytes, audio_ms: float) -> None: ...


class Speech:
    """One message item. `kind` is "audio" or "text", `phase` is sent with the item unless it is ""."""

    def __init__(self, response: ItemHost, kind: str, phase: str = "") -> None:
        self.kind, self.status = kind, "incomplete"
        self._response, self._text = response, ""
        self._head = {
            **response.new_item("message"),
            "role": "assistant",
            **({"phase": phase} if phase else {}),
        }
        self._audio_open = kind == "audio"
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
        self._response.count(self._head["id"], words, audio, ms if audio else 0.0)

    def end_audio(self) -> None:
        """response.output_audio.done, once."""
        if self._audio_open:
            self._audio_open = False
            self._response.emit("response.output_audio.done", **self.position())

    def close(self) -> None:
        """All the .done events, in the service's order; what was said so far stands, under `status`."""
        said = self._text.strip()
        self.end_audio()
        if self.kind == "audio":
            self._response.emit("response.output_audio_transcript.done", **self.position(), transcript=said)
            content = {"type": "output_audio", "transcript": said}
        else:
            self._response.emit("response.output_text.done", **self.position(), text=said)
            content = {"type": "output_text", "text": said}
        self._response.emit("response.content_part.done", **self.position(), part=self._part(said))
        self._response.close_item({**self._head, "status": self.status, "content": [content]}, self._place)

    def _part(self, said: str = "") -> dict[str, str]:
        return {"type": self.kind, "transcript" if self.kind == "audio" else "text": said}


def with_words(text: str, chunks: list[bytes], audio: Format) -> Iterator[tuple[str, bytes, float]]:
    """Spreads the words of `text` evenly over the audio."""
    words = WORDS.findall(text)
    said = 0
    for index, chunk in enumerate(chunks, 1):
        upto = -(-len(words) * index // len(chunks))  # rounded up: words come no later than their sound
        yield "".join(words[said:upto]), chunk, audio.ms_for_bytes(len(chunk))
        said = upto
