"""Runs on a workspace that exists: the fake over TLS, by a principal who is no administrator."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.plugin.options import Settings, driver_options
from lockproof.plugin.services import specifications
from lockproof.suites.meta.real_bed import CATALOG, QUICK, ROBOT, ROOT, SCHEMA, RealBed
from lockproof.workspace import runs
from lockproof.workspace.driver import RealDatabricksDriver
from lockproof.workspace.runs import MARKER, NotOurs, Run
from lockproof.workspace.target import RUN, Target
from tofu_databricks.lockinfo import LockInfo as TofuLockInfo

pytest_plugins = "lockproof.suites.meta.real_fixtures"

STATE = b'{"version": 4, "serial": 1, "lineage": "l", "resources": []}'
SLOW = '''
import pathlib, threading
from lockproof.driver import LockInfo


def test_interrupted(alice):
    """Holds a lock and a state when somebody presses Ctrl-C."""
    alice.lock("default", LockInfo.new("alice"))
    alice.put("default", b"{}")
    pathlib.Path("holding").touch()
    threading.Event().wait(60)
'''


@pytest.fixture
def environment(real: RealBed, monkeypatch: pytest.MonkeyPatch) -> RealBed:
    """This process has the user's variables."""
    for name, value in real.variables.items():
        monkeypatch.setenv(name, value)
    return real


@contextmanager
def claimed(bed: RealBed, variant: str = "delta", **changes: str) -> Iterator[dict[str, str]]:
    """A run of this process, as a controller begins it; yields all options of its drivers."""
    options = {**bed.options, "variant": variant, **changes}
    with RealDatabricksDriver.provision(options) as added:
        yield {**options, **added}


def report_of(bed: RealBed) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bed.folder / "run" / "report.json").read_text(encoding="utf-8"))
    return document


def test_run_tests_the_workspace_and_leaves_nothing(real: RealBed) -> None:
    """A run over TLS by OAuth passes, says that its target is real, and takes away all that it made."""
    before = real.control.mark()
    done = real.pytest("--backend-suite=smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "databricks:delta (real)" in done.stdout
    (backend,) = report_of(real)["backends"]
    assert backend["target"] == "real"
    asked = real.control.requests(since=before)
    assert {e.principal for e in asked if e.principal} == {ROBOT}
    written = {e.path.partition(f"{ROOT}/")[2] for e in asked if e.method == "PUT"}
    assert written
    assert all(path.startswith("lockproof/run-") for path in written)
    assert any(path.endswith(MARKER) for path in written)
    assert real.files() == {}
    assert real.tables() == []
    secrets = [real.client.secret, *real.workspace.directory.tokens]
    texts = [done.stdout, *(f.read_text() for f in (real.folder / "run").rglob("*") if f.is_file())]
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_interrupted_run_takes_away_what_it_made(real: RealBed) -> None:
    """After Ctrl-C in the middle of a test with a lock and a state nothing is left."""
    (real.folder / "test_slow.py").write_text(SLOW, encoding="utf-8")
    aimed = ["--backend=databricks:delta", "--backend-real", "--backend-report=run", *real.given()]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *QUICK, *aimed, "test_slow.py"],
        cwd=real.folder,
        env=real.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ticker = threading.Event()
    while not (real.folder / "holding").exists() and process.poll() is None:
        ticker.wait(0.05)
    assert any(MARKER in path for path in real.files())
    assert real.tables()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in out
    assert real.files() == {}
    assert real.tables() == []


def test_spent_budget_ends_in_no_pass(real: RealBed) -> None:
    """When the budget of requests is spent, the test that it met is unknown and the rest are not run."""
    before = real.control.mark()
    done = real.pytest("--backend-suite=smoke", "--backend-opt=max_requests=12")
    assert done.returncode == 1, done.stdout + done.stderr
    (backend,) = report_of(real)["backends"]
    statuses = [result["status"] for result in backend["results"]]
    assert set(statuses) <= {"pass", "unknown", "not-run"}
    assert statuses.count("unknown") == 1
    assert "not-run" in statuses
    for result in backend["results"]:
        assert result["status"] == "pass" or "max_requests=12" in result["reason"]
    assert backend["verdict"]["result"] == "inconclusive"
    tests = [e for e in real.control.requests(since=before) if "/lp-" in e.path]
    assert 0 < len(tests)
    assert real.files() == {}


