"""Builds the cffi extension ivr_ai._audio_stream; everything else is in pyproject.toml.

The extension links libaudiostream.so.1, which `make lib` leaves in build/. At run time it looks:

- in $ORIGIN/../build when built in place (`make ext`, editable installs), so that a clone may move;
- in IVR_AI_LIBDIR when that is set (`make install`), where mod_audio_stream.so looks too: one library in the
  process, one stream registry;
- in this clone's build/ otherwise.

It is hardened like the library and the module (mk/c.mk).
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

BUILD_DIR = Path(__file__).resolve().parent / "build"
LIBRARY = BUILD_DIR / "libaudiostream.so.1"
HARDENED_LINK = ["-Wl,-z,relro,-z,now,-z,noexecstack"]


def hardened() -> list[str]:
    """Flags of the compiler. The environment's CFLAGS may choose another _FORTIFY_SOURCE, or a sanitizer."""
    cflags = os.environ.get("CFLAGS", "") + os.environ.get("CPPFLAGS", "")
    flags = ["-fstack-protector-strong", "-fstack-clash-protection"]
    if platform.machine() in ("x86_64", "i686"):
        flags.append("-fcf-protection")
    if "_FORTIFY_SOURCE" not in cflags and "-fsanitize" not in cflags and "-O0" not in cflags:
        flags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    return flags


class BuildExtension(build_ext):
    """build_ext that knows where libaudiostream is, at link time and at run time."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.library_dirs.insert(0, str(BUILD_DIR))

    def build_extension(self, ext) -> None:
        if not LIBRARY.exists():
            raise SystemExit(f"{LIBRARY} is not there: run `make lib` first")
        in_place = self.inplace or getattr(self, "editable_mode", False)
        installed = os.environ.get("IVR_AI_LIBDIR") or str(BUILD_DIR)
        ext.runtime_library_dirs = ["$ORIGIN/../build" if in_place else installed]
        ext.extra_compile_args = [*hardened(), *ext.extra_compile_args]
        ext.extra_link_args = [*HARDENED_LINK, *ext.extra_link_args]
        super().build_extension(ext)


setup(
    cffi_modules=["ivr_ai/_build_audio_stream.py:ffibuilder"],
    cmdclass={"build_ext": BuildExtension},
    # The extension uses the stable ABI: one wheel for every Python from 3.10 on.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
