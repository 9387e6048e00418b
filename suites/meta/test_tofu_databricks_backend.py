"""The backend over the fake workspace in process, its locks in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.inprocess import activate
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.errors import (
    ConfigError,
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    MalformedReply,
    NotFound,
    StateLocked,
    Unavailable,
    VolumeNotFound,
    WorkspaceError,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.seams import SystemClock
from tofu_databricks.statefile import StateFile, empty_state

VOLUME = "main.default.v"
ROOT = "/Volumes/main/default/v"


class Locks:
    """A lock store in memory; `closed` says whether it was closed."""

    def __init__(self) -> None:
        self.held: dict[str, LockInfo] = {}
        self.closed = False

    def acquire(self, key: str, info: LockInfo) -> str:
        holder = self.held.setdefault(key, info)
        if holder.ID != info.ID:
            raise StateLocked(holder=holder)
        return info.ID

    def release(self, key: str, lock_id: str) -> None:
        holder = self.held.get(key)
        if holder is None:
            raise LockNotHeld("nobody holds the lock")
        if holder.ID != lock_id:
            raise LockMismatch(holder=holder)
        del self.held[key]

    def holder(self, key: str) -> LockInfo | None:
        return self.held.get(key)

    def prepare(self) -> None:
        """Ready."""

    def close(self) -> None:
        self.closed = True


class NoWaiting(SystemClock):
    """Real time, in which sleeping takes none; `slept` holds what was asked for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class LocalBackend(Backend):
    """The backend with a lock store in memory."""

    opened = 0

    def open_locks(self) -> LockStore:
        self.opened += 1
        return Locks()


@pytest.fixture
def workspace() -> Iterator[FakeWorkspace]:
    """A fake workspace with the volume main.default.v."""
    with activate(FakeWorkspace()) as found:
        found.create_volume(VOLUME)
        yield found


@pytest.fixture
def backend(workspace: FakeWorkspace) -> Iterator[LocalBackend]:
    """A backend on the volume."""
    with LocalBackend(config(workspace)) as found:
        yield found


def config(workspace: FakeWorkspace, **settings: Any) -> Config:
    place = {"catalog": "main", "schema": "default", "volume": "v", "key": "terraform.tfstate"}
    locks = {"lock_backend": "lakebase", "lakebase_project": "p"}
    access = {"host": workspace.url, "token": workspace.token}
    return Config.load({**access, **place, **locks, **settings}, environ={})


def test_state_goes_through_lock_write_and_refresh(workspace: FakeWorkspace, backend: LocalBackend) -> None:
    """Lock, write, persist, unlock by one manager; another one reads it, without a lock."""
    mgr = backend.state_mgr("dev")
    lock_id = mgr.lock(LockInfo.new("alice"))
    mgr.refresh_state()
    state = empty_state()
    state["outputs"] = {"a": {"value": "é", "type": "string"}}
    mgr.write_state(state)
    mgr.persist_state()
    mgr.unlock(lock_id)
    other = backend.state_mgr("dev")
    other.refresh_state()
    assert (other.output_values(), other.serial, other.lineage) == ({"a": "é"}, 1, mgr.lineage)
    assert workspace.metastore.volume(VOLUME).tree.read("terraform.tfstate.tofu-workspaces/dev.tfstate").data


def test_constructing_reaches_no_network(workspace: FakeWorkspace) -> None:
    """A backend is made, and its clients, without a request."""
    with LocalBackend(config(workspace)) as backend:
        backend.client("a")
    assert workspace.log.count == 0


def test_workspaces_begin_with_default(backend: LocalBackend) -> None:
    """`default` is there from the start and first; the others follow by name."""
    assert backend.workspaces() == ["default"]
    for name in ("zeta", "alpha"):
        backend.client(name).put(b"{}")
    assert backend.workspaces() == ["default", "alpha", "zeta"]


def test_default_workspace_cannot_be_deleted(backend: LocalBackend) -> None:
    """Not even by force."""
    backend.client().put(b"{}")
    with pytest.raises(WorkspaceError, match="default workspace cannot be deleted"):
        backend.delete_workspace("default", force=True)
    assert backend.client().get() == b"{}"


