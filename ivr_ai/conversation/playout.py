"""What is being said to the caller: items, the generation they are queued under, and what was heard of them.

A response belongs to the generation in which it is first heard of. A flush begins a new generation: audio
of older ones is dropped, here or by the stream. An item is complete when its end is told, when the next
item of its response begins, or when its response is over, whichever comes first: services tell the ends of
all items together, at the end of the response.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ivr_ai.audio.stream import Flush as Flushed
from ivr_ai.audio.stream import Mark
from ivr_ai.conversation.actions import Action, EndItem, Forget, Notify
from ivr_ai.conversation.history import History

RESPONSES_KEPT = 32  # more than can have audio on its way
NOT_HEARD = 0  # the generation of a response that nobody is to hear; never current


@dataclass
class Item:
    """One spoken item of the model, queued and not yet heard to its end."""

    item_id: str
    response_id: str
    link: int
    turn: int
    ended: bool = False
    heard: bool = False


@dataclass
class Voice:
    """What is known of a response's sound. speech_end_s: of the turn that it answers, until its first sample
    is heard."""

    generation: int
    turn: int
    speech_end_s: float | None = None
    spoke: bool = False
    items: set[str] = field(default_factory=set)  # that audio has come of
    heard: bool = False  # something of it was
    cut: bool = False  # something of it was not, and will not be


@dataclass
class Playout:
    """The items of one conversation. Not thread-safe."""

    history: History
    generation: int = 1
    link: int = 1  # number of the connection: an item can only be forgotten where it was made
    items: dict[str, Item] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    _voices: dict[str, Voice] = field(default_factory=dict)
    _silent: dict[str, str] = field(default_factory=dict)  # items told of and not heard of: their responses
    _forgotten: set[str] = field(default_factory=set)

    # ---- responses and items -------------------------------------------------------------------------------

    def begin(self, response_id: str, turn: int, speech_end_s: float | None, heard: bool = True) -> Voice:
        """First heard of a response, which answers a turn. heard False: nobody is to hear it."""
        voice = self._voices.get(response_id)
        if voice is None:
            generation = self.generation if heard else NOT_HEARD
            voice = self._voices[response_id] = Voice(generation, turn, speech_end_s)
            if len(self._voices) > RESPONSES_KEPT:
                del self._voices[next(iter(self._voices))]
        return voice

    def is_known(self, response_id: str) -> bool:
        return response_id in self._voices

    def turn_of(self, response_id: str) -> int:
        """The turn that a response answers."""
        voice = self._voices.get(response_id)
        return voice.turn if voice is not None else 0

    def spoke(self, response_id: str) -> bool:
        """Whether audio of a response has come that was to be heard."""
        voice = self._voices.get(response_id)
        return voice is not None and voice.spoke

    def was_heard(self, response_id: str) -> bool:
        """Whether anything of a response was heard."""
        voice = self._voices.get(response_id)
        return voice is not None and voice.heard

    def was_cut(self, response_id: str) -> bool:
        """Whether a flush took anything of a response."""
        voice = self._voices.get(response_id)
        return voice is not None and voice.cut

    def unanswered(self, response_id: str) -> float | None:
        """When the turn ended that a response was to answer, which has said nothing. The next one answers
        it."""
        voice = self._voices.get(response_id)
        return voice.speech_end_s if voice is not None else None

    def is_current(self, response_id: str) -> bool:
        """Whether a response's audio is still to be heard; so is that of one nobody has heard of yet."""
        voice = self._voices.get(response_id)
        return voice is None or voice.generation == self.generation

    def added(self, response_id: str, item_id: str) -> list[Action]:
        """A spoken item has begun on the service, without audio as yet."""
        voice = self._voices.get(response_id)
        if item_id in self._forgotten or (voice is not None and item_id in voice.items):
            return []
        if not self.is_current(response_id):
            return self._forget_unheard(item_id)
        self._silent[item_id] = response_id
        return []

    def audio(self, response_id: str, item_id: str) -> tuple[int | None, list[Action]]:
        """Audio of an item: the generation to queue it under, None when it is to be dropped; and what
        follows."""
        voice = self._voices[response_id]
        if voice.generation != self.generation or item_id in self._forgotten:
            self._silent.pop(item_id, None)
            return None, self._forget_unheard(item_id)
        self._silent.pop(item_id, None)
        voice.spoke = True
        voice.items.add(item_id)
        if item_id in self.items:
            return voice.generation, []
        ended = [
            action
            for item in list(self.items.values())
            if item.response_id == response_id
            for action in self.end(item.item_id)
        ]
        self.items[item_id] = Item(item_id, response_id, self.link, voice.turn)
        self.history.spoken(item_id)
        return voice.generation, ended

    def end(self, item_id: str) -> list[Action]:
        """No more audio comes for an item."""
        item = self.items.get(item_id)
        if item is None or item.ended:
            return []
        item.ended = True
        return [EndItem(item_id)]

    def end_response(self, response_id: str) -> list[Action]:
        """No more comes of a response."""
        self._silent = {item: of for item, of in self._silent.items() if of != response_id}
        ours = [item.item_id for item in self.items.values() if item.response_id == response_id]
        return [action for item_id in ours for action in self.end(item_id)]

    def of_response(self, response_id: str) -> Iterable[Item]:
        """The items of a response that have not been heard to their ends."""
        return [item for item in self.items.values() if item.response_id == response_id]

    def link_lost(self) -> None:
        """The connection is gone: what it had told of and not sent will not come."""
        self._silent.clear()

    def _forget_unheard(self, item_id: str) -> list[Action]:
        if item_id in self._forgotten:
            return []
        self._forgotten.add(item_id)
        return [Forget(item_id)]

    # ---- what was heard ------------------------------------------------------------------------------------

    def mark(self, mark: Mark) -> list[Action]:
        """How far an item has been heard."""
        item = self.items.get(mark.item)
        if item is None:
            return []
        actions: list[Action] = []
        if mark.started_s is not None and not item.heard:
            item.heard = True
            actions.append(self._first_heard(item, mark.started_s))
        if mark.finished or mark.flushed:
            del self.items[mark.item]
        if mark.finished:
            data = {"item": mark.item, "turn": item.turn, "played_ms": mark.played_ms}
            actions.append(Notify("item_finished", data, mark.finished_s))
            actions += self.history.heard(mark.item, 1.0, item.turn)
        return actions

    def _first_heard(self, item: Item, started_s: float) -> Notify:
        data = {"item": item.item_id, "turn": item.turn, "latency_ms": None}
        voice = self._voices.get(item.response_id)
        if voice is not None:
            voice.heard = True
        if voice is not None and voice.speech_end_s is not None:
            latency_ms = round((started_s - voice.speech_end_s) * 1000, 1)
            data["latency_ms"] = latency_ms
            self.latencies_ms.append(latency_ms)
            voice.speech_end_s = None
        return Notify("heard", data, started_s)

    def flushed(self, flushed: Flushed, marks: list[Mark]) -> tuple[list[Action], int | None]:
        """A flush was done: what was heard of the items, and what the model is to forget.

        The number: milliseconds heard of what was cut short; None when there was nothing to cut.
        """
        self.generation = flushed.generation
        written_ms = {mark.item: mark.written_ms for mark in marks}
        played_ms = {**{mark.item: mark.played_ms for mark in marks}, **flushed.played_ms}
        actions = [action for mark in marks for action in self.mark(mark._replace(flushed=False))]
        cut: list[tuple[Item, int]] = []
        for item in list(self.items.values()):  # also what had not got into the stream yet: now it never will
            heard_ms = int(played_ms.get(item.item_id, 0))
            if item.item_id in flushed.played_ms:
                cut.append((item, heard_ms))
            actions += self._cut(item, heard_ms, written_ms.get(item.item_id, 0.0))
        self.items.clear()
        for item_id in list(self._silent):
            actions += self._forget_unheard(item_id)
        self._silent.clear()
        if cut:
            item, heard_ms = next(((item, ms) for item, ms in reversed(cut) if ms), cut[0])
            actions.append(
                Notify("barge_in", {"item": item.item_id, "turn": item.turn, "heard_ms": heard_ms})
            )
        return actions, sum(ms for _, ms in cut) if cut else None

    def _cut(self, item: Item, heard_ms: int, written_ms: float) -> list[Action]:
        voice = self._voices.get(item.response_id)
        if voice is not None:
            voice.cut, voice.heard = True, voice.heard or heard_ms > 0
        share = heard_ms / written_ms if written_ms else 0.0
        told = self.history.heard(item.item_id, min(share, 1.0), item.turn) if heard_ms else []
        if not heard_ms:
            self.history.unheard(item.item_id)
        if item.link != self.link:
            return told
        self._forgotten.add(item.item_id)
        return [Forget(item.item_id, heard_ms), *told]
