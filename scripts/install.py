"""Copies what `make` built into a FreeSWITCH installation, and takes it out again.

    libdir/libaudiostream.so.1          the streams: one file for the module and the Python extension
    libdir/ivr_ai/                      the Python package and all it needs (site), and manifest.json
    modulesdir/mod_audio_stream.so
    scriptdir/ivr_ai -> libdir/ivr_ai/ivr_ai, and fs_scripts/*
    confdir/autoload_configs/, ivr_ai/  configuration that changes nothing as it stands
    confdir/dialplan/default/*.xml.sample                     extensions: FreeSWITCH reads none until renamed
    bindir/ivr-ai                       the command, run by the Python that mod_python3 embeds

Rules. A file is replaced by renaming a new one over it: FreeSWITCH may have the old one mapped. A
configuration file that is there and is not as we installed it is never touched: ours goes beside it as
NAME.new. The manifest lists every file with its SHA-256; uninstalling removes those, except configuration
that has been edited since, and then the directories that installing made.

Earlier versions installed the dialplans as NAME.xml, live at the next reloadxml. Callers may use those
extensions by now, so upgrading leaves such a file as it is and says so; uninstalling removes the file unless
it was edited.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "libaudiostream.so.1"
MODULE = "mod_audio_stream.so"

CODE = "code"  # ours alone: replaced and removed without asking
CONFIG = "config"  # the administrator's once it is there
LINK = "link"
SAMPLE = ".sample"  # FreeSWITCH includes dialplan/default/*.xml and nothing else

LAUNCHER = """\
#!{python}
# Installed by ivr_ai: runs the package with the Python that FreeSWITCH's mod_python3 embeds.
import sys

sys.path.insert(0, {site!r})
from ivr_ai.cli import main

sys.exit(main())
"""


@dataclass(frozen=True)
class Item:
    """One thing to install: a file from source, or literal text, or a link to target. mode is for files."""

    kind: str
    path: str
    source: Path | None = None
    text: str = ""
    mode: int = 0o644


@dataclass(frozen=True)
class Entry:
    """One installed path in the manifest; digest is the SHA-256 of a file, the target of a link."""

    kind: str
    path: str
    digest: str


@dataclass(frozen=True)
class Layout:
    """Final directories, without DESTDIR, and the interpreter of the command."""

    libdir: str
    modulesdir: str
    scriptdir: str
    confdir: str
    bindir: str
    python: str

    @property
    def site(self) -> str:
        return f"{self.libdir}/ivr_ai"


def tree(source: Path, target: str, kind: str = CODE) -> Iterator[Item]:
    """Every file below source as an item below target; stamps and pip's own bin/ are left out."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and not name.parts[0].startswith(".") and name.parts[0] != "bin":
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            yield Item(kind, f"{target}/{name}", path, mode=mode)


def plan(layout: Layout, root: Path, site: Path) -> list[Item]:
    """Everything to install from the tree at root and the packages in site."""
    built = root / "build"
    conf = root / "conf"
    items = [
        Item(CODE, f"{layout.libdir}/{LIBRARY}", built / LIBRARY, mode=0o755),
        Item(CODE, f"{layout.modulesdir}/{MODULE}", built / "install" / MODULE, mode=0o755),
        *tree(site, layout.site),
        *tree(built / "install" / "package", layout.site),
        Item(LINK, f"{layout.scriptdir}/ivr_ai", text=f"{layout.site}/ivr_ai"),
        Item(
            CODE,
            f"{layout.bindir}/ivr-ai",
            text=LAUNCHER.format(python=layout.python, site=layout.site),
            mode=0o755,
        ),
    ]
    items += [
        Item(CODE, f"{layout.scriptdir}/{path.name}", path)
        for path in sorted((root / "fs_scripts").glob("*.py"))
    ]
    samples = {
        "autoload_configs": (conf / "autoload_configs").glob("*.xml"),
        "ivr_ai": conf.glob("*.xml"),
        "ivr_ai/agents": (conf / "agents").glob("*.toml"),
    }
    for directory, paths in samples.items():
        items += [Item(CONFIG, f"{layout.confdir}/{directory}/{path.name}", path) for path in sorted(paths)]
    items += [
        Item(CONFIG, f"{layout.confdir}/dialplan/default/{path.name}{SAMPLE}", path)
        for path in sorted((root / "dialplan").glob("*.xml"))
    ]
    return items


