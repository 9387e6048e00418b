"""The locustfile of `lockproof load`: each locust user is one client of any driver.

Its plan is found by the variable `LOCKPROOF_LOAD_PLAN`. Driver calls block, so they run in gevent's thread
pool; the greenlets only wait for them.
"""

from __future__ import annotations

import time
from typing import Any

import gevent  # type: ignore[import-untyped]
from gevent.threadpool import ThreadPool  # type: ignore[import-untyped]
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser

from lockproof.load.operator import Operator
from lockproof.load.roles import Role, role_of
from lockproof.load.station import Station

ROLE: Role


def begin(environment: Environment, **_: Any) -> None:
    """Connects this process to the backend, or to its workers."""
    global ROLE
    ROLE = role_of(environment)
    hooks: Any = environment.events
    hooks.spawning_complete.add_listener(lambda **_: ROLE.spawned())
    hooks.test_stopping.add_listener(lambda **_: ROLE.stopping())
    hooks.quitting.add_listener(lambda **_: ROLE.quitting())
    ROLE.begin()


events.init.add_listener(begin)  # type: ignore[no-untyped-call]


class BackendUser(User):
    """A user of the backend; see `lockproof.load.operator`."""

    pool: ThreadPool
    operator: Operator

    def on_start(self) -> None:
        self.station: Station = ROLE.station()
        self.pool = ROLE.pool
        self.operator = self.station.operator()

    @task
    def job(self) -> None:
        """One job, when it is due."""
        due = self._due()
        if self.station.stop.is_set():
            raise StopUser
        for sample in self.pool.spawn(self.station.work, self.operator, due).get():
            self.environment.events.request.fire(
                request_type=sample.kind,
                name=sample.name,
                response_time=sample.ms,
                response_length=0,
                exception=sample.error,
                context={},
            )

    def _due(self) -> int | None:
        arrivals = self.station.arrivals
        if arrivals is None:
            return None
        ROLE.open_load.wait()
        due = arrivals.take()
        while not self.station.stop.is_set() and (left := due - time.monotonic_ns()) > 0:
            gevent.sleep(min(left / 1e9, 0.2))
        return due
