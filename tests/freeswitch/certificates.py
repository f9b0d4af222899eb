"""Certificates for servers of tests, made by openssl as they are needed."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def self_signed(folder: Path, host: str = "localhost") -> ssl.SSLContext:
    """A server's that no authority has signed, not even one of its own."""
    certificate, key = folder / "self.pem", folder / "self.key"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}",
        "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate,
    )  # fmt: skip
    return context_of(certificate, key)


class Authority:
    """A private CA, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=Test CA", "-keyout", self._key, "-out", self.file,
        )  # fmt: skip

    def issue(self, name: str, host: str, days: int = 2) -> tuple[Path, Path]:
        """(certificate, key) for a host name. days: 0 for one that has run out by now."""
        key, request, certificate = (self._folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        _openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-days", str(days),
            "-copy_extensions", "copyall", "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def server_context(self, host: str = "localhost", days: int = 2, ask: bool = False) -> ssl.SSLContext:
        """For a server; ask: only for clients with a certificate of this authority."""
        context = context_of(*self.issue(f"server-{host}-{days}", host, days))
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context
