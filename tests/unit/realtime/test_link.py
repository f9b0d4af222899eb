"""A link over a transport that does as told, by a clock that goes as told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from listening import PCMU, Ear
from waiting import until

from ivr_ai.audio.formats import Format
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime import link as link_module
from ivr_ai.realtime.dialects import BetaDialect
from ivr_ai.realtime.link import FIRST_WORD_S, GRACE_S, REFUSED_S, RETRY_S, Gone, Link
from ivr_ai.realtime.negotiation import PCM, Agreed
from ivr_ai.realtime.transport import ConnectError, TransportClosed
from ivr_ai.workers import Workers

WIDE = Format("s16", 48000)
BOTH, GREETING = Turns(), Turns(True, False, False)
BETA_SESSION = {"modalities": ["audio", "text"], "input_audio_format": "g711_ulaw"}
RESET = ConnectError("127.0.0.1:1: reset", passing=True)
REFUSED = ConnectError("127.0.0.1:1 refused the connection", passing=True, refused=True)
DENIED = ConnectError("127.0.0.1:1 answered HTTP 401", http_status=401)


class Fake:
    """Stands for NativeTransport: one attempt, which the test plays."""

    pings_itself = True
    fails: ConnectError | None = None  # what open() raises

    def __init__(self, settings: Settings, hearer: Any, *, events: Any = None) -> None:
        self.hearer, self.events = hearer, set(events)
        self.sent: list[dict[str, Any]] = []
        self.dialects: list[Any] = []
        self.did: list[str] = []
        self.before_send: Callable[[], None] = lambda: None

    def open(self) -> None:
        self.did.append("open")
        if self.fails is not None:
            raise self.fails

    def send(self, event: dict[str, Any]) -> None:
        self.before_send()
        self.sent.append(event)

    def set_dialect(self, dialect: Any) -> None:
        self.dialects.append(dialect)

    def abort(self) -> None:
        self.did.append("abort")

    def close(self) -> None:
        self.did.append("close")

    def release(self) -> None:
        self.did.append("release")


class Test:
    """A link, its attempts and its clock."""

    __test__ = False

    def __init__(self, fakes: list[Fake], **settings: Any) -> None:
        self.fakes, self.ear, self.now_s = fakes, Ear(), 100.0
        self.settings = Settings(realtime_url="ws://localhost/", connect_timeout_ms=3000, **settings)
        self.workers = Workers("test", lambda name, error: None)
        self.link = Link(self.settings, self.ear, PCMU, self.workers, lambda: self.now_s)

    @property
    def it(self) -> Fake:
        """The attempt under way."""
        return self.fakes[-1]

    def event(self, kind: str, **body: Any) -> None:
        self.it.hearer.on_event({"type": kind, **body})

    def opened(self) -> Test:
        self.link.open()
        self.it.hearer.on_open()
        return self

    def ready(self) -> Test:
        self.opened()
        self.event("session.created", session={})
        self.event("session.updated", session={})
        assert self.link.ready
        return self

    def closed(self, error: ConnectError | TransportClosed) -> None:
        self.it.hearer.on_closed(error)

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.link.tick(self.now_s)

    def updates(self) -> list[str]:
        return [event["event_id"] for event in self.it.sent if event["type"] == "session.update"]

    @property
    def gone(self) -> Gone:
        (gone,) = self.ear.of("gone")
        assert self.link.gone is gone
        return gone


@pytest.fixture
def start(monkeypatch) -> Callable[..., Test]:
    fakes: list[Fake] = []

    class Noted(Fake):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            fakes.append(self)

    monkeypatch.setattr(link_module, "NativeTransport", Noted)
    return lambda **settings: Test(fakes, **settings)


class TestHandshake:
    def test_in_order(self, start):
        it = start().ready()
        assert it.ear.kinds() == ["open", "ready"]
        assert it.updates() == ["update_1"]
        assert it.link.agreed == it.ear.of("ready")[0] == Agreed(PCMU, PCMU, BOTH)

    def test_the_transport_is_asked_for_all_events_that_mean_something(self, start):
        assert {"session.created", "session.updated", "error", "response.done"} <= start().opened().it.events

    def test_a_server_that_says_nothing_is_told_the_session_all_the_same(self, start):
        it = start().opened()
        it.later(FIRST_WORD_S)
        assert it.updates() == []
        it.later(0.01)
        until(it.updates)
        it.event("session.updated", session={})
        assert it.ear.kinds() == ["open", "ready"]
        it.later(1.0)
        assert it.updates() == ["update_1"]

    def test_a_server_that_begins_with_something_else(self, start):
        it = start().opened()
        it.event("rate_limits.updated", rate_limits=[])
        assert it.updates() == ["update_1"]
        assert it.ear.events == ["rate_limits.updated"]

    def test_the_transports_own_events_are_no_servers(self, start):
        it = start().opened()
        it.event("transport.complaint", about="x", message="y")
        assert it.updates() == []

    def test_a_refused_field(self, start):
        it = start(reasoning_effort="low").opened()
        it.event("session.created", session={})
        it.event("error", error={"event_id": "update_1", "param": "session.reasoning", "message": "No."})
        it.event("error", error={"event_id": "update_1", "param": "session.reasoning", "message": "No."})
        it.event("session.updated", session={})
        assert it.ear.kinds() == ["open", "refused", "ready"]
        assert it.ear.of("refused")[0].setting == "OPENAI_REASONING_EFFORT"
        assert "reasoning" not in it.it.sent[-1]["session"]

    def test_a_session_that_cannot_be(self, start):
        it = start().opened()
        it.event("session.created", session={})
        it.event("error", error={"event_id": "update_1", "param": "session.instructions", "message": "No."})
        assert it.gone == Gone(
            "the server does not accept the session: instructions (OPENAI_SYSTEM_INSTRUCTIONS): No."
        )
        assert "abort" in it.it.did

    def test_an_error_about_something_else_is_handed_on(self, start):
        it = start().opened()
        it.event("session.created", session={})
        it.event("error", error={"code": "invalid_api_key", "message": "No."})
        assert (it.ear.events, it.ear.of("gone")) == (["error"], [])

    def test_an_answer_without_a_session_accepts_it_as_it_was_asked_for(self, start):
        it = start().opened()
        it.event("session.created")
        it.event("session.updated")
        assert it.ear.kinds() == ["open", "ready"]

    @pytest.mark.parametrize("kind", ["session.created", "session.updated"])
    @pytest.mark.parametrize("session", ["s", 7, [1]])
    def test_a_malformed_one_is_complained_of(self, start, kind, session):
        it = start().opened()
        it.event(kind, session=session)
        (message,) = it.ear.of("complaint")
        assert message.startswith(f"the server sent a malformed {kind} event: ")
        it.event("session.created", session={})
        it.event("session.updated", session={})
        assert it.link.ready

    def test_a_malformed_error_is_complained_of(self, start):
        it = start().opened()
        it.event("error", error="broken")
        assert len(it.ear.of("complaint")) == 1

    def test_nothing_is_accepted_in_time(self, start):
        it = start().opened()
        it.later(3.0 + GRACE_S)
        assert it.ear.of("gone") == []
        it.later(0.01)
        assert it.gone == Gone(
            "the server accepted no session within 3000 ms (IVR_AI_CONNECT_TIMEOUT_MS)", passing=True
        )

    def test_an_expired_session(self, start):
        it = start().ready()
        it.event("error", error={"code": "session_expired", "message": "60 minutes."})
        assert it.gone == Gone("the server's session has expired (session_expired)", passing=True)

    def test_one_that_expires_before_it_was_accepted_is_tried_again_when_it_is_closed(self, start):
        it = start().opened()
        it.event("error", error={"code": "session_expired", "message": "60 minutes."})
        assert it.ear.of("gone") == []
        it.closed(TransportClosed(1008, ""))
        assert it.ear.of("gone") == []
        it.later(1.0)
        assert len(it.fakes) == 2


class TestBeta:
    def test_auto_speaks_beta_from_the_servers_first_word_on(self, start):
        it = start(temperature=0.7).opened()
        it.event("session.created", session=BETA_SESSION)
        (dialect,) = it.it.dialects
        assert isinstance(dialect, BetaDialect)
        sent = dialect.encode(it.it.sent[0])["session"]
        assert (sent["input_audio_format"], sent["temperature"]) == ("g711_ulaw", 0.7)

    def test_a_temperature_that_is_refused(self, start):
        it = start(temperature=0.7).opened()
        it.event("session.created", session=BETA_SESSION)
        it.event("error", error={"event_id": "update_1", "param": "session.temperature", "message": "No."})
        assert "temperature" not in it.it.dialects[-1].encode(it.it.sent[-1])["session"]

    @pytest.mark.parametrize("dialect", ["ga", "beta"])
    def test_a_dialect_that_is_set_stays(self, start, dialect):
        it = start(dialect=dialect).opened()
        it.event("session.created", session=BETA_SESSION)
        assert it.it.dialects == []

    def test_the_next_attempt_finds_out_again(self, start):
        it = start().opened()
        it.event("session.created", session=BETA_SESSION)
        it.closed(TransportClosed(1011, ""))
        it.later(RETRY_S[0])
        assert it.it.dialects == []
        it.event("session.created", session=BETA_SESSION)
        assert len(it.it.dialects) == 1


class TestConnectingAgain:
    def test_as_long_as_it_may_pass_and_time_is_left(self, start):
        it = start()
        it.link.open()
        tried_s = []
        while not it.ear.of("gone"):
            tried_s.append(round(it.now_s - 100.0, 3))
            attempts = len(it.fakes)
            it.closed(RESET)
            while len(it.fakes) == attempts and not it.ear.of("gone"):
                it.later(0.001)
        assert tried_s == pytest.approx([0.0, 0.1, 0.3, 0.7, 1.5, 2.3], abs=0.01)
        assert it.gone == Gone(RESET.reason, passing=True)
        assert it.now_s - 100.0 == pytest.approx(2.3, abs=0.01)

    def test_a_refused_connection_for_a_second_at_most(self, start):
        it = start()
        it.link.open()
        while not it.ear.of("gone"):
            attempts = len(it.fakes)
            it.closed(REFUSED)
            while len(it.fakes) == attempts and not it.ear.of("gone"):
                it.later(0.01)
        assert (it.gone.passing, len(it.fakes)) == (True, 4)
        assert it.now_s - 100.0 < REFUSED_S

    def test_what_cannot_pass_is_said_at_once(self, start):
        it = start()
        it.link.open()
        it.closed(DENIED)
        assert it.gone == Gone(DENIED.reason)
        assert len(it.fakes) == 1

    def test_nowhere_to_connect_to(self, start, monkeypatch):
        monkeypatch.setattr(Fake, "fails", ConnectError("no such place"))
        it = start()
        it.link.open()
        assert it.gone == Gone("no such place")
        assert it.it.did[-1] == "release"

    def test_an_attempt_that_hangs_is_counted_into_the_time(self, start):
        it = start()
        it.link.open()
        it.closed(RESET)
        it.later(RETRY_S[0])
        it.later(3.0 + GRACE_S)
        assert it.gone == Gone(RESET.reason, passing=True)

    def test_once_it_is_open_that_is_what_the_reason_is_about(self, start):
        it = start()
        it.link.open()
        it.closed(RESET)
        it.later(RETRY_S[0])
        it.it.hearer.on_open()
        it.later(3.0 + GRACE_S)
        assert it.gone.reason.startswith("the server accepted no session within 3000 ms")

    @pytest.mark.parametrize("code", [1001, 1002, 1005, 1006, 1011, 1012, 1013, 1014])
    def test_a_close_before_the_session_may_pass(self, start, code):
        it = start().opened()
        it.closed(TransportClosed(code, "later"))
        it.later(RETRY_S[0])
        assert len(it.fakes) == 2
        assert it.ear.of("gone") == []

    @pytest.mark.parametrize("code", [1000, 1003, 1007, 1008, 1009, 3000, 4000])
    def test_or_not(self, start, code):
        it = start().opened()
        it.closed(TransportClosed(code, "no"))
        assert it.gone == Gone(f"lost the server: connection closed with {code} (no)", code)

    def test_an_error_before_the_session_says_whether_its_close_may_pass(self, start):
        it = start().opened()
        it.event("error", error={"code": "rate_limit_exceeded", "message": "Wait."})
        it.closed(TransportClosed(4000, ""))
        it.later(RETRY_S[0])
        assert len(it.fakes) == 2
        it.closed(TransportClosed(4000, ""))  # and of this one nothing was said
        assert not it.gone.passing

    def test_the_new_connection_is_told_the_session_from_the_beginning(self, start):
        it = start(reasoning_effort="low").opened()
        it.event("session.created", session={})
        it.event("error", error={"event_id": "update_1", "param": "session.reasoning", "message": "No."})
        it.closed(TransportClosed(1011, ""))
        it.later(RETRY_S[0])
        it.it.hearer.on_open()
        it.event("session.created", session={})
        (update,) = it.it.sent
        assert update["session"]["audio"]["output"]["voice"] == "marin"
        assert "reasoning" not in update["session"]
        it.event("session.updated", session={})
        assert it.link.ready

    def test_nothing_is_heard_of_an_attempt_that_is_over(self, start):
        it = start().opened()
        it.closed(TransportClosed(1011, ""))
        it.later(RETRY_S[0])
        old, heard = it.fakes[0].hearer, len(it.ear.heard)
        old.on_open()
        old.on_event({"type": "session.created", "session": {}})
        old.on_event({"type": "session.updated", "session": {}})
        old.on_event({"type": "response.created", "response": {"id": "r1"}})
        old.on_event({"type": "error", "error": {"code": "session_expired"}})
        old.on_closed(DENIED)
        assert len(it.ear.heard) == heard
        assert (it.link.ready, it.link.gone, len(it.fakes)) == (False, None, 2)
        assert [fake.sent for fake in it.fakes] == [[], []]


class TestChanging:
    def test_what_is_wanted_anew_is_agreed_anew(self, start):
        it = start().ready()
        it.link.want(wire=WIDE)
        assert it.updates() == ["update_1", "update_2"]
        it.event("session.updated", session={})
        assert it.ear.of("changed") == [Agreed(PCM, PCM, BOTH)]
        assert it.link.wait_settled() == Agreed(PCM, PCM, BOTH)

    def test_waiting_lasts_until_the_answer(self, start):
        it = start().ready()
        it.link.want(turns=GREETING)
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(it.link.wait_settled()))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        it.event("session.updated", session={})
        waiting.join(5)
        assert got == [Agreed(PCMU, PCMU, GREETING)]

    def test_what_means_nothing_new_waits_for_nothing(self, start):
        it = start().ready()
        it.link.want(wire=PCMU, turns=BOTH)
        assert it.link.wait_settled() == Agreed(PCMU, PCMU, BOTH)

    def test_an_answer_that_comes_twice_answers_no_later_update(self, start):
        """Else the first one's formats would count for the second: noise."""
        it = start().opened()
        it.event("session.created", session={}, event_id="e1")
        it.event("session.updated", session={}, event_id="e2")
        it.link.want(wire=WIDE)
        it.event("session.updated", session={}, event_id="e2")
        assert it.ear.of("changed") == []
        it.event("session.updated", session={}, event_id="e3")
        assert it.link.agreed == Agreed(PCM, PCM, BOTH)

    def test_audio_that_comes_twice_is_heard_once(self, start):
        it = start().ready()
        for event_id in ("e1", "e2", "e2", "e3", "e1"):
            it.event("response.output_audio.delta", event_id=event_id, delta="AA==")
        assert [event["event_id"] for event in it.ear.of("event")] == ["e1", "e2", "e3"]

    def test_a_server_with_one_id_for_all_is_heard(self, start):
        it = start().opened()
        it.event("session.created", session={}, event_id="e")
        it.event("session.updated", session={}, event_id="e")
        for delta in ("AA==", "AA==", "AQ=="):
            it.event("response.output_audio.delta", event_id="e", delta=delta)
        assert len(it.ear.events) == 3

    def test_updates_go_out_in_the_order_in_which_they_were_decided(self, start):
        """Else what the server has in the end is what was wanted before."""
        it = start().ready()
        sending, go_on = threading.Event(), threading.Event()

        def slow() -> None:
            it.it.before_send = lambda: None
            sending.set()
            go_on.wait(5)

        it.it.before_send = slow
        first = threading.Thread(target=it.link.want, kwargs={"turns": GREETING})
        first.start()
        sending.wait(5)
        it.link.want(wire=WIDE)
        go_on.set()
        first.join(5)
        assert it.updates() == ["update_1", "update_2", "update_3"]

    def test_an_update_still_to_be_sent_is_waited_for(self, start):
        it = start().ready()
        sending, go_on = threading.Event(), threading.Event()
        it.it.before_send = lambda: (sending.set(), go_on.wait(5))
        first = threading.Thread(target=it.link.want, kwargs={"turns": GREETING})
        first.start()
        sending.wait(5)
        it.link.want(wire=WIDE)
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(it.link.wait_settled()))
        waiting.start()
        waiting.join(0.05)
        assert got == []
        go_on.set()
        first.join(5)
        it.event("session.updated", session={})
        it.event("session.updated", session={})
        waiting.join(5)
        assert got == [Agreed(PCM, PCM, GREETING)]


