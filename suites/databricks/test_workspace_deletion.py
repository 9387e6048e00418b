"""Deleting a workspace: a rule of this backend that OpenTofu otherwise leaves to its command line."""

import json
from typing import Any

import pytest

from lockproof.driver import DriverError
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import special_client

TRACKED: dict[str, Any] = {
    "mode": "managed",
    "type": "null_resource",
    "name": "a",
    "provider": 'provider["registry.opentofu.org/hashicorp/null"]',
    "instances": [{"schema_version": 0, "attributes": {"id": "1"}}],
}
ENCRYPTED = {"serial": 1, "lineage": "x", "meta": {}, "encrypted_data": "AA==", "encryption_version": "v0"}


@reported("terraform#18329", "terraform#22941", "terraform#23730")
@needs("workspaces")
@requirement("DBX-DELETE-001")
@pytest.mark.parametrize("kind", ["tracked", "encrypted"])
def test_workspace_that_tracks_resources_is_not_deleted(scope: RecordedScope, kind: str) -> None:
    """A state that tracks resources, or that nobody can look into, stays without force and goes with it."""
    client = special_client(scope, "alice")
    data = tofu_bytes({**document(), "resources": [TRACKED]})
    if kind == "encrypted":
        data = json.dumps(ENCRYPTED).encode()
    client.put("dev", data)
    with pytest.raises(DriverError) as refused:
        client.delete_workspace("dev")
    assert refused.value.definite
    snapshot = client.get("dev")
    assert snapshot is not None
    assert snapshot.data == data
    client.delete_workspace("dev", force=True)
    assert (client.get("dev"), list(client.workspaces())) == (None, ["default"])


@needs("workspaces")
@requirement("DBX-DELETE-002")
def test_workspace_that_tracks_nothing_is_deleted(scope: RecordedScope) -> None:
    """A state without managed resources, and a file without a byte, need no force."""
    client = special_client(scope, "alice")
    data_only = {**TRACKED, "mode": "data"}
    for name, data in {
        "empty": tofu_bytes(document()),
        "data": tofu_bytes({**document(), "resources": [data_only, {**TRACKED, "instances": []}]}),
        "zero": b"",
    }.items():
        client.put(name, data)
        client.delete_workspace(name)
    assert list(client.workspaces()) == ["default"]
