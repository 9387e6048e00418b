"""The options of the `http` driver, checked."""

from __future__ import annotations

import base64
import ipaddress
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, cast, get_args
from urllib.parse import quote, urlsplit, urlunsplit

from lockproof.driver.api import Address, Capabilities, Target

METHODS = {"update_method": "POST", "lock_method": "LOCK", "unlock_method": "UNLOCK"}
OPTIONS = frozenset(
    {
        *("address", "lock_address", "unlock_address", *METHODS),
        *("username", "password", "password_file", "bearer", "bearer_file"),
        *("ca", "timeout", "target", "lacks", "claims"),
    }
)
OFFERED = Capabilities(
    {
        *("state.delete", "state.large", "state.atomic-replace"),
        *("locking.holder-info", "locking.force-unlock", "locking.release-nonce"),
        *("clients.process", "http"),
    }
)
"""What the protocol asks of every server."""
LEFT_TO_SERVERS = Capabilities({"locking.fencing"})
"""What a server may do with what it is sent, or not."""


@dataclass(frozen=True)
class Settings:
    """The options, checked. `ca`: what `requests` takes as `verify`."""

    address: str
    lock_address: str
    unlock_address: str
    update_method: str = "POST"
    lock_method: str = "LOCK"
    unlock_method: str = "UNLOCK"
    authorization: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    ca: str | bool = True
    timeout: float = 30.0
    target: Target = "local"
    capabilities: Capabilities = OFFERED

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Self:
        """Raises `ValueError`, one line, for an option that is unknown, missing or malformed."""
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            have = ", ".join(sorted(OPTIONS))
            raise ValueError(f"the http driver has no option {unknown[0]}; it has {have}")
        address = options.get("address", "")
        addresses = [address, options.get("lock_address", address), options.get("unlock_address", address)]
        for template in addresses:
            check_template(template)
        if len({("{workspace}" in template, "{scope}" in template) for template in addresses}) > 1:
            raise ValueError("address, lock_address and unlock_address must have the same placeholders")
        ca = options.get("ca")
        if ca is not None and not Path(ca).is_file():
            raise ValueError(f"option ca: there is no file {ca}")
        try:
            timeout = float(options.get("timeout", "30"))
        except ValueError:
            timeout = 0.0
        if not 0 < timeout <= threading.TIMEOUT_MAX:  # refuses NaN as well
            raise ValueError(f"option timeout: {options['timeout']!r} is not a number of seconds")
        update, lock, unlock = (options.get(name, default).upper() for name, default in METHODS.items())
        basic = basic_of(options)
        return cls(
            address=addresses[0],
            lock_address=addresses[1],
            unlock_address=addresses[2],
            update_method=update,
            lock_method=lock,
            unlock_method=unlock,
            authorization=authorization(options, basic),
            basic=basic,
            ca=ca or True,
            timeout=timeout,
            target=target_of(options, urlsplit(address).hostname),
            capabilities=capabilities_of(options, scoped="{scope}" in address),
        )

    def placed(self, scope: str, detour: Address | None) -> Self:
        """The settings of one key space, reached by way of `detour` when there is one."""

        def place(template: str) -> str:
            if detour is not None:
                scheme = "https" if detour.tls else "http"
                netloc = f"{detour.host}:{detour.port}"
                template = urlunsplit(urlsplit(template)._replace(scheme=scheme, netloc=netloc))
            return template.replace("{scope}", quote(scope, safe=""))

        return replace(
            self,
            address=place(self.address),
            lock_address=place(self.lock_address),
            unlock_address=place(self.unlock_address),
            ca=(detour.ca_file if detour is not None else None) or self.ca,
        )


def basic_of(options: Mapping[str, str]) -> tuple[str, str] | None:
    """Username and password, where given. Raises `ValueError` when one is missing."""
    username, password = options.get("username"), secret_of(options, "password")
    if username is None and password is None:
        return None
    if username is None or password is None:
        raise ValueError("options username and password (or password_file) come together")
    return username, password


def authorization(options: Mapping[str, str], basic: tuple[str, str] | None) -> str | None:
    """The `Authorization` header that the options ask for. Raises `ValueError`."""
    bearer = secret_of(options, "bearer")
    if bearer is not None and basic is not None:
        raise ValueError("options bearer and username/password exclude each other")
    if bearer is not None:
        return f"Bearer {bearer}"
    return None if basic is None else "Basic " + base64.b64encode(":".join(basic).encode()).decode()


def secret_of(options: Mapping[str, str], name: str) -> str | None:
    """The option `name`, or the text of the file that `NAME_file` names. Raises `ValueError`."""
    path = options.get(f"{name}_file")
    if path is None:
        return options.get(name)
    if name in options:
        raise ValueError(f"options {name} and {name}_file exclude each other")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"option {name}_file: {path}: {error.strerror}") from None


def check_template(template: str) -> None:
    """Raises `ValueError` unless `template` is an http(s) address with known placeholders alone."""
    try:
        parts = urlsplit(template)
        _ = parts.port
    except ValueError as failure:
        raise ValueError(f"an address of the http driver is malformed: {failure}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the http driver needs a full http:// or https:// address: --backend=http:URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no credentials in the address: use the options username and password_file")
    rest = template.replace("{scope}", "").replace("{workspace}", "")
    if "{" in rest or "}" in rest:
        raise ValueError("an address has the placeholders {scope} and {workspace} and no others")


def capabilities_of(options: Mapping[str, str], *, scoped: bool) -> Capabilities:
    """What the server is taken to do, after the options `lacks` and `claims`. Raises `ValueError`."""
    offered = OFFERED | ({"places"} if scoped else set())
    lacks = names_in(options, "lacks", OFFERED | {"places"} | LEFT_TO_SERVERS)
    claims = names_in(options, "claims", OFFERED | LEFT_TO_SERVERS)
    if both := sorted(lacks & claims):
        raise ValueError(f"options lacks and claims both name {both[0]}")
    return Capabilities(name for name in offered | claims if not Capabilities([name]) & lacks)


def names_in(options: Mapping[str, str], option: str, known: frozenset[str]) -> frozenset[str]:
    """The capabilities that a comma-separated option names. Raises `ValueError` for one not in `known`."""
    names = {name.strip() for name in options.get(option, "").split(",")} - {""}
    if unknown := sorted(names - known):
        have = ", ".join(sorted(known))
        raise ValueError(
            f"option {option}: no capability of this driver is named {unknown[0]!r}; it has {have}"
        )
    return frozenset(names)


def target_of(options: Mapping[str, str], host: str | None) -> Target:
    """What kind of server it is, as a report's first line says. Raises `ValueError`."""
    given = options.get("target")
    if given is None:
        return "local" if is_loopback(host or "") else "real"
    if given not in get_args(Target):
        raise ValueError(f"option target: {given!r} is not one of {', '.join(get_args(Target))}")
    return cast("Target", given)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
