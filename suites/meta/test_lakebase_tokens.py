"""Lakebase tokens and settings: minted, replaced in time, and refused in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests.utils
from psycopg import errors as pg

from lockproof.fakes.databricks.lakebase_tls import certificate
from lockproof.suites.meta.lakebase_bed import (
    KEY,
    LakebaseBed,
    eventually,
    slept,
)
from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    MalformedReply,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore, connector

pytest_plugins = ["lockproof.suites.meta.lakebase_fixtures"]
CREDENTIALS = "/api/2.0/postgres/credentials"


def test_one_token_serves_many_connections(bed: LakebaseBed, store: LockStore) -> None:
    """A token, the endpoint's host and the caller's name are asked for once and used again."""
    before = [bed.asked(path) for path in (CREDENTIALS, "*/endpoints/primary", "*/scim/v2/Me")]
    for _ in range(3):
        store.holder(KEY)
        bed.proxy.end_sessions()
        eventually(lambda: not bed.proxy.sessions, "sessions are open")
    after = [bed.asked(path) for path in (CREDENTIALS, "*/endpoints/primary", "*/scim/v2/Me")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_token_is_replaced_before_it_expires(bed: LakebaseBed, store: LockStore) -> None:
    """A connection that is opened in the last minute of a token's life uses a new one."""
    store.holder(KEY)
    minted = bed.asked(CREDENTIALS)
    for seconds, more in ((3500, 0), (50, 1)):
        bed.workspace.clock.advance(seconds)
        bed.proxy.end_sessions()
        eventually(lambda: not bed.proxy.sessions, "sessions are open")
        store.holder(KEY)
        assert bed.asked(CREDENTIALS) - minted == more
    assert slept(store) == []


def test_open_connection_outlives_its_token(bed: LakebaseBed, store: LockStore) -> None:
    """While a connection stays open, no token is asked for, however old it is."""
    store.holder(KEY)
    minted = bed.asked(CREDENTIALS)
    bed.workspace.clock.advance(100_000)
    store.holder(KEY)
    assert bed.asked(CREDENTIALS) == minted


def test_token_that_the_server_refuses_is_minted_once_more(bed: LakebaseBed, store: LockStore) -> None:
    """A token that ended early costs one more, without a wait."""
    store.holder(KEY)
    minted = bed.asked(CREDENTIALS)
    bed.model.expire_credentials(bed.endpoint)
    bed.proxy.end_sessions()
    eventually(lambda: not bed.proxy.sessions, "sessions are open")
    store.holder(KEY)
    assert bed.asked(CREDENTIALS) - minted == 1
    assert slept(store) == []


def test_fresh_token_that_is_refused_is_unauthenticated(bed: LakebaseBed) -> None:
    """When a fresh token is refused too, that is the end: no retries, one clear line without the token."""
    store = bed.store(lakebase_user="somebody@example.com")
    minted = bed.asked(CREDENTIALS)
    with pytest.raises(Unauthenticated, match=r"somebody@example\.com") as caught:
        store.acquire(KEY, LockInfo.new("alice"))
    assert bed.asked(CREDENTIALS) - minted == 2
    assert slept(store) == []
    assert "eyJ" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("failed to resolve host 'token-db.localhost': [Errno -2] Name or service not known", Unavailable),
        (
            'connection to server at "token-db.localhost" (::1), port 5432 failed: timeout expired',
            Unavailable,
        ),
        ('connection to server at "::1", port 1 failed: database "token certificate" is busy', Unavailable),
        ('FATAL: password authentication failed for user "token role"', Unauthenticated),
        ("FATAL: the token has expired", Unauthenticated),
    ],
)
def test_names_in_a_failed_login_are_not_its_reason(
    bed: LakebaseBed, monkeypatch: pytest.MonkeyPatch, failure: str, kind: type[BackendError]
) -> None:
    """A host, role or database called after a token, or after TLS, does not make an outage a refusal."""

    def connect(**_: Any) -> Any:
        raise psycopg.OperationalError(failure)

    monkeypatch.setattr(connector.BoundedConnection, "connect", connect)
    store = bed.store(
        lakebase_host="token-db.localhost",
        lakebase_user="token role",
        lakebase_database="token certificate",
    )
    with pytest.raises(BackendError) as caught:
        store.holder(KEY)
    assert type(caught.value) is kind
    assert failure in str(caught.value)


