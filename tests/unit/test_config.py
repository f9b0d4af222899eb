"""Settings: every one of them, where they come from, what is said when they are wrong."""

from __future__ import annotations

import os
import threading
from datetime import date
from pathlib import Path

import pytest

from ivr_ai.config import SETTINGS, ConfigError, Problem, Settings
from ivr_ai.config.sources import tomllib

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-proj-abcdefgh1234"
TODAY = date(2026, 11, 20)
BY_ATTRIBUTE = {row.attribute: row for row in SETTINGS}
ALONE = {"agent", "agents_dir"}  # cannot be set by a profile

RATES = "a whole number of hertz, one of 8000, 16000, 24000, 32000, 44100, 48000"
FLAG = "1, true, yes or on; 0, false, no or off"

# attribute: text that is allowed, what it becomes, a TOML value that is not allowed, what the error says is
CASES: dict[str, tuple[str, object, str, str]] = {
    "api_key": (KEY, KEY, '"sk-proj-abc defgh1234"', "printable characters without spaces"),
    "realtime_url": (
        "ws://127.0.0.1:9/x?y=1",
        "ws://127.0.0.1:9/x?y=1",
        '"http://a/"',
        "a ws:// or wss:// URL",
    ),
    "model": (
        "gpt-realtime-2.1-mini",
        "gpt-realtime-2.1-mini",
        '"two words"',
        "a model's name, without spaces",
    ),
    "dialect": ("GA", "ga", '"alpha"', "one of auto, ga, beta"),
    "ca_file": (__file__, __file__, '"/no/such.pem"', "the path of a file that can be read"),
    "connect_timeout_ms": ("250", 250, "99", "a whole number of milliseconds, from 100 to 60000"),
    "close_timeout_ms": ("0", 0, "10001", "a whole number of milliseconds, from 0 to 10000"),
    "ping_interval_s": ("30.5", 30.5, '"30s"', "a number of seconds from 0 to 3600; write the number alone"),
    "ping_timeout_s": ("2", 2.0, "0", "a number of seconds from 0.1 to 600"),
    "transport": ("python", "python", '"c"', "one of native, python"),
    "uplink_max_ms": ("100", 100, "30001", "a whole number of milliseconds, from 100 to 30000"),
    "max_message_bytes": (
        "65536",
        65536,
        '"16MB"',
        "from 65536 to 1073741824; write the number alone, it is in bytes",
    ),
    "voice": ("cedar", "cedar", '""', "a voice's name, without spaces"),
    "instructions": ("  Be kind. ", "Be kind.", '" "', "text, not empty"),
    "greeting": ("Say hello.", "Say hello.", "5", "text"),
    "temperature": (".8", 0.8, "2.1", "a number from 0 to 2"),
    "speed": ("1.25", 1.25, "nan", "a number from 0.25 to 1.5"),
    "max_output_tokens": ("4096", 4096, "4097", "a whole number of tokens, from 1 to 4096, or inf"),
    "reasoning_effort": ("low", "low", '"huge"', "one of (empty), minimal, low, medium, high, xhigh"),
    "transcription_model": (
        "gpt-live-transcribe",
        "gpt-live-transcribe",
        '"a b"',
        "without spaces, or empty",
    ),
    "language": ("pt-BR", "pt-BR", '"English"', "a language code such as en or pt-BR"),
    "turn_detection": ("semantic_vad", "semantic_vad", "true", "one of server_vad, semantic_vad, none"),
    "eagerness": ("high", "high", '"eager"', "one of low, medium, high, auto"),
    "vad_threshold": ("1", 1.0, '"50%"', "a number from 0 to 1"),
    "vad_silence_ms": ("500", 500, '"500ms"', "write the number alone, it is in milliseconds"),
    "vad_prefix_ms": ("0", 0, "-1", "from 0 to 10000"),
    "vad_idle_timeout_ms": ("6000", 6000, "6000.0", "from 0 to 300000"),
    "barge_in": ("off", False, '"maybe"', FLAG),
    "input_mode": ("item", "item", '"chunk"', "one of buffer, item"),
    "audio_format": ("pcma", "pcma", '"opus"', "one of auto, pcm, pcmu, pcma"),
    "resample_input": ("0", False, "2", FLAG),
    "input_rate_hz": ("16000", 16000, "11025", RATES),
    "output_rate_hz": ("48000", 48000, '"24kHz"', RATES + "; write the number alone, it is in hertz"),
    "noise_reduction": ("far_field", "far_field", '"on"', "one of (empty), near_field, far_field"),
    "sample_rate_hz": ("16000", 16000, "true", RATES),
    "channels": ("1", 1, "2", "1: each call leg is a stream of its own"),
    "frame_ms": ("40", 40, "25", "a whole number of milliseconds, one of 10, 20, 30, 40, 60"),
    "quiet_chunk_ms": ("200", 200, "1001", "from 10 to 1000"),
    "speech_hang_ms": ("0", 0, '"half a second"', "from 0 to 10000"),
    "prebuffer_ms": ("60", 60, "true", "from 0 to 5000"),
    "response_timeout_s": ("0", 0.0, "601", "a number of seconds from 0 to 600"),
    "apology_text": ("Sorry!", "Sorry!", "[]", "text"),
    "apology_file": ("ivr/sorry.wav", "ivr/sorry.wav", "1", "the path of a sound file"),
    "failure_action": ("return", "return", '"explode"', "one of hangup, transfer, return"),
    "failure_transfer": (
        "1000 XML default",
        "1000 XML default",
        '"a b c d"',
        '"extension [dialplan [context]]"',
    ),
    "end_action": ("return", "return", '"transfer"', "one of hangup, return"),
    "max_call_s": ("7200", 7200.0, '"1h"', "it is in seconds"),
    "agent": ("default", "default", '"../secret"', "letters, digits, dots, dashes and underscores"),
    "agents_dir": (str(ROOT), str(ROOT), '"/no/such/directory"', "must be a directory"),
    "log_level": ("debug", "DEBUG", '"loud"', "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
    "timeline_dir": ("/var/log/calls", "/var/log/calls", "false", "the path of a directory"),
    "host": ("::1", "::1", '"a b"', "a host name or address"),
    "port": ("0", 0, "65536", "a whole number, from 0 to 65535"),
    "out_rate_hz": ("8000", 8000, "7999", RATES),
    "send_json_audio": ("true", True, '"ja"', FLAG),
    "send_json_handshake": ("no", False, "1.0", FLAG),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No .env and no settings but a test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [*(row.name for row in SETTINGS), "IVR_AI_ENV_FILE"]:
        monkeypatch.delenv(name, raising=False)


def load(environ=None, **more) -> Settings:
    return Settings.load(environ=environ or {}, today=more.pop("today", TODAY), **more)


def with_profile(directory: Path, text: str, **more) -> Settings:
    (directory / "x.toml").write_text(text, encoding="utf-8")
    return load(agent="x", agents_dir=directory, **more)


def failure(function, *args, **more) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        function(*args, **more)
    return caught.value


# ---- every setting


def test_cases_cover_the_table():
    assert set(CASES) == set(BY_ATTRIBUTE)


@pytest.mark.parametrize("attribute", CASES)
def test_allowed_value_from_each_source(attribute, tmp_path):
    text, value, _, _ = CASES[attribute]
    name = BY_ATTRIBUTE[attribute].name
    env_file = tmp_path / "settings.env"
    env_file.write_text(f'{name}="{text}"\n')
    loads = [load({name: text}), load(channel={name: text}), load(env_file=env_file)]
    if attribute not in ALONE:
        loads.append(with_profile(tmp_path, f"{attribute} = '{text}'"))
    for settings in loads:
        assert getattr(settings, attribute) == value
        assert type(getattr(settings, attribute)) is type(value)


@pytest.mark.parametrize("attribute", CASES)
def test_refused_value_names_setting_value_source_and_what_is_allowed(attribute, tmp_path):
    _, _, bad, allowed = CASES[attribute]
    row = BY_ATTRIBUTE[attribute]
    if attribute in ALONE:
        error = failure(load, {row.name: bad.strip('"')})
    else:
        error = failure(with_profile, tmp_path, f"{attribute} = {bad}")
    source = "environment" if attribute in ALONE else f"profile {tmp_path / 'x.toml'}"
    (problem,) = error.problems
    assert problem.setting == row.name
    assert allowed in problem.allowed
    assert problem.source == source
    assert str(error) == f"{row.name} {problem.value} ({source}): {problem.allowed}"
    if not row.secret:
        assert problem.value == repr(tomllib.loads(f"x = {bad}")["x"])


def test_defaults_are_allowed_and_are_the_documented_ones():
    settings = load()
    for row in SETTINGS:
        assert row.kind.parse(row.kind.text(row.default)) == row.default
        assert getattr(settings, row.attribute) == row.default
    assert settings == Settings()
    assert (settings.model, settings.voice) == ("gpt-realtime-2.1", "marin")


def test_names_are_unique():
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("word", ["1", "true", "YES", "On"])
def test_true_words(word):
    assert load({"IVR_AI_BARGE_IN": word}).barge_in is True


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF"])
def test_false_words(word):
    assert load({"IVR_AI_BARGE_IN": word}).barge_in is False


@pytest.mark.parametrize("text", ["1_000", "٣٠٠", "0x10", "1e3", "3 00", "9" * 5000])
def test_python_spellings_of_numbers_are_refused(text):
    assert failure(load, {"VAD_SILENCE_DURATION_MS": text}).setting == "VAD_SILENCE_DURATION_MS"


@pytest.mark.parametrize(
    "url", ["wss://", "wss://h:port/", "wss://h:0/", "wss://[::1/", "wss://h/#x", "wss://a b/"]
)
def test_broken_urls(url):
    assert failure(load, {"OPENAI_REALTIME_URL": url}).allowed.startswith("must be a ws:// or wss:// URL")


def test_profile_takes_toml_types(tmp_path):
    settings = with_profile(
        tmp_path, "max_output_tokens = inf\nspeed = 1\nbarge_in = false\nport = 0\ngreeting = ''"
    )
    assert settings.max_output_tokens == "inf"
    assert (settings.speed, settings.barge_in, settings.port) == (1.0, False, 0)


def test_long_values_are_cut_in_messages():
    assert len(str(failure(load, {"OPENAI_REALTIME_MODEL": "long " * 1000}))) < 200


# ---- precedence

LAYERS = ("channel", "profile", "environment", "env_file")


@pytest.mark.parametrize("present", [LAYERS[i:] for i in range(5)])
def test_precedence(present, tmp_path):
    env_file = tmp_path / "settings.env"
    env_file.write_text("OPENAI_REALTIME_VOICE=ash\n" if "env_file" in present else "")
    settings = with_profile(
        tmp_path,
        'voice = "coral"' if "profile" in present else "",
        environ={"OPENAI_REALTIME_VOICE": "sage"} if "environment" in present else {},
        channel={"OPENAI_REALTIME_VOICE": "echo"} if "channel" in present else {},
        env_file=env_file,
    )
    won = {
        "channel": ("echo", "channel variable"),
        "profile": ("coral", f"profile {tmp_path / 'x.toml'}"),
        "environment": ("sage", "environment"),
        "env_file": ("ash", str(env_file)),
    }.get(present[0] if present else "", ("marin", "default"))
    assert (settings.voice, settings.source("voice")) == won


def test_empty_is_not_set_except_in_a_profile(tmp_path):
    empty = {"OPENAI_GREETING": " ", "VAD_THRESHOLD": ""}
    settings = with_profile(tmp_path, "", environ=empty, channel=empty)
    assert settings.source("vad_threshold") == settings.source("greeting") == "default"
    settings = with_profile(tmp_path, 'greeting = ""', environ={"OPENAI_GREETING": "Hi"})
    assert settings.greeting == ""
    assert settings.is_set("greeting")


def test_channel_may_be_a_function():
    asked = []

    def get_variable(name: str) -> str | None:
        asked.append(name)
        return "0.25" if name == "VAD_THRESHOLD" else None

    assert load(channel=get_variable).vad_threshold == 0.25
    assert {row.name for row in SETTINGS} <= set(asked)


# ---- .env


def test_env_file_in_the_working_directory(tmp_path):
    (tmp_path / ".env").write_text("export VAD_THRESHOLD=0.75 # noisy\nOTHER=1\nHALF\n")
    settings = load()
    assert (settings.vad_threshold, settings.source("vad_threshold")) == (0.75, ".env")
    assert load(env_file="").vad_threshold == 0.5


def test_env_file_is_taken_literally(tmp_path):
    (tmp_path / ".env").write_text('OPENAI_GREETING="Say ${HOME}.\\nThen wait."\n', encoding="utf-8")
    assert load().greeting == "Say ${HOME}.\nThen wait."


def test_byte_order_marks_are_skipped(tmp_path):
    (tmp_path / ".env").write_text("VAD_THRESHOLD=0.75\n", encoding="utf-8-sig")
    (tmp_path / "x.toml").write_text("speed = 0.5\n", encoding="utf-8-sig")
    settings = load(agent="x", agents_dir=tmp_path)
    assert (settings.vad_threshold, settings.speed) == (0.75, 0.5)


def test_env_file_named_by_the_environment(tmp_path):
    (tmp_path / ".env").write_text("VAD_THRESHOLD=0.1\n")
    (tmp_path / "other").write_text("VAD_THRESHOLD=0.2\n")
    assert load({"IVR_AI_ENV_FILE": str(tmp_path / "other")}).vad_threshold == 0.2


def test_environment_is_the_process_environment_by_default(monkeypatch):
    monkeypatch.setenv("VAD_THRESHOLD", "0.9")
    assert Settings.load().vad_threshold == 0.9


def test_named_env_file_must_exist(tmp_path):
    missing = str(tmp_path / "missing")
    assert failure(load, {"IVR_AI_ENV_FILE": missing}).problems == [
        Problem("IVR_AI_ENV_FILE", repr(missing), "there is no such file")
    ]
    assert missing in str(failure(load, env_file=missing))


def test_unreadable_env_files(tmp_path):
    assert "cannot be read: Is a directory" in str(failure(load, env_file=tmp_path))
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    assert "cannot be read: it is not UTF-8" in str(failure(load))


def test_bad_line_is_named_but_not_shown(tmp_path):
    (tmp_path / ".env").write_text(f"A=1\nOPENAI_API_KEY='{KEY}\nB=2\n")
    error = failure(load)
    assert str(error) == ".env line 2: must be NAME=value, a # comment or empty"


def test_edited_files_are_read_again(tmp_path):
    for value in ("0.3", "0.4"):
        (tmp_path / ".env").write_text(f"VAD_THRESHOLD={value}\n")
        (tmp_path / "x.toml").write_text(f"speed = {value}\n")
        for name in (".env", "x.toml"):  # the same size: only the time tells
            os.utime(tmp_path / name, ns=(0, int(float(value) * 10)))
        settings = load(agent="x", agents_dir=tmp_path)
        assert (settings.vad_threshold, settings.speed) == (float(value), float(value))
    (tmp_path / ".env").unlink()
    assert load().vad_threshold == 0.5


def test_unchanged_files_are_not_read_again(tmp_path):
    path = tmp_path / ".env"
    path.write_text("VAD_THRESHOLD=0.1\n")
    os.utime(path, ns=(1, 1))
    assert load().vad_threshold == 0.1
    with path.open("r+") as file:  # the same inode, size and, below, time: only a cache cannot see this
        file.write("VAD_THRESHOLD=0.2\n")
    os.utime(path, ns=(1, 1))
    assert load().vad_threshold == 0.1


def test_misspelt_names_in_env_file_are_warned_about(tmp_path):
    (tmp_path / ".env").write_text("OPENAI_REALTIME_VIOCE=ash\nOPENAI_BASE_URL=http://x\n")
    (warning,) = load({"OPENAI_API_KEY": KEY}).warnings
    assert "OPENAI_REALTIME_VIOCE in .env is not a setting" in warning
    assert "did you mean OPENAI_REALTIME_VOICE?" in warning


# ---- agent profiles


def test_committed_profiles_load():
    directory = ROOT / "conf" / "agents"
    for path in sorted(directory.glob("*.toml")):
        settings = load({"OPENAI_API_KEY": KEY}, agent=path.stem, agents_dir=directory)
        assert settings.greeting
        assert settings.warnings == ()
    assert {"default.toml", "reception.toml"} <= set(os.listdir(directory))


def test_agent_is_chosen_per_call(tmp_path):
    (tmp_path / "a.toml").write_text('voice = "ash"')
    (tmp_path / "b.toml").write_text('voice = "ballad"')
    environ = {"IVR_AI_AGENT": "a", "IVR_AI_AGENTS_DIR": str(tmp_path)}
    assert load(environ).voice == "ash"
    assert load(environ, channel={"IVR_AI_AGENT": "b"}).voice == "ballad"
    settings = load(environ, channel={"IVR_AI_AGENT": "b"}, agent="a")
    assert (settings.voice, settings.agent, settings.source("agent")) == ("ash", "a", "argument")


def test_profiles_are_found_in_freeswitchs_conf_dir(tmp_path):
    directory = tmp_path / "ivr_ai" / "agents"
    directory.mkdir(parents=True)
    (directory / "default.toml").write_text('voice = "verse"')
    settings = load(channel={"conf_dir": str(tmp_path)})
    assert (settings.voice, settings.agents_dir) == ("verse", str(directory))
    assert load(channel={"conf_dir": str(tmp_path / "none")}).voice == "marin"


def test_only_the_default_profile_may_be_missing(tmp_path):
    assert load(agents_dir=tmp_path).agent == "default"
    assert load(agents_dir=tmp_path, agent="default").agent == "default"
    (tmp_path / "sales.toml").write_text("")
    error = failure(load, {"IVR_AI_AGENT": "slaes"}, agents_dir=tmp_path)
    assert str(error) == (
        f"IVR_AI_AGENT 'slaes' (environment): there is no such profile in {tmp_path}; there is sales"
    )
    assert "set IVR_AI_AGENTS_DIR" in str(failure(load, agent="sales"))
    assert len(failure(load, agent="sales", agents_dir=tmp_path / "none").problems) == 1


def test_profile_name_cannot_leave_the_directory(tmp_path):
    (tmp_path / "secret.toml").write_text('voice = "ash"')
    (tmp_path / "agents").mkdir()
    for name in ("../secret", "/etc/passwd", "..", ".hidden", "a\0b"):
        error = failure(load, channel={"IVR_AI_AGENT": name}, agents_dir=tmp_path / "agents")
        assert [problem.setting for problem in error.problems] == ["IVR_AI_AGENT"]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("vioce", "did you mean voice?"),
        ("OPENAI_REALTIME_VOICE", "did you mean voice?"),
        ("VAD_SILENCE_DURATION_MS", "did you mean vad_silence_ms?"),
        ("zzz", "is not a setting"),
        ("agent", "cannot be set by a profile, it finds the profile: set IVR_AI_AGENT"),
    ],
)
def test_unknown_keys_in_a_profile(key, hint, tmp_path):
    error = failure(with_profile, tmp_path, f'{key} = "x"')
    assert str(error).startswith(f"{key} (profile {tmp_path / 'x.toml'}): ")
    assert str(error).endswith(hint)


