"""The log's level follows LOG_LEVEL, and warnings of settings are logged once."""

from __future__ import annotations

import logging
import sys
import types

import pytest

from ivr_ai import switch_log
from ivr_ai.config import Settings
from ivr_ai.switch_log import FreeSwitchHandler, Levels

LOG = logging.getLogger("ivr_ai")
URL = {"OPENAI_REALTIME_URL": "ws://localhost/"}


@pytest.fixture(autouse=True)
def level():
    before = LOG.level
    LOG.setLevel(logging.NOTSET)
    yield
    LOG.setLevel(before)


def load(environ: dict[str, str] | None = None, **more) -> Settings:
    return Settings.load({**URL, **(environ or {})}, **{"env_file": "", **more})


def global_variables(monkeypatch, **values: str) -> None:
    class API:
        def execute(self, command: str, name: str) -> str:
            assert command == "global_getvar"
            return values.get(name, "-ERR no such variable\n")

    monkeypatch.setitem(sys.modules, "freeswitch", types.SimpleNamespace(API=API))


class TestLevel:
    def test_it_follows_the_environment_from_call_to_call(self):
        levels = Levels()
        for name in ("DEBUG", "ERROR", "INFO"):
            levels.follow(load({"LOG_LEVEL": name}))
            assert logging.getLevelName(LOG.level) == name

    def test_it_follows_an_edited_file(self, tmp_path):
        path, levels = tmp_path / "env", Levels()
        for name in ("ERROR", "WARNING"):
            path.write_text(f"LOG_LEVEL={name}\n")
            levels.follow(load(env_file=path))
            assert logging.getLevelName(LOG.level) == name
        path.write_text("# nothing\n")
        levels.follow(load(env_file=path))
        assert LOG.level == logging.INFO

    def test_a_global_variable_is_the_process_s(self, monkeypatch):
        global_variables(monkeypatch, LOG_LEVEL="DEBUG")
        Levels().follow(load(channel={"LOG_LEVEL": "DEBUG"}))
        assert LOG.level == logging.DEBUG

    @pytest.mark.parametrize("variables", [{}, {"LOG_LEVEL": "INFO"}, {"LOG_LEVEL": "nonsense"}])
    def test_a_call_cannot_change_what_others_log(self, monkeypatch, caplog, variables):
        global_variables(monkeypatch, **variables)
        LOG.setLevel(logging.WARNING)
        levels = Levels()
        for _ in range(2):
            levels.follow(load(channel={"LOG_LEVEL": "DEBUG"}))
        assert LOG.level == logging.WARNING
        lines = [each.getMessage() for each in caplog.records]
        assert len([line for line in lines if line.startswith("LOG_LEVEL (channel variable) is not")]) == 1

    def test_nor_can_a_profile(self, tmp_path, caplog):
        (tmp_path / "default.toml").write_text('log_level = "DEBUG"\n')
        LOG.setLevel(logging.WARNING)
        Levels().follow(load(agents_dir=tmp_path))
        assert LOG.level == logging.WARNING
        assert f"LOG_LEVEL (profile {tmp_path / 'default.toml'}) is not read" in caplog.text


class TestWarnings:
    def test_each_text_is_logged_once_whoever_has_it(self, caplog):
        levels = Levels()
        for model in ("gpt-4o-realtime-preview", "gpt-4o-realtime-preview", "gpt-4o-mini-realtime-preview"):
            levels.follow(load({"OPENAI_REALTIME_MODEL": model}))
        warned = [each.getMessage() for each in caplog.records if "shut down" in each.getMessage()]
        assert len(warned) == len(set(warned)) == 2

    def test_those_that_differ_for_ever_are_bounded(self, caplog, monkeypatch):
        monkeypatch.setattr(switch_log, "MAX_WARNINGS", 5)
        levels = Levels()
        for number in range(20):
            levels.warn(f"warning {number}")
        assert len(caplog.records) == 5


class TestHandler:
    def test_a_console_that_fails_ends_nothing(self, capsys):
        def fails(level: str, line: str) -> None:
            raise OSError("gone")

        FreeSwitchHandler(fails).handle(logging.LogRecord("ivr_ai", 40, "", 0, "x", (), None))
        assert "gone" in capsys.readouterr().err

    def test_outside_freeswitch_logging_is_left_alone(self):
        handlers = list(LOG.handlers)
        switch_log.set_up()
        assert (LOG.handlers, LOG.level) == (handlers, logging.NOTSET)

    def test_outside_freeswitch_there_are_no_global_variables(self):
        assert switch_log.global_variable("conf_dir") is None

    def test_what_freeswitch_does_not_know_is_not_set(self, monkeypatch):
        global_variables(monkeypatch, conf_dir="/etc/freeswitch")
        assert switch_log.global_variable("conf_dir") == "/etc/freeswitch"
        assert switch_log.global_variable("LOG_LEVEL") is None
