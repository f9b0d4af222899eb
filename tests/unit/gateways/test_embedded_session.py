from __future__ import annotations

import queue
import threading
import time
import uuid as uuids
from array import array

import pytest

from ivr_ai.audio.formats import write_wav
from ivr_ai.audio.stream import Stream, StreamNotFound
from ivr_ai.gateways.caller import Digit
from ivr_ai.gateways.embedded import CallOptions, Line, read_mono
from ivr_ai.gateways.embedded_session import EmbeddedSession, Transfer, UnsupportedApplication

SILENCE = bytes(320)


class Call:
    """A session on a real line, and the clock in the test's hand."""

    def __init__(self, **options) -> None:
        self.uuid = str(uuids.uuid4())
        self.line = Line(self.uuid, CallOptions(**options), 20)
        self.ended: list[tuple[str, str]] = []
        self.session = EmbeddedSession(
            self.line,
            self.uuid,
            {"greeting": "hi"},
            tick_ms=20,
            on_hangup=lambda *how: self.ended.append(how),
        )

    def tick(self, count: int = 1) -> bytes:
        heard = b"".join(self.line.tick(SILENCE) for _ in range(count))
        self.session.advance(count)
        return heard


class Waiting:
    """Runs one session method on a thread of its own."""

    def __init__(self, run) -> None:
        self.result: object = "still waiting"
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._thread.start()
        time.sleep(0.02)

    def _run(self, run) -> None:
        self.result = run()

    def waits(self) -> bool:
        self._thread.join(0.03)
        return self._thread.is_alive()

    def value(self) -> object:
        self._thread.join(2)
        return self.result


@pytest.fixture
def call():
    call = Call(wire="s16")
    yield call
    call.line.close_stream()


class Told:
    def __init__(self, stream: Stream) -> None:
        self.events: queue.Queue[dict] = queue.Queue()
        stream.subscribe(self)

    def on_host_event(self, event: dict) -> None:
        self.events.put(event)


def test_a_key_is_told_to_the_stream_and_waits_for_a_callback(call):
    call.session.press(Digit("1"))  # no stream yet: only for a callback
    call.line.open_stream(0)
    told = Told(Stream.attach(call.uuid))
    call.session.press(Digit("#", tone_ms=240))
    assert told.events.get(timeout=5) == {"type": "host.dtmf", "digit": "#", "duration_ms": 240}
    keys: list[str] = []
    call.session.setInputCallback(lambda session, kind, key: keys.append(key.digit) or "")
    call.session.sleep(0)
    assert keys == ["1", "#"]


def test_sleep_lasts_its_time_on_the_clock_of_the_call(call):
    sleeping = Waiting(lambda: call.session.sleep(90))
    call.tick(4)
    assert sleeping.waits()
    call.tick()
    assert sleeping.value() == 1
    assert call.session.sleep(0) == 1


def test_wake_ends_a_sleep_and_is_not_lost_when_nobody_sleeps_yet(call):
    sleeping = Waiting(lambda: call.session.sleep(60_000))
    assert sleeping.waits()
    call.session.wake()
    assert sleeping.value() == 0
    call.session.wake()
    assert call.session.sleep(60_000) == 0
    assert Waiting(lambda: call.session.sleep(60_000)).waits()


def test_a_hangup_ends_a_sleep_at_once_and_only_once(call):
    assert call.session.hangupCause() == "NONE"
    sleeping = Waiting(lambda: call.session.sleep(60_000))
    assert call.session.hang_up("USER_BUSY", "caller")
    assert sleeping.value() == 0
    call.session.hangup()
    assert (call.session.ready(), call.session.hangupCause(), call.session.hung_up_by) == (
        False,
        "USER_BUSY",
        "caller",
    )
    assert call.ended == [("USER_BUSY", "caller")]
    assert call.session.answer() == 0


def test_answer(call):
    assert not call.session.answered()
    assert call.session.answer() == 1
    assert call.session.answered()
    assert call.session.ready()


def test_variables(call):
    session = call.session
    assert (session.getVariable("greeting"), session.getVariable("none")) == ("hi", None)
    session.setVariable("number", 7)
    session.execute("set", "OPENAI_GREETING=Say hello = loud")
    assert (session.getVariable("number"), session.getVariable("OPENAI_GREETING")) == (
        "7",
        "Say hello = loud",
    )
    session.execute("set", "number=")
    assert session.getVariable("number") is None


def test_keys_reach_the_callback_of_whoever_sleeps(call):
    seen: list[tuple] = []

    def on_key(session, kind, key, arg) -> str:
        seen.append((session, kind, key.digit, key.duration, arg, threading.current_thread()))
        return ""

    call.session.press(Digit("1"))  # waits until somebody asks for keys
    call.session.setInputCallback(on_key, "context")
    sleeping = Waiting(lambda: call.session.sleep(60))
    call.session.press(Digit("#", tone_ms=250))
    assert sleeping.waits()
    call.tick(3)
    assert sleeping.value() == 1
    assert [entry[:5] for entry in seen] == [
        (call.session, "dtmf", "1", 800, "context"),
        (call.session, "dtmf", "#", 2000, "context"),
    ]
    assert threading.current_thread() not in {entry[5] for entry in seen}


def test_a_callback_without_argument_that_does_not_return_an_empty_string_ends_the_sleep(call):
    seen: list[str] = []
    call.session.setInputCallback(lambda session, kind, key: seen.append(key.digit))
    sleeping = Waiting(lambda: call.session.sleep(60_000))
    call.session.press(Digit("5"))
    assert sleeping.value() == 0
    assert seen == ["5"]
    call.session.unsetInputCallback()
    call.session.press(Digit("6"))
    assert Waiting(lambda: call.session.sleep(60_000)).waits()
    assert seen == ["5"]


