"""A call that is not held: because its settings are wrong, or there are calls enough.

What follows is what follows any failure, IVR_AI_FAILURE_ACTION, as far as that can be known. A call that has
not been answered stays so, and its caller's gateway may try another; a caller who has been answered hears the
apology.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ivr_ai import failure
from ivr_ai.config import ConfigError, Settings
from ivr_ai.config.kinds import BadValueError
from ivr_ai.config.settings import BY_ATTRIBUTE, SETTINGS
from ivr_ai.config.sources import gather
from ivr_ai.leg import Leg

CONGESTION = "SWITCH_CONGESTION"  # a caller's gateway gets 503
NEEDED = ("failure_action", "failure_transfer", "apology_text", "apology_file", "log_level")


def settings_left(
    agent: str | None, channel: Mapping[str, str] | Callable[[str], str | None] | None
) -> Settings:
    """The settings that say what follows a failure, of a call whose settings are wrong; wrong ones are left
    out.

    agent, channel: as for Settings.load(). Raises nothing that they do not raise.
    """
    values = gather(SETTINGS, None, None, agent, None, channel).values
    found = {name: values[name] for name in NEEDED if name in values and _is_good(name, values[name])}
    try:
        return Settings(**found)
    except ConfigError:  # a transfer without an extension, say
        return Settings(**{name: value for name, value in found.items() if name != "failure_action"})


def _is_good(name: str, value: object) -> bool:
    try:
        BY_ATTRIBUTE[name].kind.parse(value)
    except BadValueError:
        return False
    return True


def refuse(leg: Leg, settings: Settings, cause: str = failure.CAUSE) -> None:
    """Ends a call as settings say, without a conversation. On the call's thread. cause: of a hang-up."""
    if leg.answered():
        failure.play_apology(leg, settings)
    failure.act(leg, settings, cause)
