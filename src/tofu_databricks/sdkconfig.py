"""The SDK's configuration, without its minutes of asking a host that does not answer.

Imported late: the SDK takes a second. Source of what is replaced: databricks-sdk 0.156 to 0.162,
`Config._resolve_host_metadata`, which asks `/.well-known/databricks-config` again and again, says in a log
line what went wrong, and goes on as if nothing had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from databricks.sdk.core import Config

Config.attributes()  # found by the class that is asked first; a subclass would find none


class ResolvedConfig(Config):
    """The SDK's chain of sources; `look(host, asked)` is called before it asks the host anything.

    `look` raises what is wrong with the host. A host with a personal access token is not `asked`: the SDK
    would use nothing of the answer.
    """

    def __init__(self, look: Callable[[str, bool], None], **keywords: Any) -> None:
        self._look = look
        super().__init__(**keywords)

    def _resolve_host_metadata(self) -> None:
        if not self.host:
            return
        asked = not self.token or self.auth_type not in {None, "", "pat"}
        self._look(self.host, asked)
        if asked:
            super()._resolve_host_metadata()
