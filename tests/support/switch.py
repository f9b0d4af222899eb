"""A real FreeSWITCH for tests and the demo: own configuration, free ports, loopback only, never left behind.

    with FreeSwitch(tmp_path) as switch:
        switch.cli("uuid_dump ...")
        switch.wait_log("a pattern")

The configuration is switch_conf/ beside this file; what a test adds comes as XML. Modules are looked up in a
folder of links to the installed ones and to those just built: nothing has to be installed. The embedded
Python finds ivr_ai in the repository and its dependencies in the folder that IVR_AI_TEST_SITE names.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import quoteattr

from ivr_ai import freeswitch_install
from ivr_ai.freeswitch_install import FreeSwitchInstall

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
CONF = Path(__file__).with_name("switch_conf")
MODULES = (
    "mod_logfile",
    "mod_event_socket",
    "mod_sofia",
    "mod_loopback",
    "mod_commands",
    "mod_dptools",
    "mod_dialplan_xml",
    "mod_opus",
    "mod_sndfile",
    "mod_native_file",
    "mod_tone_stream",
)
OUR_MODULE = "mod_audio_stream"
TONE_HZ = 440
MUSIC_HZ = 620
_START_S = 30.0
_STOP_S = 20.0
_RTP_BLOCKS = range(10000, 20000, 1000)  # below the ports that the kernel hands out by itself


class SwitchError(RuntimeError):
    """FreeSWITCH did not start, answer or stop; the message ends with its last log lines."""


def find_install() -> FreeSwitchInstall | None:
    """The FreeSWITCH under FS_PREFIX, or the one that ivr_ai.freeswitch_install finds; None without one."""
    install = freeswitch_install.find(os.environ.get("FS_PREFIX"))
    return install if install and install.binary.is_file() else None


def default_modules(install: FreeSwitchInstall) -> tuple[str, ...]:
    """What calls need, and what there is of mod_python3 and the module under test."""
    python = ("mod_python3",) if Path(install.modulesdir, "mod_python3.so").is_file() else ()
    ours = (OUR_MODULE,) if Path(BUILD, f"{OUR_MODULE}.so").is_file() else ()
    return (*MODULES, *ours, *python)


class FreeSwitch:
    """A running FreeSWITCH. Start it from a thread that outlives it: the kernel kills it with that thread."""

    def __init__(
        self,
        tmp_path: Path,
        modules: Sequence[str] | None = None,
        dialplan_xml: str = "",
        config_xml: str = "",
        env: Mapping[str, str] | None = None,
        scripts_dir: Path | None = None,
        build_dir: Path = BUILD,
    ) -> None:
        """dialplan_xml, config_xml: extensions and configurations put before ours. Raises SwitchError."""
        install = find_install()
        if install is None:
            raise SwitchError("no FreeSWITCH: install one, or set FS_PREFIX to where it is")
        self._install = install
        self.root = tmp_path
        self.modules = tuple(modules if modules is not None else default_modules(install))
        self.sip_port, self.esl_port = _free_port(), _free_port()
        self._password = secrets.token_hex(8)
        self._rtp_start, self._rtp_claim = _claim_rtp_block()
        self._lay_out(dialplan_xml, config_xml, build_dir)
        environment = self._environment(build_dir, dict(env or {}))
        self._process = self._start(scripts_dir or self.root / "scripts", environment)
        atexit.register(self._kill)
        self._wait_until_up()

    @property
    def sip_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.sip_port

    @property
    def event_socket(self) -> tuple[str, int, str]:
        """Host, port and password."""
        return "127.0.0.1", self.esl_port, self._password

    # -- files and process -------------------------------------------------------------------------

    def _lay_out(self, dialplan_xml: str, config_xml: str, build_dir: Path) -> None:
        for name in ("log", "run", "db", "mod", "scripts", "tmp", "certs", "data"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(CONF, self.root / "conf", dirs_exist_ok=True)
        self._link_modules(build_dir)
        values = {
            "sip_port": self.sip_port,
            "esl_port": self.esl_port,
            "esl_password": self._password,
            "rtp_start_port": self._rtp_start,
            "rtp_end_port": self._rtp_start + _RTP_BLOCKS.step - 2,
            "tone": f"tone_stream://%(10000,0,{TONE_HZ});loops=-1",
            "hold_music": f"tone_stream://%(10000,0,{MUSIC_HZ});loops=-1",
        }
        settings = (f'<X-PRE-PROCESS cmd="set" data={quoteattr(f"{k}={v}")}/>' for k, v in values.items())
        self._write_conf("vars.xml", "\n".join(settings))
        loads = "".join(f'<load module="{name}"/>\n' for name in self.modules)
        self._write_conf(
            "modules.xml", f'<configuration name="modules.conf"><modules>\n{loads}</modules></configuration>'
        )
        self._write_conf("extra_config.xml", config_xml)
        self._write_conf("extra_dialplan.xml", dialplan_xml)

    def _write_conf(self, name: str, xml: str) -> None:
        (self.root / "conf" / name).write_text(f"<include>\n{xml}\n</include>\n", encoding="utf-8")

    def _link_modules(self, build_dir: Path) -> None:
        """A folder for -mod: the installed modules, and those just built in their place."""
        folder = self.root / "mod"
        for source in (*Path(self._install.modulesdir).glob("*.so"), *build_dir.glob("mod_*.so")):
            link = folder / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source.resolve())

    def _environment(self, build_dir: Path, extra: dict[str, str]) -> dict[str, str]:
        """Only what is named here gets in: a developer's own API key and settings stay outside."""
        site, inherited = os.environ.get("IVR_AI_TEST_SITE"), os.environ.get("LD_LIBRARY_PATH")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.root),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(build_dir), inherited))),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), site))),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return environment | extra

    def _start(self, scripts_dir: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        folders = {name: self.root / name for name in ("conf", "log", "run", "db", "mod", "certs")}
        folders |= {"scripts": scripts_dir, "temp": self.root / "tmp"}
        folders |= dict.fromkeys(("recordings", "storage", "cache", "htdocs", "grammar"), self.root / "data")
        arguments = [str(self._install.binary), "-nf", "-nc", "-nonat", "-nort"]
        for name, folder in folders.items():
            arguments += [f"-{name}", str(folder)]
        guard = shutil.which("setpriv")
        if guard:  # so that not even a killed test run leaves a switch behind
            arguments = [guard, "--pdeathsig", "KILL", "--", *arguments]
        with open(self.root / "log" / "console.log", "wb") as console:
            return subprocess.Popen(
                arguments,
                env=environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, whose finalizer then stops the switch
            )

    def _wait_until_up(self) -> None:
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s and self.running:
            with contextlib.suppress(SwitchError):
                if self.cli("status").startswith("UP ") and "RUNNING" in self.cli("sofia status"):
                    return
            time.sleep(0.1)
        self._kill()
        raise self._error(f"FreeSWITCH was not up within {_START_S:.0f} s")

    def stop(self) -> None:
        """Shut down in good order. Raises SwitchError when it hangs, had crashed, or crashes on the way."""
        if self._process.returncode is None:
            with contextlib.suppress(SwitchError):
                self.cli("fsctl shutdown")
        try:
            status = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._kill()
            raise self._error(f"FreeSWITCH did not stop within {_STOP_S:.0f} s") from None
        finally:
            self._kill()
        if status != 0:
            raise self._error(f"FreeSWITCH ended with {_exit_name(status)}")

    def _kill(self) -> None:
        atexit.unregister(self._kill)
        self._rtp_claim.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> FreeSwitch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _error(self, message: str) -> SwitchError:
        tail = self.log().splitlines()[-20:] or self.console().splitlines()[-20:]
        return SwitchError("\n".join([message, *tail]))

    # -- talking to it -----------------------------------------------------------------------------

    def cli(self, command: str, timeout_s: float = 10.0) -> str:
        """What fs_cli prints for a command. Raises SwitchError when the switch does not answer."""
        program = str(Path(self._install.bindir, "fs_cli"))
        arguments = [
            program,
            "-H",
            "127.0.0.1",
            "-P",
            str(self.esl_port),
            "-p",
            self._password,
            "-x",
            command,
        ]
        try:
            done = subprocess.run(
                arguments,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                env={"HOME": str(self.root), "PATH": os.defpath},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._error(f"no answer to {command!r} within {timeout_s} s") from None
        if done.returncode != 0:
            raise SwitchError(f"{command!r} failed: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def _open_log(self) -> TextIO:
        path = self.root / "log" / "freeswitch.log"
        path.touch()  # FreeSWITCH appends
        return path.open(encoding="utf-8", errors="replace")

    def log(self) -> str:
        """All of freeswitch.log so far. Lines of a call begin with its uuid."""
        with self._open_log() as log:
            return log.read()

    def console(self) -> str:
        """What it printed: crashes, sanitizer reports, Python's own output."""
        return (self.root / "log" / "console.log").read_text(encoding="utf-8", errors="replace")

    def log_lines(self, pattern: str) -> list[str]:
        """The log lines in which a regular expression is found."""
        found = re.compile(pattern)
        return [line for line in self.log().splitlines() if found.search(line)]

    def wait_log(self, pattern: str, timeout_s: float = 5.0, count: int = 1) -> list[str]:
        """log_lines(pattern), once there are count of them. Raises SwitchError on timeout."""
        deadline_s = time.monotonic() + timeout_s
        found, lines, rest = re.compile(pattern), [], ""
        with self._open_log() as log:  # read once: it has megabytes, and what waits must not load the machine
            while True:
                *new, rest = (rest + log.read()).split("\n")
                lines += [line for line in new if found.search(line)]
                if len(lines) >= count:
                    return lines
                if time.monotonic() > deadline_s:
                    raise self._error(
                        f"{len(lines)} log lines of {count} with {pattern!r} after {timeout_s} s"
                    )
                time.sleep(0.05)

    # -- watching it -------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def channels(self) -> int:
        """Call legs that exist now, by the core's own count."""
        return int(re.search(r"^(\d+) session\(s\) - peak", self.cli("status"), re.MULTILINE)[1])

    def wait_channels(self, count: int, timeout_s: float = 2.0) -> None:
        """Raises SwitchError when there are not that many legs in time."""
        deadline_s = time.monotonic() + timeout_s
        while (now := self.channels()) != count:
            if time.monotonic() > deadline_s:
                raise self._error(
                    f"{now} channels instead of {count} after {timeout_s} s:\n{self.cli('show channels')}"
                )
            time.sleep(0.05)

    def rss_kb(self) -> int:
        return self._status("VmRSS")

    def threads(self) -> int:
        return self._status("Threads")

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[1])


def _exit_name(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _free_port() -> int:
    """One that is free for TCP and UDP: SIP takes both."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]


def _claim_rtp_block() -> tuple[int, socket.socket]:
    """A thousand ports for RTP; holding the block's last port keeps other switches of this harness out."""
    for start in _RTP_BLOCKS:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", start + _RTP_BLOCKS.step - 1))
            return start, claim
        except OSError:
            claim.close()
    raise SwitchError(
        f"all RTP port blocks from {_RTP_BLOCKS.start} to {_RTP_BLOCKS.stop} are taken: stop other test runs"
    )
