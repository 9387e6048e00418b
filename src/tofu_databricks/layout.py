"""Where the state of each workspace lies in the volume.

`default` is the key's own file. A named workspace is `KEY.tofu-workspaces/NAME.tfstate`, its name
escaped so that it is one segment. No two of these paths meet, whatever the keys and names: the last
segment holds no slash, so the rest is the key, and no key may have a segment that ends in the suffix. Beside
them lie `lock-store.json` and, under strict fencing, `objects/NAME.tfstate/…`.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from tofu_databricks.config import WORKSPACES_SUFFIX
from tofu_databricks.errors import WorkspaceError

DEFAULT = "default"
STATE_SUFFIX = ".tfstate"
OBJECTS = "objects"
LONGEST_SEGMENT = 255


class Layout:
    """Paths of the states of one key; `root` is the volume's path."""

    def __init__(self, root: str, key: str) -> None:
        self.root = root
        self.key = key
        self.directory = f"{root}/{key}{WORKSPACES_SUFFIX}"

    def path(self, workspace: str) -> str:
        """Full path of the state file of `workspace`. Raises `WorkspaceError` for an impossible name."""
        if workspace == DEFAULT:
            return f"{self.root}/{self.key}"
        if not workspace:
            raise WorkspaceError("a workspace needs a name")
        try:
            segment = escape(workspace) + STATE_SUFFIX
        except UnicodeEncodeError:
            raise WorkspaceError(f"workspace name {workspace!r} is not valid Unicode") from None
        if len(segment) > LONGEST_SEGMENT:
            raise WorkspaceError(f"workspace name is too long: {workspace[:40]!r}…")
        return f"{self.directory}/{segment}"

    def objects(self, workspace: str) -> str:
        """Directory of the objects of `workspace` under strict fencing: no state of a workspace lies in it,
        nor does it bear the name of one. Raises as `path`."""
        name = f"{DEFAULT}{STATE_SUFFIX}" if workspace == DEFAULT else self.path(workspace).rpartition("/")[2]
        return f"{self.directory}/{OBJECTS}/{name}"

    def workspace(self, file_name: str) -> str | None:
        """The named workspace whose file `file_name` is; `None` for a file that is none."""
        if not file_name.endswith(STATE_SUFFIX):
            return None
        segment = file_name.removesuffix(STATE_SUFFIX)
        try:
            name = unquote(segment.replace("=", "%"), errors="strict")
            genuine = name not in {"", DEFAULT} and escape(name) == segment
        except UnicodeError:
            return None
        return name if genuine else None


def check_addressable(workspace: str) -> None:
    """Raises `WorkspaceError` for a name that cannot be one segment of a gateway's address.

    Such workspaces exist in the volume all the same: it is HTTP clients and proxies that would take
    them for another path.
    """
    if workspace in {"", ".", ".."} or any(c in "/\\" or not c.isprintable() for c in workspace):
        raise WorkspaceError(
            f"workspace {workspace!r} has no address at a gateway: a name there is not empty, '.' or '..', "
            "and holds no slash, backslash or control character"
        )


def escape(name: str) -> str:
    """`name` in letters, digits and `-._~`, everything else as `=XX`; one segment, and reversible.

    Not with percent signs: these would have to survive one decoding, and only one, by every proxy.
    """
    return quote(name, safe="").replace("%", "=")
