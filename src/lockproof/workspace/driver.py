"""`--backend=databricks --backend-real`: the reference backend on a workspace that exists.

Without a test bed, and only faults of a client's own links and processes: the suite can look at nothing but
what a client sees.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import click

import tofu_databricks
from lockproof.driver.api import Address, Capabilities, DriverInfo
from lockproof.driver.command_line import CommandLine
from lockproof.driver.databricks import DatabricksClient, address_of, authority_of, url_of, volume_name
from lockproof.driver.databricks_bed import SteeredClock
from lockproof.workspace import runs
from lockproof.workspace.budget import RequestBudget
from lockproof.workspace.runs import NotOurs
from lockproof.workspace.target import Target
from tofu_databricks.config import ENV_PREFIX, Config
from tofu_databricks.errors import BackendError
from tofu_databricks.locks.connector import LakebaseConnector
from tofu_databricks.seams import no_checkpoint

PROVISIONED = ("claimed", "found_host", "spent")
CREDENTIALS = re.compile(r"(DATABRICKS|ARM|GOOGLE|AZURE)_\w+|HOME|REQUESTS_CA_BUNDLE|SSL_CERT_(FILE|DIR)")
"""Variables that a stock client's gateway authenticates by, and trusts the workspace by."""


class RealDatabricksDriver:
    """The reference backend under test, on a real workspace.

    Options are those of `Target`, and what `provision` yields: `claimed` (the run's id), `found_host` (where
    Lakebase is) and `spent` (the file in which requests are counted). States lie below
    `/Volumes/CATALOG/SCHEMA/VOLUME/lockproof/run-ID/`, one directory for each scope.
    """

    takes_postgres = False

    def __init__(self, options: Mapping[str, str]) -> None:
        self.target = Target({name: value for name, value in options.items() if name not in PROVISIONED})
        self.run = options["claimed"]
        self.lakebase_host = options.get("found_host", "")
        self.budget = (
            None
            if self.target.max_requests is None
            else RequestBudget(self.target.max_requests, options["spent"])
        )
        self.host = self.target.credentials.host()
        self._clocks: defaultdict[tuple[str, str], SteeredClock] = defaultdict(SteeredClock)
        fencing = ", strict fencing" if self.target.base.fencing == "strict" else ""
        self.info = DriverInfo(
            "databricks",
            tofu_databricks.__version__,
            f"tofu_databricks, locks in {self.target.variant}{fencing}, "
            f"{self.host}, {self.target.base.root}, run {self.run}",
            url=self.host,
            target="real",
        )

    @staticmethod
    @contextmanager
    def provision(options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Claims a prefix of the volume for the run, and on exit removes what the run has made.

        Raises `ValueError` for options, `NotOurs` for a prefix where something is, and `BackendError`s. What
        cannot be removed is told in a line on standard error, with the command that does it.
        """
        target = Target(options)
        run_id = options.get("run") or runs.new_id(datetime.now(UTC))
        with target.backend(run_id) as backend, tempfile.TemporaryDirectory(prefix="lockproof-") as folder:
            found_host = (
                LakebaseConnector(backend.config, backend.transport.request).host()
                if target.variant == "lakebase"
                else ""
            )
            run = runs.claim(target, backend, run_id)
            spent = os.path.join(folder, "requests")
            with open(spent, "xb"):
                pass
            try:
                yield {"claimed": run.id, "found_host": found_host, "spent": spent}
            finally:
                _end(target, run)

    def capabilities(self) -> Capabilities:
        """A client of another program counts no requests, so that a budget leaves stock clients out."""
        return Capabilities(
            {
                "state.delete",
                "state.large",
                "state.atomic-replace",
                "workspaces",
                "places",
                "locking.holder-info",
                "locking.force-unlock",
                "locking.release-nonce",
                "locking.fencing",
                "clients.clock",
                "clients.process",
                "databricks",
                *(("http",) if self.budget is None else ()),
                *(("locking.fencing-strict",) if self.target.base.fencing == "strict" else ()),
                *(("locking.delta",) if self.target.variant == "delta" else ()),
            }
        )

    def links(self) -> Mapping[str, Address]:
        base = self.target.base
        trusted = base.ca_certificate or None
        found = {"workspace": replace(address_of(self.host), ca_file=trusted)}
        if base.files_host:
            found["storage"] = replace(address_of(base.files_host), ca_file=trusted)
        if self.target.variant == "lakebase":
            found["postgres"] = Address(
                self.lakebase_host,
                base.lakebase_port,
                tls=base.lakebase_sslmode != "disable",
                server_name=self.lakebase_host,
                protocol="postgres",
                ca_file=trusted,
            )
        return found

    def clock(self, scope: str, who: str) -> SteeredClock:
        """The clock of the clients of that name, in this process."""
        return self._clocks[scope, who]

    def exhausted(self) -> str:
        """Why a test that begins now could not make its calls; empty when it could."""
        budget = self.budget
        return budget.reason if budget is not None and budget.asked >= budget.limit else ""

    def overdrawn(self) -> str:
        """Why calls were refused that the backend has never seen; empty when none was."""
        budget = self.budget
        return budget.reason if budget is not None and budget.asked > budget.limit else ""

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> RealScope:
        return RealScope(self, name, links or {}, attach=attach)


class RealScope:
    """A directory below the run's prefix, emptied and removed on exit; its locks go with the run's."""

    def __init__(
        self, driver: RealDatabricksDriver, name: str, links: Mapping[str, Address], *, attach: bool
    ) -> None:
        self.driver = driver
        self.name = name
        self.links = {**driver.links(), **links}
        self.attach = attach
        self.directory = f"{runs.FOLDER}/{runs.PREFIX}{driver.run}/{volume_name(name)}"

    def config(self) -> Config:
        """The settings of a client of this scope, as a user would write them."""
        over = {"host": url_of(self.links["workspace"]), "key": f"{self.directory}/terraform.tfstate"}
        if "storage" in self.links:
            over["files_host"] = url_of(self.links["storage"])
        if "postgres" in self.links:
            over["lakebase_host"] = self.links["postgres"].host
            over["lakebase_port"] = str(self.links["postgres"].port)
        if authority := authority_of(self.links):
            over["ca_certificate"] = authority
        return self.driver.target.config(self.driver.run, **over)

    def client(self, who: str) -> DatabricksClient:
        driver = self.driver
        checkpoint = driver.budget.spend if driver.budget is not None else no_checkpoint
        clock = driver.clock(self.name, who)
        return DatabricksClient(driver.target.opened(self.config(), clock=clock, checkpoint=checkpoint))

    def command_line(self, workspace: str) -> CommandLine:
        """Stock clients go through `tofu-databricks exec`, which finds the caller's credentials itself."""
        config = self.config()
        settings = {
            f"{ENV_PREFIX}{option.name.upper()}": str(getattr(config, option.name))
            for option in fields(config)
            if option.type in {"str", "int"} and getattr(config, option.name) != option.default
        }
        ambient = {name: value for name, value in os.environ.items() if CREDENTIALS.fullmatch(name)}
        program = (sys.executable, "-m", "tofu_databricks.cli", "exec", "--workspace", workspace, "--")
        return CommandLine(program, {**ambient, **settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        if self.attach:
            return
        # Past links, faults and budget.
        with self.driver.target.backend(self.driver.run) as backend:
            path = f"{backend.volume.root}/{self.directory}"
            runs.empty_directory(backend, path)
            runs.remove_directory(backend, path)


def _end(target: Target, run: runs.Run) -> None:
    if target.options.get("keep") == "true":
        return
    try:
        with target.backend(run.id) as fresh:
            runs.remove(target, fresh, run)
    except (BackendError, NotOurs) as error:
        click.echo(
            f"lockproof: what run {run.id} has made could not be removed: {error}; "
            f"later: lockproof sweep --backend=databricks:{target.variant} --backend-real "
            f"--run {run.id} --delete",
            err=True,
        )