def test_tracked_resources_keep_a_workspace(backend: LocalBackend) -> None:
    """Without force a workspace that tracks something stays; the error says what to do."""
    state = {"version": 4, "resources": [{"mode": "managed", "instances": [{}]}]}
    backend.client("dev").put(json.dumps(state).encode())
    with pytest.raises(WorkspaceError, match=r"'dev' is not empty.* delete it with force"):
        backend.delete_workspace("dev")
    assert backend.workspaces() == ["default", "dev"]
    backend.delete_workspace("dev", force=True)
    backend.delete_workspace("dev")
    assert backend.workspaces() == ["default"]


def test_lock_keys_are_paths_of_states(backend: LocalBackend) -> None:
    """Each workspace has its own lock, named by the full path of its state."""
    backend.client().lock(LockInfo(ID="1"))
    backend.client("a/b").lock(LockInfo(ID="2"))
    assert isinstance(backend.locks, Locks)
    assert set(backend.locks.held) == {
        f"{ROOT}/terraform.tfstate",
        f"{ROOT}/terraform.tfstate.tofu-workspaces/a=2Fb.tfstate",
    }
    assert backend.client("a/b").lock_holder() == LockInfo(ID="2")


def test_write_is_fenced_by_the_lock(workspace: FakeWorkspace, backend: LocalBackend) -> None:
    """With an id that does not hold the lock nothing is written; the holder is named."""
    client = backend.client()
    with pytest.raises(LockNotHeld, match="the lock old was lost"):
        client.put(b"x", lock_id="old")
    client.lock(LockInfo(ID="new", Who="bob"))
    with pytest.raises(LockMismatch, match="bob holds the lock now") as refused:
        client.put(b"x", lock_id="old")
    assert refused.value.holder == LockInfo(ID="new", Who="bob")
    client.put(b"y", lock_id="new")
    assert client.get() == b"y"
    assert [entry.method for entry in workspace.log.select(path="*/terraform.tfstate")] == ["PUT", "GET"]


def test_checkpoint_stands_between_fence_and_write(workspace: FakeWorkspace) -> None:
    """A schedule can stop a write between the look at the lock and the request."""
    steps: list[str] = []
    with LocalBackend(config(workspace), checkpoint=steps.append) as backend:
        backend.client().lock(LockInfo(ID="1"))
        steps.clear()
        backend.client().put(b"x", lock_id="1")
    assert steps == ["state.put", "http.put"]


def test_directory_is_made_where_storage_makes_none(workspace: FakeWorkspace) -> None:
    """The first write of a key in a directory makes it; a volume that is missing stays missing."""
    workspace.fidelity.change(parents_auto_created=False)
    with LocalBackend(config(workspace, key="a/b/k")) as backend:
        backend.client().put(b"x")
        assert backend.client().get() == b"x"
    methods = [(entry.method, entry.path.split("/")[4]) for entry in workspace.log.select()]
    asked = [("GET", "files")]  # whether others fence otherwise
    assert methods == [*asked, ("PUT", "files"), ("PUT", "directories"), ("PUT", "files"), ("GET", "files")]


@pytest.mark.parametrize("part", ["catalog", "schema", "volume"])
def test_missing_place_is_an_error_everywhere(workspace: FakeWorkspace, part: str) -> None:
    """No call takes a place that is not there for an empty one."""
    with LocalBackend(config(workspace, **{part: "nowhere"})) as backend:
        for call in (
            backend.client().get,
            lambda: backend.client().put(b"x"),
            backend.client().delete,
            backend.workspaces,
            lambda: backend.delete_workspace("dev"),
            backend.volume.require,
            lambda: backend.volume.make_directory(f"{backend.config.root}/d"),
        ):
            with pytest.raises(VolumeNotFound, match="nowhere"):
                call()


def test_volume_that_vanishes_between_two_requests_is_missed(workspace: FakeWorkspace) -> None:
    """Making the directory and writing again may each find the volume gone."""
    gone = {"error_code": "NOT_FOUND", "message": "Volume 'main.default.v' does not exist."}
    workspace.fidelity.change(parents_auto_created=False)
    with LocalBackend(config(workspace, key="a/k")) as backend:
        workspace.add_fault(method="PUT", path="*/fs/directories/*", status=404, body=gone)
        with pytest.raises(VolumeNotFound):
            backend.client().put(b"x")
        workspace.add_fault(method="PUT", path="*/fs/files/*", first=2, status=404, body=gone)
        with pytest.raises(VolumeNotFound):
            backend.client().put(b"x")


