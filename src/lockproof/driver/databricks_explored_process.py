"""One simulated `tofu` process of an explored schedule: its requests and its statements are steps.

What the explorer may choose beside the order of steps: a reply that is lost after its request or statement
took effect, a request that is delivered twice, a commit that the warehouse refuses for a conflict, a token
that expires for good, and the end of the process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import requests
from requests.adapters import HTTPAdapter

from lockproof.driver.databricks_explored_sql import SessionPool, SteppedSession
from lockproof.explore.steps import ANYTHING, LOST_REPLY, Crashed, checkpoint
from lockproof.fakes.databricks.inprocess import request_of, response_of
from lockproof.fakes.databricks.lakebase import Lakebase, LoginRefused
from lockproof.fakes.databricks.sql.failures import Conflict
from lockproof.fakes.databricks.sql.statements import Record
from lockproof.fakes.databricks.wire import Request, Response
from lockproof.fakes.databricks.workspace import FakeWorkspace
from tofu_databricks.backend import Backend
from tofu_databricks.config import WORKSPACES_SUFFIX
from tofu_databricks.files_v3 import FILES as CONDITIONAL_FILES
from tofu_databricks.locks.connector import LakebaseConnector
from tofu_databricks.locks.warehouse import STATEMENTS
from tofu_databricks.volume import DIRECTORIES, FILES

DUPLICATE = "duplicate delivery"
"""Of idempotent methods alone: nobody on the way may repeat any other request (RFC 9110 §9.2.2)."""
CONFLICT = "conflict"
EXPIRED = "expired token"

CATALOG, SCHEMA, VOLUME, KEY = "lockproof", "explored", "v", "terraform.tfstate"
ROOT = f"/Volumes/{CATALOG}/{SCHEMA}/{VOLUME}"
WAREHOUSE = "warehouse"
"""What statements at a warehouse touch: any of them may be about any table."""
CHANGES = ("INSERT", "UPDATE", "DELETE", "MERGE")
"""Statements that read when they start and write when they commit."""
KINDS: Mapping[str, str] = {FILES: "", CONDITIONAL_FILES: "3.0 ", DIRECTORIES: "directory "}
"""What the label of a request says of the API by whose prefix it goes."""
SAME_STEP = frozenset(
    {
        *("http.get", "http.put", "http.delete", "http.post", "http.head", "state.put", "state.publish"),
        *("lock.acquire", "lock.confirm", "lock.read", "lock.release"),
        *("lock.look", "lock.create", "lock.seed"),
        *("lock.withdraw", "lock.prepare", "lock.head", "lock.heads", "lock.move"),
    }
)
"""Checkpoints of the backend right before a request or a statement, which is the step."""
DIRECT_READS = ("lock.read", "lock.acquire", "lock.release", "lock.head", "lock.heads", "lock.move")
CHANCE = re.compile(r"-[0-9a-f]{32}\b")
"""What the name of an object owes to chance: no label has it, so that schedules can be replayed."""


@dataclass(frozen=True)
class World:
    """What the processes of an exploration share. `serving.process` is whose request a thread serves."""

    workspace: FakeWorkspace
    lakebase: Lakebase
    pool: SessionPool
    direct: bool = False
    serving: threading.local = field(default_factory=threading.local)

    def reached(self, point: str, record: Record) -> None:
        """A statement in this thread has come to a point of its life."""
        process = getattr(self.serving, "process", None)
        if point == "snapshot" and process is not None:
            process.committing(record)


class Process:
    """One simulated `tofu` process: its token, its sessions, and its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        workspace = world.workspace
        self.token = workspace.directory.issue(workspace.admin)
        self.sessions: list[SteppedSession] = []
        self.dead = False
        self.loses_commit = False

    def step(self, label: str, *, touches: str, write: bool, faults: Sequence[str] = ()) -> str | None:
        """A step of this process; when it is killed there, its connections end with it."""
        try:
            return checkpoint(label, touches=touches, write=write, faults=faults)
        except Crashed:
            self.die()
            raise

    def die(self) -> None:
        """The operating system closes what a killed process had open."""
        self.dead = True
        for session in self.sessions:
            session.close()

    def deliver(self, request: Request) -> Response:
        """The answer of the workspace to a request; a step where it is about what others see."""
        fault = None
        described = described_step(request)
        if described is not None:
            label, touches, write, faults = described
            fault = self.step(label, touches=touches, write=write, faults=(*faults, EXPIRED))
        if fault == EXPIRED:
            self.token.expires = self.world.workspace.clock.time()
        self.world.serving.process = self
        try:
            if fault == DUPLICATE:
                self.world.workspace.handle(replace(request))
            answer = self.world.workspace.handle(request)
        finally:
            self.world.serving.process = None
        if self.dead:
            raise Crashed
        answer.drop = answer.drop or fault == LOST_REPLY
        return answer

    def committing(self, record: Record) -> None:
        """A statement of this process stands between its snapshot and its commit.

        When the process is killed here, the warehouse goes on all the same. Raises `Conflict` where the
        schedule has it so.
        """
        verb = verb_of(record.text)
        if verb not in CHANGES:
            return
        try:
            fault = self.step(f"commit {verb}", touches=WAREHOUSE, write=True, faults=(CONFLICT,))
        except Crashed:
            return
        if fault == CONFLICT:
            raise Conflict("DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES", "Transaction conflict detected.")

    def checkpoint(self, step: str) -> None:
        """The backend's own checkpoints; those of direct Delta locks have no request that stands for them."""
        if not (self.world.direct and step.startswith("lock.")):
            if step not in SAME_STEP:
                self.step(step, touches=ANYTHING, write=True)
        elif step == "lock.committed":
            if self.loses_commit:
                self.loses_commit = False
                raise ConnectionResetError("the reply to the commit was lost")
        else:
            faults = (LOST_REPLY,) if step == "lock.commit" else ()
            write = step not in DIRECT_READS
            self.loses_commit = self.step(step, touches=WAREHOUSE, write=write, faults=faults) == LOST_REPLY


