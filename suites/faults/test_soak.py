"""A mixed load under random faults for `--backend-duration` seconds."""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import FAMILIES
from lockproof.chaos.plan import Plan
from lockproof.chaos.postgres_own import OwnPostgres, postgres_arena
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.session import COUNTS, REMARK
from lockproof.spec import faults, needs, requirement, tier
from lockproof.suites.faults.soak import CLIENTS, EVERY, OPERATIONS, Soak, Tally, possible
from lockproof.suites.faults.test_postgres_load import ALL, one_after_the_other

pytest_plugins = ("lockproof.suites.faults.postgres_fixtures",)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a line for who waits, past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(text, file=sys.stderr, flush=True)

    return line


@pytest.fixture
def soak(
    backend: Backend,
    history: HistoryWriter,
    tell: Callable[[str], None],
    request: pytest.FixtureRequest,
) -> Soak:
    """A soak of the backend that tells the report what it has counted."""
    redactor = request.config.pluginmanager.getplugin("lockproof.session").redactor
    own = {name: history.header[name] for name in ("test", "backend", "target", "capabilities", "seed")}

    def open_history(number: int) -> HistoryWriter:
        assert history.path is not None
        path = history.path.with_name(f"{history.path.stem}.window-{number:05}.jsonl")
        return HistoryWriter({**own, "window": number}, path, redactor.text)

    def report(tally: Tally) -> None:
        request.node.user_properties.append((COUNTS, tally.counts()))
        request.node.user_properties.append((REMARK, f"{tally}"))

    return Soak(
        title=backend.id,
        seconds=backend.duration,
        seed=backend.seed,
        open_history=open_history,
        open_window=partial(window, backend),
        plan=drawn,
        tell=tell,
        open_client=alternating,
        report=report,
    )


@tier("soak")
@needs("state", "locking")
@faults("net")
@requirement("FAULT-NET-012", "FAULT-NET-011")
def test_a_long_mixed_load_under_random_faults_loses_nothing(soak: Soak) -> None:
    """For as long as is asked for, five clients lose nothing to a network, processes and clocks that fail."""
    soak.prove()


@tier("soak")
@needs("state", "locking.holder-info", "locking.force-unlock")
@faults("net", "postgres", destructive=True)
@requirement("FAULT-PG-001", "FAULT-PG-002", "FAULT-PG-003", "FAULT-PG-004", "FAULT-PG-006")
def test_a_long_mixed_load_loses_nothing_while_its_postgres_is_hurt(
    soak: Soak, on_postgres: OwnPostgres, rng: random.Random
) -> None:
    """For as long as is asked for, five clients lose nothing to a network and a Postgres that fail."""
    soak.open_window = lambda history: postgres_arena(on_postgres, history, rng)
    soak.plan = drawn_with_postgres
    soak.prove()


@contextmanager
def window(backend: Backend, history: HistoryWriter) -> Iterator[Arena]:
    """A fresh key space of the backend."""
    name = f"lp-{uuid.uuid4().hex[:12]}"
    opened = RecordedScope(backend.driver.open_scope(name), history, backend.timeout, name)
    with opened as scope, Arena(backend, scope, history, random.Random(name)) as arena:
        yield arena


def drawn(arena: Arena, seed: int) -> Plan:
    """Faults of every family but Postgres, whose server others use."""
    families = [family for family in FAMILIES if family != "postgres"]
    return Plan.draw(seed, possible(arena, families), OPERATIONS, CLIENTS, every=EVERY)


def drawn_with_postgres(arena: Arena, seed: int) -> Plan:
    """Faults of the network and the processes, and of the server one after the other."""
    names = [*possible(arena, ["net", "kill"]), *ALL]
    return one_after_the_other(Plan.draw(seed, names, OPERATIONS, CLIENTS, every=EVERY))


def alternating(arena: Arena, seed: int) -> Callable[[str], RecordedClient]:
    """Clients of every second window are processes, which can die; the others' clocks can be steered."""
    processes = "clients.process" in arena.backend.capabilities and seed % 2
    return arena.process if processes else arena.client
