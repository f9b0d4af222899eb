"""Before the answer: ringing while the model is connected to, and calls that fail without an answer.

A call that has not been answered may still be taken by somebody else: a carrier gets 503, and the extension
of a transfer answers for itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ears import samples
from models import APOLOGY, model, place, settings, times_heard, wait_heard, wait_quiet, write_apology
from support.rtp import AUDIBLE_PEAK
from support.sip import SipCall, SipCaller
from support.switch import OUR_MODULE, FreeSwitch, default_modules, find_install
from taps import wait_until

from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

CAUSE = "NORMAL_TEMPORARY_FAILURE"
TRANSFER = {"IVR_AI_FAILURE_ACTION": "transfer", "IVR_AI_FAILURE_TRANSFER": "busy XML test"}
QUICKLY = {"IVR_AI_CONNECT_TIMEOUT_MS": 700}
FAILURES = {
    "refused": Faults(refuse_status=401),
    "busy": Faults(refuse_status=503),
    "hanging": Faults(connect_delay_ms=10_000),
    "silent": Faults(no_session_created=True),
    "bad key": Faults(bad_key=True),
}


@pytest.fixture
def apology(tmp_path: Path) -> Path:
    return write_apology(tmp_path)


@pytest.fixture
def silent_agents(tmp_path: Path) -> dict[str, object]:
    """Settings of a call whose agent has no apology."""
    (tmp_path / "silent.toml").write_text('apology_text = ""\n', encoding="utf-8")
    return {"IVR_AI_AGENTS_DIR": tmp_path, "IVR_AI_AGENT": "silent"}


def assert_never_answered(call: SipCall, status: str) -> None:
    assert call.answered_at_s is None
    assert call.early_at_s is None and not call.packets
    assert call.status_line.startswith(f"SIP/2.0 {status} "), call.status_line


# ---- connecting --------------------------------------------------------------------------------------------


def test_a_call_rings_while_a_slow_model_is_connected(stream_switch: FreeSwitch, caller: SipCaller) -> None:
    with model(Faults(connect_delay_ms=1500)) as slow:
        call = place(caller, slow)
        wait_until(lambda: call.status_line.startswith("SIP/2.0 180 "), 1.0, "180")
        assert time.monotonic() - call.invited_at_s < 0.7
        call.wait_answered()
        assert call.answered_at_s - call.invited_at_s > 1.5
        assert call.early_at_s is None
        wait_quiet(call)


def test_a_call_that_is_refused_503_twice_rings_and_is_answered(
    stream_switch: FreeSwitch, caller: SipCaller
) -> None:
    with model(Faults(refuse_status=503, first_connections=2)) as busy:
        call = place(caller, busy).wait_answered()
        assert busy.attempts == 3
        wait_quiet(call)


# ---- failing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAILURES)
def test_a_transfer_is_made_without_an_answer(
    stream_switch: FreeSwitch, caller: SipCaller, apology: Path, name: str
) -> None:
    """And without the apology: the caller's own end says what has become of the call."""
    with model(FAILURES[name]) as sim:
        more = {**TRANSFER, **QUICKLY, "IVR_AI_APOLOGY_FILE": apology}
        call = place(caller, sim, **more)
        assert call.wait_ended(5) == "USER_BUSY"
    assert_never_answered(call, "486")


@pytest.mark.parametrize("name", FAILURES)
def test_without_an_apology_there_is_nothing_to_answer_for(
    stream_switch: FreeSwitch, caller: SipCaller, silent_agents: dict[str, object], name: str
) -> None:
    with model(FAILURES[name]) as sim:
        call = place(caller, sim, **QUICKLY, **silent_agents)
        assert call.wait_ended(5) == CAUSE
    assert_never_answered(call, "503")


def test_a_call_that_was_answered_hears_nothing_without_an_apology(
    stream_switch: FreeSwitch, caller: SipCaller, silent_agents: dict[str, object]
) -> None:
    with model(Faults(refuse_status=401)) as sim:
        call = place(caller, sim, "answered-1234", **silent_agents).wait_answered()
        assert call.wait_ended(5) == CAUSE
    assert not call.received() or np.abs(samples(call.received())).max() <= AUDIBLE_PEAK


# ---- without the module ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreeSwitch]:
    """A switch without mod_audio_stream."""
    install = find_install()
    if install is None or not Path(install.modulesdir, "mod_python3.so").is_file():
        pytest.skip("no mod_python3")
    modules = [name for name in default_modules(install) if name != OUR_MODULE]
    extensions = Path(__file__).with_name("extensions.xml").read_text(encoding="utf-8")
    with FreeSwitch(tmp_path_factory.mktemp("bare"), modules, dialplan_xml=extensions) as running:
        yield running


@pytest.fixture
def bare_caller(bare: FreeSwitch) -> Iterator[SipCaller]:
    with SipCaller(bare.sip_address) as caller:
        yield caller
    bare.wait_channels(0)


@pytest.fixture
def well() -> Iterator[SimServer]:
    with model() as sim:
        yield sim


def test_without_the_module_a_call_is_not_answered(
    bare: FreeSwitch, bare_caller: SipCaller, well: SimServer
) -> None:
    """A carrier may go on to another gateway; nobody pays for a session."""
    call = place(bare_caller, well)
    assert call.wait_ended(3) == CAUSE
    assert_never_answered(call, "503")
    assert well.attempts == 0
    [line] = [line for line in bare.wait_log(rf"call {call.call_id}: ") if "[ERR]" in line]
    assert OUR_MODULE in line


def test_without_the_module_a_call_is_transferred_unanswered(
    bare: FreeSwitch, bare_caller: SipCaller, well: SimServer
) -> None:
    call = place(bare_caller, well, **TRANSFER)
    assert call.wait_ended(3) == "USER_BUSY"
    assert_never_answered(call, "486")


def test_without_the_module_a_caller_who_is_connected_hears_the_apology(
    bare: FreeSwitch, bare_caller: SipCaller, well: SimServer, apology: Path
) -> None:
    """From FreeSWITCH's own player, to the sample, once."""
    call = bare_caller.call("answered-1234", settings(well.url, IVR_AI_APOLOGY_FILE=apology)).wait_answered()
    wait_heard(call, APOLOGY)
    assert call.wait_ended(3) == CAUSE
    assert times_heard(call, APOLOGY) == 1


def test_the_module_may_be_loaded_later(bare: FreeSwitch, well: SimServer) -> None:
    assert bare.cli(f"load {OUR_MODULE}").startswith("+OK")
    try:
        with SipCaller(bare.sip_address) as caller:
            wait_quiet(place(caller, well).wait_answered())
        bare.wait_channels(0)
    finally:
        assert bare.cli(f"unload {OUR_MODULE}").startswith("+OK")
