"""The fake's Lakebase operations, by the real databricks-sdk; tokens on the fake's clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from databricks.sdk import errors
from databricks.sdk.common.types.fieldmask import FieldMask
from databricks.sdk.service import database, postgres
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

from lockproof.fakes.databricks.lakebase import DATABASE, Lakebase, LoginRefused
from lockproof.fakes.databricks.routes import lakebase as projects
from lockproof.fakes.databricks.routes import lakebase_instances as instances
from lockproof.suites.meta.fake_bed import Bed

ADMIN = "admin@example.com"
PRIMARY = "projects/p/branches/production/endpoints/primary"


@pytest.fixture
def lakebase(fake: Bed) -> Lakebase:
    """The model inside the fake, without anything that listens."""
    model = Lakebase(fake.workspace.clock)
    fake.workspace.attach(model)
    fake.workspace.router.install([projects.routes, instances.routes])
    fake.workspace.clock.freeze()
    return model


@pytest.fixture
def client(fake: Bed, lakebase: Lakebase) -> Any:
    """The administrator's SDK client, untyped since all its fields may be None; the project `p` is there."""
    made: Any = fake.client()
    made.postgres.create_project(postgres.Project(), "p").wait()
    return made


def test_sdk_creates_a_project_with_its_branch_and_endpoint(fake: Bed, lakebase: Lakebase) -> None:
    """A new project comes with the branch production and the endpoint primary, and names its owner."""
    client: Any = fake.client()
    spec = postgres.ProjectSpec(display_name="Locks", pg_version=17)
    operation = client.postgres.create_project(postgres.Project(spec=spec), "locks-1")
    project = operation.wait()
    assert (project.name, project.status.display_name, project.status.owner) == (
        "projects/locks-1",
        "Locks",
        ADMIN,
    )
    (branch,) = client.postgres.list_branches("projects/locks-1")
    assert (branch.name, branch.status.default) == ("projects/locks-1/branches/production", True)
    (endpoint,) = client.postgres.list_endpoints(branch.name)
    assert endpoint.name == f"{branch.name}/endpoints/primary"
    assert endpoint.status.current_state == postgres.EndpointStatusState.ACTIVE
    assert client.postgres.get_endpoint(endpoint.name).status.hosts.host == lakebase.host
    (role,) = client.postgres.list_roles(branch.name)
    assert role.status.postgres_role == ADMIN


def test_operation_is_done_when_it_is_looked_at(fake: Bed, lakebase: Lakebase) -> None:
    """The answer that starts an operation says "not done"; the operation's own name says "done"."""
    answer = fake.http("POST", "/api/2.0/postgres/projects?project_id=q", json={}).json()
    assert answer["done"] is False
    found = fake.client().postgres.get_operation(answer["name"])
    assert found.done is True
    assert found.response is not None
    assert found.response["name"] == "projects/q"


@pytest.mark.parametrize(
    ("project_id", "status", "code", "words"),
    [
        ("p", 409, "ALREADY_EXISTS", "project with such id already exists in the workspace"),
        ("", 400, "INVALID_PARAMETER_VALUE", "Field 'project_id' is required"),
        ("Upper", 400, "INVALID_PARAMETER_VALUE", "1 to 63 characters"),
        ("x" * 64, 400, "INVALID_PARAMETER_VALUE", "1 to 63 characters"),
    ],
)
def test_bad_project_id_is_refused(
    fake: Bed, client: Any, project_id: str, status: int, code: str, words: str
) -> None:
    """A taken, missing or malformed project id is answered as a workspace does."""
    answer = fake.http("POST", f"/api/2.0/postgres/projects?project_id={project_id}", json={})
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("projects/none", "project"),
        ("projects/p/branches/none", "branch"),
        ("projects/none/branches/production", "project"),
        ("projects/p/branches/production/endpoints/none", "endpoint"),
        ("projects/p/branches/production/roles/none", "role"),
    ],
)
def test_missing_resource_is_404_that_names_its_kind(fake: Bed, client: Any, name: str, kind: str) -> None:
    """What is not there is NOT_FOUND, with the kind that is missing."""
    answer = fake.http("GET", f"/api/2.0/postgres/{name}")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "NOT_FOUND")
    assert answer.json()["message"].startswith(f"{kind} id not found")


