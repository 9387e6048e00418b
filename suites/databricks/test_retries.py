"""Failures that may pass: how often, how long, and what is said when they do not."""

import os
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver import DriverError
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client

OUTAGES: dict[str, dict[str, Any]] = {
    "connection-lost": {"drop": True},
    "500": {"status": 500},
    "502": {"status": 502, "body": "<html><title>502 Bad Gateway</title></html>"},
    "503": {"status": 503, "headers": {"X-No": "1"}},
    "504": {"status": 504},
}


@needs("test-bed")
@requirement("DBX-RETRY-001")
@pytest.mark.parametrize("outage", OUTAGES)
def test_outage_is_retried_three_times(scope: RecordedScope, outage: str) -> None:
    """A connection error or 500/502/503/504 is retried three times with growing waits, then reported."""
    bed = bed_of(scope)
    clock = SkippingClock()
    client = special_client(scope, "alice", clock=clock)
    bed.control.add_fault(path=bed.files, times=None, **OUTAGES[outage])
    mark = bed.control.mark()
    with pytest.raises(DriverError) as failure:
        client.get("default")
    assert failure.value.kind == "unavailable"
    assert len(bed.requests(mark)) == 4
    assert len(clock.slept) == 3
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[0] > 0


@needs("test-bed")
@requirement("DBX-RETRY-001")
@pytest.mark.parametrize("outage", OUTAGES)
def test_outage_that_passes_goes_unnoticed(scope: RecordedScope, outage: str) -> None:
    """Three failures followed by an answer are success, for reads and for writes."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    data = tofu_bytes(document())
    bed.control.add_fault(method="PUT", path=bed.files, times=3, **OUTAGES[outage])
    client.put("default", data)
    bed.control.add_fault(method="GET", path=bed.files, times=3, **OUTAGES[outage])
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == data


@needs("test-bed")
@requirement("DBX-RETRY-001")
@pytest.mark.parametrize("credentials", ["explicit", "ambient token", "ambient service principal"])
def test_nobody_answering_is_unavailable(
    scope: RecordedScope, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, credentials: str
) -> None:
    """No network: the address is named, nothing can have happened, wherever the credentials come from."""
    settings: dict[str, str | None] = {"host": "http://127.0.0.1:1"}
    if credentials != "explicit":
        for name in [name for name in os.environ if name.startswith(("DATABRICKS_", "ARM_", "GOOGLE_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "no-such-file"))
        monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:1")
        settings = {"host": None, "token": None}
    if credentials == "ambient token":
        monkeypatch.setenv("DATABRICKS_TOKEN", "dapi" + "0" * 32)
    if credentials == "ambient service principal":
        monkeypatch.setenv("DATABRICKS_CLIENT_ID", "robot")
        monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "dose" + "0" * 32)
    client = special_client(scope, "alice", **settings)
    with pytest.raises(DriverError) as failure:
        client.put("default", tofu_bytes(document()))
    assert (failure.value.kind, failure.value.definite) == ("unavailable", True)
    assert "127.0.0.1:1" in failure.value.message


NOW = 1_900_000_000
TOLD: dict[str, tuple[dict[str, str], float]] = {
    "seconds": ({"Retry-After": "11"}, 11),
    "date": ({"Date": formatdate(NOW, usegmt=True), "Retry-After": formatdate(NOW + 20, usegmt=True)}, 20),
    "date that is over": (
        {"Date": formatdate(NOW, usegmt=True), "Retry-After": formatdate(NOW - 20, usegmt=True)},
        0,
    ),
}
"""What an answer says of its own time and of the next attempt, and how many seconds it asks to wait."""


@needs("test-bed")
@requirement("DBX-RETRY-002")
@pytest.mark.parametrize("form", TOLD)
def test_throttled_call_waits_as_long_as_it_is_told(scope: RecordedScope, form: str) -> None:
    """429 with Retry-After, in seconds or as a date, is sent again after that time, more than three times.

    A date that is over asks for no wait; then the back-off keeps the calls apart.
    """
    bed = bed_of(scope)
    clock = SkippingClock()
    client = special_client(scope, "alice", clock=clock)
    headers, seconds = TOLD[form]
    bed.control.add_fault(method="PUT", path=bed.files, status=429, headers=headers, times=5)
    data = tofu_bytes(document())
    client.put("default", data)
    if seconds:
        assert clock.slept == [seconds] * 5
    else:
        assert len(clock.slept) == 5
        assert clock.slept == sorted(clock.slept)
        assert min(clock.slept) > 0
    assert bed.states() == {"terraform.tfstate": len(data)}


@needs("test-bed")
@requirement("DBX-RETRY-003")
@pytest.mark.parametrize("headers", [{"X-No": "1"}, {"Retry-After": "0"}], ids=["unsaid", "now"])
def test_throttling_for_ever_ends(scope: RecordedScope, headers: dict[str, str]) -> None:
    """429 with Retry-After: 0, or without, backs off until retry_deadline; then the error says throttled."""
    bed = bed_of(scope)
    clock = SkippingClock()
    client = special_client(scope, "alice", clock=clock, retry_deadline="90s")
    bed.control.add_fault(method="PUT", path=bed.files, status=429, headers=headers, times=None)
    with pytest.raises(DriverError) as failure:
        client.put("default", tofu_bytes(document()))
    assert (failure.value.kind, failure.value.definite) == ("throttled", True)
    assert 60 < sum(clock.slept) <= 90
    assert bed.control.files(bed.volume) == {}


@needs("test-bed")
@requirement("DBX-RETRY-004")
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", ["get", "put", "delete", "workspaces"])
def test_authentication_failure_is_never_sent_again(scope: RecordedScope, call: str, status: int) -> None:
    """401 and 403 end the call with its first request."""
    bed = bed_of(scope)
    clock = SkippingClock()
    client = special_client(scope, "alice", clock=clock)
    body = {"error_code": status, "message": "Invalid access token."}
    bed.control.add_fault(path=f"*{bed.root}*", status=status, body=body, times=None)
    calls = {
        "get": lambda: client.get("default"),
        "put": lambda: client.put("default", tofu_bytes(document())),
        "delete": lambda: client.delete("default"),
        "workspaces": client.workspaces,
    }
    mark = bed.control.mark()
    with pytest.raises(DriverError) as failure:
        calls[call]()
    assert (failure.value.kind, failure.value.definite) == ("unauthorized", True)
    assert (len(bed.requests(mark)), clock.slept) == (1, [])


@needs("test-bed")
@requirement("DBX-RETRY-005")
def test_lost_reply_of_a_write_is_made_good(scope: RecordedScope) -> None:
    """A write that took effect and went unanswered is sent again and succeeds."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    data = tofu_bytes(document())
    bed.control.add_fault(method="PUT", path=bed.files, when="after", drop=True, times=2)
    client.put("default", data)
    bed.control.add_fault(method="DELETE", path=bed.files, when="after", drop=True, times=2)
    client.delete("default")
    assert client.get("default") is None


