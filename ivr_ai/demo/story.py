"""The demo's plan: who says what, when the caller interrupts, and the settings the call runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from ivr_ai.config import SETTINGS
from ivr_ai.gateways.caller import Hangup, Say, Step
from ivr_ai.sim.dialogue import Dialogue, DialogueError

DIALOGUE = Path(__file__).resolve().parents[2] / "conf" / "dialogues" / "demo.toml"
CALLER_VOICE, AI_VOICE = "en-gb", "en-us+f3"
INTERRUPT_AFTER_MS = 3600  # in the middle of a word of the reply to the second turn
THINK_MS = 700  # the caller's pause before it answers
LINGER_MS = 900  # and before it hangs up
QUIET_MS = 800  # silence after which the caller takes a reply for over
PATIENCE_S = 20.0

# What reaching a server may need besides settings.
PASSED_ON = {"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}

# What a real model is told, so that it plays the part the simulated one has by script.
INSTRUCTIONS = """You answer the telephone of Harbour Kitchen, a restaurant. You can book tables: assume
that any time and any number of guests is fine, and ask for nothing but the time. Keep to one or two short
sentences, except when asked about the menu: then describe every dish at length, in at least six sentences.
Tonight's dishes: grilled sea bass with fennel and lemon, slow cooked shoulder of lamb with rosemary, wild
mushroom risotto, warm chocolate tart with salted caramel ice cream."""
GREETING = "Greet the caller in the name of Harbour Kitchen and ask how you can help, in one short sentence."


@dataclass(frozen=True)
class Story:
    """What is going to happen: the simulated model's dialogue, and what the caller does."""

    dialogue: Dialogue
    script: Sequence[Step]
    turns: int
    barge_ins: int

    @classmethod
    def load(cls, path: Path = DIALOGUE) -> Story:
        """Reads a dialogue: the caller says its `heard` lines in turn and interrupts the last reply but one.

        Raises DialogueError for one that cannot be read, or has fewer than three turns with something to say.
        """
        if not path.is_file():
            raise DialogueError(f"{path} is not there: the demo runs from the source tree, `make demo`")
        dialogue = Dialogue.load(path)
        lines = [turn.heard for _, turn in sorted(dialogue.turns.items()) if turn.heard]
        if len(lines) < 3:
            raise DialogueError(
                f"{path}: a demo needs three turns with `heard`, the caller's line, not {len(lines)}"
            )
        return cls(dialogue, _script(lines), turns=len(lines), barge_ins=1)


def _script(lines: Sequence[str]) -> list[Step]:
    *calm, interruption = lines
    steps: list[Step] = [Say(line, after="reply_end", delay_ms=THINK_MS) for line in calm]
    return [
        *steps,
        Say(interruption, after="reply_start", delay_ms=INTERRUPT_AFTER_MS),
        Hangup(after="reply_end", delay_ms=LINGER_MS),
    ]


def sim_settings(url: str) -> dict[str, str]:
    """Settings for a call to the simulated model, whatever the environment says."""
    return {
        "OPENAI_REALTIME_URL": url,
        "OPENAI_API_KEY": "not-needed-by-the-simulator",
        "OPENAI_TRANSCRIPTION_MODEL": "gpt-live-transcribe",
        **_common(),
    }


def openai_settings(environ: Mapping[str, str], env_file: Path = Path(".env")) -> dict[str, str]:
    """The settings of the environment and of .env, with the demo's part for what they leave open.

    Values in .env are taken literally, as calls take them: `${...}` is not expanded.
    """
    told = {**dotenv_values(env_file, interpolate=False), **environ}
    names = {row.name for row in SETTINGS} | PASSED_ON
    return {**_common(), **{name: value for name, value in told.items() if name in names and value}}


def _common() -> dict[str, str]:
    return {"OPENAI_GREETING": GREETING, "OPENAI_SYSTEM_INSTRUCTIONS": " ".join(INSTRUCTIONS.split())}
