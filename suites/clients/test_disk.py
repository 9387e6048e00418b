"""What stock clients keep when neither the backend nor the disk takes their state."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver.recorder import RecordedScope
from lockproof.plugin.fixtures import Backend
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Unknown
from lockproof.suites.clients.refused_uploads import RefusingWorkshop
from lockproof.suites.clients.stock_clients import APPLY, HeldApply, Stock, family

ERRORED = "errored.tfstate"


@pytest.fixture
def workshop(backend: Backend, scope: RecordedScope, tmp_path: Path) -> Iterator[RefusingWorkshop]:
    with RefusingWorkshop(backend, scope, tmp_path) as opened:
        yield opened


def fill_disk(client: Stock, held: HeldApply) -> None:
    """From now on no file of the client grows, as on a full disk."""
    clients = [pid for pid in family(held.process.pid) if name_of(pid) == Path(client.workshop.binary).name]
    if not clients:
        raise Unknown("there is no process of the client whose disk could be full")
    for pid in clients:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))


def forbid_file(client: Stock, held: HeldApply) -> None:
    """The file of last resort cannot be written; file modes would not keep the administrator from it."""
    (client.directory / ERRORED).mkdir()


def name_of(pid: int) -> str:
    return Path(os.readlink(f"/proc/{pid}/exe")).name


@reported("terraform#14298", "terraform#13780")
@requirement("CLI-DISK-001")
def test_a_state_that_the_backend_refuses_is_kept_and_can_be_pushed(workshop: RefusingWorkshop) -> None:
    """An apply whose upload is refused keeps its state in a file, frees the lock, and a push restores it."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    before = bob.pull()
    with alice.held_apply("2") as held, workshop.refusing_uploads():
        outcome = held.release()
    assert outcome.code == 1, outcome.text
    assert "Failed to save state" in outcome.text
    assert workshop.holder() is None
    assert bob.pull() == before
    kept = json.loads((alice.directory / ERRORED).read_text())
    assert kept["outputs"]["v"]["value"] == "2"
    alice.succeed("state", "push", ERRORED)
    restored = bob.pull()
    assert restored["lineage"] == before["lineage"]
    assert restored["outputs"] == kept["outputs"]
    assert restored["resources"] == kept["resources"]


@reported("terraform#15688")
@pytest.mark.parametrize("spoil", [fill_disk, forbid_file], ids=["full-disk", "no-file"])
@requirement("CLI-DISK-002")
def test_a_state_that_nothing_takes_is_printed(
    workshop: RefusingWorkshop, spoil: Callable[[Stock, HeldApply], None]
) -> None:
    """An apply whose upload is refused and that can write no file prints its state and frees the lock."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    before = bob.pull()
    with alice.held_apply("2") as held, workshop.refusing_uploads():
        spoil(alice, held)
        outcome = held.release()
    assert outcome.code == 1, outcome.text
    printed = printed_state(outcome.text)
    assert printed["outputs"]["v"]["value"] == "2"
    assert workshop.holder() is None
    assert bob.pull() == before
    (bob.directory / "printed.tfstate").write_text(json.dumps(printed))
    bob.succeed("state", "push", "printed.tfstate")
    assert bob.pull()["outputs"] == printed["outputs"]


def printed_state(text: str) -> dict[str, Any]:
    """The state among what a client printed. Fails when there is none."""
    start = text.find('{\n  "version"')
    assert start >= 0, f"no state was printed:\n{text}"
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0]
    return found
