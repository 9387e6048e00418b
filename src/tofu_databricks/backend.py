"""The backend: workspaces of one key of one volume.

RFC "Technical Approach": StateMgr, Workspaces, DeleteWorkspace. Source of their meaning:
opentofu internal/backend/backend.go:62-124.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from requests.adapters import BaseAdapter

from tofu_databricks.auth import Credentials
from tofu_databricks.client import StateClient
from tofu_databricks.config import Config
from tofu_databricks.errors import WorkspaceError
from tofu_databricks.fenced import FencedState, states_by_head
from tofu_databricks.files_v3 import ConditionalFiles
from tofu_databricks.layout import DEFAULT, Layout
from tofu_databricks.lockrecord import LockStoreRecord
from tofu_databricks.locks import HeadStore, LockStore
from tofu_databricks.locks.delta import DeltaLocks
from tofu_databricks.locks.delta_direct import DirectDeltaLocks
from tofu_databricks.locks.delta_direct_heads import DirectDeltaHeads
from tofu_databricks.locks.delta_heads import DeltaHeads
from tofu_databricks.locks.delta_storage import CatalogStorage, GivenStorage, Storage, parse_options
from tofu_databricks.locks.warehouse import Warehouse
from tofu_databricks.published import Copies
from tofu_databricks.seams import Checkpoint, Clock, SystemClock, no_checkpoint
from tofu_databricks.statefile import has_managed_resources
from tofu_databricks.statemgr import StateManager
from tofu_databricks.transport import Transport
from tofu_databricks.volume import Volume

if TYPE_CHECKING:
    import psycopg


class Backend:
    """States and locks of one `Config`; safe to use from several threads, and a context manager.

    Making one reaches no network; the first call does. The keyword arguments replace the world for tests:
    `transport` the sockets (a `requests` adapter), `connect` the connection to Lakebase (a callable that
    opens one), `clock` the time, `checkpoint` is called before each step.
    """

    credentials_class: type[Credentials] = Credentials
    transport_class: type[Transport] = Transport
    layout_class: type[Layout] = Layout
    volume_class: type[Volume] = Volume
    client_class: type[StateClient] = StateClient
    fenced_class: type[FencedState] = FencedState
    copies_class: type[Copies] = Copies
    record_class: type[LockStoreRecord] = LockStoreRecord

    def __init__(
        self,
        config: Config,
        *,
        transport: BaseAdapter | None = None,
        connect: Callable[[], psycopg.Connection[Any]] | None = None,
        clock: Clock | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.checkpoint = checkpoint or no_checkpoint
        self.connect = connect
        self.layout = self.layout_class(config.root, config.key)
        credentials = self.credentials_class(config, clock=self.clock)
        self.transport = self.transport_class(
            credentials.host,
            credentials.headers,
            refused=credentials.refused,
            adapter=transport,
            clock=self.clock,
            checkpoint=self.checkpoint,
            retry_deadline=config.retry_deadline,
            verify=config.ca_certificate or not config.skip_cert_verification,
        )
        self.volume = self.volume_class(self.transport, config.root)
        self.conditional = self.conditional_files(credentials, transport) if config.files_host else None
        self.record = self.record_class(self.volume, self.layout.directory, config, self.files_api)
        self._mutex = threading.Lock()
        self._locks: LockStore | None = None

    @property
    def locks(self) -> LockStore:
        """The lock store; opened, and made ready, by its first use."""
        with self._mutex:
            if self._locks is None:
                self._locks = self.open_locks()
            return self._locks

    def open_locks(self) -> LockStore:
        """The lock store of this configuration; reaches no network."""
        if self.config.lock_backend == "delta":
            return (DeltaHeads if self.config.fencing == "strict" else DeltaLocks)(
                Warehouse(self.transport, self.config.warehouse_id, clock=self.clock),
                catalog=self.config.catalog,
                schema=self.config.lock_schema,
                table=self.config.lock_table,
                create_table=self.config.create_lock_table,
                clock=self.clock,
                checkpoint=self.checkpoint,
            )
        if self.config.lock_backend == "delta-direct":
            return (DirectDeltaHeads if self.config.fencing == "strict" else DirectDeltaLocks)(
                self.storage(),
                name=f"{self.config.catalog}.{self.config.lock_schema}.{self.config.lock_table}",
                create_table=self.config.create_lock_table,
                clock=self.clock,
                checkpoint=self.checkpoint,
            )
        from tofu_databricks.locks.lakebase import LakebaseLocks  # late: psycopg takes a while to import
        from tofu_databricks.locks.lakebase_heads import LakebaseHeads

        return (LakebaseHeads if self.config.fencing == "strict" else LakebaseLocks)(
            self.connect or self.connector(),
            schema=self.config.lock_schema,
            table=self.config.lock_table,
            create_table=self.config.create_lock_table,
            clock=self.clock,
            checkpoint=self.checkpoint,
        )

    def conditional_files(self, credentials: Credentials, adapter: BaseAdapter | None) -> ConditionalFiles:
        """Files API 3.0 at its own address."""
        config = self.config
        return ConditionalFiles(
            self.transport_class(
                lambda: config.files_host,
                credentials.headers,
                refused=credentials.refused,
                adapter=adapter,
                clock=self.clock,
                checkpoint=self.checkpoint,
                retry_deadline=config.retry_deadline,
                verify=config.ca_certificate or not config.skip_cert_verification,
            )
        )

    def files_api(self) -> str:
        """The newest Files API that there is here: `3.0` or `2.0`. One request where `files_host` is set.

        Raises `BackendError`s where that cannot be told just now.
        """
        if self.conditional is None or self.conditional.missing(self.record.path):
            return "2.0"
        return "3.0"

    def fenced(self, workspace: str) -> FencedState | None:
        """The state of `workspace` under strict fencing; `None` under any other."""
        if self.config.fencing != "strict":
            return None
        return self.fenced_class(
            self.volume,
            cast("HeadStore", self.locks),
            self.record,
            self.copies_class(self.volume, self.conditional, self.record),
            self.layout.path(workspace),
            self.layout.objects(workspace),
            self.clock,
            self.checkpoint,
        )

    def storage(self) -> Storage:
        """Where `delta-direct` locks are kept."""
        config = self.config
        options = parse_options(config.lock_storage_options)
        if config.lock_location:
            return GivenStorage(config.lock_location, options)
        table = f"{config.catalog}.{config.lock_schema}.{config.lock_table}"
        return CatalogStorage(self.transport.request, table, options, self.clock)

    def connector(self) -> Callable[[], psycopg.Connection[Any]]:
        """What opens connections to the Lakebase database of this configuration, as the caller."""
        from tofu_databricks.locks.connector import LakebaseConnector

        return LakebaseConnector(self.config, self.transport.request, self.clock)

    def client(self, workspace: str = DEFAULT) -> StateClient:
        """The bytes and the lock of `workspace`, which need not exist. Raises `WorkspaceError`."""
        path = self.layout.path(workspace)
        fenced = self.fenced(workspace)
        return self.client_class(self.volume, self.locks, path, self.record, self.checkpoint, fenced)

    def state_mgr(self, workspace: str = DEFAULT) -> StateManager:
        """The state manager of `workspace`; one that does not exist is made by the first persist."""
        return StateManager(self.client(workspace), self.clock, self.config.lock_timeout)

    def workspaces(self) -> list[str]:
        """All workspaces: `default` first, whether or not it has a state, then the named ones by name."""
        files = (e for e in self.volume.entries(self.layout.directory) if not e.is_directory)
        names = {self.layout.workspace(entry.name) for entry in files}
        if self.config.fencing == "strict":
            heads = states_by_head(cast("HeadStore", self.locks), self.record, f"{self.layout.directory}/")
            found = {self.layout.workspace(name): there for name, there in heads.items()}
            names = (names - found.keys()) | {name for name, there in found.items() if there}
        return [DEFAULT, *sorted(name for name in names if name is not None)]

    def delete_workspace(self, name: str, force: bool = False) -> None:
        """Removes a named workspace; one that is not there is no error. Its lock stays as it is.

        Raises `WorkspaceError` for `default`, and without `force` for one that still tracks resources; under
        strict fencing `StaleWrite` when it is written between the look at that and the deletion.
        """
        if name == DEFAULT:
            raise WorkspaceError("the default workspace cannot be deleted")
        client = self.client(name)
        fenced = client.fenced
        if force:
            fenced.delete_by_force() if fenced else client.delete()
            return
        version, data = fenced.current() if fenced else (None, client.get())
        if data and has_managed_resources(data):
            raise WorkspaceError(
                f"workspace {name!r} is not empty: it still tracks resources; "
                "destroy them first, or delete it with force and leave them behind"
            )
        fenced.delete_version(version) if fenced else client.delete()

    def close(self) -> None:
        """Drops connections; releases no lock."""
        self.transport.close()
        if self.conditional is not None:
            self.conditional.transport.close()
        with self._mutex:
            if self._locks is not None:
                self._locks.close()
                self._locks = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()