def test_what_came_with_the_project_cannot_be_deleted_alone(client: Any) -> None:
    """The default branch and endpoint go with their project only."""
    for delete, name in (
        (client.postgres.delete_endpoint, PRIMARY),
        (client.postgres.delete_branch, "projects/p/branches/production"),
    ):
        with pytest.raises(errors.BadRequest, match="MANAGED_BY_PARENT"):
            delete(name)
    client.postgres.delete_project("projects/p").wait()
    with pytest.raises(errors.NotFound):
        client.postgres.get_endpoint(PRIMARY)


def test_branches_and_endpoints_come_and_go(client: Any) -> None:
    """A branch of one's own takes one read-write and more read-only endpoints, and can be deleted."""
    branch = client.postgres.create_branch("projects/p", postgres.Branch(), "dev").wait()

    def endpoint(name: str, kind: postgres.EndpointType) -> Any:
        wanted = postgres.Endpoint(spec=postgres.EndpointSpec(endpoint_type=kind))
        return client.postgres.create_endpoint(branch.name, wanted, name).wait()

    endpoint("rw", postgres.EndpointType.ENDPOINT_TYPE_READ_WRITE)
    replica = endpoint("ro", postgres.EndpointType.ENDPOINT_TYPE_READ_ONLY)
    assert replica.status.endpoint_type == postgres.EndpointType.ENDPOINT_TYPE_READ_ONLY
    with pytest.raises(errors.AlreadyExists):
        endpoint("rw2", postgres.EndpointType.ENDPOINT_TYPE_READ_WRITE)
    client.postgres.delete_endpoint(replica.name).wait()
    assert [one.endpoint_id for one in client.postgres.list_endpoints(branch.name)] == ["rw"]
    client.postgres.delete_branch(branch.name).wait()
    assert [one.branch_id for one in client.postgres.list_branches("projects/p")] == ["production"]


def test_lists_come_in_pages(client: Any) -> None:
    """A list of more than one page arrives whole and in order."""
    for number in range(5):
        client.postgres.create_project(postgres.Project(), f"q{number}").wait()
    found = [project.project_id for project in client.postgres.list_projects(page_size=2)]
    assert found == ["p", "q0", "q1", "q2", "q3", "q4"]


@pytest.mark.parametrize("query", ["page_token=x", "page_size=-1"])
def test_bad_page_is_refused(fake: Bed, client: Any, query: str) -> None:
    """A page token of one's own making, or a size that is no number, is 400."""
    assert fake.http("GET", f"/api/2.0/postgres/projects?{query}").status_code == 400


def test_role_lets_another_identity_in(fake: Bed, client: Any, lakebase: Lakebase) -> None:
    """Without a role an identity has a token but no way in; with one it may log in; deleted, it may not."""
    token = fake.control.create_principal("dev@example.com")
    minted = fake.client(token=token).postgres.generate_database_credential(PRIMARY).token
    assert minted is not None
    with pytest.raises(LoginRefused, match=r'role "dev@example\.com" does not exist'):
        lakebase.login("dev@example.com", minted, DATABASE)
    branch = "projects/p/branches/production"
    spec = postgres.RoleRoleSpec(
        postgres_role="dev@example.com", identity_type=postgres.RoleIdentityType.USER
    )
    role = client.postgres.create_role(branch, postgres.Role(spec=spec)).wait()
    assert client.postgres.get_role(role.name).status.postgres_role == "dev@example.com"
    assert lakebase.login("dev@example.com", minted, DATABASE).role.owner is False
    client.postgres.delete_role(role.name).wait()
    with pytest.raises(LoginRefused, match="does not exist"):
        lakebase.login("dev@example.com", minted, DATABASE)


def test_several_tokens_are_valid_until_each_expires(client: Any, lakebase: Lakebase) -> None:
    """A new token does not end an older one; each ends at its own time of the fake's clock."""
    short = client.postgres.generate_database_credential(PRIMARY, ttl=Duration(seconds=300))
    long = client.postgres.generate_database_credential(PRIMARY)
    assert short.token is not None
    assert long.token is not None
    assert long.expire_time.seconds - short.expire_time.seconds == 3300
    for token in (short.token, long.token):
        lakebase.login(ADMIN, token, DATABASE)
    lakebase.clock.advance(299)
    lakebase.login(ADMIN, short.token, DATABASE)
    lakebase.clock.advance(1)
    with pytest.raises(LoginRefused, match="password authentication failed"):
        lakebase.login(ADMIN, short.token, DATABASE)
    lakebase.login(ADMIN, long.token, DATABASE)
    lakebase.clock.advance(3300)
    with pytest.raises(LoginRefused):
        lakebase.login(ADMIN, long.token, DATABASE)


