"""The reference backend as it would be with the bugs that were reported of others."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.broken_databricks import Broken
from tofu_databricks.errors import MalformedReply
from tofu_databricks.transport import Guard
from tofu_databricks.volume import Volume

register = Register(__name__, "faults", only=("FAULT-REP-010",))
SABOTEURS = register.saboteurs


class VolumeWithDigests(Volume):
    """Keeps the digest of what was written last, and gives out nothing else."""

    digests: ClassVar[dict[str, bytes]] = {}

    def write(self, path: str, data: bytes, guard: Guard | None = None) -> None:
        super().write(path, data, guard)
        self.digests[path] = hashlib.sha256(data).digest()

    def read(self, path: str) -> bytes | None:
        data = super().read(path)
        if path in self.digests and hashlib.sha256(data or b"").digest() != self.digests[path]:
            raise MalformedReply("the state does not have the expected content")
        return data


@register.breaks("FAULT-REP-010")
class KeepsTheDigest(Broken):
    """A digest of the state is kept beside the locks; who removes the state's file by hand is told that it is
    not what was expected, and not which file (hashicorp/terraform#20708)."""

    parts: ClassVar = {"volume_class": VolumeWithDigests}
