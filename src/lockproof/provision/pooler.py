"""A transaction pooler before a Postgres: PgBouncer where it is installed, else a small emulation of ours.

Between two transactions of a client the server's session belongs to others. Whatever a client keeps in its
session, an advisory lock, a setting, a prepared statement, is not there the next time.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lockproof.provision.cluster import until
from lockproof.provision.pooler_emulated import EmulatedPooler
from lockproof.provision.postgres import PostgresServer, ProvisionError
from lockproof.provision.supervised import unprivileged
from lockproof.provision.supervisor import free_port

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
    """PgBouncer as a process of ours; it refuses to run as root. Its port."""
    port = free_port()
    who: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lockproof-pooler-") as folder:
        home = Path(folder)
        users, ini = home / "users.txt", home / "pgbouncer.ini"
        users.touch(mode=0o600)
        users.write_text(f'"{server.user}" "{server.password}"\n')
        ini.write_text(configuration(server, port, users))
        if os.geteuid() == 0:
            uid, gid = unprivileged()
            who = {"user": uid, "group": gid, "extra_groups": []}
            for path in (home, users, ini):
                os.chown(path, uid, gid)
        process = subprocess.Popen(
            [program, "--quiet", str(ini)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            **who,
        )
        try:
            until(lambda: process.poll() is not None or _takes(port), "PgBouncer does not listen", 20)
            if process.poll() is not None:
                raise ProvisionError(f"{program} ended at once with exit code {process.returncode}")
            yield port
        finally:
            process.terminate()
            process.wait()


def _takes(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
