"""The file driver keeps its promises where the conformance suites do not look: crashes, processes, damage."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver import DriverError, Locked, LockInfo, LockMismatch, NotLocked, Snapshot
from lockproof.driver import file as file_module
from lockproof.driver.file import FileClient, FileDriver, FileScope
from lockproof.driver.registry import resolve

OLD, NEW = b'{"serial":1}\n', b'{"serial":2}\n'
ATTEMPTS = 50_000
FRESH = multiprocessing.get_context("spawn")


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[FileScope]:
    with FileDriver({"path": str(tmp_path)}).open_scope("place") as opened:
        yield opened


@pytest.fixture
def client(scope: FileScope) -> FileClient:
    return scope.client("alice")


def elsewhere(path: str, call: str, *args: Any) -> Any:
    """One call of a client in another process: what it returns, or the name of the error it raises."""
    with FileDriver({"path": path}).open_scope("place", attach=True) as attached:
        try:
            result = getattr(attached.client("elsewhere"), call)(*args)
        except DriverError as error:
            return type(error).__name__
        return result.data if isinstance(result, Snapshot) else result


def race(path: str, n: int, times: int) -> int:
    """Counts up a number that is guarded by the lock alone, `times` times."""
    with FileDriver({"path": path}).open_scope("place", attach=True) as attached:
        client, counted = attached.client(f"racer-{n}"), 0
        for _ in range(ATTEMPTS):
            try:
                lock_id = client.lock("default", LockInfo.new(client.who))
            except Locked:
                continue
            snapshot = client.get("default")
            number = int(snapshot.data) if snapshot else 0
            client.put("default", str(number + 1).encode(), lock_id=lock_id)
            client.unlock("default", lock_id)
            counted += 1
            if counted == times:
                break
        return counted


def test_processes_share_states_and_locks(tmp_path: Path, client: FileClient) -> None:
    """Another process reads the state, is refused the lock, and releases it by its id."""
    client.put("default", OLD)
    lock_id = client.lock("default", LockInfo.new("alice"))
    with ProcessPoolExecutor(1, mp_context=FRESH) as pool:

        def call(name: str, *args: Any) -> Any:
            return pool.submit(elsewhere, str(tmp_path), name, *args).result(60)

        assert call("get", "default") == OLD
        assert call("lock", "default", LockInfo.new("bob")) == "Locked"
        assert call("unlock", "default", "another") == "LockMismatch"
        assert call("unlock", "default", lock_id) is None
    with pytest.raises(NotLocked):
        client.unlock("default", lock_id)


def test_racing_processes_lose_no_update(tmp_path: Path, client: FileClient) -> None:
    """What four processes count up under the lock is the sum of what they counted."""
    with ProcessPoolExecutor(4, mp_context=FRESH) as pool:
        racing = [pool.submit(race, str(tmp_path), n, 10) for n in range(4)]
        assert sum(future.result(120) for future in racing) == 40
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == b"40"


DIE = """
import os, pathlib, sys
from lockproof.driver import LockInfo, file
from lockproof.driver.file import FileDriver

def die(*args):
    os.kill(os.getpid(), 9)

path, step, call = sys.argv[1:]
owner = {"link": os, "replace": pathlib.Path}.get(step, file)
setattr(owner, step, die)
client = FileDriver({"path": path}).open_scope("place", attach=True).client("dying")
if call == "put":
    client.put("default", b'{"serial":2}\\n')
elif call == "lock":
    client.lock("default", LockInfo(ID="of-the-dead", Who="dying"))
else:
    client.unlock("default", "of-alice")
