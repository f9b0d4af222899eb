"""One connection from many addresses: when attempts begin, which one wins, and what becomes of the others."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from peer import background

from ivr_ai.realtime.dial import Dialler, taking_turns

V4, V6 = socket.AF_INET, socket.AF_INET6
UNREACHABLE = "255.255.255.255"


def at(address: str, port: int) -> tuple:
    family = V6 if ":" in address else V4
    return (family, socket.SOCK_STREAM, 0, "", (address, port))


def connect(addresses: list[tuple], timeout_s: float = 5.0) -> tuple[str, float]:
    """The address that won, and how long that took."""
    start_s = time.monotonic()
    with Dialler().connect(addresses, start_s + timeout_s) as sock:
        return sock.getpeername()[0], time.monotonic() - start_s


@contextmanager
def deaf(address: str = "127.0.0.2", port: int = 0) -> Iterator[int]:
    """A port that answers nothing: once a listening socket's queue is full, Linux drops what comes."""
    with socket.socket() as listening:
        listening.bind((address, port))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        time.sleep(0.05)
        yield listening.getsockname()[1]
        for filler in fillers:
            filler.close()


@pytest.fixture
def server() -> Iterator[int]:
    """A port of 127.0.0.1 that takes connections, and of 127.0.0.2 that is deaf."""
    with socket.create_server(("127.0.0.1", 0)) as listening, deaf(port=listening.getsockname()[1]) as port:
        yield port


class TestTakingTurns:
    @pytest.mark.parametrize(
        ("families", "order"),
        [
            ([], []),
            ([V4, V4], [0, 1]),
            ([V6, V6, V6, V4, V4], [0, 3, 1, 4, 2]),
            ([V4, V6, V6], [0, 1, 2]),
            ([V4, V4, V4, V6], [0, 3, 1, 2]),
        ],
    )
    def test_beginning_with_the_resolvers_first(self, families, order):
        addresses = [(family, n) for n, family in enumerate(families)]
        assert [n for _, n in taking_turns(addresses)] == order


class TestRacing:
    def test_the_second_begins_after_a_quarter_of_a_second(self, server):
        where, took_s = connect([at("127.0.0.2", server), at("127.0.0.1", server)])
        assert where == "127.0.0.1"
        assert 0.245 <= took_s < 0.6

    def test_the_next_begins_at_once_when_one_fails(self, server):
        addresses = [
            at("127.0.0.3", server),
            at("::1", server),
            at(UNREACHABLE, server),
            at("127.0.0.1", server),
        ]
        where, took_s = connect(addresses)
        assert where == "127.0.0.1"
        assert took_s < 0.2

    def test_a_family_that_comes_first_does_not_hold_up_the_other(self, server):
        with socket.create_server(("::1", 0), family=V6) as six, deaf(port=six.getsockname()[1]) as port:
            where, took_s = connect([*[at("127.0.0.2", port)] * 10, at("::1", port)])
        assert where == "::1"
        assert took_s < 0.6

    def test_the_timeout_is_for_all_together(self, server):
        start_s = time.monotonic()
        with pytest.raises(TimeoutError):
            connect([at("127.0.0.2", server)] * 6, timeout_s=0.6)
        assert 0.59 <= time.monotonic() - start_s < 1.5

    def test_that_one_refused_is_said_before_that_another_cannot_be_reached(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            connect([at("127.0.0.1", port), at(UNREACHABLE, port)])
        with pytest.raises(OSError) as error:
            connect([at(UNREACHABLE, port)])
        assert not isinstance(error.value, ConnectionRefusedError)

    def test_a_name_without_addresses(self):
        with pytest.raises(ConnectionError):
            connect([])

    def test_nothing_is_left_of_the_losers(self, server):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            connect([at("127.0.0.2", server), at("127.0.0.3", server), at("127.0.0.1", server)])
        assert len(os.listdir("/proc/self/fd")) == before


class TestGivingUp:
    def test_while_several_are_tried(self, server):
        dialler, errors = Dialler(), []

        def run() -> None:
            try:
                dialler.connect([at("127.0.0.2", server)] * 3, time.monotonic() + 20)
            except OSError as error:
                errors.append(error)

        thread = background(run)
        time.sleep(0.35)
        start_s = time.monotonic()
        dialler.abort()
        thread.join(5)
        assert time.monotonic() - start_s < 0.5
        assert isinstance(errors[0], ConnectionAbortedError)

    def test_before_it_has_begun(self, server):
        dialler = Dialler()
        dialler.abort()
        with pytest.raises(ConnectionAbortedError):
            dialler.connect([at("127.0.0.1", server)], time.monotonic() + 5)

    def test_at_any_moment(self, server):
        before = len(os.listdir("/proc/self/fd"))
        for n in range(30):
            dialler = Dialler()

            def run(dialler: Dialler = dialler) -> None:
                addresses = [at("127.0.0.3", server), at("127.0.0.1", server)]
                with suppress(OSError):
                    dialler.connect(addresses, time.monotonic() + 5).close()

            thread = threading.Thread(target=run)
            thread.start()
            time.sleep(n * 0.0001)
            dialler.abort()
            thread.join(5)
            assert not thread.is_alive()
        assert len(os.listdir("/proc/self/fd")) == before