def live_dialplans(paths: Iterable[str]) -> list[str]:
    """Which of the paths in a manifest FreeSWITCH reads as extensions: those of an earlier version."""
    return [path for path in paths if "/dialplan/" in path and path.endswith(".xml")]


class Installer:
    """Installs into and uninstalls from destdir + final paths; prints what people need to know."""

    def __init__(self, destdir: str, manifest: str) -> None:
        self._destdir = os.path.abspath(destdir).rstrip("/") if destdir else ""
        self._manifest = self._at(manifest)
        recorded = (
            json.loads(self._manifest.read_text())
            if self._manifest.is_file()
            else {"files": [], "directories": []}
        )
        self._old = {entry["path"]: Entry(**entry) for entry in recorded["files"]}
        self._directories: list[str] = recorded["directories"]
        self.notes: list[str] = []

    def _at(self, path: str) -> Path:
        return Path(self._destdir + path)

    def install(self, items: Iterable[Item], layout: Layout) -> int:
        """Installs items, removes what only an earlier installation had; returns how many files there are."""
        entries = [entry for entry in map(self._install_one, items) if entry]
        entries += self._live_dialplans()
        kept = {entry.path for entry in entries}
        self._remove(entry for path, entry in self._old.items() if path not in kept)
        self._make_directory(self._manifest.parent)
        record = {
            "layout": asdict(layout),
            "files": [asdict(entry) for entry in entries],
            "directories": self._directories,
        }
        _write(self._manifest, json.dumps(record, indent=1).encode() + b"\n", 0o644)
        return len(entries)

    def uninstall(self) -> int:
        """Removes what the manifest lists; returns how many files. FileNotFoundError without a manifest."""
        self._manifest.stat()
        removed = self._remove(self._old.values())
        self._note_enabled_samples()
        self._manifest.unlink()
        for directory in sorted(self._directories, key=len, reverse=True):
            path = self._at(directory)
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        return removed

    def _install_one(self, item: Item) -> Entry | None:
        path = self._at(item.path)
        self._make_directory(path.parent)
        if item.kind == LINK:
            return self._link(item, path)
        data = item.source.read_bytes() if item.source else item.text.encode()
        entry = Entry(item.kind, item.path, hashlib.sha256(data).hexdigest())
        if item.kind == CONFIG and path.exists():
            owned = self._old.get(item.path)
            present = _digest(path)
            if present == entry.digest:
                return entry if owned else None
            if not owned or present != owned.digest:
                return self._beside(item, data)
        _write(path, data, item.mode, item.source)
        return entry

    def _live_dialplans(self) -> list[Entry]:
        """What an earlier version installed as live extensions and nobody edited: stays, and stays ours."""
        found = []
        for path in live_dialplans(self._old):
            entry = self._old[path]
            if _digest(self._at(path)) == entry.digest:
                found.append(entry)
                self.notes.append(
                    f"{path} is live: an earlier version installed it so, and callers may use its "
                    f"extensions. Left as it is; to take them away: rm {path}, then fs_cli -x reloadxml"
                )
        return found

    def _note_enabled_samples(self) -> None:
        """Samples that were renamed or copied are the administrator's now, and lead to what is gone."""
        samples = [path.removesuffix(SAMPLE) for path in self._old if path.endswith(SAMPLE)]
        for path in samples:
            if self._at(path).exists() and not self._noted(path):
                self.notes.append(
                    f"kept {path}: its extensions lead to what has been removed; "
                    f"rm {path}, then fs_cli -x reloadxml"
                )

    def _noted(self, path: str) -> bool:
        return any(note.startswith(f"kept {path}:") for note in self.notes)

    def _beside(self, item: Item, data: bytes) -> Entry:
        name = f"{item.path}.new"
        _write(self._at(name), data, item.mode, item.source)
        self.notes.append(f"{item.path} is there and differs: ours is {name}, compare and merge them")
        return Entry(CONFIG, name, hashlib.sha256(data).hexdigest())

    def _link(self, item: Item, path: Path) -> Entry:
        if path.exists() and not path.is_symlink():
            raise SystemExit(f"{path} is not a link: move it away, a link to {item.text} belongs there")
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(item.text)
        temporary.replace(path)
        return Entry(LINK, item.path, item.text)

    def _make_directory(self, directory: Path) -> None:
        """mkdir -p, remembering what is new."""
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            path.chmod(0o755)  # whatever the umask: FreeSWITCH may run as another user
            final = str(path)[len(self._destdir) :]
            if final and final not in self._directories:
                self._directories.append(final)

    def _remove(self, entries: Iterable[Entry]) -> int:
        removed = []
        for entry in entries:
            path = self._at(entry.path)
            if not path.is_symlink() and not path.exists():
                continue
            if entry.kind != CODE and _digest(path) != entry.digest:
                self.notes.append(f"kept {entry.path}: it is not as we installed it")
                continue
            path.unlink()
            removed.append(path)
        for path in removed:
            self._remove_compiled(path)
        return len(removed)

    def _remove_compiled(self, source: Path) -> None:
        """What Python compiled from source since; a __pycache__ that is empty then goes too."""
        if source.suffix != ".py":
            return
        cache = source.parent / "__pycache__"
        for compiled in cache.glob(f"{source.stem}.*.pyc"):
            compiled.unlink()
        if cache.is_dir() and not any(cache.iterdir()):
            cache.rmdir()


