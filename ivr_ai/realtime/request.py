"""The request that opens a connection to a Realtime server: where to, as whom, and in which dialect.

Both transports and `ivr-ai doctor` send the same. User and password leave the URL and become a header, so
that no transport's log or error can show them.

Source: RFC 9110 10.1.5 (User-Agent), RFC 7617 (Basic), OpenAI Realtime API reference (model in the query).
"""

from __future__ import annotations

import base64
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

from ivr_ai import __version__
from ivr_ai.config import Settings
from ivr_ai.config.service import AUTHORIZATION, has_user, is_azure, key_header
from ivr_ai.realtime.dialects import BetaDialect, Dialect, GaDialect

USER_AGENT = f"ivr_ai/{__version__}"
_NAMES_THE_MODEL = {"model", "deployment", "call_id"}  # in a URL's query


def make_dialect(settings: Settings) -> Dialect:
    """The dialect that the settings ask for."""
    return BetaDialect(settings.temperature) if settings.effective_dialect == "beta" else GaDialect()


def request_url(settings: Settings) -> str:
    """The URL without its user, and with the model in its query unless that names one or a deployment."""
    parts = urlsplit(settings.realtime_url)
    parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    if not _NAMES_THE_MODEL & parse_qs(parts.query).keys():
        query = f"{parts.query}&" if parts.query else ""
        parts = parts._replace(query=query + urlencode({"model": settings.model}))
    return parts.geturl()


def request_headers(settings: Settings, dialect: Dialect) -> dict[str, str]:
    """What the dialect needs, who we are, and OPENAI_EXTRA_HEADERS, which win over headers of ours."""
    headers = {"User-Agent": USER_AGENT}
    if not is_azure(settings.realtime_url):
        headers.update(dialect.headers)
    headers.update(_credentials(settings))
    for name, value in settings.extra_headers:
        for ours in [each for each in headers if each.lower() == name.lower()]:
            del headers[ours]
        headers[name] = value
    return headers


def _credentials(settings: Settings) -> dict[str, str]:
    """The user of the URL as Basic, and the key. A key that has been told to take Authorization keeps it."""
    headers = {}
    if has_user(settings.realtime_url):
        headers[AUTHORIZATION] = _basic(urlsplit(settings.realtime_url))
    name = key_header(settings)
    if name.lower() == AUTHORIZATION.lower():
        headers[AUTHORIZATION] = f"Bearer {settings.api_key}"
    elif name:
        headers[name] = settings.api_key
    return headers


def _basic(parts: SplitResult) -> str:
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
