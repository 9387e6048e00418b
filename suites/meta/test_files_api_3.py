"""The copy of a strictly fenced state, by Files API 2.0 and 3.0; and why an ETag alone fences nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from lockproof.suites.meta.lock_calls import info
from lockproof.suites.meta.strict_bed import KEY, OBJECTS, ROOT, Steps, StrictBed, fenced
from tofu_databricks.backend import Backend
from tofu_databricks.cli import cli
from tofu_databricks.client import StateClient
from tofu_databricks.errors import StaleWrite, Unavailable
from tofu_databricks.files_v3 import ConditionalFiles

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

FIRST, STALE, NEWER = b'{"serial":1}', b'{"serial":2,"by":"ann"}', b'{"serial":2,"by":"bob"}'
PATH = f"{ROOT}/{KEY}"
BOTH = ["2.0", "3.0"]


@pytest.fixture(params=BOTH)
def lakebase_bed(request: pytest.FixtureRequest) -> StrictBed:
    """A bed with locks in Postgres, for each Files API."""
    found: StrictBed = request.getfixturevalue("lakebase" if request.param == "2.0" else "conditional")
    return found


def conditional_files(backend: Backend) -> ConditionalFiles:
    assert backend.conditional is not None
    return backend.conditional


class TaggedClient:
    """What Files API 3.0 suggests: read the ETag, look at the lock, write on condition of the ETag."""

    def __init__(self, backend: Backend) -> None:
        self.client = backend.client()
        self.files = conditional_files(backend)

    def put(self, data: bytes, lock_id: str, before: Callable[[], object] = lambda: None) -> None:
        etag = self.files.etag(PATH)
        self.client.require_lock(lock_id)
        before()
        if not self.files.write(PATH, data, etag):
            raise StaleWrite("the state moved on")


def test_an_etag_alone_lets_a_stale_write_in(conditional: StrictBed) -> None:
    """The lock is lost between the look at it and the write, and its next holder has read, not yet written:
    the tag still fits. The stale write is stored, and then overwritten by one who has never seen it."""
    ann, bob = TaggedClient(conditional.backend()), TaggedClient(conditional.backend())
    conditional.volume().write(PATH, FIRST)
    held = ann.client.lock(info("ann"))
    seen: list[bytes | None] = []

    def take_over() -> None:
        bob.client.unlock(held)
        bob.client.lock(info("bob"))
        seen.append(conditional.copy())

    ann.put(STALE, held, before=take_over)
    holder = bob.client.lock_holder()
    assert holder is not None
    bob.put(NEWER, holder.ID)
    assert seen == [FIRST]  # what bob's write was made from: ann's was acknowledged, and is lost
    assert conditional.copy() == NEWER


def test_the_same_schedule_is_refused_by_the_head(lakebase_bed: StrictBed) -> None:
    """The lock is lost between the look and the statement that makes the write: it is refused."""
    first = lakebase_bed.client()
    held = first.lock(info("ann"))
    first.put(FIRST, lock_id=held)
    bob = lakebase_bed.client()

    def take_over(step: str) -> None:
        if step == "lock.move" and first.lock_holder() is not None and holder_of(first) == held:
            bob.unlock(held)
            bob.lock(info("bob"))

    with pytest.raises(Exception, match="bob holds the lock now"):
        lakebase_bed.client(take_over).put(STALE, lock_id=held)
    assert bob.get() == lakebase_bed.copy() == FIRST


def holder_of(client: StateClient) -> str:
    holder = client.lock_holder()
    return holder.ID if holder else ""


def publishers(strict: StrictBed, newer: Callable[[str], object]) -> list[bytes | None]:
    """A writer stands still before each request and look of its publishing, while `newer` is written; what
    the copy is when it has sent its last request, before it looks again."""
    first = strict.client()
    held = first.lock(info("ann"))
    first.put(FIRST, lock_id=held)
    counted = Steps()
    strict.client(counted).put(STALE, lock_id=held)
    begin = counted.names.index("state.publish") + 1
    copies: list[bytes | None] = []
    for at in range(begin, len(counted.names) + 1):
        done: list[str] = []

        def watch(step: str, at: int = at, done: list[str] = done) -> None:
            done.append(step)
            if len(done) == at:
                newer(held)
            elif len(done) > at and step == "lock.head":
                copies.append(strict.copy())

        strict.client(watch).put(STALE, lock_id=held)
        assert strict.client().get() == NEWER
        assert strict.copy() == NEWER
    return copies


def test_a_publisher_that_stands_still_leaves_the_newest(lakebase_bed: StrictBed) -> None:
    """Wherever it stands still while a newer version is written, the copy is that in the end. By 2.0 it may
    be the older one in between, by 3.0 never."""
    other = lakebase_bed.client()
    copies = publishers(lakebase_bed, lambda held: other.put(NEWER, lock_id=held))
    assert (STALE in copies) == (lakebase_bed.files_api == "2.0")


def test_tags_of_contents_fence_the_state_all_the_same(conditional: StrictBed) -> None:
    """A service whose ETags are hashes: where newer writes come back to the old bytes while a publisher
    stands still, its older copy gets in, and readers through the backend still read the newest."""
    conditional.lakebase.workspace.fidelity.change(content_etags=True)
    first, other = conditional.client(), conditional.client()
    held = first.lock(info("ann"))
    first.put(FIRST, lock_id=held)

    def back_and_forth() -> None:
        other.put(NEWER, lock_id=held)
        other.put(FIRST, lock_id=held)

    counted = Steps()
    conditional.client(counted).put(FIRST, lock_id=held)
    last = len(counted.names)
    assert counted.names[-3:] == ["http.head", "lock.head", "http.put"]
    conditional.client(Steps(last, back_and_forth)).put(STALE, lock_id=held)
    assert conditional.client().get() == FIRST
    assert conditional.copy() == STALE  # the exception that `tofu_databricks.published` names
    assert not fenced(first).copy_is_current()
    first.put(NEWER, lock_id=held)
    assert (first.get(), conditional.copy()) == (NEWER, NEWER)


def test_conditions_are_kept(conditional: StrictBed) -> None:
    """A file is made where none is, replaced and deleted where it is the one that was seen, and else not."""
    files = conditional_files(conditional.backend())
    assert files.etag(PATH) is None
    assert files.delete(PATH, None)
    assert files.write(PATH, FIRST, None)
    assert not files.write(PATH, STALE, None)
    old = files.etag(PATH)
    assert files.write(PATH, NEWER, old)
    assert not files.write(PATH, STALE, old)
    assert not files.delete(PATH, old)
    assert conditional.copy() == NEWER
    assert files.delete(PATH, files.etag(PATH))
    assert conditional.copy() is None


def test_a_lost_reply_of_the_copy_is_made_good(conditional: StrictBed) -> None:
    """The copy is put, unanswered, and put again on condition of a tag that is gone: it is looked at anew."""
    client = conditional.client()
    client.put(FIRST)
    path = f"/api/3.0/fs/files{PATH}"
    fault = conditional.control.add_fault(method="PUT", path=path, when="after", drop=True)
    client.put(NEWER)
    assert conditional.control.fault(fault)["hits"] == 1
    assert (client.get(), conditional.copy()) == (NEWER, NEWER)


@pytest.mark.parametrize("missing", ["endpoint", "tags"])
def test_an_api_that_is_not_there_is_told(conditional: StrictBed, missing: str) -> None:
    """The preview is switched off, or it is another API: each has its sentence."""
    if missing == "endpoint":
        conditional.lakebase.workspace.fidelity.change(files_api_3=False)
    else:
        conditional.volume().write(PATH, FIRST)
        conditional.control.add_fault(method="GET", path=f"/api/3.0/fs/files{PATH}", status=200, body="{}")
    reason = conditional_files(conditional.backend()).missing(PATH)
    expected = {"endpoint": "the workspace does not serve it", "tags": "it answers without ETags"}
    assert reason == expected[missing]
    assert conditional_files(conditional.backend()).missing(f"{PATH}-absent") == (
        reason if missing == "endpoint" else ""
    )


def test_nobody_at_its_address_is_no_api_that_is_not_there(conditional: StrictBed) -> None:
    """An address that does not answer may answer again: that is an error of its own."""
    files = conditional_files(conditional.backend(files_host="http://127.0.0.1:1"))
    with pytest.raises(Unavailable, match=r"no answer from http://127\.0\.0\.1:1"):
        files.missing(PATH)


def test_a_copy_that_cannot_be_published_fails_no_write(
    lakebase_bed: StrictBed, caplog: pytest.LogCaptureFixture
) -> None:
    """The write is done and a line in the log says what the copy lacks, until the next write heals it."""
    client = lakebase_bed.client()
    lock_id = client.lock(info("ann"))
    client.put(FIRST, lock_id=lock_id)
    path = f"/api/*/fs/files{ROOT}/{KEY}"
    denied = {"error_code": "PERMISSION_DENIED", "message": "no"}
    fault = lakebase_bed.control.add_fault(method="PUT", path=path, status=403, body=denied, times=None)
    with caplog.at_level(logging.WARNING, logger="tofu_databricks.fencing"):
        client.put(STALE, lock_id=lock_id)
    assert f"its copy at {PATH} is an older one" in caplog.text
    assert (client.get(), lakebase_bed.copy(), fenced(client).copy_is_current()) == (STALE, FIRST, False)
    lakebase_bed.control.clear_faults(fault)
    client.put(NEWER, lock_id=lock_id)
    assert (client.get(), lakebase_bed.copy(), fenced(client).copy_is_current()) == (NEWER, NEWER, True)


def test_doctor_tells_of_fencing_and_of_an_old_copy(
    lakebase_bed: StrictBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` names the API that publishes, and the copy that is not the state."""
    made = lakebase_bed.backend()
    made.client().put(FIRST)
    monkeypatch.setattr("tofu_databricks.cli.Backend", lambda config: lakebase_bed.backend())
    monkeypatch.setattr("tofu_databricks.cli.load", lambda given: made.config)
    line = f"strict fencing, copies at {PATH}: "
    shown = CliRunner().invoke(cli, ["doctor"]).output
    assert f"ok    {line}current, by Files API {lakebase_bed.files_api}" in shown
    lakebase_bed.volume().write(PATH, STALE)
    shown = CliRunner().invoke(cli, ["doctor"]).output
    assert f"FAIL  {line}not the state, which {ROOT}/{OBJECTS}/default.tfstate holds" in shown
