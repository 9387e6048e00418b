"""Credentials: the real SDK against the fake workspace, in process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lockproof.driver.databricks_bed import SkippingClock
from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.inprocess import activate
from tofu_databricks.auth import Credentials
from tofu_databricks.backend import Backend
from tofu_databricks.cli import cli
from tofu_databricks.config import Config
from tofu_databricks.errors import BackendError, ConfigError, MalformedReply, Unauthenticated, Unavailable

SECRET = "dapi-very-secret"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeWorkspace]:
    """A fake workspace, and an environment without settings of the machine's owner."""
    for name in [name for name in os.environ if name.startswith(("DATABRICKS_", "ARM_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "databrickscfg"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no `databricks` or `az` program that could log in
    with activate(FakeWorkspace()) as found:
        yield found


def credentials(workspace: FakeWorkspace | None, deadline: float = 30.0, **settings: Any) -> Credentials:
    place = {"catalog": "c", "schema": "s", "volume": "v", "key": "k"}
    locks = {"lock_backend": "lakebase", "lakebase_project": "p"}
    host = {"host": workspace.url} if workspace else {}
    return Credentials(Config.load({**place, **locks, **host, **settings}, environ={}), deadline=deadline)


def failure_of(subject: Credentials) -> BackendError:
    with pytest.raises(BackendError) as caught:
        subject.headers()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value).replace("client_secret", "")
    return caught.value


def test_explicit_token_and_host_reach_no_network(workspace: FakeWorkspace) -> None:
    """Nothing is looked up where nothing is open."""
    subject = credentials(workspace, token=SECRET)
    assert subject.headers() == {"Authorization": f"Bearer {SECRET}"}
    assert subject.host() == workspace.url
    assert workspace.log.count == 0


def test_service_principal_gets_a_token(workspace: FakeWorkspace) -> None:
    """client_id and client_secret are exchanged once, and the token is used again."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    first = subject.headers()
    assert first["Authorization"].startswith("Bearer ey")
    assert subject.headers() == first
    assert len(workspace.log.select(path="/oidc/v1/token")) == 1


def test_wrong_secret_is_unauthenticated(workspace: FakeWorkspace) -> None:
    """What the token endpoint says is in the error, the secret is not."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    subject = credentials(workspace, client_id=client.client_id, client_secret="a-wrong-secret")
    error = failure_of(subject)
    assert type(error) is Unauthenticated
    assert "invalid_client" in str(error)


def test_environment_and_profile_are_resolved(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Host and token come from a profile, and from variables before it."""
    (tmp_path / "databrickscfg").write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = from-file\n")
    assert credentials(None).headers() == {"Authorization": "Bearer from-file"}
    monkeypatch.setenv("DATABRICKS_TOKEN", "from-env")
    monkeypatch.setenv("DATABRICKS_HOST", f"{workspace.url}/")
    subject = credentials(None)
    assert subject.headers() == {"Authorization": "Bearer from-env"}
    assert subject.host() == workspace.url


def test_explicit_token_wins_over_ambient_oauth(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the host left open, too, the SDK does not call it "more than one authorization method"."""
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "i")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "s")
    monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
    assert credentials(None, token=SECRET).headers() == {"Authorization": f"Bearer {SECRET}"}


def test_contradictory_environment_is_explained(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways to log in, none of them explicit: the error says to choose."""
    monkeypatch.setenv("DATABRICKS_TOKEN", SECRET)
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "i")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "s")
    error = failure_of(credentials(workspace))
    assert type(error) is ConfigError
    assert "unset one of them" in str(error)


def test_no_credentials_say_what_to_set(workspace: FakeWorkspace) -> None:
    """Nothing found anywhere is a matter of configuration."""
    error = failure_of(credentials(workspace))
    assert type(error) is ConfigError
    assert "no credentials: set token" in str(error)


def test_missing_profile_is_named(workspace: FakeWorkspace, tmp_path: Path) -> None:
    """A profile that is not in the file is named."""
    (tmp_path / "databrickscfg").write_text("[DEFAULT]\nhost = x\n")
    error = failure_of(credentials(workspace, profile="team"))
    assert type(error) is ConfigError
    assert "has no team profile" in str(error)


def test_missing_host_is_named(workspace: FakeWorkspace) -> None:
    """A token alone is not enough."""
    subject = credentials(None, token=SECRET)
    with pytest.raises(ConfigError, match="host is missing"):
        subject.host()


def test_host_without_a_token_endpoint_is_told(workspace: FakeWorkspace) -> None:
    """An address that is no workspace, for OAuth, is not a wrong secret."""
    workspace.add_fault(path="/.well-known/*", status=404, times=None)
    workspace.add_fault(path="/oidc/*", status=404, times=None)
    error = failure_of(credentials(workspace, client_id="i", client_secret="s"))
    assert type(error) is Unavailable
    assert "does not say where it issues tokens" in str(error)


def test_login_that_hangs_is_given_up(workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK waits for an answer without a bound; we do not."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    held = workspace.add_fault(path="/oidc/v1/token", hold=True)
    subject = credentials(workspace, deadline=1.0, client_id=client.client_id, client_secret=client.secret)
    try:
        error = failure_of(subject)
    finally:
        held.released.set()
    assert type(error) is Unavailable
    assert "did not finish within 1 s" in str(error)


def test_unreachable_login_is_unavailable(workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token endpoint that drops the connection is an outage, not a wrong secret."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    workspace.add_fault(path="/oidc/v1/token", drop=True, times=None)
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    error = failure_of(subject)
    assert type(error) is Unavailable
    assert "the request for an OAuth token: no answer" in str(error)
    assert len(workspace.log.select(path="/oidc/v1/token")) == 4


def test_threads_share_one_resolution(workspace: FakeWorkspace) -> None:
    """Many first users at once look the workspace up once: we whether it answers, the SDK what."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(subject.host())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [workspace.url] * 8
    assert len(workspace.log.select(path="/.well-known/databricks-config")) == 2


def ambient(monkeypatch: pytest.MonkeyPatch, host: str, how: str) -> None:
    """A host and credentials in the environment."""
    monkeypatch.setenv("DATABRICKS_HOST", host)
    if how == "token":
        monkeypatch.setenv("DATABRICKS_TOKEN", SECRET)
    else:
        monkeypatch.setenv("DATABRICKS_CLIENT_ID", "i")
        monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)


def test_ambient_token_reaches_no_network(workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host and a token from the environment need nothing looked up either."""
    ambient(monkeypatch, workspace.url, "token")
    subject = credentials(None)
    assert subject.headers() == {"Authorization": f"Bearer {SECRET}"}
    assert workspace.log.count == 0


def test_nobody_answering_a_login_is_named_with_its_address(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An ambient service principal without a network: the address and the reason, not the SDK's patience."""
    ambient(monkeypatch, "http://127.0.0.1:1", "service principal")
    error = failure_of(credentials(None))
    assert type(error) is Unavailable
    assert "no answer from http://127.0.0.1:1: Connection refused (tried 4 times)" in str(error)
    assert not caplog.records


def test_outage_of_the_login_is_remembered_for_a_moment(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three calls in a row do not wait for the same outage three times; one that comes later tries again."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    clock = SkippingClock()
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    subject.clock = clock
    workspace.add_fault(path="/.well-known/*", drop=True, times=None)
    first = failure_of(subject)
    asked = workspace.log.count
    again = failure_of(subject)
    assert (type(again), str(again)) == (Unavailable, str(first))
    assert workspace.log.count == asked == 4
    workspace.faults.remove()
    clock.sleep(6.0)
    assert subject.headers()["Authorization"].startswith("Bearer ey")


@pytest.mark.parametrize("how", ["token", "service principal"])
@pytest.mark.parametrize("place", ["environment", "profile"])
def test_ambient_host_with_a_password_in_it_is_refused(
    workspace: FakeWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
    place: str,
) -> None:
    """User and password in the address are refused before anything is asked, and shown nowhere."""
    host = "https://user:hunter-secret@127.0.0.1:1"
    if place == "environment":
        ambient(monkeypatch, host, how)
    else:
        login = f"token = {SECRET}" if how == "token" else f"client_id = i\nclient_secret = {SECRET}"
        (tmp_path / "databrickscfg").write_text(f"[DEFAULT]\nhost = {host}\n{login}\n")
    error = failure_of(credentials(None))
    assert type(error) is ConfigError
    assert "write the workspace's address alone" in str(error)
    assert "hunter" not in caplog.text


def test_failed_resolution_is_tried_again(workspace: FakeWorkspace, tmp_path: Path) -> None:
    """A backend that lives long recovers when the credentials are put right."""
    subject = credentials(workspace)
    failure_of(subject)
    (tmp_path / "databrickscfg").write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = later\n")
    subject.config = credentials(None).config
    assert subject.headers() == {"Authorization": "Bearer later"}


@pytest.mark.parametrize(
    ("status", "requests", "kind"),
    [(500, 4, Unavailable), (503, 4, Unavailable), (401, 1, Unauthenticated), (400, 1, Unauthenticated)],
)
def test_token_endpoint_is_asked_again_by_the_rules_of_every_call(
    workspace: FakeWorkspace, status: int, requests: int, kind: type[BackendError]
) -> None:
    """An outage of the token endpoint is retried three times and called one; a refusal is asked for once."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    subject.clock = SkippingClock()
    workspace.add_fault(path="/oidc/v1/token", status=status, times=None)
    assert type(failure_of(subject)) is kind
    assert len(workspace.log.select(path="/oidc/v1/token")) == requests


def test_refused_token_is_replaced_by_the_next_request(workspace: FakeWorkspace) -> None:
    """A token that is refused before its time, since clocks differ or it was revoked, is not sent again."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    first = subject.headers()
    subject.refused({"Authorization": "Bearer an-older-one"})
    assert subject.headers() == first
    subject.refused(first)
    second = subject.headers()
    assert second != first
    assert len(workspace.log.select(path="/oidc/v1/token")) == 2


def test_token_is_replaced_a_minute_before_its_end(workspace: FakeWorkspace) -> None:
    """Which end that is says the monotonic clock, from the moment in which the token was asked for."""
    client = workspace.directory.create_client(workspace.create_principal("robot", service=True))
    subject = credentials(workspace, client_id=client.client_id, client_secret=client.secret)
    clock = subject.clock = SkippingClock()
    first = subject.headers()
    clock.sleep(3600 - 61)
    assert subject.headers() == first
    clock.sleep(1)
    assert subject.headers() != first


def test_answer_without_a_token_is_malformed(workspace: FakeWorkspace) -> None:
    """A token endpoint that answers something else is told so."""
    subject = credentials(workspace, client_id="i", client_secret="s")
    workspace.add_fault(path="/oidc/v1/token", status=200, body={"token_type": "Bearer"})
    assert type(failure_of(subject)) is MalformedReply


@pytest.mark.parametrize(
    "token", [f"{SECRET}\n", f"{SECRET}\r\nX-Other: 1", f" {SECRET} ", f"{SECRET}\u2019"]
)
def test_variable_that_is_no_token_is_named_and_not_shown(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """A mounted secret often ends in a line break; the error says which variable to mend."""
    monkeypatch.setenv("DATABRICKS_TOKEN", token)
    error = failure_of(credentials(workspace))
    assert type(error) is ConfigError
    assert str(error).startswith("DATABRICKS_TOKEN holds ")
    assert ("line break: remove it" in str(error)) == ("\n" in token)
    assert len(workspace.log.select(path="/*")) == 0


def test_profile_whose_token_has_two_lines_is_named_and_read_again(
    workspace: FakeWorkspace, tmp_path: Path
) -> None:
    """A value that goes on in the next line; put right, it is used without a restart."""
    profile = tmp_path / "databrickscfg"
    profile.write_text(f"[team]\nhost = {workspace.url}\ntoken = {SECRET}\n  secret\n")
    subject = credentials(None, profile="team")
    error = failure_of(subject)
    assert type(error) is ConfigError
    assert str(error).startswith("the token of profile team holds a line break")
    profile.write_text(f"[team]\nhost = {workspace.url}\ntoken = {SECRET}\n")
    assert subject.headers() == {"Authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize("text", ["[DEFAULT]\ntoken {}\n", "token = {}\n", "[DEFAULT]\ntoken=1\ntoken={}\n"])
def test_malformed_profile_is_told_by_its_line_and_not_shown(
    workspace: FakeWorkspace, tmp_path: Path, text: str
) -> None:
    """The parser's own words hold the line, and that may be the one with the token."""
    profile = tmp_path / "databrickscfg"
    profile.write_text(text.format(SECRET))
    error = failure_of(credentials(None))
    assert type(error) is ConfigError
    line = 1 + text[: text.index("{")].count("\n")
    assert str(error) == f"profile: line {line} of {profile} is malformed"


@pytest.mark.parametrize("kind", ["Bearer", "Bearer\n"])
def test_issued_token_that_cannot_be_sent_is_malformed(workspace: FakeWorkspace, kind: str) -> None:
    """What the token endpoint answers is not put into a header unseen, and not shown either."""
    subject = credentials(workspace, client_id="i", client_secret="s")
    token = {"token_type": kind, "access_token": f"{SECRET}\n", "expires_in": 60}
    workspace.add_fault(path="/oidc/v1/token", status=200, body=token)
    error = failure_of(subject)
    assert type(error) is MalformedReply
    assert "holds a line break" in str(error)


def test_doctor_shows_no_token_that_cannot_be_sent(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check that needs the workspace fails with the one line; nothing is raised."""
    monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", f"{SECRET}\n")
    place = {"CATALOG": "c", "SCHEMA": "s", "VOLUME": "v", "KEY": "k"}
    result = CliRunner().invoke(cli, ["doctor"], env={f"TOFU_DATABRICKS_{n}": v for n, v in place.items()})
    assert isinstance(result.exception, SystemExit)
    assert result.output.count("DATABRICKS_TOKEN holds a line break: remove it") == 3
    assert "secret" not in result.output


def test_token_that_files_api_3_refuses_is_looked_up_again(workspace: FakeWorkspace, tmp_path: Path) -> None:
    """The other address takes the same credentials, and its refusal counts as the workspace's does."""
    profile = tmp_path / "databrickscfg"
    profile.write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = old\n")
    place = {"catalog": "c", "schema": "s", "volume": "v", "key": "k"}
    with Backend(Config.load({**place, "files_host": workspace.storage_url}, environ={})) as backend:
        files = backend.conditional
        assert files is not None
        with pytest.raises(Unauthenticated):
            files.write("/Volumes/c/s/v/k", b"state", None)
        profile.write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = new\n")
        assert files.transport.authenticate() == {"Authorization": "Bearer new"}


def test_profile_that_was_put_right_is_read_after_a_refusal(workspace: FakeWorkspace, tmp_path: Path) -> None:
    """A token of the configuration file that the workspace refuses is looked up again."""
    profile = tmp_path / "databrickscfg"
    profile.write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = old\n")
    subject = credentials(None)
    old = subject.headers()
    profile.write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = new\n")
    assert subject.headers() == old
    subject.refused(old)
    assert subject.headers() == {"Authorization": "Bearer new"}