print("survived")
"""


def dying(path: Path, step: str, call: str) -> None:
    """Runs `call` in a process that is killed as soon as it comes to `step`."""
    command = [sys.executable, "-c", DIE, str(path), step, call]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize(
    ("step", "left"), [("replace", OLD), ("_flush_folder", NEW)], ids=["before-rename", "after-rename"]
)
def test_killed_writer_leaves_old_or_new_state(
    step: str, left: bytes, tmp_path: Path, client: FileClient
) -> None:
    """A process killed in mid-write leaves a whole state, and the next write succeeds."""
    client.put("default", OLD)
    dying(tmp_path, step, "put")
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == left
    assert client.workspaces() == ["default"]
    client.put("default", NEW)


@pytest.mark.parametrize(
    ("step", "held"), [("link", False), ("_flush_folder", True)], ids=["before-link", "after-link"]
)
def test_killed_locker_leaves_no_lock_or_a_whole_one(
    step: str, held: bool, tmp_path: Path, client: FileClient
) -> None:
    """A process killed while it takes the lock holds it with its name, or does not hold it."""
    dying(tmp_path, step, "lock")
    if held:
        with pytest.raises(Locked) as refusal:
            client.lock("default", LockInfo.new("alice"))
        assert refusal.value.holder == LockInfo(ID="of-the-dead", Who="dying")
        client.unlock("default", "of-the-dead")
    lock_id = client.lock("default", LockInfo.new("alice"))
    client.unlock("default", lock_id)


def test_killed_releaser_frees_the_guard(tmp_path: Path, client: FileClient) -> None:
    """A process killed inside the guard does not lock the others out."""
    client.lock("default", LockInfo(ID="of-alice", Who="alice"))
    dying(tmp_path, "_remove", "unlock")
    client.unlock("default", "of-alice")
    with pytest.raises(NotLocked):
        client.unlock("default", "of-alice")


def test_release_does_not_overtake_a_fenced_write(
    client: FileClient, scope: FileScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock cannot be released, and so not pass on, while a write that names it is under way."""
    lock_id = client.lock("default", LockInfo.new("alice"))
    begun, go_on, released = threading.Event(), threading.Event(), threading.Event()
    replace: Callable[[Path, bytes], None] = file_module._replace

    def slowly(place: Path, data: bytes) -> None:
        begun.set()
        assert go_on.wait(30)
        assert not released.is_set(), "the lock was released in the middle of a write under it"
        replace(place, data)

    monkeypatch.setattr(file_module, "_replace", slowly)

    def release() -> None:
        scope.client("bob").unlock("default", lock_id)
        released.set()

    writing = threading.Thread(target=client.put, args=("default", NEW), kwargs={"lock_id": lock_id})
    releasing = threading.Thread(target=release)
    writing.start()
    assert begun.wait(30)
    releasing.start()
    assert not released.wait(0.1)
    go_on.set()
    writing.join(30)
    releasing.join(30)
    assert released.is_set()
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == NEW