def test_missing_directory_of_workspaces_asks_for_the_volume(
    workspace: FakeWorkspace, backend: LocalBackend
) -> None:
    """No directory and a volume that is there: `default` alone. No directory and no volume: an error."""
    assert backend.workspaces() == ["default"]
    gone = {"error_code": "VOLUME_DOES_NOT_EXIST", "message": f"Volume '{VOLUME}' does not exist."}
    workspace.add_fault(path="/api/2.1/unity-catalog/volumes/*", status=404, body=gone)
    with pytest.raises(VolumeNotFound, match="does not exist"):
        backend.workspaces()


def test_missing_directory_of_the_key_is_no_absent_state(
    workspace: FakeWorkspace, backend: LocalBackend
) -> None:
    """A 404 for the directory is an error that says so; one for the API is told apart."""
    info = {"@type": "x/google.rpc.ErrorInfo", "reason": "FILES_API_DIRECTORY_IS_NOT_FOUND"}
    workspace.add_fault(path="*/files/*", status=404, body={"message": "no", "details": [info]})
    with pytest.raises(VolumeNotFound, match="the directory does not exist"):
        backend.client().get()
    workspace.add_fault(path="*/files/*", status=404, body={"error_code": "ENDPOINT_NOT_FOUND"})
    with pytest.raises(NotFound):
        backend.client().get()


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [{"name": "x"}]},
        {"contents": ["x"]},
        {"contents": {"path": "x"}},
        {"next_page_token": 5},
        {"next_page_token": "same"},
    ],
)
def test_listing_that_makes_no_sense_is_malformed(
    workspace: FakeWorkspace, backend: LocalBackend, body: dict[str, Any]
) -> None:
    """Entries without a path and pages without an end are errors."""
    workspace.add_fault(path="*/directories/*", status=200, body=body, times=None)
    with pytest.raises(MalformedReply, match="listing"):
        backend.workspaces()


def test_directory_named_like_a_workspace_is_none(workspace: FakeWorkspace, backend: LocalBackend) -> None:
    """Only files are states."""
    backend.volume.make_directory(f"{backend.layout.directory}/dev.tfstate")
    assert backend.workspaces() == ["default"]
    with pytest.raises(InvalidRequest):
        backend.client("dev").put(b"x")


def test_all_bytes_survive(backend: LocalBackend) -> None:
    """Nothing is added, re-coded or taken away; no bytes are no bytes."""
    for data in (bytes(range(256)), b"", b"\r\n", StateFile().to_bytes(), b"x" * 300_000):
        backend.client().put(data)
        assert backend.client().get() == data
    backend.client().delete()
    backend.client().delete()
    assert backend.client().get() is None


def test_lock_store_is_opened_once_and_closed(workspace: FakeWorkspace) -> None:
    """Many threads share one store; closing the backend closes it and releases no lock."""
    with LocalBackend(config(workspace)) as backend:
        barrier = threading.Barrier(8)
        stores: list[LockStore] = []

        def use() -> None:
            barrier.wait(10)
            stores.append(backend.locks)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        store = backend.locks
        assert isinstance(store, Locks)
        store.acquire("k", LockInfo(ID="1"))
        assert all(found is store for found in stores)
        assert backend.opened == 1
    assert store.closed
    assert store.held
    backend.close()


RECORD = "terraform.tfstate.tofu-workspaces/lock-store.json"


def test_first_lock_records_where_locks_are_kept(workspace: FakeWorkspace, backend: LocalBackend) -> None:
    """Written once, looked at once per lock, and no workspace."""
    for name in ("1", "2"):
        backend.client(name).lock(LockInfo(ID=name))
    assert json.loads(workspace.metastore.volume(VOLUME).tree.read(RECORD).data) == {
        "lock_backend": "lakebase",
        "lakebase": "projects/p/branches/production",
        "database": "databricks_postgres",
        "lock_table": "tofu_databricks.state_locks",
    }
    with LocalBackend(config(workspace)) as second:
        second.client().lock(LockInfo(ID="3"))
    assert [e.method for e in workspace.log.select(path=f"*/{RECORD}")] == ["GET", "PUT", "GET", "GET", "GET"]
    assert backend.workspaces() == ["default"]


