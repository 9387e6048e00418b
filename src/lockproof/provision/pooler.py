"""A transaction pooler before a Postgres: PgBouncer where it is installed, else a small emulation of ours.

Between two transactions of a client the server's session belongs to others. Whatever a client keeps in its
session, an advisory lock, a setting, a prepared statement, is not there the next time.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lockproof.provision.cluster import until
from lockproof.provision.pooler_emulated import EmulatedPooler
from lockproof.provision.postgres import PostgresServer, ProvisionError
from lockproof.provision.supervised import unprivileged
from lockproof.provision.supervisor import STOP_SECONDS, die_with_parent, free_port

PROGRAM = "pgbouncer"
SESSIONS = 2
"""How many sessions at the server the pooler keeps for a database and a user."""


@contextmanager
def provide_pooler(server: PostgresServer) -> Iterator[PostgresServer]:
    """The same server behind a transaction pooler on 127.0.0.1; `source` says which. Users log in as at the
    server itself, with their own passwords. Raises `ProvisionError` when PgBouncer does not start."""
    program = shutil.which(PROGRAM)
    if program is None:
        with EmulatedPooler(server, SESSIONS) as pooler:
            yield replace(server, port=pooler.port, source="emulated pooler")
        return
    with _pgbouncer(program, server) as port:
        yield replace(server, port=port, source=PROGRAM)


def configuration(server: PostgresServer, port: int, users: Path) -> str:
    """What PgBouncer reads: transactions in turn over `SESSIONS` sessions of the server.

    Users that are not in the file `users` are looked up at the server (`auth_query`); their SCRAM secrets
    are the server's, so that PgBouncer can log in with what the client has proven.
    """
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "pool_mode": "transaction",
        "default_pool_size": SESSIONS,
        "min_pool_size": SESSIONS,
        "server_round_robin": 1,
        "auth_type": "scram-sha-256",
        "auth_file": users,
        "auth_user": server.user,
        "auth_query": "SELECT usename, passwd FROM pg_shadow WHERE usename = $1",
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(
        ["[databases]", f"* = host={server.host} port={server.port}", "", "[pgbouncer]", *lines, ""]
    )


@contextmanager
def _pgbouncer(program: str, server: PostgresServer) -> Iterator[int]:
    """PgBouncer as a process of ours that dies with us; it refuses to run as root. Its port.

    What it reads is in files without a name, so that nothing of it is left behind, however this process ends.
    Raises `ProvisionError`.
    """
    port = free_port()
    who = _identity()
    with tempfile.TemporaryFile() as users, tempfile.TemporaryFile() as ini:
        for file, text in (
            (users, f'"{server.user}" "{server.password}"\n'),
            (ini, configuration(server, port, _name(users))),
        ):
            file.write(text.encode())
            file.flush()
            if who:
                os.fchown(file.fileno(), who["user"], who["group"])
        try:
            process = subprocess.Popen(
                [program, "--quiet", _name(ini)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=(users.fileno(), ini.fileno()),
                preexec_fn=die_with_parent(signal.SIGKILL),
                **who,
            )
        except OSError as error:
            raise ProvisionError(f"cannot run {program}{_whoever(who)}: {error.strerror}") from None
        try:
            until(lambda: process.poll() is not None or _takes(port), "PgBouncer does not listen", 20)
            if process.poll() is not None:
                raise ProvisionError(f"{program} ended at once with exit code {process.returncode}")
            yield port
        finally:
            _end(process)


def _identity() -> dict[str, Any]:
    """Popen arguments: the user to be, when we are root."""
    if os.geteuid() != 0:
        return {}
    uid, gid = unprivileged()
    return {"user": uid, "group": gid, "extra_groups": []}


def _whoever(who: Mapping[str, Any]) -> str:
    return f" as user {who['user']}" if who else ""


def _name(file: IO[bytes]) -> Path:
    """A path by which a process that inherits the open file reads it from its start."""
    return Path(f"/dev/fd/{file.fileno()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """At once, with every connection: from 1.23 on, SIGTERM would wait for the clients to leave."""
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _takes(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
