"""The storage of direct Delta locks: what is refused, S3, and credentials of Unity Catalog."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver.databricks import DatabricksDriver
from lockproof.provision.s3 import S3, S3Error, provide_s3
from lockproof.suites.meta.direct_bed import KEY, TABLE, SharedTable, store_at
from lockproof.suites.meta.fake_bed import reach
from lockproof.suites.meta.lock_calls import info, together
from lockproof.suites.meta.sql_bed import Sql
from tofu_databricks.config import Config
from tofu_databricks.errors import (
    ConfigError,
    LockTableMissing,
    PermissionDenied,
    StateLocked,
    Unavailable,
)
from tofu_databricks.lockrecord import describe
from tofu_databricks.locks.delta_rows import COLUMNS
from tofu_databricks.locks.delta_storage import (
    CREDENTIALS,
    CatalogStorage,
    GivenStorage,
    checked_options,
    normal_location,
    parse_options,
)
from tofu_databricks.reply import Reply

NEEDS_MOTO = pytest.mark.skipif(
    importlib.util.find_spec("moto") is None, reason="moto is missing: pip install 'lockproof[bench]'"
)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """moto's server in a process of its own."""
    with provide_s3() as server:
        yield server


@pytest.fixture
def shared() -> Iterator[SharedTable]:
    """A fake workspace without a lock table."""
    with reach("in-process") as bed:
        yield SharedTable(bed, Sql(bed))


def config(**settings: Any) -> Config:
    """A configuration with direct locks."""
    place = {"catalog": "main", "schema": "default", "volume": "v", "key": "k"}
    return Config.load({**place, "lock_backend": "delta-direct", **settings}, environ={})


# --- what is refused


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/var/locks", "file:///var/locks"),
        ("/var/a b/", "file:///var/a%20b"),
        ("file:///var/locks/", "file:///var/locks"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("abfss://c@account.dfs.core.windows.net/x", "abfss://c@account.dfs.core.windows.net/x"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_location_is_an_address(given: str, meant: str) -> None:
    """One spelling for each place, since clients compare them."""
    assert normal_location(given) == meant
    assert config(lock_location=given).lock_location == meant


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/Volumes/main/default/v/locks", "is a mount"),
        ("file:///Volumes/main/default/v/locks", "is a mount"),
        ("/dbfs/locks", "is a mount"),
        ("dbfs:/locks", "is a mount"),
        ("http://bucket.example/locks", "must be an absolute path"),
        ("https://account.blob.core.windows.net/c", "must be an absolute path"),
        ("memory://locks", "must be an absolute path"),
        ("relative/path", "must be an absolute path"),
        ("s3://", "must be an absolute path"),
        ("file:///", "must be an absolute path"),
    ],
)
def test_place_without_conditional_put_is_refused(location: str, words: str) -> None:
    """A place where two clients could write one version is refused with the setting's name."""
    with pytest.raises(ConfigError, match=f"^lock_location: .*{words}"):
        config(lock_location=location)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "true", True),
        ("aws_s3_allow_unsafe_rename", "1", True),
        ("MOUNT_ALLOW_UNSAFE_RENAME", "True", True),
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "false", False),
        ("AWS_CONDITIONAL_PUT", "disabled", True),
        ("conditional_put", "dynamo:table", True),
        ("AWS_CONDITIONAL_PUT", "etag", False),
        ("AWS_S3_LOCKING_PROVIDER", "dynamodb", True),
        ("AWS_REGION", "eu-west-1", False),
    ],
)
def test_option_that_takes_exclusion_away_is_refused(name: str, value: str, refused: bool) -> None:
    """Given or in the environment, it is named; harmless values pass."""
    if not refused:
        assert checked_options({name: value}, {})[name] == value
        return
    with pytest.raises(ConfigError, match=f"^{name} is set: .*both hold the lock"):
        checked_options({name: value}, {})
    if name.isupper():
        with pytest.raises(ConfigError, match=f"^{name} is set"):
            checked_options({}, {name: value})


