"""Models that die, hang, refuse or talk nonsense: the caller is told, the call ends as configured or goes on.

All of it happens to calls of their own on one switch, a few at a time, beside one whose model is well.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from ears import audible_span, frequency_hz, level_db, noise
from models import (
    APOLOGY,
    GREETING,
    KEY,
    REPLY,
    VOICE,
    model,
    settings,
    spoken,
    times_heard,
    wait_heard,
    wait_quiet,
    write_apology,
)
from support.sip import SipCall, SipCaller
from support.switch import MUSIC_HZ, TONE_HZ, FreeSwitch

from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

REPOSITORY = Path(__file__).resolve().parents[2]
AT_ONCE = 8  # calls: this process serves most of their models
WELL_TURNS = 3
CAUSE = "NORMAL_TEMPORARY_FAILURE"


@dataclass(frozen=True)
class Failure:
    """What goes wrong, what is to happen then, and what the log has to say."""

    log: str
    faults: Faults | str = field(default_factory=Faults)  # or "nobody", "killed"
    action: str = "hangup"
    settings: dict[str, object] = field(default_factory=dict)


ALONE = {"IVR_AI_RECONNECT_MAX": 0}  # a lost connection is a failure at once
FATAL = {
    "nobody listens": Failure("is the server of OPENAI_REALTIME_URL running?", "nobody"),
    "HTTP 503": Failure(
        "answered HTTP 503", Faults(refuse_status=503), settings={"IVR_AI_CONNECT_TIMEOUT_MS": 1500}
    ),
    "HTTP 401": Failure("answered HTTP 401", Faults(refuse_status=401), "return"),
    "bad key": Failure("invalid_api_key", Faults(bad_key=True), "return"),
    "slow to connect": Failure(
        "did not answer within 600 ms (IVR_AI_CONNECT_TIMEOUT_MS)",
        Faults(connect_delay_ms=4000),
        settings={"IVR_AI_CONNECT_TIMEOUT_MS": 600},
    ),
    "no session": Failure(
        "accepted no session within 3000 ms (IVR_AI_CONNECT_TIMEOUT_MS)",
        Faults(no_session_created=True),
        "return",
        {"IVR_AI_CONNECT_TIMEOUT_MS": 3000},
    ),
    "killed": Failure("lost the server", "killed", settings=ALONE),
    "killed for good": Failure("is the server of OPENAI_REALTIME_URL running?", "killed", "transfer"),
    "reset": Failure("lost the server", Faults(drop_after_s=1.0), "return", ALONE),
    "reset again and again": Failure("lost the server", Faults(drop_after_s=0.8), "transfer"),
    "reset inside a reply": Failure("lost the server", Faults(drop_mid_response=True), "transfer", ALONE),
    "hung": Failure(
        "did not answer a ping",
        Faults(stall_after_s=2.0),
        "return",
        {"IVR_AI_PING_INTERVAL_S": 1, "IVR_AI_PING_TIMEOUT_S": 0.5, **ALONE},
    ),
    "expired": Failure("session_expired", Faults(expire_after_s=1.0), "transfer", ALONE),
    "closed with 1011": Failure(
        "connection closed with 1011", Faults(close_after_s=1.0, close_code=1011), settings=ALONE
    ),
    "closed for a policy": Failure(
        "connection closed with 1008", Faults(close_after_s=1.0, close_code=1008), "return"
    ),
    "no reply": Failure(
        "no reply from the model for 1 s (IVR_AI_RESPONSE_TIMEOUT_S)",
        Faults(no_response=True),
        "return",
        {"IVR_AI_RESPONSE_TIMEOUT_S": 1},
    ),
    "replies fail": Failure(
        "could not reply: bad_prompt", Faults(fail_responses=-1, fail_code="bad_prompt"), "transfer"
    ),
    "rate limits do not pass": Failure(
        "could not reply: rate_limit_exceeded",
        Faults(rate_limited=-1, retry_after_s=0.7),
        settings={"IVR_AI_RESPONSE_TIMEOUT_S": 2},
    ),
    "too much": Failure(
        "IVR_AI_MAX_MESSAGE_BYTES",
        Faults(huge_message_bytes=200_000),
        settings={"IVR_AI_MAX_MESSAGE_BYTES": 65536},
    ),
}
ATTEMPTS = {  # how often a server is connected to that fails like this
    "HTTP 503": range(3, 10),
    "HTTP 401": range(1, 2),
    "bad key": range(1, 2),
    "reset": range(1, 2),
    "reset again and again": range(4, 5),  # IVR_AI_RECONNECT_MAX is 3
    "expired": range(1, 2),
    "closed for a policy": range(1, 2),
}

PASSING = {  # troubles that a call goes on after, and what of them the log has to say
    "a rate limit": Failure("the server says rate_limit_exceeded", Faults(rate_limited=1, retry_after_s=1.0)),
    "an error of the server": Failure(
        "the server says server_error", Faults(fail_responses=1, fail_code="server_error")
    ),
    "HTTP 503 at first": Failure("", Faults(refuse_status=503, first_connections=2)),
    "a slow start": Failure("", Faults(connect_delay_ms=1200)),
    "expired once": Failure("session_expired", Faults(expire_after_s=0.3, first_connections=1)),
    "closed with 1001": Failure(
        "connection closed with 1001", Faults(close_after_s=0.3, close_code=1001, first_connections=1)
    ),
    "reset inside the greeting": Failure(
        "lost the server", Faults(drop_mid_response=True, first_connections=1)
    ),
    "hung once": Failure(
        "did not answer a ping",
        Faults(stall_after_s=0.3, first_connections=1),
        settings={"IVR_AI_PING_INTERVAL_S": 1, "IVR_AI_PING_TIMEOUT_S": 0.5},
    ),
}

NONSENSE = {  # and what of it the log has to say, if anything
    "bad JSON": (Faults(bad_json=True), "the server sent what is not an event"),
    "bad base64": (Faults(bad_base64=True), "the server sent audio that is not base64"),
    "binary frames": (Faults(binary_frame=True), "the server sent what is not an event"),
    "10 MB": (Faults(huge_message_bytes=10_000_000), ""),
    "errors": (Faults(error_code="something_odd"), "the server says something_odd"),
    "a response that never was": (Faults(done_without_created=True), ""),
    "odd pieces": (Faults(delta_bytes=1333), ""),
    "one response fails": (Faults(fail_responses=1, fail_code="odd"), "the server says odd"),
}
DISORDER = {  # audio included: what is heard is not to be expected in order
    "twice": Faults(duplicate_events=True),
    "out of order": Faults(reorder_events=True),
}


@dataclass
class Outcome:
    """A call that is over."""

    call: SipCall
    log: list[str]  # of ivr_ai about this call
    attempts: int = 0  # to connect to the model, where this process serves it


class Incident:
    """Places the calls of this file."""

    def __init__(self, switch: FreeSwitch, folder: Path) -> None:
        self.switch, self.folder = switch, folder
        self.apology = write_apology(folder)
        self.outcomes: dict[str, Outcome] = {}
        self.problems: dict[str, Exception] = {}

    def _over(self, name: str, call: SipCall, sim: SimServer | None = None) -> None:
        self.switch.wait_log(rf"call {call.call_id} over: ", 10)
        log = self.switch.log_lines(f"ivr_ai: call {call.call_id}")
        self.outcomes[name] = Outcome(call, log, sim.attempts if sim else 0)

    def attempt(self, name: str, action: Callable[[], None]) -> None:
        """What goes wrong here is for that call's own tests."""
        try:
            action()
        except Exception as error:
            self.problems[name] = error

    def outcome(self, name: str) -> Outcome:
        """Raises what went wrong with that call."""
        if name in self.problems:
            raise self.problems[name]
        return self.outcomes[name]

    def fail(self, name: str, failure: Failure) -> None:
        """Until the call is over, or what comes after the conversation has been heard for half a second."""
        values = {"IVR_AI_APOLOGY_FILE": self.apology, "IVR_AI_FAILURE_ACTION": failure.action}
        if failure.action == "transfer":
            values["IVR_AI_FAILURE_TRANSFER"] = "music XML test"
        extension = "then-tone" if failure.action == "return" else "1234"
        with broken(failure.faults, self.folder) as (url, sim), SipCaller(self.switch.sip_address) as caller:
            headers = settings(url, **values, **failure.settings)
            call = caller.call(extension, headers).wait_answered()
            wait_heard(call, APOLOGY, timeout_s=15)
            if failure.action == "hangup":
                call.wait_ended(5)
            else:
                call.wait_packets(40)
            call.hangup()
            self._over(name, call, sim)

    def bear(self, name: str, faults: Faults) -> None:
        """A greeting and a turn, with nonsense in each reply; then the caller hangs up."""
        with model(faults) as sim, SipCaller(self.switch.sip_address) as caller:
            call = caller.call("1234", settings(sim.url)).wait_answered()
            wait_quiet(call)
            before = times_heard(call, spoken(call, REPLY))
            call.say(noise(8000, 0.4)).wait(5)
            if name in NONSENSE:
                wait_heard(call, spoken(call, REPLY), before + 1)
            else:
                sim.sessions[0].wait_sent("response.done", 2, 10)
            wait_quiet(call)
            assert call.ended_at_s is None
            call.hangup()
            self._over(name, call)

    def go_on(self, name: str, trouble: Failure) -> None:
        """A greeting and a turn, whatever becomes of the first connection or the first response."""
        with model(trouble.faults) as sim, SipCaller(self.switch.sip_address) as caller:
            call = caller.call("1234", settings(sim.url, **trouble.settings)).wait_answered()
            wait_heard(call, spoken(call, GREETING))
            wait_quiet(call)
            before = times_heard(call, spoken(call, REPLY))  # a failed response uses up its line
            call.say(noise(8000, 0.4)).wait(5)
            wait_heard(call, spoken(call, REPLY), before + 1)
            wait_quiet(call)
            assert call.ended_at_s is None
            call.hangup()
            self._over(name, call, sim)

    def stay_well(self) -> None:
        """A conversation with a healthy model while all that goes on.

        A process of its own serves it: what this one has to do for the others is not to be heard there.
        """
        with server_process(self.folder) as url, SipCaller(self.switch.sip_address) as caller:
            call = caller.call("1234", settings(url)).wait_answered()
            wait_heard(call, spoken(call, GREETING))
            for turn in range(WELL_TURNS):
                wait_quiet(call)
                call.say(noise(8000, 0.4, turn)).wait(5)
                wait_heard(call, spoken(call, REPLY), turn + 1)
            wait_quiet(call)
            call.hangup()
            self._over("well", call)


