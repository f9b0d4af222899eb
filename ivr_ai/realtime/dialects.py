"""GA and beta: two sets of names for the same conversation.

Everything else in this package speaks GA. A dialect translates at the door: `encode` what goes out, `decode`
what comes in. The beta interface of OpenAI itself ended in May 2026; Azure (URLs with api-version) and
self-hosted servers speak it.

Source: OpenAI Realtime API reference, GA and beta; openai-python 1.99 (beta types) and 3.51 (GA types).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

Event = dict[str, Any]

_BETA_EVENTS = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}
_BETA_FORMATS = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_BETA_CONTENT = {"output_text": "text", "output_audio": "audio"}


class GaDialect:
    """The interface as it is today: nothing to translate."""

    name = "ga"
    headers: Mapping[str, str] = MappingProxyType({})

    def encode(self, event: Event) -> Event:
        """An event as the server wants it."""
        return event

    def decode(self, event: Event) -> Event:
        """A server's event in GA names."""
        return event


class BetaDialect:
    """The interface before GA. Settings it never had are left out; `temperature` is one it still takes."""

    name = "beta"
    headers: Mapping[str, str] = MappingProxyType({"OpenAI-Beta": "realtime=v1"})

    def __init__(self, temperature: float | None = None) -> None:
        self._temperature = temperature

    def encode(self, event: Event) -> Event:
        kind = event.get("type")
        if kind == "session.update":
            return {**event, "session": self._session(event["session"])}
        if kind == "response.create" and "response" in event:
            return {**event, "response": self._response(event["response"])}
        if kind == "conversation.item.create":
            return {**event, "item": self._item(event["item"])}
        return event

    def decode(self, event: Event) -> Event:
        kind = event.get("type")
        name = _BETA_EVENTS.get(kind) if isinstance(kind, str) else None
        return {**event, "type": name} if name else event

    def _session(self, ga: Event) -> Event:
        """The flat session object of the beta interface."""
        audio = ga.get("audio", {})
        heard, said = audio.get("input", {}), audio.get("output", {})
        beta: Event = {"modalities": _modalities(ga.get("output_modalities", ["audio"]))}
        _copy(ga, beta, "instructions", "tools", "tool_choice")
        _copy(said, beta, "voice", "speed")
        _copy(heard, beta, "turn_detection")
        for name in ("transcription", "noise_reduction"):
            if name in heard:
                beta[f"input_audio_{name}"] = heard[name]
        for name, side in (("input", heard), ("output", said)):
            if "format" in side:
                beta[f"{name}_audio_format"] = _BETA_FORMATS[side["format"]["type"]]
        if "max_output_tokens" in ga:
            beta["max_response_output_tokens"] = ga["max_output_tokens"]
        if self._temperature is not None:
            beta["temperature"] = self._temperature
        return beta

    def _response(self, ga: Event) -> Event:
        beta = {
            key: value
            for key, value in ga.items()
            if key not in ("output_modalities", "max_output_tokens", "audio")
        }
        if "output_modalities" in ga:
            beta["modalities"] = _modalities(ga["output_modalities"])
        if "max_output_tokens" in ga:
            beta["max_response_output_tokens"] = ga["max_output_tokens"]
        return beta

    def _item(self, ga: Event) -> Event:
        if ga.get("type") != "message" or ga.get("role") != "assistant":
            return ga
        content = [{**part, "type": _BETA_CONTENT.get(part["type"], part["type"])} for part in ga["content"]]
        return {**ga, "content": content}


def _modalities(ga: list[str]) -> list[str]:
    """Beta wants "text" beside "audio" for spoken answers."""
    return ["audio", "text"] if "audio" in ga else ["text"]


def _copy(source: Event, target: Event, *names: str) -> None:
    for name in names:
        if name in source:
            target[name] = source[name]


Dialect = GaDialect | BetaDialect


def server_types(types: Iterable[str]) -> set[str]:
    """What servers of either dialect call events of these types (GA names)."""
    wanted = set(types)
    return wanted | {beta for beta, ga in _BETA_EVENTS.items() if ga in wanted}
