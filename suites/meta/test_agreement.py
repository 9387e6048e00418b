"""The fast checkers and the general search, which share no logic, judge the same histories alike.

`AGREEMENT_HISTORIES` says how many small histories are compared, 2,000 unless it is set; 100,000 take
about a quarter of an hour. With `-rP` the counts of verdicts are shown.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lockproof.checkers import Verdict
from lockproof.checkers.mutex import MutexMonitor
from lockproof.checkers.mutex_plain import plain_sessions
from lockproof.checkers.search import search
from lockproof.history.generate import Model, NoOpportunity, Workload, generate
from lockproof.history.generate_faults import FAULTS
from lockproof.suites.meta import agreement
from lockproof.suites.meta.agreement import (
    agreeing,
    fast,
    faults_of,
    mutated,
    prone,
    told_by_id_alone,
    workloads,
)

HISTORIES = int(os.environ.get("AGREEMENT_HISTORIES", "2000"))
MODELS: tuple[Model, ...] = ("lock", "register", "fenced", "workspaces")
UNDECIDED = 0.4
"""The largest share of random histories on which the fast checkers may be of no opinion."""


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast checkers cannot ask the search where they have no opinion."""
    replaced = 0
    for name, module in list(sys.modules.items()):
        if name.startswith("lockproof.checkers.") and vars(module).get("search") is search:
            monkeypatch.setattr(module, "search", lambda *_, **__: Verdict("unknown", "no search"))
            replaced += 1
    assert replaced > 1


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("model", MODELS)
def test_the_fast_checkers_agree_with_the_search_on_random_histories(model: Model) -> None:
    """Valid histories, faulty ones, and both with random changes get the same verdict from both."""
    tally: Counter[str] = Counter()

    @settings(
        max_examples=HISTORIES // len(MODELS),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        workloads(model),
        st.sampled_from([None, None, *faults_of(model)]),
        st.sampled_from([0, 1, 1, 2, 3, 4]),
        st.randoms(use_true_random=False),
    )
    def agree(workload: Workload, fault: str | None, changes: int, random: Random) -> None:
        try:
            history = generate(workload if fault is None else prone(workload, fault))
        except NoOpportunity:
            assume(False)
        agreeing(mutated(history, random, changes) if changes else history, model, tally)

    agree()
    print(f"{model}: {dict(tally)}")
    assert tally["search unknown"] == 0, tally
    assert tally["fast unknown"] <= UNDECIDED * sum(tally.values()) / 2, tally
    assert min(tally["fast valid"], tally["fast violated"]) >= HISTORIES // len(MODELS) // 10, tally


@pytest.mark.parametrize("model", MODELS)
def test_valid_histories_are_no_false_alarm_to_either(model: Model) -> None:
    """What a true object answered under any manners is never called a violation, and is decided; also when
    refusals name the holder by its lock id alone."""
    tally: Counter[str] = Counter()

    @settings(max_examples=HISTORIES // 20, deadline=None, database=None)
    @given(workloads(model))
    def agree(workload: Workload) -> None:
        history = generate(workload)
        for told in (history, told_by_id_alone(history)):
            quick, thorough = agreeing(told, model, tally)
            assert (quick.status, thorough.status) == ("valid", "valid"), (quick, thorough)

    agree()
    assert tally["fast valid"] >= HISTORIES // 20


FAULTY = [(model, fault) for model in MODELS for fault in faults_of(model)]


@pytest.mark.parametrize(("model", "fault"), FAULTY, ids=lambda value: value.replace(" ", "-"))
def test_both_find_each_fault_in_small_histories(model: Model, fault: str) -> None:
    """Each kind of fault is a violation to the fast checkers and to the search, wherever it is put."""
    found = 0
    for seed in range(2000):
        workload = Workload(model=model, operations=24, clients=4, seed=seed, unknown=0.1 * (seed % 3))
        try:
            history = generate(prone(workload, fault))
        except NoOpportunity:
            continue
        tally: Counter[str] = Counter()
        quick, thorough = agreeing(history, model, tally)
        assert (quick.status, thorough.status) == ("violated", "violated"), (seed, quick, thorough)
        found += 1
        if found == 5:
            return
    raise AssertionError(f"{fault} found a place in only {found} histories")


@pytest.mark.parametrize(("model", "fault"), FAULTY, ids=lambda value: value.replace(" ", "-"))
def test_the_fast_checkers_find_each_fault_in_a_large_history(model: Model, fault: str) -> None:
    """One fault among 3,000 operations of 20 clients, 5 % of their replies lost, is found."""
    workload = Workload(model=model, operations=3000, clients=20, seed=7, unknown=0.05, deletes=0.05)
    verdict = fast(generate(prone(workload, fault)), model)
    assert verdict.status == "violated", verdict
    assert verdict.details["workspace"], verdict
    assert verdict.witness


@pytest.mark.parametrize("model", MODELS)
def test_large_valid_histories_are_no_false_alarm(model: Model) -> None:
    """3,000 operations of 20 clients, 5 % of their replies lost, are valid to the fast checkers."""
    verdict = fast(generate(Workload(model=model, operations=3000, clients=20, seed=7, unknown=0.05)), model)
    assert verdict.status == "valid", verdict


@pytest.mark.parametrize("model", ["lock", "fenced"])
@pytest.mark.parametrize("unknown", [0.0, 0.05])
def test_plain_histories_are_accepted_in_one_pass_and_faulty_ones_never(model: Model, unknown: float) -> None:
    """The short cut takes most valid histories, and leaves every fault to a closer look."""
    calm = Workload(model=model, operations=400, clients=8, unknown=unknown, seed=3, force=0.0)
    history = generate(calm)
    sessions = plain_sessions(history.operations(), fencing=model == "fenced")
    monitor = MutexMonitor(fencing=model == "fenced")
    for op in history.operations():
        monitor.add(op)
    assert sessions == monitor.verdict(closed=True).details["sessions"] > 10
    for fault in set(faults_of(model)) - set(faults_of("register")) - {"stale write"}:
        for seed in range(20):
            try:
                faulty = generate(replace(prone(calm, fault), seed=seed))
            except NoOpportunity:
                continue
            sessions = plain_sessions(faulty.operations(), fencing=model == "fenced")
            assert not isinstance(sessions, int), (fault, seed)
            break


def test_every_fault_belongs_to_a_model() -> None:
    """No fault is left out of the comparisons."""
    assert {fault for _, fault in FAULTY} == set(FAULTS)


def test_a_difference_between_the_two_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself can fail: a checker that calls everything valid is caught."""
    history = generate(Workload(model="lock", operations=24, fault="double grant", seed=1))
    agreeing(history, "lock", Counter())
    monkeypatch.setattr(agreement, "check_mutex", lambda _: Verdict("valid", "all is well"))
    with pytest.raises(AssertionError, match="all is well"):
        agreeing(history, "lock", Counter())
