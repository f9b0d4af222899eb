"""Connecting: where to, as whom, whom to trust, what is said when it fails, and giving up."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from peer import Peer, background

from ivr_ai import __version__
from ivr_ai.config import Settings
from ivr_ai.realtime.transport import ConnectError
from ivr_ai.realtime.websocket_client import Attempt
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer

KEY = "sk-proj-very-secret"
AT_ONCE_S = 1.0  # what takes no time at all, on a busy machine


def settings(url: str = "ws://localhost/", **changed) -> Settings:
    return Settings(**{"realtime_url": url, "api_key": KEY, "connect_timeout_ms": 5000, **changed})


def failure(url: str, **changed) -> ConnectError:
    """How a connection fails. The key is never part of it."""
    with pytest.raises(ConnectError) as error:
        Attempt(settings(url, **changed)).connect()
    assert error.value.reason == str(error.value)
    assert KEY not in repr(error.value)
    return error.value


def reason(url: str, **changed) -> str:
    """Why a connection fails."""
    return failure(url, **changed).reason


def first_event(url: str, **changed) -> dict:
    transport = Attempt(settings(url, **changed)).connect()
    try:
        return transport.recv()
    finally:
        transport.release()


@contextmanager
def relay(there_port: int) -> Iterator[str]:
    """An HTTP proxy for one connection. Gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def pump(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def serve_one() -> None:
            here, _ = listening.accept()
            here.recv(4096)
            with here, socket.create_connection(("127.0.0.1", there_port)) as there:
                here.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = background(pump, there, here)
                pump(here, there)
                back.join(5)

        serving = background(serve_one)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        serving.join(5)


class TestSaying:
    def test_what_the_server_really_gets(self):
        with SimServer(voice="tone", require_key=KEY) as sim:
            assert first_event(sim.url, model="gpt-any")["type"] == "session.created"
            record = sim.sessions[0]
        assert record.headers["authorization"] == f"Bearer {KEY}"
        assert record.query == {"model": "gpt-any"}
        assert record.path == "/v1/realtime"
        assert record.headers["user-agent"] == f"ivr_ai/{__version__}"
        assert not {"openai-beta", "origin", "api-key"} & set(record.headers)

    def test_authentication_comes_after_the_upgrade(self):
        """So connecting works, and the first event says what is wrong."""
        with SimServer(voice="tone", require_key="another") as sim:
            event = first_event(sim.url)
        assert (event["type"], event["error"]["code"]) == ("error", "invalid_api_key")


class TestFailing:
    @pytest.mark.parametrize("status", [401, 404, 429, 503])
    def test_an_http_error(self, status):
        with SimServer(voice="tone", faults=Faults(refuse_status=status)) as sim:
            assert reason(sim.url) == (
                f"127.0.0.1:{sim.port} answered HTTP {status}: check OPENAI_REALTIME_URL and OPENAI_API_KEY"
            )

    def test_nobody_listens(self):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            assert reason(f"ws://127.0.0.1:{port}/") == (
                f"127.0.0.1:{port} refused the connection: is the server of OPENAI_REALTIME_URL running?"
            )

    def test_no_such_name(self):
        assert reason("wss://no-such-host.invalid/v1") == (
            "no address for no-such-host.invalid: check OPENAI_REALTIME_URL and DNS"
        )

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    def test_a_server_that_says_nothing(self, scheme):
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            port = deaf.getsockname()[1]
            start_s = time.monotonic()
            said = reason(f"{scheme}://127.0.0.1:{port}/", connect_timeout_ms=200)
            assert 0.2 <= time.monotonic() - start_s < 0.2 + AT_ONCE_S
        assert said == f"127.0.0.1:{port} did not answer within 200 ms (IVR_AI_CONNECT_TIMEOUT_MS)"

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n",
            b"\xff\xfe\r\n\r\n",
            b"",
        ],
        ids=["ssh", "web page", "wrong accept", "redirect", "binary", "nothing"],
    )
    def test_what_is_no_realtime_server(self, answer):
        peer = Peer()

        def serve() -> None:
            peer.accept(answer)
            peer.close()

        serving = background(serve)
        assert f"127.0.0.1:{peer.port}" in reason(peer.url)
        serving.join(5)

    def test_tls_spoken_to_a_server_without_it(self):
        with SimServer(voice="tone") as sim:
            said = reason(sim.url.replace("ws://", "wss://"))
        assert said.startswith(f"127.0.0.1:{sim.port}: SSL")
        assert said.endswith("check OPENAI_REALTIME_URL")

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 502, 503])
    def test_which_refusals_may_pass(self, status):
        with SimServer(voice="tone", faults=Faults(refuse_status=status)) as sim:
            error = failure(sim.url)
        passing = status in (408, 429) or status >= 500
        assert (error.http_status, error.passing, error.refused) == (status, passing, False)

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_a_connection_that_ends_before_the_handshake_has_may_pass(self, scheme, reset):
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def serve() -> None:
                peer, _ = listening.accept()
                with peer:
                    if reset:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.recv(65536)

            serving = background(serve)
            error = failure(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/")
            serving.join(5)
        assert error.passing
        assert not error.refused

    def test_nobody_listening_and_nobody_in_time_may_pass(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            late = failure(f"ws://127.0.0.1:{port}/", connect_timeout_ms=100)
        nobody = failure(f"ws://127.0.0.1:{port}/")
        assert (late.passing, late.refused) == (True, False)
        assert (nobody.passing, nobody.refused) == (True, True)
        assert failure("ws://255.255.255.255/").passing

    @pytest.mark.parametrize(("code", "passing"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
    def test_a_name_may_be_found_when_the_resolver_is_to_be_asked_again(self, monkeypatch, code, passing):
        def getaddrinfo(*arguments, **options):
            raise socket.gaierror(code, "no")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert failure("ws://a-name.example/").passing is passing

    def test_what_a_setting_is_to_blame_for_does_not_pass(self, certificates, tmp_path):
        path = tmp_path / "authority.pem"
        path.write_text("This is not PEM.")
        with SimServer(voice="tone", tls=certificates.server("right")) as sim:
            assert not failure(sim.url).passing
            assert not failure(sim.url, ca_file=str(path)).passing

    def test_nothing_is_left_of_what_failed(self):
        def fail() -> None:
            with SimServer(voice="tone", faults=Faults(refuse_status=503)) as sim:
                reason(sim.url)
            reason("ws://127.0.0.1:1/")

        fail()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            fail()
        assert len(os.listdir("/proc/self/fd")) <= before


class TestTrust:
    def test_our_own_authority(self, certificates):
        with SimServer(voice="tone", tls=certificates.server("right")) as sim:
            for url in (sim.url, sim.url.replace("127.0.0.1", "localhost")):
                event = first_event(url, ca_file=certificates.authority)
                assert event["type"] == "session.created"

    def test_an_authority_nobody_knows(self, certificates):
        with SimServer(voice="tone", tls=certificates.server("right")) as sim:
            said = reason(sim.url)
        assert f"127.0.0.1:{sim.port}: its certificate is not trusted" in said
        assert "set WSS_PEM to its CA's PEM file" in said

    @pytest.mark.parametrize(
        ("name", "why"), [("elsewhere", "certificate is not valid for"), ("expired", "expired")]
    )
    def test_a_certificate_that_does_not_hold(self, certificates, name, why):
        with SimServer(voice="tone", tls=certificates.server(name)) as sim:
            said = reason(sim.url, ca_file=certificates.authority)
        assert why in said

    def test_our_authority_replaces_the_systems(self, certificates, monkeypatch):
        """A server that the system trusts is not trusted when WSS_PEM names another authority."""
        monkeypatch.setenv("SSL_CERT_FILE", certificates.authority)
        other = str(certificates.folder / "elsewhere.pem")
        with SimServer(voice="tone", tls=certificates.server("right")) as sim:
            assert first_event(sim.url)["type"] == "session.created"
            assert "not trusted" in reason(sim.url, ca_file=other)

    def test_a_file_without_a_certificate(self, tmp_path):
        path = tmp_path / "authority.pem"
        path.write_text("This is not PEM.")
        said = reason("wss://127.0.0.1:1/", ca_file=str(path))
        assert said == f"there is no certificate in {path} (WSS_PEM)"


class TestProxy:
    @pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
    def test_it_is_used_where_the_environment_names_one(self, monkeypatch, secure, certificates):
        tls = certificates.server("right") if secure else None
        with SimServer(voice="tone", tls=tls) as sim, relay(sim.port) as proxy:
            monkeypatch.setenv("no_proxy", "")
            monkeypatch.setenv("https_proxy" if secure else "http_proxy", proxy)
            url = sim.url.replace("127.0.0.1", "localhost")
            event = first_event(url, ca_file=certificates.authority)
        assert event["type"] == "session.created"


class TestGivingUp:
    def give_up(self, url: str, after_s: float = 0.2) -> float:
        """How long connecting goes on after it was given up."""
        dial = Attempt(settings(url, connect_timeout_ms=20_000))
        failures: list[ConnectError] = []

        def connect() -> None:
            try:
                dial.connect().release()
            except ConnectError as error:
                failures.append(error)

        thread = background(connect)
        time.sleep(after_s)
        assert thread.is_alive()
        start_s = time.monotonic()
        dial.abort()
        thread.join(10)
        assert failures
        return time.monotonic() - start_s

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    def test_while_the_server_says_nothing(self, scheme):
        """Over TLS that is its handshake, else the WebSocket's."""
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            assert self.give_up(f"{scheme}://127.0.0.1:{deaf.getsockname()[1]}/") < AT_ONCE_S

    def test_after_tls(self, certificates, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", certificates.authority)
        tls = certificates.server("right")
        with SimServer(voice="tone", tls=tls, faults=Faults(connect_delay_ms=20_000)) as sim:
            assert self.give_up(sim.url) < AT_ONCE_S

    def test_while_nobody_takes_the_connection(self):
        """Once the queue of a listening socket is full, Linux lets further connections wait."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = []
            for _ in range(3):
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(full.getsockname())
            assert self.give_up(f"ws://127.0.0.1:{full.getsockname()[1]}/") < AT_ONCE_S
            for each in waiting:
                each.close()

    def test_before_it_has_begun(self):
        with SimServer(voice="tone") as sim:
            dial = Attempt(settings(sim.url))
            dial.abort()
            with pytest.raises(ConnectError):
                dial.connect()
            assert sim.attempts == 0

    def test_when_it_has_been_done(self):
        with SimServer(voice="tone") as sim:
            dial = Attempt(settings(sim.url))
            transport = dial.connect()
            dial.abort()
            assert sim.wait_session().wait_closed() == 1006
            transport.release()

    def test_at_any_moment(self):
        """No moment at which abort() is lost, or a connection is left."""
        with SimServer(voice="tone") as sim:
            for n in range(30):
                dial = Attempt(settings(sim.url))
                opened: list[object] = []

                def connect(dial=dial, opened=opened) -> None:
                    try:
                        opened.append(dial.connect())
                    except ConnectError:
                        opened.append(None)

                thread = threading.Thread(target=connect)
                thread.start()
                time.sleep(n * 0.0003)
                dial.abort()
                thread.join(5)
                if opened[0] is not None:
                    opened[0].release()
            for record in sim.sessions:
                record.wait_closed()
