from __future__ import annotations

import queue
import threading
import time
import wave
from array import array
from pathlib import Path

import pytest

from ivr_ai.audio.formats import Format, convert, write_wav
from ivr_ai.audio.stream import Stream, StreamClosed, open_streams
from ivr_ai.gateways.caller import Digits, Hangup, Say
from ivr_ai.gateways.embedded import CallOptions, EmbeddedHost, HandlerStuck, place_call, speech

S16 = Format("s16", 8000)


def ramp(ms: int, rate_hz: int = 8000) -> bytes:
    """Loud and different from sample to sample, so that a sample out of place shows."""
    count = rate_hz * ms // 1000
    return array("h", ((n * 37) % 16000 - 8000 for n in range(count))).tobytes()


class Fast:
    """A host without a clock: 20 ms pass as soon as the other threads have had a chance to see the last."""

    def __init__(self) -> None:
        self.host = EmbeddedHost(own_clock=False)

    def run(self, handler, script=(), *, stall=(), **options):
        call = self.host.place(handler, script, **options)
        for nth in range(3000):
            if call.over:
                break
            self.host.tick(dict(stall).get(nth, 0))
            time.sleep(0.0005)
        call.finish(2)
        return call.record(self.host.clock)


@pytest.fixture
def fast():
    fast = Fast()
    yield fast
    fast.host.close()


def open_and_answer(session) -> Stream:
    session.execute("uuid_audio_stream", "start embedded")
    session.answer()
    return Stream.attach(session.get_uuid())


def echo_of_one_item(pcm: bytes, rate_hz: int):
    """A handler that says pcm once and listens until the caller hangs up; returns what it captured."""

    def handler(session, args) -> bytes:
        stream = open_and_answer(session)
        stream.setup_capture(Format("s16", rate_hz), chunk_ms=20, quiet_chunk_ms=20)
        stream.inject(pcm, "greeting", Format("s16", rate_hz))
        stream.end("greeting")
        captured = []
        while session.ready():
            session.sleep(100)
            while chunk := stream.capture(0):
                captured.append(chunk)
        return b"".join(captured)

    return handler


def events(record, *kinds):
    return [event for event in record.events if event.kind in kinds]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000, 48000])
def test_both_directions_are_sample_exact_and_on_one_time_line(fast, rate_hz):
    said, reply = ramp(400, rate_hz), ramp(600, rate_hz)
    script = [Say(said, after="answer", delay_ms=200), Hangup(after=1.2)]
    record = fast.run(echo_of_one_item(reply, rate_hz), script, rate_hz=rate_hz, wire="s16")
    recording, ms = record.recording, rate_hz // 1000 * 2
    assert recording.caller == bytes(200 * ms) + said + bytes(620 * ms)
    start = recording.ai.index(reply)
    assert start % (20 * ms) == 0
    assert recording.ai == bytes(start) + reply + bytes(len(recording.ai) - start - len(reply))
    assert record.result == recording.caller[: len(record.result)]
    assert said in record.result
    assert recording.duration_s == pytest.approx(1.22)


@pytest.mark.parametrize("wire", ["pcmu", "pcma"])
def test_a_telephone_line_is_g711_both_ways(fast, wire):
    law = Format(wire, 8000)

    def through(pcm: bytes) -> bytes:
        return convert(convert(pcm, S16, law), law, S16)

    said = ramp(100)
    record = fast.run(echo_of_one_item(said, 8000), [Say(said, "answer"), Hangup(after=0.5)], wire=wire)
    assert through(said) != said
    assert through(said) in record.recording.caller
    assert through(said) in record.recording.ai
    assert through(said) in record.result
    assert record.session.getVariable("read_codec") == wire.upper()


def test_the_stream_knows_the_wire_so_that_g711_can_be_passed_through(fast):
    seen = {}

    def handler(session, args):
        seen["wire"] = open_and_answer(session).wire
        return args

    assert fast.run(handler, args="a b").result == "a b"
    assert seen["wire"] == Format("pcmu", 8000)


def test_no_audio_flows_before_the_answer(fast):
    def handler(session, args):
        session.execute("uuid_audio_stream", "start embedded")
        stream = Stream.attach(session.get_uuid())
        session.sleep(200)
        before = stream.stats().capture_ticks
        session.answer()
        session.sleep(100)
        return before, stream.stats().capture_ticks

    record = fast.run(handler)
    assert record.result[0] == 0
    assert record.result[1] >= 4
    assert record.recording.duration_s < 0.2
    assert [event.kind for event in record.events] == ["answered", "hangup"]


