"""Calls as FreeSWITCH hands them over: settings, refusals, what is under way."""

from __future__ import annotations

import json
import threading
import time

import pytest

from ivr_ai import __version__, runtime
from ivr_ai.gateways.caller import Hangup
from ivr_ai.summary import CallSummary


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No .env, no profiles but a test's own; the stack size of this process stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_REALTIME_URL", "ws://127.0.0.1:1/")
    monkeypatch.setenv("IVR_AI_AGENTS_DIR", str(tmp_path))
    monkeypatch.setattr(runtime, "warm", lambda: None)


def status() -> dict:
    return json.loads(runtime.command("status"))


class TestHandle:
    def hold(self, fast_host, script=(), args: str = "", **variables: str):
        return fast_host.place_call(runtime.handle, script, args=args, quiet_ms=300, variables=variables)

    def test_a_call(self, fast_host, sim):
        server = sim()
        variables = {"OPENAI_REALTIME_URL": server.url, "OPENAI_GREETING": "Say hello."}
        record = self.hold(fast_host, [Hangup()], **variables)
        assert isinstance(record.result, CallSummary)
        assert record.result.uuid == record.session.get_uuid()
        assert len(server.sessions[0].received("response.create")) == 1

    @pytest.mark.parametrize("args", ["sales", "  sales "])
    def test_an_agents_profile(self, fast_host, sim, tmp_path, args):
        (tmp_path / "sales.toml").write_text('instructions = "Sell."\nvoice = "cedar"\n')
        server = sim()
        self.hold(fast_host, [Hangup(after=0.2)], args=args, OPENAI_REALTIME_URL=server.url)
        session = server.sessions[0].first_update["session"]
        assert (session["instructions"], session["audio"]["output"]["voice"]) == ("Sell.", "cedar")

    @pytest.mark.parametrize(
        ("variables", "named"),
        [
            ({"VAD_THRESHOLD": "loud"}, "VAD_THRESHOLD"),
            ({"OPENAI_REALTIME_URL": "http://example.org/"}, "OPENAI_REALTIME_URL"),
            ({"IVR_AI_FAILURE_ACTION": "transfer"}, "IVR_AI_FAILURE_TRANSFER"),
            ({"IVR_AI_AGENT": "nobody"}, "nobody"),
        ],
    )
    def test_settings_that_are_wrong(self, fast_host, caplog, variables, named):
        record = self.hold(fast_host, **variables)
        assert record.result is None
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert not record.session.answered()
        (line,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "ERROR"]
        assert line.startswith(f"call {record.session.get_uuid()} refused, its settings are wrong: ")
        assert named in line

    def test_a_profile_that_is_missing(self, fast_host, caplog):
        assert self.hold(fast_host, args="missing").result is None
        assert "missing" in caplog.text

    def test_whatever_goes_wrong_ends_the_call_and_nothing_else(self, fast_host, caplog):
        def broken(session, args):
            session.getVariable = lambda name: 1 / 0
            return runtime.handle(session, args)

        record = fast_host.place_call(broken)
        assert record.result is None
        assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
        assert "division by zero" in caplog.text

    def test_a_call_that_was_over_before_it_began(self, fast_host):
        def gone(session, args):
            session.hang_up("ORIGINATOR_CANCEL", "caller")
            return runtime.handle(session, args)

        record = fast_host.place_call(gone)
        assert record.session.hangupCause() == "ORIGINATOR_CANCEL"


class TestCommand:
    def test_version(self):
        assert runtime.command("version") == f"ivr_ai {__version__}\n"

    @pytest.mark.parametrize("args", ["status", " status ", "", None])
    def test_status(self, args):
        before = json.loads(runtime.command(args))
        assert before["version"] == __version__
        assert before["calls"] == []
        assert before["uptime_s"] >= 0

    def test_calls_under_way_and_in_all(self, fast_host, sim):
        server = sim()
        before = status()["calls_total"]
        variables = {"OPENAI_REALTIME_URL": server.url}
        calls = [fast_host.place(runtime.handle, variables=variables) for _ in range(3)]
        uuids = sorted(call.session.get_uuid() for call in calls)
        deadline_s = time.monotonic() + 5
        while status()["calls"] != uuids:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        for call in calls:
            call.hang_up()
            call.finish()
        assert status()["calls"] == []
        assert status()["calls_total"] == before + 3

    def test_a_call_that_could_not_begin_is_not_counted(self, fast_host):
        before = status()["calls_total"]
        fast_host.place_call(runtime.handle, variables={"VAD_THRESHOLD": "loud"})
        assert (status()["calls"], status()["calls_total"]) == ([], before)

    @pytest.mark.parametrize("args", ["dance", "version now", "status all", "start", "stop", "start a b c"])
    def test_what_it_cannot_read(self, args):
        answer = runtime.command(args)
        assert answer.startswith("-ERR ")
        assert "-USAGE: python ivr_ai.app status | version" in answer

    def test_nothing_was_started_there(self):
        assert runtime.command("stop no-such-uuid").startswith("-ERR ")


def test_no_thread_of_a_call_is_left(fast_host, sim):
    server = sim()
    record = fast_host.place_call(
        runtime.handle, [Hangup(after=0.5)], variables={"OPENAI_REALTIME_URL": server.url}
    )
    mine = record.session.get_uuid()[:8]
    assert [thread.name for thread in threading.enumerate() if mine in thread.name] == []
