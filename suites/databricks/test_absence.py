"""What is missing: the state, its directory, the volume, or the permission to look."""

from collections.abc import Callable

import pytest

from lockproof.driver import DriverError
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client


@needs("test-bed")
@requirement("DBX-ABSENT-001")
@pytest.mark.parametrize("part", ["catalog", "schema", "volume"])
@pytest.mark.parametrize("call", ["get", "put", "workspaces", "delete_workspace"])
def test_mistyped_location_never_looks_empty(scope: RecordedScope, part: str, call: str) -> None:
    """A catalog, schema or volume that does not exist is an error that names it, never "no state yet"."""
    client = special_client(scope, "alice", **{part: "mistyped"})
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: client.get("default"),
        "put": lambda: client.put("default", tofu_bytes(document())),
        "workspaces": client.workspaces,
        "delete_workspace": lambda: client.delete_workspace("dev", force=True),
    }
    with pytest.raises(DriverError) as failure:
        calls[call]()
    assert (failure.value.kind, failure.value.definite) == ("not_found", True)
    assert "mistyped" in failure.value.message


@needs("test-bed")
@requirement("DBX-ABSENT-001")
@pytest.mark.parametrize("reason", ["FILES_API_DIRECTORY_IS_NOT_FOUND", "SOMETHING_NEW", None])
def test_only_the_missing_file_means_no_state(scope: RecordedScope, reason: str | None) -> None:
    """A 404 with another reason than FILES_API_FILE_NOT_FOUND, or with none, is an error."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    assert client.get("default") is None
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "d"}
    body = {"error_code": "NOT_FOUND", "message": "Not found.", "details": [info] if reason else []}
    bed.control.add_fault(method="GET", path=bed.files, status=404, body=body)
    with pytest.raises(DriverError) as failure:
        client.get("default")
    assert failure.value.kind == "not_found"


@needs("test-bed")
@requirement("DBX-ABSENT-002")
def test_empty_volume_has_the_default_workspace_alone(scope: RecordedScope) -> None:
    """Without a directory of workspaces (never made, or vanished with its last file) there is `default`."""
    client = special_client(scope, "alice")
    assert list(client.workspaces()) == ["default"]
    client.put("dev", tofu_bytes(document()))
    client.delete_workspace("dev", force=True)
    assert list(client.workspaces()) == ["default"]


@needs("test-bed")
@requirement("DBX-GRANT-001")
@pytest.mark.parametrize("call", ["get", "put", "workspaces"])
def test_missing_grant_is_named(scope: RecordedScope, call: str) -> None:
    """Without READ VOLUME or WRITE VOLUME the error names the grant; a state is never taken for absent."""
    bed = bed_of(scope)
    special_client(scope, "owner").put("default", tofu_bytes(document()))
    may = {"get": ["WRITE_VOLUME"], "put": ["READ_VOLUME"], "workspaces": ["WRITE_VOLUME"]}[call]
    client = special_client(scope, "alice", token=bed.principal(f"grantless-{call}", *may, locks=True))
    calls = {
        "get": lambda: client.get("default"),
        "put": lambda: client.put("default", b"overwritten"),
        "workspaces": client.workspaces,
    }
    before = bed.control.files(bed.volume)
    with pytest.raises(DriverError) as failure:
        calls[call]()
    assert (failure.value.kind, failure.value.definite) == ("unauthorized", True)
    assert ("WRITE VOLUME" if call == "put" else "READ VOLUME") in failure.value.message
    assert bed.control.files(bed.volume) == before


@reported(
    "terraform#15968",
    "terraform#23468",
    "opentofu#2700",
    "terraform#31719",
    "terraform#35703",
    "terraform#30853",
    "cos-first-page",
)
@needs("test-bed")
@requirement("DBX-LIST-001")
@pytest.mark.parametrize("pages", ["short", "short-and-empty"])
def test_listing_goes_through_all_pages(scope: RecordedScope, pages: str) -> None:
    """Pages of three, and empty ones in between, are all read."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    names = [f"ws{number}" for number in range(10)]
    for name in names:
        client.put(name, tofu_bytes(document()))
    before = bed.control.fidelity()
    bed.control.fidelity(max_page=3, empty_pages=pages == "short-and-empty")
    try:
        assert sorted(client.workspaces()) == sorted([*names, "default"])
    finally:
        bed.control.fidelity(max_page=before["max_page"], empty_pages=before["empty_pages"])


@needs("test-bed")
@requirement("DBX-LIST-002")
def test_pages_that_go_round_in_circles_end(scope: RecordedScope) -> None:
    """A page token that comes back is an error, not an endless listing."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    body = {"contents": [], "next_page_token": "again"}
    bed.control.add_fault(method="GET", path=bed.directories, status=200, body=body, times=None)
    with pytest.raises(DriverError) as failure:
        client.workspaces()
    assert failure.value.kind == "malformed"


@needs("test-bed")
@requirement("DBX-LIST-003")
def test_strangers_files_are_not_workspaces(scope: RecordedScope) -> None:
    """Files and directories that somebody put beside the workspaces are not listed."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    client.put("dev", tofu_bytes(document()))
    for stray in ("notes.txt", "default.tfstate", "b=4.tfstate", ".tfstate", "deep/er.tfstate"):
        bed.put_file(f"terraform.tfstate.tofu-workspaces/{stray}", b"{}")
    assert list(client.workspaces()) == ["default", "dev"]