@contextmanager
def broken(faults: Faults | str, folder: Path) -> Iterator[tuple[str, SimServer | None]]:
    """The URL of a model that fails like this, and the model where this process serves it."""
    if isinstance(faults, Faults):
        with model(faults) as sim:
            yield sim.url, sim
    elif faults == "killed":
        with server_process(folder, killed_after_s=1.0) as url:
            yield url, None
    else:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            yield f"ws://127.0.0.1:{nobody.getsockname()[1]}/v1/realtime", None


@contextmanager
def server_process(folder: Path, killed_after_s: float | None = None) -> Iterator[str]:
    """The URL of a server that is a process of its own; killed so long after somebody has connected."""
    script = folder / "dialogue.toml"
    script.write_text(f'[[turn]]\non = "greeting"\nsay = "{GREETING}"\n[[turn]]\nsay = "{REPLY}"\n')
    command = [sys.executable, "-u", "-m", "ivr_ai.sim.server", "--port", "0", "--voice", VOICE]
    command += ["--dialogue", str(script)]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)

    def watch() -> None:
        if any("connected" in line for line in server.stdout) and killed_after_s is not None:
            time.sleep(killed_after_s)
            server.kill()

    watcher = threading.Thread(target=watch)
    try:
        url = next(found[0] for line in server.stdout if (found := re.search(r"ws://\S+/realtime", line)))
        watcher.start()
        yield url
    finally:
        server.kill()
        server.wait()
    watcher.join()
    server.stdout.close()