def test_broken_profiles(tmp_path):
    assert "is not TOML:" in str(failure(with_profile, tmp_path, "voice = "))
    (tmp_path / "y.toml").write_bytes(b'voice = "\xff"')
    assert "it is not UTF-8" in str(failure(load, agent="y", agents_dir=tmp_path))
    assert "must be text" in str(failure(with_profile, tmp_path, "[greeting]\ntext = 'x'"))


# ---- everything wrong at once


def test_all_problems_at_once(tmp_path):
    (tmp_path / ".env").write_text("VAD_THRESHOLD=high\n'broken\n")
    error = failure(
        with_profile,
        tmp_path,
        'vioce = "x"\nspeed = 9',
        environ={"PORT": "no"},
        channel={"IVR_AI_FAILURE_ACTION": "transfer"},
    )
    assert [problem.setting for problem in error.problems] == [
        "OPENAI_SPEED",
        "VAD_THRESHOLD",
        "PORT",
        "IVR_AI_FAILURE_TRANSFER",
        "",
        "vioce",
    ]
    assert len(str(error).splitlines()) == 6
    assert (error.setting, error.value) == ("OPENAI_SPEED", "9")


def test_config_error_of_one_problem():
    error = ConfigError("X", "'1'", "must be 2", "environment")
    assert (str(error), len(error.problems)) == ("X '1' (environment): must be 2", 1)


