"""Loading once, on a thread with room."""

from __future__ import annotations

import sys
import threading

import pytest

from ivr_ai import warmup
from ivr_ai.config import Settings
from ivr_ai.warmup import Warmup


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    """The stack size and the recursion limit of this process stay as they are."""
    asked = []
    monkeypatch.setattr(threading, "stack_size", asked.append)
    limit = sys.getrecursionlimit()
    yield asked
    sys.setrecursionlimit(limit)


def test_it_happens_once_however_many_wait(limits):
    loads, let_on = [], threading.Event()

    def load() -> None:
        let_on.wait(10)
        loads.append(threading.current_thread().name)

    warm = Warmup(load)
    waiting = [threading.Thread(target=warm.wait) for _ in range(8)]
    for thread in waiting:
        thread.start()
    let_on.set()
    for thread in waiting:
        thread.join()
    warm.wait()
    assert loads == ["ivr-warm"]
    assert limits == [warmup.THREAD_STACK_BYTES]


def test_what_went_wrong_is_said_to_everybody_who_waits():
    def load() -> None:
        raise SystemExit("no such library")

    warm = Warmup(load)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"cannot be loaded: SystemExit\('no such library'\) \(library"
        ):
            warm.wait()


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch):
    loads = []
    warm = Warmup(lambda: loads.append(1))

    def none_left(self) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start"):
            warm.wait()
    warm.wait()
    assert loads == [1]


def test_wrong_settings_of_the_process_are_logged_and_leave_the_others(monkeypatch, tmp_path, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAD_THRESHOLD", "loud")
    monkeypatch.setenv("IVR_AI_APOLOGY_TEXT", "Sorry.")
    assert warmup.process_settings().apology_text == "Sorry."
    assert "settings: VAD_THRESHOLD 'loud' (environment)" in caplog.text


def test_an_apology_that_is_silence_is_not_made(monkeypatch):
    monkeypatch.setattr("ivr_ai.failure.apology_audio", lambda *wanted: pytest.fail("made"))
    warmup.prepare_apology(Settings(realtime_url="ws://localhost/", apology_text=""))
