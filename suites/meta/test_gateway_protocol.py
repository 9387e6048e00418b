"""The gateway speaks OpenTofu's HTTP backend protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from lockproof.suites.meta.gateway_bed import Bed, id_only, lock_body, md5_of, running
from tofu_databricks.gateway import Limits
from tofu_databricks.lockinfo import LockInfo

STATE = b'{"version":4,"serial":1}\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Bed]:
    with running() as opened:
        yield opened


@pytest.fixture
def bed(server: Bed) -> Bed:
    server.renew()
    return server


def test_an_absent_state_is_204_and_an_empty_one_200(bed: Bed) -> None:
    """No state yet is 204; a stored state of no bytes is 200 without a body."""
    assert bed.wire.send("GET").status_code == 204
    assert bed.wire.send("POST", b"").status_code == 200
    reply = bed.wire.send("GET")
    assert (reply.status_code, reply.content) == (200, b"")


@pytest.mark.parametrize("size", [1, 1 << 18, (1 << 18) + 1, 3_000_000])
def test_a_state_comes_back_byte_for_byte_with_its_digest(bed: Bed, size: int) -> None:
    """A state is read back as written, of any size, with Content-MD5 and Content-Length."""
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert bed.wire.send("POST", body, headers=md5_of(body)).status_code == 200
    reply = bed.wire.send("GET")
    assert reply.content == body
    assert reply.headers["Content-MD5"] == md5_of(body)["Content-MD5"]
    assert reply.headers["Content-Length"] == str(size)


def test_a_held_lock_is_423_with_the_holder(bed: Bed) -> None:
    """LOCK while another holds answers 423 with the holder's seven fields."""
    assert bed.wire.lock("a", Info="mine").status_code == 200
    refused = bed.wire.lock("b", Who="bob@host")
    assert refused.status_code == 423
    assert refused.headers["Content-Type"] == "application/json"
    assert refused.json() == json.loads(lock_body("a", Info="mine"))


@pytest.mark.parametrize("created", ["", "yesterday", "2026-01-02"])
def test_a_holder_with_a_bad_time_stays_readable(bed: Bed, created: str) -> None:
    """A Created that OpenTofu cannot parse is replaced: it would discard the whole holder."""
    bed.backend.locks["default"] = LockInfo(ID="a", Who="alice", Created=created)
    assert bed.wire.lock("b").json()["Created"] == "0001-01-01T00:00:00Z"


def test_unlock_wants_the_holders_id(bed: Bed) -> None:
    """UNLOCK answers 200 to the holder's ID and 409 with the holder to another."""
    bed.wire.lock("a")
    refused = bed.wire.unlock("b")
    assert (refused.status_code, refused.json()["ID"]) == (409, "a")
    assert bed.backend.locks["default"].ID == "a"
    assert bed.wire.unlock("a").status_code == 200
    assert not bed.backend.locks


def test_an_id_never_granted_is_not_released(bed: Bed) -> None:
    """UNLOCK of an ID that never held the lock is 409, also when nobody holds it."""
    assert bed.wire.unlock("stranger").status_code == 409
    assert bed.wire.unlock("stranger").status_code == 409


