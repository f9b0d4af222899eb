"""scripts/install.py: what it puts where, what it leaves alone, and that taking it out leaves nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install.py"
SOURCES = {
    "build/libaudiostream.so.1": "library 1",
    "build/install/mod_audio_stream.so": "module 1",
    "build/install/package/ivr_ai/__init__.py": "version = 1\n",
    "build/site/numpy/__init__.py": "pass\n",
    "build/site/bin/f2py": "never installed\n",
    "build/site/.installed": "",
    "fs_scripts/ivr_ai_startup.py": "pass\n",
    "conf/autoload_configs/audio_stream.conf.xml": "<sample version='1'/>",
    "conf/modules.conf.snippet.xml": "<load/>",
    "conf/agents/default.toml": "voice = 'marin'\n",
    "dialplan/ivr_ai.xml": "<include/>",
}
CONFIG = "fs/conf/autoload_configs/audio_stream.conf.xml"
LIVE = "fs/conf/dialplan/default/ivr_ai.xml"
SAMPLE = f"{LIVE}.sample"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tree(root: Path) -> dict[str, str]:
    """Every path below root with its content, link target, or "" for directories."""
    found = {}
    for path in sorted(root.rglob("*")):
        text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(root))] = text
    return found


@dataclass
class Product:
    """A built source tree and where it is installed."""

    source: Path
    target: Path
    destdir: str = ""

    def make(self, *arguments: str, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
        at = self.target if not self.destdir else Path("/opt")
        command = [sys.executable, SCRIPT, "--libdir", f"{at}/fs/lib", "--destdir", self.destdir, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, umask=umask)

    def install(self, **options: int) -> str:
        at = self.target if not self.destdir else Path("/opt")
        directories = {
            "modulesdir": "fs/mod",
            "scriptdir": "fs/scripts",
            "confdir": "fs/conf",
            "bindir": "bin",
        }
        arguments = [f"--{name}={at}/{path}" for name, path in directories.items()]
        arguments += [
            "--python=/usr/bin/python3.11",
            f"--site={self.source}/build/site",
            f"--root={self.source}",
        ]
        done = self.make(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def uninstall(self) -> str:
        done = self.make("--uninstall")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def change(self, name: str, text: str) -> None:
        write(self.source / name, text)


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    for name, text in SOURCES.items():
        write(tmp_path / "source" / name, text)
    (tmp_path / "target" / "fs" / "lib").mkdir(parents=True)
    write(tmp_path / "target" / "fs" / "conf" / "vars.xml", "somebody's")
    yield Product(tmp_path / "source", tmp_path / "target")


def test_everything_is_put_in_its_place(product):
    product.install()
    found = tree(product.target)
    assert found["fs/lib/libaudiostream.so.1"] == "library 1"
    assert found["fs/mod/mod_audio_stream.so"] == "module 1"
    assert found["fs/lib/ivr_ai/numpy/__init__.py"] == "pass\n"
    assert found["fs/scripts/ivr_ai"] == f"{product.target}/fs/lib/ivr_ai/ivr_ai"
    assert found["fs/lib/ivr_ai/ivr_ai/__init__.py"] == "version = 1\n"
    assert found["fs/scripts/ivr_ai_startup.py"] == "pass\n"
    assert found[CONFIG] == "<sample version='1'/>"
    assert found[SAMPLE] == "<include/>"
    assert found["fs/conf/ivr_ai/agents/default.toml"] == "voice = 'marin'\n"
    assert found["fs/conf/ivr_ai/modules.conf.snippet.xml"] == "<load/>"
    assert found["bin/ivr-ai"].startswith("#!/usr/bin/python3.11\n")
    assert not any("f2py" in name or ".installed" in name for name in found)


def test_uninstalling_leaves_what_was_there_before(product):
    before = tree(product.target)
    product.install()
    for folder, name in (("fs/lib/ivr_ai/numpy", "__init__"), ("fs/scripts", "ivr_ai_startup")):
        write(product.target / folder / "__pycache__" / f"{name}.cpython-311.pyc", "compiled since")
    product.uninstall()
    assert tree(product.target) == before


def test_uninstalling_twice_says_that_there_is_nothing(product):
    product.install()
    product.uninstall()
    done = product.make("--uninstall")
    assert (done.returncode, "nothing installed there" in done.stderr) == (1, True)


def test_edited_configuration_is_kept(product):
    product.install()
    write(product.target / CONFIG, "edited")
    product.change("conf/autoload_configs/audio_stream.conf.xml", "<sample version='2'/>")
    said = product.install()
    assert f"{product.target / CONFIG}.new" in said
    found = tree(product.target)
    assert (found[CONFIG], found[f"{CONFIG}.new"]) == ("edited", "<sample version='2'/>")
    product.uninstall()
    found = tree(product.target)
    assert found[CONFIG] == "edited"
    assert f"{CONFIG}.new" not in found


def test_edits_after_the_last_installation_are_kept_by_uninstall(product):
    product.install()
    write(product.target / CONFIG, "edited")
    assert f"kept {product.target / CONFIG}" in product.uninstall()
    assert tree(product.target)[CONFIG] == "edited"


def test_configuration_of_somebody_else_is_kept(product):
    write(product.target / CONFIG, "was there first")
    product.install()
    product.uninstall()
    assert tree(product.target)[CONFIG] == "was there first"


def test_the_same_configuration_that_was_there_first_stays(product):
    write(product.target / CONFIG, SOURCES["conf/autoload_configs/audio_stream.conf.xml"])
    assert ".new" not in product.install()
    product.uninstall()
    assert CONFIG in tree(product.target)


def test_configuration_nobody_edited_is_upgraded(product):
    product.install()
    product.change("conf/autoload_configs/audio_stream.conf.xml", "<sample version='2'/>")
    assert "NOTE" not in product.install()
    assert tree(product.target)[CONFIG] == "<sample version='2'/>"


def test_what_a_new_version_no_longer_has_is_removed(product):
    product.install()
    (product.source / "build/site/numpy/__init__.py").unlink()
    product.change("build/site/soxr.py", "pass\n")
    product.install()
    found = tree(product.target)
    assert "fs/lib/ivr_ai/soxr.py" in found
    assert "fs/lib/ivr_ai/numpy/__init__.py" not in found


def test_a_library_in_use_is_replaced_and_not_written_into(product):
    product.install()
    with open(product.target / "fs/lib/libaudiostream.so.1") as mapped:
        product.change("build/libaudiostream.so.1", "library 2")
        product.install()
        assert mapped.read() == "library 1"
    assert tree(product.target)["fs/lib/libaudiostream.so.1"] == "library 2"


def test_times_are_kept_for_compiled_python(product):
    source = product.source / "build/site/numpy/__init__.py"
    os.utime(source, (1_000_000_000, 1_000_000_000))
    product.install()
    assert (product.target / "fs/lib/ivr_ai/numpy/__init__.py").stat().st_mtime == 1_000_000_000


def test_another_user_may_read_it_whatever_the_umask(product):
    product.install(umask=0o077)
    site = product.target / "fs/lib/ivr_ai"
    assert site.stat().st_mode & 0o777 == 0o755
    assert (site / "ivr_ai/__init__.py").stat().st_mode & 0o777 == 0o644
    assert (product.target / "bin/ivr-ai").stat().st_mode & 0o777 == 0o755


def test_destdir_is_in_no_file(product, tmp_path):
    product.destdir = str(tmp_path / "staged")
    product.install()
    found = tree(tmp_path / "staged")
    assert found["opt/fs/scripts/ivr_ai"] == "/opt/fs/lib/ivr_ai/ivr_ai"
    assert "sys.path.insert(0, '/opt/fs/lib/ivr_ai')" in found["opt/bin/ivr-ai"]
    assert not [name for name, text in found.items() if str(tmp_path) in text]
    product.uninstall()
    assert tree(tmp_path / "staged") == {}


def test_a_directory_in_the_place_of_the_link_is_not_touched(product):
    write(product.target / "fs/scripts/ivr_ai/own.py", "mine")
    with pytest.raises(AssertionError, match="is not a link: move it away"):
        product.install()
    assert tree(product.target)["fs/scripts/ivr_ai/own.py"] == "mine"


def test_the_manifest_lists_every_file(product):
    product.install()
    manifest = json.loads((product.target / "fs/lib/ivr_ai/manifest.json").read_text())
    listed = {entry["path"] for entry in manifest["files"]}
    there = {str(p) for p in product.target.rglob("*") if p.is_symlink() or p.is_file()}
    before = {str(product.target / "fs/conf/vars.xml"), str(product.target / "fs/lib/ivr_ai/manifest.json")}
    assert listed == there - before
    assert manifest["layout"]["modulesdir"] == f"{product.target}/fs/mod"


# ---- sample dialplans --------------------------------------------------------------------------------------


def enable(product: Product) -> None:
    """What the note at the end of an installation says."""
    (product.target / SAMPLE).rename(product.target / LIVE)


def install_as_before(product: Product, text: str = "<include/>") -> None:
    """An installation of the version that installed dialplans live: its file, and its manifest."""
    product.install()
    enable(product)
    write(product.target / LIVE, text)
    manifest = product.target / "fs/lib/ivr_ai/manifest.json"
    record = json.loads(manifest.read_text())
    [entry] = [entry for entry in record["files"] if entry["path"].endswith(".sample")]
    entry.update(path=str(product.target / LIVE), digest=hashlib.sha256(text.encode()).hexdigest())
    manifest.write_text(json.dumps(record))


def test_no_extension_is_live_after_an_installation(product):
    product.install()
    assert not [name for name in tree(product.target) if "dialplan" in name and name.endswith(".xml")]


def test_the_note_says_how_to_enable_the_sample(product):
    said = product.install()
    assert f"mv {product.target / SAMPLE} {product.target / LIVE}" in said
    assert "fs_cli -x reloadxml" in said
    assert "docs/install.md" in said


def test_an_enabled_sample_is_the_administrators(product):
    product.install()
    enable(product)
    product.change("dialplan/ivr_ai.xml", "<include version='2'/>")
    assert "NOTE" not in product.install()
    found = tree(product.target)
    assert (found[LIVE], found[SAMPLE]) == ("<include/>", "<include version='2'/>")
    said = product.uninstall()
    assert f"NOTE    kept {product.target / LIVE}: its extensions lead to what has been removed" in said
    found = tree(product.target)
    assert found[LIVE] == "<include/>"
    assert SAMPLE not in found


def test_an_edited_sample_is_kept(product):
    product.install()
    write(product.target / SAMPLE, "notes of mine")
    product.change("dialplan/ivr_ai.xml", "<include version='2'/>")
    product.install()
    found = tree(product.target)
    assert (found[SAMPLE], found[f"{SAMPLE}.new"]) == ("notes of mine", "<include version='2'/>")


def test_upgrading_leaves_an_earlier_versions_live_extensions_in_service_and_says_so(product):
    install_as_before(product)
    product.change("dialplan/ivr_ai.xml", "<include version='2'/>")
    for _ in range(2):
        said = product.install()
        assert f"NOTE    {product.target / LIVE} is live" in said
        assert f"rm {product.target / LIVE}, then fs_cli -x reloadxml" in said
        found = tree(product.target)
        assert (found[LIVE], found[SAMPLE]) == ("<include/>", "<include version='2'/>")


def test_uninstalling_removes_an_earlier_versions_live_extensions(product):
    before = tree(product.target)
    install_as_before(product)
    product.install()
    assert "kept" not in product.uninstall()
    assert tree(product.target) == before


def test_uninstalling_what_an_earlier_version_installed_removes_its_live_extensions(product):
    before = tree(product.target)
    install_as_before(product)
    product.uninstall()
    assert tree(product.target) == before


def test_edited_live_extensions_of_an_earlier_version_are_kept_by_upgrade_and_uninstall(product):
    install_as_before(product)
    write(product.target / LIVE, "edited")
    assert f"kept {product.target / LIVE}: it is not as we installed it" in product.install()
    assert tree(product.target)[LIVE] == "edited"
    said = product.uninstall()
    assert said.count(f"kept {product.target / LIVE}") == 1
    assert tree(product.target)[LIVE] == "edited"


def test_live_extensions_that_were_taken_away_stay_away(product):
    install_as_before(product)
    (product.target / LIVE).unlink()
    assert "NOTE" not in product.install()
    assert LIVE not in tree(product.target)
