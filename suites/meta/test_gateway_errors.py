"""What a client makes of a backend's failure: never an empty state, and no retry where none helps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from lockproof.suites.meta.gateway_bed import Bed, lock_body, running
from tofu_databricks import errors
from tofu_databricks.lockinfo import LockInfo

NO_STATE = {200, 204, 404}
FAILURES: list[tuple[errors.BackendError, int]] = [
    (errors.Unauthenticated("the workspace does not accept the token"), 401),
    (errors.PermissionDenied("READ_VOLUME is missing"), 403),
    (errors.VolumeNotFound("the volume main.tf.states is not there"), 424),
    (errors.LockTableMissing("run: CREATE TABLE …"), 424),
    (errors.ConfigError("lakebase_project is missing"), 424),
    (errors.InvalidRequest("the service refuses the request"), 422),
    (errors.WorkspaceError("the name is not allowed"), 400),
    (errors.StaleWrite("the state moved on"), 409),
    (errors.Throttled("429 for ever"), 429),
    (errors.MalformedReply("not JSON"), 502),
    (errors.Unavailable("no answer"), 503),
    (errors.Unavailable("no answer to a write", definite=False), 503),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Bed]:
    with running() as opened:
        yield opened


@pytest.fixture
def bed(server: Bed) -> Bed:
    server.renew()
    return server


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(("error", "status"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failure_is_no_empty_state(bed: Bed, error: errors.BackendError, status: int) -> None:
    """A read that failed has its own status, none of those that mean "no state", and one line of text."""
    bed.backend.before["get"] = raising(error)
    reply = bed.wire.send("GET")
    assert reply.status_code == status
    assert reply.status_code not in NO_STATE
    assert reply.text == f"{error}\n"


@pytest.mark.parametrize(
    ("method", "step"), [("POST", "put"), ("DELETE", "delete"), ("LOCK", "lock"), ("UNLOCK", "unlock")]
)
@pytest.mark.parametrize(("error", "status"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failed_change_is_not_acknowledged(
    bed: Bed, method: str, step: str, error: errors.BackendError, status: int
) -> None:
    """Every other request passes the failure on in the same way."""
    bed.backend.before[step] = raising(error)
    assert bed.wire.send(method, lock_body("a")).status_code == status


def test_a_defect_is_500_without_details(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen exception is 500; its text stays in the gateway's log."""
    bed.backend.before["get"] = raising(RuntimeError("with details"))
    with caplog.at_level(logging.ERROR, "tofu_databricks.gateway"):
        reply = bed.wire.send("GET")
    assert reply.status_code == 500
    assert "details\n" in reply.text
    assert "RuntimeError" not in reply.text
    assert any(record.exc_info for record in caplog.records)


def test_a_message_of_several_lines_becomes_one(bed: Bed) -> None:
    """The text of a reply is one line, whatever the backend's."""
    bed.backend.before["get"] = raising(errors.LockTableMissing("run\n  this\n"))
    assert bed.wire.send("GET").text == "run this\n"


def test_a_lock_whose_holder_is_unknown_is_refused_without_one(bed: Bed) -> None:
    """423 without a lock info: clients then go on waiting, while an empty one would make them give up."""
    bed.backend.locks["default"] = LockInfo(ID="other")
    bed.backend.hide_holder = True
    bed.backend.before["holder"] = raising(errors.StateLocked("held, by whom is unknown"))
    reply = bed.wire.lock("a")
    assert reply.status_code == 423
    assert reply.headers["Content-Type"].startswith("text/plain")


def test_the_log_names_a_holder_once(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Who holds the lock is a warning the first time: terraform 1.11 shows the asker in its place."""
    with caplog.at_level(logging.WARNING, "tofu_databricks.gateway"):
        bed.wire.lock("a", Who="alice@laptop")
        for asker in ("b", "b", "c"):
            bed.wire.lock(asker)
        assert [r.getMessage() for r in caplog.records if "alice@laptop" in r.getMessage()] == [
            "workspace 'default': the state is already locked by alice@laptop since "
            "2026-01-02T03:04:05.6Z for OperationTypeApply (lock ID a); if that run is gone, release it by: "
            "force-unlock a"
        ]
        bed.wire.unlock("a")
        bed.wire.lock("d")
        bed.wire.lock("e")
    assert "lock ID d" in caplog.records[-1].getMessage()


def test_the_log_has_a_line_for_each_request(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, status and reason; a held lock is news, a failure is a warning."""
    with caplog.at_level(logging.INFO, "tofu_databricks.gateway"):
        bed.wire.lock("a")
        bed.wire.lock("b")
        bed.backend.before["get"] = raising(errors.VolumeNotFound("the volume is gone"))
        bed.wire.send("GET", path="/state/default?secret=x")
    lines = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "tofu_databricks.gateway"]
    lines = [(level, line) for level, line in lines if "/state/" in line]
    assert [level for level, _ in lines] == ["INFO", "INFO", "WARNING"]
    assert "LOCK /state/default 423" in lines[1][1]
    assert "GET /state/default 424" in lines[2][1]
    assert "the volume is gone" in lines[2][1]
    assert "secret" not in lines[2][1]