def test_token_lifetime_may_be_given_as_a_time(client: Any, lakebase: Lakebase) -> None:
    """`expire_time` is kept as asked for."""
    until = Timestamp()
    until.FromDatetime(datetime.fromtimestamp(int(lakebase.clock.time()) + 600, UTC))
    made = client.postgres.generate_database_credential(PRIMARY, expire_time=until)
    assert made.expire_time.seconds == until.seconds


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"endpoint": "projects/p"},
        {"endpoint": PRIMARY, "ttl": "299s"},
        {"endpoint": PRIMARY, "ttl": "3602s"},
        {"endpoint": PRIMARY, "ttl": "an hour"},
        {"endpoint": PRIMARY, "expire_time": "tomorrow"},
        {"endpoint": PRIMARY, "ttl": "300s", "expire_time": "2030-01-01T00:00:00Z"},
    ],
)
def test_bad_request_for_a_token_is_refused(fake: Bed, client: Any, body: dict[str, str]) -> None:
    """A token without an endpoint, or for less than 300 or more than 3600 seconds, is 400."""
    answer = fake.http("POST", "/api/2.0/postgres/credentials", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_login_matches_token_user_and_database(client: Any, lakebase: Lakebase) -> None:
    """A token opens the door for its own principal, and to databases that exist."""
    token = client.postgres.generate_database_credential(PRIMARY).token
    assert token is not None
    for user, password, database_name, sqlstate in (
        ("other@example.com", token, DATABASE, "28P01"),
        (ADMIN, "wrong", DATABASE, "28P01"),
        (ADMIN, token, "missing", "3D000"),
    ):
        with pytest.raises(LoginRefused) as caught:
            lakebase.login(user, password, database_name)
        assert caught.value.sqlstate == sqlstate
        assert token not in caught.value.message


def test_disabled_endpoint_lets_nobody_in(client: Any, lakebase: Lakebase) -> None:
    """A disabled endpoint refuses logins until it is enabled."""
    token = client.postgres.generate_database_credential(PRIMARY).token
    assert token is not None

    def disable(disabled: bool) -> None:
        kind = postgres.EndpointType.ENDPOINT_TYPE_READ_WRITE
        wanted = postgres.Endpoint(spec=postgres.EndpointSpec(endpoint_type=kind, disabled=disabled))
        mask = FieldMask(["spec.disabled"])  # type: ignore[no-untyped-call]
        client.postgres.update_endpoint(PRIMARY, wanted, mask).wait()

    disable(True)
    with pytest.raises(LoginRefused, match="disabled"):
        lakebase.login(ADMIN, token, DATABASE)
    disable(False)
    lakebase.wake_refusals = 0
    lakebase.login(ADMIN, token, DATABASE)


def test_endpoint_without_traffic_goes_to_sleep_and_wakes(client: Any, lakebase: Lakebase) -> None:
    """After its timeout an endpoint is IDLE; the first login is refused while it wakes, not the next."""
    token = client.postgres.generate_database_credential(PRIMARY).token
    assert token is not None
    kind = postgres.EndpointType.ENDPOINT_TYPE_READ_WRITE
    spec = postgres.EndpointSpec(endpoint_type=kind, suspend_timeout_duration=Duration(seconds=60))
    mask = FieldMask(["spec.suspend_timeout_duration"])  # type: ignore[no-untyped-call]
    client.postgres.update_endpoint(PRIMARY, postgres.Endpoint(spec=spec), mask).wait()
    suspended: list[str] = []
    lakebase.on_suspend = lambda endpoint: suspended.append(endpoint.name)
    lakebase.clock.advance(59)
    lakebase.suspend_idle()
    assert suspended == []
    lakebase.clock.advance(1)
    lakebase.suspend_idle()
    lakebase.suspend_idle()
    assert suspended == [PRIMARY]
    assert client.postgres.get_endpoint(PRIMARY).status.current_state == postgres.EndpointStatusState.IDLE
    with pytest.raises(LoginRefused, match="starting up"):
        lakebase.login(ADMIN, token, DATABASE)
    lakebase.login(ADMIN, token, DATABASE)
    assert client.postgres.get_endpoint(PRIMARY).status.current_state == postgres.EndpointStatusState.ACTIVE


def test_unknown_field_in_a_mask_is_refused(fake: Bed, client: Any) -> None:
    """What the fake cannot change, it does not pretend to change."""
    for path in (
        f"{PRIMARY}?update_mask=spec.pooler_mode",
        f"{PRIMARY}",
        "projects/p?update_mask=spec.pg_version",
    ):
        assert fake.http("PATCH", f"/api/2.0/postgres/{path}", json={"spec": {}}).status_code == 400


def test_sdk_works_with_instances_of_the_older_api(fake: Bed, lakebase: Lakebase) -> None:
    """An instance is made, found by name and uid, listed, stopped, started and deleted."""
    client: Any = fake.client().database
    made = client.create_database_instance_and_wait(database.DatabaseInstance(name="db", capacity="CU_2"))
    assert (made.state, made.effective_capacity) == (database.DatabaseInstanceState.AVAILABLE, "CU_2")
    assert made.read_write_dns == lakebase.host
    assert client.find_database_instance_by_uid(uid=made.uid).name == "db"
    assert [one.name for one in client.list_database_instances()] == ["db"]
    stop = database.DatabaseInstance(name="db", stopped=True)
    assert client.update_database_instance("db", stop, "stopped").effective_stopped is True
    assert client.get_database_instance("db").state == database.DatabaseInstanceState.STOPPED
    start = database.DatabaseInstance(name="db", stopped=False)
    assert client.update_database_instance("db", start, "stopped").effective_stopped is False
    with pytest.raises(errors.InvalidParameterValue):
        client.delete_database_instance("db")
    client.delete_database_instance("db", purge=True)
    with pytest.raises(errors.NotFound):
        client.get_database_instance("db")
    with pytest.raises(errors.NotFound):
        client.find_database_instance_by_uid(uid=made.uid)


def test_tokens_of_an_instance_let_in(fake: Bed, lakebase: Lakebase) -> None:
    """A token that names an instance lives an hour and opens that instance's door."""
    client: Any = fake.client().database
    client.create_database_instance_and_wait(database.DatabaseInstance(name="db"))
    first, second = (client.generate_database_credential(instance_names=["db"], request_id=n) for n in "ab")
    assert first.expiration_time is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first.expiration_time)
    until = datetime.fromisoformat(first.expiration_time).timestamp()
    assert until == pytest.approx(lakebase.clock.time() + 3600, abs=0.01)
    for credential in (first, second):
        assert credential.token is not None
        assert lakebase.login(ADMIN, credential.token, DATABASE).branch.name == "instances/db"
    lakebase.clock.advance(3600)
    with pytest.raises(LoginRefused):
        lakebase.login(ADMIN, str(first.token), DATABASE)
    with pytest.raises(errors.NotFound):
        client.generate_database_credential(instance_names=["none"])
    with pytest.raises(errors.InvalidParameterValue):
        client.generate_database_credential(instance_names=[])


@pytest.mark.parametrize("name", ["db", "", "9db", "a_b"])
def test_bad_instance_name_is_refused(fake: Bed, lakebase: Lakebase, name: str) -> None:
    """A taken or malformed name is refused."""
    fake.client().database.create_database_instance_and_wait(database.DatabaseInstance(name="db"))
    answer = fake.http("POST", "/api/2.0/database/instances", json={"name": name})
    assert answer.status_code == (409 if name == "db" else 400)


def test_only_owner_or_admin_deletes_a_project(fake: Bed, client: Any) -> None:
    """Another principal is refused, and the project stays."""
    other = fake.client(token=fake.control.create_principal("dev@example.com"))
    with pytest.raises(errors.PermissionDenied):
        other.postgres.delete_project("projects/p")
    assert client.postgres.get_project("projects/p").project_id == "p"


def test_tokens_are_in_no_request_log(fake: Bed, client: Any) -> None:
    """The log of a run that minted a token does not hold it."""
    token = client.postgres.generate_database_credential(PRIMARY).token
    assert token is not None
    logged = [str(entry.to_json()) for entry in fake.control.requests()]
    assert any("credentials" in entry for entry in logged)
    assert not any(token in entry for entry in logged)
