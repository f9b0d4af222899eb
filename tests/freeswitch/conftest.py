"""Fixtures for tests against a real FreeSWITCH. Without one every test here is skipped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [
    str(_HERE),
    str(_HERE.parent),
    str(_HERE.parents[1]),
]  # for `from lines import ...`, `from support.sip import ...` and ivr_ai, however pytest is started

from lines import Line  # noqa: E402
from support.sip import SipCaller  # noqa: E402
from support.switch import OUR_MODULE, FreeSwitch, find_install  # noqa: E402
from taps import Probe  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if _HERE in item.path.parents]
    missing = bool(here) and find_install() is None
    for item in here:
        item.add_marker(pytest.mark.freeswitch)
        if missing:
            item.add_marker(pytest.mark.skip(reason="skipped: no FreeSWITCH"))


@pytest.fixture(scope="session")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreeSwitch]:
    """One FreeSWITCH for the whole run, with the module under test when it has been built."""
    extensions = _HERE.joinpath("extensions.xml").read_text(encoding="utf-8")
    with FreeSwitch(tmp_path_factory.mktemp("switch"), dialplan_xml=extensions) as running:
        yield running


@pytest.fixture
def stream_switch(switch: FreeSwitch) -> FreeSwitch:
    """The same, certain to have the module under test."""
    if switch.cli(f"module_exists {OUR_MODULE}") != "true":
        pytest.fail(f"{OUR_MODULE} is not loaded: run `make`, then see {switch.root}/log/freeswitch.log")
    return switch


@pytest.fixture(scope="session")
def probe(switch: FreeSwitch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """What starts streams on the switch's calls, injects and captures."""
    with closing(Probe(switch, tmp_path_factory.mktemp("probe"))) as hand:
        yield hand


@pytest.fixture
def new_caller(switch: FreeSwitch) -> Iterator[Callable[..., SipCaller]]:
    """new_caller(codec=..., ptime_ms=...): a SipCaller of this test. Afterwards no channel may be left."""
    with ExitStack() as callers:

        def new(codec: str = "PCMU", ptime_ms: int = 20) -> SipCaller:
            return callers.enter_context(SipCaller(switch.sip_address, codec, ptime_ms))

        yield new
    switch.wait_channels(0)


@pytest.fixture
def open_line(
    stream_switch: FreeSwitch, probe: Probe, new_caller: Callable[..., SipCaller]
) -> Callable[..., Line]:
    """open_line(extension, codec=..., ptime_ms=...): an answered call, a stream started on it."""

    def new(extension: str, codec: str = "PCMU", ptime_ms: int = 20) -> Line:
        call = new_caller(codec, ptime_ms).call(extension).wait_answered()
        return Line(call, probe.start(call))

    return new


@pytest.fixture
def caller(new_caller: Callable[..., SipCaller]) -> SipCaller:
    """A PCMU caller."""
    return new_caller()
