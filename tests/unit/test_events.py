"""What a call reports: to its observer, its log and its timeline."""

from __future__ import annotations

import json

from ivr_ai.events import CallEvent, Reporter


def test_the_observer_and_the_timeline_get_the_same(tmp_path):
    seen: list[CallEvent] = []
    reporter = Reporter("call-1", seen.append, str(tmp_path / "new" / "folder"), lambda: 5.0)
    reporter.tell("answered")
    reporter.tell("heard", {"turn": 1}, at_s=4.5)
    assert seen == [CallEvent("answered", 5.0, {}), CallEvent("heard", 4.5, {"turn": 1})]
    reporter.write_timeline()
    written = json.loads((tmp_path / "new" / "folder" / "call-1.json").read_text())
    assert written == {
        "uuid": "call-1",
        "events": [{"kind": "answered", "at_s": 5.0}, {"kind": "heard", "at_s": 4.5, "turn": 1}],
    }
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["call-1.json"]


def test_without_a_directory_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reporter = Reporter("call-1", None, "", lambda: 0.0)
    reporter.tell("answered")
    reporter.write_timeline()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_logged(tmp_path, caplog):
    (tmp_path / "file").touch()
    reporter = Reporter("call-1", None, str(tmp_path / "file"), lambda: 0.0)
    reporter.write_timeline()
    assert "call call-1: no timeline in IVR_AI_TIMELINE_DIR" in caplog.text


def test_an_observer_that_raises_is_logged(caplog):
    def raises(event):
        raise RuntimeError("a fault of the observer's")

    Reporter("call-1", raises, "", lambda: 0.0).tell("answered")
    assert "a fault of the observer's" in caplog.text


def test_a_complaint_is_made_once():
    seen: list[CallEvent] = []
    reporter = Reporter("call-1", seen.append, "", lambda: 0.0)
    for number in range(3):
        reporter.complain("base64", f"number {number}")
    reporter.complain("full", "too much")
    assert [event.data for event in seen] == [
        {"code": "base64", "message": "number 0"},
        {"code": "full", "message": "too much"},
    ]