def test_environment_is_looked_at_when_locks_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine would read from the environment is refused before a table is touched."""
    monkeypatch.setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    with pytest.raises(ConfigError, match="AWS_S3_ALLOW_UNSAFE_RENAME is set"):
        GivenStorage(str(tmp_path), {})


def test_options_are_pairs_and_never_shown() -> None:
    """A malformed list is told without what it holds, and a configuration does not print it."""
    assert parse_options("A=1, b.c=x=y,") == {"A": "1", "b.c": "x=y"}
    with pytest.raises(ConfigError, match="NAME=VALUE") as refused:
        config(lock_storage_options="hunter2")
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(config(lock_storage_options="AWS_SECRET_ACCESS_KEY=hunter2"))


def test_lock_stores_are_told_apart() -> None:
    """Without a location it is the warehouse's table; another location is another store."""
    table = describe(config())
    assert json.loads(table)["lock_table"] == TABLE
    assert describe(config(lock_backend="delta")) == table
    stores = {describe(config(lock_location=f"/var/{name}")) for name in ("a", "b", "a/")}
    assert len({table, *stores}) == 3


def written(place: Path, features: list[str], columns: dict[str, str] = COLUMNS, **properties: str) -> Path:
    """A table as another engine makes it, with writer features."""
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in columns.items()]
    reader = [name for name in features if name in ("deletionVectors", "columnMapping", "catalogManaged")]
    actions = [
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": reader,
                "writerFeatures": features,
            }
        },
        {
            "metaData": {
                "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": [],
                "configuration": properties,
                "createdTime": 0,
            }
        },
    ]
    log = place / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    return place


@pytest.mark.parametrize(
    "features",
    [
        ["deletionVectors"],
        ["rowTracking", "domainMetadata"],
        ["columnMapping"],
        ["clustering", "domainMetadata"],
        ["inCommitTimestamp"],
        ["somethingNew"],
    ],
    ids=lambda features: features[0],
)
def test_table_with_features_that_cannot_be_written_is_refused(features: list[str], tmp_path: Path) -> None:
    """The features are named with the properties to create the table with; nothing is written."""
    place = written(tmp_path / "t", features)
    with pytest.raises(ConfigError, match=f"{features[0]}.*TBLPROPERTIES \\('delta.enableDeletionVectors'"):
        store_at(place).acquire(KEY, info("ann"))
    assert len(list(place.rglob("*"))) == 2


def test_table_with_features_that_can_be_written_is_used(tmp_path: Path) -> None:
    """Features that change nothing for us are no obstacle."""
    place = written(tmp_path / "t", ["appendOnly", "invariants", "changeDataFeed"])
    mine = info("ann")
    assert store_at(place).acquire(KEY, mine) == mine.ID


def test_catalog_managed_table_is_refused(tmp_path: Path) -> None:
    """Its commits go through the catalog, which the log shows."""
    place = written(tmp_path / "t", ["catalogManaged", "inCommitTimestamp"])
    with pytest.raises(ConfigError, match="is catalog-managed, which only Databricks may write"):
        store_at(place).acquire(KEY, info("ann"))


def test_table_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Other columns: its rows would be lost."""
    place = written(tmp_path / "t", [], {**COLUMNS, "mine": "string"})
    with pytest.raises(ConfigError, match=r"is not one of ours \(it has .*mine string\)"):
        store_at(place).acquire(KEY, info("ann"))


def test_missing_engine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without deltalake the error says what to install."""
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match='pip install "deltalake'):
        store_at(tmp_path / "t").acquire(KEY, info("ann"))


# --- Unity Catalog


def test_managed_table_is_refused(shared: SharedTable) -> None:
    """A table that a warehouse made without a location is managed."""
    shared.by_warehouse().prepare()
    with pytest.raises(ConfigError, match=f"{TABLE} is a managed table, which only Databricks may write"):
        shared.directly().acquire(KEY, info("ann"))


@pytest.mark.parametrize("feature", ["delta.feature.catalogManaged", "delta.feature.catalogOwned-preview"])
def test_table_with_catalog_commits_is_refused(feature: str) -> None:
    """Unity Catalog's own word for it is enough; no credentials are asked for."""

    def answer(method: str, path: str, **given: Any) -> Reply:
        assert method == "GET"
        properties = {feature: "supported"}
        table = {"table_type": "EXTERNAL", "data_source_format": "DELTA", "properties": properties}
        return Reply(200, {}, json.dumps(table).encode())

    with pytest.raises(ConfigError, match="is catalog-managed"):
        CatalogStorage(answer, TABLE, {}).access()


def test_unknown_table_is_told_with_its_ddl(shared: SharedTable) -> None:
    """No location, no table: the error says what to run, and running it is all that is needed."""
    with pytest.raises(
        LockTableMissing, match="lock_location; set it, or let an administrator run: "
    ) as gone:
        shared.directly().acquire(KEY, info("ann"))
    assert "LOCATION 's3://BUCKET/PATH'" in str(gone.value)


