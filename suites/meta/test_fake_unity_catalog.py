"""The fake's Unity Catalog, by the real databricks-sdk: objects, grants, credentials."""

from __future__ import annotations

from typing import Any

import pytest
from databricks.sdk import errors
from databricks.sdk.service.catalog import PermissionsChange, Privilege, VolumeOperation, VolumeType

from lockproof.suites.meta.fake_bed import DIRECTORIES, FILES, ROOT, UC, VOLUME, Bed

ENOUGH = {
    "main": ["USE_CATALOG"],
    "main.default": ["USE_SCHEMA"],
    VOLUME: ["READ_VOLUME", "WRITE_VOLUME"],
}


def without(full_name: str, privilege: str) -> dict[str, list[str]]:
    return {
        name: [held for held in ENOUGH[name] if (name, held) != (full_name, privilege)] for name in ENOUGH
    }


def test_sdk_makes_and_removes_catalog_schema_and_volume(fake: Bed) -> None:
    """Objects made by the SDK are lower-cased, listed, readable, and gone after deletion."""
    client = fake.client()
    assert client.catalogs.create("TF", comment="states").name == "tf"
    assert client.schemas.create("Prod", "tf").full_name == "tf.prod"
    volume = client.volumes.create("tf", "prod", "Infra", VolumeType.MANAGED, comment="c")
    assert (volume.full_name, volume.volume_type, volume.owner) == (
        "tf.prod.infra",
        VolumeType.MANAGED,
        "admin@example.com",
    )
    read = client.volumes.read("TF.Prod.INFRA")
    assert (read.volume_id, read.comment, read.created_at) == (volume.volume_id, "c", volume.created_at)
    assert [item.name for item in client.catalogs.list()] == ["main", "tf"]
    assert [item.name for item in client.schemas.list("tf")] == ["prod"]
    assert [item.name for item in client.volumes.list("tf", "prod")] == ["infra"]
    assert fake.http("PUT", "/api/2.0/fs/files/Volumes/tf/prod/infra/f", data=b"1").status_code == 204
    client.volumes.update("tf.prod.infra", new_name="other", comment="d")
    assert client.volumes.read("tf.prod.other").comment == "d"
    assert fake.http("GET", "/api/2.0/fs/files/Volumes/tf/prod/other/f").content == b"1"
    client.volumes.delete("tf.prod.other")
    with pytest.raises(errors.NotFound):
        client.volumes.read("tf.prod.other")
    client.schemas.delete("tf.prod")
    client.catalogs.delete("tf")
    assert [item.name for item in client.catalogs.list()] == ["main"]


