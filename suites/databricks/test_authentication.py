"""Who calls: which credentials are used, and what is said when they are not accepted."""

import os
from pathlib import Path

import pytest

from lockproof.driver import DriverError
from lockproof.driver.databricks_bed import TestBed
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client

GRANTS = ("READ_VOLUME", "WRITE_VOLUME")


@pytest.fixture
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment and a home without any Databricks settings of the machine's owner."""
    for name in [name for name in os.environ if name.startswith(("DATABRICKS_", "ARM_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no-such-file"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # the SDK asks the environment's proxy for this machine, too
    return monkeypatch


def callers(bed: TestBed, since: int) -> set[str | None]:
    """Who sent the requests about the scope's volume, without the scope's part of the names."""
    names = (entry.principal for entry in bed.requests(since))
    return {name and name.partition("@")[0] for name in names}


@needs("test-bed")
@requirement("DBX-AUTH-001")
@pytest.mark.parametrize("fault", ["wrong", "expired"])
def test_bad_token_is_told_apart_from_a_missing_grant(scope: RecordedScope, fault: str) -> None:
    """A wrong or expired token is called that, though the service answers 403 to both."""
    bed = bed_of(scope)
    token = "dapi" + "0" * 32
    if fault == "expired":
        token = bed.principal("expiring", *GRANTS)
        bed.control.expire_tokens(principal=f"expiring@{bed.volume.rpartition('.')[2]}.example")
    with pytest.raises(DriverError) as failure:
        special_client(scope, "alice", token=token).put("default", tofu_bytes(document()))
    assert (failure.value.kind, failure.value.definite) == ("unauthorized", True)
    assert "token is wrong, expired" in failure.value.message
    assert "not permitted" not in failure.value.message


@needs("test-bed")
@requirement("DBX-AUTH-002")
def test_explicit_token_wins_over_ambient_credentials(
    scope: RecordedScope, ambient: pytest.MonkeyPatch
) -> None:
    """A configured token is used although the environment has a host, a token and an OAuth client."""
    bed = bed_of(scope)
    ambient.setenv("DATABRICKS_CLIENT_ID", "somebody")
    ambient.setenv("DATABRICKS_CLIENT_SECRET", "else")
    ambient.setenv("DATABRICKS_TOKEN", bed.principal("ambient", *GRANTS))
    ambient.setenv("DATABRICKS_HOST", scope_host(bed))
    token = bed.principal("explicit", *GRANTS, locks=True)
    mark = bed.control.mark()
    special_client(scope, "alice", token=token, host=None).put("default", tofu_bytes(document()))
    special_client(scope, "bob", token=token).get("default")
    assert callers(bed, mark) == {"explicit"}


@needs("test-bed")
@requirement("DBX-AUTH-003")
def test_environment_comes_before_the_configuration_file(
    scope: RecordedScope, ambient: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without explicit credentials DATABRICKS_* variables are used, and without these ~/.databrickscfg."""
    bed = bed_of(scope)
    file = tmp_path / "databrickscfg"
    token = bed.principal("file", *GRANTS, locks=True)
    file.write_text(f"[DEFAULT]\nhost = {scope_host(bed)}\ntoken = {token}\n")
    ambient.setenv("DATABRICKS_CONFIG_FILE", str(file))
    mark = bed.control.mark()
    special_client(scope, "alice", token=None, host=None).put("default", tofu_bytes(document()))
    assert callers(bed, mark) == {"file"}
    ambient.setenv("DATABRICKS_TOKEN", bed.principal("environment", *GRANTS, locks=True))
    ambient.setenv("DATABRICKS_HOST", scope_host(bed))
    mark = bed.control.mark()
    special_client(scope, "bob", token=None, host=None).get("default")
    assert callers(bed, mark) == {"environment"}


@needs("test-bed")
@requirement("DBX-AUTH-003")
def test_profile_is_looked_up_by_name(
    scope: RecordedScope, ambient: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile names a section of the configuration file; one that is not there is said so."""
    bed = bed_of(scope)
    file = tmp_path / "databrickscfg"
    file.write_text(f"[team]\nhost = {scope_host(bed)}\ntoken = {bed.principal('team', *GRANTS)}\n")
    ambient.setenv("DATABRICKS_CONFIG_FILE", str(file))
    mark = bed.control.mark()
    special_client(scope, "alice", token=None, host=None, profile="team").get("default")
    assert callers(bed, mark) == {"team"}
    with pytest.raises(DriverError) as failure:
        special_client(scope, "bob", token=None, host=None, profile="nobody").get("default")
    assert "has no nobody profile" in failure.value.message


@needs("test-bed")
@requirement("DBX-AUTH-004")
def test_service_principal_logs_in_by_oauth(scope: RecordedScope, ambient: pytest.MonkeyPatch) -> None:
    """client_id and client_secret are exchanged for a token, which the requests carry."""
    bed = bed_of(scope)
    bed.principal("robot", *GRANTS, locks=True)
    name = f"robot@{bed.volume.rpartition('.')[2]}.example"
    client_id, secret = bed.control.create_oauth_client(name)
    settings = {"token": None, "client_id": client_id}
    ambient.setenv("DATABRICKS_TOKEN", bed.principal("ambient", *GRANTS))
    mark = bed.control.mark()
    special_client(scope, "alice", **settings, client_secret=secret).put("default", tofu_bytes(document()))
    assert callers(bed, mark) == {"robot"}
    with pytest.raises(DriverError) as failure:
        special_client(scope, "bob", **settings, client_secret="dose-wrong").get("default")
    assert (failure.value.kind, failure.value.definite) == ("unauthorized", True)


@needs("test-bed")
@requirement("DBX-AUTH-005")
def test_no_failure_shows_a_secret(scope: RecordedScope) -> None:
    """Whatever goes wrong, neither the token nor what the service repeats of it is in the message."""
    bed = bed_of(scope)
    token = "dapi" + "f00d" * 8
    client = special_client(scope, "alice", token=token)
    echo = {"error_code": "BAD_REQUEST", "message": f"cannot parse header 'Authorization: Bearer {token}'"}
    bed.control.add_fault(path=bed.files, first=2, status=400, body=echo)
    bed.control.add_fault(path=bed.files, first=3, drop=True, times=None)
    messages = []
    for _ in range(3):
        with pytest.raises(DriverError) as failure:
            client.get("default")
        messages.append(failure.value.message)
    assert all(messages)
    assert not [
        text for text in messages if token[-16:] in text
    ]  # a scope's name may hold four of its digits


@needs("test-bed")
@requirement("DBX-CONF-001")
def test_reference_to_a_variable_is_resolved(scope: RecordedScope, ambient: pytest.MonkeyPatch) -> None:
    """`"${env:NAME}"` is the value of the variable."""
    bed = bed_of(scope)
    ambient.setenv("TEAM_TOKEN", bed.principal("referred", *GRANTS))
    mark = bed.control.mark()
    special_client(scope, "alice", token="${env:TEAM_TOKEN}").get("default")
    assert callers(bed, mark) == {"referred"}


def scope_host(bed: TestBed) -> str:
    """The workspace's address."""
    return bed.scope.config().host
