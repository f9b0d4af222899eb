"""Where settings come from: channel variables, agent profiles, the environment, a .env file.

`gather` asks them all and leaves judging the values to Settings. Parsed files are kept until they change (by
modification time, size and inode). That cache is the only shared state; its lock is not held during reading.

A file that somebody named must be there and make sense. One that merely lies where files are looked for may
be anybody's: what can be read of it counts, and what cannot is a notice.
"""

from __future__ import annotations

import difflib
import functools
import io
import os
import stat
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, NamedTuple

from dotenv.parser import parse_stream

from .errors import Problem
from .kinds import BadValueError, Setting, unquoted
from .table import SIM

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = "default"
CODE = "set in code"
ARGUMENT = "argument"
CHANNEL = "channel variable"
ENVIRONMENT = "environment"

ENV_FILE = "IVR_AI_ENV_FILE"
FILE_MAX_BYTES = 1 << 20

# Names the earlier bridges read and this program does not, by why not.
UNREAD = {
    "replies are in the model's own voice, OPENAI_REALTIME_VOICE": (
        "TTS_PROVIDER",
        "TTS_API_KEY",
        "TTS_VOICE_ID",
        "TTS_MODEL",
        "TTS_FALLBACK_PROVIDER",
        "TTS_SENTENCE_MAX_CHARS",
        "TTS_SENTENCE_MIN_CHARS",
        "TTS_CACHE_ENABLED",
        "TTS_CACHE_MAX_ENTRIES",
        "TTS_CACHE_TTL_S",
    ),
    "there is no bridge process to probe": ("HEALTH_PORT",),
    "IVR_AI_MAX_CALLS limits calls": ("MAX_CONCURRENT_CALLS",),
}

Lookup = Callable[[str], "str | None"]


@dataclass
class Found:
    """Raw values by attribute, where each came from, what could not be read, what looks odd.

    `sounds_dir` is FreeSWITCH's, "" when nobody knows of one.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    sounds_dir: str = ""

    def put(self, attribute: str, value: Any, source: str) -> None:
        self.values[attribute], self.sources[attribute] = value, source


class EnvFile(NamedTuple):
    """A parsed .env file: its values, the numbers of the lines that make no sense, whether all is UTF-8."""

    values: Mapping[str, str]
    bad_lines: tuple[int, ...]
    is_utf8: bool


class Profile(NamedTuple):
    """A parsed agent profile: its keys, and whether all is UTF-8."""

    keys: Mapping[str, Any]
    is_utf8: bool


def gather(
    table: Sequence[Setting],
    environ: Mapping[str, str] | None,
    env_file: str | PathLike[str] | None,
    agent: str | None,
    agents_dir: str | PathLike[str] | None,
    channel: Mapping[str, str] | Lookup | None,
    working_dir: str | PathLike[str] | None = None,
) -> Found:
    """Every setting somebody set, from the source that wins. See Settings.load for the arguments."""
    found = Found()
    environ = os.environ if environ is None else environ
    asks = (lambda name: None) if channel is None else channel if callable(channel) else channel.get
    env_path, env = _env_file(environ, env_file, working_dir, found)
    outer = ((CHANNEL, asks), (ENVIRONMENT, environ.get), (env_path, env.get))
    rows = {row.attribute: row for row in table}
    for attribute, argument in (("agent", agent), ("agents_dir", agents_dir)):
        if argument is not None:
            found.put(attribute, os.fspath(argument), ARGUMENT)
        else:
            _ask(rows[attribute], outer, found)
    profile_path, profile = _profile(rows, asks, found)
    layers = (outer[0], (f"profile {profile_path}", profile), *outer[1:])
    for row in table:
        if row.attribute not in found.values:
            _ask(row, layers, found)
    found.sounds_dir = (asks("sounds_dir") or "").strip()  # FreeSWITCH answers for its global variables, too
    found.notices += _oddities(table, environ, env_path, env)
    return found


def _ask(row: Setting, layers: Sequence[tuple[str, Lookup | Mapping[str, Any]]], found: Found) -> None:
    """The first source that has the setting. Text that is empty counts as not set, except in a profile."""
    for source, layer in layers:
        if isinstance(layer, Mapping):
            if row.attribute in layer:
                found.put(row.attribute, layer[row.attribute], source)
                return
        elif (value := layer(row.name)) and str(value).strip():
            found.put(row.attribute, str(value).strip(), source)
            return


def _env_file(
    environ: Mapping[str, str],
    path: str | PathLike[str] | None,
    working_dir: str | PathLike[str] | None,
    found: Found,
) -> tuple[str, Mapping[str, str]]:
    """The .env file's path and values."""
    origin = "env_file argument" if path is not None else ENV_FILE
    named = os.fspath(path) if path is not None else unquoted(environ.get(ENV_FILE, "").strip())
    where = named or ("" if path is not None else ".env")
    if not where:
        return "", {}
    if working_dir is not None and path is None:
        where = os.path.join(working_dir, where)
    try:
        parsed = _cached(where, _parse_env if named else _parse_any_env, regular=not named)
    except FileNotFoundError:
        if named:
            found.problems.append(Problem(origin, repr(named), "there is no such file"))
        return where, {}
    except (OSError, UnicodeDecodeError) as error:
        if named:
            found.problems.append(Problem("", "", f"cannot be read: {_reason(error)}", where))
        else:
            found.notices.append(f"{where} cannot be read, and is left out: {_reason(error)}")
        return where, {}
    _judge_env(where, parsed, bool(named), found)
    return where, parsed.values


