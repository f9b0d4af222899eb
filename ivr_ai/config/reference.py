"""The reference, generated from the table: docs/configuration.md and .env.example."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

from .kinds import Setting
from .settings import SETTINGS
from .sources import UNREAD
from .table import SIM
from .texts import INSTRUCTIONS

_INTRO = """\
<!-- Generated: edit ivr_ai/config/ and run `ivr-ai config --markdown > docs/configuration.md`. -->

# Configuration

Every setting has one name and can be set in four places. The first that sets it wins:

1. **Channel variable**, for one call: `<action application="set" data="OPENAI_REALTIME_VOICE=cedar"/>`.
   FreeSWITCH's global variables (`vars.xml`) count as channel variables of every call.
2. **Agent profile**, for one kind of call: a TOML file, see [Agent profiles](#agent-profiles).
3. **Environment** of the process: FreeSWITCH, or `ivr-ai`.
4. **`.env` file**: the one `IVR_AI_ENV_FILE` (environment) names, else `.env` in the working directory.
   A service's working directory is rarely the one you expect, so name the file. Values are taken literally:
   `${...}` is not expanded. [.env.example](../.env.example) has every setting.

Settings are read afresh for every call, so an edited file takes effect with the next call. An empty value
is the same as none, except in a profile. Numbers are written without their unit. Bytes that are not UTF-8
become U+FFFD. Everything wrong is reported at once, each line naming the setting, its value, where it came
from and what is allowed.

What a call does without never refuses it. A wrong value of a setting that has no part in the call
(`LOG_LEVEL`, or `VAD_THRESHOLD` where `semantic_vad` takes the turns) is warned about, and the default used.
A `.env` that nobody named, or a profile `default` without `IVR_AI_AGENT`, that cannot be read is warned about
and left out, and so are lines of such a `.env` that make no sense. Quotes around a value, which
`docker --env-file` keeps, are taken off, and that is said.

`ivr-ai config` shows what is in effect and where each value came from, with secrets masked. With `--check`
it only says what is wrong, and exits with 1 if anything is. Put the key into the environment or `.env`:
channel variables can be read in FreeSWITCH's logs and events.

In the tables, the upper name is that of channel variables, the environment and `.env`; the lower one is the
key in a profile.
"""

_SIM = """\
## `ivr-ai sim`

Environment variables of that command alone. Calls do not read them: other programs use these names, too.

"""

_PROFILES = """\
## Agent profiles

A profile is a file `<name>.toml` in `IVR_AI_AGENTS_DIR`, by default `ivr_ai/agents` in FreeSWITCH's
configuration directory. `IVR_AI_AGENT` chooses it, per call when set as a channel variable. Its keys are
the lower names in the tables above; an unknown key is an error. `""` in a profile sets a text to nothing.
Without `IVR_AI_AGENT` the profile is `default`, the only one that may be missing.
[conf/agents](../conf/agents) has two to start from. Outside FreeSWITCH no directory is known: name one, or
pass `ivr-ai config --agents-dir`.

```toml
# reception.toml
instructions = "You answer the telephone of Harbour Dental. Take the caller's name, number and wish."
greeting = "Say that this is Harbour Dental and ask how you can help."
voice = "cedar"
vad_silence_ms = 500
failure_action = "transfer"
failure_transfer = "1000 XML default"
```

```xml
<action application="set" data="IVR_AI_AGENT=reception"/>
<action application="python" data="ivr_ai.app"/>
```
"""

_EARLIER = """\
## Names from earlier bridges

Set-ups in which a separate bridge process stood between FreeSWITCH and OpenAI used these names. They work
as far as they make sense without a bridge; those without effect are accepted, and warned about when set.

| Name | Here |
|---|---|
"""

_ENV_HEADER = """\
# Settings of ivr_ai. Copy to .env, remove the # of a line and change its value.
# Channel variables, the agent profile and the environment win over this file; see docs/configuration.md.
# Generated: edit ivr_ai/config/ and run `ivr-ai config --env-example > .env.example`.
"""


def markdown() -> str:
    """docs/configuration.md."""
    parts = [_INTRO]
    for group, rows in groupby(SETTINGS, lambda row: row.group):
        parts.append(f"## {group}\n\n" + "\n".join(_table(rows)) + "\n")
        if any(row.default == INSTRUCTIONS for row in SETTINGS if row.group == group):
            parts.append(
                "The built-in `OPENAI_SYSTEM_INSTRUCTIONS`:\n\n" + _wrapped(INSTRUCTIONS, "> ") + "\n"
            )
    parts.append(_SIM + "\n".join(_table(iter(SIM), keys=False)) + "\n")
    parts += [_PROFILES, _EARLIER + "\n".join(_earlier()) + "\n"]
    return "\n".join(parts)


def _table(rows: Iterator[Setting], keys: bool = True) -> Iterator[str]:
    yield "| Name | Default | Unit, allowed | Meaning |"
    yield "|---|---|---|---|"
    for row in rows:
        default = row.shown_default or _code(row.kind.text(row.default))
        names = f"`{row.name}`<br>`{row.attribute}`" if keys else f"`{row.name}`"
        cells = (names, default, row.kind.limits, row.meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _earlier() -> Iterator[str]:
    for row in (*SETTINGS, *SIM):
        if row.bridge:
            yield f"| `{row.name}` | {row.bridge} |"
    for reason, names in UNREAD.items():
        yield f"| {', '.join(f'`{name}`' for name in names)} | Not read: {reason}. |"


def _code(text: str) -> str:
    return f"`{text}`" if text else "empty"


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, 110, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def env_example() -> str:
    """.env.example: every setting with its default, commented out but for the key."""
    parts = [_ENV_HEADER]
    for group, rows in groupby(SETTINGS, lambda row: row.group):
        parts.append(f"# ---- {group} {'-' * (90 - len(group))}\n")
        parts += [_env_entry(row) for row in rows]
    return "\n".join(parts)


def _env_entry(row: Setting) -> str:
    about = f"{row.meaning} [{row.kind.limits}]".replace("`", "")
    comment = _wrapped(about, "# ")
    line = f"{row.name}={_env_value(row.kind.text(row.default))}"
    return f"{comment}\n{line if row.secret else '#' + line}\n"


def _env_value(text: str) -> str:
    """Text as .env wants it: in double quotes unless it is one plain word."""
    if re.fullmatch(r"[A-Za-z0-9_./:+-]*", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
