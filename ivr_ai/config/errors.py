"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing wrong: the setting's NAME, its value (masked when secret), what is allowed, its source.

    Any part but `allowed` may be empty: a file that cannot be read has no setting.
    """

    setting: str
    value: str
    allowed: str
    source: str = ""

    def __str__(self) -> str:
        what = " ".join(part for part in (self.setting, self.value) if part)
        origin = f" ({self.source})" if what and self.source else self.source
        return f"{what}{origin}: {self.allowed}"


class ConfigError(ValueError):
    """The configuration cannot be used. `problems` lists every reason; the message has one line for each.

    `setting`, `value`, `allowed` and `source` are those of the first problem.
    """

    def __init__(
        self,
        setting: str = "",
        value: str = "",
        allowed: str = "",
        source: str = "",
        *,
        problems: Sequence[Problem] = (),
    ) -> None:
        self.problems = list(problems) or [Problem(setting, value, allowed, source)]
        self.setting, self.value, self.allowed, self.source = self.problems[0]
        super().__init__("\n".join(str(problem) for problem in self.problems))