def test_force_unlock_by_id_alone_is_audited(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """OpenTofu's force-unlock, an ID and nothing else, releases and leaves a line in the audit log."""
    bed.wire.lock("a")
    with caplog.at_level(logging.WARNING, "tofu_databricks.gateway.audit"):
        assert bed.wire.send("UNLOCK", id_only("a")).status_code == 200
    assert not bed.backend.locks
    assert [r.getMessage() for r in caplog.records if r.name.endswith("audit")] != []


def test_force_unlock_without_a_body_releases_and_is_audited(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    """Terraform's force-unlock, an empty body, releases, and the log says whose lock it was and who asked."""
    bed.wire.lock("a", Who="alice@laptop")
    with caplog.at_level(logging.WARNING, "tofu_databricks.gateway.audit"):
        assert bed.wire.send("UNLOCK").status_code == 200
    assert not bed.backend.locks
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("audit")]
    assert len(lines) == 1
    assert all(word in lines[0] for word in ("'default'", "127.0.0.1", "'a'", "'alice@laptop'"))


def test_force_unlock_of_a_free_lock_is_refused(bed: Bed) -> None:
    """An UNLOCK without a body while nobody holds the lock is 409, not a false success."""
    assert bed.wire.send("UNLOCK").status_code == 409


def test_force_unlock_without_a_body_can_be_switched_off() -> None:
    """With forced_unlock off, an UNLOCK without a body is 403 and the lock stays."""
    with running(limits=Limits(forced_unlock=False)) as bed:
        bed.wire.lock("a")
        assert bed.wire.send("UNLOCK").status_code == 403
        assert bed.backend.locks["default"].ID == "a"
        assert bed.wire.send("UNLOCK", id_only("a")).status_code == 200


def test_a_write_needs_the_lock_that_is_held(bed: Bed) -> None:
    """While locked: POST with the ID 200, with another 409, with none 423; the last two write nothing."""
    bed.wire.lock("a")
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 200
    assert bed.wire.send("POST", b"other", lock_id="b").status_code == 409
    refused = bed.wire.send("POST", b"other")
    assert (refused.status_code, refused.json()["ID"]) == (423, "a")
    assert bed.backend.states["default"] == STATE


def test_a_write_after_the_lock_was_lost_is_409(bed: Bed) -> None:
    """POST with an ID when nobody holds the lock is 409 and writes nothing."""
    bed.wire.lock("a")
    bed.wire.send("UNLOCK")
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 409
    assert not bed.backend.states


def test_delete_asks_for_the_lock_as_a_write_does(bed: Bed) -> None:
    """DELETE while locked needs the holder's ID; deleting nothing is 200."""
    assert bed.wire.send("DELETE").status_code == 200
    bed.wire.send("POST", STATE)
    bed.wire.lock("a")
    assert bed.wire.send("DELETE").status_code == 423
    assert bed.wire.send("DELETE", lock_id="b").status_code == 409
    assert bed.backend.states["default"] == STATE
    assert bed.wire.send("DELETE", lock_id="a").status_code == 200
    assert not bed.backend.states


def test_workspaces_have_states_and_locks_of_their_own(bed: Bed) -> None:
    """One workspace's state and lock are not another's; a name is decoded once."""
    bed.wire.lock("a")
    assert bed.wire.send("POST", STATE, workspace="pr%C3%B6d").status_code == 200
    assert bed.backend.states == {"pröd": STATE}
    assert bed.wire.send("LOCK", lock_body("b"), workspace="pr%C3%B6d").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/state",
        "/state/",
        "/",
        "/stat/default",
        "/state/default/",
        "/state//default",
        "//state/default",
        "/state/../default",
        "/state/..",
        "/state/.",
        "/state/%2e%2e",
        "/state/a%2Fb",
        "/state/a%5Cb",
        "/state/a%00b",
        "/state/a%0Ab",
        "/state/%FF",
        "/state/default%2F..%2F..%2Fetc",
    ],
)
def test_a_strange_path_is_400_and_reaches_no_backend(bed: Bed, path: str) -> None:
    """A path that is not /state/NAME is 400: never 404, which a client takes for "no state yet"."""
    for method, body in (("GET", None), ("POST", STATE), ("LOCK", lock_body("a"))):
        assert bed.wire.send(method, body, path=path).status_code == 400
    assert bed.backend.calls == []


def test_a_name_that_the_backend_forbids_is_400(bed: Bed) -> None:
    """The backend's own word on workspace names is passed on."""
    reply = bed.wire.send("GET", workspace="forbidden")
    assert reply.status_code == 400
    assert "not allowed" in reply.text


