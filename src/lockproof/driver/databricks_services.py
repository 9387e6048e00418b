"""The fake workspaces that the reference drivers of one process share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lockproof.fakes.databricks.lakebase_service import serve_lakebase
from lockproof.fakes.databricks.server import FakeServer
from lockproof.provision.postgres import provide_postgres
from lockproof.provision.s3 import provide_s3

LOCK_STORAGES = ("local", "s3")


class Services:
    """What the reference drivers of one process share: by Postgres and the storage of direct locks, a fake
    workspace that runs while used."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.running: dict[tuple[str | None, str], tuple[ExitStack, Mapping[str, str]]] = {}
        self.users: Counter[tuple[str | None, str]] = Counter()

    @contextmanager
    def shared(self, dsn: str | None, lock_storage: str = "local") -> Iterator[Mapping[str, str]]:
        """The options that reach the services; the last user stops them. Raises ValueError for a storage
        that there is not."""
        if lock_storage not in LOCK_STORAGES:
            raise ValueError(f"lock_storage must be {' or '.join(LOCK_STORAGES)}, not {lock_storage!r}")
        key = (dsn, lock_storage)
        with self.mutex:
            if key not in self.running:
                with ExitStack() as stack:
                    provisioned = self.start(stack, dsn, lock_storage)
                    self.running[key] = (stack.pop_all(), provisioned)
            self.users[key] += 1
        try:
            yield self.running[key][1]
        finally:
            with self.mutex:
                self.users[key] -= 1
                if not self.users[key]:
                    self.running.pop(key)[0].close()

    def start(self, stack: ExitStack, dsn: str | None, lock_storage: str) -> Mapping[str, str]:
        postgres = stack.enter_context(provide_postgres(dsn))
        fake = stack.enter_context(FakeServer())
        proxy = stack.enter_context(serve_lakebase(fake.workspace, postgres.keywords()))
        if lock_storage == "s3":
            s3 = stack.enter_context(provide_s3())
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


SERVICES = Services()
