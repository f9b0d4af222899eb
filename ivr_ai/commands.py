"""`python ivr_ai.app <words>` in fs_cli and in the dialplan: what each does and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ivr_ai import __version__

if TYPE_CHECKING:
    from ivr_ai.runtime import Runtime

USAGE = "status | version | start <uuid> [agent] | stop <uuid> | drain | undrain"


def answer(runtime: Runtime, args: str | None) -> str:
    """The answer to a command, lines that end with a newline; -ERR and why for what cannot be done."""
    name, *rest = (args or "").split() or ["status"]
    match name, rest:
        case "status", []:
            return json.dumps(runtime.status()) + "\n"
        case "version", []:
            return f"ivr_ai {__version__}\n"
        case "start", [uuid]:
            return runtime.start(uuid)
        case "start", [uuid, agent]:
            return runtime.start(uuid, agent)
        case "stop", [uuid]:
            return runtime.stop(uuid)
        case "drain", []:
            return runtime.drain()
        case "undrain", []:
            return runtime.undrain()
    return f"-ERR cannot read {args!r}\n-USAGE: python ivr_ai.app {USAGE}\n"
