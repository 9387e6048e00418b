"""A migration into the reference backend whose gateway is killed half-way."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver.command_line import CommandLine
from lockproof.driver.recorder import RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import needs, requirement, tier
from lockproof.spec.outcome import Unknown
from lockproof.suites.clients.stock_clients import Outcome, Stock, Workshop
from lockproof.suites.faults.crash_steps import effects_of

MIGRATE = ("init", "-input=false", "-migrate-state", "-force-copy")


@needs("test-bed", "places")
@requirement("DBX-CRASH-004")
@pytest.mark.parametrize("count", [3, pytest.param(None, marks=tier("full"), id="every-effect")])
def test_a_migration_whose_gateway_is_killed_is_done_by_the_next_try(
    backend: Backend,
    history_beside: Callable[[], HistoryWriter],
    tmp_path: Path,
    rng: random.Random,
    count: int | None,
) -> None:
    """A migration whose gateway is killed just after any of its effects is completed by the same command.

    At most a lock has to be released first, which the refusal names.
    """
    local, steps = local_state(backend, history_beside(), tmp_path, count, rng)
    for step in steps:
        name = f"lp-{uuid.uuid4().hex[:12]}"
        opened = RecordedScope(backend.driver.open_scope(name), history_beside(), backend.timeout, name)
        place = tmp_path / str(step)
        place.mkdir()
        with opened as scope, Workshop(scope, place) as workshop:
            alice = started_from(local, workshop)
            migrate_killed(workshop, alice, step, place / "steps")
            again = alice.run(*MIGRATE)
            if again.code != 0:
                force_as_told(workshop, again)
                alice.succeed(*MIGRATE)
            before = json.loads((local / "terraform.tfstate").read_text())
            after = alice.pull()
            assert [r["instances"] for r in after["resources"]] == [
                r["instances"] for r in before["resources"]
            ]
            unchanged = alice.run("plan", "-input=false", "-detailed-exitcode", "-var=v=1")
            assert unchanged.code == 0, unchanged.text
            assert workshop.holder() is None


def local_state(
    backend: Backend, history: HistoryWriter, directory: Path, count: int | None, rng: random.Random
) -> tuple[Path, Sequence[int]]:
    """A directory with an applied local state, and the steps of its migration that follow an effect."""
    name = f"lp-{uuid.uuid4().hex[:12]}"
    opened = RecordedScope(backend.driver.open_scope(name), history, backend.timeout, name)
    with opened as scope, Workshop(scope, directory) as workshop:
        alice = workshop.client("local", init=False)
        alice.succeed("init", "-input=false")
        alice.succeed("apply", "-auto-approve", "-input=false", "-var=v=1")
        model, log = started_from(alice.directory, workshop), directory / "steps"
        workshop.line = with_crash(workshop.line, -1, log)
        model.succeed(*MIGRATE)
        effects = effects_of(log.read_text().splitlines())
    chosen = effects if count is None else rng.sample(effects, min(count, len(effects)))
    return alice.directory, sorted(chosen)


def started_from(local: Path, workshop: Workshop) -> Stock:
    """A client whose directory is a copy of `local`, with the backend configured but not initialised."""
    client = Stock(workshop, "alice")
    shutil.copytree(local, client.directory, dirs_exist_ok=True)
    client.use_backend()
    return client


def with_crash(line: CommandLine, step: int, log: Path) -> CommandLine:
    """The command line with a gateway that is killed at `step`, and a client that gives up on it at once."""
    python, *module, command = line.prefix[:4]
    assert (module, command) == (["-m", "tofu_databricks.cli"], "exec"), line.prefix
    crashing = (python, "-m", "lockproof.suites.clients.crashing_gateway", str(step), str(log), command)
    return CommandLine((*crashing, *line.prefix[4:]), {**line.environment, "TF_HTTP_RETRY_MAX": "0"})


def migrate_killed(workshop: Workshop, client: Stock, step: int, log: Path) -> None:
    """A migration whose gateway is killed at `step`. Raises `Unknown` when that was not reached."""
    whole, workshop.line = workshop.line, with_crash(workshop.line, step, log)
    outcome = client.run(*MIGRATE)
    workshop.line = whole
    if len(log.read_text().splitlines()) <= step:
        raise Unknown(f"the migration did not come to step {step}")
    assert outcome.code != 0, "the client reported success, and its gateway was killed"


def instances_of(state: dict[str, Any]) -> list[Any]:
    """What the state tracks, whatever its lineage and serial."""
    return [resource["instances"] for resource in state["resources"]]


def force_as_told(workshop: Workshop, refused: Outcome) -> None:
    """Another client releases the lock by the ID that the refusal shows."""
    holder = workshop.holder()
    assert holder is not None, refused.text
    assert holder.ID in refused.text, f"the refusal does not name the lock:\n{refused.text}"
    workshop.client("bob").succeed("force-unlock", "-force", holder.ID)