# ---- secrets


def test_secrets_are_masked_everywhere(tmp_path):
    url = "wss://user:pass-word@host/x?api-key=query-secret&api-version=1"
    settings = load({"OPENAI_API_KEY": KEY, "OPENAI_REALTIME_URL": url})
    shown = f"{settings!r} {settings} {list(settings.describe())}"
    assert "sk-…1234" in shown
    assert "wss://…@host/x?api-key=…&api-version=1" in shown
    for secret in (KEY, "abcdefgh", "pass-word", "query-secret"):
        assert secret not in shown
    assert settings.api_key == KEY


def test_short_secrets_show_nothing_of_themselves():
    for key in ("short-secret", "x"):
        settings = Settings(api_key=key)
        assert ("OPENAI_API_KEY", "…", "set in code") in settings.describe()
        assert key not in repr(settings)


def test_secrets_are_masked_in_errors():
    error = failure(
        load, {"OPENAI_API_KEY": "my own secret 1234", "OPENAI_REALTIME_URL": "http://u:hidden@h/"}
    )
    assert [problem.value for problem in error.problems] == ["'…1234'", "'http://…@h/'"]


# ---- the object


def test_describe_has_every_setting():
    rows = list(load({"PORT": "1"}).describe())
    assert [name for name, _, _ in rows] == [row.name for row in SETTINGS]
    assert ("PORT", "1", "environment") in rows
    assert ("IVR_AI_BARGE_IN", "1", "default") in rows
    assert ("IVR_AI_MAX_CALL_S", "3600", "default") in rows