@needs("test-bed")
@requirement("DBX-RETRY-005")
@pytest.mark.parametrize("last", ["connection-lost", "500", "denied"])
def test_write_that_may_have_happened_is_reported_so(scope: RecordedScope, last: str) -> None:
    """When no attempt is answered, or a later one is refused, the error leaves open what happened.

    Strictly fenced, no file is the state before the lock table says so: then nothing has happened.
    """
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    data = tofu_bytes(document())
    if last == "denied":
        denied = {"error_code": "PERMISSION_DENIED", "message": "User does not have WRITE VOLUME."}
        bed.control.add_fault(method="PUT", path=bed.files, when="after", drop=True)
        bed.control.add_fault(method="PUT", path=bed.files, first=2, status=403, body=denied)
    else:
        bed.control.add_fault(method="PUT", path=bed.files, when="after", times=None, **OUTAGES[last])
    with pytest.raises(DriverError) as failure:
        client.put("default", data)
    assert failure.value.definite == bed.strict
    assert bed.states() == ({} if bed.strict else {"terraform.tfstate": len(data)})


@needs("test-bed")
@requirement("DBX-RETRY-006")
def test_truncated_state_is_never_taken_for_the_state(scope: RecordedScope) -> None:
    """A body shorter than announced is read again, and is an error when it stays short."""
    bed = bed_of(scope)
    client = special_client(scope, "alice")
    data = tofu_bytes(document(filler="x" * 5000))
    client.put("default", data)
    bed.control.add_fault(method="GET", path=bed.files, truncate=1000, times=2)
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == data
    bed.control.add_fault(method="GET", path=bed.files, truncate=1000, times=None)
    with pytest.raises(DriverError) as failure:
        client.get("default")
    assert failure.value.kind == "unavailable"
