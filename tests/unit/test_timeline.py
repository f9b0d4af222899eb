"""Timelines: whole files under safe names."""

from __future__ import annotations

import json
import re

import pytest

from ivr_ai import timeline
from ivr_ai.events import CallEvent
from ivr_ai.timeline import NAME_MAX_CHARS, Timelines, file_name, wall_clock

WALL_S = 1767225600.25  # 2026-01-01T00:00:00.250Z


def told(uuid: str = "call-1", *kinds: str) -> list[CallEvent]:
    kinds = kinds or ("answered", "ended")
    return [
        CallEvent(kind, 5.0 + n, {"n": n}, uuid, "sales", n, f"item-{n}" if n else "", WALL_S + n)
        for n, kind in enumerate(kinds)
    ]


def write(directory, *events: CallEvent) -> Timelines:
    timelines = Timelines()
    for uuid in dict.fromkeys(event.uuid for event in events):
        timelines.begin(uuid, str(directory))
    for event in events:
        timelines(event)
    return timelines


class TestNames:
    @pytest.mark.parametrize(
        "uuid", ["5c7a4b0e-8d1f-4a53-9f2e-0123456789ab", "a84b4c76e66710@pc33.example.org", "x"]
    )
    def test_a_safe_uuid_is_its_own_name(self, uuid):
        assert file_name(uuid) == uuid

    @pytest.mark.parametrize(
        "uuid",
        [
            "../outside/x@10.0.0.1",
            "/etc/passwd",
            "..",
            ".",
            "",
            ".hidden",
            "a\\b",
            "a\0b",
            "line\nbreak",
            "é" * 10,
            "\udcfc",
            "x" * 5000,
        ],
    )
    def test_any_other_is_made_safe_and_stays_its_own(self, uuid):
        name = file_name(uuid)
        assert re.fullmatch(r"[A-Za-z0-9_@-][A-Za-z0-9._@-]*", name)
        assert len(name) <= NAME_MAX_CHARS
        assert name != uuid
        assert file_name(uuid + "!") != name
        assert file_name(uuid) == name

    def test_names_that_look_alike_once_they_are_safe_differ(self):
        assert len({file_name(uuid) for uuid in ("a/b", "a:b", "a_b", "a?b")}) == 4

    def test_a_call_id_leads_to_no_other_directory(self, tmp_path):
        inside = tmp_path / "in"
        write(inside, *told("../outside/x@10.0.0.1"))
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
        (path,) = inside.iterdir()
        assert json.loads(path.read_text())["uuid"] == "../outside/x@10.0.0.1"


class TestFiles:
    def test_it_has_every_event_with_its_wall_clock(self, tmp_path):
        write(tmp_path / "new" / "folder", *told())
        assert json.loads((tmp_path / "new" / "folder" / "call-1.json").read_text()) == {
            "uuid": "call-1",
            "agent": "sales",
            "events": [
                {"kind": "answered", "at_s": 5.0, "wall": "2026-01-01T00:00:00.250Z", "turn": 0, "n": 0},
                {
                    "kind": "ended",
                    "at_s": 6.0,
                    "wall": "2026-01-01T00:00:01.250Z",
                    "turn": 1,
                    "item": "item-1",
                    "n": 1,
                },
            ],
        }
        assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["call-1.json"]

    def test_a_detail_does_not_take_an_events_own_place(self, tmp_path):
        data = {"kind": "x", "wall": "x", "at_s": "x", "turn": 9}
        write(tmp_path, CallEvent("ended", 1.0, data, "call-1", turn=2, wall_s=WALL_S))
        (entry,) = json.loads((tmp_path / "call-1.json").read_text())["events"]
        assert (entry["kind"], entry["at_s"], entry["turn"]) == ("ended", 1.0, 2)
        assert entry["wall"].startswith("2026-")

    def test_nothing_is_there_before_the_end(self, tmp_path):
        write(tmp_path, *told("call-1", "answered", "heard"))
        assert list(tmp_path.iterdir()) == []

    def test_what_is_not_text_and_not_json_is_written_all_the_same(self, tmp_path):
        write(tmp_path, CallEvent("ended", 1.0, {"said": "M\udcfcller", "what": {1, 2}}, "call-1"))
        (entry,) = json.loads((tmp_path / "call-1.json").read_text(encoding="ascii"))["events"]
        assert entry["said"] == "M\udcfcller"
        assert entry["what"] == "{1, 2}"

    def test_calls_do_not_mix(self, tmp_path):
        first, second = told("call-1"), told("call-2")
        write(tmp_path, first[0], second[0], first[1], second[1])
        for uuid in ("call-1", "call-2"):
            assert len(json.loads((tmp_path / f"{uuid}.json").read_text())["events"]) == 2

    def test_a_call_without_a_directory_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write("", *told())
        Timelines()(told()[1])
        assert list(tmp_path.iterdir()) == []

    def test_a_call_that_never_ends_is_bounded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(timeline, "MAX_EVENTS", 3)
        write(tmp_path, *told("call-1", *["heard"] * 5, "ended"))
        written = json.loads((tmp_path / "call-1.json").read_text())
        assert [each["kind"] for each in written["events"]] == ["heard", "heard", "heard", "ended"]
        assert written["events_left_out"] == 2

    def test_calls_whose_end_is_never_told_are_bounded(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(timeline, "MAX_CALLS", 2)
        timelines = Timelines()
        for uuid in ("call-1", "call-2", "call-3"):
            timelines.begin(uuid, str(tmp_path))
        for uuid in ("call-1", "call-2", "call-3"):
            timelines(told(uuid)[1])
        assert sorted(path.stem for path in tmp_path.iterdir()) == ["call-2", "call-3"]
        assert "call call-1: no timeline, its end was never heard of" in caplog.text


class TestDisks:
    def refused(self, caplog) -> list[str]:
        return [each.levelname for each in caplog.records if "no timeline" in each.getMessage()]

    def test_one_that_refuses_is_one_warning(self, tmp_path, caplog):
        caplog.set_level("DEBUG", "ivr_ai.call")
        (tmp_path / "file").touch()
        write(tmp_path / "file", *told("call-1"), *told("call-2"), *told("call-3"))
        assert self.refused(caplog) == ["WARNING", "DEBUG", "DEBUG"]
        assert "call call-1: no timeline in IVR_AI_TIMELINE_DIR: " in caplog.text

    def test_one_that_refuses_again_after_it_was_well_is_another(self, tmp_path, caplog):
        folder = tmp_path / "folder"
        folder.touch()
        timelines = write(folder, *told("call-1"))
        folder.unlink()
        for uuid in ("call-2", "call-3"):
            timelines.begin(uuid, str(folder))
        timelines(told("call-2")[1])
        (folder / "call-2.json").unlink()
        folder.rmdir()
        folder.touch()
        timelines(told("call-3")[1])
        assert self.refused(caplog) == ["WARNING", "WARNING"]

    def test_no_half_file_stays(self, tmp_path, monkeypatch, caplog):
        def full(self, *arguments, **more):
            self.touch()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(timeline.Path, "write_text", full)
        write(tmp_path, *told())
        assert list(tmp_path.iterdir()) == []
        assert "No space left on device" in caplog.text

    def test_a_directory_that_cannot_be_one(self, tmp_path, caplog):
        write("nul\0nul", *told())
        assert self.refused(caplog) == ["WARNING"]


def test_wall_clock_is_utc():
    assert wall_clock(WALL_S) == "2026-01-01T00:00:00.250Z"
    assert wall_clock(0) == "1970-01-01T00:00:00.000Z"
