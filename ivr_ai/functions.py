"""What the model may call: functions of the application, by name, with JSON on either side."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ivr_ai.conversation.actions import RunFunction

log = logging.getLogger("ivr_ai.call")

Function = Callable[[dict[str, Any]], Any]


class Functions:
    """Those of one call. Thread-safe as far as the functions are."""

    def __init__(self, uuid: str, functions: Mapping[str, Function] | None) -> None:
        self._uuid, self._functions = uuid, dict(functions or {})

    def output(self, call: RunFunction) -> str:
        """What a function gives back, as JSON; what is wrong with it where it fails. Raises nothing."""
        function = self._functions.get(call.name)
        if function is None:
            return json.dumps({"error": f"there is no function {call.name!r}"})
        try:
            return json.dumps(function(_arguments(call.arguments)))
        except (
            BaseException
        ) as error:  # whatever a function does, sys.exit() included, the conversation goes on
            log.warning("call %s: function %s failed: %s", self._uuid, call.name, error)
            return json.dumps({"error": f"{type(error).__name__}: {error}"})


def _arguments(text: str) -> dict[str, Any]:
    """Raises ValueError for what is not a JSON object."""
    arguments = json.loads(text or "{}")
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments are not a JSON object: {text:.80}")
    return arguments
