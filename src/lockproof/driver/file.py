"""A backend in a local directory that several processes share.

One folder per workspace holds its state, its lock and a guard:

- a state is written beside its place, flushed and renamed over the old one, so that a reader sees
  one or the other and a crash leaves one or the other;
- a lock is written beside its place and *linked* to it, which never replaces one that is there:
  whoever sees a lock sees its holder, also after a crash between the two steps;
- taking, releasing and a write that names its lock exclude each other by `flock` on the guard. The
  kernel drops that when a process dies; the lock itself stays.

OpenTofu's own local backend differs on purpose: it overwrites in place, so a crash can leave 0 bytes
(internal/states/statemgr/filesystem.go:250-274).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote

from lockproof import __version__
from lockproof.driver.api import Address, Capabilities, DriverInfo, LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked

DEFAULT = "default"
PREFIX = "ws-"  # no workspace name, however odd, becomes a special file name
LONGEST = 255  # bytes in a file name


class FileClient:
    """One process's view of a directory; the contract is `lockproof.driver.Client`'s."""

    def __init__(self, root: Path, who: str) -> None:
        self.root = root
        self.who = who

    def get(self, workspace: str) -> Snapshot | None:
        try:
            return Snapshot(self._state(workspace).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed("read the state", error, definite=True) from error

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is None:
            _replace(self._state(workspace), data)
            return
        with self._guard(workspace):
            self._require_holder(workspace, lock_id)
            _replace(self._state(workspace), data)

    def delete(self, workspace: str) -> None:
        _remove(self._state(workspace))

    def lock(self, workspace: str, info: LockInfo) -> str:
        place = self._lock(workspace)
        with self._guard(workspace):
            if place.exists():
                holder = self._holder(workspace)
                raise Locked(f"held by {holder.Who}" if holder else "held", holder=holder)
            draft = _draft(place, json.dumps(info.to_json()).encode())
            try:
                os.link(draft, place)
            except OSError as error:
                raise _failed("create the lock", error, definite=True) from error
            finally:
                draft.unlink(missing_ok=True)
            _flush_folder(place.parent)
        return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        with self._guard(workspace):
            self._require_holder(workspace, lock_id)
            _remove(self._lock(workspace))

    def workspaces(self) -> Sequence[str]:
        names = {DEFAULT}
        for folder in self.root.iterdir():
            if (folder / "state").exists():
                names.add(unquote(folder.name.removeprefix(PREFIX)))
        return sorted(names)

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace == DEFAULT:
            raise DriverError("unsupported", True, "the default workspace cannot be deleted")
        self.delete(workspace)

    def close(self) -> None:
        """Nothing to close: a lock outlives the process that took it."""

    def _folder(self, workspace: str) -> Path:
        name = PREFIX + quote(workspace, safe="")
        if len(name) > LONGEST:
            message = f"the workspace name takes {len(name)} bytes as a file name, more than {LONGEST}"
            raise DriverError("unsupported", True, message)
        return self.root / name

    def _state(self, workspace: str) -> Path:
        return self._folder(workspace) / "state"

    def _lock(self, workspace: str) -> Path:
        return self._folder(workspace) / "lock"

    def _holder(self, workspace: str) -> LockInfo | None:
        """Who holds the lock; `None` when nobody does (any more) or its file is damaged."""
        try:
            return LockInfo.from_json(json.loads(self._lock(workspace).read_bytes()))
        except (FileNotFoundError, ValueError, AttributeError):
            return None

    def _require_holder(self, workspace: str, lock_id: str) -> None:
        """Raises unless `lock_id` holds the lock. Call under the guard."""
        holder = self._holder(workspace)
        if holder is None and not self._lock(workspace).exists():
            raise NotLocked(f"workspace {workspace!r} is not locked")
        if holder is None:
            raise DriverError("malformed", True, f"the lock file of workspace {workspace!r} is damaged")
        if holder.ID != lock_id:
            raise LockMismatch(f"held by {holder.Who} under another id", holder=holder)

    @contextmanager
    def _guard(self, workspace: str) -> Iterator[None]:
        """Excludes every other holder of the guard, in this process and in others.

        The guard's file is never removed: two processes could then hold two different ones.
        """
        path = self._folder(workspace) / "guard"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class FileScope:
    """A folder of the driver's directory, removed with all that is in it when the scope closes."""

    def __init__(self, root: Path, *, attach: bool) -> None:
        self.root = root
        self.attached = attach
        if attach and not root.is_dir():
            raise DriverError("not_found", True, f"no open scope {root.name!r} to attach to")
        if not attach:
            try:
                root.mkdir(parents=True)
            except OSError as error:
                raise _failed(f"create the scope {root.name!r}", error, definite=True) from error

    def client(self, who: str) -> FileClient:
        return FileClient(self.root, who)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        if not self.attached:
            shutil.rmtree(self.root)


class FileDriver:
    """`--backend=file`: states and locks in the directory of option `path`, by default a temporary one."""

    takes_postgres = False

    def __init__(self, options: Mapping[str, str]) -> None:
        unknown = sorted(set(options) - {"path"})
        if unknown:
            raise ValueError(f"the file driver takes the option path, not {', '.join(unknown)}")
        if not options.get("path"):
            raise ValueError("the file driver needs a directory: --backend-opt path=DIRECTORY")
        self.path = Path(options["path"]).absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot use the directory {self.path}: {error.strerror}") from error
        self.info = DriverInfo("file", __version__, "a local directory", target="local")

    @staticmethod
    @contextmanager
    def provision(options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """A temporary directory for the run where none is given, removed at its end."""
        if options.get("path"):
            yield {}
            return
        with tempfile.TemporaryDirectory(prefix="lockproof-file-") as path:
            yield {"path": path}

    def capabilities(self) -> Capabilities:
        return Capabilities(
            {
                "state.delete",
                "state.large",
                "state.atomic-replace",
                "workspaces",
                "places",
                "in-process",
                "locking.holder-info",
                "locking.force-unlock",
                "locking.release-nonce",
                "locking.fencing-strict",
                "clients.process",
            }
        )

    def links(self) -> Mapping[str, Address]:
        return {}

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> FileScope:
        return FileScope(self.path / quote(name, safe=""), attach=attach)


def _replace(place: Path, data: bytes) -> None:
    """Puts `data` at `place` in one step: before it the old file is there, after it the new one."""
    draft = _draft(place, data)
    try:
        draft.replace(place)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _failed("replace the state", error, definite=False) from error
    _flush_folder(place.parent)


def _draft(place: Path, data: bytes) -> Path:
    """A flushed file with `data` beside `place`, under a name that nobody else uses."""
    draft = place.with_name(f"draft-{uuid.uuid4().hex}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise _failed("write beside the state", error, definite=True) from error
    return draft


def _remove(place: Path) -> None:
    try:
        place.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed("remove a file", error, definite=True) from error
    _flush_folder(place.parent)


def _flush_folder(folder: Path) -> None:
    """Makes the entries of `folder` survive a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failed("flush the directory", error, definite=False) from error


def _failed(what: str, error: OSError, *, definite: bool) -> DriverError:
    return DriverError("unavailable", definite, f"could not {what}: {error.strerror}")
