"""Who may call: principals, personal access tokens, OAuth clients and their tokens."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field

from lockproof.fakes.databricks.clock import VirtualClock

OAUTH_LIFETIME = 3600.0


@dataclass
class Principal:
    """A user (name is an e-mail) or a service principal (name is its application id).

    `admin` may do everything. Everybody else needs grants.
    """

    name: str
    admin: bool = False
    service: bool = False
    display_name: str = ""
    id: str = field(default_factory=lambda: str(secrets.randbelow(9 * 10**15) + 10**15))


@dataclass
class Token:
    """A bearer token: `expires` in the fake's epoch seconds, None = never; `scopes` of an OAuth token."""

    value: str
    principal: Principal
    expires: float | None
    kind: str
    scopes: frozenset[str] = frozenset({"all-apis"})


@dataclass
class OAuthClient:
    """Client credentials of a service principal. `lifetime`: seconds that its tokens live."""

    client_id: str
    secret: str
    principal: Principal
    lifetime: float = OAUTH_LIFETIME


class Directory:
    """The workspace's principals and what authenticates them."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.principals: dict[str, Principal] = {}
        self.tokens: dict[str, Token] = {}
        self.clients: dict[str, OAuthClient] = {}

    def create(self, name: str, *, admin: bool = False, service: bool = False) -> Principal:
        """Raises ValueError when the name is taken."""
        if name in self.principals:
            raise ValueError(f"principal {name!r} exists already")
        principal = Principal(name, admin, service, display_name=name.partition("@")[0])
        self.principals[name] = principal
        return principal

    def issue(
        self,
        principal: Principal,
        *,
        lifetime: float | None = None,
        kind: str = "pat",
        scopes: frozenset[str] = frozenset({"all-apis"}),
    ) -> Token:
        """A new token that lives `lifetime` seconds of the fake's clock (None: for ever)."""
        prefix = "dapi" if kind == "pat" else "eyfake."
        expires = None if lifetime is None else self.clock.time() + lifetime
        token = Token(prefix + secrets.token_hex(16), principal, expires, kind, scopes)
        self.tokens[token.value] = token
        return token

    def create_client(self, principal: Principal, *, lifetime: float = OAUTH_LIFETIME) -> OAuthClient:
        """Client credentials; the client id is a service principal's application id."""
        client_id = principal.name if principal.service else str(uuid.uuid4())
        client = OAuthClient(client_id, "dose" + secrets.token_hex(16), principal, lifetime)
        self.clients[client_id] = client
        return client

    def find(self, value: str) -> Token | None:
        """The token when it is known and has not expired."""
        token = self.tokens.get(value)
        if token is None or (token.expires is not None and token.expires <= self.clock.time()):
            return None
        return token

    def expire(self, *, principal: str | None = None, kind: str | None = None) -> int:
        """Expires the matching tokens now; returns how many."""
        hit = [
            token
            for token in self.tokens.values()
            if principal in (None, token.principal.name)
            and kind in (None, token.kind)
            and self.find(token.value) is not None
        ]
        for token in hit:
            token.expires = self.clock.time()
        return len(hit)