@pytest.mark.parametrize("state", [pg.InvalidPassword, pg.InvalidAuthorizationSpecification])
def test_refused_login_is_known_by_its_sqlstate(
    bed: LakebaseBed, monkeypatch: pytest.MonkeyPatch, state: type[psycopg.OperationalError]
) -> None:
    """Where the SQLSTATE comes with the refusal, its words do not matter, in whatever language."""

    def connect(**_: Any) -> Any:
        raise state("FATAL: Passwort-Authentifizierung fehlgeschlagen")

    monkeypatch.setattr(connector.BoundedConnection, "connect", connect)
    with pytest.raises(Unauthenticated):
        bed.store().holder(KEY)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"lakebase_project": "none"}, ConfigError, "projects/none/branches/production/endpoints/primary"),
        ({"lakebase_branch": "none"}, ConfigError, "branches/none"),
        ({"lakebase_instance": "none"}, ConfigError, "has no none"),
        ({"lakebase_database": "none"}, ConfigError, "lakebase_database"),
        ({"lakebase_sslmode": "disable"}, ConfigError, "lakebase_sslmode = disable"),
        ({"lakebase_sslmode": "verify-full"}, ConfigError, "lakebase_sslmode = verify-full"),
        ({"lakebase_host": "127.0.0.1", "lakebase_port": "1"}, Unavailable, "refused"),
        ({"token": "dapiwrong"}, Unauthenticated, "token"),
    ],
)
def test_wrong_setting_is_one_clear_line(
    bed: LakebaseBed, settings: dict[str, str], kind: type[BackendError], words: str
) -> None:
    """A setting that cannot work is named, in one line without a secret."""
    with pytest.raises(kind, match=words) as caught:
        bed.store(**settings).acquire(KEY, LockInfo.new("alice"))
    assert caught.value.definite is True
    assert "\n" not in str(caught.value)
    assert "dapi" not in str(caught.value)
    assert "eyJ" not in str(caught.value)


def test_identity_without_a_role_is_told_so(bed: LakebaseBed) -> None:
    """An identity of the workspace that has no Postgres role is told to get one."""
    bed.workspace.create_principal("new@example.com")
    token = bed.workspace.directory.issue(bed.workspace.directory.principals["new@example.com"]).value
    with pytest.raises(PermissionDenied, match="create one"):
        bed.store(token=token).acquire(KEY, LockInfo.new("new"))


def test_instances_of_the_older_api_work_as_well(bed: LakebaseBed) -> None:
    """With lakebase_instance the host and the token come from the database API; a stopped one says so."""
    instance = bed.model.create_instance("locks", bed.workspace.admin)
    store = bed.store(lakebase_instance="locks")
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    assert store.holder(KEY) == info
    assert bed.store().holder(KEY) is None
    bed.model.stop_instance(instance, True)
    with pytest.raises(ConfigError, match="locks is stopped"):
        bed.store(lakebase_instance="locks").holder(KEY)


def test_pooler_that_takes_no_settings_is_used_without(
    bed: LakebaseBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server refuses settings at login, the connection is made without them, from then on."""
    made: list[str] = []
    real = connector.BoundedConnection.connect

    def connect(**keywords: Any) -> Any:
        made.append(keywords["options"])
        if keywords["options"]:
            raise psycopg.OperationalError("FATAL: unsupported startup parameter in options: lock_timeout")
        return real(**keywords)

    monkeypatch.setattr(connector.BoundedConnection, "connect", connect)
    store = bed.store()
    store.holder(KEY)
    bed.proxy.end_sessions()
    eventually(lambda: not bed.proxy.sessions, "sessions are open")
    store.holder(KEY)
    assert made == [connector.SERVER_SETTINGS, "", ""]


def test_server_certificate_is_verified_when_asked(
    bed: LakebaseBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verify-full trusts ca_certificate when it is set, and otherwise what the workspace is trusted by."""
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(certificate()[0])
    verified = {"lakebase_sslmode": "verify-full"}
    assert bed.store(ca_certificate=str(trusted), **verified).holder(KEY) is None
    with pytest.raises(ConfigError, match="verify-full does not work"):
        bed.store(**verified).holder(KEY)
    monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(trusted))
    assert bed.store(**verified).holder(KEY) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [(CREDENTIALS, {"token": "t"}), (CREDENTIALS, {"expire_time": "2030-01-01T00:00:00Z"}), ("*/Me", {})],
)
def test_answer_without_what_is_needed_is_malformed(
    bed: LakebaseBed, path: str, body: dict[str, str]
) -> None:
    """A token without expiry, an expiry without token, or a caller without name is a malformed reply."""
    bed.workspace.add_fault(path=path, status=200, body=body)
    with pytest.raises(MalformedReply):
        bed.store().holder(KEY)


def test_compute_without_a_host_is_waited_for(bed: LakebaseBed, store: LockStore) -> None:
    """An endpoint that is still being made has no host; the next look finds it."""
    bed.workspace.add_fault(
        path="*/endpoints/primary", status=200, body={"status": {"current_state": "INIT"}}
    )
    assert store.holder(KEY) is None
    assert len(slept(store)) == 1
