"""Every setting, what is said when they are wrong, what is masked, and the object itself."""

from __future__ import annotations

from datetime import date

import pytest
from loading import BY_ATTRIBUTE, KEY, ROOT, failure, load, with_profile

from ivr_ai.config import SETTINGS, ConfigError, Settings
from ivr_ai.config.rules import REPLACED
from ivr_ai.config.sources import tomllib

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
    "api_key_header": (
        "Api-Key",
        "Api-Key",
        '"two words"',
        "a header's name, such as Authorization or api-key",
    ),
    "extra_headers": (
        '{"X-Tenant": "blue"}',
        (("X-Tenant", "blue"),),
        '"X-Tenant: blue"',
        "a JSON object of strings",
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
    "greeting_interruptible": ("yes", True, '"sometimes"', FLAG),
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
    "utterance_max_s": ("60", 60.0, "0.5", "a number of seconds from 1 to 600"),
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
    "max_calls": ("200", 200, "-1", "a whole number, from 0 to 100000"),
    "reconnect_max": ("0", 0, "21", "a whole number, from 0 to 20"),
    "hold_keep_s": ("0", 0.0, '"30s"', "a number of seconds from 0 to 3600; write the number alone"),
    "agent": ("default", "default", '"../secret"', "letters, digits, dots, dashes and underscores"),
    "agents_dir": (str(ROOT), str(ROOT), '"/no/such/directory"', "must be a directory"),
    "log_level": ("debug", "DEBUG", '"loud"', "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
    "timeline_dir": ("/var/log/calls", "/var/log/calls", "false", "the path of a directory"),
    "out_rate_hz": ("8000", 8000, "7999", RATES),
    "send_json_audio": ("true", True, '"ja"', FLAG),
    "send_json_handshake": ("no", False, "1.0", FLAG),
}


def test_cases_cover_the_table():
    assert set(CASES) == set(BY_ATTRIBUTE)


# What makes a call need a setting that it does without by default.
NEEDED_WITH = {
    "temperature": {"dialect": "beta"},
    "language": {"transcription_model": "any"},
    "eagerness": {"turn_detection": "semantic_vad"},
    "utterance_max_s": {"turn_detection": "none"},
    "failure_transfer": {"failure_action": "transfer"},
    "api_key_header": {"api_key": KEY},
}
NEVER_NEEDED = {
    "log_level",
    "timeline_dir",
    "sample_rate_hz",
    "channels",
    "out_rate_hz",
    "send_json_audio",
    "send_json_handshake",
}


@pytest.mark.parametrize("attribute", CASES)
def test_allowed_value_from_each_source(attribute, tmp_path):
    text, value, _, _ = CASES[attribute]
    name = BY_ATTRIBUTE[attribute].name
    env_file = tmp_path / "settings.env"
    env_file.write_text(f"{name}='{text}'\n")
    loads = [load({name: text}), load(channel={name: text}), load(env_file=env_file)]
    if attribute not in ALONE:
        loads.append(with_profile(tmp_path, f"{attribute} = '{text}'"))
    for settings in loads:
        assert getattr(settings, attribute) == value
        assert type(getattr(settings, attribute)) is type(value)


@pytest.mark.parametrize("attribute", [name for name in CASES if name not in NEVER_NEEDED])
def test_refused_value_names_setting_value_source_and_what_is_allowed(attribute, tmp_path):
    _, _, bad, allowed = CASES[attribute]
    row = BY_ATTRIBUTE[attribute]
    if attribute in ALONE:
        error = failure(load, {row.name: bad.strip('"')})
    else:
        needed = {BY_ATTRIBUTE[other].name: value for other, value in NEEDED_WITH.get(attribute, {}).items()}
        error = failure(with_profile, tmp_path, f"{attribute} = {bad}", environ=needed)
    source = "environment" if attribute in ALONE else f"profile {tmp_path / 'x.toml'}"
    (problem,) = error.problems
    assert problem.setting == row.name
    assert allowed in problem.allowed
    assert problem.source == source
    assert str(error) == f"{row.name} {problem.value} ({source}): {problem.allowed}"
    if not row.secret and attribute != "extra_headers":
        assert problem.value == repr(tomllib.loads(f"x = {bad}")["x"])


@pytest.mark.parametrize("attribute", [*sorted(NEVER_NEEDED), *NEEDED_WITH])
def test_a_wrong_value_that_a_call_does_without_is_a_warning_and_the_default(attribute, tmp_path):
    _, _, bad, allowed = CASES[attribute]
    row = BY_ATTRIBUTE[attribute]
    text = str(tomllib.loads(f"x = {bad}")["x"])
    loads = {
        "environment": load({row.name: text}),
        "channel variable": load(channel={row.name: text}),
        f"profile {tmp_path / 'x.toml'}": with_profile(tmp_path, f"{attribute} = {bad}"),
    }
    if attribute == "timeline_dir":  # any text is a path
        loads = dict(list(loads.items())[2:])
    for source, settings in loads.items():
        assert getattr(settings, attribute) == row.default
        (warning,) = [each for each in settings.warnings if each.startswith(row.name)]
        if attribute in REPLACED:
            assert "has no effect on calls" in warning
        else:
            assert f"({source})" in warning
            assert allowed in warning
            assert warning.endswith(" is used instead")
            assert settings.source(attribute) == "default"


def test_a_setting_a_call_does_without_stays_readable_after_replace():
    settings = load({"LOG_LEVEL": "loud"}).replace(speed=1.2)
    assert len([each for each in settings.warnings if each.startswith("LOG_LEVEL")]) == 1


def test_what_only_the_simulator_reads_is_not_read(tmp_path):
    """Kubernetes sets PORT, shells set HOST, dialplans have a variable `host`."""
    foreign = {"PORT": "tcp://10.96.0.1:80", "HOST": "http://10.0.0.7", "port": "trunk-1", "host": "a/b"}
    assert load({"OPENAI_API_KEY": KEY, **foreign}, channel=foreign).warnings == ()
    (warning,) = with_profile(tmp_path, "port = 9", environ={"OPENAI_API_KEY": KEY}).warnings
    assert warning.startswith("port in profile ")


def test_defaults_are_allowed_and_are_the_documented_ones():
    settings = load()
    for row in SETTINGS:
        assert row.kind.parse(row.kind.text(row.default)) == row.default
        assert getattr(settings, row.attribute) == row.default
    assert settings == Settings()
    assert (settings.model, settings.voice) == ("gpt-realtime-2.1", "marin")


def test_names_are_unique():
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)


