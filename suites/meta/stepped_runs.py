"""Single runs of a program on the explored reference backend, decided by a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_explored import DatabricksSubject, explored
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import Program, Shared
from lockproof.explore.execution import Explorer, Outcome
from lockproof.explore.happens_before import Trace
from lockproof.explore.lane import Option
from lockproof.explore.scheduler import Run
from lockproof.explore.threads import Pool
from lockproof.history import Operation
from lockproof.provision.postgres import PostgresServer

Body = Callable[[RecordedClient, Shared], object]
PATIENCE = 20.0


class Script:
    """Who goes on, in blocks: `(client, step)` lets the client go on until it stands before `step` (`None`:
    to its end). `faults` strike at the first such step of the client."""

    def __init__(
        self,
        *blocks: tuple[str, str | None],
        faults: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self.judged = True
        self.trace: Trace | None = None
        self.blocks = list(blocks)
        self.faults = dict(faults or {})

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        if not options:
            return None
        mine = self.next(run, options)
        fault = self.faults.pop((run.lanes[mine[0].client].name, mine[0].step), None)
        return next(option for option in mine if option.fault == fault)

    def next(self, run: Run, options: Sequence[Option]) -> Sequence[Option]:
        """The options of the client whose turn it is."""
        while self.blocks:
            client, until = self.blocks[0]
            mine = [option for option in options if run.lanes[option.client].name == client]
            if mine and mine[0].step != until:
                return mine
            self.blocks.pop(0)
        return [option for option in options if option.client == options[0].client]


def execute(
    subject: DatabricksSubject, script: Script, clients: Mapping[str, Body], prepare: Body | None = None
) -> Outcome:
    """One run as the script has it."""
    faults = frozenset(script.faults.values())
    program = Program("scripted", "A script.", clients, prepare, faults, max_faults=9)
    with Pool() as pool:
        return Explorer(program, subject, pool, PATIENCE).execute(script)


def operations(outcome: Outcome, who: str) -> list[Operation]:
    """The calls of a client, in order."""
    named = {p for p, name in outcome.history.names.items() if name == who}
    return [op for op in outcome.history.operations() if op.p in named]


def ends(outcome: Outcome, who: str) -> list[str]:
    """How each call of a client ended, such as `lock ok` or `put fail stale`."""
    return [
        " ".join([op.f, op.kind, *([op.err["kind"]] if op.err else [])]) for op in operations(outcome, who)
    ]


@contextmanager
def explored_on(
    server: PostgresServer,
    variant: str,
    kind: type[DatabricksDriver] = DatabricksDriver,
    *,
    given: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[DatabricksSubject]:
    """The explored backend of one variant, whose locks are kept on `server` where it uses one; `given` are
    more options of the driver."""
    with kind.provision({"postgres_dsn": server.dsn, **(given or {})}) as provisioned:
        driver = kind({**provisioned, **(given or {}), "variant": variant})
        with explored(driver, **options) as subject:
            yield subject
