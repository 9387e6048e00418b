"""The copy of a state at the key's own path, for whoever reads the volume without this backend.

Under `fencing = "strict"` the state is what the head in the lock store names; `{key}` is written after it.
What `{key}` promises: once nobody writes, it is the last state. Who publishes looks at the head and publishes
what came meanwhile too, so that the last one to write leaves what is current. A process that is killed
between the two, and a publication that fails (which the log says; the write itself has succeeded), leave an
older copy until the next write; `doctor` says so.

By Files API 2.0, where a write knows no condition, a publisher that stands still may put an older copy over a
newer one, until he has looked. By 3.0 he cannot: he writes on condition of the ETag that he read before he
saw that his version is the newest, and who made a newer one has changed it. (A service that derives ETags
from contents lets him where the newer copies have come back to the very bytes of the older one.)
"""

from __future__ import annotations

from collections.abc import Callable

from tofu_databricks.errors import Unavailable
from tofu_databricks.files_v3 import ConditionalFiles
from tofu_databricks.heads import Version
from tofu_databricks.lockrecord import LockStoreRecord
from tofu_databricks.volume import Volume

ROUNDS = 8
"""How many others may come in between before we leave the copy to them."""

RESTLESS = "so many write it that the copy did not come to rest"

Newer = Callable[[Version], tuple[Version, bytes | None] | None]
"""The newest version and its bytes (`None`: it is a deletion), `None` when it is the one given."""


class Copies:
    """The copies of the states of one key; `conditional` is Files API 3.0, where its address is known, and
    the record says which API is used."""

    def __init__(self, volume: Volume, conditional: ConditionalFiles | None, record: LockStoreRecord) -> None:
        self.volume = volume
        self.conditional = conditional
        self.record = record

    def publish(self, path: str, version: Version, data: bytes | None, newer: Newer) -> None:
        """Leaves at `path` the `data` of `version` (`None`: no file), or what is `newer`.

        One look at the head; by 2.0 one request, by 3.0 two. Raises `BackendError`s, which do not concern
        the state itself.
        """
        if self.conditional is not None and self.record.require().files_api == "3.0":
            self._publish_on_condition(self.conditional, path, version, data, newer)
        else:
            self._publish_plainly(path, version, data, newer)

    def _publish_plainly(self, path: str, version: Version, data: bytes | None, newer: Newer) -> None:
        """Writes, and looks afterwards whether that was the newest."""
        for _ in range(ROUNDS):
            if data is None:
                self.volume.delete(path)
            else:
                self.volume.write(path, data)
            found = newer(version)
            if found is None:
                return
            version, data = found
        raise Unavailable(RESTLESS)

    def _publish_on_condition(
        self, files: ConditionalFiles, path: str, version: Version, data: bytes | None, newer: Newer
    ) -> None:
        """Looks, and writes if nobody else has written since before the look."""
        for _ in range(ROUNDS):
            etag = files.etag(path)
            version, data = newer(version) or (version, data)
            if files.delete(path, etag) if data is None else files.write(path, data, etag):
                return
        raise Unavailable(RESTLESS)
