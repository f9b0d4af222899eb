"""Calls as FreeSWITCH hands them over: settings, admission, refusals, what is under way, the end."""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
import types
from collections.abc import Callable

import pytest

from ivr_ai import __version__, commands, runtime
from ivr_ai.audio.formats import write_wav
from ivr_ai.config import Settings
from ivr_ai.events import CallEvent
from ivr_ai.failure import tones
from ivr_ai.gateways.caller import Hangup
from ivr_ai.runtime import Runtime
from ivr_ai.summary import CallSummary

LONG_S = 10.0


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No .env, no profiles but a test's own; the log's level stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_REALTIME_URL", "ws://127.0.0.1:1/")
    monkeypatch.setenv("IVR_AI_AGENTS_DIR", str(tmp_path))
    level = logging.getLogger("ivr_ai").level
    yield
    logging.getLogger("ivr_ai").setLevel(level)


@pytest.fixture
def rt(monkeypatch):
    """A Runtime that is warm; the stack size of this process stays as it is."""
    made = Runtime()
    made._load()
    monkeypatch.setattr(made, "warm", lambda: None)
    yield made
    made.shutdown(LONG_S)
    atexit.unregister(made.shutdown)


def errors(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def wait_until(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def hold(fast_host, rt, script=(), args: str = "", before=lambda session: None, **variables: str):
    def handler(session, args):
        before(session)
        return rt.handle(session, args)

    return fast_host.place_call(handler, script, args=args, quiet_ms=300, variables=variables)


class TestHandle:
    def test_a_call(self, fast_host, sim, rt):
        server = sim()
        variables = {"OPENAI_REALTIME_URL": server.url, "OPENAI_GREETING": "Say hello."}
        record = hold(fast_host, rt, [Hangup()], **variables)
        assert isinstance(record.result, CallSummary)
        assert record.result.uuid == record.session.get_uuid()
        assert len(server.sessions[0].received("response.create")) == 1

    @pytest.mark.parametrize("args", ["sales", "  sales "])
    def test_an_agents_profile(self, fast_host, sim, rt, tmp_path, args):
        (tmp_path / "sales.toml").write_text('instructions = "Sell."\nvoice = "cedar"\n')
        server = sim()
        hold(fast_host, rt, [Hangup(after=0.2)], args=args, OPENAI_REALTIME_URL=server.url)
        session = server.sessions[0].first_update["session"]
        assert (session["instructions"], session["audio"]["output"]["voice"]) == ("Sell.", "cedar")

    def test_whatever_goes_wrong_ends_the_call_and_nothing_else(self, fast_host, rt, caplog):
        def broken(session) -> None:
            session.getVariable = lambda name: 1 / 0

        record = hold(fast_host, rt, before=broken)
        assert record.result is None
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert "division by zero" in caplog.text

    def test_a_call_that_cannot_be_made_is_not_under_way(self, fast_host, rt, monkeypatch, caplog):
        monkeypatch.setattr("ivr_ai.call.Call.__init__", lambda *args, **more: 1 / 0)
        hold(fast_host, rt)
        assert rt.status()["calls"] == []
        assert "division by zero" in caplog.text

    def test_the_session_is_released_whatever_happens(self, fast_host, rt):
        released = []

        def before(session) -> None:
            session.destroy = lambda: released.append(session.get_uuid())
            session.getVariable = lambda name: 1 / 0

        record = hold(fast_host, rt, before=before)
        assert released == [record.session.get_uuid()]

    def test_a_call_that_was_over_before_it_began(self, fast_host, rt):
        record = hold(fast_host, rt, before=lambda session: session.hang_up("ORIGINATOR_CANCEL", "caller"))
        assert record.session.hangupCause() == "ORIGINATOR_CANCEL"

    def test_the_same_call_is_not_begun_twice(self, fast_host, sim, rt, caplog):
        server, seen = sim(), []

        def twice(session, args):
            other = threading.Thread(target=lambda: seen.append(rt.handle(session, "")))
            wait_first = threading.Thread(
                target=lambda: (wait_until(lambda: rt.status()["calls"] != []), other.start())
            )
            wait_first.start()
            return rt.handle(session, "")

        record = fast_host.place_call(
            twice, [Hangup(after=2.0)], variables={"OPENAI_REALTIME_URL": server.url}
        )
        wait_until(lambda: seen != [])
        assert seen == [None]
        assert isinstance(record.result, CallSummary)
        assert f"call {record.session.get_uuid()} is in a conversation already" in caplog.text

    def test_no_thread_of_a_call_is_left(self, fast_host, sim, rt):
        record = hold(fast_host, rt, [Hangup(after=0.5)], OPENAI_REALTIME_URL=sim().url)
        mine = record.session.get_uuid()[:8]
        assert [thread.name for thread in threading.enumerate() if mine in thread.name] == []


class TestWrongSettings:
    """What follows is what IVR_AI_FAILURE_ACTION says, as far as that is known."""

    @pytest.mark.parametrize(
        ("variables", "named"),
        [
            ({"VAD_THRESHOLD": "loud"}, "VAD_THRESHOLD"),
            ({"OPENAI_REALTIME_URL": "http://example.org/"}, "OPENAI_REALTIME_URL"),
            ({"IVR_AI_FAILURE_ACTION": "transfer"}, "IVR_AI_FAILURE_TRANSFER"),
            ({"IVR_AI_AGENT": "nobody"}, "nobody"),
        ],
    )
    def test_the_log_says_which(self, fast_host, rt, caplog, variables, named):
        record = hold(fast_host, rt, **variables)
        assert record.result is None
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert not record.session.answered()
        (line,) = errors(caplog)
        assert line.startswith(f"call {record.session.get_uuid()} refused, its settings are wrong: ")
        assert named in line

    def test_a_profile_that_is_missing(self, fast_host, rt, caplog):
        assert hold(fast_host, rt, args="missing").result is None
        assert "missing" in caplog.text

    @pytest.mark.parametrize("where", ["channel", "environment", "profile"])
    def test_the_extension_for_failures_is_tried_unanswered(
        self, fast_host, rt, monkeypatch, tmp_path, where
    ):
        chosen = {"IVR_AI_FAILURE_ACTION": "transfer", "IVR_AI_FAILURE_TRANSFER": "5000 XML desk"}
        variables = {"VAD_THRESHOLD": "loud"}
        if where == "channel":
            variables |= chosen
        elif where == "environment":
            for name, value in chosen.items():
                monkeypatch.setenv(name, value)
        else:
            text = 'failure_action = "transfer"\nfailure_transfer = "5000 XML desk"\nvoyce = "typo"\n'
            (tmp_path / "default.toml").write_text(text)
        record = hold(fast_host, rt, **variables)
        assert record.session.transferred[:3] == ("5000", "XML", "desk")
        assert not record.session.answered()

    def test_the_dialplan_goes_on_where_that_is_wanted(self, fast_host, rt):
        seen = []

        def handler(session, args):
            rt.handle(session, args)
            seen.append((session.ready(), session.answered()))

        fast_host.place_call(handler, variables={"VAD_THRESHOLD": "loud", "IVR_AI_FAILURE_ACTION": "return"})
        assert seen == [(True, False)]

    def test_a_caller_who_has_been_answered_hears_the_apology(self, fast_host, rt, tmp_path):
        write_wav(tmp_path / "sorry.wav", tones(), 8000)
        record = fast_host.place_call(
            lambda session, args: (session.answer(), rt.handle(session, args)),
            wire="s16",
            variables={"VAD_THRESHOLD": "loud", "IVR_AI_APOLOGY_FILE": str(tmp_path / "sorry.wav")},
        )
        assert tones().rstrip(b"\0") in record.recording.ai
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"

    def test_settings_for_failures_that_are_wrong_themselves_are_left_out(self, fast_host, rt):
        record = hold(fast_host, rt, IVR_AI_FAILURE_ACTION="dance", IVR_AI_FAILURE_TRANSFER="5000")
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"


class TestAdmission:
    def limit(self, monkeypatch, calls: int) -> None:
        load = Settings.load

        class Limited:
            def __init__(self, settings: Settings) -> None:
                self._settings = settings

            def __getattr__(self, name: str):
                return calls if name == "max_calls" else getattr(self._settings, name)

        monkeypatch.setattr(Settings, "load", lambda *args, **more: Limited(load(*args, **more)))

    def under_way(self, fast_host, sim, rt, count: int, **variables):
        variables["OPENAI_REALTIME_URL"] = sim().url
        calls = [fast_host.place(rt.handle, variables=variables) for _ in range(count)]
        wait_until(lambda: len(rt.status()["calls"]) == count)
        return calls

    def test_one_too_many_is_refused_before_the_answer(self, fast_host, sim, rt, monkeypatch, caplog):
        self.limit(monkeypatch, 2)
        calls = self.under_way(fast_host, sim, rt, 2)
        record = hold(fast_host, rt)
        assert record.session.hangupCause() == "SWITCH_CONGESTION"
        assert not record.session.answered()
        assert (
            f"call {record.session.get_uuid()} refused: there are 2 already (IVR_AI_MAX_CALLS)" in caplog.text
        )
        calls[0].hang_up()
        calls[0].finish()
        assert hold(fast_host, rt, [Hangup(after=0.2)]).result is not None
        assert rt.status()["calls_refused"] == 1

    def test_one_too_many_goes_where_failures_go(self, fast_host, sim, rt, monkeypatch):
        self.limit(monkeypatch, 1)
        self.under_way(fast_host, sim, rt, 1)
        variables = {"IVR_AI_FAILURE_ACTION": "transfer", "IVR_AI_FAILURE_TRANSFER": "5000"}
        assert hold(fast_host, rt, **variables).session.transferred[0] == "5000"

    def test_draining_refuses_new_calls_and_leaves_the_others(self, fast_host, sim, rt):
        (call,) = self.under_way(fast_host, sim, rt, 1)
        assert commands.answer(rt, "drain") == "+OK draining, 1 calls under way\n"
        assert hold(fast_host, rt).session.hangupCause() == "SWITCH_CONGESTION"
        assert rt.status()["draining"] is True
        assert len(rt.status()["calls"]) == 1 and not call.over
        assert commands.answer(rt, "undrain") == "+OK\n"
        assert hold(fast_host, rt, [Hangup(after=0.2)]).result is not None
        call.hang_up()


class TestStatus:
    def test_nothing_under_way(self, rt):
        status = rt.status()
        assert status.pop("uptime_s") >= 0
        assert status == {
            "version": __version__,
            "calls": [],
            "calls_total": 0,
            "calls_refused": 0,
            "draining": False,
            "events_dropped": {},
        }

    def test_a_call_under_way(self, fast_host, sim, rt, tmp_path):
        (tmp_path / "sales.toml").write_text('greeting = "Say hello."\n')
        variables = {"OPENAI_REALTIME_URL": sim(voice="tone:440:60000").url}
        call = fast_host.place(rt.handle, args="sales", variables=variables)
        wait_until(lambda: [each["state"] for each in rt.status()["calls"]] == ["speaking"])
        assert rt.registry.get(call.session.get_uuid()).call.uuid == call.session.get_uuid()
        (facts,) = json.loads(commands.answer(rt, "status"))["calls"]
        assert facts.pop("since").endswith("Z")
        assert facts == {"uuid": call.session.get_uuid(), "agent": "sales", "turn": 0, "state": "speaking"}
        call.hang_up()
        call.finish()
        assert (rt.status()["calls"], rt.status()["calls_total"]) == ([], 1)

    def test_a_call_that_could_not_begin_is_not_counted(self, fast_host, rt):
        hold(fast_host, rt, VAD_THRESHOLD="loud")
        assert (rt.status()["calls"], rt.status()["calls_total"]) == ([], 0)

    def test_subscribers_that_are_too_slow_are_named(self, rt):
        entered, let_on = threading.Event(), threading.Event()

        def slow(event: CallEvent) -> None:
            entered.set()
            let_on.wait(LONG_S)

        rt.bus.subscribe("slow", slow, capacity=1)
        rt.bus.publish(CallEvent("x", 0.0))
        assert entered.wait(LONG_S)
        for _ in range(3):
            rt.bus.publish(CallEvent("x", 0.0))
        assert rt.status()["events_dropped"] == {"slow": 2}
        let_on.set()


class TestTelling:
    def test_the_bus_hears_of_every_call(self, fast_host, sim, rt):
        heard: list[CallEvent] = []
        rt.bus.subscribe("test", heard.append)
        server = sim()
        records = [hold(fast_host, rt, [Hangup(after=0.3)], OPENAI_REALTIME_URL=server.url) for _ in range(2)]
        assert rt.bus.close(LONG_S)
        for record in records:
            mine = [event for event in heard if event.uuid == record.session.get_uuid()]
            assert (mine[0].kind, mine[-1].kind) == ("connected", "ended")
            assert {event.agent for event in mine} == {"default"}

    def test_timelines_go_where_each_call_says(self, fast_host, sim, rt, tmp_path):
        server, uuids = sim(), {}
        for name in ("one", "two"):
            variables = {"OPENAI_REALTIME_URL": server.url, "IVR_AI_TIMELINE_DIR": str(tmp_path / name)}
            record = hold(fast_host, rt, [Hangup(after=0.2)], **variables)
            uuids[name] = record.session.get_uuid()
        hold(fast_host, rt, [Hangup(after=0.2)], OPENAI_REALTIME_URL=server.url)
        assert rt.bus.close(LONG_S)
        for name, uuid in uuids.items():
            (path,) = (tmp_path / name).iterdir()
            assert path.name == f"{uuid}.json"
            assert json.loads(path.read_text())["events"][-1]["kind"] == "ended"

    def test_warnings_of_a_calls_settings_are_logged_once(self, fast_host, rt, caplog):
        variables = {"OPENAI_REALTIME_MODEL": "gpt-4o-realtime-preview", "IVR_AI_APOLOGY_TEXT": ""}
        for _ in range(2):
            hold(fast_host, rt, **variables)
        lines = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert len([line for line in lines if "gpt-4o-realtime-preview" in line]) == 1


class TestTheSwitchsEnd:
    """FreeSWITCH ends after its last session, and tells Python nothing."""

    @pytest.mark.parametrize("ready", ["true", "false"])
    def test_the_last_call_waits_for_slow_subscribers(self, fast_host, rt, monkeypatch, ready):
        class API:
            def execute(self, command: str, arguments: str) -> str:
                return ready if (command, arguments) == ("fsctl", "ready_check") else ""

        let_on, seen = threading.Event(), []
        rt.bus.subscribe("slow", lambda event: (let_on.wait(LONG_S), seen.append(event.kind)))
        monkeypatch.setitem(sys.modules, "freeswitch", types.SimpleNamespace(API=API))
        if ready == "false":
            threading.Timer(0.1, let_on.set).start()
        hold(fast_host, rt, IVR_AI_APOLOGY_TEXT="")
        assert ("ended" in seen) is (ready == "false")
        let_on.set()


class TestDetached:
    """Calls that stay with the dialplan, on a stand-in for FreeSWITCH's API."""

    @pytest.fixture
    def api(self, monkeypatch):
        answers = {"uuid_exists": "true", "module_exists": "true", "uuid_getvar": "_undef_"}

        class API:
            def execute(self, command: str, arguments: str) -> str:
                return answers.get(command, "-ERR")

        monkeypatch.setitem(sys.modules, "freeswitch", types.SimpleNamespace(API=API))
        return answers

    @pytest.fixture
    def calls(self, monkeypatch):
        """Calls that go on until they are left, and the settings they were made with."""
        made = []

        class StandIn:
            def __init__(self, leg, settings, **more) -> None:
                self.leg, self.settings, self.uuid = leg, settings, leg.uuid
                made.append(self)

            def run(self) -> None:
                while self.leg.ready():
                    self.leg.sleep(10)

        monkeypatch.setattr("ivr_ai.call.Call", StandIn)
        return made

    def test_started_and_stopped(self, rt, api, calls):
        assert rt.start("u-1") == "+OK\n"
        assert [each["uuid"] for each in rt.status()["calls"]] == ["u-1"]
        assert rt.start("u-1").startswith("-ERR call u-1 is in a conversation already")
        assert (calls[0].settings.end_action, calls[0].settings.failure_action) == ("return", "return")
        assert rt.stop("u-1") == "+OK\n"
        wait_until(lambda: rt.status()["calls"] == [])
        assert rt.stop("u-1").startswith("-ERR no conversation was started on call 'u-1'")

    def test_what_cannot_be_started(self, rt, api, calls, monkeypatch):
        assert rt.start("u-1", "nobody").startswith("-ERR IVR_AI_AGENT 'nobody'")
        rt.drain()
        assert rt.start("u-1").startswith("-ERR call u-1 refused: no new calls")
        api["uuid_exists"] = "false"
        assert rt.start("u-2") == "-ERR no call with uuid 'u-2'\n"
        assert rt.status()["calls"] == [] and calls == []

    def test_without_a_thread_to_be_had(self, rt, api, calls, monkeypatch):
        def none_left(self) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(runtime.threading.Thread, "start", none_left)
        assert rt.start("u-1") == "-ERR can't start new thread\n"
        assert rt.status()["calls"] == []

    def test_shutdown_ends_them_and_delivers_what_was_told(self, rt, api, calls):
        heard = []
        rt.bus.subscribe("test", heard.append)
        assert rt.start("u-1") == "+OK\n"
        rt.bus.publish(CallEvent("x", 0.0))
        assert rt.shutdown(LONG_S) is True
        assert rt.status()["calls"] == [] and len(heard) == 1
        assert rt.start("u-2").startswith("-ERR")
        assert rt.shutdown(LONG_S) is True

    def test_shutdown_waits_no_longer_than_told(self, rt, api, calls, monkeypatch):
        let_on = threading.Event()
        assert rt.start("u-1") == "+OK\n"
        monkeypatch.setattr(type(calls[0].leg), "leave", lambda self: None)
        rt.bus.subscribe("stuck", lambda event: let_on.wait(LONG_S))
        rt.bus.publish(CallEvent("x", 0.0))
        started_s = time.monotonic()
        assert rt.shutdown(0.2) is False
        assert time.monotonic() - started_s < 5
        let_on.set()
        monkeypatch.undo()
        calls[0].leg.leave()


def test_the_process_has_one_runtime_and_the_module_no_other_state():
    """Whatever FreeSWITCH asks for is asked of it."""
    assert json.loads(runtime.command("status"))["version"] == __version__
    state = [
        name
        for name, value in vars(runtime).items()
        if not name.startswith("__") and isinstance(value, (dict, list, set, threading.Event, Runtime))
    ]
    assert state == ["_process"]