def test_profile_takes_toml_types(tmp_path):
    settings = with_profile(
        tmp_path,
        "max_output_tokens = inf\nspeed = 1\nbarge_in = false\nmax_calls = 7\ngreeting = ''\nlog_level = 7",
    )
    assert settings.max_output_tokens == "inf"
    assert (settings.speed, settings.barge_in, settings.max_calls) == (1.0, False, 7)
    assert settings.log_level == "DEBUG"


def test_long_values_are_cut_in_messages():
    assert len(str(failure(load, {"OPENAI_REALTIME_MODEL": "long " * 1000}))) < 200


# ---- everything wrong at once


def test_all_problems_at_once(tmp_path):
    (tmp_path / "my.env").write_text("VAD_THRESHOLD=high\n'broken\n")
    error = failure(
        with_profile,
        tmp_path,
        'vioce = "x"\nspeed = 9',
        environ={"IVR_AI_MAX_CALLS": "no", "IVR_AI_ENV_FILE": "my.env"},
        channel={"IVR_AI_FAILURE_ACTION": "transfer"},
    )
    assert [problem.setting for problem in error.problems] == [
        "OPENAI_SPEED",
        "VAD_THRESHOLD",
        "IVR_AI_MAX_CALLS",
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


def test_values_of_headers_are_shown_nowhere():
    settings = load({"OPENAI_EXTRA_HEADERS": '{"X-Gateway-Key": "gw-secret-123456789"}'})
    shown = f"{settings!r} {list(settings.describe())}"
    assert '{"X-Gateway-Key": "…"}' in shown
    error = failure(load, {"OPENAI_EXTRA_HEADERS": '{"X-Gateway-Key": gw-secret-123456789}'})
    assert "gw-secret" not in shown + str(error)
    assert error.value == "'…'"


# ---- text as it comes


def test_bytes_that_are_not_utf8_become_replacement_characters_in_every_setting(tmp_path):
    name = "Andr\udce9"  # what mod_python3 and os.environ make of the byte E9
    settings = load(
        {"OPENAI_GREETING": f"Greet {name}."},
        channel={"OPENAI_SYSTEM_INSTRUCTIONS": f"{name} \ud83d calls.", "IVR_AI_APOLOGY_TEXT": "Désolé."},
    )
    assert settings.greeting == "Greet Andr\ufffd."
    assert settings.instructions == "Andr\ufffd \ufffd calls."
    assert settings.apology_text == "Désolé."
    assert Settings(greeting=name).greeting == "Andr\ufffd"
    error = failure(load, channel={"OPENAI_REALTIME_MODEL": f"my {name}", "OPENAI_SPEED": name})
    str(error).encode()
    failure(load, channel={"IVR_AI_AGENT": name}, agents_dir=tmp_path)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_a_value_are_left_out_and_said(quote):
    settings = load(
        {
            "OPENAI_API_KEY": f"{quote}{KEY}{quote}",
            "VAD_THRESHOLD": f"{quote}0.4{quote}",
            "LOG_LEVEL": f"{quote}warn{quote}",
            "OPENAI_REALTIME_URL": f"{quote}wss://h/{quote}",
            "IVR_AI_FAILURE_TRANSFER": f"{quote}1000 XML default{quote}",
        }
    )
    assert (settings.api_key, settings.vad_threshold, settings.log_level) == (KEY, 0.4, "WARNING")
    assert (settings.realtime_url, settings.failure_transfer) == ("wss://h/", "1000 XML default")
    assert len(settings.warnings) == 5
    assert KEY not in str(settings.warnings)
    assert settings.warnings[0] == (
        "OPENAI_API_KEY (environment) is in quotes, which are left out: write it without them"
    )


def test_quotes_in_what_is_said_stay():
    settings = load({"OPENAI_API_KEY": KEY, "OPENAI_GREETING": '"Ahoy!"'})
    assert (settings.greeting, settings.warnings) == ('"Ahoy!"', ())


def test_a_quoted_agent_is_found(tmp_path):
    (tmp_path / "x.toml").write_text('voice = "ash"')
    settings = load({"IVR_AI_AGENT": '"x"', "IVR_AI_AGENTS_DIR": f"'{tmp_path}'"})
    assert (settings.agent, settings.voice) == ("x", "ash")


# ---- the apology's file


def test_a_relative_apology_file_is_in_freeswitchs_sounds_directory(tmp_path):
    (tmp_path / "sorry.wav").write_bytes(b"RIFF")
    environ = {"OPENAI_API_KEY": KEY, "IVR_AI_APOLOGY_FILE": "sorry.wav"}
    settings = load(environ, channel={"sounds_dir": str(tmp_path)})
    assert (settings.apology_file, settings.warnings) == (str(tmp_path / "sorry.wav"), ())
    assert settings.replace(apology_file="other.wav").apology_file == str(tmp_path / "other.wav")
    assert load(environ).apology_file == "sorry.wav"
    whole = {**environ, "IVR_AI_APOLOGY_FILE": "/x/sorry.wav"}
    assert load(whole, channel={"sounds_dir": str(tmp_path)}).apology_file == "/x/sorry.wav"


# ---- the object


def test_describe_has_every_setting():
    rows = list(load({"IVR_AI_MAX_CALLS": "1"}).describe())
    assert [name for name, _, _ in rows] == [row.name for row in SETTINGS]
    assert ("IVR_AI_MAX_CALLS", "1", "environment") in rows
    assert ("IVR_AI_BARGE_IN", "1", "default") in rows
    assert ("IVR_AI_MAX_CALL_S", "3540", "default") in rows


def test_replace_checks_and_remembers():
    settings = load({"VAD_THRESHOLD": "0.4", "IVR_AI_MAX_CALLS": "1"}, today=date(2030, 1, 1))
    changed = settings.replace(vad_threshold="0.3", barge_in=False)
    assert (changed.vad_threshold, changed.source("vad_threshold")) == (0.3, "set in code")
    assert (changed.source("max_calls"), changed.today) == ("environment", date(2030, 1, 1))
    assert settings.vad_threshold == 0.4
    assert failure(settings.replace, speed=7).source == "set in code"
    with pytest.raises(TypeError):
        settings.replace(sped=1)


def test_settings_cannot_be_changed_and_can_be_keys():
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.speed = 1.2
    assert len({settings, Settings(), Settings(speed=1.2)}) == 2
