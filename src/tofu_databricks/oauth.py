"""The token of a service principal, by OAuth's client credentials grant (RFC 6749 section 4.4).

The SDK finds out where tokens are issued and to whom. It asks for one without a time-out or a retry, takes a
503 for a refusal, and judges a token's end by the machine's clock, also when that was set back meanwhile
(databricks-sdk 0.156 to 0.162, oauth.py `retrieve_token` and `Refreshable`). So we ask, by the retry rules of
every other call.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from tofu_databricks.errors import InvalidRequest, MalformedReply, Unauthenticated
from tofu_databricks.seams import Clock
from tofu_databricks.transport import Transport, decode_object, flaw

if TYPE_CHECKING:
    from databricks.sdk.core import Config as SdkConfig

REFRESH_BEFORE = 60.0
"""Seconds of life below which a token is used for no other request."""
WHAT = "the request for an OAuth token"


class ServicePrincipal:
    """The headers that authenticate as the service principal of `sdk`; thread-safe.

    A token is asked for when the first request needs one, and used again until it is about to end, by the
    monotonic clock, or until it was refused.
    """

    def __init__(self, sdk: SdkConfig, clock: Clock, *, retry_deadline: float, verify: bool | str) -> None:
        endpoint = sdk.databricks_oidc_endpoints
        address = urlsplit(endpoint.token_endpoint if endpoint else "")
        name = base64.b64encode(f"{sdk.client_id}:{sdk.client_secret}".encode()).decode()
        self.clock = clock
        self._path = address.path
        self._transport = Transport(
            lambda: f"{address.scheme}://{address.netloc}",
            lambda: {"Authorization": f"Basic {name}"},
            clock=clock,
            retry_deadline=retry_deadline,
            verify=verify,
        )
        given = {
            "grant_type": "client_credentials",
            "scope": sdk.get_scopes_as_string(),
            "authorization_details": sdk.authorization_details,
            "assume_group": sdk.group_id,
        }
        self._form = urlencode({key: value for key, value in given.items() if value}).encode()
        self._mutex = threading.Lock()
        self._headers: Mapping[str, str] = {}
        self._good_until = 0.0

    def headers(self) -> Mapping[str, str]:
        """Raises `Unauthenticated` for a client that is not known, and the transport's errors."""
        with self._mutex:
            if not self._headers or self.clock.monotonic() >= self._good_until:
                self._headers, self._good_until = self._fresh()
            return self._headers

    def forget(self, headers: Mapping[str, str]) -> None:
        """These headers were refused: they are given out no more."""
        with self._mutex:
            if self._headers == headers:
                self._headers = {}

    def _fresh(self) -> tuple[Mapping[str, str], float]:
        asked = self.clock.monotonic()
        try:
            reply = self._transport.request(
                "POST",
                self._path,
                data=self._form,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                what=WHAT,
                read_only=True,  # a token that nobody uses does no harm
            )
        except InvalidRequest as error:
            raise Unauthenticated(f"authentication failed: {error}") from error
        found = decode_object(reply, WHAT)
        try:
            headers = {"Authorization": f"{found['token_type']} {found['access_token']}"}
            lifetime = float(found["expires_in"])
        except (KeyError, TypeError, ValueError):
            raise MalformedReply(f"{WHAT} was answered without a token, or without its end") from None
        if fault := flaw(headers):
            raise MalformedReply(f"{WHAT} was answered with a token that {fault.partition(':')[0]}")
        return headers, asked + lifetime - min(REFRESH_BEFORE, lifetime / 2)
