"""What the tests of this folder share."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `from talk import ...` in any import mode

from native_line import meet  # noqa: F401


class Certificates(NamedTuple):
    """An authority and what it has signed, made for these tests. PEM files."""

    folder: Path

    @property
    def authority(self) -> str:
        return str(self.folder / "authority.pem")

    def server(self, name: str) -> ssl.SSLContext:
        """A server's side with the certificate "right", "elsewhere" (another host's) or "expired"."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def request(name: str, *more: str) -> None:
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN={name}"]
        openssl("req", *key, *more)

    request("authority", "-x509", "-days", "2", "-out", "authority.pem")
    here = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for name, names, days in (
        ("right", here, "2"),
        ("elsewhere", "subjectAltName=DNS:model.invalid", "2"),
        ("expired", here, "-1"),
    ):
        request(name, "-out", f"{name}.csr")
        (folder / "names").write_text(names)
        signed = ["-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key"]
        openssl("x509", *signed, "-days", days, "-extfile", "names", "-out", f"{name}.pem")
    return Certificates(folder)
