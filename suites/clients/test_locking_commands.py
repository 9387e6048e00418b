"""What stock clients do with the lock: refuse, wait, force, recover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.suites.clients.stock_clients import APPLY, Workshop, finish, read_until


@pytest.fixture
def workshop(scope: RecordedScope, tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(scope, tmp_path) as opened:
        yield opened


@reported("opentofu#2004")
@requirement("CLI-LOCK-001")
def test_a_second_apply_is_refused_and_names_the_holder(workshop: Workshop) -> None:
    """While one client applies, another is refused and shows the ID of the lock that is held."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    with alice.held_apply("1") as held:
        holder = workshop.holder()
        assert holder is not None
        assert holder.ID
        assert holder.Operation == "OperationTypeApply"
        refused = bob.apply("2")
        assert refused.code == 1
        assert "Error acquiring the state lock" in refused.text
        assert holder.ID in refused.text
        assert held.release().code == 0
    assert alice.pull()["outputs"]["v"]["value"] == "1"


@requirement("CLI-LOCK-002")
def test_the_lock_is_free_after_every_command(workshop: Workshop) -> None:
    """Plan, apply, state commands and a failed apply leave the lock free."""
    alice = workshop.client("alice")
    for command in (
        ("apply", *APPLY, "-var=v=1"),
        ("plan", "-input=false"),
        ("state", "mv", "terraform_data.h", "terraform_data.other"),
        ("state", "rm", "terraform_data.other"),
    ):
        alice.succeed(*command)
        assert workshop.holder() is None, command
    (alice.directory / "bad.tf").write_text(
        'resource "terraform_data" "bad" {\n  provisioner "local-exec" { command = "false" }\n}\n'
    )
    assert alice.apply("2").code == 1
    assert workshop.holder() is None


@reported("terraform#24153", "terraform#18761")
@requirement("CLI-LOCK-003")
def test_a_locked_state_can_be_read(workshop: Workshop) -> None:
    """`state pull` and `output` work while another client holds the lock."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    with alice.held_apply("2") as held:
        assert bob.succeed("output", "-raw", "v").output == "1"
        assert bob.pull()["outputs"]["v"]["value"] == "1"
        assert held.release().code == 0


@reported("terraform#31256", "terraform#31262")
@requirement("CLI-WAIT-001")
def test_a_waiting_client_gets_the_lock_after_its_release(workshop: Workshop) -> None:
    """With `-lock-timeout` a client waits for the holder and then goes on."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    with alice.held_apply("1") as held:
        waiter = bob.start("apply", *APPLY, "-var=v=2", "-lock-timeout=50s")
        seen = read_until(waiter, "Acquiring state lock")
        assert waiter.poll() is None
        assert held.release().code == 0
        outcome = finish(waiter, seen)
    assert outcome.code == 0, outcome.text
    assert alice.pull()["outputs"]["v"]["value"] == "2"


@requirement("CLI-WAIT-002")
def test_a_waiting_client_gives_up_when_its_time_is_over(workshop: Workshop) -> None:
    """A client that waited in vain is refused, names the holder, and leaves its lock alone."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    with alice.held_apply("1") as held:
        holder = workshop.holder()
        assert holder is not None
        refused = bob.apply("2", "-lock-timeout=2s")  # time for two attempts
        assert refused.code == 1
        assert holder.ID in refused.text
        assert workshop.holder() == holder
        assert held.release().code == 0


@reported(
    "terraform#28421", "opentofu#2027", "opentofu#1026", "opentofu#1617", "opentofu#1625", "terraform#15545"
)
@requirement("CLI-FORCE-001")
def test_force_unlock_frees_the_lock(workshop: Workshop) -> None:
    """`force-unlock` with the holder's ID frees the lock for the next client."""
    alice = workshop.client("alice")
    alice.succeed("apply", *APPLY, "-var=v=1")
    lock_id = workshop.probe.lock("default", LockInfo.new("a client that is gone"))
    assert alice.apply("2").code == 1
    alice.succeed("force-unlock", "-force", lock_id)
    assert workshop.holder() is None
    assert alice.apply("2").code == 0


@requirement("CLI-FENCE-001")
def test_a_holder_whose_lock_was_forced_cannot_overwrite(workshop: Workshop) -> None:
    """An apply that lost its lock to `force-unlock` fails, and the newer state stays."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    with alice.held_apply("2") as held:
        holder = workshop.holder()
        assert holder is not None
        bob.succeed("force-unlock", "-force", holder.ID)
        bob.succeed("apply", *APPLY, "-var=v=3")
        newer = bob.pull()
        overtaken = held.release()
    assert bob.pull() == newer
    assert overtaken.code == 1, overtaken.text
    assert (alice.directory / "errored.tfstate").is_file()


@reported("tofu-controller#250", "tofu-controller#1190", "terraform#16652")
@requirement("CLI-CRASH-001")
def test_a_killed_apply_leaves_a_lock_that_can_be_recovered(workshop: Workshop) -> None:
    """After SIGKILL in mid-apply the lock stays and is named; force-unlock and apply recover."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    with alice.held_apply("2") as held:
        taken = workshop.holder()
        held.kill()
    holder = workshop.holder()
    assert holder is not None
    assert holder == taken
    refused = bob.apply("3")
    assert refused.code == 1
    assert holder.ID in refused.text
    bob.succeed("force-unlock", "-force", holder.ID)
    bob.succeed("apply", *APPLY, "-var=v=3")
    assert bob.pull()["outputs"]["v"]["value"] == "3"


@reported("opentofu#3624", "opentofu#3661", "opentofu#3669", "opentofu#4017")
@requirement("CLI-INT-001")
def test_an_interrupted_apply_saves_and_releases(workshop: Workshop) -> None:
    """Ctrl-C in mid-apply saves what was done, releases the lock and exits with 1."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    with alice.held_apply("1") as held:
        outcome = held.interrupt()
    assert outcome.code == 1, outcome.text
    assert workshop.holder() is None
    names = {resource["name"] for resource in bob.pull()["resources"]}
    assert "a" in names
    bob.succeed("apply", *APPLY, "-var=v=2")
