"""Who calls: the SDK's unified authentication, within a bound of time.

RFC "Authentication": explicit token or service principal, then the environment, then `~/.databrickscfg`.
An explicit token with an explicit host needs nothing resolved, so the SDK stays out. Elsewhere it looks up
`/.well-known/databricks-config`, for as long as it may when nobody answers; so we ask first, by the retry
rules of every other call, and a personal access token lets it ask nothing.
"""

from __future__ import annotations

import configparser
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import requests

from tofu_databricks.config import Config, normal_host
from tofu_databricks.errors import BackendError, ConfigError, Unauthenticated, Unavailable
from tofu_databricks.oauth import ServicePrincipal
from tofu_databricks.reply import one_line
from tofu_databricks.seams import Clock, SystemClock
from tofu_databricks.transport import Transport, flaw

if TYPE_CHECKING:
    from databricks.sdk.core import Config as SdkConfig

AUTH_DEADLINE = 30.0
"""Seconds that a resolution of credentials, or a refresh, may take."""
REMEMBERED = 5.0
"""Seconds for which an outage met by a resolution is told again without another attempt."""
METADATA = "/.well-known/databricks-config"

T = TypeVar("T")


class Credentials:
    """The workspace's address and the headers that authenticate a request to it; thread-safe.

    Nothing is resolved before the first use. `host` and `headers` raise `ConfigError` (no or contradictory
    credentials), `Unauthenticated` (refused by the token endpoint) or `Unavailable`.
    """

    def __init__(
        self, config: Config, *, deadline: float = AUTH_DEADLINE, clock: Clock | None = None
    ) -> None:
        self.config = config
        self.deadline = deadline
        self.clock = clock or SystemClock()
        self.mutex = threading.Lock()
        self.sdk: SdkConfig | None = None
        self.principal: ServicePrincipal | None = None
        self.asked = ""
        self.outage = ""
        self.outage_ends = 0.0

    @property
    def direct(self) -> bool:
        """Whether nothing has to be resolved."""
        return bool(self.config.host and self.config.token)

    def host(self) -> str:
        """The workspace's address, `https://…` without a slash at the end."""
        if self.direct:
            return self.config.host
        return normal_host(str(self._resolved().host))

    def headers(self) -> Mapping[str, str]:
        """Fresh authentication headers; a token is replaced before it expires."""
        if self.direct:
            return {"Authorization": f"Bearer {self.config.token}"}
        sdk = self._resolved()
        headers = self._bounded(self.principal.headers if self.principal else sdk.authenticate)
        if fault := flaw(headers):
            self.refused(headers)  # it may have been put right when the next request looks
            raise ConfigError(f"{_origin(sdk)} {fault}")
        return headers

    def refused(self, headers: Mapping[str, str]) -> None:
        """The workspace does not accept these headers. They are not sent again: the next request looks for
        others, from the token endpoint or from wherever the SDK found these."""
        with self.mutex:
            if self.principal is not None:
                self.principal.forget(headers)
            else:
                self.sdk = None

    def _resolved(self) -> SdkConfig:
        with self.mutex:
            if self.sdk is None:
                if self.outage and self.clock.monotonic() < self.outage_ends:
                    raise Unavailable(self.outage)
                try:
                    sdk, self.principal = self._bounded(self._construct)
                except Unavailable as error:
                    self.outage, self.outage_ends = str(error), self.clock.monotonic() + REMEMBERED
                    raise
                if not sdk.host:
                    raise ConfigError(
                        "host is missing: set it, or DATABRICKS_HOST, or a profile that has one"
                    )
                self.sdk = sdk
            return self.sdk

    def _construct(self) -> tuple[SdkConfig, ServicePrincipal | None]:
        from tofu_databricks.sdkconfig import ResolvedConfig  # imported late: it takes a second

        given = {name: value for name, value in self.explicit().items() if value}
        sdk = ResolvedConfig(self._look, **given, retry_timeout_seconds=int(self.deadline))
        if sdk.auth_type != "oauth-m2m":
            return sdk, None
        principal = ServicePrincipal(sdk, self.clock, retry_deadline=self.deadline, verify=self._verify)
        return sdk, principal

    @property
    def _verify(self) -> bool | str:
        return self.config.ca_certificate or not self.config.skip_cert_verification

    def _look(self, host: str, asked: bool) -> None:
        """Raises `ConfigError` for a host that is no address, `Unavailable` for one that does not answer."""
        host = normal_host(host)
        if not asked:
            return
        self.asked = host
        probe = Transport(
            lambda: host, dict, clock=self.clock, retry_deadline=self.deadline, verify=self._verify
        )
        try:
            probe.request("GET", METADATA, what="authentication")
        except Unavailable:
            raise
        except BackendError:
            return  # it answers; what it says is for the SDK to judge
        finally:
            probe.close()

    def explicit(self) -> dict[str, Any]:
        """What the settings say, as keywords of the SDK; the empty ones are left to its chain."""
        config = self.config
        return {
            "host": config.host,
            "token": config.token,
            "client_id": config.client_id,
            "client_secret": config.client_secret,
            "profile": config.profile,
            # What is explicit wins over ambient variables of another kind, which would be "more than one
            # authorization method configured" to the SDK.
            "auth_type": "pat" if config.token else "oauth-m2m" if config.client_id else None,
        }

    def _bounded(self, call: Callable[[], T]) -> T:
        """`call()` in a thread of its own, left behind when it does not end in time: parts of the SDK's
        OAuth code have no timeout at all."""
        outcome: list[T] = []
        failure: list[Exception] = []

        def run() -> None:
            try:
                outcome.append(call())
            except Exception as error:  # noqa: BLE001 - raised again by the waiting thread
                failure.append(error)

        thread = threading.Thread(target=run, name="tofu-databricks authentication", daemon=True)
        thread.start()
        thread.join(self.deadline)
        if failure:
            raise self._explained(failure[0]) from None
        if not outcome:
            place = f" at {self.asked}" if self.asked else ""
            raise Unavailable(f"authentication{place} did not finish within {self.deadline:g} s")
        return outcome[0]

    def _explained(self, error: Exception) -> BackendError:
        """The error of the SDK in this package's terms, without its dump of the configuration."""
        if isinstance(error, BackendError):
            return error
        if isinstance(error, configparser.Error):
            return _malformed_profile(error)
        text = one_line(str(error).partition(". Config:")[0].partition(" Config: ")[0])
        if isinstance(error, requests.RequestException | TimeoutError | ConnectionError):
            return Unavailable(f"cannot reach the service that issues credentials: {type(error).__name__}")
        if "more than one authorization method" in text:
            return ConfigError(f"{text}: unset one of them, or set token or client_id and client_secret here")
        if "cannot configure default credentials" in text and (self.config.token or self.config.client_id):
            return ConfigError("host is missing: set it, or DATABRICKS_HOST, or a profile that has one")
        if "cannot configure default credentials" in text:
            return ConfigError(
                "no credentials: set token, or client_id and client_secret, or DATABRICKS_* variables, "
                "or a profile in ~/.databrickscfg"
            )
        if "profile configured" in text or "reserved section name" in text:
            return ConfigError(f"profile: {text}")
        if "Invalid URL 'None'" in text:
            return Unavailable(
                "the host does not say where it issues tokens (/.well-known/databricks-config)"
            )
        return Unauthenticated(f"authentication failed: {text}")


def _origin(sdk: SdkConfig) -> str:
    """Where the SDK has found what it authenticates with."""
    if sdk.auth_type != "pat":
        return f"the token of the authentication {sdk.auth_type}"
    if os.environ.get("DATABRICKS_TOKEN") == sdk.token:
        return "DATABRICKS_TOKEN"
    return f"the token of profile {sdk.profile or 'DEFAULT'}"


def _malformed_profile(error: configparser.Error) -> ConfigError:
    """Names the line; the parser's own words show it, and it may be the one with a secret."""
    name = os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg"
    numbers = [number for number, _ in getattr(error, "errors", ())] or [getattr(error, "lineno", None)]
    place = f"line {numbers[0]} of {name}" if numbers[0] else name
    return ConfigError(f"profile: {place} is malformed")