def test_a_conversation_by_ear(fast):
    """A greeting, an answer, a long reply and its interruption, the answer to that, keys, the end."""
    keys: list[str] = []

    def handler(session, args):
        stream = open_and_answer(session)
        session.setInputCallback(lambda s, kind, key: keys.append(key.digit) or "")

        def say(item, ms):
            stream.inject(ramp(ms), item, S16)
            stream.end(item)

        def wait_for(speech):
            while session.ready() and bool(stream.stats().capture_active) != speech:
                session.sleep(20)

        say("greeting", 1000)
        wait_for(True)
        wait_for(False)
        say("long story", 20_000)
        wait_for(True)
        heard = stream.flush().played_ms
        wait_for(False)
        say("sorry", 500)
        while session.ready():
            session.sleep(1000)
        return heard

    script = [
        Say(ramp(500)),
        Say(ramp(700), after="reply_start", delay_ms=1500),
        Digits("42", after="reply_end"),
        Hangup(after=12.0),
    ]
    record = fast.run(handler, script, wire="s16", quiet_ms=500)
    spoke = [event.at_s - record.answered_s for event in events(record, "caller_speaks")]
    heard = [
        (round((e.at_s - record.answered_s) * 1000) - e.data["start_ms"], e.data["start_ms"])
        for e in events(record, "caller_heard")
    ]
    assert keys == ["4", "2"]
    assert len(heard) == 3
    assert heard[0][0] == 1000
    assert heard[2][0] == 500
    assert spoke[1] * 1000 == pytest.approx(heard[1][1] + 1500, abs=1)
    assert record.result["long story"] == pytest.approx(heard[1][0], abs=20)
    assert record.session.hung_up_by == "caller"


class Told:
    def __init__(self) -> None:
        self.events: queue.Queue[dict] = queue.Queue()

    def on_host_event(self, event: dict) -> None:
        self.events.put(event)

    def next(self) -> dict:
        return self.events.get(timeout=5)


def test_hold_is_silence_both_ways_and_what_is_injected_keeps_its_place():
    said, reply = ramp(2000), ramp(400)
    told, opened = Told(), threading.Event()

    def handler(session, args) -> None:
        stream = open_and_answer(session)
        stream.subscribe(told)
        stream.inject(reply, "a", S16)
        stream.end("a")
        opened.set()
        while session.ready():
            session.sleep(20)

    with EmbeddedHost(own_clock=False) as host:
        call = host.place(handler, [Say(said, after="answer")], wire="s16")
        assert opened.wait(5)
        for hold, ticks in ((call.unhold, 10), (call.hold, 15), (call.hold, 1), (call.unhold, 14)):
            hold()
            for _ in range(ticks):
                host.tick()
        call.hang_up()
        call.finish(2)
        recording = call.record(host.clock).recording
    ms, held = 16, bytes(16 * 320)
    assert recording.ai == reply[: 200 * ms] + held + reply[200 * ms :] + bytes(80 * ms)
    assert recording.caller == said[: 200 * ms] + held + said[520 * ms : 800 * ms]
    assert [told.next(), told.next()] == [{"type": "host.hold"}, {"type": "host.unhold"}]
    assert told.events.empty()


def test_skipped_ticks_leave_a_hole_on_both_sides_and_time_goes_on(fast):
    script = [Say(ramp(200), after="answer"), Hangup(after=1.0)]
    record = fast.run(echo_of_one_item(ramp(200), 8000), script, wire="s16", stall=[(8, 10)])
    recording = record.recording
    assert recording.duration_s == pytest.approx(1.02)
    assert recording.caller.count(bytes(10 * 320)) >= 1
    assert recording.caller.replace(bytes(10 * 320), b"", 1).startswith(ramp(200))
    assert len(recording.caller) == len(recording.ai)


def test_hangups_by_either_side_and_by_the_host(fast):
    def waits(session, args):
        session.answer()
        while session.ready():
            session.sleep(60_000)

    by_caller = fast.run(waits, [Hangup(after=0.1, cause="USER_BUSY")])
    by_handler = fast.run(lambda session, args: session.hangup("CALL_REJECTED"))
    by_return = fast.run(lambda session, args: None)
    by_host = fast.run(waits, max_s=0.2)
    ends = [events(record, "hangup")[0].data for record in (by_caller, by_handler, by_return, by_host)]
    assert ends == [
        {"cause": "USER_BUSY", "by": "caller"},
        {"cause": "CALL_REJECTED", "by": "handler"},
        {"cause": "NORMAL_CLEARING", "by": "handler"},
        {"cause": "ALLOTTED_TIMEOUT", "by": "host"},
    ]
    assert all(len(events(record, "hangup")) == 1 for record in (by_caller, by_handler, by_return, by_host))


