"""Whose server it is, and which header takes the key there."""

from __future__ import annotations

import pytest

from ivr_ai.config import Settings
from ivr_ai.config.service import is_azure, is_loopback, is_openai, key_header, replaces_key

KEY = "sk-proj-very-secret"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9.c2lnbmF0dXJl-_"


@pytest.mark.parametrize(
    "host",
    [
        "my.openai.azure.com",
        "azure.com",
        "MY.OpenAI.Azure.com",
        "x.services.ai.azure.com:443",
        "x.cognitiveservices.azure.com",
        "my.openai.azure.us",
        "x.cognitiveservices.azure.us",
        "my.openai.azure.cn",
        "my.openai.azure.com.",
    ],
)
def test_hosts_of_azure(host):
    url = f"wss://{host}/openai/realtime"
    assert is_azure(url)
    assert key_header(Settings(realtime_url=url, api_key=KEY)) == "api-key"
    assert key_header(Settings(realtime_url=url, api_key=TOKEN)) == "Authorization"


@pytest.mark.parametrize(
    "host", ["notazure.com", "azure.com.example.org", "azure.company.org", "azure.us.example", "h"]
)
def test_hosts_that_only_look_like_azure(host):
    assert not is_azure(f"wss://{host}/")
    assert key_header(Settings(realtime_url=f"wss://{host}/", api_key=KEY)) == "Authorization"


@pytest.mark.parametrize(
    "key", ["eyJ", "eyJhbGci.short", "eyJa.b.c.d", "fyJhbGci.eyJ9.x", "0123456789abcdef0123456789abcdef"]
)
def test_keys_that_are_no_tokens(key):
    assert key_header(Settings(realtime_url="wss://x.openai.azure.com/", api_key=key)) == "api-key"


def test_what_was_named_counts_everywhere():
    for url in ("wss://x.openai.azure.com/", "wss://h/", "wss://user:pw@h/"):
        settings = Settings(realtime_url=url, api_key=KEY, api_key_header="X-Key")
        assert key_header(settings) == "X-Key"


def test_no_header_takes_no_key():
    assert key_header(Settings(realtime_url="wss://h/", api_key_header="X-Key")) == ""


def test_a_user_in_the_url_takes_authorization():
    assert key_header(Settings(realtime_url="wss://user:pw@h/", api_key=KEY)) == ""
    assert key_header(Settings(realtime_url="wss://user:pw@x.azure.com/", api_key=KEY)) == "api-key"
    assert key_header(Settings(realtime_url="wss://@h/", api_key=KEY)) == "Authorization"


def test_extra_headers_may_take_the_keys_place():
    settings = Settings(realtime_url="wss://h/", api_key=KEY, extra_headers={"authorization": "Custom x"})
    assert replaces_key(settings)
    assert not replaces_key(settings.replace(api_key=""))
    assert not replaces_key(settings.replace(api_key_header="api-key"))


def test_openai_and_this_machine():
    assert is_openai("wss://api.openai.com/v1/realtime")
    assert is_openai("wss://eu.api.openai.com/v1/realtime")
    assert not is_openai("wss://openai.com.example/")
    assert [is_loopback(host) for host in ("localhost", "::1", "127.0.0.2", "10.0.0.1")] == [
        True,
        True,
        True,
        False,
    ]