# ---- the calls ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def incident(switch: FreeSwitch, tmp_path_factory: pytest.TempPathFactory) -> Incident:
    """All calls, held and over; those that last longest come first."""
    calls = Incident(switch, tmp_path_factory.mktemp("failures"))
    plan = {"well": calls.stay_well}
    plan |= {name: partial(calls.bear, name, faults) for name, faults in DISORDER.items()}
    plan |= {name: partial(calls.bear, name, faults) for name, (faults, _) in NONSENSE.items()}
    plan |= {name: partial(calls.go_on, name, trouble) for name, trouble in PASSING.items()}
    plan |= {name: partial(calls.fail, name, failure) for name, failure in FATAL.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, action in plan.items():
            pool.submit(calls.attempt, name, action)
    switch.wait_channels(0)
    return calls


@pytest.fixture(params=list(FATAL))
def failed(incident: Incident, request: pytest.FixtureRequest) -> tuple[Failure, Outcome]:
    return FATAL[request.param], incident.outcome(request.param)


def test_a_failure_is_apologised_for(failed: tuple[Failure, Outcome]) -> None:
    """To the sample, and after what was being said: nothing of the model is heard after it."""
    _, outcome = failed
    assert times_heard(outcome.call, APOLOGY) == 1
    assert outcome.call.answered_at_s is not None


def test_then_the_call_goes_where_it_was_configured_to(failed: tuple[Failure, Outcome]) -> None:
    failure, outcome = failed
    if failure.action == "hangup":
        assert (outcome.call.ended_by, outcome.call.ended_cause) == ("switch", CAUSE)
        return
    last = outcome.call.received()[-2 * 8 * 300 :]
    assert frequency_hz(last, 8000) == pytest.approx(
        MUSIC_HZ if failure.action == "transfer" else TONE_HZ, abs=4
    )
    assert outcome.call.ended_by == "caller"


def test_the_log_says_once_what_went_wrong(failed: tuple[Failure, Outcome]) -> None:
    failure, outcome = failed
    [line] = [line for line in outcome.log if " over: " not in line and "[ERR]" in line]
    assert failure.log in line
    [summary] = [line for line in outcome.log if " over: " in line]
    assert "[ERR]" in summary and failure.log in summary


@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_may_pass_is_tried_again_and_nothing_else(incident: Incident, name: str) -> None:
    assert incident.outcome(name).attempts in ATTEMPTS[name]


@pytest.mark.parametrize("name", PASSING)
def test_a_call_goes_on_after_what_passes(incident: Incident, name: str) -> None:
    """Greeting and reply are heard to the sample (go_on() waits for them); the log says it once."""
    outcome, said = incident.outcome(name), PASSING[name].log
    assert outcome.call.ended_by == "caller"
    assert not [line for line in outcome.log if "[ERR]" in line]
    warnings = [line for line in outcome.log if "[WARNING]" in line]
    assert len(warnings) == bool(said)
    assert all(said in line for line in warnings)
    assert any(" over: " in line and "1 turns, 0 barge-ins" in line for line in outcome.log)


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_borne(incident: Incident, name: str) -> None:
    """The reply is heard to the sample (bear() waits for it), and the log mentions what is worth it, once."""
    outcome, said = incident.outcome(name), NONSENSE[name][1]
    assert outcome.call.ended_by == "caller"
    assert not [line for line in outcome.log if "[ERR]" in line]
    warnings = [line for line in outcome.log if "[WARNING]" in line]
    assert len(warnings) == bool(said)
    assert all(said in line for line in warnings)
    assert any(" over: " in line and "1 turns, 0 barge-ins" in line for line in outcome.log)


@pytest.mark.parametrize("name", DISORDER)
def test_disorder_is_borne(incident: Incident, name: str) -> None:
    outcome = incident.outcome(name)
    assert outcome.call.ended_by == "caller"
    assert not [line for line in outcome.log if "[ERR]" in line]
    assert any(" over: " in line and "1 turns" in line for line in outcome.log)


def test_another_call_is_untouched(incident: Incident) -> None:
    """Its conversation was heard to the sample: stay_well() waits for it."""
    outcome = incident.outcome("well")
    assert any(f"{WELL_TURNS} turns, 0 barge-ins, 0 underruns" in line for line in outcome.log)
    assert not [line for line in outcome.log if "[ERR]" in line or "[WARNING]" in line]


def test_no_traceback_and_no_key_is_logged(incident: Incident, switch: FreeSwitch) -> None:
    assert incident.outcomes
    ours = [line for line in switch.log().splitlines() if "ivr_ai: " in line]
    assert "Traceback" not in switch.log()
    assert not [line for line in ours if "internal error" in line or KEY in line]


def test_without_a_file_the_apology_is_spoken(tmp_path: Path, caller: SipCaller) -> None:
    with broken("nobody", tmp_path) as (url, _):
        call = caller.call("1234", settings(url, IVR_AI_APOLOGY_TEXT="I am sorry.")).wait_answered()
        assert call.wait_ended(8) == CAUSE
    start_ms, end_ms = audible_span(call.received(), 8000)
    assert end_ms - start_ms > 300
    assert level_db(call.received()[int(start_ms) * 16 : int(end_ms) * 16]) > -40
