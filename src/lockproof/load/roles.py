"""What a process of a load run does beside driving users, by what locust made of it."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from gevent.event import Event  # type: ignore[import-untyped]
from gevent.threadpool import ThreadPool  # type: ignore[import-untyped]
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from lockproof.load.messages import DONE, READY, Collector, Correspondent
from lockproof.load.plan import VARIABLE, Plan
from lockproof.load.station import Station

EVERY = 10.0
ENDED = frozenset({"cleanup", "stopping", "stopped"})
SPARE = 8
CONNECTING = 60.0
NO_BACKEND = 3


class Role(ABC):
    """One process. `begin` is called once locust is set up, the others as locust's events of that name."""

    pool: ThreadPool

    def __init__(self, environment: Environment, plan: Plan) -> None:
        self.environment = environment
        self.runner: Any = environment.runner
        self.plan = plan
        self.open_load = Event()
        self.ready = Event()  # locust may start users while this process still connects
        self.users = Event()  # a user of this process begins to work
        self.opened: Station | None = None

    @abstractmethod
    def begin(self) -> None: ...

    def station(self) -> Station:
        """What the users of this process share. Raises `StopUser` where it has no backend."""
        self.ready.wait()
        if self.opened is None:
            raise StopUser
        self.users.set()
        return self.opened

    def spawned(self) -> None:
        """All users are there: jobs begin to arrive."""
        self.ready.wait()
        if self.opened is not None and self.opened.arrivals is not None and not self.open_load.is_set():
            self.opened.arrivals.begin()
        self.open_load.set()

    @abstractmethod
    def stopping(self) -> None: ...

    def quitting(self) -> None:
        """The process ends, perhaps early."""
        self.stopping()

    def open(self, index: int) -> None:
        """Connects to the backend as process `index`; says so where that fails."""
        self.pool = ThreadPool(self.plan.users + SPARE)
        path = self.plan.histories / f"process-{index + 1}.jsonl"
        try:
            self.opened = gevent.get_hub().threadpool.apply(Station, (self.plan, index, path))
        except Exception as error:  # noqa: BLE001 - whatever a driver raises
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"lockproof: process {index + 1} cannot use the backend: {reason}", flush=True)
        self.ready.set()

    def close(self) -> None:
        """Ends the users' jobs and the history; the greenlets go on meanwhile."""
        self.ready.wait()
        if self.opened is not None and not gevent.get_hub().threadpool.apply(self.opened.close):
            print(f"lockproof: some jobs did not end within {2 * self.plan.timeout + 5:g} s", flush=True)
        self.open_load.set()


class Supervisor(Role):
    """A process that says when the run ends, and how far it is."""

    def watch(self) -> None:
        """From the start of the users to the end of the run."""
        try:
            self._watch()
        finally:  # whatever went wrong, the run ends
            self.runner.quit()
            if (page := self.environment.web_ui) is not None:
                page.stop()  # type: ignore[no-untyped-call]

    def _watch(self) -> None:
        while self.runner.state not in {"spawning", "running"}:
            gevent.sleep(0.05)
        self.await_users()
        began = told = time.monotonic()
        while time.monotonic() - began < self.plan.duration and self.runner.state not in ENDED:
            gevent.sleep(0.1)
            if time.monotonic() - told >= EVERY:
                told += EVERY
                self.tell(told - began)
        self.conclude()

    def tell(self, seconds: float) -> None:
        """One line of progress."""
        entries = self.runner.stats.entries.values()
        jobs = sum(entry.num_requests for entry in entries if entry.method == "job")
        failed = sum(entry.num_failures for entry in entries if entry.method == "job")
        calls = sum(entry.num_requests for entry in entries if entry.method == "call")
        print(
            f"lockproof: {seconds:.0f} of {self.plan.duration:g} s: {self.runner.user_count} users, "
            f"{jobs} jobs ({jobs / seconds:.1f}/s), {failed} failed, {calls} calls ({calls / seconds:.1f}/s)",
            flush=True,
        )

    @abstractmethod
    def await_users(self) -> None:
        """Returns when users can do jobs: the duration counts from then on."""

    @abstractmethod
    def conclude(self) -> None:
        """Returns when every history is closed."""


class Local(Supervisor):
    """The only process."""

    def begin(self) -> None:
        self.open(0)
        if self.opened is None:
            sys.exit(NO_BACKEND)
        gevent.spawn(self.watch)

    def await_users(self) -> None:
        self.users.wait(CONNECTING)
        if self.plan.rate:
            self.open_load.wait()

    def stopping(self) -> None:
        self.close()

    def conclude(self) -> None:
        self.runner.stop()
        self.close()


class Master(Supervisor):
    """Drives no users; tells workers the plan, and waits for their histories at the end."""

    def begin(self) -> None:
        self.collector = Collector(self.runner, self.plan)
        self.concluded = False
        gevent.spawn(self.watch)

    def await_users(self) -> None:
        if self.plan.rate:
            self.open_load.wait()
        self.collector.wait(READY, {client.id for client in self.runner.clients.all}, CONNECTING)

    def spawned(self) -> None:
        self.open_load.set()

    def stopping(self) -> None:
        """The workers are told by locust."""

    def quitting(self) -> None:
        self.conclude()

    def conclude(self) -> None:
        if self.concluded or self.runner.state == "ready":
            return
        self.concluded = True
        workers = {client.id for client in self.runner.clients.all}
        self.runner.stop()
        if missing := self.collector.wait(DONE, workers, 2 * self.plan.timeout + 15):
            lacking = f"{len(missing)} of {len(workers)} workers did not end their history"
            print(f"lockproof: {lacking}", flush=True)


class Worker(Role):
    """Drives users for a master: a fork of its process, or (`remote`) on a machine of its own."""

    def begin(self) -> None:
        self.ended = False
        self.correspondent: Correspondent | None = None
        if self.plan.role == "worker":
            self.correspondent = Correspondent(self.runner)
            self.plan = self.plan.told(self.correspondent.hello())
        gevent.spawn(self.report)
        self.open(self.runner.worker_index)
        if self.opened is None:
            self.users.set()  # there will be none

    def report(self) -> None:
        """Tells the master that this process works."""
        self.users.wait()
        self.runner.send_message(READY)

    def stopping(self) -> None:
        """Ends the users in a greenlet of its own: this one may be the one that receives messages."""
        if not self.ended:
            self.ended = True
            self.ending = gevent.spawn(self.end)

    def quitting(self) -> None:
        self.stopping()
        self.ending.join()

    def end(self) -> None:
        """Closes the history, sends it where the master cannot see it, and says so."""
        self.close()
        if self.correspondent is not None and self.opened is not None:
            self.correspondent.deliver(self.opened.path)
        self.runner.send_message(DONE)
        gevent.spawn_later(0.5, self.runner.greenlet.kill, block=False)


def role_of(environment: Environment) -> Role:
    """What this process is. A plan that cannot be carried out ends it with one line."""
    plan = Plan.read(Path(_variable()))
    if isinstance(environment.runner, MasterRunner):
        return Master(environment, plan)
    return (Worker if isinstance(environment.runner, WorkerRunner) else Local)(environment, plan)


def _variable() -> str:
    path = os.environ.get(VARIABLE)
    if not path:
        sys.exit(f"lockproof: {VARIABLE} names no plan; start this locustfile with `lockproof load`")
    return path
