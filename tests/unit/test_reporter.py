"""What a call reports: to its observer, the bus, its log and its timeline."""

from __future__ import annotations

import json

import pytest

from ivr_ai.bus import Bus
from ivr_ai.events import CallEvent
from ivr_ai.reporter import MAX_COMPLAINTS, MAX_ITEMS, Reporter

WALL_S = 1767225600.0  # 2026-01-01T00:00:00Z


class Clocks:
    """Both clocks of a call: at_s runs, and the time of day may be set."""

    def __init__(self) -> None:
        self.now_s, self.wall_s = 5.0, WALL_S

    def reporter(self, seen: list[CallEvent] | None = None, **more) -> Reporter:
        observer = None if seen is None else seen.append
        return Reporter(
            "call-1", observer, clock=lambda: self.now_s, wall=lambda: self.wall_s, agent="sales", **more
        )


@pytest.fixture
def seen() -> list[CallEvent]:
    return []


@pytest.fixture
def reporter(seen) -> Reporter:
    return Clocks().reporter(seen)


@pytest.fixture
def logged(caplog):
    """The lines logged so far at WARNING and above, and DEBUG's beside them."""
    caplog.set_level("DEBUG", "ivr_ai.call")
    return lambda level="WARNING": [
        record.getMessage() for record in caplog.records if record.levelname == level
    ]


class TestEvents:
    def test_an_event_says_whose_it_is_and_when(self, seen):
        clocks = Clocks()
        reporter = clocks.reporter(seen)
        reporter.tell("answered")
        clocks.now_s = 6.5
        reporter.tell("heard", {"turn": 1, "item": "item-1"}, at_s=6.0)
        assert seen == [
            CallEvent("answered", 5.0, {}, "call-1", "sales", 0, "", WALL_S),
            CallEvent(
                "heard", 6.0, {"turn": 1, "item": "item-1"}, "call-1", "sales", 1, "item-1", WALL_S + 1
            ),
        ]

    def test_the_time_of_day_follows_the_calls_own_clock(self, seen):
        """Whoever sets the machine's clock in mid-call does not make events overtake each other."""
        clocks = Clocks()
        reporter = clocks.reporter(seen)
        reporter.tell("answered")
        clocks.now_s, clocks.wall_s = 7.0, WALL_S - 3600
        reporter.tell("ended")
        assert seen[1].wall_s - seen[0].wall_s == 2.0

    def test_one_made_by_hand_needs_no_more_than_a_kind_and_a_time(self):
        event = CallEvent("answered", 5.0)
        assert (event.data, event.uuid, event.agent, event.turn, event.item, event.wall_s) == (
            {},
            "",
            "",
            0,
            "",
            0,
        )


class TestTurns:
    def test_an_event_without_a_turn_belongs_to_the_callers_last(self, reporter, seen):
        reporter.tell("greeting")
        reporter.tell("speech_started", {"turn": 1})
        reporter.tell("response_started", {"response": "r"})
        assert [event.turn for event in seen] == [0, 1, 1]

    def test_an_event_that_comes_late_keeps_its_own(self, reporter, seen):
        """A transcript of the first turn that comes while the caller is in the second."""
        for turn in (1, 2):
            reporter.tell("speech_started", {"turn": turn})
        reporter.tell("caller_said", {"turn": 1, "text": "Hello."})
        reporter.tell("error", {"code": "x"})
        assert [event.turn for event in seen] == [1, 2, 1, 2]

    def test_an_item_stays_in_the_turn_in_which_it_was_first_heard_of(self, reporter, seen):
        reporter.tell("heard", {"item": "greeting", "turn": 0})
        reporter.tell("speech_started", {"turn": 1})
        reporter.tell("barge_in", {"item": "greeting", "heard_ms": 400})
        reporter.tell("ai_said", {"item": "reply", "text": "Yes."})
        reporter.tell("speech_started", {"turn": 2})
        reporter.tell("item_finished", {"item": "reply"})
        assert [(event.turn, event.item) for event in seen] == [
            (0, "greeting"),
            (1, ""),
            (0, "greeting"),
            (1, "reply"),
            (2, ""),
            (1, "reply"),
        ]

    def test_items_are_not_remembered_for_ever(self, reporter):
        for number in range(10 * MAX_ITEMS):
            reporter.tell("heard", {"item": f"item-{number}", "turn": number})
        assert len(reporter._turns._of_items) == MAX_ITEMS

    def test_an_item_that_is_not_a_name_is_no_item(self, reporter, seen):
        reporter.tell("heard", {"item": ["no", "name"], "turn": "no number"})
        assert (seen[0].item, seen[0].turn) == ("", 0)


class TestListeners:
    def test_an_observer_that_raises_is_logged(self, caplog):
        def raises(event):
            raise RuntimeError("a fault of the observer's")

        Reporter("call-1", raises).tell("answered")
        assert "a fault of the observer's" in caplog.text

    def test_the_bus_gets_what_the_observer_gets(self, seen):
        bus, published = Bus(), []
        bus.subscribe("test", published.append)
        reporter = Clocks().reporter(seen, bus=bus)
        for kind in ("answered", "heard", "ended"):
            reporter.tell(kind)
        assert bus.close(10)
        assert published == seen and len(seen) == 3


