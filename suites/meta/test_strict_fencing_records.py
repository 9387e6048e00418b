"""What clients under strict fencing agree on, and who is refused for having agreed on something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lockproof.suites.meta.lock_calls import info
from lockproof.suites.meta.strict_bed import RECORD, ROOT, Steps, StrictBed
from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    PermissionDenied,
    Throttled,
    Unauthenticated,
    Unavailable,
)

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

FIRST, STALE = b'{"serial":1}', b'{"serial":2,"by":"ann"}'

RECORDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"fencing": "checked"}, {}),
    ({}, {"fencing": "checked"}),
    ({}, {"files_api": "3.0", "files_host": "https://storage.example"}),
]


@pytest.mark.parametrize(("recorded", "ours"), RECORDS, ids=["strict", "checked", "files-api"])
def test_who_fences_otherwise_is_refused(
    lakebase: StrictBed, recorded: dict[str, Any], ours: dict[str, Any]
) -> None:
    """A client with other fencing, or that would publish by another API, is told both and gets no lock."""
    first = lakebase.client(**recorded)
    first.unlock(first.lock(info("ann")))
    with pytest.raises(ConfigError) as refused:
        lakebase.client(**ours).lock(info("bob"))
    assert refused.value.definite
    for setting in ({"fencing": "strict"} | recorded, {"fencing": "strict"} | ours):
        name, value = (
            ("files_api", setting["files_api"]) if "files_api" in setting else next(iter(setting.items()))
        )
        assert f'"{name}": "{value}"' in str(refused.value)
    assert first.lock_holder() is None


def test_a_strict_client_writes_nothing_where_others_are_checked(lakebase: StrictBed) -> None:
    """Nor does it read: it would take over a state that others go on to write."""
    first = lakebase.client(fencing="checked")
    first.unlock(first.lock(info("ann")))
    strict = lakebase.backend()
    for call in (strict.client().get, lambda: strict.client().put(STALE), strict.client().delete):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(ConfigError):
        strict.workspaces()


def test_a_checked_client_writes_nothing_where_others_are_strict(lakebase: StrictBed) -> None:
    """Without a lock, too: who fences strictly would not see what it wrote. It reads the copy."""
    lakebase.client().put(FIRST)
    plain = lakebase.client(fencing="checked")
    assert plain.get() == FIRST
    with pytest.raises(ConfigError, match='"fencing": "strict"'):
        plain.put(STALE)
    with pytest.raises(ConfigError, match='"fencing": "strict"'):
        plain.delete()
    assert lakebase.client().get() == lakebase.copy() == FIRST


@pytest.mark.parametrize("call", ["put", "delete"])
def test_a_checked_client_that_was_handed_a_lock_changes_nothing_either(
    lakebase: StrictBed, call: str
) -> None:
    """A process that has not taken the lock itself, and is given its id, looks at the record first."""
    strict = lakebase.client()
    lock_id = strict.lock(info("ann"))
    strict.put(FIRST, lock_id=lock_id)
    plain = lakebase.client(fencing="checked")
    with pytest.raises(ConfigError, match='"fencing": "strict"') as refused:
        plain.put(STALE, lock_id=lock_id) if call == "put" else plain.delete(lock_id=lock_id)
    assert refused.value.definite
    assert strict.get() == lakebase.copy() == FIRST


def test_the_record_is_asked_for_once_by_a_process_that_writes(lakebase: StrictBed) -> None:
    """Of a process that has taken no lock, the first write costs one request more, and the next none."""
    plain = lakebase.client(fencing="checked")
    lock_id = plain.lock(info("ann"))
    steps = Steps()
    other = lakebase.client(steps, fencing="checked")
    other.require_lock(lock_id)  # it is connected
    connected = len(steps.names)
    for _ in range(2):
        other.put(FIRST, lock_id=lock_id)
    requests = [step for step in steps.names[connected:] if step.startswith("http.")]
    assert requests == ["http.get", "http.put", "http.put"]


@pytest.mark.parametrize(("before", "after"), [("checked", "strict"), ("strict", "checked")])
def test_a_process_that_runs_on_while_fencing_changes_gets_no_lock(
    lakebase: StrictBed, before: str, after: str
) -> None:
    """Its next lock is refused, for it would write what nobody reads; and so is what it does then."""
    old, new = lakebase.client(fencing=before), lakebase.client(fencing=after)
    lock_id = old.lock(info("ann"))
    old.put(FIRST, lock_id=lock_id)
    old.unlock(lock_id)
    lakebase.volume().delete(f"{ROOT}/{RECORD}")
    new.unlock(new.lock(info("bob")))
    for call in (lambda: old.lock(info("ann")), lambda: old.put(STALE), old.delete):
        with pytest.raises(ConfigError, match=f'"fencing": "{after}"'):
            call()
    assert old.lock_holder() is None
    assert new.get() == lakebase.copy() == FIRST


@pytest.mark.parametrize("recorded", ["strict", "checked"])
def test_the_way_to_other_settings_is_told(lakebase: StrictBed, recorded: str) -> None:
    """Stop everybody, see that the copies are current where they may not be, and delete the record."""
    first = lakebase.client(fencing=recorded)
    first.unlock(first.lock(info("ann")))
    other = "checked" if recorded == "strict" else "strict"
    with pytest.raises(ConfigError) as refused:
        lakebase.client(fencing=other).lock(info("bob"))
    told = str(refused.value)
    assert "to change them, stop every client and gateway of this state, " in told
    assert told.endswith(f"and then delete {ROOT}/{RECORD} when nobody holds a lock")
    doctor = "let `tofu-databricks doctor`, with the recorded settings, say that the copy of each workspace "
    assert (f"{doctor}is current, and then" in told) == (recorded == "strict")


@pytest.mark.parametrize("fencing", ["strict", "checked"])
@pytest.mark.parametrize("recorded", [b"", b"\xff{", b"[]", b'{"era": "1"}'], ids=repr)
def test_a_record_that_is_none_is_told_as_such(lakebase: StrictBed, fencing: str, recorded: bytes) -> None:
    """Somebody emptied it, or wrote something else there: nobody knows how the state is fenced."""
    lakebase.volume().write(f"{ROOT}/{RECORD}", recorded)
    client = lakebase.client(fencing=fencing)
    with pytest.raises(ConfigError, match=f"^{ROOT}/{RECORD}, .* is empty, gone, or not ours: put back"):
        client.lock(info("ann"))
    assert client.lock_holder() is None


def test_a_record_that_vanishes_is_told_as_such(lakebase: StrictBed) -> None:
    """Somebody deletes it as soon as it is made."""
    client = lakebase.client()
    create = client.volume.create

    def create_and_lose(path: str, data: bytes) -> None:
        create(path, data)
        client.volume.delete(path)

    client.volume.create = create_and_lose  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=f"^{ROOT}/{RECORD}, .* is empty, gone, or not ours: put back"):
        client.lock(info("ann"))


def test_auto_takes_the_api_that_is_recorded(conditional: StrictBed) -> None:
    """Or else 3.0 where it is served; who does not know its address is told so."""
    first = conditional.client(files_api="auto")
    first.put(FIRST)
    assert json.loads(conditional.volume().read(f"{ROOT}/{RECORD}") or b"")["files_api"] == "3.0"
    with pytest.raises(ConfigError, match="set files_host"):
        conditional.client(files_api="auto", files_host="").get()
    assert conditional.client(files_api="auto").get() == FIRST


def test_auto_without_the_api_is_plain(conditional: StrictBed) -> None:
    """A workspace that does not serve 3.0 means 2.0."""
    conditional.lakebase.workspace.fidelity.change(files_api_3=False)
    conditional.client(files_api="auto").put(FIRST)
    assert json.loads(conditional.volume().read(f"{ROOT}/{RECORD}") or b"")["files_api"] == "2.0"


@pytest.mark.parametrize(
    ("answer", "error"),
    [(503, Unavailable), (429, Throttled), (401, Unauthenticated), (403, PermissionDenied)],
)
def test_auto_records_nothing_while_it_cannot_tell(
    conditional: StrictBed, answer: int, error: type[BackendError]
) -> None:
    """An outage passes and a record does not: the first lock fails, and the next one finds the API."""
    conditional.control.add_fault(method="GET", path="/api/3.0/*", status=answer, times=None)
    with pytest.raises(error) as failure:
        conditional.client(files_api="auto", retry_deadline=1).lock(info("ann"))
    assert failure.value.definite
    assert conditional.volume().read(f"{ROOT}/{RECORD}") is None
    conditional.control.clear_faults()
    client = conditional.client(files_api="auto")
    client.unlock(client.lock(info("ann")))
    assert json.loads(conditional.volume().read(f"{ROOT}/{RECORD}") or b"")["files_api"] == "3.0"
