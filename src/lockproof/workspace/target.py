"""Which workspace a run is aimed at, and as whom.

Everything that says where states and locks will lie is named explicitly; who calls is found by the unified
authentication of the Databricks SDK (environment, profile, OAuth), since a secret has no place on a command
line or in a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tofu_databricks.auth import Credentials
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config, duration
from tofu_databricks.errors import ConfigError, MalformedReply
from tofu_databricks.seams import Checkpoint, Clock
from tofu_databricks.transport import decode_object

SECRETS = ("token", "client_id", "client_secret")
WHERE = ("catalog", "schema", "volume")
LAKEBASE = ("project", "branch", "endpoint", "instance", "database", "user", "host", "port", "sslmode")
SETTINGS = (
    *("host", "profile", "ca_certificate", "warehouse_id", "lock_schema", "lock_table"),
    *("fencing", "files_api", "files_host"),
    *(f"lakebase_{name}" for name in LAKEBASE),
    *WHERE,
)
"""Options that are settings of the backend, under its own names (`tofu_databricks.config.Config`)."""
OPTIONS = (*SETTINGS, "variant", "run", "lifetime", "max_requests", "keep")
ALONE = tuple(name for name in OPTIONS if name not in {"variant", "fencing", "files_api"})
"""Those that the driver of the fake does not have."""
VARIANTS = ("lakebase", "delta")
LIFETIME = "24h"
RUN = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
ME = "/api/2.0/preview/scim/v2/Me"


class Target:
    """One workspace, with a place in it, and the lock backend of one variant; reaches nothing when made.

    `options` are those of `--backend-opt`. Raises `ValueError`, one line, for one that is unknown, missing,
    malformed or secret.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        for name in SECRETS:
            if name in options:
                raise ValueError(
                    f"option {name}: credentials come from the environment (DATABRICKS_TOKEN, or "
                    "DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET) or from a profile, not from an option"
                )
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ValueError(f"a real workspace has no option {unknown[0]} (known: {', '.join(OPTIONS)})")
        self.options = dict(options)
        self.variant = options.get("variant", VARIANTS[0])
        if self.variant not in VARIANTS:
            raise ValueError(
                f"databricks:{self.variant} cannot be aimed at a real workspace; "
                f"choose {' or '.join(f'databricks:{name}' for name in VARIANTS)}"
            )
        self._require_named()
        self.lifetime = self._lifetime()
        self.max_requests = self._max_requests()
        run = options.get("run", "")
        if run and not RUN.fullmatch(run):
            raise ValueError(f"run must be up to 40 lower-case letters, digits and _, not {run!r}")
        try:
            self.base = Config.load(self.settings("doctor"), environ={})
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def _require_named(self) -> None:
        wanted = [*WHERE, *(["warehouse_id"] if self.variant == "delta" else [])]
        missing = [name for name in wanted if not self.options.get(name)]
        named = self.options.get("lakebase_project") or self.options.get("lakebase_instance")
        if self.variant == "lakebase" and not named:
            missing.append("lakebase_project (or lakebase_instance)")
        if missing:
            raise ValueError(
                f"a real workspace needs {', '.join(missing)}: --backend-opt {missing[0].partition(' ')[0]}=…"
            )

    def _lifetime(self) -> float:
        text = self.options.get("lifetime", LIFETIME)
        try:
            seconds = duration(text)
        except ValueError as error:
            raise ValueError(f"lifetime: {error}") from None
        if not seconds:
            raise ValueError("lifetime: a run that has expired at its start could be swept away at any time")
        return seconds

    def _max_requests(self) -> int | None:
        text = self.options.get("max_requests")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and int(text)):
            raise ValueError(f"max_requests must be a number of requests, at least 1, not {text!r}")
        return int(text)

    def settings(self, run: str) -> dict[str, Any]:
        """The settings of a client of that run, but for its key and who it is."""
        given = {name: value for name, value in self.options.items() if name in SETTINGS}
        own = f"lockproof_{run}"
        if "lock_table" in given:  # somebody else's: rows alone are ours
            locks: dict[str, Any] = {"create_lock_table": False}
        elif self.variant == "lakebase":
            locks = {"lock_table": own, "lock_schema": given.get("lock_schema", own)}
        else:
            locks = {"lock_table": own}
        return {**given, "key": f"lockproof/run-{run}/{run}", "lock_backend": self.variant, **locks}

    @cached_property
    def credentials(self) -> Credentials:
        """Who calls; resolved once in each process, and refreshed from then on."""
        return Credentials(self.base)

    def backend(
        self,
        run: str,
        *,
        clock: Clock | None = None,
        checkpoint: Checkpoint | None = None,
        **overrides: Any,
    ) -> Backend:
        """The reference backend as a client of that run has it. Raises what resolving credentials does."""
        return self.opened(self.config(run, **overrides), clock=clock, checkpoint=checkpoint)

    def config(self, run: str, **overrides: Any) -> Config:
        """The settings of a client, the workspace's address among them."""
        host = overrides.pop("host", None) or self.credentials.host()
        return Config.load({**self.settings(run), "host": host, **overrides}, environ={})

    def opened(
        self, config: Config, *, clock: Clock | None = None, checkpoint: Checkpoint | None = None
    ) -> Backend:
        """A backend at the address that `config` names, which may be a link's, as the workspace's caller."""
        shared = self.credentials

        class Caller(Credentials):
            """The credentials of this process, whatever address a client reaches the workspace by."""

            def host(self) -> str:
                return self.config.host

            def headers(self) -> Mapping[str, str]:
                return shared.headers()

            def refused(self, headers: Mapping[str, str]) -> None:
                shared.refused(headers)

        class CallersBackend(Backend):
            credentials_class = Caller

        return CallersBackend(config, clock=clock, checkpoint=checkpoint)


def caller(backend: Backend) -> dict[str, Any]:
    """Who calls, as the workspace knows them: a SCIM user with its `userName` and `groups`.

    Raises `BackendError`s. Source: docs.databricks.com/api/workspace/currentuser/me.
    """
    found = decode_object(backend.transport.request("GET", ME, what="asking who we are"), "who we are")
    if not isinstance(found.get("userName"), str) or not found["userName"]:
        raise MalformedReply("the workspace does not say who the caller is")
    return found