class TestTimeline:
    def test_without_a_bus_it_is_there_when_the_end_has_been_told(self, tmp_path, seen):
        reporter = Clocks().reporter(seen, timeline_dir=str(tmp_path / "new" / "folder"))
        reporter.tell("answered")
        assert list(tmp_path.iterdir()) == []
        reporter.tell("ended", {"turns": 0})
        written = json.loads((tmp_path / "new" / "folder" / "call-1.json").read_text())
        assert [event["kind"] for event in written["events"]] == [event.kind for event in seen]

    def test_with_a_bus_it_is_another_subscribers_work(self, tmp_path):
        Clocks().reporter(timeline_dir=str(tmp_path), bus=Bus()).tell("ended")
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_refuses_ends_nothing(self, tmp_path, caplog, seen):
        (tmp_path / "file").touch()
        Clocks().reporter(seen, timeline_dir=str(tmp_path / "file")).tell("ended")
        assert "call call-1: no timeline in IVR_AI_TIMELINE_DIR" in caplog.text
        assert len(seen) == 1


class TestComplaints:
    def test_nonsense_is_logged_and_told_once(self, reporter, seen, logged):
        for number in range(3):
            reporter.complain("base64", f"number {number}")
        reporter.complain("full", "too much")
        assert [event.data for event in seen] == [
            {"code": "base64", "message": "number 0"},
            {"code": "full", "message": "too much"},
        ]
        assert logged() == ["call call-1: number 0", "call call-1: too much"]

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            (
                {"code": "rate_limit_exceeded", "message": "Try again in 1.6s."},
                "the server says rate_limit_exceeded: Try again in 1.6s. (too many requests or sessions "
                "for this account: try again later or raise its limits)",
            ),
            (
                {"code": "invalid_value", "message": "Bad voice.", "param": "session.audio.output.voice"},
                "the server says invalid_value: Bad voice. (see OPENAI_REALTIME_VOICE)",
            ),
            ({"code": "odd", "message": ""}, "the server says odd"),
            ({"code": None, "message": None}, "the server says that something is wrong"),
            ({}, "the server says that something is wrong"),
        ],
    )
    def test_what_the_server_says_is_a_warning_with_the_setting(self, reporter, logged, data, line):
        reporter.tell("error", data)
        assert logged() == [f"call call-1: {line}"]

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            (
                {"field": "audio.input.transcription"},
                "the server refuses audio.input.transcription, and the call goes on without it: change or "
                "unset OPENAI_TRANSCRIPTION_MODEL",
            ),
            (
                {"field": "reasoning", "message": "Unknown parameter."},
                "the server refuses reasoning, and the call goes on without it (Unknown parameter.): change "
                "or unset OPENAI_REASONING_EFFORT",
            ),
            ({"field": "tracing"}, "the server refuses tracing, and the call goes on without it"),
        ],
    )
    def test_a_setting_that_was_refused_is_a_warning_with_its_name(self, reporter, logged, data, line):
        reporter.tell("setting_refused", data)
        assert logged() == [f"call call-1: {line}"]

    def test_each_is_said_once_a_call_and_told_every_time(self, reporter, seen, logged):
        for _ in range(3):
            reporter.tell("error", {"code": "odd", "message": "m"})
            reporter.tell("setting_refused", {"field": "reasoning"})
        assert len(logged()) == 2
        assert len(seen) == 6

    def test_a_server_that_complains_of_ever_more_is_not_heard_for_ever(self, reporter, seen, logged):
        for number in range(3 * MAX_COMPLAINTS):
            reporter.tell("error", {"code": f"code-{number}", "message": "m"})
        assert len(logged()) == MAX_COMPLAINTS
        assert len(logged("DEBUG")) == 2 * MAX_COMPLAINTS
        assert len(seen) == 3 * MAX_COMPLAINTS

    def test_a_server_cannot_write_lines_of_its_own(self, reporter, logged):
        reporter.tell("error", {"code": "a\nb", "message": "one\r\n2026 [ERR] two\x1b[31m" + "x" * 100_000})
        (line,) = logged()
        assert "\n" not in line and "\r" not in line and "\x1b" not in line
        assert len(line) < 800

    @pytest.mark.parametrize(
        ("reason", "line"),
        [
            (
                "the server says invalid_api_key: Incorrect API key provided.",
                "the server says invalid_api_key: Incorrect API key provided. (set OPENAI_API_KEY to a "
                "key that is valid)",
            ),
            ("lost the server", "lost the server"),
        ],
    )
    def test_a_failure_is_an_error_that_names_the_setting(self, reporter, logged, reason, line):
        reporter.tell("failure", {"reason": reason})
        assert logged("ERROR") == [f"call call-1: {line}"]

    def test_everything_else_is_for_debugging(self, reporter, logged):
        for kind in ("connected", "answered", "heard", "item_finished", "ended"):
            reporter.tell(kind)
        assert (len(logged("DEBUG")), logged(), logged("ERROR")) == (5, [], [])
