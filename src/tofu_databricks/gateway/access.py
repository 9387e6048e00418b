"""Who may talk to the gateway: one secret, as basic auth or as a bearer token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from tofu_databricks.gateway.replies import Refusal

CHALLENGE = {"WWW-Authenticate": 'Basic realm="tofu-databricks", charset="UTF-8"'}


@dataclass(frozen=True)
class Access:
    """The secret that a client must show, as basic auth with `username` or as a bearer token.

    Without a secret only requests that no browser page can have made are let in: a page open on the
    same machine can reach a loopback address too.
    """

    secret: str | None = field(default=None, repr=False)
    username: str = "tofu"

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises `Refusal` 401 where credentials are missing, 403 where they are wrong.

        Terraform shows the two as "requires auth" and "invalid auth". Source: opentofu
        internal/backend/remote-state/http/client.go, Lock and Get.
        """
        if self.secret is None:
            if "origin" in headers or not is_loopback(host_name(headers.get("host", ""))):
                raise Refusal(403, "without a secret the gateway answers only local programs, no web pages")
            return
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            allowed = same(value.strip(), self.secret)
        elif scheme.lower() == "basic":
            name, _, password = decode_basic(value).partition(":")
            allowed = same(name, self.username) & same(password, self.secret)
        else:
            raise Refusal(401, "the gateway requires its username and password, or a bearer token", CHALLENGE)
        if not allowed:
            raise Refusal(403, "the gateway does not accept this username, password or token")


def decode_basic(value: str) -> str:
    """`user:password` of a basic auth header, empty when it is malformed."""
    try:
        return base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def same(given: str, expected: str) -> bool:
    """Whether both are equal, in a time that tells nothing about either."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, expected))
    return hmac.compare_digest(*digests)


def host_name(header: str) -> str:
    """The host of a `Host` header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an IP address) is this machine and reachable only from it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
