"""Which transport a call uses."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

from ivr_ai.config import Settings
from ivr_ai.realtime.session_update import server_takes_turns

log = logging.getLogger("ivr_ai.realtime")


def _proxied(url: str) -> bool:
    """Whether the environment wants a proxy for this URL, as websocket-client reads it."""
    if not any(name.lower() in ("http_proxy", "https_proxy") and os.environ[name] for name in os.environ):
        return False
    from websocket._url import get_proxy_info  # only here: with ssl and all it costs megabytes

    where = urlsplit(url)
    return get_proxy_info(where.hostname or "", where.scheme == "wss")[0] is not None


def needs_python(settings: Settings) -> str:
    """Why a call with these settings cannot use the native transport; "" when it can."""
    if not server_takes_turns(settings):
        return "turns are decided here (OPENAI_TURN_DETECTION=none or OPENAI_INPUT_MODE=item)"
    return "the environment names a proxy" if _proxied(settings.realtime_url) else ""


def choose(settings: Settings) -> str:
    """ "native" or "python": what IVR_AI_TRANSPORT names, or the only one that can."""
    why = needs_python(settings) if settings.transport == "native" else ""
    if why:
        log.info("python transport instead of native: %s", why)
        return "python"
    return settings.transport
