"""Servers that mind anything, and say so clearly or not at all."""

from __future__ import annotations

import copy
import itertools
import random

import pytest
from negotiating import BOTH, FIELDS, FULL, GREETING, PCMA, PCMU, SEMANTIC, WIDE, Talk, beta_name

from ivr_ai.realtime.negotiation import Impossible, Send
from ivr_ai.realtime.session_update import (
    FORMATS,
    IF_NAMED,
    OPTIONAL,
    TURN_DETECTION,
    TURN_DETECTION_TYPE,
    value_at,
)


class Choosy:
    """A server that has a session, minds some fields or values of it, and says so clearly or not at all."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        minded = [
            *OPTIONAL,
            *IF_NAMED,
            f"{FORMATS[0]}.type",
            f"{FORMATS[1]}.type",
            TURN_DETECTION_TYPE,
            "instructions",
        ]
        self.minds = set(random_.sample(minded, random_.randrange(0, 9)))
        if random_.random() < 0.8:
            self.minds.discard("instructions")
        self.naming = random_.choice(["param", "beta", "message", "nothing", "any"])
        self.named: set[str] = set()
        self.session: dict = {}

    def _minded(self, path: str, session: dict) -> bool:
        value = value_at(session, path)
        fine = {TURN_DETECTION_TYPE: ("server_vad", None), f"{FORMATS[0]}.type": ("audio/pcm", None)}
        fine[f"{FORMATS[1]}.type"] = fine[f"{FORMATS[0]}.type"]
        return value not in fine.get(path, (None,))

    def answer(self, event: dict) -> dict:
        session = event["session"]
        assert not [path for path in self.named if self._minded(path, session)], "it was told that already"
        found = sorted(path for path in self.minds if self._minded(path, session))
        if found:
            return {"type": "error", "error": self._complaint(self._random.choice(found), event["event_id"])}
        merge(self.session, session)
        states = copy.deepcopy(self.session) if self._random.random() < 0.5 else {}
        return {"type": "session.updated", "session": states}

    def _complaint(self, path: str, event_id: str) -> dict:
        ways = ["param", "beta", "message", "nothing"]
        how = self._random.choice(ways) if self.naming == "any" else self.naming
        if how != "nothing":
            self.named.add(path)
        param = {"param": f"session.{path}", "beta": f"session.{beta_name(path)}"}.get(how)
        message = f"Unknown parameter: 'session.{path}'." if how == "message" else "No."
        return {"code": "invalid_value", "message": message, "param": param, "event_id": event_id}


def merge(place: dict, more: dict) -> None:
    for name, value in more.items():
        if (
            isinstance(value, dict)
            and isinstance(place.get(name), dict)
            and name not in ("format", "turn_detection")
        ):
            merge(place[name], value)
        else:
            place[name] = copy.deepcopy(value)


WIRES, TURNS = (PCMU, PCMA, WIDE), (GREETING, BOTH)
CHANGED = [{}, FULL, SEMANTIC, {"input_mode": "item"}, {"audio_format": "pcm", "input_rate_hz": 16000}]


@pytest.mark.parametrize("seed", range(400))
def test_whatever_a_server_minds_it_ends_agreed_or_said_to_be_impossible(seed):
    random_ = random.Random(seed)
    server, changed = Choosy(random_), random_.choice(CHANGED)
    talk = Talk(wire=random_.choice(WIRES), **changed)
    on_their_way = list(talk.begin())
    told: set[str] = set()
    for step_number in itertools.count():
        assert step_number < 30, "it goes on and on"
        if step_number < 10 and random_.random() < 0.2 and talk.it.agreed and not changed.get("input_mode"):
            on_their_way += talk.want(wire=random_.choice(WIRES), turns=random_.choice(TURNS))
        sends = [step for step in on_their_way if isinstance(step, Send)]
        if not sends:
            break
        on_their_way.remove(sends[0])
        assert not [path for path in told if value_at(sends[0].event["session"], path) is not None]
        answer = server.answer(sends[0].event)
        on_their_way += answered(talk, answer)
        told |= {path for path in talk.refused if path in FIELDS}
    ended = [step for step in talk.steps if isinstance(step, Impossible)]
    if ended:
        assert len(ended) == 1 and talk.it.agreed is None
        return
    assert not talk.it.is_open
    assert [talk.it.agreed.heard.ga_wire, talk.it.agreed.said.ga_wire] == [
        value_at(server.session, p) for p in FORMATS
    ]
    detection = value_at(server.session, TURN_DETECTION)
    assert talk.it.agreed.turns.detects is (detection is not None)
    if detection is not None:
        assert talk.it.agreed.turns.asks is detection.get("create_response", True)


def answered(talk: Talk, answer: dict) -> list:
    if answer["type"] == "session.updated":
        return talk.accept(**answer["session"])
    assert talk.it.is_about_update(answer["error"])
    return talk.note(talk.it.refused(answer["error"]))