def test_transfer_is_noted_and_ends_the_handlers_part(call):
    sleeping = Waiting(lambda: call.session.execute("park"))
    assert call.session.transfer("5000") == 1
    assert sleeping.value() is None
    assert call.session.transferred == Transfer("5000", "XML", "default")
    assert not call.session.ready()
    assert call.session.hangupCause() == "NONE"
    assert call.session.transfer("5001") == 0


def test_park_lasts_until_the_end(call):
    parked = Waiting(lambda: call.session.execute("park"))
    call.session.wake()
    call.tick(5)
    assert parked.waits()
    call.session.hang_up("NORMAL_CLEARING", "caller")
    assert parked.value() is None


def ramp(count: int) -> bytes:
    return array("h", range(1, count + 1)).tobytes()


@pytest.mark.parametrize("how", ["streamFile", "playback"])
def test_a_file_is_heard_in_full_and_waited_for(call, tmp_path, how):
    write_wav(tmp_path / "prompt.wav", ramp(400), 8000)
    session = call.session
    run = session.streamFile if how == "streamFile" else lambda path: session.execute("playback", path)
    playing = Waiting(lambda: run(str(tmp_path / "prompt.wav")))
    heard = call.tick(2)
    assert playing.waits()
    heard += call.tick()
    assert playing.value() == (1 if how == "streamFile" else None)
    assert heard == ramp(400).ljust(3 * 320, b"\0")


def test_a_break_ends_a_file(call, tmp_path):
    write_wav(tmp_path / "prompt.wav", ramp(8000), 8000)
    playing = Waiting(lambda: call.session.streamFile(str(tmp_path / "prompt.wav")))
    assert call.tick() == ramp(160)
    call.session.wake()
    assert playing.value() == 0
    assert call.tick() == SILENCE


def test_a_file_at_another_rate_is_resampled(call, tmp_path):
    write_wav(tmp_path / "prompt.wav", bytes(2 * 16000), 16000)
    assert (
        len(read_mono(tmp_path / "prompt.wav", 8000)) == 2 * 8000
    )  # loads the resampler, which takes its time
    playing = Waiting(lambda: call.session.streamFile(str(tmp_path / "prompt.wav")))
    call.tick(49)
    assert playing.waits()
    call.tick()
    assert playing.value() == 1


def test_a_file_that_is_not_there_is_an_error(call):
    with pytest.raises(FileNotFoundError):
        call.session.streamFile("/nowhere.wav")


def test_the_stream_opens_and_closes_by_dialplan_application(call):
    session = call.session
    session.execute("uuid_audio_stream", "start embedded 16000")
    stream = Stream.attach(call.uuid)
    assert (stream.rate_hz, stream.app_rate_hz, stream.wire.encoding) == (8000, 16000, "s16")
    assert session.getVariable("audio_stream_result") == "+OK"
    session.execute("uuid_audio_stream", "start embedded")
    assert session.getVariable("audio_stream_result").startswith("-ERR stream 'main' of call")
    session.execute("uuid_audio_stream", "pause capture")
    call.tick(2)
    assert stream.stats().capture_paused_samples == 320
    session.execute("uuid_audio_stream", "resume")
    call.tick()
    assert stream.stats().capture_samples == 160
    session.execute("uuid_audio_stream", "stop enough")
    assert stream.closed
    session.execute("uuid_audio_stream", "stop")
    with pytest.raises(StreamNotFound):
        Stream.attach(call.uuid)


def test_after_the_end_only_stopping_the_stream_does_anything(call):
    session = call.session
    session.execute("uuid_audio_stream", "start embedded")
    stream = Stream.attach(call.uuid)
    session.hangup("normal_clearing")
    session.execute("set", "a=b")
    assert session.getVariable("a") is None
    assert session.streamFile("/nowhere.wav") == 0
    session.execute("uuid_audio_stream", "stop")
    assert stream.closed
    session.execute("uuid_audio_stream", "start embedded")
    with pytest.raises(StreamNotFound):
        Stream.attach(call.uuid)


@pytest.mark.parametrize(
    ("application", "data", "message"),
    [
        ("bridge", "user/1000", "no application 'bridge', only answer, hangup, park, playback"),
        ("set", "novalue", "set needs NAME=VALUE"),
        ("uuid_audio_stream", "start ws://x", "start embedded"),
        ("uuid_audio_stream", "start embedded 11025", "start embedded"),
        ("uuid_audio_stream", "pause everything", "start embedded"),
        ("uuid_audio_stream", "", "start embedded"),
    ],
)
def test_what_only_freeswitch_has_is_refused_clearly(call, application, data, message):
    with pytest.raises(UnsupportedApplication, match=message):
        call.session.execute(application, data)


def test_applications_that_are_methods_too(call):
    call.session.execute("answer")
    assert call.session.answered()
    sleeping = Waiting(lambda: call.session.execute("sleep", "20"))
    call.tick()
    assert sleeping.value() is None
    call.session.execute("transfer", "100 XML public")
    assert call.session.transferred == ("100", "XML", "public")
    call.session.execute("hangup", "USER_BUSY")
    assert call.session.hangupCause() == "NONE"  # the handler's part was over
    call.session.hangup("user_busy")
    assert call.session.hangupCause() == "USER_BUSY"
