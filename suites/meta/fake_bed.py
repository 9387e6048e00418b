"""The fake Databricks under test, reached in process or over a server, always by real clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.core import Config

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.inprocess import activate
from lockproof.fakes.databricks.server import FakeServer

VOLUME = "main.default.v"
ROOT = "/Volumes/main/default/v"
FILES = f"/api/2.0/fs/files{ROOT}"
DIRECTORIES = f"/api/2.0/fs/directories{ROOT}"
UC = "/api/2.1/unity-catalog"


class Naps(Clock):
    """The SDK's clock for tests: sleeping takes no time and is written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def time(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class Bed:
    """One fake with the volume `main.default.v`. `control` speaks the way that the client does."""

    workspace: FakeWorkspace
    control: FakeControl
    naps: Naps = field(default_factory=Naps)
    session: requests.Session = field(default_factory=requests.Session)

    def client(self, token: str | None = None, **settings: Any) -> WorkspaceClient:
        """A real `WorkspaceClient`, by default with the admin's token; it waits on `naps`.

        Other `settings` that are attributes of `Config` without being its arguments are set on it.
        """
        if "client_id" not in settings:
            settings.setdefault("auth_type", "pat")
            settings["token"] = token or self.workspace.token
        knobs = {name: settings.pop(name) for name in list(settings) if name.startswith("files_ext_")}
        config = Config(host=self.workspace.url, clock=self.naps, **settings)
        for name, value in knobs.items():
            setattr(config, name, value)
        return WorkspaceClient(config=config)

    def http(self, method: str, path: str, *, token: str | None = None, **options: Any) -> requests.Response:
        """A plain request to the workspace, by default with the admin's token; `token=""`: without any."""
        headers = dict(options.pop("headers", {}))
        if token != "":
            headers.setdefault("Authorization", f"Bearer {token or self.workspace.token}")
        return self.session.request(method, self.workspace.url + path, headers=headers, timeout=30, **options)


def reach(way: str, *, strict: bool = True) -> AbstractContextManager[Bed]:
    """The bed, `in-process` or over a `server`. `strict`: an unknown route is an error of the test."""
    return _in_process(strict) if way == "in-process" else _served(strict)


@contextmanager
def _in_process(strict: bool) -> Iterator[Bed]:
    workspace = FakeWorkspace()
    workspace.create_volume(VOLUME)
    with activate(workspace, strict=strict), requests.Session() as session:
        yield Bed(workspace, FakeControl(workspace), session=session)


@contextmanager
def _served(strict: bool) -> Iterator[Bed]:
    with FakeServer() as server, requests.Session() as session:
        server.workspace.create_volume(VOLUME)
        yield Bed(server.workspace, FakeControl(server.url), session=session)
        assert not (strict and server.workspace.unknown_routes())
