"""FreeSWITCH's objects without methods: refused, released, answered. See freeswitch/test_other_python.py."""

from __future__ import annotations

import sys
import types

import pytest

from ivr_ai import mod_python


class SwigPyObject:
    """As mod_python3 hands objects over when freeswitch.py cannot be imported."""


class Native:
    """The functions of `_freeswitch`."""

    def __init__(self) -> None:
        self.did: list[tuple] = []

    def CoreSession_get_uuid(self, session) -> str:
        return "u-1"

    def __getattr__(self, name: str):
        return lambda *words: self.did.append((name, *words))


@pytest.fixture
def native(monkeypatch) -> Native:
    """A process that is FreeSWITCH's, with the library modules of another Python."""
    made = Native()
    monkeypatch.setitem(sys.modules, "_freeswitch", made)
    monkeypatch.setitem(sys.modules, "freeswitch", None)
    monkeypatch.setattr(sys, "builtin_module_names", (*sys.builtin_module_names, "_freeswitch"))
    return made


class TestChecking:
    def test_outside_freeswitch_all_is_well(self):
        mod_python.check()

    def test_with_freeswitchs_library_all_is_well(self, native, monkeypatch):
        monkeypatch.setitem(sys.modules, "freeswitch", types.SimpleNamespace())
        mod_python.check()

    def test_without_it_the_message_says_what_to_do(self, native):
        with pytest.raises(mod_python.WrongPythonError) as raised:
            mod_python.check()
        said = str(raised.value)
        for word in (
            sys.prefix,
            sys.executable,
            sys.version.split()[0],
            "PATH",
            "Environment=PATH=",
            "doctor",
        ):
            assert word in said


class TestBareObjects:
    def test_a_session_is_hung_up_and_released(self, native):
        session = SwigPyObject()
        mod_python.refuse(session, mod_python.WrongPythonError("the reason"))
        assert native.did == [
            ("consoleLog", "err", "ivr_ai: call u-1 cannot be held: the reason\n"),
            ("CoreSession_hangup", session, "NORMAL_TEMPORARY_FAILURE"),
            ("delete_Session", session),
        ]

    def test_it_is_released_even_if_it_cannot_be_hung_up(self, native, monkeypatch):
        def fails(*words):
            raise TypeError("in method 'CoreSession_hangup'")

        native.CoreSession_hangup = native.CoreSession_get_uuid = fails
        session = SwigPyObject()
        mod_python.refuse(session, ValueError("x"))
        assert native.did[0] == ("consoleLog", "err", "ivr_ai: call ? cannot be held: ValueError: x\n")
        assert native.did[-1] == ("delete_Session", session)

    def test_a_command_is_answered_and_its_objects_go(self, native):
        stream, env = SwigPyObject(), SwigPyObject()
        mod_python.answer(stream, env, "text")
        assert native.did == [
            ("delete_Event", env),
            ("Stream_write", stream, "text"),
            ("delete_Stream", stream),
        ]


class TestOtherSessions:
    def test_they_have_methods_of_their_own(self):
        done = []
        session = types.SimpleNamespace(
            get_uuid=lambda: "u-1",
            ready=lambda: True,
            hangup=done.append,
            destroy=lambda: done.append("released"),
        )
        mod_python.refuse(session, ValueError("x"))
        assert done == ["NORMAL_TEMPORARY_FAILURE", "released"]

    def test_one_that_is_over_is_not_hung_up_again(self):
        done = []
        session = types.SimpleNamespace(get_uuid=lambda: "", ready=lambda: False, hangup=done.append)
        mod_python.refuse(session, ValueError("x"))
        assert done == []

    def test_one_that_cannot_be_released_is_logged(self, capsys):
        session = types.SimpleNamespace(destroy=lambda: 1 / 0)
        mod_python.release(session)
        assert "a session could not be released: ZeroDivisionError" in capsys.readouterr().err

    def test_an_answer_goes_to_the_stream(self):
        said = []
        mod_python.answer(types.SimpleNamespace(write=said.append), None, "text")
        assert said == ["text"]
