"""Our side of a supervisor process: starts it, tells it what to do, and lets it end."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import select
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockproof.provision import binaries, supervisor

SUPERUSER = "lockproof"
REPLY_SECONDS = 90.0


class Unusable(Exception):
    """A source has no server to offer. The text is a reason in a few words."""


@dataclass
class Supervised:
    """The servers of one supervisor; the first, `data`, listens on `port` and has its `log`. For threads."""

    password: str = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)
    port: int = 0
    log: str = ""
    mutex: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def tell(self, do: str, node: str, **how: Any) -> dict[str, Any]:
        """Has one thing done, see `supervisor.Site.obey`. Raises `Unusable` with why it could not be."""
        with self.mutex:
            return self._ask({"do": do, "node": node, **how})

    def _ask(self, document: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(document).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Unusable("its supervisor died") from None
        reply = self._reply()
        if "error" in reply:
            raise Unusable(reply["error"])
        return reply

    def _reply(self) -> dict[str, Any]:
        """The supervisor's next line; it ends early when the supervisor does."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + REPLY_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select(
                [self.process.stdout], [], [], max(0.0, deadline - time.monotonic())
            )
            chunk = os.read(self.process.stdout.fileno(), 4096) if readable else b""
            if not chunk:
                return {"error": "it did not answer in time" if not readable else "its supervisor died"}
            line += chunk
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextmanager
def supervised(installation: binaries.Installation, settings: Mapping[str, str]) -> Iterator[Supervised]:
    """A server of our own with these parameters, run by a supervisor process. Raises `Unusable`."""
    password = secrets.token_urlsafe(24)
    run_as = unprivileged() if os.geteuid() == 0 else None
    order = supervisor.Order(
        bindir=str(installation.bindir),
        superuser=SUPERUSER,
        password=password,
        parent=str(_parent(open_to_others=run_as is not None)),
        run_as=run_as,
        trees=[str(tree) for tree in installation.trees],
        settings=dict(settings),
    )
    # By path and isolated: a process that only waits imports neither our package nor the user's settings.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    running = Supervised(password, process)
    try:
        try:
            first = running._ask(vars(order))
        except Unusable as refusal:
            raise Unusable(f"{installation.bindir}: {refusal}") from None
        running.port, running.log = first["port"], first["log"]
        yield running
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def unprivileged() -> tuple[int, int]:
    """Whom a server runs as when we are root: PostgreSQL refuses root, and no account is made for it."""
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise Unusable("root cannot run PostgreSQL, and there is no user nobody to run it as")


def _parent(*, open_to_others: bool) -> Path:
    """A directory for the data; with `open_to_others` one that another user can pass through."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    for path in candidates:
        if not open_to_others or all(_passable(one) for one in (path.resolve(), *path.resolve().parents)):
            return path
    return candidates[0]


def _passable(path: Path) -> bool:
    return path.is_dir() and bool(path.stat().st_mode & stat.S_IXOTH)
