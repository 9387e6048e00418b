"""PostgreSQL in a container, by testcontainers, when a Docker engine answers.

testcontainers' own reaper removes the container when the run dies; its port is bound to 127.0.0.1 alone.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

IMAGE = "postgres:17-alpine"
PING_SECONDS = 2.0


class NoDocker(Exception):
    """There is no usable Docker; the text is a reason in a few words."""


@contextmanager
def container() -> Iterator[dict[str, Any]]:
    """A running server as connection keywords (host, port, user, password, dbname). Raises `NoDocker`."""
    require_engine()
    started = start()
    try:
        yield {
            "host": started.get_container_host_ip(),
            "port": int(started.get_exposed_port(5432)),
            "user": started.username,
            "password": started.password,
            "dbname": started.dbname,
        }
    finally:
        started.stop()


def require_engine(environ: Mapping[str, str] = os.environ) -> None:
    """Raises `NoDocker` unless an engine answers within `PING_SECONDS` and testcontainers is installed."""
    address = environ.get("DOCKER_HOST", "")
    if address:
        answered = ping(address)
    else:
        sockets = [Path("/var/run/docker.sock")]
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            sockets.append(Path(runtime) / "docker.sock")
        present = [path for path in sockets if path.exists()]
        if not present:
            raise NoDocker("no Docker socket")
        answered = any(ping(f"unix://{path}") for path in present)
    if not answered:
        raise NoDocker("no Docker engine answers")
    if importlib.util.find_spec("testcontainers") is None:
        raise NoDocker("Docker answers, but testcontainers is missing: pip install 'lockproof[docker]'")


def ping(address: str) -> bool:
    """Whether the engine at a DOCKER_HOST address answers; an address that we cannot ask does not."""
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            connection = http.client.HTTPConnection("localhost", timeout=PING_SECONDS)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(PING_SECONDS)
            connection.sock.connect(parts.path)
        elif parts.scheme in {"tcp", "http"} and parts.hostname:
            connection = http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=PING_SECONDS)
        else:
            return False
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def start() -> Any:
    """A started testcontainers container. Raises `NoDocker` for whatever goes wrong."""
    try:
        wanted = importlib.import_module("testcontainers.postgres").PostgresContainer(
            IMAGE, username="lockproof", password=secrets.token_urlsafe(24), dbname="lockproof", driver=None
        )
        wanted.with_bind_ports(5432, ("127.0.0.1", None))
        return wanted.start()
    except Exception as error:  # docker, requests and testcontainers each have their own
        raise NoDocker(f"Docker could not start {IMAGE}: {' '.join(str(error).split())[:200]}") from error
