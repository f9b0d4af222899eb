"""Where settings come from: who wins, .env files, agent profiles, files that are odd."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loading import KEY, ROOT, failure, load, with_profile

from ivr_ai.config import SETTINGS, Problem, Settings
from ivr_ai.config.sources import FILE_MAX_BYTES

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
    (tmp_path / "my.env").write_bytes(b"A=\xff\n")
    assert "cannot be read: it is not UTF-8" in str(failure(load, {"IVR_AI_ENV_FILE": "my.env"}))
    (tmp_path / "my.env").write_bytes(b"#" * (FILE_MAX_BYTES + 1))
    assert f"more than {FILE_MAX_BYTES} bytes" in str(failure(load, env_file="my.env"))


UTF16 = "VAD_THRESHOLD=0.75\n".encode("utf-16")
CERTIFICATE = (
    b"VAD_THRESHOLD=0.75\nCERT=-----BEGIN CERTIFICATE-----\nMIIB text here\n-----END CERTIFICATE-----\n"
)


@pytest.mark.parametrize(
    ("content", "threshold", "said"),
    [
        (b"VAD_THRESHOLD=0.75\nNAME=Jos\xe9\n", 0.75, "is not quite a .env file: it is not UTF-8"),
        (UTF16, 0.5, "it is not UTF-8"),
        (CERTIFICATE, 0.75, "not NAME=value, and left out: line 3, 4"),
        (b'f() {\n  echo "x"\n}\nexport -f f\nVAD_THRESHOLD=0.75\n', 0.75, "left out: line 1, "),
        (b"set -e\nVAD_THRESHOLD=0.75\n", 0.75, "left out: line 1"),
        (b'VAD_THRESHOLD=0.75\nOTHER="half\n', 0.75, "left out: line 2"),
        (b"not a line\n" * 40, 0.5, "line 1, 2, 3, 4, 5, ..."),
        (b"#" * (FILE_MAX_BYTES + 1), 0.5, "cannot be read, and is left out: it has more than"),
    ],
)
def test_an_env_file_that_nobody_named_is_read_as_far_as_possible(tmp_path, content, threshold, said):
    (tmp_path / ".env").write_bytes(content)
    settings = load({"OPENAI_API_KEY": KEY})
    assert settings.vad_threshold == threshold
    (warning,) = settings.warnings
    assert warning.startswith(".env ")
    assert said in warning


def test_a_directory_or_a_pipe_named_env_is_left_out(tmp_path):
    (tmp_path / ".env").mkdir()
    assert load({"OPENAI_API_KEY": KEY}).warnings == (
        ".env cannot be read, and is left out: it is not a file",
    )
    (tmp_path / ".env").rmdir()
    os.mkfifo(tmp_path / ".env")  # opening it would wait for a writer
    assert "it is not a file" in load({"OPENAI_API_KEY": KEY}).warnings[0]


AS_NOBODY = """
import os, sys
from ivr_ai.config import ConfigError, Settings
Settings.load(env_file="")  # whatever is imported late may be read only now
os.setgid(65534)
os.setuid(65534)
try:
    for warning in Settings.load({"OPENAI_API_KEY": "sk"}, channel={"conf_dir": sys.argv[1]}.get).warnings:
        print("warning:", warning)
    Settings.load({"OPENAI_API_KEY": "sk", "IVR_AI_AGENT": "default"}, channel={"conf_dir": sys.argv[1]}.get)
except ConfigError as error:
    print("error:", error)
"""


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody may enter, with nothing closed above it; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_files_that_this_user_may_not_read(open_dir):
    agents = open_dir / "ivr_ai" / "agents"
    agents.mkdir(parents=True)
    (agents / "default.toml").write_text('voice = "ash"')
    (open_dir / ".env").write_text("VAD_THRESHOLD=0.75")
    for path in (agents / "default.toml", open_dir / ".env"):
        path.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(open_dir)],
        cwd=open_dir,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    path = agents / "default.toml"
    assert done.stdout.splitlines() == [
        "warning: .env cannot be read, and is left out: Permission denied",
        f"warning: profile {path} cannot be read, and is left out: Permission denied",
        f"error: profile {path}: cannot be read: Permission denied",
    ]


def test_another_processs_working_directory(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    (there / ".env").write_text("VAD_THRESHOLD=0.75\n")
    (there / "my.env").write_text("VAD_THRESHOLD=0.25\n")
    settings = load(working_dir=there)
    assert (settings.vad_threshold, settings.source("vad_threshold")) == (0.75, str(there / ".env"))
    assert load({"IVR_AI_ENV_FILE": "my.env"}, working_dir=there).vad_threshold == 0.25
    assert load({"IVR_AI_ENV_FILE": "'my.env'"}, working_dir=there).vad_threshold == 0.25


def test_no_working_directory_at_all(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load({"OPENAI_API_KEY": KEY}).warnings == ()
    os.chdir(tmp_path)


def test_bad_line_is_named_but_not_shown(tmp_path):
    (tmp_path / "my.env").write_text(f"A=1\nOPENAI_API_KEY='{KEY}\nB=2\n")
    error = failure(load, env_file="my.env")
    assert str(error) == "my.env line 2: must be NAME=value, a # comment or empty"


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


def default_profile(tmp_path, content: bytes | None, environ: dict[str, str] | None = None) -> Settings:
    """Settings with a profile `default` of these bytes, or one that is a directory."""
    path = tmp_path / "default.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    return load({"OPENAI_API_KEY": KEY, **(environ or {})}, agents_dir=tmp_path)


def test_a_default_profile_that_nobody_named_and_that_cannot_be_read_is_left_out(tmp_path):
    (warning,) = default_profile(tmp_path, None).warnings
    assert warning.endswith("default.toml cannot be read, and is left out: it is not a file")


def test_a_default_profile_that_nobody_named_is_read_in_any_encoding(tmp_path):
    settings = default_profile(tmp_path, b'# Jos\xe9\nvoice = "ash"\ngreeting = "Jos\xe9"\n')
    assert (settings.voice, settings.greeting) == ("ash", "Jos\ufffd")
    (warning,) = settings.warnings
    assert warning.endswith("default.toml is not UTF-8: save it as UTF-8")


@pytest.mark.parametrize("content", [None, b"# Jos\xe9\n"])
def test_a_default_profile_that_was_named_must_be_readable(tmp_path, content):
    error = failure(default_profile, tmp_path, content, {"IVR_AI_AGENT": "default"})
    assert "default.toml: cannot be read: " in str(error)


@pytest.mark.parametrize("content", [b"voice = ", b'colour = "red"'])
def test_what_is_wrong_in_the_default_profile_is_an_error(tmp_path, content):
    assert "default.toml" in str(failure(default_profile, tmp_path, content))


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