def test_budget_counts_what_is_sent_by_all_processes(environment: RealBed) -> None:
    """Two drivers of one run, as two workers have them, share the budget to the request."""
    with claimed(environment, max_requests="5") as options:
        first, second = RealDatabricksDriver(options), RealDatabricksDriver(options)
        before = environment.control.mark()
        with first.open_scope("lp-a") as scope, second.open_scope("lp-a", attach=True) as same:
            clients = [scope.client("alice"), same.client("bob")]
            for turn in range(5):
                assert clients[turn % 2].get(f"w{turn}") is None
                assert not first.overdrawn()
            sent = environment.control.requests(since=before, path="/api/2.0/fs/files*")
            assert len(sent) == 5
            assert second.exhausted()
            assert not second.overdrawn()
            with pytest.raises(Exception, match="max_requests=5") as refused:
                clients[0].get("one-too-many")
            assert getattr(refused.value, "definite", None) is False
            assert len(environment.control.requests(since=before, path="/api/2.0/fs/files*")) == 5
            assert second.overdrawn()


def test_prefix_that_is_not_empty_is_refused(environment: RealBed) -> None:
    """Somebody's file under the prefix ends the run before it begins, and stays."""
    environment.put("lockproof/run-nightly/theirs.tfstate")
    with pytest.raises(NotOurs, match="run-nightly is not empty"), claimed(environment, run="nightly"):
        pytest.fail("began a run among somebody's files")
    assert list(environment.files()) == ["lockproof/run-nightly/theirs.tfstate"]


def test_two_runs_of_one_id_exclude_each_other(environment: RealBed) -> None:
    """The second one is told whose the first one is, and takes nothing of it away."""
    with claimed(environment, run="nightly"):
        kept = environment.files()
        with pytest.raises(NotOurs, match=f"run nightly of {ROBOT}"), claimed(environment, run="nightly"):
            pytest.fail("began a run where one was")
        assert environment.files() == kept
    assert environment.files() == {}


def test_prefix_with_another_marker_is_left_alone(
    environment: RealBed, capsys: pytest.CaptureFixture[str]
) -> None:
    """What bears another run's marker by the end is not removed, and that is said."""
    with claimed(environment, run="nightly"):
        path = f"lockproof/run-nightly/{MARKER}"
        volume = environment.workspace.metastore.volume(f"{CATALOG}.{SCHEMA}.states")
        theirs = json.loads(volume.tree.read(path).data) | {"nonce": "0" * 32}
        environment.put(path, json.dumps(theirs).encode())
        environment.put("lockproof/run-nightly/theirs.tfstate")
    assert "could not be removed" in capsys.readouterr().err
    assert sorted(environment.files()) == [path, "lockproof/run-nightly/theirs.tfstate"]


@pytest.mark.parametrize("variant", ["delta", "lakebase"])
def test_rows_of_others_in_a_named_lock_table_stay(environment: RealBed, variant: str) -> None:
    """In a lock table that the user names the run's own rows are removed, and nobody else's."""
    named = {"lock_table": "team_locks"} | ({"lock_schema": "team"} if variant == "lakebase" else {})
    target = Target({**environment.options, "variant": variant, **named})
    with target.backend("theirs", create_lock_table=True) as backend:
        backend.locks.prepare()
        theirs = backend.client("prod")
        held = theirs.locks.acquire("/Volumes/theirs/key", _info())
        with claimed(environment, variant, **named) as options:
            driver = RealDatabricksDriver(options)
            with driver.open_scope("lp-a") as scope:
                client = scope.client("alice")
                client.lock("default", LockInfo.new("alice"))
                client.lock("ours", LockInfo.new("alice"))
            path = f"{ROOT}/lockproof/run-{driver.run}/lp-a/terraform.tfstate"
            assert backend.locks.holder(path) is not None
        assert backend.locks.holder(path) is None
        assert backend.locks.holder("/Volumes/theirs/key") is not None
        backend.locks.release("/Volumes/theirs/key", held)


