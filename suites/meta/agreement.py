"""Small histories at random, and two verdicts on each: the fast checkers' and the general search's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from lockproof.checkers import Verdict, check, check_mutex, check_register, models
from lockproof.checkers.models import LockedStateModel, LockModel, StateModel, WorkspaceSetModel
from lockproof.checkers.search import search
from lockproof.checkers.workspaces import check_workspaces
from lockproof.history import Event, History
from lockproof.history.event import EventKind
from lockproof.history.generate import Model, Workload
from lockproof.history.generate_faults import FAULTS

LARGEST = 14
LOST: Mapping[str, Any] = {"kind": "timeout", "definite": False}


def workloads(model: Model) -> st.SearchStrategy[Workload]:
    """Workloads of up to 14 operations of 2 to 4 clients, up to 40 % of their replies lost."""
    share = st.sampled_from([0.0, 0.0, 0.3, 0.8])
    return st.builds(
        Workload,
        model=st.just(model),
        operations=st.integers(3, LARGEST),
        clients=st.integers(2, 4),
        seed=st.integers(0, 1 << 30),
        unknown=st.sampled_from([0.0, 0.05, 0.2, 0.4]),
        backend_ids=st.booleans(),
        bare=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
        resend=share,
        force=st.sampled_from([0.0, 0.1, 0.5]),
        zombies=share,
        deletes=st.sampled_from([0.0, 0.3]),
        equal=st.sampled_from([0.0, 0.0, 0.4]),
        slow=st.booleans(),
    )


def prone(workload: Workload, fault: str) -> Workload:
    """`workload` with `fault`, and with the manners without which the fault finds no place."""
    manners: dict[str, Any] = {"fault": fault}
    if "release" in fault or fault == "zombie write":
        manners["zombies"] = 0.8
    elif fault == "id granted twice":
        manners["backend_ids"] = True
    elif fault == "refused while free":
        manners |= {"unknown": 0.0, "clients": min(workload.clients, 4)}
    elif fault == "lost state":
        manners["deletes"] = 0.0
    elif fault == "resurrected delete":
        manners["deletes"] = 0.3
    elif fault == "stale write":
        manners |= {"force": 0.9, "slow": False}
    return replace(workload, **manners)


def shortened(workload: Workload, operations: int) -> Workload:
    """`workload` with so many operations."""
    return replace(workload, operations=operations)


def faults_of(model: Model) -> Sequence[str]:
    """The faults that can happen in workloads of `model`."""
    return [name for name, fault in FAULTS.items() if model in fault.models]


def general(history: History, model: Model) -> Verdict:
    """What the general search says."""
    strict = "locking.fencing-strict" in history.header["capabilities"]
    specifications: Mapping[str, models.Model] = {
        "lock": LockModel(),
        "register": StateModel(),
        "fenced": LockedStateModel(strict=strict),
        "workspaces": WorkspaceSetModel(),
    }
    return search(history.operations(), specifications[model])


def fast(history: History, model: Model) -> Verdict:
    """What the fast checkers say."""
    judge: Callable[[History], Verdict] = {
        "lock": check_mutex,
        "register": check_register,
        "fenced": check,
        "workspaces": check_workspaces,
    }[model]
    return judge(history)


def agreeing(history: History, model: Model, tally: Counter[str]) -> tuple[Verdict, Verdict]:
    """Both verdicts. Fails when each is sure and they differ; `tally` counts the verdicts."""
    quick, thorough = fast(history, model), general(history, model)
    tally[f"fast {quick.status}"] += 1
    tally[f"search {thorough.status}"] += 1
    if "unknown" not in {quick.status, thorough.status}:
        lines = "\n".join(map(str, (event.to_json() for event in history.events if event.e != "note")))
        assert quick.status == thorough.status, f"\nfast: {quick}\nsearch: {thorough}\n{lines}"
    return quick, thorough


# --- mutations -----------------------------------------------------------------------------------


@dataclass
class Draft:
    """An operation that can be changed."""

    f: str
    ws: str | None
    given: Mapping[str, Any]
    e: EventKind = "info"
    out: Any = None
    err: Mapping[str, Any] | None = None


class Sketch:
    """A history that can be changed: drafts, and the order of their calls (`True`) and outcomes."""

    def __init__(self, history: History) -> None:
        self.header = history.header
        self.drafts: list[Draft] = []
        marks: list[tuple[int, int, bool]] = []
        for number, op in enumerate(history.operations()):
            self.drafts.append(Draft(op.f, op.ws, dict(op.given)))
            marks.append((op.i, number, True))
            if op.outcome is not None:
                draft = self.drafts[-1]
                draft.e, draft.out, draft.err = op.outcome.e, op.outcome.out, op.outcome.err
                marks.append((op.outcome.i, number, False))
        self.order = [(number, call) for _, number, call in sorted(marks)]

    def history(self) -> History:
        """The history, each operation by a process of its own."""
        events: list[Event] = []
        for i, (number, call) in enumerate(self.order):
            d = self.drafts[number]
            if call:
                events.append(Event(i, 1000 * i, number, "invoke", d.f, d.ws, d.given))
            else:
                events.append(Event(i, 1000 * i, number, d.e, d.f, d.ws, None, d.out, d.err))
        return History(self.header, tuple(events), closed=True)

    def without(self, number: int) -> None:
        """Drops one operation."""
        del self.drafts[number]
        kept = [(n, call) for n, call in self.order if n != number]
        self.order = [(n - (n > number), call) for n, call in kept]


def mutated(history: History, random: Random, times: int) -> History:
    """`history` with so many random changes, which may or may not make it a violation."""
    sketch = Sketch(history)
    for _ in range(times):
        if sketch.drafts:
            random.choice(MUTATIONS)(sketch, random)
    return sketch.history()


def told_by_id_alone(history: History) -> History:
    """`history` with refusals that name the holder's lock id and nothing else, as a backend may."""
    sketch = Sketch(history)
    _name_by_id(sketch.drafts)
    return sketch.history()