def test_replace_checks_and_remembers():
    settings = load({"VAD_THRESHOLD": "0.4", "PORT": "1"}, today=date(2030, 1, 1))
    changed = settings.replace(vad_threshold="0.3", barge_in=False)
    assert (changed.vad_threshold, changed.source("vad_threshold")) == (0.3, "set in code")
    assert (changed.source("port"), changed.today) == ("environment", date(2030, 1, 1))
    assert settings.vad_threshold == 0.4
    assert failure(settings.replace, speed=7).source == "set in code"
    with pytest.raises(TypeError):
        settings.replace(sped=1)


def test_settings_cannot_be_changed_and_can_be_keys():
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.speed = 1.2
    assert len({settings, Settings(), Settings(speed=1.2)}) == 2


def test_loading_from_many_threads(tmp_path):
    (tmp_path / "x.toml").write_text('voice = "ash"')
    path, outcomes = tmp_path / ".env", []

    def load_often() -> None:
        for _ in range(50):
            settings = load(agent="x", agents_dir=tmp_path)
            outcomes.append((settings.voice, settings.vad_threshold))

    path.write_text("VAD_THRESHOLD=0.1\n")
    threads = [threading.Thread(target=load_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20):
        fresh = tmp_path / "fresh"
        fresh.write_text(f"VAD_THRESHOLD=0.{1 + i % 2}\n")
        fresh.replace(path)
    for thread in threads:
        thread.join()
    assert len(outcomes) == 200
    assert set(outcomes) <= {("ash", 0.1), ("ash", 0.2)}
