"""Whom a streamer trusts, and who it is."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from line import noise
from wire_server import WireServer

ALLOWING = (
    "MOD_AUDIO_STREAM_ALLOW_SELFSIGNED",
    "MOD_AUDIO_STREAM_ALLOW_EXPIRED",
    "STREAM_TLS_DISABLE_HOSTNAME_VALIDATION",
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """An authority and certificates of its, for 127.0.0.1 unless named otherwise; and one of nobody's."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2")
    here = "subjectAltName=IP:127.0.0.1"
    for name, names, days in (
        ("server", here, "2"),
        ("client", here, "2"),
        ("expired", here, "-1"),
        ("elsewhere", "subjectAltName=DNS:elsewhere.test", "2"),
    ):
        (folder / "san").write_text(names)
        openssl("req", *ec, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", days, "-extfile", "san",
        )  # fmt: skip
    openssl(
        "req", "-x509", *ec, "-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=self", "-addext", here
    )
    return folder


class TestTls:
    @staticmethod
    def context(folder: Path, client: bool = False, name: str = "server") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        if client:
            context.load_verify_locations(folder / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def test_a_private_authority(self, talk, certificates):
        says = noise(400)
        with WireServer(tls=self.context(certificates)) as server:
            one = talk(says=says, server=server, options={"STREAM_TLS_CA_FILE": certificates / "ca.pem"})
            one.visit.wait(lambda visit: len(visit.audio()) >= len(says))
            assert one.visit.audio() == says
            one.visit.stream_audio(noise(200, 2))
            assert one.events.wait("media_play_complete")["playedMs"] == 200
            one.stop()

    def test_an_unknown_authority_is_refused_for_good(self, talk, certificates):
        with WireServer(tls=self.context(certificates)) as server:
            one = talk(dialect="json", server=server, options={"STREAM_RECONNECT_MAX": 3})
            one.over()
            assert one.events.of("connection_failed")[0]["why"] == "tls"
            assert len(one.events.of("connection_failed")) == 1

    @pytest.mark.parametrize(
        ("certificate", "options", "says"),
        [
            ("self", {"MOD_AUDIO_STREAM_ALLOW_SELFSIGNED": True}, "self-signed"),
            ("expired", {"MOD_AUDIO_STREAM_ALLOW_EXPIRED": True}, "expired"),
            ("elsewhere", {"STREAM_TLS_DISABLE_HOSTNAME_VALIDATION": True}, "mismatch"),
            ("elsewhere", {"MOD_AUDIO_STREAM_SKIP_SERVER_CERT_HOSTNAME_CHECK": True}, "mismatch"),
        ],
    )
    def test_each_fault_is_allowed_by_its_own_setting_alone(
        self, talk, certificates, certificate, options, says
    ):
        every = {name: True for name in ALLOWING if name not in options}
        if says == "mismatch":
            every = dict.fromkeys(ALLOWING[:2], True)
        trusted = {} if certificate == "self" else {"STREAM_TLS_CA_FILE": certificates / "ca.pem"}
        with WireServer(tls=self.context(certificates, name=certificate)) as server:
            for others in ({}, every):
                one = talk(dialect="json", server=server, options={**trusted, **others})
                one.over()
                (failed,) = one.events.of("connection_failed")
                assert failed["why"] == "tls"
                assert says in failed["error"]
            assert talk(dialect="json", server=server, options={**trusted, **options}).events.wait(
                "stream_started"
            )

    def test_a_client_certificate(self, talk, certificates):
        options = {
            "STREAM_TLS_CA_FILE": certificates / "ca.pem",
            "STREAM_TLS_CERT_FILE": certificates / "client.pem",
            "STREAM_TLS_KEY_FILE": certificates / "client.key",
        }
        with WireServer(tls=self.context(certificates, client=True)) as server:
            assert talk(server=server, options=options).visit

    def test_the_systems_authorities_by_name(self, talk, certificates):
        """Who signed this is none of them."""
        with WireServer(tls=self.context(certificates)) as server:
            one = talk(server=server, options={"STREAM_TLS_CA_FILE": "SYSTEM"})
            failed = one.events.wait("error")
            assert (failed["why"], "refused" in failed["error"]) == ("tls", True)

    @pytest.mark.parametrize("dialect", ["binary", "json", "openai"])
    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"STREAM_TLS_CA_FILE": "NONE"}, "STREAM_TLS_CA_FILE is NONE"),
            (
                {"STREAM_TLS_CA_FILE": "no.pem"},
                "STREAM_TLS_CA_FILE: cannot read the CA .*: No such file",
            ),
            (
                {"STREAM_TLS_CERT_FILE": "no.pem"},
                "STREAM_TLS_CERT_FILE: cannot read .*: No such file",
            ),
            (
                {"STREAM_TLS_CERT_FILE": "client.pem", "STREAM_TLS_KEY_FILE": "no.key"},
                "STREAM_TLS_KEY_FILE: cannot read the key file .*: No such file",
            ),
            ({"STREAM_TLS_KEY_FILE": "client.key"}, "STREAM_TLS_KEY_FILE: .* without a certificate file"),
            ({"STREAM_TLS_CA_FILE": "client.key"}, "STREAM_TLS_CA_FILE: the CA file .* cannot be used"),
            (
                {"STREAM_TLS_CERT_FILE": "client.key"},
                "STREAM_TLS_CERT_FILE: .* cannot be used",
            ),
            (
                {"STREAM_TLS_CERT_FILE": "client.pem", "STREAM_TLS_KEY_FILE": "server.key"},
                "STREAM_TLS_KEY_FILE: the key file .* cannot be used",
            ),
        ],
    )
    def test_what_cannot_be_used_is_told_at_start(self, talk, certificates, options, why, dialect):
        given = {name: value if value == "NONE" else certificates / value for name, value in options.items()}
        with pytest.raises(ValueError, match=why):
            talk(dialect=dialect, url="wss://127.0.0.1:9/", options=given)

    def test_what_is_not_needed_is_not_looked_at(self, talk):
        assert talk(options={"STREAM_TLS_CA_FILE": "/no/ca.pem"}).events.wait("connect")