def _digest(path: Path) -> str:
    """What a manifest's digest is compared with; "" for what cannot be ours, a directory."""
    if path.is_symlink():
        return os.readlink(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _write(path: Path, data: bytes, mode: int, source: Path | None = None) -> None:
    """Puts data at path in one step. Keeps the time of source, by which compiled Python knows its source."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    temporary.chmod(mode)
    if source:
        os.utime(temporary, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    temporary.replace(path)


def next_steps(layout: Layout) -> str:
    """What to do by hand after a first installation."""
    dialplan = f"{layout.confdir}/dialplan/default/ivr_ai.xml"
    return f"""\
Next, where it is not so already:
  1. {layout.confdir}/autoload_configs/modules.conf.xml: load mod_audio_stream, then mod_python3
     (the two lines are in {layout.confdir}/ivr_ai/modules.conf.snippet.xml)
  2. OPENAI_API_KEY in FreeSWITCH's environment, or in a file that IVR_AI_ENV_FILE names there
  3. extensions: the sample dialplans take no calls until you rename them. 1234 is the AI:
       mv {dialplan}{SAMPLE} {dialplan}
       fs_cli -x reloadxml
  4. restart FreeSWITCH: a running one keeps the module, the library and the Python that it has loaded
  5. check with: {layout.bindir}/ivr-ai doctor
docs/install.md has each step at length, and what to do about a call that fails."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Install into FreeSWITCH; see the Makefile's install target")
    parser.add_argument("--destdir", default="", help="stage below this directory instead of /")
    parser.add_argument("--libdir", required=True, help="FreeSWITCH's library directory")
    for name in ("modulesdir", "scriptdir", "confdir", "bindir", "python"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--site", type=Path, help="packages for mod_python3's Python")
    parser.add_argument("--root", type=Path, default=ROOT, help="the source tree, built")
    parser.add_argument("--uninstall", action="store_true")
    args = parser.parse_args()
    if not args.uninstall and not all(
        (args.modulesdir, args.scriptdir, args.confdir, args.bindir, args.python, args.site)
    ):
        parser.error("installing needs --modulesdir --scriptdir --confdir --bindir --python --site")
    return args


def main() -> int:
    """Installs or uninstalls; 1 when there is nothing to uninstall, or no permission."""
    args = arguments()
    layout = Layout(args.libdir, args.modulesdir, args.scriptdir, args.confdir, args.bindir, args.python)
    installer = Installer(args.destdir, f"{layout.site}/manifest.json")
    try:
        if args.uninstall:
            print(f"REMOVED {installer.uninstall()} files")
        else:
            print(f"INSTALL {installer.install(plan(layout, args.root, args.site), layout)} files")
    except FileNotFoundError as error:
        print(f"nothing installed there: {error.filename} does not exist", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"may not write {error.filename}: run it as root, or stage with DESTDIR=DIR", file=sys.stderr)
        return 1
    print(*(f"NOTE    {note}" for note in installer.notes), sep="\n", end="\n" if installer.notes else "")
    if not args.uninstall and not args.destdir:
        print(next_steps(layout))
    return 0


if __name__ == "__main__":
    sys.exit(main())
