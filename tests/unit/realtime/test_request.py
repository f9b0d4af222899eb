"""How a server is asked: where to, in which dialect, as whom."""

from __future__ import annotations

import pytest

from ivr_ai import __version__
from ivr_ai.config import Settings
from ivr_ai.realtime.dialects import BetaDialect, GaDialect
from ivr_ai.realtime.native import NativeTransport
from ivr_ai.realtime.request import make_dialect, request_headers, request_url
from ivr_ai.realtime.transport import ConnectError, TransportClosed
from ivr_ai.realtime.websocket_client import Attempt
from ivr_ai.sim.server import SimServer

KEY = "sk-proj-very-secret"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9.c2lnbmF0dXJl"
AGENT = {"User-Agent": f"ivr_ai/{__version__}"}
AZURE = "wss://my.openai.azure.com/openai/realtime"


def settings(url: str = "ws://localhost/", **changed) -> Settings:
    return Settings(**{"realtime_url": url, "api_key": KEY, **changed})


def headers(url: str = "ws://localhost/", dialect=None, **changed) -> dict[str, str]:
    return request_headers(settings(url, **changed), dialect or GaDialect())


ADDRESSES = [
    ("wss://api.openai.com/v1/realtime", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
    ("ws://host:8765/x/y", "ws://host:8765/x/y?model=gpt-realtime-2.1"),
    ("ws://host", "ws://host?model=gpt-realtime-2.1"),
    ("ws://host/?intent=transcription", "ws://host/?intent=transcription&model=gpt-realtime-2.1"),
    ("wss://host/?model=mine", "wss://host/?model=mine"),
    ("wss://host/?call_id=rtc_1", "wss://host/?call_id=rtc_1"),
    (f"{AZURE}?api-version=2025-04-01&deployment=d", f"{AZURE}?api-version=2025-04-01&deployment=d"),
    ("ws://[::1]:1/", "ws://[::1]:1/?model=gpt-realtime-2.1"),
    ("wss://user:pass@host:1/x", "wss://host:1/x?model=gpt-realtime-2.1"),
    ("wss://user:pass@host/?model=mine", "wss://host/?model=mine"),
]


class TestAddress:
    @pytest.mark.parametrize(("url", "request_to"), ADDRESSES)
    def test_the_model_is_named_unless_the_url_does_and_the_user_is_left_out(self, url, request_to):
        assert request_url(settings(url, model="gpt-realtime-2.1")) == request_to

    def test_a_name_is_quoted(self):
        assert request_url(settings("ws://h/", model="a&b=c")) == "ws://h/?model=a%26b%3Dc"

    @pytest.mark.parametrize(
        ("changed", "kind"),
        [
            ({}, GaDialect),
            ({"dialect": "beta"}, BetaDialect),
            ({"realtime_url": "ws://h/?api-version=1"}, BetaDialect),
            ({"realtime_url": "ws://h/?api-version=1", "dialect": "ga"}, GaDialect),
        ],
    )
    def test_the_dialect(self, changed, kind):
        assert type(make_dialect(settings(**changed))) is kind


class TestKey:
    def test_as_a_bearers(self):
        assert headers() == {**AGENT, "Authorization": f"Bearer {KEY}"}

    def test_none(self):
        assert headers(api_key="") == AGENT
        assert headers(api_key="", api_key_header="api-key") == AGENT

    @pytest.mark.parametrize("dialect", [GaDialect(), BetaDialect()], ids=["ga", "beta"])
    def test_azure_wants_it_in_another_header_and_no_word_of_beta(self, dialect):
        assert headers(AZURE, dialect) == {**AGENT, "api-key": KEY}

    def test_an_entra_token_is_a_bearers_on_azure(self):
        assert headers(AZURE, api_key=TOKEN) == {**AGENT, "Authorization": f"Bearer {TOKEN}"}

    @pytest.mark.parametrize(
        ("name", "sent"),
        [
            ("authorization", {"Authorization": f"Bearer {KEY}"}),
            ("api-key", {"api-key": KEY}),
            ("X-Api-Key", {"X-Api-Key": KEY}),
        ],
    )
    @pytest.mark.parametrize("url", ["ws://localhost/", AZURE])
    def test_in_the_header_that_was_named(self, url, name, sent):
        assert headers(url, api_key_header=name) == {**AGENT, **sent}


class TestOtherHeaders:
    def test_beta_says_so(self):
        assert headers(dialect=BetaDialect(), api_key="") == {**AGENT, "OpenAI-Beta": "realtime=v1"}

    def test_extra_ones(self):
        extra = {"X-Tenant": "blue", "OpenAI-Organization": "org"}
        assert headers(extra_headers=extra) == {**AGENT, "Authorization": f"Bearer {KEY}", **extra}

    def test_extra_ones_replace_ours_in_any_case(self):
        extra = {"user-agent": "mine/1", "AUTHORIZATION": "Token x", "openai-beta": "y"}
        assert headers(dialect=BetaDialect(), extra_headers=extra) == extra

    def test_the_user_of_the_url(self):
        basic = "Basic dXNlcjpww6QvOnNz"  # user:pä/:ss
        assert headers("ws://user:p%C3%A4%2F%3Ass@h/", api_key="") == {**AGENT, "Authorization": basic}
        sent = headers("ws://user:p%C3%A4%2F%3Ass@h/", api_key_header="api-key")
        assert sent == {**AGENT, "Authorization": basic, "api-key": KEY}


class Heard:
    """What the native transport tells; nothing is asked of it here."""

    def on_open(self) -> None: ...

    def on_event(self, event) -> None: ...

    def on_closed(self, error: ConnectError | TransportClosed) -> None: ...


@pytest.mark.parametrize("transport", ["native", "python"])
def test_what_the_server_really_gets(transport):
    extra = {"X-Tenant": "blue", "X-Caller": "André"}
    with SimServer(voice="tone", require_key=KEY) as sim:
        url = sim.url.replace("ws://", "ws://user:pass@")
        chosen = settings(url, model="gpt-any", api_key_header="api-key", extra_headers=extra)
        if transport == "native":
            connection = NativeTransport(chosen, Heard())
            connection.open()
        else:
            connection = Attempt(chosen).connect()
        record = sim.wait_session()
        connection.release()
    sent = {name: record.headers.get(name) for name in ("user-agent", "authorization", "api-key", "x-tenant")}
    assert sent == {
        "user-agent": AGENT["User-Agent"],
        "authorization": "Basic dXNlcjpwYXNz",
        "api-key": KEY,
        "x-tenant": "blue",
    }
    assert record.headers["x-caller"].encode("latin-1") == "André".encode()
    assert record.query == {"model": "gpt-any"}
