"""Discovery, tokens and OAuth of the fake, by the real databricks-sdk."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from databricks.sdk import errors
from databricks.sdk.core import Config

from lockproof.fakes.databricks import FakeWorkspace, UnknownRoute
from lockproof.fakes.databricks.inprocess import activate
from lockproof.fakes.databricks.server import FakeServer
from lockproof.suites.meta.fake_bed import FILES, UC, VOLUME, Bed, reach

TOKEN = "/oidc/v1/token"


def oauth(bed: Bed, lifetime: float = 3600.0) -> tuple[str, str]:
    grants = {"main": ["ALL_PRIVILEGES"]}
    bed.control.create_principal("11111111-2222-3333-4444-555555555555", service=True, grants=grants)
    return bed.control.create_oauth_client("11111111-2222-3333-4444-555555555555", lifetime)


def exchange(bed: Bed, client_id: str, secret: str, **form: str) -> dict[str, Any]:
    data = {"grant_type": "client_credentials", "scope": "all-apis", **form}
    answer = bed.session.post(bed.workspace.url + TOKEN, data=data, auth=(client_id, secret), timeout=30)
    return {"status": answer.status_code, **answer.json()}


def test_config_learns_the_workspace_from_its_host(fake: Bed) -> None:
    """Making a Config fetches the host metadata: workspace id, cloud."""
    config = Config(host=fake.workspace.url, token="x", auth_type="pat")
    assert config.workspace_id == fake.workspace.id
    assert [entry.operation for entry in fake.control.requests()] == ["Host metadata"]


def test_pat_authenticates_its_principal(fake: Bed) -> None:
    """SCIM Me names the principal of the token, and the workspace in a header."""
    token = fake.control.create_principal("ada@example.com")
    me = fake.client(token).current_user.me()
    assert (me.user_name, me.display_name, me.active) == ("ada@example.com", "ada", True)
    answer = fake.http("GET", "/api/2.0/preview/scim/v2/Me")
    assert answer.json()["userName"] == "admin@example.com"
    assert answer.headers["X-Databricks-Org-Id"] == fake.workspace.id


def test_wrong_token_is_403_with_a_numeric_code(fake: Bed) -> None:
    """A wrong or expired PAT is 403 with error_code 403, which the SDK maps to PermissionDenied."""
    answer = fake.http("GET", f"{FILES}/f", token="dapi-wrong")
    assert (answer.status_code, answer.json()["error_code"]) == (403, 403)
    assert answer.json()["message"].startswith("Invalid access token. [ReqId: ")
    assert answer.headers["X-Databricks-Reason-Phrase"] == answer.json()["message"]
    with pytest.raises(errors.PermissionDenied) as caught:
        fake.client("dapi-wrong").current_user.me()
    assert str(caught.value.error_code) == "403"


@pytest.mark.parametrize("authorization", [None, "Basic YTpi", "Bearer "])
def test_missing_token_is_401(fake: Bed, authorization: str | None) -> None:
    """No credential, or one of another kind, is 401 with error_code 401."""
    headers = {"Authorization": authorization} if authorization else {}
    answer = fake.http("GET", f"{FILES}/f", token="", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (401, 401)
    assert answer.json()["message"].startswith("Credential was not sent or was of an unsupported type")


def test_token_expires_on_the_clock(fake: Bed) -> None:
    """A token with a lifetime works until the clock has passed it."""
    fake.control.freeze_clock()
    fake.control.create_principal("ada@example.com")
    token = fake.control.issue_token("ada@example.com", lifetime=60)
    fake.control.advance_clock(59)
    assert fake.http("GET", "/api/2.0/preview/scim/v2/Me", token=token).status_code == 200
    fake.control.advance_clock(1)
    assert fake.http("GET", "/api/2.0/preview/scim/v2/Me", token=token).status_code == 403


def test_tokens_can_be_expired_by_principal_and_kind(fake: Bed) -> None:
    """Expiring the tokens of one principal leaves those of others alive."""
    token = fake.control.create_principal("ada@example.com")
    assert fake.control.expire_tokens("ada@example.com") == 1
    assert fake.http("GET", "/api/2.0/preview/scim/v2/Me", token=token).status_code == 403
    assert fake.http("GET", "/api/2.0/preview/scim/v2/Me").status_code == 200
    assert fake.control.expire_tokens("ada@example.com") == 0
    assert fake.control.expire_tokens(kind="oauth") == 0
    assert fake.control.expire_tokens(kind="pat") == 1


def test_sdk_logs_in_by_client_credentials(fake: Bed) -> None:
    """oauth-m2m: discovery, one token request with HTTP Basic, then calls as the service principal."""
    client_id, secret = oauth(fake)
    client = fake.client(client_id=client_id, client_secret=secret)
    assert client.current_user.me().user_name == client_id
    assert client.config.auth_type == "oauth-m2m"
    assert client.volumes.read(VOLUME).full_name == VOLUME
    paths = [entry.path for entry in fake.control.requests()]
    assert paths.count(TOKEN) == 1
    assert paths.index("/oidc/.well-known/oauth-authorization-server") < paths.index(TOKEN)


def test_sdk_refreshes_an_oauth_token(fake: Bed) -> None:
    """With tokens that live 30 s (the SDK wants 40 s of reserve) every call fetches a new one."""
    client_id, secret = oauth(fake, lifetime=30)
    client = fake.client(client_id=client_id, client_secret=secret, disable_async_token_refresh=True)
    client.current_user.me()
    client.current_user.me()
    tokens = fake.control.requests(path=TOKEN)
    assert len(tokens) >= 2
    assert {entry.status for entry in tokens} == {200}


def test_oauth_token_expires(fake: Bed) -> None:
    """An access token is of no use after its hour."""
    token = exchange(fake, *oauth(fake))
    assert (token["status"], token["token_type"], token["expires_in"]) == (200, "Bearer", 3600)
    assert fake.http("GET", f"{FILES}/f", token=token["access_token"]).status_code == 404
    fake.control.advance_clock(3601)
    assert fake.http("GET", f"{FILES}/f", token=token["access_token"]).status_code == 403


def test_wrong_client_secret_is_one_clear_error(fake: Bed) -> None:
    """A wrong secret is 401 invalid_client with a content type, and a ValueError from the SDK."""
    client_id, _ = oauth(fake)
    answer = exchange(fake, client_id, "wrong")
    assert (answer["status"], answer["error"]) == (401, "invalid_client")
    with pytest.raises(ValueError, match=r"invalid_client.*Client authentication failed"):
        fake.client(client_id=client_id, client_secret="wrong").current_user.me()


def test_token_endpoint_knows_client_credentials_only(fake: Bed) -> None:
    """Another grant type is refused; the credentials may stand in the form."""
    client_id, secret = oauth(fake)
    assert exchange(fake, client_id, secret, grant_type="password")["error"] == "unsupported_grant_type"
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    answer = fake.session.post(fake.workspace.url + TOKEN, data=form, timeout=30)
    assert answer.status_code == 200


def test_oauth_scope_limits_what_a_token_may_do(fake: Bed) -> None:
    """A token with the scope of one API is refused by another with the recorded text."""
    token = exchange(fake, *oauth(fake), scope="files")["access_token"]
    assert fake.http("GET", f"{FILES}/f", token=token).status_code == 404
    refused = fake.http("GET", f"{UC}/catalogs", token=token)
    assert refused.status_code == 403
    assert refused.json()["message"] == "Provided OAuth token does not have required scopes: unity-catalog"


def test_secrets_of_oauth_never_reach_the_log(fake: Bed) -> None:
    """Neither client secret nor access token is in the request log."""
    client_id, secret = oauth(fake)
    token = exchange(fake, client_id, secret)["access_token"]
    fake.http("GET", f"{FILES}/f?access_token={token}", token=token)
    log = repr(fake.control.requests())
    assert secret not in log
    assert token not in log
    assert "'access_token': '***'" in log


@pytest.mark.parametrize("way", ["in-process", "server"])
def test_unknown_route_fails_with_its_name(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the fake does not have is 404 ENDPOINT_NOT_FOUND, named in the log lines and by the control."""
    with reach(way, strict=False) as fake:
        found = fake.http("POST", "/api/2.0/clusters/create", json={})
        assert found.status_code == 404
        assert found.json() == {
            "error_code": "ENDPOINT_NOT_FOUND",
            "message": "No API found for 'POST /clusters/create'",
        }
        assert "no route POST /api/2.0/clusters/create" in caplog.text
        assert fake.control.unknown_routes() == ["POST /api/2.0/clusters/create"]
        assert [entry.unknown for entry in fake.control.requests()] == [True]


