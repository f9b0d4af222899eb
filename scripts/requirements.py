"""Prints the requirements in pyproject.toml, for pip: the project's own, and those of chosen extras."""

from __future__ import annotations

import argparse
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pip carries a copy
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(pyproject: dict, extras: list[str], build_system: bool) -> list[str]:
    """Requirement strings, without duplicates, in the order of the file."""
    project = pyproject["project"]
    found = list(pyproject["build-system"]["requires"]) if build_system else []
    found += project["dependencies"]
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return list(dict.fromkeys(found))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", action="append", default=[], help="an extra to include")
    parser.add_argument("--build-system", action="store_true", help="include what builds the project")
    args = parser.parse_args()
    pyproject = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    print(*requirements(pyproject, args.extra, args.build_system), sep="\n")


if __name__ == "__main__":
    main()
