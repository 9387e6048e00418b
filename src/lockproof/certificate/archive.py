"""The histories of a run in one file that is the same for the same histories."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

ARCHIVE = "histories.tar.gz"


class ArchiveError(ValueError):
    """A file that is no archive of histories; the message says what is wrong."""


def pack(histories: Path, archive: Path) -> None:
    """Writes all histories of a folder into an archive, without anything of who packed it, and when."""
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(histories.glob("*.jsonl")):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)


def unpack(archive: Path, into: Path) -> None:
    """Writes the histories into a folder. Raises `ArchiveError`, also for a member that is no plain file
    with a history's name: an archive may come from anybody."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None or Path(entry.name).name != entry.name or entry.name[-6:] != ".jsonl":
                    raise ArchiveError(f"{entry.name!r} is no history")
                (into / entry.name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as failure:
        raise ArchiveError(f"not an archive of histories: {failure}") from None
