"""The body of `lockproof fake`: what it prints suffices for tofu-databricks, and nothing is left running."""

from __future__ import annotations

import io
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import requests

from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.serve import write
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.errors import StateLocked
from tofu_databricks.lockinfo import LockInfo

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from lockproof.fakes.databricks.serve import serve; serve(sys.stdout)",
]
SETTINGS = {
    "DATABRICKS_HOST",
    "DATABRICKS_TOKEN",
    "TOFU_DATABRICKS_CATALOG",
    "TOFU_DATABRICKS_KEY",
    "TOFU_DATABRICKS_LAKEBASE_PORT",
    "TOFU_DATABRICKS_LAKEBASE_PROJECT",
    "TOFU_DATABRICKS_LOCK_BACKEND",
    "TOFU_DATABRICKS_SCHEMA",
    "TOFU_DATABRICKS_VOLUME",
}


POSTGRES = "# Postgres: "


@contextmanager
def served() -> Iterator[tuple[subprocess.Popen[str], dict[str, str], str]]:
    """The process, the settings that it printed, and the Postgres that it named."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            lines = list(iter(process.stdout.readline, "# serving until interrupted (Ctrl-C)\n"))
            (dsn,) = (line.removeprefix(POSTGRES).strip() for line in lines if line.startswith(POSTGRES))
            words = [shlex.split(line, comments=True) for line in lines]  # as a shell reads them
            yield process, dict(word.split("=", 1) for line in words for word in line), dsn
        finally:
            watchdog.cancel()
            process.terminate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_printed_settings_are_enough_and_nothing_is_left_running(
    stop: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the printed environment alone a state and a lock work; the signal ends the fake and Postgres."""
    with served() as (process, settings, postgres):
        assert set(settings) == SETTINGS
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        backend = Backend(Config.load())
        client = backend.client()
        info = LockInfo.new("test")
        assert client.get() is None
        lock_id = client.lock(info)
        with pytest.raises(StateLocked):
            backend.client().lock(LockInfo.new("other"))
        client.put(b'{"version":4}', lock_id=lock_id)
        assert client.get() == b'{"version":4}'
        client.unlock(lock_id)
        backend.close()
        control = FakeControl(settings["DATABRICKS_HOST"])
        assert control.files("main.default.tofu")["terraform.tfstate"] == 13
        assert control.unknown_routes() == []
        with psycopg.connect(postgres) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        process.send_signal(stop)
        assert process.wait(30) == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres, connect_timeout=10)
    with pytest.raises(requests.ConnectionError):
        requests.get(settings["DATABRICKS_HOST"], timeout=10)


def test_values_are_quoted_for_a_shell() -> None:
    """A value that a shell would take apart is quoted."""
    out = io.StringIO()
    write({"A": "x y&z", "B": "plain"}, "host=h", out)
    assert out.getvalue().splitlines()[:3] == ["A='x y&z'", "B=plain", "# Postgres: host=h"]
