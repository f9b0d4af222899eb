"""Headers that settings may name, and those that they may not."""

from __future__ import annotations

import pytest

from ivr_ai.config.headers import HEADERS_MAX, TEXT_MAX, HeaderName, Headers
from ivr_ai.config.kinds import BadValueError


def refusal(kind, value) -> str:
    with pytest.raises(BadValueError) as caught:
        kind.parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ('{"X-Tenant": "blue", "X-N": " 1 "}', (("X-Tenant", "blue"), ("X-N", "1"))),
        ({"X-Tenant": "blue"}, (("X-Tenant", "blue"),)),  # a TOML table
        ((("X-Tenant", "blue"),), (("X-Tenant", "blue"),)),  # what is read already
        ('{"X-Caller": "André", "X-Odd": "[{\\"a\\":1}]"}', (("X-Caller", "André"), ("X-Odd", '[{"a":1}]'))),
        ("{}", ()),
        (" ", ()),
        ({}, ()),
    ],
)
def test_headers_that_can_be_sent(value, pairs):
    assert Headers().parse(value) == pairs
    assert Headers().parse(Headers().text(pairs)) == pairs


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("X-Tenant: blue", "it is not JSON at character 1"),
        ('{"X-A": "b"', "it is not JSON"),
        ("[]", "a JSON object of strings"),
        ("5", "a JSON object of strings"),
        ("null", "a JSON object of strings"),
        ('{"X-A": 5}', "the value of X-A is not text"),
        ({"X-A": True}, "the value of X-A is not text"),
        ('{"X-A": {"b": "c"}}', "a JSON object of strings"),
        ('{"X-A": ["b"]}', "a JSON object of strings"),
        ('{"X-A": "b\\r\\nX-B: c"}', "the value of X-A has a line end"),
        ('{"X-A": "b\\u0000"}', "the value of X-A has a line end or another control character"),
        ('{"X A": "b"}', "letters, digits and dashes"),
        ('{"X-A:": "b"}', "letters, digits and dashes"),
        ('{"X\\nY": "b"}', "letters, digits and dashes"),
        ('{"": "b"}', "letters, digits and dashes"),
        ('{"X-A": "b", "x-a": "c"}', "x-a is there twice"),
        ('{"X-A": "b", "X-A": "c"}', "X-A is there twice"),
        ({f"X-{n}": "b" for n in range(HEADERS_MAX + 1)}, f"at most {HEADERS_MAX} headers"),
        ('{"X-A": "' + "b" * TEXT_MAX + '"}', f"at most {TEXT_MAX} characters"),
        (7, "a JSON object of strings"),
    ],
)
def test_headers_that_cannot_be_sent(value, why):
    assert why in refusal(Headers(), value)


def test_values_are_in_no_refusal():
    for value in ('{"X-A": "secret\\n"}', '{"X-A": secret}', {"X-A": ["secret"]}):
        assert "secret" not in refusal(Headers(), value)


@pytest.mark.parametrize("depth", [2, 1300])
def test_brackets_in_brackets_never_reach_the_parser(depth):
    """It recurses, and the threads that FreeSWITCH lends have 240 KB of stack."""
    assert "a JSON object of strings" in refusal(Headers(), "[" * depth)
    assert "a JSON object of strings" in refusal(Headers(), '{"a":' * depth)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Host",
        "upgrade",
        "Keep-Alive",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Content-Length",
        "Sec-WebSocket-Key",
        "sec-websocket-protocol",
        "Sec-WebSocket-Extensions",
    ],
)
def test_the_connections_own_headers(name):
    assert f"{name} is the connection's own" in refusal(Headers(), {name: "x"})
    assert f"{name} is the connection's own" in refusal(HeaderName(), name)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("AUTO", "auto"),
        ("Authorization", "Authorization"),
        (" api-key: ", "api-key"),
        ("X-Goog-Api-Key", "X-Goog-Api-Key"),
    ],
)
def test_names_of_headers(value, name):
    assert HeaderName().parse(value) == name


@pytest.mark.parametrize("value", ["", "two words", "a\nb", "é", "x" * 101, 5])
def test_what_is_no_header(value):
    assert "a header's name, such as Authorization or api-key" in refusal(HeaderName(), value)
