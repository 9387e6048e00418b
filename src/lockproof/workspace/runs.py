"""What a run makes in a workspace: a prefix of the volume with a marker in it, and locks that bear its name.

The marker says whose the run is and when it may be swept away. It is written before anything else and
removed after everything else, so that whatever is left can be told apart from what is not ours.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from lockproof.workspace.locks import remove_locks
from lockproof.workspace.target import RUN, Target, caller
from tofu_databricks.backend import Backend
from tofu_databricks.errors import InvalidRequest, NotFound
from tofu_databricks.volume import DIRECTORIES, DIRECTORY_NOT_FOUND, Volume, encode

FOLDER = "lockproof"
PREFIX = "run-"
MARKER = "lockproof-run.json"
PASSES = 3
"""A request of a client that was given up may arrive while its directory is being emptied."""


class NotOurs(Exception):
    """A prefix holds what this run has not made; the text is one line. Nothing was changed."""


@dataclass(frozen=True)
class Run:
    """A run as its marker tells of it; times are aware. `nonce` tells a run from another of the same id."""

    id: str
    owner: str
    created: datetime
    expires: datetime
    lock_backend: str
    lock_table: str
    nonce: str

    @classmethod
    def begin(cls, target: Target, run_id: str, owner: str, now: datetime) -> Self:
        """A new run of `owner`, who lets it live as long as the target's options say."""
        settings = target.settings(run_id)
        return cls(
            run_id,
            owner,
            now,
            now + timedelta(seconds=target.lifetime),
            target.variant,
            str(settings.get("lock_table", "")),
            secrets.token_hex(16),
        )

    @classmethod
    def read(cls, data: bytes) -> Self | None:
        """The run that a marker tells of, `None` for bytes that are no marker."""
        try:
            document = json.loads(data)
            begun, ends = (datetime.fromisoformat(document.pop(name)) for name in ("created", "expires"))
            found = cls(**document, created=begun, expires=ends)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        texts = (found.id, found.owner, found.lock_backend, found.lock_table, found.nonce)
        aware = begun.tzinfo is not None and ends.tzinfo is not None
        return found if aware and all(isinstance(text, str) for text in texts) else None

    def marker(self) -> bytes:
        """What stands in the marker's file."""
        times = {"created": self.created.isoformat(), "expires": self.expires.isoformat()}
        return (json.dumps({**vars(self), **times}, indent=2) + "\n").encode()

    def expired(self, now: datetime) -> bool:
        """Whether it may be swept away by anybody who can."""
        return now >= self.expires


def new_id(now: datetime) -> str:
    """A run id that nobody else has: when it began, and a random part."""
    return f"{now:%Y%m%dt%H%M%S}_{secrets.token_hex(3)}"


def path_of(volume: Volume, run_id: str) -> str:
    """The prefix of a run."""
    return f"{volume.root}/{FOLDER}/{PREFIX}{run_id}"


def claim(target: Target, backend: Backend, run_id: str) -> Run:
    """Begins a run under a prefix where there is nothing. Raises `NotOurs`, and `BackendError`s."""
    volume = backend.volume
    path = path_of(volume, run_id)
    if next(volume.entries(path), None) is not None:
        found = Run.read(volume.read(f"{path}/{MARKER}") or b"")
        whose = f"run {found.id} of {found.owner}" if found else "files without a marker of ours"
        raise NotOurs(f"{path} is not empty, it holds {whose}: choose another --backend-opt run=ID")
    run = Run.begin(target, run_id, str(caller(backend)["userName"]), datetime.now(UTC))
    volume.create(f"{path}/{MARKER}", run.marker())
    require_marker(volume, run)  # somebody else may have been first
    return run


def require_marker(volume: Volume, run: Run) -> None:
    """Raises `NotOurs` unless the marker that lies under the run's prefix is this run's."""
    path = f"{path_of(volume, run.id)}/{MARKER}"
    found = Run.read(volume.read(path) or b"")
    if found is None or found.nonce != run.nonce or found.id != run.id:
        raise NotOurs(f"{path} is gone or of another run: nothing there is removed")


def remove(target: Target, backend: Backend, run: Run) -> None:
    """Removes all that the run has made, and nothing else: its locks, its files, and its marker last.

    Raises `NotOurs` when the marker is not the run's, and `BackendError`s; then the marker is still there.
    """
    require_marker(backend.volume, run)
    path = path_of(backend.volume, run.id)
    remove_locks(target, backend, run.id, path)
    for _ in range(PASSES):
        empty_directory(backend, path, spare=MARKER)
        if all(entry.name == MARKER for entry in backend.volume.entries(path)):
            break
    backend.volume.delete(f"{path}/{MARKER}")
    remove_directory(backend, path)


def empty_directory(backend: Backend, path: str, *, spare: str = "") -> None:
    """Deletes what is in a directory, at any depth, but for a file named `spare` directly in it."""
    for entry in list(backend.volume.entries(path)):
        below = f"{path}/{entry.name}"
        if entry.is_directory:
            empty_directory(backend, below)
            remove_directory(backend, below)
        elif entry.name != spare:
            backend.volume.delete(below)


def remove_directory(backend: Backend, path: str) -> None:
    """Deletes a directory that is empty; one that is not there, or no longer empty, is no error."""
    try:
        backend.transport.request("DELETE", DIRECTORIES + encode(path), what=f"removing {path}")
    except NotFound as error:
        if error.reason != DIRECTORY_NOT_FOUND:
            raise backend.volume.missing(error) from None
    except InvalidRequest as error:
        if error.reason != "FILES_API_DIRECTORY_IS_NOT_EMPTY":
            raise


def leftovers(backend: Backend) -> Iterator[tuple[str, Run | None]]:
    """The runs of the volume by their id, those that go on among them; without a marker of ours `None`."""
    folder = f"{backend.volume.root}/{FOLDER}"
    names = sorted(entry.name for entry in backend.volume.entries(folder) if entry.is_directory)
    for name in names:
        run_id = name.removeprefix(PREFIX)
        if name == run_id:
            continue
        run = Run.read(backend.volume.read(f"{folder}/{name}/{MARKER}") or b"")
        named = run is not None and run.id == run_id and RUN.fullmatch(run_id)
        yield run_id, run if named else None