@pytest.mark.parametrize(
    "settings",
    [
        {"lock_table": "others"},
        {"lock_schema": "others"},
        {"lakebase_database": "others"},
        {"lakebase_branch": "others"},
        {"lakebase_project": None, "lakebase_instance": "others"},
    ],
)
def test_other_lock_store_is_refused_and_both_are_named(
    workspace: FakeWorkspace, backend: LocalBackend, settings: dict[str, Any]
) -> None:
    """Every setting that changes where a lock is kept counts; the message says how to change it for all."""
    backend.client().lock(LockInfo(ID="1"))
    with LocalBackend(config(workspace, **settings)) as other:
        with pytest.raises(
            ConfigError, match=r"kept in .*state_locks.*, not in .*others.*: use the same"
        ) as no:
            other.client().lock(LockInfo(ID="2"))
        assert "\n" not in str(no.value)
        assert f"delete {ROOT}/{RECORD} when nobody holds a lock" in str(no.value)
        assert other.locks.holder(f"{ROOT}/terraform.tfstate") is None


def test_lock_is_certainly_not_taken_when_the_record_fails(
    workspace: FakeWorkspace, backend: LocalBackend
) -> None:
    """Whatever became of the record, the lock is free; the next attempt finds the record."""
    workspace.add_fault(method="PUT", path=f"*/{RECORD}", status=500, when="after", times=None)
    backend.transport.clock = NoWaiting()
    with pytest.raises(Unavailable) as failure:
        backend.client().lock(LockInfo(ID="1"))
    assert failure.value.definite
    assert backend.client().lock_holder() is None
    workspace.faults.remove()
    assert backend.client().lock(LockInfo(ID="1")) == "1"


def test_lost_reply_of_the_record_is_no_conflict(workspace: FakeWorkspace, backend: LocalBackend) -> None:
    """The retry finds the file that our own first attempt made."""
    workspace.add_fault(method="PUT", path=f"*/{RECORD}", drop=True, when="after")
    backend.transport.clock = NoWaiting()
    assert backend.client().lock(LockInfo(ID="1")) == "1"


def test_record_is_made_in_a_directory_that_is_not_there(workspace: FakeWorkspace) -> None:
    """Storage that makes no directories gets one; a missing volume is an error here, too."""
    workspace.fidelity.change(parents_auto_created=False)
    with LocalBackend(config(workspace)) as backend:
        assert backend.client().lock(LockInfo(ID="1")) == "1"
    with LocalBackend(config(workspace, volume="nowhere")) as backend:
        with pytest.raises(VolumeNotFound):
            backend.client().lock(LockInfo(ID="1"))
        with pytest.raises(VolumeNotFound):
            backend.volume.create(f"{backend.config.root}/x", b"")


def test_refused_creation_is_an_error(workspace: FakeWorkspace, backend: LocalBackend) -> None:
    """Only "already exists" is no error."""
    workspace.add_fault(method="PUT", path="*/x", status=400, body={"error_code": "BAD_REQUEST"})
    with pytest.raises(InvalidRequest):
        backend.volume.create(f"{ROOT}/x", b"")


def test_seams_replace_the_world(workspace: FakeWorkspace) -> None:
    """`transport` is where requests go, `connect` what opens connections, `clock` who waits."""
    adapter, clock = HTTPAdapter(), NoWaiting()
    connections: list[str] = []

    def connect() -> Any:
        connections.append("asked")
        raise ConfigError("no database in this test")

    with Backend(config(workspace), transport=adapter, connect=connect, clock=clock) as backend:
        assert backend.transport.session.get_adapter("https://anywhere.example") is adapter
        workspace.add_fault(path="*/files/*", status=503, times=1)
        assert backend.client().get() is None
        assert clock.slept
        with pytest.raises(ConfigError, match="no database in this test"):
            backend.client().lock(LockInfo.new("alice"))
    assert connections == ["asked"]


def test_trust_is_as_configured(workspace: FakeWorkspace, tmp_path: Path) -> None:
    """Certificates are verified against the usual authorities, the given ones, or not at all."""
    file = tmp_path / "ca.pem"
    file.write_text("x")
    for settings, verify in (
        ({}, True),
        ({"ca_certificate": str(file)}, str(file)),
        ({"skip_cert_verification": True}, False),
    ):
        with LocalBackend(config(workspace, **settings)) as backend:
            assert backend.transport.verify == verify
