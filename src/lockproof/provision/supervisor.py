"""The parent process of Postgres servers: makes them, stops them as it is told to, and leaves nothing behind.

Runs as a program of its own (`python -I -S supervisor.py`, standard library only), so that no server
outlives the run that asked for it: all stop when its standard input ends, which happens however the asking
process dies. If the supervisor itself is killed, the kernel stops the servers (`PR_SET_PDEATHSIG`) and the
next run removes the directory.

Standard input: one JSON line with the fields of `Order`, then nothing, or one JSON line for each thing to do
(`Site.obey`), until the end. Standard output: one JSON line for each of them, the first
`{"port": …, "pid": …, "log": …}` once the server accepts connections; `{"error": "…"}` for what could not be
done. Nothing secret is in an argument, an environment variable or a log.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

PREFIX = "lockproof-postgres-"
LOCK = "owner.lock"
PORTS = 5
"""How many ports to try: a free one may be taken between our look and the server's bind."""
START_SECONDS = 60.0
STOP_SECONDS = 10.0
READY = ("ready", "standby")
HARDER = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""What stops a server fast, immediately (it recovers at its next start), and by force."""
PR_SET_PDEATHSIG = 1


class Refused(Exception):
    """The server cannot be made; the text is one line for a person."""


@dataclass(frozen=True)
class Order:
    """What to run: `bindir` holds initdb and postgres, `trees` is what to copy when `run_as` cannot read it.

    `run_as` is (uid, gid), or None to stay who we are. `settings` are server parameters.
    """

    bindir: str
    superuser: str
    password: str
    parent: str
    run_as: tuple[int, int] | None = None
    trees: Sequence[str] = ()
    settings: dict[str, str] = field(default_factory=dict)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run; its end ends us
    asker = os.getppid()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    document = json.loads(line)
    order = Order(**{**document, "run_as": document["run_as"] and tuple(document["run_as"])})
    sweep(Path(order.parent))
    home, lock = claim(Path(order.parent))
    site = Site(Cluster(order, home))
    try:
        site.first.initialise()
        answer(site.first.start())
        serve(asker, site)
    except Refused as refusal:
        answer({"error": str(refusal)})
        return 1
    finally:
        site.stop()
        shutil.rmtree(home, ignore_errors=True)
        lock.close()
    return 0


def answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


def claim(parent: Path) -> tuple[Path, TextIO]:
    """A new directory, and the open file whose lock says that it is in use."""
    while True:
        home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = open(home / LOCK, "w")  # noqa: SIM115
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / LOCK).exists():  # no sweep came between the two
            return home, lock
        lock.close()


def sweep(parent: Path) -> None:
    """Removes the directories of supervisors that were killed: ours, and locked by nobody."""
    for home in parent.glob(f"{PREFIX}*"):
        try:
            if home.lstat().st_uid != os.geteuid():
                continue
            with open(home / LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(home, ignore_errors=True)
        except OSError:  # in use, half made by a run that starts now, or gone already
            continue


def serve(asker: int, site: Site) -> None:
    """Obeys until the asking process is done or dead, or a server is that should run.

    A forked child of the asker may hold the pipe open, hence the look at our parent.
    """
    read = b""
    while site.runs() and os.getppid() == asker:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if not readable:
            continue
        chunk = os.read(sys.stdin.fileno(), 4096)
        if not chunk:
            return
        *lines, read = (read + chunk).split(b"\n")
        for line in lines:
            try:
                answer(site.obey(**json.loads(line)))
            except Refused as refusal:
                answer({"error": str(refusal)})


class Site:
    """The servers of one supervisor by the name of their data directory: the `first`, and its standbys."""

    def __init__(self, first: Cluster) -> None:
        self.first = first
        self.clusters = {first.name: first}

    def obey(self, do: str, node: str, **how: Any) -> dict[str, Any]:
        """Does one thing to the server `node`.

        `stop` (`signal`: its number) ends the server at once or as that signal does; `start` starts it again
        on the same data and port; `standby` makes `node`, a standby that streams from the server `of`;
        `remove` stops it and deletes its data. Raises `Refused`.
        """
        if do == "standby":
            standby = Cluster(self.first.order, self.first.home, node)
            standby.bindir = self.first.bindir
            standby.clone(self.clusters[how["of"]])
            self.clusters[node] = standby
            return standby.start()
        cluster = self.clusters[node]
        if do == "start":
            if cluster.server is not None:
                raise Refused(f"the server {node} runs already")
            return cluster.start()
        if do == "stop":
            cluster.stop(signal.Signals(how["signal"]))
        if do == "remove":
            cluster.stop(signal.SIGQUIT)
            shutil.rmtree(cluster.data, ignore_errors=True)
            del self.clusters[node]
        return {}

    def runs(self) -> bool:
        """Whether no server has ended by itself."""
        return all(one.server is None or one.server.poll() is None for one in self.clusters.values())

    def stop(self) -> None:
        for cluster in reversed(self.clusters.values()):
            cluster.stop()


class Cluster:
    """The data directory `name` under `home` and its server; `server` is None while none should run."""

    def __init__(self, order: Order, home: Path, name: str = "data") -> None:
        self.order = order
        self.home = home
        self.name = name
        self.bindir = Path(order.bindir)
        self.data = home / name
        self.log = home / f"{name}.log"
        self.port = 0
        self.server: Any = None
        self._log_before = 0

    def initialise(self) -> None:
        """initdb, as the user that the server runs as."""
        os.chmod(self.home, 0o711)
        if not self.runs("postgres", "--version"):
            self.copy()
        secret = self.owned(self.home / "password", self.order.password)
        self.make(
            *("initdb", "-D", self.data, "-U", self.order.superuser, "--pwfile", secret),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        secret.unlink()

    def clone(self, source: Cluster) -> None:
        """A base backup of a running server, made to stream from it under the name of this one.

        Where it streams from stands in a file and not on the command line, so that it can be changed.
        """
        login = f"127.0.0.1:*:*:{self.order.superuser}:{self.order.password}"
        passfile = self.owned(self.home / f"{self.name}.pgpass", login)
        where = {"host": "127.0.0.1", "port": source.port, "user": self.order.superuser, "passfile": passfile}
        conninfo = " ".join(f"{key}={value}" for key, value in where.items())
        self.make(
            *("pg_basebackup", "-D", self.data, "-d", conninfo),
            *("--no-password", "--no-sync", "--no-manifest", "--checkpoint=fast", "--wal-method=stream"),
        )
        self.owned(self.data / "standby.signal")
        with open(self.data / "postgresql.auto.conf", "a") as settings:
            settings.write(f"primary_conninfo = '{conninfo} application_name={self.name}'\n")
            settings.write("synchronous_standby_names = ''\n")  # it waits for nobody once it is promoted

    def make(self, program: str, *arguments: str | Path) -> None:
        """Runs a program that fills the data directory, as the user that the server runs as."""
        if not (self.bindir / program).exists():
            raise Refused(f"{program} is not in {self.order.bindir}")
        self.owned(self.log)
        self.data.mkdir(0o700)
        self.give(self.data)
        done = subprocess.run(
            [self.bindir / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            **self.identity(signal.SIGKILL),
        )
        if done.returncode:
            raise Refused(f"{program} failed: {last_line(done.stdout.decode(errors='replace'))}")

    def start(self) -> dict[str, Any]:
        """Starts the server on 127.0.0.1, on a free port or on the one that it had, and returns once it takes
        connections: its `port`, its `pid`, and the path of its `log`."""
        for port in (self.port,) if self.port else (free_port() for _ in range(PORTS)):
            if self.started(port):
                self.port = port
                return {"port": port, "pid": self.server.pid, "log": str(self.log)}
            if "could not bind" not in self.said():
                break
        raise Refused(f"the server did not start: {last_line(self.said())}")

    def started(self, port: int) -> bool:
        """Whether a server came up. After a kill, what is left of the old one must go first."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            settings = {
                **self.order.settings,
                "listen_addresses": "127.0.0.1",
                "port": str(port),
                "unix_socket_directories": "",
            }
            self._log_before = self.log.stat().st_size
            with open(self.log, "ab") as log:
                self.server = subprocess.Popen(
                    [
                        *(self.bindir / "postgres", "-D", self.data),
                        *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.home,
                    start_new_session=True,
                    **self.identity(signal.SIGQUIT),
                )
            if self.ready():
                return True
            if "still in use" not in self.said() or time.monotonic() > deadline:
                return False
            time.sleep(0.02)

    def said(self) -> str:
        """The log of the last start."""
        return self.log.read_bytes()[self._log_before :].decode(errors="replace")

    def ready(self) -> bool:
        """Waits until the server itself says "ready", or "standby", in its pid file, as pg_ctl does; False
        when it ended."""
        deadline = time.monotonic() + START_SECONDS
        while self.server.poll() is None and time.monotonic() < deadline:
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except FileNotFoundError:
                lines = []
            mine = lines[:1] == [str(self.server.pid)]  # and not what a killed one has left
            if mine and len(lines) > 7 and lines[7].strip() in READY:
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def stop(self, first: signal.Signals = signal.SIGINT) -> None:
        """Fast shutdown, then immediate, then by force; or from `first` on."""
        for how in HARDER[HARDER.index(first) :]:
            if self.server is None or self.server.poll() is not None:
                break
            self.server.send_signal(how)
            try:
                self.server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self.server = None

    def runs(self, name: str, *arguments: str) -> bool:
        """Whether the user that the server runs as may execute a program of the installation."""
        try:
            done = subprocess.run(
                [self.bindir / name, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                **self.identity(signal.SIGKILL),
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def copy(self) -> None:
        """Puts the installation where the user can read it: root's own directories are closed to others."""
        for tree in map(Path, self.order.trees):
            try:
                shutil.copytree(tree, self.home / "install" / tree.name, symlinks=True)
            except (OSError, shutil.Error) as error:
                raise Refused(f"cannot copy {tree}: {error}") from error
            if self.bindir.is_relative_to(tree):
                self.bindir = self.home / "install" / tree.name / self.bindir.relative_to(tree)
        for path in (self.home / "install", *(self.home / "install").rglob("*")):
            if not path.is_symlink():
                path.chmod(
                    path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444)
                )
        if not self.runs("postgres", "--version"):
            uid = self.order.run_as[0] if self.order.run_as else os.getuid()
            raise Refused(f"user {uid} cannot run {self.order.bindir}/postgres")

    def owned(self, path: Path, text: str = "") -> Path:
        """A file that only the server's user can read."""
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        if self.order.run_as:
            os.chown(path, *self.order.run_as)

    def identity(self, farewell: signal.Signals) -> dict[str, Any]:
        """Popen arguments: the user to be, and the signal to get when this process dies."""
        who: dict[str, Any] = {"preexec_fn": die_with_parent(farewell)}
        if self.order.run_as:
            uid, gid = self.order.run_as
            who |= {"user": uid, "group": gid, "extra_groups": []}
        return who


def die_with_parent(farewell: signal.Signals) -> Callable[[], None]:
    # Found before the fork: nothing may be imported or loaded between fork and exec.
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def child() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(farewell))

    return child


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def last_line(text: str) -> str:
    """The last line that says what is wrong, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (telling or lines or ["no output"])[-1]


if __name__ == "__main__":
    sys.exit(main())
