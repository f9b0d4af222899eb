"""`ivr-ai sim` from the outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ivr_ai.sim.faults import Faults

COMMAND = [sys.executable, "-u", "-m", "ivr_ai.sim.server"]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What we start can be interrupted, even if we, as a job in the background, ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_interrupted(dial, stop_signal: signal.Signals) -> None:
    arguments = [
        "--port",
        "0",
        "--voice",
        "tone:440:200",
        "--pace",
        "40",
        "--verbose",
        "--item-ends",
        "together",
        "--fault",
        "late_deltas=1",
    ]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as served:
        try:
            head = [served.stdout.readline() for _ in range(6)]
            url = re.search(
                r"OPENAI_REALTIME_URL=(ws://127\.0\.0\.1:\d+/v1/realtime) OPENAI_API_KEY=any", head[2]
            )[1]
            assert head[4] == "It misbehaves: late_deltas=1\n"
            client = dial(type("Server", (), {"url": url}))
            client.talk()
            client.until("response.done")
            client.close()
            served.send_signal(stop_signal)
            out, err = served.communicate(timeout=5)
        finally:
            served.kill()
    assert (served.returncode, err) == (0, "")
    for line in (
        "[1] connected, model test",
        "[1] caller speaks",
        "[1] caller: (speech",
        "[1] model: Thank you",
        "[1] <- input_audio_buffer.append",
        "[1] -> response.done",
        "[1] ended (1000)",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["--fault", "nonsense"], {}, "fault 'nonsense' is unknown"),
        (["--dialogue", "none.toml"], {}, "cannot read the dialogue none.toml"),
        (["--voice", "tone:x"], {}, "a tone is"),
        (["--item-pause-ms", "-1"], {}, "item_pause_ms is -1: it cannot be negative"),
        (["--cancel-lag-ms", "-1"], {}, "cancel_lag_ms is -1: it cannot be negative"),
        (["--item-ends", "later"], {}, "invalid choice: 'later'"),
        (["--fault", "state_format=mp3"], {}, "audio format"),
        ([], {"PORT": "many"}, "PORT is 'many': use a number from 0 to 65535"),
        ([], {"HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1:8765"),
    ],
)
def test_what_cannot_start_says_why(arguments: list[str], environ: dict[str, str], says: str) -> None:
    done = run("--voice", "tone", *arguments, **environ)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_faults_are_listed() -> None:
    done = run("--faults")
    assert done.returncode == 0
    assert "refuse_status" in done.stdout


def test_the_help_shows_every_option_and_fault() -> None:
    done = run("--help")
    assert done.returncode == 0
    options = ("--item-ends {sequential,together}", "--item-pause-ms MS", "--cancel-lag-ms MS")
    for shown in (*options, *Faults.__dataclass_fields__):
        assert shown in done.stdout
