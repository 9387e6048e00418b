"""What a client's environment must hold so that its `http` backend talks to a gateway."""

from __future__ import annotations

import math
from collections.abc import Mapping

SECRETS = ("TOFU_DATABRICKS_TOKEN", "TOFU_DATABRICKS_CLIENT_SECRET", "TOFU_DATABRICKS_GATEWAY_SECRET")

LOCKING_COMMANDS = (
    "init",
    "plan",
    "apply",
    "destroy",
    "refresh",
    "import",
    "taint",
    "untaint",
    "state_mv",
    "state_rm",
    "state_push",
    "state_replace_provider",
    "workspace_new",
    "workspace_delete",
)
"""The commands of tofu and terraform that take `-lock-timeout`, as `TF_CLI_ARGS_…` names them."""


def client_environment(
    base: Mapping[str, str], url: str, username: str, password: str, lock_timeout: float = 0.0
) -> dict[str, str]:
    """`base` with the `http` backend's settings for the state at `url`.

    Settings of that backend in `base` are replaced, and this program's own secrets left out: the client
    needs none of them. A `lock_timeout` (seconds) becomes `-lock-timeout` of every command that locks;
    one that the user gives, in the environment or on the command line, comes later and wins.
    """
    kept = {k: v for k, v in base.items() if not k.startswith("TF_HTTP_") and k not in SECRETS}
    retries = {k: v for k, v in base.items() if k.startswith("TF_HTTP_RETRY_")}
    own = {
        "TF_HTTP_ADDRESS": url,
        "TF_HTTP_LOCK_ADDRESS": url,
        "TF_HTTP_UNLOCK_ADDRESS": url,
        "TF_HTTP_UPDATE_METHOD": "POST",
        "TF_HTTP_LOCK_METHOD": "LOCK",
        "TF_HTTP_UNLOCK_METHOD": "UNLOCK",
        "TF_HTTP_USERNAME": username,
        "TF_HTTP_PASSWORD": password,
    }
    arguments = {}
    if lock_timeout > 0:
        for command in LOCKING_COMMANDS:
            name = f"TF_CLI_ARGS_{command}"
            arguments[name] = f"-lock-timeout={go_duration(lock_timeout)} {base.get(name, '')}".rstrip()
    return {**kept, **retries, **own, **arguments}


def go_duration(seconds: float) -> str:
    """`seconds` (more than 0) as Go reads a duration, without exponent: `600s`, or `1500ms` rounded up."""
    if seconds.is_integer():
        return f"{int(seconds)}s"
    return f"{math.ceil(seconds * 1000)}ms"
