"""Plans of faults: data that a seed repeats."""

from __future__ import annotations

import json

import pytest

from lockproof.chaos.nemesis import FAMILIES, family_of, nemeses, require_families
from lockproof.chaos.plan import Plan, Step

NAMES = ("net.delay", "net.drop_reply", "net.partition", "net.throttle", "net.truncate")
CLIENTS = ("ann", "ben")


def test_a_seed_repeats_the_plan() -> None:
    """The same seed gives the same steps with the same parameters, another one gives others."""
    plans = [Plan.draw(seed, NAMES, 200, CLIENTS) for seed in (7, 7, 8)]
    assert plans[0] == plans[1]
    assert plans[0].steps != plans[2].steps


def test_a_plan_uses_every_fault_before_any_again() -> None:
    """As far as the operations go, each fault comes once in every round, in order of time."""
    plan = Plan.draw(3, NAMES, 200, CLIENTS)
    names = [step.nemesis for step in plan.steps]
    assert len(names) >= 2 * len(NAMES)
    assert set(names[: len(NAMES)]) == set(names[len(NAMES) : 2 * len(NAMES)]) == set(NAMES)
    assert [step.after for step in plan.steps] == sorted(step.after for step in plan.steps)
    assert all(step.after < 200 and step.lasts >= 1 for step in plan.steps)


def test_a_fault_of_a_link_strikes_one_of_the_clients() -> None:
    """The plan says whose links are struck, and names them all in time."""
    struck = {step.parameters["on"] for step in Plan.draw(5, NAMES, 200, CLIENTS).steps}
    assert struck == set(CLIENTS)


def test_a_plan_without_faults_is_empty() -> None:
    """Where no fault is possible nothing is drawn, and nothing hangs."""
    assert Plan.draw(1, (), 200, CLIENTS).steps == ()


def test_a_plan_survives_json() -> None:
    """What is written into a history reads back as the same plan."""
    plan = Plan.draw(11, [*nemeses()], 300, CLIENTS)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    "document", [{}, {"seed": 1}, {"seed": "x", "steps": []}, {"seed": 1, "steps": [{}]}]
)
def test_what_is_no_plan_is_refused_in_one_line(document: dict[str, object]) -> None:
    """A document that is no plan says so."""
    with pytest.raises(ValueError, match=r"^not a plan of faults: .+$"):
        Plan.from_json(document)


def test_a_plan_is_shown_line_by_line() -> None:
    """A person reads when what is done to whom."""
    plan = Plan(7, (Step(4, "net.delay", 3, {"on": "ann", "seconds": 0.1}),))
    assert str(plan) == ("plan of faults, seed 7:\n  after 4 operations, for 3: net.delay on=ann seconds=0.1")


def test_a_step_of_an_unknown_fault_names_the_known_ones() -> None:
    """A plan of another version is refused by the name of what is not there."""
    with pytest.raises(LookupError, match=r"no nemesis named 'net\.rain': .*net\.delay"):
        Step(1, "net.rain", 1).make()


def test_every_nemesis_is_of_a_family_and_is_what_it_draws() -> None:
    """Each is registered under its own name in a known family, and takes the parameters it draws."""
    assert {family_of(name) for name in nemeses()} == set(FAMILIES)
    for step in Plan.draw(2, [*nemeses()], 1_000, CLIENTS).steps:
        made = step.make()
        assert (made.name, made.family) == (step.nemesis, family_of(step.nemesis))
        assert step.parameters.items() <= made.parameters.items()


def test_a_misspelt_family_is_told_the_nearest() -> None:
    """A family that is none is named, with the one that was meant."""
    require_families(["net", "kill"])
    with pytest.raises(
        LookupError, match=r"no family of faults named 'nte' \(did you mean net\?\): net, kill"
    ):
        require_families(["kill", "nte"])