class SteppedAdapter(HTTPAdapter):
    """Requests of one process, handed to the fake in this one."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, stream: bool = False, **options: Any
    ) -> requests.Response:
        storage = urlsplit(self.process.world.workspace.storage_url).hostname
        host = "storage" if urlsplit(request.url or "").hostname == storage else "workspace"
        return response_of(self.process.deliver(request_of(request, host)), self, request, stream=stream)


class SteppedConnector(LakebaseConnector):
    """Connects to Lakebase as the backend does, with a token of its own, but to a session that is lent."""

    def __init__(self, backend: Backend, process: Process) -> None:
        super().__init__(backend.config, backend.transport.request, backend.clock)
        self.process = process

    def _connect(self, host: str, user: str, token: Any, settings: str) -> psycopg.Connection[Any]:
        world = self.process.world
        try:
            world.lakebase.login(user, token.value, self.config.lakebase_database)
        except LoginRefused as refusal:
            raise psycopg.OperationalError(f"connection failed: FATAL:  {refusal.message}") from None
        session = world.pool.lend(self.process.step)
        self.process.sessions.append(session)
        return cast("psycopg.Connection[Any]", session)


def described_step(request: Request) -> tuple[str, str, bool, tuple[str, ...]] | None:
    """Label, what it touches, whether it writes, and the faults of a request; `None` when it is nobody's
    business but the caller's, as the mint of a token is."""
    method, path = request.method, request.path
    reads = method in {"GET", "HEAD"}
    faults = () if reads else (LOST_REPLY, DUPLICATE)
    if path == STATEMENTS:
        verb = verb_of(str(request.json().get("statement", "")))
        return f"sql {verb}", WAREHOUSE, verb not in ("SELECT", *CHANGES), (LOST_REPLY,)
    for prefix, kind in KINDS.items():
        if path.startswith(prefix):
            shown = CHANCE.sub("", path.removeprefix(prefix).removeprefix(ROOT).lstrip("/")) or "/"
            return f"{method} {kind}{shown}", touched_by(path.removeprefix(prefix), prefix), not reads, faults
    return None


def touched_by(path: str, prefix: str) -> str:
    """A state of its own, or all named workspaces together, which one listing shows."""
    head, found, _ = path.partition(WORKSPACES_SUFFIX)
    if found:
        return head + found
    return ANYTHING if prefix == DIRECTORIES else path


def verb_of(statement: str) -> str:
    words = statement.split(None, 1)
    return words[0].upper() if words else ""
