"""Whose server OPENAI_REALTIME_URL leads to, and where that server looks for the key.

Source: Azure OpenAI reference, Authentication: a key goes as `api-key`, an Entra token as a bearer's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .settings import Settings

AUTHORIZATION = "Authorization"
_AZURE = ("azure.com", "azure.us", "azure.cn")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)  # RFC 7519: base64url of `{"...`, three parts


def is_openai(url: str) -> bool:
    """Whether the URL is one of OpenAI's own."""
    return _is_of(url, ("openai.com",))


def is_azure(url: str) -> bool:
    """Whether the URL is one of Azure's clouds: public, US government, China."""
    return _is_of(url, _AZURE)


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_of(url: str, domains: tuple[str, ...]) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    return any(host == domain or host.endswith("." + domain) for domain in domains)


def has_user(url: str) -> bool:
    """Whether the URL has a user in it, who takes the Authorization header."""
    parts = urlsplit(url)
    return bool(parts.username or parts.password)


def key_header(settings: Settings) -> str:
    """The header that carries the key, as OPENAI_API_KEY_HEADER has it; "" when none does."""
    if not settings.api_key:
        return ""
    if settings.api_key_header != "auto":
        return settings.api_key_header
    if is_azure(settings.realtime_url) and not _JWT.fullmatch(settings.api_key):
        return "api-key"
    return "" if has_user(settings.realtime_url) else AUTHORIZATION


def replaces_key(settings: Settings) -> bool:
    """Whether OPENAI_EXTRA_HEADERS has the header that would carry the key."""
    header = key_header(settings).lower()
    return bool(header) and any(name.lower() == header for name, _ in settings.extra_headers)
