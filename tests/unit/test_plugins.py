"""What other packages bring: found, or left out with their name in the log."""

from __future__ import annotations

import sys
import textwrap

import pytest

from ivr_ai import plugins
from ivr_ai.bus import Bus
from ivr_ai.events import CallEvent


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with this code and these entry points, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def one(code: str, **groups: dict[str, str]) -> None:
        (tmp_path / "shop_voice.py").write_text(textwrap.dedent(code))
        sys.modules.pop("shop_voice", None)
        folder = tmp_path / "shop_voice-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-voice\nVersion: 1.0\n")
        lines = []
        for group, points in groups.items():
            lines.append(f"[ivr_ai.{group}]")
            lines += [f"{name} = {value}" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join(lines))

    yield one
    sys.modules.pop("shop_voice", None)


def test_tools_by_name(install):
    install("def status(arguments): return arguments['order']", tools={"order_status": "shop_voice:status"})
    tools = plugins.load_tools()
    assert tools["order_status"]({"order": 7}) == 7


def test_a_broken_one_is_named_and_the_others_are_there(install, caplog):
    install(
        """
        import sys
        def fine(arguments): return 1
        number = 42
        """,
        tools={
            "a_missing": "shop_voice:nothing",
            "b_number": "shop_voice:number",
            "c_nowhere": "no_such_module:f",
            "d_fine": "shop_voice:fine",
        },
    )
    assert list(plugins.load_tools()) == ["d_fine"]
    errors = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert [line.split(" is left out: ")[0] for line in errors] == [
        f"plug-in {name} of ivr_ai.tools" for name in ("a_missing", "b_number", "c_nowhere")
    ]
    assert "shop_voice:number is a int, not a function" in errors[1]


def test_a_module_that_exits_when_it_is_imported_ends_nothing(install, caplog):
    install("import sys\nsys.exit(3)", tools={"leaves": "shop_voice:f"})
    assert plugins.load_tools() == {}
    assert "plug-in leaves of ivr_ai.tools is left out: SystemExit: 3" in caplog.text


def test_observers_of_events_and_of_the_bus(install):
    install(
        """
        from __future__ import annotations
        from ivr_ai.bus import Bus
        seen, buses = [], []
        def on_event(event): seen.append(event)
        def subscribes(bus): buses.append(bus); bus.subscribe("own", seen.append)
        def annotated(where: Bus): buses.append(where)
        class Sink:
            def __call__(self, event): seen.append(event)
        sink = Sink()
        def two(bus, event): pass
        def fails(bus): raise ValueError("no server")
        """,
        observers={
            name: f"shop_voice:{name}" for name in ("on_event", "subscribes", "annotated", "sink", "fails")
        },
    )
    bus = Bus()
    plugins.load_observers(bus)
    import shop_voice

    assert shop_voice.buses == [bus, bus]
    assert sorted(each.name for each in bus.subscribers) == ["on_event", "own", "sink"]
    bus.publish(CallEvent("answered", 1.0))
    assert bus.close(10)
    assert len(shop_voice.seen) == 3


def test_an_observer_that_cannot_begin_is_named(install, caplog):
    install("def fails(bus): raise ValueError('no server')", observers={"webhook": "shop_voice:fails"})
    plugins.load_observers(Bus())
    assert "plug-in webhook of ivr_ai.observers is left out: ValueError: no server" in caplog.text


def test_without_any_there_are_none():
    assert plugins.load_tools() == {}
    bus = Bus()
    plugins.load_observers(bus)
    assert bus.subscribers == ()


def test_metadata_that_cannot_be_read_stops_nothing(monkeypatch, caplog):
    def broken(**wanted):
        raise ValueError("bad METADATA")

    monkeypatch.setattr(plugins, "entry_points", broken)
    assert plugins.load_tools() == {}
    assert "plug-ins of ivr_ai.tools cannot be looked for: ValueError: bad METADATA" in caplog.text
