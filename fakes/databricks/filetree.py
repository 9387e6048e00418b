"""The files and directories of one volume. Paths are relative to the volume's root; "" is the root."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lockproof.fakes.databricks import errors


@dataclass
class File:
    """`version`: the workspace's counter when the content was written; `modified`: epoch seconds."""

    data: bytes
    modified: float
    version: int


@dataclass
class Folder:
    modified: float
    children: dict[str, File | Folder] = field(default_factory=dict)


@dataclass
class Ghost:
    """What stood at a path before its last change (None: nothing), and how many reads still see that."""

    file: File | None
    reads_left: int


class FileTree:
    """Object storage with directories. All errors are the Files API's answers (`ApiError`)."""

    def __init__(self, now: float) -> None:
        self.root = Folder(now)
        self.ghosts: dict[str, Ghost] = {}
        self.ever_held_a_file = False

    # --- reading ---

    def read(self, path: str, *, stale: bool = False) -> File:
        """The file. `stale`: what stood there before the last change."""
        ghost = self.ghosts.get(path)
        if ghost is not None and (stale or ghost.reads_left > 0):
            ghost.reads_left = max(0, ghost.reads_left - 1)
            if ghost.file is None:
                raise errors.file_not_found()
            return ghost.file
        node = self._find(path)
        if not isinstance(node, File):
            raise errors.file_not_found()
        return node

    def folder(self, path: str) -> Folder:
        node = self._find(path)
        if not isinstance(node, Folder):
            raise errors.directory_not_found()
        return node

    def listing(self, path: str, *, stale: bool = False) -> dict[str, File | Folder]:
        """What the directory holds, by name. `stale`: as if the last change of each file had not happened."""
        children = self.folder(path).children
        if not stale:
            return children
        seen = dict(children)
        for changed, ghost in self.ghosts.items():
            head, _, name = changed.rpartition("/")
            if head == path and ghost.file is None:
                seen.pop(name, None)
            elif head == path and ghost.file is not None:
                seen[name] = ghost.file
        return seen

    def file_at(self, path: str) -> File | None:
        node = self._find(path)
        return node if isinstance(node, File) else None

    def is_empty(self) -> bool:
        return not self.root.children

    # --- changing ---

    def write(
        self,
        path: str,
        data: bytes,
        now: float,
        version: int,
        *,
        overwrite: bool = True,
        unseen_since: int | None = None,
        parents: bool = True,
        stale_reads: int = 0,
    ) -> None:
        """Stores a whole file; readers see the old content or the new one.

        `overwrite=False` refuses an existing file. `unseen_since`: files written after that version are not
        seen by that check (a create that is not atomic). `parents=False`: a missing directory is an error.
        `stale_reads`: how many reads still see what was there before.
        """
        head, _, name = path.rpartition("/")
        folder = self.make_folder(head, now) if parents else self.folder(head)
        node = folder.children.get(name)
        if isinstance(node, Folder):
            raise errors.path_is_a_directory()
        visible = node is not None and (unseen_since is None or node.version <= unseen_since)
        if visible and not overwrite:
            raise errors.file_exists()
        self.ghosts[path] = Ghost(node, stale_reads)
        folder.children[name] = File(data, now, version)
        self.ever_held_a_file = True

    def make_folder(self, path: str, now: float) -> Folder:
        """`mkdir -p`."""
        folder = self.root
        for part in _parts(path):
            node = folder.children.get(part)
            if isinstance(node, File):
                raise errors.path_is_a_file()
            if node is None:
                node = folder.children[part] = Folder(now)
            folder = node
        return folder

    def delete_file(self, path: str, *, vanishing: bool = False, stale_reads: int = 0) -> None:
        """`vanishing`: directories disappear with their last child."""
        head, _, name = path.rpartition("/")
        parent = self._find(head)
        node = parent.children.get(name) if isinstance(parent, Folder) else None
        if not isinstance(parent, Folder) or not isinstance(node, File):
            raise errors.file_not_found()
        self.ghosts[path] = Ghost(node, stale_reads)
        del parent.children[name]
        while vanishing and head and not parent.children:
            head, _, name = head.rpartition("/")
            parent = self.folder(head)
            del parent.children[name]

    def delete_folder(self, path: str) -> None:
        if self.folder(path).children:
            raise errors.directory_not_empty()
        if path:
            head, _, name = path.rpartition("/")
            del self.folder(head).children[name]

    def files(self) -> Iterator[tuple[str, File]]:
        """Every file with its path."""
        stack: list[tuple[str, Folder]] = [("", self.root)]
        while stack:
            prefix, folder = stack.pop()
            for name, node in folder.children.items():
                if isinstance(node, File):
                    yield prefix + name, node
                else:
                    stack.append((f"{prefix}{name}/", node))

    def _find(self, path: str) -> File | Folder | None:
        node: File | Folder = self.root
        for part in _parts(path):
            child = node.children.get(part) if isinstance(node, Folder) else None
            if child is None:
                return None
            node = child
        return node


def _parts(path: str) -> list[str]:
    return path.split("/") if path else []
