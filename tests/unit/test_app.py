"""What FreeSWITCH imports, and reloads on every call: it must stay tiny. Every test has its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, **environ: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "IVR_AI_ENV_FILE": "", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_nothing_heavy():
    loaded = python(
        "import sys; before = set(sys.modules); import ivr_ai.app; print(*sorted(set(sys.modules) - before))"
    ).split()
    assert [name for name in loaded if name.startswith("ivr_ai")] == ["ivr_ai", "ivr_ai.app"]
    heavy = {"numpy", "soxr", "cffi", "_cffi_backend", "websocket", "requests", "ssl", "socket", "json"}
    assert not {name.partition(".")[0] for name in loaded} & heavy
    assert len(loaded) < 40


def test_it_is_small():
    """mod_python3 compiles and runs it again for every call."""
    assert len((ROOT / "ivr_ai" / "app.py").read_text(encoding="utf-8").splitlines()) < 50


def test_reloading_leaves_nothing_and_loses_nothing():
    code = """
import importlib, sys
import ivr_ai.app as app
from ivr_ai import runtime
runtime._process.registry.total = 7
path, modules = list(sys.path), set(sys.modules)
for _ in range(100):
    importlib.reload(app)
assert sys.path == path, "sys.path has grown"
assert set(sys.modules) == modules, "modules were loaded"
from ivr_ai import runtime as again
assert again is runtime and again._process.registry.total == 7
assert callable(app.runtime) and callable(app.handler)
print("flat")
"""
    assert python(code) == "flat"


def test_what_it_depends_on_is_found_beside_the_real_package(tmp_path):
    """mod_python3 finds the package by a link in the script directory; the path is added once."""
    (tmp_path / "ivr_ai").symlink_to(ROOT / "ivr_ai")
    code = f"""
import importlib, sys
sys.path.insert(0, {str(tmp_path)!r})
import ivr_ai
for _ in range(3):
    importlib.reload(ivr_ai)