@pytest.mark.parametrize("status", [400, 409])
def test_creating_what_exists_is_refused(fake: Bed, status: int) -> None:
    """A taken name is `*_ALREADY_EXISTS` with the status of the switch."""
    fake.control.fidelity(conflict_status=status)
    body = {"catalog_name": "main", "schema_name": "default", "name": "V", "volume_type": "MANAGED"}
    answer = fake.http("POST", f"{UC}/volumes", json=body)
    assert answer.status_code == status
    assert answer.json() == {"error_code": "VOLUME_ALREADY_EXISTS", "message": "Volume 'v' already exists"}
    assert fake.http("POST", f"{UC}/catalogs", json={"name": "main"}).status_code == status


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("volumes/no.s.v", "CATALOG_DOES_NOT_EXIST", "Catalog 'no' does not exist."),
        ("volumes/main.no.v", "SCHEMA_DOES_NOT_EXIST", "Schema 'main.no' does not exist."),
        ("volumes/main.default.no", "VOLUME_DOES_NOT_EXIST", "Volume 'main.default.no' does not exist."),
        ("schemas/main.no", "SCHEMA_DOES_NOT_EXIST", "Schema 'main.no' does not exist."),
        ("schemas?catalog_name=no", "CATALOG_DOES_NOT_EXIST", "Catalog 'no' does not exist."),
    ],
)
def test_first_missing_object_is_named(fake: Bed, path: str, code: str, message: str) -> None:
    """A missing object is a 404 that names the first missing one of its path."""
    answer = fake.http("GET", f"{UC}/{path}")
    assert (answer.status_code, answer.json()) == (404, {"error_code": code, "message": message})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"storage_location": "s3://x"}, "CreateVolume storage_location can not be provided."),
        ({"volume_type": "EXTERNAL"}, "storage_location must be provided"),
        ({"volume_type": "OTHER"}, "must be MANAGED or EXTERNAL"),
        ({"name": "a.b"}, "is not a valid volume name"),
        ({"name": "a b"}, "is not a valid volume name"),
        ({"name": "x" * 256}, "is not a valid volume name"),
        ({"name": ""}, "Missing required field: name"),
    ],
)
def test_bad_volume_is_refused(fake: Bed, body: dict[str, str], message: str) -> None:
    """Bad names and contradictory settings are 400 INVALID_PARAMETER_VALUE."""
    base = {"catalog_name": "main", "schema_name": "default", "name": "n", "volume_type": "MANAGED"}
    answer = fake.http("POST", f"{UC}/volumes", json=base | body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert message in answer.json()["message"]


def test_malformed_json_is_refused(fake: Bed) -> None:
    """A body that is no JSON object is 400 MALFORMED_REQUEST."""
    for body in (b"{", b"[]", b'"x"'):
        answer = fake.http("POST", f"{UC}/volumes", data=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")


def test_full_container_needs_force(fake: Bed) -> None:
    """A schema with a volume in it is deleted only with force, and takes it along."""
    answer = fake.http("DELETE", f"{UC}/schemas/main.default")
    assert answer.status_code == 400
    assert fake.control.files(VOLUME) == {}
    assert fake.http("DELETE", f"{UC}/schemas/main.default?force=true").json() == {}
    with pytest.raises(ValueError, match="does not exist"):
        fake.control.files(VOLUME)


@pytest.mark.parametrize("switches", [{}, {"empty_pages": True}, {"max_page": 1}])
def test_every_page_of_a_list_is_followed(fake: Bed, switches: dict[str, Any]) -> None:
    """Short and empty pages of volumes lead to every volume exactly once."""
    for number in range(5):
        fake.control.create_volume(f"main.default.w{number}")
    fake.control.fidelity(**switches)
    listed = [item.name for item in fake.client().volumes.list("main", "default", max_results=2)]
    assert listed == ["v", "w0", "w1", "w2", "w3", "w4"]
    first = fake.http("GET", f"{UC}/volumes?catalog_name=main&schema_name=default&max_results=2").json()
    length = 0 if switches.get("empty_pages") else switches.get("max_page", 2)
    assert len(first.get("volumes", [])) == length
    assert first["next_page_token"]


@pytest.mark.parametrize(
    ("full_name", "privilege", "read", "message"),
    [
        ("main", "USE_CATALOG", 403, "User does not have USE CATALOG on Catalog 'main'."),
        ("main.default", "USE_SCHEMA", 403, "User does not have USE SCHEMA on Schema 'main.default'."),
        (VOLUME, "READ_VOLUME", 403, f"User does not have READ VOLUME on Volume '{VOLUME}'."),
        (VOLUME, "WRITE_VOLUME", 200, f"User does not have WRITE VOLUME on Volume '{VOLUME}'."),
    ],
)
def test_each_missing_grant_is_named(
    fake: Bed, full_name: str, privilege: str, read: int, message: str
) -> None:
    """Without one of the four grants a write is a 403 that names it; reading needs all but WRITE VOLUME."""
    fake.http("PUT", f"{FILES}/f", data=b"1")
    token = fake.control.create_principal("ada@example.com", grants=without(full_name, privilege))
    refused = [
        fake.http("PUT", f"{FILES}/f", data=b"2", token=token),
        fake.http("DELETE", f"{FILES}/f", token=token),
        fake.http("PUT", f"{DIRECTORIES}/d", token=token),
        fake.http("POST", f"{FILES}/f?action=initiate-upload", token=token),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
        assert answer.json()["message"] == message
    assert fake.http("GET", f"{FILES}/f", token=token).status_code == read
    assert fake.http("GET", DIRECTORIES, token=token).status_code == read
    assert fake.http("GET", f"{FILES}/f").content == b"1"
    fake.control.grant("ada@example.com", full_name, privilege)
    assert fake.http("PUT", f"{FILES}/f", data=b"3", token=token).status_code == 204
    fake.control.revoke("ada@example.com", full_name, privilege)
    assert fake.http("PUT", f"{FILES}/f", data=b"4", token=token).status_code == 403


@pytest.mark.parametrize(
    "grants",
    [{"main": ["ALL_PRIVILEGES"]}, {"main": ["USE_CATALOG", "USE_SCHEMA", "WRITE_VOLUME", "READ_VOLUME"]}],
)
def test_privileges_are_inherited(fake: Bed, grants: dict[str, list[str]]) -> None:
    """What is granted on the catalog holds for every volume in it."""
    token = fake.control.create_principal("ada@example.com", grants=grants)
    assert fake.http("PUT", f"{FILES}/f", data=b"2", token=token).status_code == 204


def test_owner_needs_no_grant_on_the_volume(fake: Bed) -> None:
    """The owner of a volume reads and writes it, with USE on what is above."""
    grants = {"main": ["USE_CATALOG"], "main.default": ["USE_SCHEMA", "CREATE_VOLUME"]}
    token = fake.control.create_principal("ada@example.com", grants=grants)
    fake.client(token).volumes.create("main", "default", "mine", VolumeType.MANAGED)
    path = "/api/2.0/fs/files/Volumes/main/default/mine/f"
    assert fake.http("PUT", path, data=b"1", token=token).status_code == 204
    assert fake.http("PUT", f"{FILES}/f", data=b"1", token=token).status_code == 403


def test_stranger_sees_nothing(fake: Bed) -> None:
    """A principal without privileges lists nothing, and reading an object names what is missing."""
    token = fake.control.create_principal("eve@example.com")
    client = fake.client(token)
    assert list(client.catalogs.list()) == []
    with pytest.raises(errors.PermissionDenied, match="USE CATALOG on Catalog 'main'"):
        client.volumes.read(VOLUME)
    with pytest.raises(errors.PermissionDenied, match="CREATE CATALOG"):
        client.catalogs.create("mine")
    with pytest.raises(errors.PermissionDenied, match="MANAGE on Volume"):
        client.volumes.delete(VOLUME)
    assert fake.client().volumes.read(VOLUME).full_name == VOLUME


def test_sdk_changes_grants(fake: Bed) -> None:
    """Grants set by the SDK are shown, effective below, and take effect at once."""
    token = fake.control.create_principal("ada@example.com", grants=without(VOLUME, "WRITE_VOLUME"))
    client = fake.client()
    change = PermissionsChange(principal="ada@example.com", add=[Privilege.WRITE_VOLUME])
    client.grants.update("volume", VOLUME, changes=[change])
    assert fake.http("PUT", f"{FILES}/f", data=b"1", token=token).status_code == 204
    (shown,) = client.grants.get("volume", VOLUME).privilege_assignments or []
    assert shown.principal == "ada@example.com"
    assert set(shown.privileges or []) == {Privilege.READ_VOLUME, Privilege.WRITE_VOLUME}
    (effective,) = client.grants.get_effective("volume", VOLUME).privilege_assignments or []
    found = {
        (item.privilege.value if item.privilege else None, item.inherited_from_name)
        for item in effective.privileges or []
    }
    assert found == {
        ("READ_VOLUME", None),
        ("WRITE_VOLUME", None),
        ("USE_SCHEMA", "main.default"),
        ("USE_CATALOG", "main"),
    }


def test_bad_grants_are_refused(fake: Bed) -> None:
    """An unknown principal is 404, a privilege that does not apply 400, and a stranger may grant nothing."""
    path = f"{UC}/permissions/volume/{VOLUME}"
    nobody = fake.http("PATCH", path, json={"changes": [{"principal": "no", "add": ["READ_VOLUME"]}]})
    assert (nobody.status_code, nobody.json()["error_code"]) == (404, "PRINCIPAL_DOES_NOT_EXIST")
    token = fake.control.create_principal("ada@example.com", grants=ENOUGH)
    change = {"changes": [{"principal": "ada@example.com", "add": ["USE_CATALOG"]}]}
    assert fake.http("PATCH", path, json=change).status_code == 400
    assert fake.http("PATCH", path, json={"changes": []}, token=token).status_code == 403
    with pytest.raises(ValueError, match="no principal 'no'"):
        fake.control.grant("no", VOLUME, "READ_VOLUME")


@pytest.mark.parametrize(
    ("cloud", "member"),
    [("aws", "aws_temp_credentials"), ("azure", "azure_user_delegation_sas"), ("gcp", "gcp_oauth_token")],
)
def test_temporary_volume_credentials_are_those_of_the_cloud(fake: Bed, cloud: str, member: str) -> None:
    """The credentials of the cloud in question, an expiry in the fake's future, and the volume's place."""
    fake.control.fidelity(cloud=cloud)
    volume = fake.client().volumes.read(VOLUME)
    made = fake.client().temporary_volume_credentials.generate_temporary_volume_credentials(
        operation=VolumeOperation.READ_VOLUME, volume_id=volume.volume_id
    )
    assert getattr(made, member) is not None
    assert made.url == volume.storage_location
    assert made.expiration_time is not None
    assert made.expiration_time > fake.control.now() * 1000


def test_temporary_volume_credentials_need_external_use(fake: Bed) -> None:
    """Without EXTERNAL USE SCHEMA they are refused, an unknown volume is 404."""
    path = "/api/2.0/unity-catalog/temporary-volume-credentials"
    token = fake.control.create_principal("ada@example.com", grants=ENOUGH)
    volume_id = fake.client().volumes.read(VOLUME).volume_id
    body = {"volume_id": volume_id, "operation": "READ_VOLUME"}
    refused = fake.http("POST", path, json=body, token=token)
    assert refused.json()["message"] == "User does not have EXTERNAL USE SCHEMA on Schema 'main.default'."
    fake.control.grant("ada@example.com", "main.default", "EXTERNAL_USE_SCHEMA")
    assert fake.http("POST", path, json=body, token=token).status_code == 200
    assert fake.http("POST", path, json=body | {"volume_id": "none"}).status_code == 404


def test_metastore_assignment_names_the_workspace(fake: Bed) -> None:
    """The SDK reads workspace and metastore."""
    current = fake.client().metastores.current()
    assert (str(current.workspace_id), current.metastore_id) == (
        fake.workspace.id,
        fake.workspace.metastore.id,
    )


def test_deleted_volume_is_a_missing_volume(fake: Bed) -> None:
    """Files of a deleted volume answer that the volume does not exist, and a new one starts empty."""
    fake.http("PUT", f"{FILES}/f", data=b"1")
    fake.control.delete_volume(VOLUME)
    assert fake.http("GET", f"{FILES}/f").json()["message"] == f"Volume '{VOLUME}' does not exist."
    fake.control.create_volume(VOLUME)
    assert list(fake.client().files.list_directory_contents(ROOT)) == []
