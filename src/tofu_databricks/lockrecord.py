"""Which lock store guards a state, written down beside it.

Two clients that keep their locks in different tables exclude nothing. So the first one that locks records
its store in the volume, and one that is configured otherwise is refused.
"""

from __future__ import annotations

import json
import threading

from tofu_databricks.config import Config
from tofu_databricks.errors import BackendError, ConfigError
from tofu_databricks.reply import one_line
from tofu_databricks.volume import Volume

FILE_NAME = "lock-store.json"


class LockStoreRecord:
    """The record of one key, a file in `directory`; thread-safe.

    Costs a process one request before its first lock, and the first process of all three.
    """

    def __init__(self, volume: Volume, directory: str, config: Config) -> None:
        self.volume = volume
        self.path = f"{directory}/{FILE_NAME}"
        self.ours = describe(config)
        self._mutex = threading.Lock()
        self._agreed = False

    def require(self) -> None:
        """Records our lock store where none is recorded.

        Raises `ConfigError`, which names both, where another one is, and the volume's errors; all definite,
        since no lock is taken here.
        """
        with self._mutex:
            if self._agreed:
                return
            try:
                theirs = self._recorded()
            except BackendError as error:
                error.definite = True
                raise
            if theirs != self.ours:
                raise ConfigError(
                    f"locks of this state are kept in {one_line(theirs)}, not in {one_line(self.ours)}: "
                    f"use the same settings, or delete {self.path} when nobody holds a lock"
                )
            self._agreed = True

    def _recorded(self) -> str:
        found = self.volume.read(self.path)
        if found is None:
            self.volume.create(self.path, self.ours.encode())
            found = self.volume.read(self.path)  # somebody else may have been first
        return (found or b"").decode("utf-8", "replace")


def describe(config: Config) -> str:
    """The lock store of `config` as one line of JSON; equal for clients that exclude one another."""
    table = f"{config.catalog}.{config.lock_schema}.{config.lock_table}".lower()
    if config.lock_backend == "delta-direct" and config.lock_location:
        parts = {"lock_backend": "delta-direct", "lock_table": table, "lock_location": config.lock_location}
        return json.dumps(parts) + "\n"
    if config.lock_backend in ("delta", "delta-direct"):  # the same table, hence the same locks
        return json.dumps({"lock_backend": "delta", "lock_table": table}) + "\n"
    compute = (
        f"instances/{config.lakebase_instance}"
        if config.lakebase_instance
        else f"projects/{config.lakebase_project}/branches/{config.lakebase_branch}"
    )
    parts = {
        "lock_backend": config.lock_backend,
        "lakebase": compute,
        "database": config.lakebase_database,
        "lock_table": f"{config.lock_schema}.{config.lock_table}",
    }
    return json.dumps(parts) + "\n"
