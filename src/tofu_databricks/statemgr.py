"""The state manager of one workspace, with the semantics of OpenTofu's `statemgr.Full`.

Source: opentofu internal/states/remote/state.go and internal/states/statemgr/{locker,migrate}.go. Two
departures, both where the original loses data:

- a persist that finds a state which nobody has refreshed raises `StaleWrite`; the original then puts the
  old bytes back and reports success (remote/state.go:213-231);
- a state that was imported or migrated into an empty workspace keeps its lineage and serial; the original
  makes up new ones.
"""

from __future__ import annotations

import copy
import threading
import uuid

from tofu_databricks.client import StateClient
from tofu_databricks.errors import InvalidImport, StaleWrite, StateLocked
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.seams import Clock
from tofu_databricks.statefile import State, StateFile, empty_state, is_empty

FIRST_DELAY = 1.0
LONGEST_DELAY = 16.0


class StateManager:
    """State in memory, state in storage, and the lock between; every method holds one mutex.

    `lock_timeout`, in seconds, is how long `lock` waits for a held lock. All methods raise `BackendError`s.
    """

    def __init__(self, client: StateClient, clock: Clock, lock_timeout: float = 0.0) -> None:
        self.client = client
        self.clock = clock
        self.lock_timeout = lock_timeout
        self.lineage = ""
        self.serial = 0
        self.terraform_version = ""
        self.lock_id: str | None = None
        self._mutex = threading.RLock()
        self._state: State | None = None
        self._read: StateFile | None = None

    def state(self) -> State | None:
        """A copy of the state as it is in memory, `None` when there is none."""
        with self._mutex:
            return copy.deepcopy(self._state)

    def state_file(self) -> StateFile:
        """The state in memory with its lineage and serial. Source: remote/state.go, StateForMigration."""
        with self._mutex:
            return StateFile(self.state() or empty_state(), self.lineage, self.serial, self.terraform_version)

    def output_values(self) -> dict[str, object]:
        """The root module's outputs by name, refreshed first when nothing has been read yet."""
        with self._mutex:
            if self._state is None:
                self.refresh_state()
            outputs = (self._state or empty_state()).get("outputs") or {}
            return {name: copy.deepcopy(output.get("value")) for name, output in outputs.items()}

    def write_state(self, state: State) -> None:
        """Takes over a copy of `state` in memory; storage is not touched."""
        with self._mutex:
            self._state = copy.deepcopy(state)

    def write_state_for_migration(self, file: StateFile, force: bool = False) -> None:
        """Takes over a state with its lineage and serial.

        Raises `InvalidImport` unless `force` when that would put it over an unrelated or newer one.
        """
        with self._mutex:
            if not force:
                check_valid_import(file, self.state_file())
            self._state = copy.deepcopy(file.state)
            self.lineage = file.lineage
            self.serial = file.serial
            self.terraform_version = file.terraform_version or self.terraform_version

    def refresh_state(self) -> None:
        """Reads storage. With no state there, lineage and serial are reset and the memory stays."""
        with self._mutex:
            self._refreshed(self._fetch())

    def persist_state(self) -> None:
        """Writes storage if anything changed, with the next serial; without a lock, or under the one held.

        The first state of a workspace gets a new lineage and serial 1. Raises `StaleWrite` when storage
        has a state that was never read, `LockMismatch` or `LockNotHeld` when the lock was lost. After a
        failed write the serial stays increased, as in the original.
        """
        with self._mutex:
            if self._state is None:
                return
            if self._read is None:
                self._begin()
            elif self._unchanged(self._read):
                return
            else:
                self.serial += 1
            file = self.state_file()
            self.client.put(file.to_bytes(), lock_id=self.lock_id)
            self._read = file

    def lock(self, info: LockInfo) -> str:
        """Takes the lock and returns its id, waiting up to `lock_timeout` while another holds it.

        Tries again after 1, 2, 4, 8, 16, 16 … seconds (locker.go, LockWithContext) and then raises the last
        `StateLocked`. Any other error is raised at once.
        """
        deadline = self.clock.monotonic() + self.lock_timeout
        delay = FIRST_DELAY
        while True:
            try:
                lock_id = self.client.lock(info)
            except StateLocked:
                left = deadline - self.clock.monotonic()
                if left <= 0:
                    raise
                self.clock.sleep(min(delay, left))
                if delay >= left:
                    raise
                delay = min(delay * 2, LONGEST_DELAY)
                continue
            with self._mutex:
                self.lock_id = lock_id
            return lock_id

    def unlock(self, lock_id: str) -> None:
        """Releases the lock under `lock_id`, this manager's own or (force-unlock) another's.

        Waits for a write of this manager that is under way.
        """
        with self._mutex:
            self.client.unlock(lock_id)
            if self.lock_id == lock_id:
                self.lock_id = None

    def _fetch(self) -> StateFile | None:
        data = self.client.get()
        return StateFile.parse(data) if data else None  # no bytes at all are no state

    def _refreshed(self, file: StateFile | None) -> None:
        self._read = copy.deepcopy(file)
        self.lineage, self.serial = (file.lineage, file.serial) if file else ("", 0)
        if file:
            self._state = file.state
            self.terraform_version = file.terraform_version

    def _begin(self) -> None:
        """The lineage and serial of a workspace's first state."""
        if self._fetch() is not None:
            raise StaleWrite("the workspace has a state by now that was not read: refresh before writing")
        if not self.lineage:
            self.lineage = str(uuid.uuid4())
            self.serial = 1

    def _unchanged(self, read: StateFile) -> bool:
        return (
            bool(read.lineage and read.serial)
            and (self.lineage, self.serial) == (read.lineage, read.serial)
            and self._state == read.state
        )


def check_valid_import(new: StateFile, existing: StateFile) -> None:
    """Raises `InvalidImport` unless `new` may replace `existing`.

    Source: opentofu internal/states/statemgr/migrate.go:183-217, with its messages.
    """
    if is_empty(existing.state) or not new.lineage or not existing.lineage:
        return
    if new.lineage != existing.lineage:
        raise InvalidImport(
            f'cannot import state with lineage "{new.lineage}" '
            f'over unrelated state with lineage "{existing.lineage}"'
        )
    if new.serial < existing.serial:
        raise InvalidImport(
            f"cannot import state with serial {new.serial} over newer state with serial {existing.serial}"
        )
    if new.serial == existing.serial and new.state != existing.state:
        raise InvalidImport(
            f"cannot overwrite existing state with serial {existing.serial} "
            "with a different state that has the same serial"
        )