print(sys.path.count({str(ROOT)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "1"


def test_the_entries_go_to_the_runtime():
    code = """
from ivr_ai import app, runtime
seen = []
runtime.handle = lambda session, args: seen.append((session, args))
runtime.warm = lambda: seen.append("warm")
assert app.handler("the session", "sales") is None
app.runtime("")
app.warm()

class Stream:
    def write(self, text):
        seen.append(text)

app.fsapi(None, Stream(), None, "version")
from ivr_ai import __version__
assert seen == [("the session", "sales"), "warm", "warm", f"ivr_ai {__version__}\\n"], seen
print("ok")
"""
    assert python(code) == "ok"


def test_warming_up_as_mod_python3_does():
    """On a thread with a small stack, and with its recursion limit: loading gets a thread that has room."""
    code = """
import sys, threading
from ivr_ai import app
sys.setrecursionlimit(240)
threading.stack_size(240 * 1024)
done = []
thread = threading.Thread(target=lambda: done.append(app.warm()))
thread.start()
thread.join()
assert done == [None], done
assert threading.stack_size() == 1 << 20
assert sys.getrecursionlimit() >= 1000
print(*sorted(name for name in sys.modules if name.startswith("ivr_ai.") or name == "websocket"))
"""
    loaded = python(code).split()
    assert {"ivr_ai.call", "ivr_ai.realtime.native", "ivr_ai.conversation.conversation"} <= set(loaded)
    assert "websocket" not in loaded  # megabytes, for a transport that is not used


def test_a_call_then_imports_nothing_more():
    code = """
import sys
from ivr_ai import app
app.warm()
before = {name for name in sys.modules if name.startswith("ivr_ai")}
from ivr_ai import runtime
from ivr_ai.gateways.embedded import place_call
record = place_call(app.handler, variables={"OPENAI_REALTIME_URL": "ws://127.0.0.1:1/"})
assert record.session.hangupCause() == "NORMAL_TEMPORARY_FAILURE"
now = {name for name in sys.modules if name.startswith("ivr_ai") and "gateways" not in name}
print(*sorted(now - before - {"ivr_ai.audio.g711"}), "nothing else")  # the host needs G.711 for its line
"""
    assert python(code, IVR_AI_APOLOGY_TEXT="No.") == "nothing else"


def test_warming_up_happens_once_however_many_ask():
    code = """
import threading, time
from ivr_ai import runtime
loads = []
def load():
    loads.append(threading.current_thread().name)
    time.sleep(0.2)
runtime._process._warmup._load = load
threads = [threading.Thread(target=runtime.warm) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
runtime.warm()
print(loads)
"""
    assert python(code) == "['ivr-warm']"


def test_what_cannot_be_loaded_is_said_on_every_call():
    """The call is hung up, the log has why, and the switch goes on."""
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
sys.modules["ivr_ai._audio_stream"] = None
from ivr_ai import runtime
class Session:
    cause, released = None, False
    def get_uuid(self): return "u-1"
    def ready(self): return self.cause is None
    def hangup(self, cause): self.cause = cause
    def destroy(self): self.released = True
for _ in range(2):
    session = Session()
    assert runtime.handle(session, "") is None
    print(session.cause, session.released)
try:
    runtime.warm()
except RuntimeError as error:
    print(error)
"""
    said = python(code)
    assert said.count("NORMAL_TEMPORARY_FAILURE True") == 2
    assert said.count("call u-1: ivr_ai cannot be loaded: ") == 2
    assert f"(library modules from {sys.prefix}; `ivr-ai doctor` checks)" in said
    assert "_audio_stream" in said


def test_inside_freeswitch_it_logs_into_freeswitchs_log():
    code = """
import logging, sys, types
lines = []
sys.modules["freeswitch"] = types.SimpleNamespace(consoleLog=lambda *line: lines.append(line))
from ivr_ai import runtime, switch_log
runtime.warm()
lines.clear()
log = logging.getLogger("ivr_ai.call")
for level in ("critical", "error", "warning", "info", "debug"):
    getattr(log, level)("call %s", level)
runtime.warm()
switch_log.set_up()  # a second time: no second handler
log.error("once")
print(lines)
"""
    assert python(code, LOG_LEVEL="DEBUG", OPENAI_API_KEY="sk-test") == str(
        [
            ("crit", "ivr_ai: call critical\n"),
            ("err", "ivr_ai: call error\n"),
            ("warning", "ivr_ai: call warning\n"),
            ("info", "ivr_ai: call info\n"),
            ("debug", "ivr_ai: call debug\n"),
            ("err", "ivr_ai: once\n"),
        ]
    )


def test_a_runtime_that_cannot_even_be_imported_costs_a_call_and_nothing_else():
    """Its session is released, and fs_cli gets an answer."""
    code = """
import sys
from ivr_ai import app
sys.modules["ivr_ai.runtime"] = None
class Session:
    done = []
    def get_uuid(self): return "u-1"
    def ready(self): return True
    def hangup(self, cause): self.done.append(cause)
    def destroy(self): self.done.append("released")
class Stream:
    def write(self, text): print(text)
app.handler(Session(), "")
print(Session.done)
app.fsapi("na", Stream(), None, "status")
"""
    said = python(code)
    assert "['NORMAL_TEMPORARY_FAILURE', 'released']" in said
    assert "-ERR ivr_ai cannot run: " in said


def test_the_agent_of_the_process_is_found_where_freeswitch_has_its_profiles(tmp_path):
    """IVR_AI_AGENT in FreeSWITCH's environment: its profile is read, and logging works."""
    agents = tmp_path / "ivr_ai" / "agents"
    agents.mkdir(parents=True)
    (agents / "reception.toml").write_text('transport = "python"\napology_text = ""\n')
    said = python(WARM.format(conf_dir=str(tmp_path)), IVR_AI_AGENT="reception")
    assert said == "INFO [] websocket"


def test_the_default_profile_is_looked_at(tmp_path):
    agents = tmp_path / "ivr_ai" / "agents"
    agents.mkdir(parents=True)
    (agents / "default.toml").write_text('transport = "python"\n')
    assert python(WARM.format(conf_dir=str(tmp_path))) == "INFO [] websocket"


def test_settings_that_are_wrong_switch_neither_logging_nor_loading_off(tmp_path):
    said = python(WARM.format(conf_dir=str(tmp_path)), VAD_THRESHOLD="loud", LOG_LEVEL="DEBUG")
    assert said.startswith("DEBUG [\"ivr_ai: settings: VAD_THRESHOLD 'loud'")
    assert said.endswith(" call")


WARM = """
import logging, sys, types
lines = []
class API:
    def execute(self, command, name):
        return {conf_dir!r} if (command, name) == ("global_getvar", "conf_dir") else ""
def log(level, line):
    if level in ("err", "warning"):
        lines.append(line)
sys.modules["freeswitch"] = types.SimpleNamespace(consoleLog=log, API=API)
from ivr_ai import runtime
runtime.warm()
level = logging.getLevelName(logging.getLogger("ivr_ai").level)
loaded = "websocket" if "websocket" in sys.modules else "call" if "ivr_ai.call" in sys.modules else ""
print(level, [line for line in lines if "OPENAI_API_KEY" not in line], loaded)
"""
