"""Reaching a server stage by stage: the local Realtime server, and plain sockets where that is too good."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from ivr_ai.probe import Probe, Target
from ivr_ai.sim.faults import Faults
from ivr_ai.sim.server import SimServer


@contextmanager
def server(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    """A WebSocket server that does with a connection what handler says; gives its URL."""
    with serve(handler, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}/v1/realtime"
        finally:
            listening.shutdown()
            thread.join()


def reached(stages) -> list[str]:
    return [stage.name if stage.ok else f"{stage.name} failed" for stage in stages]


class Certificate:
    """A certificate for one name ("DNS:..." or "IP:..."), signed by itself."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, key = folder / "cert.pem", folder / "key.pem"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
        ]
        command += ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(self.path)]
        subprocess.run(command, check=True, capture_output=True)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.path, key)


def test_a_server_that_works():
    with SimServer() as sim:
        stages = Probe(Target(f"{sim.url}?model=gpt-any")).run()
    assert reached(stages) == ["dns", "tcp", "websocket", "session"]
    assert "session.created, model gpt-any" in stages[-1].detail


@pytest.mark.parametrize(
    ("faults", "detail", "todo"),
    [
        (Faults(bad_key=True), "refused: invalid_api_key", "OPENAI_API_KEY"),
        (Faults(bad_model=True), "refused: invalid_model", "OPENAI_REALTIME_MODEL"),
        (Faults(no_session_created=True), "no answer within 0.5 s", "IVR_AI_CONNECT_TIMEOUT_MS"),
    ],
)
def test_what_a_server_says_after_the_websocket_is_open(faults, detail, todo):
    with SimServer(faults=faults) as sim:
        stages = Probe(Target(f"{sim.url}?model=gpt-any", timeout_s=0.5)).run()
    assert reached(stages)[-2:] == ["websocket", "session failed"]
    assert detail in stages[-1].detail
    assert todo in stages[-1].todo


@pytest.mark.parametrize(
    ("status", "todo"), [(401, "OPENAI_API_KEY"), (404, "OPENAI_REALTIME_URL"), (429, "later")]
)
def test_an_http_status_instead_of_a_websocket(status, todo):
    with SimServer(faults=Faults(refuse_status=status)) as sim:
        stages = Probe(Target(f"{sim.url}?model=gpt-any")).run()
    assert reached(stages)[-1] == "websocket failed"
    assert f"HTTP status {status}" in stages[-1].detail
    assert todo in stages[-1].todo


@pytest.mark.parametrize(
    ("handler", "detail"),
    [
        (lambda connection: connection.send("hello"), "the first message is not a JSON object"),
        (lambda connection: connection.send("[1]"), "the first message is not a JSON object"),
        (
            lambda connection: connection.send('{"type":"welcome"}'),
            "said 'welcome' instead of session.created",
        ),
        (lambda connection: connection.close(4000, "go away"), "closed at once: code 4000 go away"),
        (lambda connection: connection.socket.shutdown(socket.SHUT_RDWR), "the server closed the connection"),
    ],
)
def test_servers_that_are_something_else(handler, detail):
    with server(handler) as url:
        stages = Probe(Target(url, timeout_s=2)).run()
    assert reached(stages)[-1] == "session failed"
    assert detail in stages[-1].detail
    assert stages[-1].todo


def relay(left: socket.socket, right: socket.socket) -> None:
    """Bytes both ways until one end closes."""
    other = {left: right, right: left}
    while True:
        for end in select.select([left, right], [], [])[0]:
            data = end.recv(4096)
            if not data:
                return
            other[end].sendall(data)


@contextmanager
def proxy() -> Iterator[str]:
    """An HTTP proxy for one connection, leading to this machine whatever host is asked for. Gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_one() -> None:
            client, _ = listening.accept()
            port = client.recv(4096).split()[1].decode().rsplit(":", 1)[1]
            with client, socket.create_connection(("127.0.0.1", int(port))) as there:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                relay(client, there)

        thread = threading.Thread(target=serve_one)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_a_proxy_is_used_as_calls_use_it(monkeypatch):
    with SimServer() as sim, proxy() as url:
        monkeypatch.setenv("http_proxy", url)
        stages = Probe(Target(f"{sim.url}?model=gpt-any".replace("127.0.0.1", "model.invalid"))).run()
    assert reached(stages) == ["websocket", "session"]
    assert f"through the proxy {url.removeprefix('http://')}" in stages[0].detail


def test_nobody_listens():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        stages = Probe(Target(f"ws://127.0.0.1:{port}/")).run()
    assert reached(stages) == ["dns", "tcp failed"]
    assert f"port {port} of 127.0.0.1 refuses connections" in stages[-1].detail


def test_no_such_name():
    stages = Probe(Target("wss://no-such-host.invalid/v1/realtime")).run()
    assert reached(stages) == ["dns failed"]
    assert "no-such-host.invalid" in stages[-1].detail


def test_a_server_that_accepts_and_says_nothing_costs_the_timeout_and_no_more():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        started_s = time.monotonic()
        stages = Probe(Target(f"ws://127.0.0.1:{deaf.getsockname()[1]}/", timeout_s=0.3)).run()
        took_s = time.monotonic() - started_s
    assert reached(stages)[-1] == "websocket failed"
    assert 0.25 < took_s < 1.5


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize(
    ("name", "trusted", "message"),
    [
        ("IP:127.0.0.1", True, ""),
        ("IP:127.0.0.1", False, "certificate is not trusted"),
        ("DNS:somebody.else", True, "certificate is not trusted"),
    ],
)
def test_tls_is_verified(tmp_path, name, trusted, message):
    certificate = Certificate(tmp_path, name)
    with SimServer(tls=certificate.server) as sim:
        ca_file = str(certificate.path) if trusted else ""
        stages = Probe(Target(f"{sim.url}?model=gpt-any", ca_file=ca_file)).run()
    if not message:
        assert reached(stages) == ["dns", "tcp", "tls", "websocket", "session"]
    else:
        assert reached(stages) == ["dns", "tcp", "tls failed"]
        assert message in stages[-1].detail
        assert "WSS_PEM" in stages[-1].todo


def test_the_key_is_sent_and_never_shown():
    with SimServer(require_key="sk-right") as sim:
        url = f"{sim.url}?model=gpt-any&api-key=sk-in-the-url"
        right = Target(url, {"Authorization": "Bearer sk-right"})
        assert reached(Probe(right).run())[-1] == "session"
        wrong = Target(url, {"Authorization": "Bearer sk-wrong"})
        stages = Probe(wrong).run()
    assert "invalid_api_key" in stages[-1].detail
    assert "sk-" not in repr((right, wrong, stages))