def _judge_env(where: str, parsed: EnvFile, named: bool, found: Found) -> None:
    """Says what of a .env file could not be read: line by line for one that was named, else in one notice."""
    if named:
        for line in parsed.bad_lines:
            allowed = "must be NAME=value, a # comment or empty"
            found.problems.append(Problem("", "", allowed, f"{where} line {line}"))
        return
    odd = [] if parsed.is_utf8 else ["it is not UTF-8"]
    if parsed.bad_lines:
        lines = ", ".join(map(str, parsed.bad_lines[:5])) + (", ..." if len(parsed.bad_lines) > 5 else "")
        odd.append(f"not NAME=value, and left out: line {lines}")
    if odd:
        found.notices.append(f"{where} is not quite a .env file: {'; '.join(odd)}")


def _parse_env(data: bytes) -> EnvFile:
    return _env_of(data.decode("utf-8-sig"), True)


def _parse_any_env(data: bytes) -> EnvFile:
    """The same for a file that may be in any encoding."""
    try:
        return _parse_env(data)
    except UnicodeDecodeError:
        return _env_of(data.decode("utf-8-sig", "surrogateescape"), False)


def _env_of(text: str, is_utf8: bool) -> EnvFile:
    values, bad_lines = {}, []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            bad_lines.append(binding.original.line)
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return EnvFile(values, tuple(bad_lines), is_utf8)


def _profile(rows: Mapping[str, Setting], asks: Lookup, found: Found) -> tuple[str, dict[str, Any]]:
    """The agent profile's path and its values by attribute, unknown keys taken out and reported."""
    name = found.values.get("agent", rows["agent"].default)
    directory = _agents_dir(asks, found)
    try:
        name = rows["agent"].kind.parse(unquoted(name))
    except BadValueError:
        return "", {}  # Settings reports the name; a path must not be made of it
    if not directory:
        if name != rows["agent"].default and "agents_dir" not in found.values:
            allowed = "has no directory to be looked for in: set IVR_AI_AGENTS_DIR"
            found.problems.append(Problem("IVR_AI_AGENT", repr(name), allowed, found.sources["agent"]))
        return "", {}
    path = os.path.join(directory, name + ".toml")
    keys = _profile_keys(path, name, directory, rows, found)
    known = {key: value for key, value in keys.items() if _known(key, path, rows, found)}
    return path, known


def _agents_dir(asks: Lookup, found: Found) -> str:
    """The profiles' directory, "" when none is known. A directory that was named must be there."""
    directory = unquoted(found.values.get("agents_dir", ""))
    if directory:
        if not os.path.isdir(directory):
            source = found.sources["agents_dir"]
            found.problems.append(
                Problem("IVR_AI_AGENTS_DIR", repr(directory), "must be a directory", source)
            )
            return ""
        return directory
    # FreeSWITCH answers for its global variables too.
    conf_dir = (asks("conf_dir") or "").strip()
    if not conf_dir:
        return ""
    directory = os.path.join(conf_dir, "ivr_ai", "agents")
    found.put("agents_dir", directory, "FreeSWITCH's conf_dir")
    return directory


