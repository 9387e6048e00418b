"""What stock clients do with the state: apply, pull, push, migrate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockproof.driver.recorder import RecordedScope
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.suites.clients.stock_clients import APPLY, Workshop


@pytest.fixture
def workshop(scope: RecordedScope, tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(scope, tmp_path) as opened:
        yield opened


@requirement("CLI-STATE-001")
def test_an_applied_state_is_seen_by_another_client(workshop: Workshop) -> None:
    """What one client applies, another reads, and finds nothing left to do."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    assert alice.apply("1").code == 0
    assert bob.succeed("output", "-raw", "v").output == "1"
    unchanged = bob.run("plan", "-input=false", "-detailed-exitcode", "-var=v=1")
    assert unchanged.code == 0, unchanged.text


@reported("terraform#27827")
@requirement("CLI-STATE-002")
def test_states_follow_one_another(workshop: Workshop) -> None:
    """Each change raises the serial by one and keeps the lineage; no change changes nothing."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    first = alice.pull()
    alice.succeed("apply", *APPLY, "-var=v=1")
    assert alice.pull() == first
    bob.succeed("apply", *APPLY, "-var=v=2")
    second = alice.pull()
    assert second["outputs"]["v"]["value"] == "2"
    assert (second["serial"], second["lineage"]) == (first["serial"] + 1, first["lineage"])


@requirement("CLI-STATE-003")
def test_a_destroyed_state_is_empty(workshop: Workshop) -> None:
    """After `destroy` the state tracks nothing, and the next apply starts again."""
    alice = workshop.client("alice")
    alice.succeed("apply", *APPLY, "-var=v=1")
    alice.succeed("destroy", *APPLY)
    assert alice.pull()["resources"] == []
    alice.succeed("apply", *APPLY, "-var=v=2")
    assert alice.pull()["outputs"]["v"]["value"] == "2"


@reported("terraform#24294")
@requirement("CLI-PUSH-001")
def test_a_pushed_state_is_pulled_again(workshop: Workshop) -> None:
    """`state push` of a newer state over an existing one stores its content under the next serial."""
    alice = workshop.client("alice")
    alice.succeed("apply", *APPLY, "-var=v=1")
    state = alice.pull()
    pushed = {
        **state,
        "serial": state["serial"] + 4,
        "outputs": {"v": {"value": "pushed ü", "type": "string"}},
    }
    (alice.directory / "new.tfstate").write_text(json.dumps(pushed))
    alice.succeed("state", "push", "new.tfstate")
    found = alice.pull()
    assert found["outputs"]["v"]["value"] == "pushed ü"
    assert found["lineage"] == state["lineage"]
    # Over a stored state the client raises the serial of what it imports by one more.
    assert found["serial"] == pushed["serial"] + 1


@requirement("CLI-PUSH-002")
def test_an_older_or_unrelated_state_is_not_pushed(workshop: Workshop) -> None:
    """`state push` refuses an older serial and another lineage, and changes nothing."""
    alice = workshop.client("alice")
    alice.succeed("apply", *APPLY, "-var=v=1")
    alice.succeed("apply", *APPLY, "-var=v=2")
    state = alice.pull()
    stray = alice.directory / "stray.tfstate"
    for change in ({"serial": 1}, {"lineage": "11111111-2222-3333-4444-555555555555"}):
        stray.write_text(json.dumps({**state, **change}))
        refused = alice.run("state", "push", "stray.tfstate")
        assert refused.code == 1, refused.text
        assert "cannot" in refused.text, refused.text
        assert alice.pull() == state
    assert workshop.holder() is None


@reported("terraform#15712", "terraform#15674")
@requirement("CLI-MIGRATE-001")
def test_a_local_state_migrates(workshop: Workshop) -> None:
    """`init -migrate-state` brings a local state over: nothing is left to do after it."""
    alice = workshop.client("alice", init=False)
    alice.succeed("init", "-input=false")
    alice.succeed("apply", *APPLY, "-var=v=1")
    before = json.loads((alice.directory / "terraform.tfstate").read_text())
    alice.use_backend()
    alice.succeed("init", "-input=false", "-migrate-state", "-force-copy")
    after = alice.pull()
    assert [r["instances"] for r in after["resources"]] == [r["instances"] for r in before["resources"]]
    # Into an empty backend the client may start a lineage of its own, but there must be one.
    assert after["lineage"]
    assert after["serial"] >= 1
    unchanged = alice.run("plan", "-input=false", "-detailed-exitcode", "-var=v=1")
    assert unchanged.code == 0, unchanged.text
    assert workshop.holder() is None


@reported("terraform#28693", "terraform#29838", "terraform#4055", "terraform#30670")
@requirement("CLI-PLAN-001")
def test_a_stale_plan_is_refused_and_leaves_no_lock(workshop: Workshop) -> None:
    """A saved plan is applied once; the second time it is stale, and the lock is free afterwards."""
    alice = workshop.client("alice")
    alice.succeed("apply", *APPLY, "-var=v=1")
    alice.succeed("plan", "-input=false", "-out=saved", "-var=v=2")
    alice.succeed("apply", "-input=false", "saved")
    stale = alice.run("apply", "-input=false", "saved")
    assert stale.code == 1
    assert "stale" in stale.text, stale.text
    assert workshop.holder() is None
    assert alice.pull()["outputs"]["v"]["value"] == "2"
