"""Discovery, OAuth for machines, and who am I."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Discovery, OAuth and identity", scope=None)


@routes(
    "GET",
    "/.well-known/databricks-config",
    name="Host metadata",
    source="databricks-sdk config.py: fetched when a Config is made",
    notes="oidc_endpoint, workspace_id, cloud. Without authentication.",
)
def host_metadata(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(
        {
            "oidc_endpoint": f"{workspace.url}/oidc",
            "account_id": "00000000-0000-0000-0000-000000000000",
            "workspace_id": workspace.id,
            "cloud": workspace.fidelity.cloud.upper(),
        }
    )


@routes(
    "GET",
    "/oidc/.well-known/oauth-authorization-server",
    name="OAuth server metadata",
    source="databricks-sdk oauth.py; RFC 8414",
)
def oauth_metadata(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(
        {
            "issuer": f"{workspace.url}/oidc",
            "authorization_endpoint": f"{workspace.url}/oidc/v1/authorize",
            "token_endpoint": f"{workspace.url}/oidc/v1/token",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": ["all-apis"],
        }
    )


@routes(
    "POST",
    "/oidc/v1/token",
    name="OAuth token",
    source="databricks-sdk oauth.py ClientCredentials; RFC 6749 §4.4 and §5.2",
    notes="Client credentials, by HTTP Basic or in the form. Wrong client: 401 invalid_client (text "
    "inferred from RFC 6749). The token expires on the fake's clock after the client's lifetime, 3600 s "
    "by default.",
)
def oauth_token(workspace: FakeWorkspace, request: Request) -> Response:
    form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
    client_id, secret = _basic(request) or (form.get("client_id", ""), form.get("client_secret", ""))
    client = workspace.directory.clients.get(client_id)
    if client is None or client.secret != secret:
        return _oauth_error(401, "invalid_client", "Client authentication failed")
    if form.get("grant_type") != "client_credentials":
        return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
    scope = form.get("scope", "all-apis")
    token = workspace.directory.issue(
        client.principal, lifetime=client.lifetime, kind="oauth", scopes=frozenset(scope.split())
    )
    return Response.of_json(
        {
            "access_token": token.value,
            "token_type": "Bearer",
            "expires_in": int(client.lifetime),
            "scope": scope,
        }
    )


@routes(
    "GET",
    "/api/2.0/preview/scim/v2/Me",
    name="Who am I (SCIM Me)",
    source="databricks-sdk current_user.me; RFC 7643 User",
    notes="Any valid token; the workspace id is in X-Databricks-Org-Id.",
    scope="scim",
)
def scim_me(workspace: FakeWorkspace, request: Request) -> Response:
    caller = request.caller
    body = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "id": caller.id,
        "userName": caller.name,
        "displayName": caller.display_name,
        "active": True,
        "emails": [] if caller.service else [{"type": "work", "value": caller.name, "primary": True}],
        "groups": [{"display": "admins", "type": "direct", "value": "1"}] if caller.admin else [],
    }
    return Response.of_json(body, headers={"Content-Type": "application/scim+json"})


def _basic(request: Request) -> tuple[str, str] | None:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, secret


def _oauth_error(status: int, error: str, description: str) -> Response:
    """The SDK reads the Content-Type of an error and fails with KeyError where there is none."""
    return Response.of_json({"error": error, "error_description": description}, status)
