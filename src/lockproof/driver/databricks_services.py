"""The fake workspaces that the reference drivers of one process share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lockproof.fakes.databricks.lakebase_service import serve_lakebase
from lockproof.fakes.databricks.latency import Latency
from lockproof.fakes.databricks.server import FakeServer
from lockproof.provision.postgres import provide_postgres
from lockproof.provision.s3 import provide_s3

LOCK_STORAGES = ("local", "s3")
Key = tuple[str | None, str, tuple[str, ...]]


class Services:
    """What the reference drivers of one process share: by Postgres, the storage of direct locks and the
    latency, a fake workspace that runs while used."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.running: dict[Key, tuple[ExitStack, Mapping[str, str]]] = {}
        self.users: Counter[Key] = Counter()

    @contextmanager
    def shared(
        self, dsn: str | None, lock_storage: str = "local", latency: Sequence[str] = ()
    ) -> Iterator[Mapping[str, str]]:
        """The options that reach the services; the last user stops them. `latency` are the arguments of
        `Latency`, none for no waiting. Raises ValueError for a storage or a latency that there is not."""
        if lock_storage not in LOCK_STORAGES:
            raise ValueError(f"lock_storage must be {' or '.join(LOCK_STORAGES)}, not {lock_storage!r}")
        key = (dsn, lock_storage, tuple(latency))
        with self.mutex:
            if key not in self.running:
                with ExitStack() as stack:
                    provisioned = self.start(stack, dsn, lock_storage, latency)
                    self.running[key] = (stack.pop_all(), provisioned)
            self.users[key] += 1
        try:
            yield self.running[key][1]
        finally:
            with self.mutex:
                self.users[key] -= 1
                if not self.users[key]:
                    self.running.pop(key)[0].close()

    def start(
        self, stack: ExitStack, dsn: str | None, lock_storage: str, latency: Sequence[str]
    ) -> Mapping[str, str]:
        waiting = Latency(*latency) if latency else None
        postgres = stack.enter_context(provide_postgres(dsn))
        fake = stack.enter_context(FakeServer())
        proxy = stack.enter_context(serve_lakebase(fake.workspace, postgres.keywords()))
        fake.workspace.latency = proxy.lakebase.latency = waiting
        if lock_storage == "s3":
            s3 = stack.enter_context(provide_s3(waiting))
            root, options = s3.location, s3.options
            fake.workspace.sql.tables.storage_options.update(options)
        else:
            root = Path(stack.enter_context(TemporaryDirectory(prefix="lockproof-locks-"))).as_uri()
            options = {}
        return {
            "host": fake.url,
            "storage": fake.storage_url,
            "token": fake.token,
            "lakebase_port": str(proxy.lakebase.port),
            "lock_root": root,
            "lock_storage_options": ",".join(f"{name}={value}" for name, value in options.items()),
        }


def profile(options: Mapping[str, str]) -> Sequence[str]:
    """The arguments of `Latency` that the options ask for, none where they ask for no waiting."""
    return [options["latency"], options.get("warehouse", "warm")] if "latency" in options else []


def simulated(options: Mapping[str, str]) -> Latency | None:
    """The latency profile that the options ask for. Raises `ValueError` for one that there is not, or that
    would reach only a part of what the backend asks."""
    if "latency" not in options:
        if "warehouse" in options:
            raise ValueError("warehouse says how warm it is under a latency profile: set latency, too")
        return None
    direct = options.get("variant") == "delta-direct"
    if direct and options.get("lock_storage") != "s3":
        raise ValueError("latency does not reach locks that are files of this machine: set lock_storage=s3")
    return Latency(*profile(options))


SERVICES = Services()