def test_only_one_of_many_releases_succeeds(client: FileClient, scope: FileScope) -> None:
    """A release that comes late does not take away the lock that another has meanwhile."""
    for _ in range(20):
        lock_id = client.lock("default", LockInfo.new("alice"))
        outcomes: list[str] = []

        def release(lock_id: str = lock_id, outcomes: list[str] = outcomes) -> None:
            try:
                scope.client("bob").unlock("default", lock_id)
            except (NotLocked, LockMismatch) as error:
                outcomes.append(error.kind)
            else:
                outcomes.append("released")

        threads = [threading.Thread(target=release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert outcomes.count("released") == 1


@pytest.mark.parametrize("damage", [b"", b"not json", b"[]", b'{"ID":7}'])
def test_damaged_lock_is_still_a_lock(damage: bytes, client: FileClient) -> None:
    """A lock file that cannot be read refuses the lock, and says so instead of guessing a holder."""
    lock_id = client.lock("default", LockInfo.new("alice"))
    (client.root / "ws-default" / "lock").write_bytes(damage)
    with pytest.raises(Locked) as refusal:
        client.lock("default", LockInfo.new("bob"))
    assert refusal.value.holder is None
    with pytest.raises(DriverError, match="the lock file of workspace 'default' is damaged") as failure:
        client.unlock("default", lock_id)
    assert (failure.value.kind, failure.value.definite) == ("malformed", True)


def test_lock_file_holds_opentofus_lock_info(client: FileClient) -> None:
    """A person who looks finds the seven fields of OpenTofu."""
    info = LockInfo.new("alice", path="terraform.tfstate")
    client.lock("prod", info)
    assert json.loads((client.root / "ws-prod" / "lock").read_bytes()) == info.to_json()


def test_stray_files_are_no_workspaces(client: FileClient) -> None:
    """Drafts, guards, locks and foreign files are not listed."""
    client.lock("locked", LockInfo.new("alice"))
    (client.root / "notes.txt").write_text("not mine")
    (client.root / "ws-empty").mkdir()
    client.put("real", NEW)
    client.delete("real")
    client.put("prod", NEW)
    assert client.workspaces() == ["default", "prod"]


def test_name_that_is_too_long_for_a_file_is_refused(client: FileClient) -> None:
    """The refusal is definite and says why."""
    with pytest.raises(DriverError, match="takes 303 bytes as a file name, more than 255") as refusal:
        client.put("z" * 300, NEW)
    assert (refusal.value.kind, refusal.value.definite) == ("unsupported", True)


def failing(*args: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("broken", "definite"),
    [("fsync", True), ("replace", False)],
    ids=["full-disk", "failing-rename"],
)
def test_failing_disk_is_reported_and_keeps_the_state(
    broken: str, definite: bool, client: FileClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails says whether it may have happened; the old state stays, no draft is left."""
    client.put("default", OLD)
    with monkeypatch.context() as patched:
        patched.setattr(Path if broken == "replace" else os, broken, failing)
        with pytest.raises(DriverError, match="No space left on device") as failure:
            client.put("default", NEW)
    assert (failure.value.kind, failure.value.definite) == ("unavailable", definite)
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == OLD
    assert sorted(entry.name for entry in (client.root / "ws-default").iterdir()) == ["state"]


def test_unreadable_state_is_an_error_not_absence(client: FileClient) -> None:
    """A state that cannot be read is never taken for none."""
    (client.root / "ws-default").mkdir()
    (client.root / "ws-default" / "state").mkdir()
    with pytest.raises(DriverError, match="could not read the state") as failure:
        client.get("default")
    assert failure.value.kind == "unavailable"


def test_closing_a_scope_removes_what_it_made(tmp_path: Path) -> None:
    """After a scope closed its directory is gone; one that was attached to stays."""
    driver = FileDriver({"path": str(tmp_path)})
    with driver.open_scope("place") as scope:
        scope.client("alice").put("default", NEW)
        with driver.open_scope("place", attach=True) as attached:
            assert attached.client("bob").get("default") == Snapshot(NEW)
        assert scope.client("alice").get("default") == Snapshot(NEW)
    assert list(tmp_path.iterdir()) == []


def test_scope_is_made_once_and_attached_to_only_when_open(tmp_path: Path) -> None:
    """A name that is taken, and one that is not there, are refused."""
    driver = FileDriver({"path": str(tmp_path)})
    with pytest.raises(DriverError, match="no open scope 'place' to attach to"):
        driver.open_scope("place", attach=True)
    with (
        driver.open_scope("place"),
        pytest.raises(DriverError, match="could not create the scope 'place': File exists"),
    ):
        driver.open_scope("place")


def test_directory_is_temporary_unless_given(tmp_path: Path) -> None:
    """Without an option the run's directory is a temporary one, private, and removed at its end."""
    (spec,) = resolve("file")
    with spec.provision() as options:
        path = Path(options["path"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        FileDriver(options).open_scope("place")
    assert not path.exists()
    (spec,) = resolve("file", {"path": str(tmp_path / "kept")})
    with spec.provision() as options:
        FileDriver({**spec.options, **options})
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "needs a directory: --backend-opt path=DIRECTORY"),
        ({"path": "x", "pth": "y"}, "takes the option path, not pth"),
        ({"path": "/proc/nowhere"}, "cannot use the directory /proc/nowhere: No such file or directory"),
    ],
    ids=["none", "misspelt", "impossible"],
)
def test_wrong_options_are_one_line(options: dict[str, str], complaint: str) -> None:
    """What is wrong with an option, and what to write instead, is one line."""
    with pytest.raises(ValueError, match=complaint) as failure:
        FileDriver(options)
    assert "\n" not in str(failure.value)
