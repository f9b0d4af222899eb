"""The settings of one call."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from os import PathLike
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from . import rules
from .errors import ConfigError, Problem
from .kinds import BadValueError, Setting, plain, unquoted
from .sources import CODE, DEFAULT, gather
from .table import Table


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings(Table):
    """What one call is run with. Immutable, so safe to use from any thread; repr masks secrets.

    Built by `load`, or directly with keyword arguments, which may be text as in the environment. Either way
    every value is checked, and ConfigError lists everything that is wrong. A wrong value that the call does
    without (see rules.unused) is a warning, and the default takes its place.
    """

    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    notices: tuple[str, ...] = field(default=(), compare=False)
    sounds_dir: str = field(default="", compare=False)
    today: date = field(default_factory=date.today, compare=False)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        env_file: str | PathLike[str] | None = None,
        agent: str | None = None,
        agents_dir: str | PathLike[str] | None = None,
        channel: Mapping[str, str] | Callable[[str], str | None] | None = None,
        *,
        working_dir: str | PathLike[str] | None = None,
        today: date | None = None,
    ) -> Settings:
        """The settings of one call: channel variable, agent profile, environment, .env, default; first wins.

        `environ` is os.environ by default. `env_file` is a file that must exist; without it the one that
        IVR_AI_ENV_FILE names, which must exist too, or `.env` in the working directory, which need not. ""
        reads none. `agent` and `agents_dir` win over their settings. `channel` is FreeSWITCH's getVariable
        or a mapping. `working_dir` is another process's. `today` dates the warnings. Raises ConfigError with
        everything that is wrong.
        """
        found = gather(SETTINGS, environ, env_file, agent, agents_dir, channel, working_dir)
        problems = found.problems
        try:
            settings = cls(
                **found.values,
                sources=found.sources,
                notices=tuple(found.notices),
                sounds_dir=found.sounds_dir,
                today=today or date.today(),
            )
        except ConfigError as error:
            problems = error.problems + problems
        if problems:
            raise ConfigError(problems=problems)
        return settings

    def __post_init__(self) -> None:
        wrong = dict(self._parse())
        unused = rules.unused(self) if wrong else set()
        for attribute in [each for each in wrong if each in unused]:
            self._do_without(attribute, wrong.pop(attribute))
        names = {problem.setting for problem in wrong.values()}
        problems = [*wrong.values(), *(each for each in rules.problems(self) if each.setting not in names)]
        if problems:
            raise ConfigError(problems=problems)
        if self.apology_file and self.sounds_dir:
            object.__setattr__(self, "apology_file", os.path.join(self.sounds_dir, self.apology_file))

    def _parse(self) -> Iterator[tuple[str, Problem]]:
        """Reads every value into its type, in place; a bad one gives a problem and becomes the default."""
        for row in SETTINGS:
            value = self._bare(row, plain(getattr(self, row.attribute)))
            try:
                parsed = row.kind.parse(value)
            except BadValueError as error:
                source = self.sources.get(row.attribute, "")
                yield row.attribute, Problem(row.name, row.quote(value), str(error), source)
                parsed = row.default
            object.__setattr__(self, row.attribute, parsed)

    def _bare(self, row: Setting, value: Any) -> Any:
        """The value without quotes around it, which are said."""
        if not isinstance(value, str) or row.kind.may_be_quoted:
            return value
        bare = unquoted(value.strip())
        if bare == value.strip():
            return value
        origin = f" ({self.sources[row.attribute]})" if row.attribute in self.sources else ""
        self._note(f"{row.name}{origin} is in quotes, which are left out: write it without them")
        return bare

    def _do_without(self, attribute: str, problem: Problem) -> None:
        """A value that cannot be read and is not needed: the default is there already, and this is said."""
        if attribute in rules.REPLACED:
            return  # set at all, it is warned about
        default = BY_ATTRIBUTE[attribute].show(getattr(self, attribute)) or "nothing"
        self._note(f"{problem}; {default} is used instead")
        sources = {name: source for name, source in self.sources.items() if name != attribute}
        object.__setattr__(self, "sources", sources)

    def _note(self, notice: str) -> None:
        if notice not in self.notices:
            object.__setattr__(self, "notices", (*self.notices, notice))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but deserves a look, one sentence each; to be logged once a call."""
        return (*self.notices, *rules.warnings(self))

    @property
    def effective_dialect(self) -> str:
        """`ga` or `beta`: the dialect to speak, `auto` decided by the URL."""
        if self.dialect != "auto":
            return self.dialect
        query = parse_qsl(urlsplit(self.realtime_url).query, keep_blank_values=True)
        return "beta" if any(key == "api-version" for key, _ in query) else "ga"

    @property
    def dialect_is_set(self) -> bool:
        """Whether somebody chose the dialect. When not, what the server says may change it."""
        return self.dialect != "auto"

    def source(self, attribute: str) -> str:
        """Where the value comes from: "default", "environment", "channel variable", "profile <path>", ..."""
        row = BY_ATTRIBUTE[attribute]
        unsaid = DEFAULT if getattr(self, attribute) == row.default else CODE
        return self.sources.get(attribute, unsaid)

    def is_set(self, attribute: str) -> bool:
        """Whether somebody set it, be it to the default."""
        return self.source(attribute) != DEFAULT

    def describe(self) -> Iterator[tuple[str, str, str]]:
        """(NAME, value with secrets masked, source) of every setting."""
        for row in SETTINGS:
            yield row.name, row.show(getattr(self, row.attribute)), self.source(row.attribute)

    def replace(self, **changes: Any) -> Settings:
        """A copy with these attributes changed, checked like the original. Raises ConfigError, TypeError."""
        origin = {**self.sources, **{name: CODE for name in changes if name in BY_ATTRIBUTE}}
        return dataclasses.replace(self, **{"sources": origin, **changes})

    def __repr__(self) -> str:
        changed = ((row, getattr(self, row.attribute)) for row in SETTINGS)
        shown = (f"{row.attribute}={row.show(value)!r}" for row, value in changed if value != row.default)
        return f"Settings({', '.join(shown)})"


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(attribute=item.name, **item.metadata["setting"])
    for item in dataclasses.fields(Settings)
    if "setting" in item.metadata
)
BY_ATTRIBUTE = {row.attribute: row for row in SETTINGS}
