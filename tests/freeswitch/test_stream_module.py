"""mod_audio_stream as a module: its configuration, and coming and going while calls are up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from ears import heard_in_order, noise
from esl import Esl
from lines import Line, not_whole
from support.sip import SipCaller
from support.switch import OUR_MODULE, FreeSwitch
from taps import Probe, ProbeError, Tap, wait_until
from test_stream_commands import STARTED, STOPPED

OpenLine = Callable[..., Line]
NewCaller = Callable[..., SipCaller]
Configure = Callable[..., list[str]]

pytestmark = pytest.mark.usefixtures("stream_switch")


def write_configuration(switch: FreeSwitch, settings: dict[str, str] | None) -> None:
    """None for no file at all."""
    params = "".join(
        f"<param name={quoteattr(name)} value={quoteattr(value)}/>"
        for name, value in (settings or {}).items()
    )
    file = f'<configuration name="audio_stream.conf"><settings>{params}</settings></configuration>'
    lines = ["<include>", *([] if settings is None else [file]), "</include>", ""]
    Path(switch.root, "conf", "extra_config.xml").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def configure(stream_switch: FreeSwitch, probe: Probe) -> Iterator[Configure]:
    """configure({name: value} or None): reloads the module; returns what it logged about its file."""

    def reload(settings: dict[str, str] | None) -> list[str]:
        seen = len(stream_switch.log_lines(r"audio_stream\.conf\.xml"))
        loads = len(stream_switch.log_lines("streams live in"))
        write_configuration(stream_switch, settings)
        assert probe.esl.api("reloadxml").startswith("+OK")
        assert "+OK" in probe.esl.api(f"reload {OUR_MODULE}")
        stream_switch.wait_log("streams live in", count=loads + 1)
        return stream_switch.log_lines(r"audio_stream\.conf\.xml")[seen:]

    yield reload
    reload(None)


# ---- audio_stream.conf.xml ---------------------------------------------------------------------------------


def test_without_a_file_there_are_defaults(configure: Configure, open_line: OpenLine) -> None:
    [line] = configure(None)
    assert "[NOTICE]" in line and "no audio_stream.conf.xml: using the defaults" in line
    assert not_whole([open_line("park")], 0.2) == []


def test_values_are_applied(configure: Configure, probe: Probe, new_caller: NewCaller) -> None:
    values = {"capture-buffer-ms": "200", "inject_max_ms": "1000", "Prebuffer-MS": "400", "max-streams": "2"}
    assert configure({**values, "fade-ms": "20", "events": "true"}) == []
    calls = [new_caller("L16/8000").call("park").wait_answered() for _ in range(2)]
    lines = [Line(call, probe.start(call)) for call in calls]
    refused = probe.command(calls[0].call_id, "third start embedded")
    assert refused.startswith("-ERR max-streams in audio_stream.conf.xml is reached")

    with pytest.raises(ProbeError, match="StreamFull"):
        lines[0].say(noise(8000, 1.1))
    assert lines[0].tap.status()["inject"]["full_writes"] == 1

    line = lines[1]
    line.say(noise(8000, 0.3), end=False)  # less than the prebuffer: nothing yet
    time.sleep(0.2)
    assert line.tap.status()["inject"]["played"] == 0
    line.say(noise(8000, 0.5, 2), end=False)
    line.call.wait_packets(12)
    line.tap.do("flush")
    line.call.wait_packets(3)
    assert line.tap.status()["inject"]["played"] % 160 == 0  # whole frames, then one that fades for 20 ms
    assert line.tap.status()["inject"]["played"] > 0

    capture = line.tap.status()["capture"]
    assert capture["dropped"] > 0 and capture["overruns"] > 0
    assert capture["samples"] <= 0.3 * 8000


def test_bad_values_are_named_and_the_defaults_hold(
    configure: Configure, probe: Probe, open_line: OpenLine
) -> None:
    bad = {
        "capture-buffer-ms": "99",
        "inject-max-ms": "many",
        "prebuffer-ms": "-1",
        "fade-ms": "10.5",
        "max-streams": "99999999999999999999",
        "colour": "blue",
    }
    lines = configure(bad)
    assert len(lines) == len(bad)
    assert all("[WARNING]" in line for line in lines)
    for name, value in list(bad.items())[:-1]:
        [line] = [line for line in lines if f" {name} " in line]
        assert f"'{value}' but must be a whole number from" in line and "using" in line
    assert "unknown parameter 'colour' ignored" in lines[-1]
    assert not_whole([open_line("park", "L16/8000")], 0.2) == []


def test_events_may_be_switched_off(configure: Configure, switch: FreeSwitch, open_line: OpenLine) -> None:
    assert configure({"events": "false"}) == []
    with Esl(*switch.event_socket) as events:
        events.subscribe(STARTED, STOPPED)
        line = open_line("park")
        line.tap.stop()
        with pytest.raises(TimeoutError):
            events.wait(STARTED, line.call.call_id, 0.3)


# ---- coming and going --------------------------------------------------------------------------------------


def test_unloading_ends_streams_and_no_call(switch: FreeSwitch, probe: Probe, open_line: OpenLine) -> None:
    places = ("park", "sleep", "silence", "tone", "echo", "bridge-sofia-music", "bridge-loopback-music")
    lines = [open_line(place) for place in places]
    for line in lines:
        line.tap.capture()
        line.say(noise(8000, 5.0))
    time.sleep(0.2)
    with Esl(*switch.event_socket) as events:
        events.subscribe(STOPPED)
        assert probe.esl.api(f"unload {OUR_MODULE}", 20.0) == "+OK"
        for line in lines:
            assert events.wait(STOPPED, line.call.call_id)["body"]["reason"] == "module unloaded"
    assert probe.esl.api(f"module_exists {OUR_MODULE}") == "false"
    assert "-ERR uuid_audio_stream Command not found" in probe.command(lines[0].call.call_id, "status")
    for line in lines:
        assert line.tap.do("info")["closed"]
        with pytest.raises(ProbeError, match="StreamClosed"):
            line.say(noise(8000, 0.1), "late")
    check_calls_go_on(dict(zip(places, lines, strict=True)))
    assert "+OK" in probe.esl.api(f"load {OUR_MODULE}")
    again = [Line(line.call, probe.start(line.call)) for line in lines]
    assert not_whole(again, 0.3) == []


def check_calls_go_on(lines: dict[str, Line]) -> None:
    """Nobody writes under park and sleep now; the rest is heard as before."""
    silent = [lines["park"].call, lines["sleep"].call]
    before = [len(call.packets) for call in silent]
    for place in ("silence", "tone", "bridge-sofia-music", "bridge-loopback-music"):
        lines[place].call.wait_packets(10)
    assert [len(call.packets) for call in silent] == before
    echo = lines["echo"].call
    said = [echo.say(noise(8000, 0.2, seed)) for seed in (5, 6, 7)]
    assert all(utterance.wait(5) for utterance in said)
    wait_until(lambda: any(utterance.payload in heard_in_order(echo) for utterance in said))
    assert all(line.call.ended_at_s is None for line in lines.values())


def test_unloading_while_streams_start_stop_and_hang_up(
    switch: FreeSwitch, probe: Probe, new_caller: NewCaller
) -> None:
    """Whatever is asked while the module goes is answered; nothing crashes, nothing is left."""
    stop, answers = threading.Event(), set()

    def work(caller: SipCaller) -> None:
        with Esl(*switch.event_socket) as esl:
            while not stop.is_set():
                call = caller.call("tone").wait_answered()
                for words in ("start embedded", "other start embedded", "status", "stop", "pause", "stop"):
                    answers.add(esl.api(f"uuid_audio_stream {call.call_id} {words}")[:4])
                call.hangup()

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, new_caller()) for _ in range(3)]
        try:
            unloaded = [come_and_go(probe) for _ in range(12)]
        finally:
            stop.set()
    for worker in workers:
        worker.result()
    assert unloaded.count(True) >= 3  # FreeSWITCH refuses while a command runs
    assert answers == {"+OK", "-ERR", '{"uu'}
    switch.wait_channels(0)
    assert probe.do("open_now") == []


def come_and_go(probe: Probe) -> bool:
    """Unloads the module and loads it again; False when FreeSWITCH would not unload it."""
    time.sleep(0.1)
    answer = probe.esl.api(f"unload {OUR_MODULE}", 20.0)
    if answer == "-ERR [Module in use.]":
        return False
    assert answer == "+OK"
    assert "+OK" in probe.esl.api(f"load {OUR_MODULE}")
    return True


def test_a_reader_is_woken_when_the_module_goes(probe: Probe, open_line: OpenLine) -> None:
    line = open_line("park")
    line.tap.capture()
    assert line.tap.reading()
    assert "+OK" in probe.esl.api(f"reload {OUR_MODULE}", 20.0)
    wait_until(lambda: not line.tap.reading(), 0.5)
    assert Tap(probe, line.call.call_id).command("status").startswith("-ERR no stream 'main'")
