"""Turn detection over synthetic audio."""

from __future__ import annotations

from array import array

import pytest

from ivr_ai.sim.hearing import Edge, Hearing, HearingError
from ivr_ai.tts.local_voice import VoiceError, speak

RATE_HZ = 8000
SERVER_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 100, "silence_duration_ms": 200}


def silence(ms: int, rate_hz: int = RATE_HZ) -> bytes:
    return bytes(rate_hz * ms // 1000 * 2)


def speech(ms: int, rate_hz: int = RATE_HZ) -> bytes:
    return speak("x", rate_hz, f"tone:300:{ms}")


def quieter(pcm: bytes, factor: int) -> bytes:
    return array("h", (sample // factor for sample in array("h", pcm))).tobytes()


def hearing(rate_hz: int = RATE_HZ, silence_ms: int | None = None, **changes: object) -> Hearing:
    ear = Hearing(rate_hz, silence_ms=silence_ms)
    ear.configure({**SERVER_VAD, **changes})
    return ear


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000, 44100])
def test_a_turn_at_any_rate(rate_hz: int) -> None:
    edges = hearing(rate_hz).feed(silence(500, rate_hz) + speech(400, rate_hz) + silence(300, rate_hz))
    assert edges == [Edge(True, 400), Edge(False, 1100)]


def test_chunks_of_any_size_give_the_same_edges() -> None:
    pcm = silence(500) + speech(400) + silence(300)
    ear = hearing()
    edges = [edge for start in range(0, len(pcm), 106) for edge in ear.feed(pcm[start : start + 106])]
    assert edges == [Edge(True, 400), Edge(False, 1100)]
    assert ear.position_ms == 1200


def test_a_click_is_no_speech() -> None:
    assert hearing().feed(silence(100) + speech(20) + silence(400)) == []


def test_a_short_pause_does_not_end_a_turn() -> None:
    assert hearing().feed(speech(300) + silence(180) + speech(300)) == [Edge(True, 0)]


def test_threshold_and_release() -> None:
    soft = quieter(speech(300), 40)  # about -47 dBFS
    assert hearing(threshold=0.5).feed(soft + silence(300)) == []
    assert hearing(threshold=0.1).feed(soft + silence(300)) != []
    trailing = quieter(speech(300), 24)  # a little under the threshold: speech goes on, but would not start
    assert hearing(threshold=0.5).feed(trailing) == []
    assert hearing(threshold=0.5).feed(speech(100) + trailing) == [Edge(True, 0)]


def test_speech_goes_on_when_only_what_follows_from_it_changes() -> None:
    ear = hearing(create_response=False)
    assert ear.feed(silence(500) + speech(200)) == [Edge(True, 400)]
    ear.configure({**SERVER_VAD, "create_response": True})
    assert ear.feed(speech(200) + silence(300)) == [Edge(False, 1100)]


def test_speech_is_forgotten_when_it_is_heard_otherwise() -> None:
    ear = hearing()
    assert ear.feed(silence(500) + speech(200)) == [Edge(True, 400)]
    ear.configure({**SERVER_VAD, "threshold": 0.4})
    assert ear.feed(silence(300)) == []


def test_forced_silence() -> None:
    assert hearing(silence_ms=20).feed(speech(100) + silence(20)) == [Edge(True, 0), Edge(False, 120)]


@pytest.mark.parametrize(("eagerness", "silence_ms"), [("low", 1600), ("auto", 800), ("high", 400)])
def test_semantic_vad_waits_by_eagerness(eagerness: str, silence_ms: int) -> None:
    ear = Hearing(RATE_HZ)
    ear.configure({"type": "semantic_vad", "eagerness": eagerness})
    assert ear.feed(speech(100) + silence(silence_ms - 20)) == [Edge(True, 0)]
    assert ear.feed(silence(20)) == [Edge(False, 100 + silence_ms)]


def test_off_and_reset() -> None:
    ear = Hearing(RATE_HZ)
    ear.configure(None)
    assert ear.feed(speech(500) + silence(500)) == []
    assert ear.position_ms == 1000, "time goes on"
    ear = hearing()
    ear.feed(speech(200))
    ear.reset()
    assert ear.feed(silence(500)) == []


def test_the_rate_may_change() -> None:
    ear = hearing(24000)
    ear.feed(silence(200, 24000))
    ear.change_rate(8000)
    assert ear.feed(speech(200)) == [Edge(True, 100)]


def test_webrtc_hears_speech_and_no_hum() -> None:
    pytest.importorskip("webrtcvad")
    try:
        voice = speak("Good morning, what can you do for me today?", RATE_HZ)
    except VoiceError as error:
        pytest.skip(str(error))
    ear = Hearing(RATE_HZ, ear="webrtc")
    ear.configure(SERVER_VAD)
    assert ear.feed(silence(300) + voice + silence(1000))[0].started
    assert not ear.speaking


def test_unknown_ear() -> None:
    with pytest.raises(HearingError, match="use one of energy, webrtc"):
        Hearing(RATE_HZ, ear="human")
