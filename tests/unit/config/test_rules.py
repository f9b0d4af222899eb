"""What must hold between settings, and what is warned about."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ivr_ai.config import SETTINGS, ConfigError, Settings

KEY = "sk-proj-abcdefgh1234"
TODAY = date(2026, 11, 20)
NAMES = {row.attribute: row.name for row in SETTINGS}


def load(environ: dict[str, str], env_file: Path | str = "") -> Settings:
    return Settings.load(environ={"OPENAI_API_KEY": KEY, **environ}, env_file=env_file, today=TODAY)


def failure(**changes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Settings(**changes)
    return caught.value


def test_transfer_needs_a_target():
    error = failure(failure_action="transfer")
    assert str(error) == (
        "IVR_AI_FAILURE_TRANSFER '' (default): must be \"extension [dialplan [context]]\" "
        "when IVR_AI_FAILURE_ACTION is transfer"
    )
    assert Settings(failure_action="transfer", failure_transfer="1000").failure_transfer == "1000"
    assert len(failure(failure_action="transfer", failure_transfer="a b c d").problems) == 1


def test_quiet_chunks_are_no_smaller_than_frames():
    assert "at least FS_FRAME_MS, 40 milliseconds" in str(failure(frame_ms=40, quiet_chunk_ms=30))
    assert Settings(frame_ms=40, quiet_chunk_ms=40).quiet_chunk_ms == 40


def test_ping_timeout_is_less_than_the_interval():
    assert "less than IVR_AI_PING_INTERVAL_S, 5 seconds" in str(failure(ping_interval_s=5))
    assert Settings(ping_interval_s=0).ping_timeout_s == 5.0


@pytest.mark.parametrize(
    ("dialect", "query", "effective"),
    [
        ("auto", "", "ga"),
        ("auto", "?api-version=2025-04-01-preview&deployment=x", "beta"),
        ("auto", "?deployment=api-version", "ga"),
        ("ga", "?api-version=1", "ga"),
        ("beta", "", "beta"),
    ],
)
def test_effective_dialect(dialect, query, effective):
    settings = Settings(dialect=dialect, realtime_url="wss://x.openai.azure.com/openai/realtime" + query)
    assert settings.effective_dialect == effective


# ---- warnings


def warnings(today: date = TODAY, **changes) -> tuple[str, ...]:
    return Settings(**{"api_key": KEY, "today": today, **changes}).warnings


def test_defaults_with_a_key_warn_of_nothing():
    assert warnings() == ()
    assert warnings(date(2036, 1, 1)) == ()


@pytest.mark.parametrize(
    ("setting", "model", "on", "replacement"),
    [
        ("model", "gpt-4o-realtime-preview", date(2026, 5, 7), "gpt-realtime-2.1"),
        ("model", "gpt-4o-realtime-preview-2024-12-17", date(2026, 5, 7), "gpt-realtime-2.1"),
        ("model", "gpt-4o-mini-realtime-preview", date(2026, 5, 7), "gpt-realtime-2.1-mini"),
        ("model", "gpt-realtime", date(2027, 1, 20), "gpt-realtime-2.1"),
        ("model", "gpt-realtime-2025-08-28", date(2027, 1, 20), "gpt-realtime-2.1"),
        ("model", "gpt-realtime-mini", date(2027, 1, 20), "gpt-realtime-2.1-mini"),
        ("model", "gpt-realtime-mini-2025-12-15", date(2027, 1, 20), "gpt-realtime-2.1-mini"),
        ("model", "gpt-audio-mini", date(2027, 1, 20), "gpt-realtime-2.1-mini"),
        ("transcription_model", "whisper-1", date(2027, 2, 26), "gpt-live-transcribe"),
        ("transcription_model", "gpt-4o-transcribe", date(2027, 2, 26), "gpt-live-transcribe"),
    ],
)
def test_shut_downs(setting, model, on, replacement):
    name = f"{NAMES[setting]} {model}"
    before = date.fromordinal(on.toordinal() - 3)
    assert warnings(before, **{setting: model}) == (
        f"{name} will be shut down by OpenAI on {on}, in 3 days: move to {replacement}",
    )
    for day in (on, date(2040, 1, 1)):
        assert warnings(day, **{setting: model}) == (
            f"{name} has been shut down by OpenAI since {on}: set {replacement} instead",
        )


@pytest.mark.parametrize("model", ["gpt-realtime-1.5", "gpt-realtime-2", "gpt-realtime-2.1-mini", "my-own"])
def test_other_models_are_not_warned_about(model):
    assert warnings(model=model) == ()


LOCAL = {"realtime_url": "ws://127.0.0.1:8765"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"api_key": ""}, ["OPENAI_API_KEY is not set", "api.openai.com"]),
        ({"realtime_url": "ws://voice.example/x"}, ["unencrypted", "voice.example", "wss://"]),
        ({"dialect": "beta"}, ["OPENAI_REALTIME_DIALECT beta", "since 2026-05-12", "ga"]),
        ({"dialect": "beta", "reasoning_effort": "low", **LOCAL}, ["OPENAI_REASONING_EFFORT is not sent"]),
        ({"dialect": "beta", "vad_idle_timeout_ms": 9000, **LOCAL}, ["VAD_IDLE_TIMEOUT_MS is not sent"]),
        ({"temperature": 0.7}, ["OPENAI_TEMPERATURE is not sent", "ga dialect rejects it"]),
        (
            {"model": "gpt-realtime-1.5", "reasoning_effort": "low"},
            ["OPENAI_REASONING_EFFORT", "gpt-realtime-1.5"],
        ),
        ({"turn_detection": "semantic_vad", "vad_threshold": 0.4}, ["VAD_THRESHOLD without effect"]),
        ({"eagerness": "low"}, ["OPENAI_VAD_EAGERNESS without effect"]),
        (
            {"audio_format": "pcmu", "resample_input": False},
            ["OPENAI_RESAMPLE_INPUT 0 without effect", "pcmu"],
        ),
        ({"resample_input": False}, ["OPENAI_RESAMPLE_INPUT 0", "24000"]),
        ({"input_rate_hz": 16000}, ["OPENAI_INPUT_SAMPLE_RATE 16000", "24000"]),
        ({"output_rate_hz": 8000}, ["OPENAI_OUTPUT_SAMPLE_RATE 8000", "24000"]),
        ({"prebuffer_ms": 600}, ["PLAYOUT_PREBUFFER_MS 600"]),
        ({"language": "de"}, ["OPENAI_LANGUAGE without effect", "OPENAI_TRANSCRIPTION_MODEL"]),
        ({"send_json_audio": False}, ["FS_SEND_JSON_AUDIO has no effect on calls", "memory"]),
        ({"api_key": '"sk-proj-x'}, ["OPENAI_API_KEY begins with a quote"]),
        ({"realtime_url": "wss://user:pw@h/"}, ["OPENAI_API_KEY is not sent", "OPENAI_API_KEY_HEADER"]),
        ({"extra_headers": '{"AUTHORIZATION": "x"}'}, ["OPENAI_API_KEY is not sent", "OPENAI_EXTRA_HEADERS"]),
        ({"apology_file": "/no/such.wav"}, ["IVR_AI_APOLOGY_FILE /no/such.wav is not there"]),
        ({"max_call_s": 0}, ["IVR_AI_MAX_CALL_S 0", "OpenAI ends a session after 3600 s"]),
        ({"max_call_s": 3600}, ["IVR_AI_MAX_CALL_S 3600"]),
    ],
)
def test_one_warning(changes, parts):
    (warning,) = warnings(**changes)
    for part in parts:
        assert part in warning


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key": "", **LOCAL},
        {"dialect": "beta", "temperature": 0.9, **LOCAL},
        {"turn_detection": "semantic_vad", "eagerness": "low"},
        {"reasoning_effort": "low"},
        {"resample_input": False, "input_rate_hz": 16000, **LOCAL},
        {"audio_format": "pcmu", "input_rate_hz": 16000},
        {"max_call_s": 0, **LOCAL},
        {"realtime_url": "wss://user:pw@h/", "api_key_header": "api-key"},
        {"extra_headers": '{"X-Tenant": "x"}'},
        {"language": "de", "transcription_model": "gpt-live-transcribe"},
    ],
)
def test_no_warning(changes):
    assert warnings(**changes) == ()


def test_ignored_vad_settings_are_one_warning():
    environ = {"OPENAI_TURN_DETECTION": "semantic_vad"}
    assert load(environ).warnings == ()
    (warning,) = load({**environ, "VAD_THRESHOLD": "0.5", "VAD_PREFIX_PADDING_MS": "300"}).warnings
    assert warning.startswith("VAD_THRESHOLD, VAD_PREFIX_PADDING_MS without effect")


@pytest.mark.parametrize(
    "name",
    [
        "FS_SEND_JSON_AUDIO",
        "FS_SEND_JSON_HANDSHAKE",
        "FS_OUT_SAMPLE_RATE",
        "OPENAI_TEMPERATURE",
    ],
)
def test_set_to_the_default_is_set(name):
    row = next(row for row in SETTINGS if row.name == name)
    (warning,) = load({name: row.kind.text(row.default)}).warnings
    assert warning.startswith(f"{name} ")


def test_names_only_the_earlier_bridges_read(tmp_path):
    (tmp_path / ".env").write_text("TTS_PROVIDER=cartesia\nTTS_MODEL=sonic\n")
    tts, health = load({"HEALTH_PORT": "8766"}, tmp_path / ".env").warnings
    assert tts.startswith("TTS_PROVIDER, TTS_MODEL of an earlier bridge: not read, ")
    assert health.startswith("HEALTH_PORT of an earlier bridge: not read, ")


@pytest.mark.parametrize(
    ("name", "value", "without", "needed"),
    [
        ("OPENAI_TEMPERATURE", "hot", {}, {"OPENAI_REALTIME_DIALECT": "beta"}),
        ("OPENAI_REASONING_EFFORT", "huge", {"OPENAI_REALTIME_DIALECT": "beta"}, {}),
        ("VAD_THRESHOLD", "7", {"OPENAI_TURN_DETECTION": "semantic_vad"}, {}),
        (
            "VAD_SILENCE_DURATION_MS",
            "x",
            {"OPENAI_TURN_DETECTION": "semantic_vad"},
            {"OPENAI_INPUT_MODE": "item"},
        ),
        (
            "OPENAI_INPUT_SAMPLE_RATE",
            "11025",
            {"OPENAI_AUDIO_FORMAT": "pcmu"},
            {"OPENAI_AUDIO_FORMAT": "pcm"},
        ),
        ("WSS_PEM", "/no/such.pem", {"OPENAI_REALTIME_URL": "ws://127.0.0.1/"}, {}),
        ("IVR_AI_UPLINK_MAX_MS", "0", {"IVR_AI_TRANSPORT": "python"}, {}),
    ],
)
def test_only_what_a_call_needs_can_refuse_it(name, value, without, needed):
    settings = load({**without, name: value})
    assert [each for each in settings.warnings if each.startswith(f"{name} ")]
    with pytest.raises(ConfigError, match=name):
        load({**needed, name: value})


def test_an_apology_file_that_is_there_but_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "sorry.wav"
    path.write_bytes(b"RIFF")
    assert warnings(apology_file=str(path)) == ()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert f"IVR_AI_APOLOGY_FILE {path} cannot be read" in warnings(apology_file=str(path))[0]


@pytest.mark.parametrize(("dialect", "is_set"), [("auto", False), ("ga", True), ("beta", True)])
def test_whether_the_dialect_was_chosen(dialect, is_set):
    assert Settings(dialect=dialect).dialect_is_set is is_set
