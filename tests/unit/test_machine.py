"""Who may read what, and what a running process tells of itself."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivr_ai.freeswitch_install import FreeSwitchInstall
from ivr_ai.machine import Machine, RunningSwitch, User, is_packaged, sounds_dir, user_named

ME, MINE = os.getuid(), os.getgid()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"A": "1"}, cwd=tmp_path
    ) as running:
        yield running
        running.stdin.close()
        running.wait()


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody may enter, with nothing closed above it; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def secret(open_dir: Path) -> Path:
    path = open_dir / "secret"
    path.write_text("x")
    return path


@pytest.mark.parametrize(
    ("mode", "user", "may"),
    [
        (0o640, User("member", 1_000_001, frozenset({MINE})), True),
        (0o640, User("stranger", 1_000_001, frozenset({1_000_001})), False),
        (0o604, User("stranger", 1_000_001, frozenset()), True),
        (
            0o604,
            User("member", 1_000_001, frozenset({MINE})),
            False,
        ),  # the group's bits count, not the others'
        (0o000, User("root", 0, frozenset()), True),
    ],
)
def test_files_are_read_by_owner_group_and_mode(secret, mode, user, may):
    secret.chmod(mode)
    assert user.barrier(str(secret)) == ("" if may else str(secret))


def test_a_closed_directory_is_the_barrier(secret):
    secret.chmod(0o644)
    secret.parent.chmod(0o700)
    assert User("stranger", 1_000_001, frozenset()).barrier(str(secret)) == str(secret.parent)


def test_a_link_is_followed(secret, open_dir):
    secret.chmod(0o600)
    (open_dir / "link").symlink_to(secret)
    assert User("stranger", 1_000_001, frozenset()).barrier(str(open_dir / "link")) == str(secret)


def test_what_is_not_there(open_dir):
    for uid in (0, 1_000_001):
        with pytest.raises(FileNotFoundError):
            User("any", uid, frozenset({MINE})).barrier(str(open_dir / "none"))


def test_users_by_name():
    entry = pwd.getpwuid(ME)
    user = user_named(entry.pw_name)
    assert (user.name, user.uid, entry.pw_gid in user.gids) == (entry.pw_name, ME, True)
    assert user_named("no-such-user-here") is None


def test_a_process_tells_its_user_directory_and_environment(process, tmp_path):
    switch = RunningSwitch(lambda text: "", process.pid)
    user = switch.user()
    assert (user.uid, MINE in user.gids) == (ME, True)
    assert switch.working_dir() == str(tmp_path)
    assert switch.environ()["A"] == "1"
    assert switch.nofile() > 0


def test_a_process_that_is_gone_tells_nothing():
    switch = RunningSwitch(lambda text: "", 0)
    assert (switch.user(), switch.working_dir(), switch.environ(), switch.nofile()) == (None, "", None, None)


def test_whose_environment_calls_see(process):
    own = Machine(None, environ={"B": "2"})
    assert own.switch_environ() == ("this shell", {"B": "2"})
    switch = RunningSwitch(lambda text: "", process.pid)
    whose, environ = Machine(None, switch, environ={"B": "2"}).switch_environ()
    assert (whose, environ["A"]) == (f"FreeSWITCH (pid {process.pid})", "1")


def install(prefix: str, conf: str, modules: str, scripts: str) -> FreeSwitchInstall:
    return FreeSwitchInstall(prefix, "", "", "", "", modules, scripts, conf)


DEBIAN = install("/usr", "/etc/freeswitch", "/usr/lib/freeswitch/mod", "/usr/share/freeswitch/scripts")
OWN = install(
    "/usr/local/freeswitch", "/usr/local/freeswitch/conf", "/usr/local/freeswitch/mod", "/fs/scripts"
)


def test_layouts():
    assert is_packaged(DEBIAN)
    assert not is_packaged(OWN)
    assert sounds_dir(DEBIAN) == "/usr/share/freeswitch/sounds"


def test_what_freeswitch_answers_for_every_channel():
    assert Machine(None).channel() == {}
    assert Machine(OWN).channel() == {"conf_dir": OWN.confdir, "sounds_dir": "/fs/sounds"}
    switch = RunningSwitch({"global_getvar sounds_dir": "/mnt/sounds"}.get, 0)
    assert Machine(OWN, switch).channel()["sounds_dir"] == "/mnt/sounds"