def test_lakebase_run_drops_its_schema_and_no_other(environment: RealBed) -> None:
    """The tables of a run on Lakebase are in a schema named after it, which goes with them."""
    found = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lockproof%'"
    with claimed(environment, "lakebase", run="nightly", fencing="strict") as options:
        driver = RealDatabricksDriver(options)
        with driver.open_scope("lp-a") as scope:
            client = scope.client("alice")
            lock = client.lock("default", LockInfo.new("alice"))
            client.put("default", STATE, lock_id=lock)
        with driver.target.backend("nightly") as backend, backend.connector()() as connection:
            assert connection.execute(found).fetchall() == [("lockproof_nightly",)]
    with driver.target.backend("nightly") as backend, backend.connector()() as connection:
        assert connection.execute(found).fetchall() == []
    assert environment.files() == {}


def test_forgotten_variable_aims_no_run(environment: RealBed, tmp_path: Path) -> None:
    """Neither the environment nor a file can choose the real target; without the flag nothing is sent."""
    before = environment.control.mark()
    with pytest.raises(pytest.UsageError, match="LOCKPROOF_REAL is set: --backend-real is given on the"):
        driver_options((), tmp_path, {"LOCKPROOF_REAL": "1"})
    (tmp_path / "lockproof.toml").write_text("real = true\n", encoding="utf-8")
    with pytest.raises(pytest.UsageError, match="`real` is given on the command line only"):
        driver_options((), tmp_path, {})
    (spec,) = specifications(Settings(("databricks:delta",), opt=("volume=states",)))
    assert spec.factory() is DatabricksDriver
    with pytest.raises(ValueError, match="about a real workspace: add --backend-real"):
        spec.connect()
    assert environment.control.mark() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"volume": ""}, "needs volume"),
        ({"warehouse_id": ""}, "needs warehouse_id"),
        ({"variant": "lakebase", "lakebase_project": ""}, "lakebase_project"),
        ({"variant": "delta-direct"}, "delta-direct"),
        ({"max_requests": "0"}, "max_requests"),
        ({"lifetime": "soon"}, "lifetime"),
        ({"lifetime": "0s"}, "expired"),
        ({"run": "../up"}, "run must be"),
        ({"client_secret": "dose123456"}, "DATABRICKS_CLIENT_SECRET"),
        ({"colour": "red"}, "no option colour"),
    ],
)
def test_options_of_a_target_are_checked(changes: dict[str, str], said: str) -> None:
    """What is missing, malformed, secret or unknown is named in one line, without its secret."""
    sound = {"variant": "delta", "catalog": "c", "schema": "s", "volume": "v", "warehouse_id": "0" * 16}
    with pytest.raises(ValueError, match=said) as refused:
        Target({**sound, **changes})
    assert "\n" not in str(refused.value)
    assert "dose123456" not in str(refused.value)


@pytest.mark.parametrize(
    "marker", [b"", b"[]", b"{}", b'{"id": 1}', b"\xff", b'{"created": "x", "expires": "y"}']
)
def test_file_that_is_no_marker_is_no_run(marker: bytes) -> None:
    """Whatever lies where the marker should be, it does not pass for one."""
    assert Run.read(marker) is None


def test_run_ids_are_new_and_fit_a_table_name() -> None:
    """Ids made in one second differ, and each is an identifier."""
    now = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)
    made = {runs.new_id(now) for _ in range(100)}
    assert len(made) == 100
    assert all(RUN.fullmatch(name) for name in made)


def _info() -> TofuLockInfo:
    return TofuLockInfo(**LockInfo.new("theirs").to_json())