def test_unknown_route_fails_the_code_that_called_it() -> None:
    """In process, an unknown route raises on leaving, also where the client swallowed the 404."""
    with (
        pytest.raises(UnknownRoute, match=r"no route for: POST /api/2\.0/clusters/create$"),
        reach("in-process") as fake,
    ):
        assert not fake.http("POST", "/api/2.0/clusters/create", json={}).ok


def test_in_process_fake_leaves_other_addresses_alone() -> None:
    """Requests to other hosts go to the network, and all do after leaving."""
    with FakeServer() as other, reach("in-process") as fake:
        assert requests.get(f"{other.url}/.well-known/databricks-config", timeout=30).status_code == 200
        assert other.workspace.log.count == 1
        assert fake.workspace.log.count == 0
        url = fake.workspace.url
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)


def test_two_fakes_in_process_need_two_addresses() -> None:
    """A second active fake under the same address is refused; under another both serve."""
    second = FakeWorkspace()
    with reach("in-process") as fake:
        with (
            pytest.raises(RuntimeError, match=r"active at https://storage.*, https://workspace"),
            activate(second),
        ):
            pass
        second.url, second.storage_url = "https://two.databricks.test", "https://two-storage.databricks.test"
        with activate(second):
            config = Config(host=second.url, token="x", auth_type="pat")
            assert config.workspace_id == second.id != fake.workspace.id
