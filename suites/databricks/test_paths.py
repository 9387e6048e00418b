"""Where the state lies in the volume."""

from collections.abc import Callable

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedScope
from lockproof.history import HistoryWriter
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client


@needs("test-bed")
@requirement("DBX-PATH-001")
@pytest.mark.parametrize("key", ["terraform.tfstate", "team/a b/ü%41.tfstate"])
def test_default_workspace_is_the_file_of_the_key(scope: RecordedScope, key: str) -> None:
    """The state of `default` is the file named by the key, and no other state is made in the volume."""
    bed = bed_of(scope)
    data = tofu_bytes(document())
    special_client(scope, "alice", key=key).put("default", data)
    assert bed.states() == {key: len(data)}


PLACES = [
    ("a/b", "c"),
    ("a", "b/c"),
    ("a", "b"),
    ("a-b", "c"),
    ("a", "b-c"),
    ("ab", "c"),
    ("a", "bc"),
    ("a/b", "default"),
    ("a.tfstate", "default"),
    ("a", "a.tfstate"),
    ("a", "..%2Fa"),
    ("a", "A"),
    ("A", "a"),
    ("a", "=41"),
    ("a", "%41"),
    ("a", ".."),
]


@reported("terraform#17508")
@needs("test-bed")
@requirement("DBX-PATH-002")
def test_no_two_workspaces_share_a_file(
    scope: RecordedScope, history_beside: Callable[[], HistoryWriter]
) -> None:
    """Keys and workspace names that could be confused keep their states and their lists apart."""
    keys = {key for key, _ in PLACES}
    clients = {k: special_client(scope, f"key {k}", history_beside(), key=k) for k in sorted(keys)}
    written = {}
    for key, workspace in PLACES:
        written[key, workspace] = tofu_bytes(document(place=f"{key} + {workspace}"))
        clients[key].put(workspace, written[key, workspace])
    for (key, workspace), data in written.items():
        snapshot = clients[key].get(workspace)
        assert snapshot is not None
        assert snapshot.data == data, f"key {key}, workspace {workspace}"
    for key, client in clients.items():
        named = {workspace for where, workspace in PLACES if where == key}
        assert sorted(client.workspaces()) == sorted(named | {"default"}), f"workspaces of key {key}"


@needs("test-bed", "locking")
@requirement("DBX-PATH-003")
def test_other_spelling_of_the_volume_is_the_same_place(scope: RecordedScope) -> None:
    """Unity Catalog names are case-insensitive: another spelling has the same state and the same lock."""
    bed = bed_of(scope)
    catalog, schema, volume = bed.volume.upper().split(".")
    alice = special_client(scope, "alice")
    loud = special_client(scope, "loud", catalog=catalog, schema=schema, volume=volume)
    data = tofu_bytes(document())
    alice.put("default", data)
    snapshot = loud.get("default")
    assert snapshot is not None
    assert snapshot.data == data
    alice.lock("default", LockInfo.new("alice"))
    with pytest.raises(Locked):
        loud.lock("default", LockInfo.new("loud"))


@needs("test-bed")
@requirement("DBX-PATH-004")
def test_missing_directory_of_the_key_is_made_by_the_first_write(scope: RecordedScope) -> None:
    """Where the storage does not make directories by itself, the first write does, once."""
    bed = bed_of(scope)
    client = special_client(scope, "alice", key="new/place/terraform.tfstate")
    mark = bed.control.mark()
    missing = {
        "error_code": "NOT_FOUND",
        "message": "The directory being accessed is not found.",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "FILES_API_DIRECTORY_IS_NOT_FOUND",
                "domain": "filesystem.databricks.com",
            }
        ],
    }
    bed.control.add_fault(method="PUT", path=bed.files, status=404, body=missing)
    data = tofu_bytes(document())
    client.put("default", data)
    assert bed.states() == {"new/place/terraform.tfstate": len(data)}
    kinds = [entry.path.split("/")[4] for entry in bed.requests(mark) if entry.method == "PUT"]
    assert kinds[:3] == ["files", "directories", "files"]
    assert kinds[3:] == ["files", "files"] * bed.strict  # the record before, then the object and the copy
