"""Which lock store guards a state and how its writes are fenced, written down beside it.

Two clients that keep their locks in different tables exclude nothing, and of two that fence differently the
one does not see what the other wrote. So the first one that locks records its settings in the volume, and one
that is configured otherwise is refused.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tofu_databricks.config import Config
from tofu_databricks.errors import ConfigError, definite
from tofu_databricks.reply import one_line
from tofu_databricks.volume import Volume

FILE_NAME = "lock-store.json"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all clients of a key do alike under strict fencing: the Files API that publishes, and the `era`,
    which is new with each record: what belongs to another era is not of this volume's present."""

    files_api: str = ""
    era: str = ""


class LockStoreRecord:
    """The record of one key, a file in `directory`; thread-safe.

    Costs one request before each lock, and the first process of all three; a process that writes without
    having taken a lock asks once. So who runs on while others change the settings is refused with its next
    lock, but not before: all have to be stopped for that. A record without a word on fencing, as earlier
    versions wrote it, means `checked`. `files_api` says which Files API this client can publish by; it is
    asked when a record leaves or has to leave the choice to us.
    """

    def __init__(
        self, volume: Volume, directory: str, config: Config, files_api: Callable[[], str] = lambda: "2.0"
    ) -> None:
        self.volume = volume
        self.path = f"{directory}/{FILE_NAME}"
        self.config = config
        self.files_api = files_api
        self._mutex = threading.Lock()
        self._agreed: Agreement | None = None
        self._looked = False

    def require(self, *, anew: bool = False) -> Agreement:
        """Records our settings where none are recorded; `anew` as for `agreed`.

        Raises `ConfigError`, which names both, where others are, and the volume's errors; all definite,
        since no lock is taken and no state written here.
        """
        agreed = self.agreed(anew=anew)
        if agreed is not None:
            return agreed
        with self._mutex, definite():
            self.volume.create(self.path, self._ours().encode())
            return self._agree(self.volume.read(self.path) or b"")  # somebody else may have been first

    def agreed(self, *, anew: bool = False) -> Agreement | None:
        """What is recorded, `None` when nothing is; asked once, and again when it is to be `anew`. The errors
        are those of `require`."""
        with self._mutex, definite():
            if self._agreed is None or anew:
                found = self.volume.read(self.path)
                self._agreed, self._looked = None, False  # unless it still says what it said
                return None if found is None else self._agree(found)
            return self._agreed

    def refuse_others(self) -> None:
        """Raises as `require` where others have recorded other settings; records nothing, and asks once."""
        if not self._looked:
            self.agreed()
            self._looked = True

    def _agree(self, recorded: bytes) -> Agreement:
        theirs, ours = _fields(recorded.decode("utf-8", "replace")), _fields(describe(self.config))
        if "lock_backend" not in theirs:
            raise ConfigError(
                f"{self.path}, which says where locks of this state are kept, is empty, gone, or not ours: "
                "put back what it was; or stop every client and gateway of this state, make sure that the "
                f"files of its workspaces are the newest, and then delete {self.path} when nobody holds "
                "a lock"
            )
        agreement = Agreement(str(theirs.pop("files_api", "")), str(theirs.pop("era", "")))
        wanted = self.config.files_api if self.config.fencing == "strict" else ""
        if theirs != ours or wanted not in ("auto", agreement.files_api):
            current = (
                "let `tofu-databricks doctor`, with the recorded settings, say that the copy of each "
                "workspace is current, "
                if theirs.get("fencing") == "strict"
                else ""
            )
            raise ConfigError(
                f"locks of this state are kept in {_shown(theirs, agreement.files_api)}, "
                f"not in {_shown(ours, wanted)}: use the same settings; or, to change them, stop every "
                f"client and gateway of this state, {current}and then delete {self.path} when nobody "
                "holds a lock"
            )
        if agreement.files_api == "3.0" and not self.config.files_host:
            raise ConfigError(
                f"writes of this state are published by Files API 3.0 ({self.path}): set files_host, "
                "the address of that API"
            )
        self._agreed = agreement
        return agreement

    def _ours(self) -> str:
        if self.config.fencing != "strict":
            return describe(self.config)
        chosen = self.files_api() if self.config.files_api == "auto" else self.config.files_api
        ours = {**_fields(describe(self.config)), "files_api": chosen, "era": uuid.uuid4().hex}
        return json.dumps(ours) + "\n"


def describe(config: Config) -> str:
    """The lock store of `config`, and `fencing` where it is strict, as one line of JSON; equal for clients
    that exclude one another."""
    return (
        json.dumps({**_store(config), **({"fencing": "strict"} if config.fencing == "strict" else {})}) + "\n"
    )


def _store(config: Config) -> dict[str, str]:
    table = f"{config.catalog}.{config.lock_schema}.{config.lock_table}".lower()
    if config.lock_backend == "delta-direct" and config.lock_location:
        return {"lock_backend": "delta-direct", "lock_table": table, "lock_location": config.lock_location}
    if config.lock_backend in ("delta", "delta-direct"):  # the same table, hence the same locks
        return {"lock_backend": "delta", "lock_table": table}
    compute = (
        f"instances/{config.lakebase_instance}"
        if config.lakebase_instance
        else f"projects/{config.lakebase_project}/branches/{config.lakebase_branch}"
    )
    return {
        "lock_backend": config.lock_backend,
        "lakebase": compute,
        "database": config.lakebase_database,
        "lock_table": f"{config.lock_schema}.{config.lock_table}",
    }


def _shown(settings: dict[str, Any], files_api: str) -> str:
    """The settings in an error: `checked` is said there, and not in a record."""
    fencing = settings.get("fencing", "checked")
    published = {"files_api": files_api} if files_api else {}
    return one_line(json.dumps({**settings, "fencing": fencing, **published}), 600)


def _fields(line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