def test_grants_for_the_storage_are_told(shared: SharedTable, tmp_path: Path) -> None:
    """Without EXTERNAL USE SCHEMA no credentials are given: the error names what is needed."""
    shared.create((tmp_path / "t").as_uri())
    grants = {"main": ["USE_CATALOG"], "main.default": ["USE_SCHEMA"], TABLE: ["SELECT", "MODIFY"]}
    token = shared.bed.control.create_principal("eve@example.com", grants=grants)
    with pytest.raises(PermissionDenied, match="need SELECT, MODIFY and EXTERNAL USE SCHEMA"):
        shared.directly(token=token).acquire(KEY, info("eve"))
    shared.bed.control.grant("eve@example.com", "main.default", "EXTERNAL_USE_SCHEMA")
    mine = info("eve")
    assert shared.directly(token=token).acquire(KEY, mine) == mine.ID


def test_credentials_are_minted_anew_before_their_end(shared: SharedTable, tmp_path: Path) -> None:
    """One credential serves many locks until two minutes before its end."""
    control = shared.bed.control
    control.freeze_clock()
    shared.create((tmp_path / "t").as_uri())
    store, mine = shared.directly(), info("ann")

    def minted() -> int:
        return len(control.requests(path=CREDENTIALS))

    store.acquire(KEY, mine)
    store.release(KEY, mine.ID)
    assert minted() == 1
    control.advance_clock(3600 - 130)
    store.acquire(KEY, mine)
    assert minted() == 1
    control.advance_clock(20)
    store.release(KEY, mine.ID)
    assert minted() == 2


# --- S3


@NEEDS_MOTO
def test_first_claims_on_s3_have_one_winner(s3: S3) -> None:
    """Eight stores, no table yet: one holds the lock, the others are told who."""
    place, options = f"{s3.location}/first", dict(s3.options)
    claims = [info(f"w{number}") for number in range(8)]
    found = together(*(lambda mine=mine: store_at(place, options).acquire(KEY, mine) for mine in claims))
    held = store_at(place, options).holder(KEY)
    assert held in claims
    assert [result for result in found if isinstance(result, str)] == [held.ID]
    assert [result.holder for result in found if isinstance(result, StateLocked)] == [held] * 7
    store_at(place, options).release(KEY, held.ID)
    assert store_at(place, options).holder(KEY) is None


@NEEDS_MOTO
def test_credentials_of_unity_catalog_open_s3(s3: S3, shared: SharedTable) -> None:
    """The address of the endpoint is given; the keys are those that Unity Catalog gives."""
    shared.bed.workspace.sql.tables.storage_options.update(s3.options)
    shared.create(f"{s3.location}/known")
    endpoint = {name: value for name, value in s3.options.items() if "KEY" not in name}
    store, mine = shared.directly(endpoint), info("ann")
    assert store.acquire(KEY, mine) == mine.ID
    options = store.storage.access().options
    assert options["AWS_ACCESS_KEY_ID"] == s3.options["AWS_ACCESS_KEY_ID"]
    assert options["AWS_SESSION_TOKEN"]
    with pytest.raises(StateLocked) as refused:
        shared.by_warehouse().acquire(KEY, info("bob"))
    assert refused.value.holder == mine


@NEEDS_MOTO
def test_bucket_that_is_not_there_is_told(s3: S3) -> None:
    """It is a wrong setting, not an outage."""
    with pytest.raises(ConfigError, match="there is no such bucket"):
        store_at("s3://nowhere/t", dict(s3.options)).acquire(KEY, info("ann"))


def test_storage_out_of_reach_is_told_in_time(tmp_path: Path) -> None:
    """A closed port is an outage after a few tries, definite before a commit, on one line without keys."""
    options = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAHUNTER2",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
    }
    with pytest.raises(Unavailable) as failed:
        store_at("s3://bucket/t", options).acquire(KEY, info("ann"))
    text = str(failed.value)
    assert failed.value.definite
    assert text.isprintable()
    assert "hunter2" not in text.lower()


def test_s3_for_the_run_needs_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without moto the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(S3Error, match=r"lockproof\[bench\]"), provide_s3():
        raise AssertionError("it started")


def test_unknown_storage_for_a_run_is_named() -> None:
    """`--backend-opt lock_storage=…` is told what there is, before anything is started."""
    with (
        pytest.raises(ValueError, match="lock_storage must be local or s3, not 'disk'"),
        DatabricksDriver.provision({"lock_storage": "disk"}),
    ):
        raise AssertionError("it started")
