"""The conversation under events in any order: a model of the world around it checks what it does.

Seeded: a failure names its settings, its seed and the steps that led to it, and happens again every time.
"""

from __future__ import annotations

import pytest
from talk_world import GREETING, World

STEPS = 40
SEEDS = range(200)
SETTINGS = [
    {},
    {"barge_in": False},
    {"greeting": GREETING, "turn_detection": "semantic_vad"},
    {"greeting": GREETING, "greeting_interruptible": True},
    {"greeting": GREETING, "barge_in": False},
    {"turn_detection": "none"},
    {"input_mode": "item", "greeting": GREETING},
    {"input_mode": "item", "barge_in": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_whatever_the_order(settings):
    """Nothing is asked twice or over the caller, nothing old is heard, and whoever waits is answered."""
    for seed in SEEDS:
        world = World(seed, **settings)
        try:
            world.run(STEPS)
        except Exception as error:
            steps = "\n".join(world.steps[-60:])
            raise AssertionError(
                f"seed {seed}, {settings}, {world.kind}: {error!r} after\n{steps}"
            ) from error
