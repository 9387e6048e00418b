"""The reference backend with its authentication broken in one way each."""

from __future__ import annotations

import configparser
import os
from typing import Any, ClassVar

from lockproof.driver.databricks import DatabricksScope
from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.broken_databricks import Broken
from tofu_databricks.auth import Credentials
from tofu_databricks.config import Config
from tofu_databricks.errors import (
    BackendError,
    PermissionDenied,
    Unauthenticated,
)
from tofu_databricks.reply import Reply
from tofu_databricks.transport import Transport

register = Register(__name__, "databricks")
SABOTEURS = register.saboteurs


# --- Who calls


class BlurringTransport(Transport):
    def request(self, *args: Any, **keywords: Any) -> Reply:
        try:
            return super().request(*args, **keywords)
        except Unauthenticated:
            raise PermissionDenied("the call is not permitted") from None


@register.breaks("DBX-AUTH-001")
class BlursForbidden(Broken):
    """Every 403 is a missing grant."""

    parts: ClassVar = {"transport_class": BlurringTransport}


class AmbientCredentials(Credentials):
    @property
    def direct(self) -> bool:
        return super().direct and "DATABRICKS_CLIENT_ID" not in os.environ

    def explicit(self) -> dict[str, Any]:
        return {**super().explicit(), "auth_type": None}


@register.breaks("DBX-AUTH-002", "DBX-AUTH-004")
class MixesCredentials(Broken):
    """Ambient credentials are mixed with explicit ones."""

    parts: ClassVar = {"credentials_class": AmbientCredentials}


class FileCredentials(Credentials):
    def explicit(self) -> dict[str, Any]:
        found = super().explicit()
        file = configparser.ConfigParser()
        file.read(os.environ.get("DATABRICKS_CONFIG_FILE", ""))
        return found if found["token"] or found["profile"] else {**found, **file.defaults()}


@register.breaks("DBX-AUTH-003")
class PrefersFile(Broken):
    """The configuration file comes before the environment."""

    parts: ClassVar = {"credentials_class": FileCredentials}


class TokenCredentials(Credentials):
    def explicit(self) -> dict[str, Any]:
        return {
            name: value for name, value in super().explicit().items() if name in {"host", "token", "profile"}
        }


@register.breaks("DBX-AUTH-004", "DBX-AUTH-002")
class IgnoresServicePrincipal(Broken):
    """client_id and client_secret are not used."""

    parts: ClassVar = {"credentials_class": TokenCredentials}


class TalkativeTransport(Transport):
    def request(self, *args: Any, **keywords: Any) -> Reply:
        try:
            return super().request(*args, **keywords)
        except BackendError as error:
            error.args = (f"{error} (sent with {dict(self.authenticate())})",)
            raise


@register.breaks("DBX-AUTH-005")
class ShowsHeaders(Broken):
    """An error shows the headers of the request."""

    parts: ClassVar = {"transport_class": TalkativeTransport}


class LiteralScope(DatabricksScope):
    def config(self, **overrides: Any) -> Config:
        literal = {
            name: value.replace("${env:", "${ENV:") if isinstance(value, str) else value
            for name, value in overrides.items()
        }
        return super().config(**literal)


@register.breaks("DBX-CONF-001")
class TakesReferencesLiterally(Broken):
    """`${env:NAME}` is the token."""

    scope_class = LiteralScope