@pytest.mark.parametrize("method", ["PUT", "HEAD", "PATCH", "OPTIONS"])
def test_other_methods_are_405(bed: Bed, method: str) -> None:
    """A method that the protocol does not have is 405 and names those it has."""
    reply = bed.wire.send(method)
    assert reply.status_code == 405
    assert reply.headers["Allow"] == "GET, POST, DELETE, LOCK, UNLOCK"


@pytest.mark.parametrize(
    "digest", ["not base64!", "AAAA", "1B2M2Y8AsgTpgAmY7PhCfg", "1B2M2Y8AsgTpgAmY7PhCfg=="], ids=str
)
@pytest.mark.parametrize("method", ["POST", "LOCK"])
def test_a_wrong_or_malformed_digest_is_400(bed: Bed, method: str, digest: str) -> None:
    """A Content-MD5 that is no digest, or another body's, is 400 and changes nothing."""
    assert bed.wire.send(method, lock_body("a"), headers={"Content-MD5": digest}).status_code == 400
    assert not bed.backend.states
    assert not bed.backend.locks


def test_a_digest_with_something_more_is_400(bed: Bed) -> None:
    """The right digest with a letter too many is none."""
    right = md5_of(STATE)["Content-MD5"]
    assert bed.wire.send("POST", STATE, headers={"Content-MD5": right + "!"}).status_code == 400
    assert bed.wire.send("POST", STATE, headers={"Content-MD5": right}).status_code == 200


def test_a_state_above_the_limit_is_413() -> None:
    """A state larger than the limit is 413, announced by its length or not, and nothing is stored."""
    with running(limits=Limits(state_bytes=1000)) as bed:
        assert bed.wire.send("POST", b"x" * 1000).status_code == 200
        assert bed.wire.send("POST", b"y" * 1001).status_code == 413
        url = f"{bed.wire.url}/state/default"
        pieces = (b"z" * 500 for _ in range(3))
        assert bed.wire.session.post(url, data=pieces, auth=bed.wire.auth, timeout=20).status_code == 413
        assert bed.backend.states["default"] == b"x" * 1000


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"{", b'{"ID":""}', b'{"ID":7}', b"\xff"])
def test_a_lock_without_a_lock_info_is_400(bed: Bed, body: bytes) -> None:
    """LOCK with anything but a lock info that has an ID is 400."""
    assert bed.wire.send("LOCK", body).status_code == 400
    assert not bed.backend.locks


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'{"ID":""}', b" "])
def test_a_body_without_an_id_is_no_force_unlock(bed: Bed, body: bytes) -> None:
    """Only an empty body releases without an ID; a malformed one is 400 and releases nothing."""
    bed.wire.lock("a")
    assert bed.wire.send("UNLOCK", body).status_code == 400
    assert bed.backend.locks["default"].ID == "a"


def test_keys_of_a_lock_info_match_without_regard_to_case(bed: Bed) -> None:
    """`id` is as good as `ID`, as in Go's JSON."""
    assert bed.wire.send("LOCK", b'{"id":"a","who":"alice"}').status_code == 200
    assert bed.backend.locks["default"].Who == "alice"


def test_an_encoded_body_is_415(bed: Bed) -> None:
    """A compressed body would be stored as such: 415."""
    assert bed.wire.send("POST", STATE, headers={"Content-Encoding": "gzip"}).status_code == 415
    assert not bed.backend.states


def test_several_ids_are_400(bed: Bed) -> None:
    """An address with two different IDs is 400: neither is a guess worth making."""
    bed.wire.lock("a")
    assert bed.wire.send("POST", STATE, path="/state/default?ID=a&ID=b").status_code == 400
    assert not bed.backend.states


def test_healthz_needs_no_secret_and_no_backend(bed: Bed) -> None:
    """/healthz answers 200 to anybody without a call to the backend."""
    bed.wire.auth = None
    assert bed.wire.send("GET", path="/healthz").status_code == 200
    assert bed.backend.calls == []