def _name_by_id(drafts: Sequence[Draft]) -> None:
    for draft in drafts:
        err = draft.err or {}
        if err.get("holder"):
            draft.err = {**err, "holder": {"ID": err["holder"]["ID"]}}


def _swap(sketch: Sketch, random: Random) -> None:
    at = random.randrange(max(1, len(sketch.order) - 1))
    pair = sketch.order[at : at + 2]
    if len({number for number, _ in pair}) == 2:
        sketch.order[at : at + 2] = pair[::-1]


def _move(sketch: Sketch, random: Random) -> None:
    number = random.randrange(len(sketch.drafts))
    if (number, False) in sketch.order:
        sketch.order.remove((number, False))
        called = sketch.order.index((number, True))
        sketch.order.insert(random.randint(called + 1, len(sketch.order)), (number, False))


def _drop(sketch: Sketch, random: Random) -> None:
    sketch.without(random.randrange(len(sketch.drafts)))


def _lose(sketch: Sketch, random: Random) -> None:
    draft = random.choice(sketch.drafts)
    draft.e, draft.out, draft.err = "info", None, LOST


def _repeat(sketch: Sketch, random: Random) -> None:
    draft = random.choice(sketch.drafts)
    number = len(sketch.drafts)
    sketch.drafts.append(replace(draft))
    called = random.randint(0, len(sketch.order))
    sketch.order.insert(called, (number, True))
    sketch.order.insert(random.randint(called + 1, len(sketch.order)), (number, False))


def _turn(sketch: Sketch, random: Random) -> None:
    """A success becomes a refusal, anything else a success."""
    draft = random.choice(sketch.drafts)
    if draft.e != "ok":
        lock_id = draft.given["info"]["ID"] if draft.f == "lock" else None
        state = random.choice(_states(sketch))
        out = {"lock": lock_id, "get": state, "workspaces": ["default"]}.get(draft.f)
        draft.e, draft.out, draft.err = "ok", out, None
    elif draft.f in {"lock", "unlock", "put"}:
        kind = {"lock": "locked", "unlock": "not_locked", "put": "lock_mismatch"}[draft.f]
        draft.e, draft.out, draft.err = "fail", None, {"kind": kind, "definite": True}


def _another_state(sketch: Sketch, random: Random) -> None:
    reads = [draft for draft in sketch.drafts if draft.f == "get" and draft.e == "ok"]
    for draft in random.sample(reads, min(1, len(reads))):
        draft.out = random.choice(_states(sketch))


def _another_holder(sketch: Sketch, random: Random) -> None:
    refusals = [d for d in sketch.drafts if d.e == "fail" and d.f in {"lock", "unlock", "put"}]
    requests = [d for d in sketch.drafts if d.f == "lock"]
    for draft in random.sample(refusals, min(1, len(refusals))):
        err = {key: value for key, value in (draft.err or {}).items() if key != "holder"}
        if requests and random.random() < 0.8:
            request = random.choice(requests)
            lock_id = request.out if request.e == "ok" else request.given["info"]["ID"]
            err["holder"] = {**request.given["info"], "ID": lock_id}
        draft.err = err


def _id_alone(sketch: Sketch, random: Random) -> None:
    """A refusal, or each one, names the holder by its lock id alone."""
    naming = [d for d in sketch.drafts if d.e == "fail"]
    _name_by_id(naming if random.random() < 0.5 else random.sample(naming, min(1, len(naming))))


def _another_id(sketch: Sketch, random: Random) -> None:
    named = [d for d in sketch.drafts if d.given.get("lock_id")]
    granted = [d for d in sketch.drafts if d.f == "lock" and d.e == "ok"]
    if named and granted:
        draft = random.choice(named)
        draft.given = {**draft.given, "lock_id": random.choice(granted).out}


def _another_value(sketch: Sketch, random: Random) -> None:
    writes = [draft for draft in sketch.drafts if draft.f == "put"]
    if writes:
        draft, other = random.choice(writes), random.choice(writes)
        same = {key: other.given[key] for key in ("value", "sha256", "serial", "lineage")}
        draft.given = {**draft.given, **same}


def _another_name(sketch: Sketch, random: Random) -> None:
    lists = [draft for draft in sketch.drafts if draft.f == "workspaces" and draft.e == "ok"]
    names = sorted({draft.ws for draft in sketch.drafts if draft.ws})
    if lists and names:
        draft, name = random.choice(lists), random.choice(names)
        draft.out = [n for n in draft.out if n != name] if name in draft.out else sorted([*draft.out, name])


def _states(sketch: Sketch) -> Sequence[Mapping[str, Any]]:
    shown = ("value", "sha256", "serial", "lineage")
    writes = [{key: d.given[key] for key in shown} for d in sketch.drafts if d.f == "put"]
    return [{"value": None}, *writes]


MUTATIONS = (
    _swap,
    _move,
    _drop,
    _lose,
    _repeat,
    _turn,
    _another_state,
    _another_holder,
    _id_alone,
    _another_id,
    _another_value,
    _another_name,
)
