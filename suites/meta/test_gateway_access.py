"""Who may talk to the gateway."""

from __future__ import annotations

import logging

import pytest

from lockproof.suites.meta.gateway_bed import SECRET, lock_body, running
from tofu_databricks.gateway import Access
from tofu_databricks.gateway.access import is_loopback, same


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "LOCK", "UNLOCK"])
def test_every_method_asks_for_the_secret(method: str) -> None:
    """Without credentials 401 with a challenge, with wrong ones 403, and the backend hears of neither."""
    with running() as bed:
        bed.wire.auth = None
        missing = bed.wire.send(method, lock_body("a"))
        assert missing.status_code == 401
        assert missing.headers["WWW-Authenticate"].startswith("Basic ")
        bed.wire.auth = ("tofu", "wrong")
        assert bed.wire.send(method, lock_body("a")).status_code == 403
        assert bed.backend.calls == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {SECRET}", 204),
        (f"bearer {SECRET}", 204),
        ("Bearer wrong", 403),
        ("Bearer ", 403),
        ("Basic !!!", 403),
        ("Basic dG9mdTo=", 403),
        ("Basic Og==", 403),
        ("Digest x", 401),
        ("", 401),
    ],
)
def test_bearer_and_basic_are_the_ways_in(header: str, status: int) -> None:
    """The secret is taken as a bearer token or as the password; nothing else is."""
    with running() as bed:
        bed.wire.auth = None
        assert bed.wire.send("GET", headers={"Authorization": header}).status_code == status


def test_the_user_name_counts() -> None:
    """The right password under another user name is 403."""
    with running(access=Access(SECRET, "ci")) as bed:
        assert bed.wire.send("GET").status_code == 403
        bed.wire.auth = ("ci", SECRET)
        assert bed.wire.send("GET").status_code == 204


def test_credentials_are_asked_for_before_the_body_is_read() -> None:
    """A stranger's body is not even collected: a bad digest in it goes unnoticed."""
    with running() as bed:
        bed.wire.auth = ("tofu", "wrong")
        assert bed.wire.send("POST", b"x", headers={"Content-MD5": "bad"}).status_code == 403


def test_without_a_secret_web_pages_are_kept_out() -> None:
    """Loopback-only: local programs are served; a page's request, by Origin or by a foreign Host, is not."""
    with running(access=Access(None)) as bed:
        bed.wire.auth = None
        assert bed.wire.send("GET").status_code == 204
        page = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
        assert bed.wire.send("POST", b"x", headers=page).status_code == 403
        assert bed.wire.send("GET", headers={"Host": "evil.example:80"}).status_code == 403
        assert not bed.backend.states


def test_the_secret_is_nowhere_in_logs_or_reprs(caplog: pytest.LogCaptureFixture) -> None:
    """Neither log lines nor the settings' repr hold the secret."""
    with caplog.at_level(logging.DEBUG), running() as bed:
        for auth in (("tofu", SECRET), ("tofu", "wrong-" + SECRET), None):
            bed.wire.auth = auth
            bed.wire.send("GET")
        assert SECRET not in repr(Access(SECRET))
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("tofu_databricks")]
    assert len(ours) == 3
    assert not any(SECRET in line for line in ours)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, loopback: bool) -> None:
    """Wildcards and other names are not loopback."""
    assert is_loopback(host) is loopback


def test_secrets_of_any_text_compare() -> None:
    """The comparison takes any text and tells equal from unequal."""
    assert same("gehe im", "gehe im")
    assert not same("a", "b")
    assert not same("", "a")
    assert same("\udcff", "\udcff")