def test_what_the_handler_leaves_open_is_closed(fast):
    record = fast.run(lambda session, args: open_and_answer(session), uuid="left-open")
    assert record.session.get_uuid() == "left-open"
    assert record.result.closed
    with pytest.raises(StreamClosed):
        record.result.inject(b"\0\0", "late", S16)
    assert ("left-open", "main") not in open_streams()


def test_what_a_factory_returns_is_run(fast):
    class App:
        def __init__(self, session) -> None:
            self._session = session

        def run(self) -> str:
            return f"ran {self._session.get_uuid()}"

    assert fast.run(lambda session, args: App(session), uuid="u-1").result == "ran u-1"


def test_a_file_can_be_what_the_caller_says(fast, tmp_path):
    write_wav(tmp_path / "said.wav", ramp(300), 8000)
    script = [Say(Path(tmp_path / "said.wav"), "answer"), Hangup(after=0.4)]
    record = fast.run(echo_of_one_item(ramp(20), 8000), script, wire="s16")
    assert record.recording.caller.startswith(ramp(300))


def test_a_text_is_spoken_without_the_silence_around_it():
    spoken = array("h", speech("Table for two", 8000, "en-gb"))
    assert len(spoken) > 4000
    assert min(abs(spoken[0]), abs(spoken[-1])) > 200


def test_the_recording_becomes_a_stereo_wav_with_the_caller_on_the_left(fast, tmp_path):
    record = fast.run(echo_of_one_item(ramp(100), 8000), [Say(ramp(60), "answer"), Hangup(after=0.3)])
    record.recording.write_wav(tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as wav:
        assert (wav.getnchannels(), wav.getframerate(), wav.getsampwidth()) == (2, 8000, 2)
        frames = array("h", wav.readframes(wav.getnframes()))
    assert frames[0::2].tobytes() == record.recording.caller
    assert frames[1::2].tobytes() == record.recording.ai
    assert record.audio == frames.tobytes()


def test_the_observer_sees_events_as_they_happen(fast):
    seen = []
    record = fast.run(echo_of_one_item(ramp(60), 8000), [Hangup(after=0.2)], observe=seen.append)
    assert tuple(seen) == tuple(record.events)


def test_the_error_of_a_handler_is_kept_and_ends_the_call(fast, caplog):
    def handler(session, args):
        session.answer()
        raise LookupError("no such prompt")

    record = fast.run(handler)
    assert isinstance(record.error, LookupError)
    assert not record.session.ready()
    assert "the handler failed" in caplog.text


def test_place_call_raises_what_the_handler_raised():
    def handler(session, args):
        raise LookupError("no such prompt")

    with pytest.raises(LookupError, match="no such prompt"):
        place_call(handler)


def test_a_handler_that_outlives_its_call_is_reported():
    go_on = threading.Event()
    with EmbeddedHost() as host:
        call = host.place(lambda session, args: go_on.wait(5), [], max_s=0.1)
        with pytest.raises(HandlerStuck, match="still running"):
            call.finish(handler_end_s=0.2)
        go_on.set()
        call.finish()


def test_closing_the_host_ends_every_call():
    def waits(session, args):
        session.execute("park")
        return "parked"

    with EmbeddedHost() as host:
        calls = [host.place(waits) for _ in range(3)]
        time.sleep(0.1)
    assert [call.record(host.clock).result for call in calls] == ["parked"] * 3
    assert {call.session.hangupCause() for call in calls} == {"MANAGER_REQUEST"}


def test_one_clock_drives_many_calls_in_real_time():
    def handler(session, args):
        open_and_answer(session)
        while session.ready():
            session.sleep(1000)

    with EmbeddedHost() as host:
        calls = [host.place(handler, [Say(ramp(300), "answer"), Hangup(after=1.0)]) for _ in range(8)]
        for call in calls:
            call.finish()
        records = [call.record(host.clock) for call in calls]
    for record in records:
        hangup = events(record, "hangup")[0]
        assert record.recording.duration_s == pytest.approx(1.02, abs=0.001)
        assert hangup.at_s - record.answered_s == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_hz": 11025}, "rate_hz 11025 is not one of 8000, 16000, 24000, 48000"),
        ({"rate_hz": 16000, "wire": "pcmu"}, "wire 'pcmu' at 16000 Hz is not one of s16"),
        ({"wire": "opus"}, "is not one of pcmu, pcma, s16"),
    ],
)
def test_a_line_that_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        place_call(lambda session, args: None, **options)


def test_wires_have_a_default():
    assert CallOptions().wire_encoding() == "pcmu"
    assert CallOptions(rate_hz=48000).wire_encoding() == "s16"