class TestGoing:
    @pytest.mark.parametrize(
        ("code", "passing", "goodbye"),
        [
            (1000, False, True),
            (1001, True, False),
            (1002, True, False),
            (1003, False, False),
            (1005, True, False),
            (1006, True, False),
            (1007, False, False),
            (1008, False, False),
            (1009, False, False),
            (1010, False, False),
            (1011, True, False),
            (1012, True, False),
            (1013, True, False),
            (1014, True, False),
            (3000, False, False),
            (4000, False, False),
        ],
    )
    def test_what_a_close_in_mid_call_means(self, start, code, passing, goodbye):
        it = start().ready()
        it.closed(TransportClosed(code, "so"))
        assert it.gone == Gone(f"lost the server: connection closed with {code} (so)", code, passing, goodbye)
        it.later(10.0)
        assert len(it.fakes) == 1  # the call decides about a next link

    def test_it_is_told_once_and_nothing_is_heard_after_that(self, start):
        it = start().ready()
        it.closed(TransportClosed(1011, ""))
        heard = len(it.ear.heard)
        it.event("response.created", response={"id": "r1"})
        it.event("session.updated", session={})
        it.closed(TransportClosed(1000, ""))
        it.later(100.0)
        assert len(it.ear.heard) == heard

    @pytest.mark.parametrize("how", ["close", "abort", "release"])
    @pytest.mark.parametrize("when", ["connecting", "open", "ready", "between"])
    def test_after_an_end_of_ours_nothing_is_heard_or_done(self, start, how, when):
        it = start()
        if when == "ready":
            it.ready()
        else:
            it.link.open()
        if when == "open":
            it.it.hearer.on_open()
        if when == "between":
            it.closed(RESET)
        heard = len(it.ear.heard)
        getattr(it.link, how)()
        sent = len(it.it.sent)
        it.it.hearer.on_open()
        it.event("session.created", session={})
        it.event("response.created", response={"id": "r1"})
        it.closed(TransportClosed(1000, "closed by us"))
        it.later(1.0)
        it.later(10.0)
        it.link.want(wire=WIDE)
        it.link.send({"type": "response.create"})
        assert len(it.ear.heard) == heard
        assert (len(it.fakes), len(it.it.sent)) == (1, sent)
        assert it.link.wait_settled() is None

    def test_ends_may_come_in_any_order_and_twice(self, start):
        it = start().ready()
        for how in ("abort", "close", "release", "abort", "close", "release"):
            getattr(it.link, how)()
        assert it.it.did[-1] == "release"

    def test_an_end_before_the_beginning(self, start):
        it = start()
        it.link.close()
        it.link.open()
        it.link.release()
        assert it.fakes == []

    def test_what_is_wanted_of_a_link_that_is_gone_is_waited_for_by_nobody(self, start):
        it = start().ready()
        it.closed(TransportClosed(1011, ""))
        it.link.want(wire=WIDE)
        assert it.link.wait_settled() is None

    @pytest.mark.parametrize("how", ["close", "abort", "lose"])
    def test_who_waits_is_let_go(self, start, how):
        it = start().ready()
        it.link.want(wire=WIDE)
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(it.link.wait_settled()))
        waiting.start()
        if how == "lose":
            it.closed(TransportClosed(1006, ""))
        else:
            getattr(it.link, how)()
        waiting.join(5)
        assert got == [None]

    def test_given_up_while_it_begins_to_connect(self, start, monkeypatch):
        """Between the attempt's beginning and its open() another thread may end the link."""
        it = start()
        monkeypatch.setattr(Fake, "open", lambda self: (self.did.append("open"), it.link.abort()))
        it.link.open()
        assert it.it.did == ["open", "abort", "release"]
