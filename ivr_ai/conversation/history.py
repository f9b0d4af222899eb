"""What both sides have said, as it was heard: for reports, and for a model that has to begin again.

Of an item that was cut short as many words count as the share of it that was heard. Texts may come before
or after their items have been heard; what was never heard is left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from ivr_ai.conversation.actions import Action, Notify

ENTRIES_KEPT = 200
TEXT_MAX_CHARACTERS = 4000  # of one entry: an item's transcript is a few sentences


@dataclass
class Entry:
    """One contribution. role: user, assistant, call (a function's) or output. share: how much of it was
    heard."""

    role: str
    text: str | None = None
    item_id: str = ""
    share: float | None = 1.0
    turn: int = 0
    call_id: str = ""
    name: str = ""

    @property
    def heard_text(self) -> str:
        """The words that were heard."""
        words = (self.text or "").split()
        share = self.share or 0.0
        return (self.text or "").strip() if share >= 1.0 else " ".join(words[: int(len(words) * share)])


class History:
    """That of one conversation. Not thread-safe."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_KEPT)

    def _find(self, item_id: str) -> Entry | None:
        return next((entry for entry in reversed(self._entries) if entry.item_id == item_id), None)

    # ---- the model -----------------------------------------------------------------------------------------

    def spoken(self, item_id: str) -> None:
        """The model begins to say an item."""
        if self._find(item_id) is None:
            self._entries.append(Entry("assistant", item_id=item_id, share=None))

    def text(self, item_id: str, text: str) -> list[Action]:
        """The words of an item. Told at once when it has been heard already."""
        entry = self._find(item_id)
        if entry is None or entry.text is not None:
            return []
        entry.text = text[:TEXT_MAX_CHARACTERS]
        return self._tell(entry) if entry.share is not None else []

    def heard(self, item_id: str, share: float, turn: int) -> list[Action]:
        """This share of an item was heard, and no more will be."""
        entry = self._find(item_id)
        if entry is None or entry.share is not None:
            return []
        entry.share, entry.turn = share, turn
        return self._tell(entry) if entry.text is not None else []

    def unheard(self, item_id: str) -> None:
        """Nothing of an item was heard, or ever will be."""
        entry = self._find(item_id)
        if entry is not None:
            self._entries.remove(entry)

    @staticmethod
    def _tell(entry: Entry) -> list[Action]:
        data: dict[str, Any] = {"item": entry.item_id, "turn": entry.turn, "text": entry.heard_text}
        if (entry.share or 0.0) < 1.0:
            data["cut"] = True
        return [Notify("ai_said", data)]

    # ---- the caller and functions --------------------------------------------------------------------------

    def turn(self, item_id: str, turn: int) -> None:
        """The caller's turn, whose words may follow."""
        if item_id and self._find(item_id) is None:
            self._entries.append(Entry("user", item_id=item_id, turn=turn))

    def caller_text(self, item_id: str, text: str, turn: int) -> int:
        """The words of a turn. Returns the turn's number: the one it was told under, or else `turn`."""
        entry = self._find(item_id) if item_id else None
        if entry is None:
            entry = Entry("user", item_id=item_id, turn=turn)
            self._entries.append(entry)
        entry.text = text[:TEXT_MAX_CHARACTERS]
        return entry.turn

    def called(self, call_id: str, name: str, arguments: str) -> None:
        """The model has called a function."""
        self._entries.append(Entry("call", arguments, call_id=call_id, name=name))

    def returned(self, call_id: str, output: str) -> None:
        """What the function gave back."""
        self._entries.append(Entry("output", output, call_id=call_id))

    # ---- all of it -----------------------------------------------------------------------------------------

    def entries(self, before: int | None = None) -> list[Entry]:
        """What was said and heard, in order; of the caller's words only what was said before a turn.

        Items that are still playing count as heard to their ends. Calls of functions count once they have an
        output; an output counts with its call.
        """
        called = {entry.call_id for entry in self._entries if entry.role == "call"}
        answered = called & {entry.call_id for entry in self._entries if entry.role == "output"}
        kept = []
        for entry in self._entries:
            if entry.role == "assistant" and entry.share is None:
                entry = Entry("assistant", entry.text, entry.item_id, 1.0, entry.turn)
            wanted = entry.call_id in answered if entry.call_id else bool(entry.heard_text)
            known = entry.role != "user" or before is None or entry.turn < before
            if wanted and known:
                kept.append(entry)
        return kept
