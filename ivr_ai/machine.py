"""What `ivr-ai doctor` looks at: an installation, the switch that runs from it, and who that switch is.

Nothing here changes anything. What may not be read is None, not an error.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ivr_ai import freeswitch_install
from ivr_ai.freeswitch_install import FreeSwitchInstall, Run, run_command

SERVICE_USER = "freeswitch"  # of distribution packages; installations from source use the name as well


@dataclass(frozen=True)
class User:
    """Somebody who reads files: name for messages, and the ids that permissions go by."""

    name: str
    uid: int
    gids: frozenset[int]

    def barrier(self, path: str) -> str:
        """The first file or directory on the way to path that this user may not read; "" when all is open.

        By owner, group and mode alone: access lists may allow more. Raises OSError for a path that is not
        there.
        """
        if self.uid == 0:
            os.stat(path)
            return ""
        target = Path(os.path.realpath(path))
        for parent in reversed(target.parents):
            if not self._may(parent, stat.S_IXUSR):
                return str(parent)
        return "" if self._may(target, stat.S_IRUSR) else str(target)

    def _may(self, path: Path, owner_bit: int) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & owner_bit)
        return bool(status.st_mode & (owner_bit >> 3 if status.st_gid in self.gids else owner_bit >> 6))


def user_named(name: str) -> User | None:
    """The user with this name in the system's tables; None when there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = {group.gr_gid for group in grp.getgrall() if name in group.gr_mem}
    return User(name, entry.pw_uid, frozenset({entry.pw_gid, *groups}))


@dataclass(frozen=True)
class RunningSwitch:
    """A FreeSWITCH that fs_cli reaches. pid is 0 where it cannot be told or read."""

    ask: Callable[[str], str]  # an API command's answer
    pid: int
    proc: Path = Path("/proc")

    def environ(self) -> dict[str, str] | None:
        """The environment it was started with; None when it may not be read."""
        try:
            text = (self.proc / str(self.pid) / "environ").read_bytes().decode(errors="surrogateescape")
        except OSError:
            return None
        return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)

    def working_dir(self) -> str:
        """Its working directory; "" when it may not be read."""
        try:
            return os.readlink(self.proc / str(self.pid) / "cwd")
        except OSError:
            return ""

    def user(self) -> User | None:
        """Who it runs as; None when it may not be read."""
        try:
            text = (self.proc / str(self.pid) / "status").read_text()
        except OSError:
            return None
        ids = {name: rest.split() for name, rest in re.findall(r"^(Uid|Gid|Groups):(.*)$", text, re.M)}
        uid, gid = int(ids["Uid"][1]), int(ids["Gid"][1])  # the second is the effective one
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"uid {uid}"
        return User(name, uid, frozenset({gid, *map(int, ids.get("Groups", []))}))

    def nofile(self) -> int | None:
        """Its limit of open files; None when it may not be read."""
        try:
            limits = (self.proc / str(self.pid) / "limits").read_text()
        except OSError:
            return None
        found = re.search(r"Max open files\s+(\d+)", limits)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Machine:
    """What the checks look at, and how."""

    install: FreeSwitchInstall | None
    switch: RunningSwitch | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    run: Run = run_command
    prefix: str = ""  # asked for on the command line
    offline: bool = False

    def switch_environ(self) -> tuple[str, Mapping[str, str]]:
        """(whose, the environment that calls will see): the running switch's, or else this shell's."""
        environ = self.switch.environ() if self.switch else None
        if environ is None:
            return "this shell", self.environ
        return f"FreeSWITCH (pid {self.switch.pid})", environ

    def switch_user(self) -> User | None:
        """Who reads the files of calls: the running switch's user, or else the one packages make for it."""
        return (self.switch.user() if self.switch else None) or user_named(SERVICE_USER)

    def channel(self) -> dict[str, str]:
        """What FreeSWITCH answers for every channel: its directories."""
        if self.install is None:
            return {}
        sounds = self.switch.ask("global_getvar sounds_dir") if self.switch else ""
        return {"conf_dir": self.install.confdir, "sounds_dir": sounds or sounds_dir(self.install)}


def is_packaged(install: FreeSwitchInstall) -> bool:
    """Whether its files lie where Debian's packages put them."""
    return install.confdir == "/etc/freeswitch" and install.modulesdir.startswith("/usr/lib/")


def sounds_dir(install: FreeSwitchInstall) -> str:
    """Where it looks for sounds unless told otherwise: beside its scripts."""
    return str(Path(install.scriptdir).parent / "sounds")


def look(prefix: str, fs_cli: str, offline: bool, run: Run = run_command) -> Machine:
    """This machine. A switch that fs_cli reaches says itself where its modules and scripts are."""
    install = freeswitch_install.find(prefix or None, run)
    if install is None:
        return Machine(None, prefix=prefix, offline=offline, run=run)
    switch = reach(install, fs_cli, run)
    if switch:
        names = {"modulesdir": "mod_dir", "scriptdir": "script_dir", "confdir": "conf_dir"}
        said = {name: switch.ask(f"global_getvar {variable}") for name, variable in names.items()}
        install = dataclasses.replace(
            install, **{name: path for name, path in said.items() if path.startswith("/")}
        )
    return Machine(install, switch, prefix=prefix, offline=offline, run=run)


def reach(install: FreeSwitchInstall, fs_cli: str, run: Run) -> RunningSwitch | None:
    """The running switch, over fs_cli with these arguments; None when it does not answer."""
    command = [str(Path(install.bindir, "fs_cli")), *shlex.split(fs_cli), "-x"]

    def ask(text: str) -> str:
        done = run([*command, text])
        return done.stdout.strip() if done.returncode == 0 else ""

    run_dir = ask("global_getvar run_dir")
    if not run_dir.startswith("/"):
        return None
    try:
        pid = int(Path(run_dir, "freeswitch.pid").read_text())
    except (OSError, ValueError):
        pid = 0
    return RunningSwitch(ask, pid)
