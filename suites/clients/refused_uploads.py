"""Stock clients whose uploads of the state can be refused, on a link of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from lockproof.chaos.proxy import Answer, Armed, FaultProxy, Link, Which
from lockproof.driver.api import Address
from lockproof.driver.command_line import CommandLine, HasCommandLine
from lockproof.driver.recorder import RecordedScope
from lockproof.plugin.fixtures import Backend
from lockproof.spec.outcome import Unknown
from lockproof.suites.clients.stock_clients import Workshop

DENIED = Answer(
    403, {"Content-Type": "application/json"}, b'{"error_code":"PERMISSION_DENIED","message":"no"}'
)
FILES = "/api/*/fs/files/*"


class RefusingWorkshop(Workshop):
    """A workshop whose clients reach the backend through a proxy, which can refuse what they upload."""

    def __init__(self, backend: Backend, scope: RecordedScope, directory: Path) -> None:
        super().__init__(scope, directory)
        self.backend = backend
        self.upload = Which()
        self.link: Link | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            proxy = self.stack.enter_context(FaultProxy())
            self.line = self.detour(proxy)
        except BaseException:
            self.stack.close()
            raise
        return self

    def detour(self, proxy: FaultProxy) -> CommandLine:
        """The command line through the proxy."""
        driver, address = self.backend.driver, self.line.environment.get("TF_HTTP_ADDRESS", "")
        if not address:  # through a gateway of its own, which reaches the service over the driver's links
            self.link = proxy.stand_before(driver.links()["workspace"], "http")
            self.upload = Which("PUT", FILES, times=None)
            scope = driver.open_scope(self.scope.name, {"workspace": self.link.address}, attach=True)
            attached = self.stack.enter_context(scope)
            assert isinstance(attached, HasCommandLine)
            return attached.command_line("default")
        parts = urlsplit(address)
        self.link = proxy.stand_before(Address(parts.hostname or "", parts.port or 80), "http")
        self.upload = Which(self.line.environment.get("TF_HTTP_UPDATE_METHOD", "POST"), times=None)
        here = f"{self.link.address.host}:{self.link.address.port}"
        environment = {
            name: urlsplit(value)._replace(netloc=here).geturl() if name.endswith("ADDRESS") else value
            for name, value in self.line.environment.items()
        }
        return replace(self.line, environment=environment)

    @contextmanager
    def refusing_uploads(self) -> Iterator[Armed]:
        """Within it every upload is answered with 403 and does not happen. Raises `Unknown` when there was
        none."""
        assert self.link is not None
        armed = self.link.arm(DENIED, self.upload)
        try:
            yield armed
        finally:
            armed.disarm()
        if not armed.hits:
            raise Unknown("nobody uploaded a state while uploads were refused")