def _profile_keys(
    path: str, name: str, directory: str, rows: Mapping[str, Setting], found: Found
) -> Mapping[str, Any]:
    named = "agent" in found.values
    try:
        profile = _cached(path, _parse_toml if named else _parse_any_toml, regular=not named)
        if not profile.is_utf8:
            found.notices.append(f"profile {path} is not UTF-8: save it as UTF-8")
        return profile.keys
    except FileNotFoundError:
        if name != rows["agent"].default:
            allowed = f"there is no such profile in {directory}; there is {_profiles_in(directory)}"
            found.problems.append(Problem("IVR_AI_AGENT", repr(name), allowed, found.sources["agent"]))
    except tomllib.TOMLDecodeError as error:
        found.problems.append(Problem("", "", f"is not TOML: {error}", f"profile {path}"))
    except (OSError, UnicodeDecodeError) as error:
        if named:
            found.problems.append(Problem("", "", f"cannot be read: {_reason(error)}", f"profile {path}"))
        else:
            found.notices.append(f"profile {path} cannot be read, and is left out: {_reason(error)}")
    return {}


def _parse_toml(data: bytes) -> Profile:
    return Profile(tomllib.loads(data.decode("utf-8-sig")), True)


def _parse_any_toml(data: bytes) -> Profile:
    """The same for a file that may be in any encoding."""
    try:
        return _parse_toml(data)
    except UnicodeDecodeError:
        return Profile(tomllib.loads(data.decode("utf-8-sig", "replace")), False)


def _profiles_in(directory: str) -> str:
    try:
        names = sorted(entry[:-5] for entry in os.listdir(directory) if entry.endswith(".toml"))
    except OSError:
        names = []
    return ", ".join(names) or "none"


def _known(key: str, path: str, rows: Mapping[str, Setting], found: Found) -> bool:
    """Whether a profile's key is a setting; if not, the problem says which one may be meant."""
    if key in ("agent", "agents_dir"):
        allowed = f"cannot be set by a profile, it finds the profile: set {rows[key].name}"
    elif key in rows:
        return True
    elif key in (row.attribute for row in SIM):
        found.notices.append(f"{key} in profile {path} has no effect: only `ivr-ai sim` listens")
        return False
    else:
        names = {row.name: row.attribute for row in rows.values()}
        close = difflib.get_close_matches(key.lower(), rows, n=1)
        meant = names.get(key) or (close[0] if close else "")
        allowed = "is not a setting" + (f"; did you mean {meant}?" if meant else "")
    found.problems.append(Problem(key, "", allowed, f"profile {path}"))
    return False


def _oddities(
    table: Sequence[Setting], environ: Mapping[str, str], env_path: str, env: Mapping[str, str]
) -> list[str]:
    """Names that look like a misspelt setting in .env, and names that only the earlier bridges read."""
    notices = []
    names = tuple(row.name for row in table)
    for name in sorted(set(env) - set(names) - {ENV_FILE}):
        meant = _meant(name, names)
        if meant:
            notices.append(f"{name} in {env_path} is not a setting and is not read; did you mean {meant}?")
    for reason, unread in UNREAD.items():
        present = [name for name in unread if environ.get(name) or env.get(name)]
        if present:
            notices.append(f"{', '.join(present)} of an earlier bridge: not read, {reason}")
    return notices


@functools.lru_cache(maxsize=256)
def _meant(name: str, names: tuple[str, ...]) -> str:
    """The setting a name in .env is a slip of, or "". Cached: comparing takes a millisecond."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.9)
    return close[0] if close else ""


_cache: dict[tuple[str, Callable[[bytes], Any]], tuple[tuple[int, int, int], Any]] = {}
_cache_lock = threading.Lock()


def _cached(path: str, parse: Callable[[bytes], Any], *, regular: bool = False) -> Any:
    """The parsed file, from the cache while the file is unchanged. Raises OSError and what `parse` raises.

    regular: refuses pipes and devices, which could keep a call waiting for ever.
    """
    key = (os.path.abspath(path), parse)
    status = os.stat(path)
    if regular and not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a file")
    stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
    with _cache_lock:
        held = _cache.get(key)
    if held is not None and held[0] == stamp:
        return held[1]
    with open(path, "rb") as file:
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise OSError(f"it has more than {FILE_MAX_BYTES} bytes")
    parsed = parse(data)
    with _cache_lock:
        _cache[key] = (stamp, parsed)
    return parsed


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"
