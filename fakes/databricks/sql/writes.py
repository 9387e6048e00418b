"""From a plan to a commit: the checkpoint between snapshot and commit, the arbiter, the engine's write."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from lockproof.fakes.databricks.sql.cells import Result, counts
from lockproof.fakes.databricks.sql.engine import batch_of
from lockproof.fakes.databricks.sql.planner import Plan, plan_delete, plan_insert, plan_merge, plan_update
from lockproof.fakes.databricks.sql.reads import watcher
from lockproof.fakes.databricks.sql.session import Session
from lockproof.fakes.databricks.sql.tables import surplus


def insert(session: Session, tree: exp.Insert) -> Result:
    plan = plan_insert(session, tree)
    commit(session, plan)
    added = len(plan.change.added)
    return counts(num_affected_rows=added, num_inserted_rows=added)


def update(session: Session, tree: exp.Update) -> Result:
    plan = plan_update(session, tree)
    commit(session, plan)
    return counts(num_affected_rows=len(plan.change.added))


def delete(session: Session, tree: exp.Delete) -> Result:
    plan = plan_delete(session, tree)
    commit(session, plan)
    return counts(num_affected_rows=len(plan.change.removed))


def merge(session: Session, tree: exp.Merge) -> Result:
    plan = plan_merge(session, tree)
    commit(session, plan)
    did = plan.actions
    return counts(
        num_affected_rows=sum(did.values()),
        num_updated_rows=did["update"],
        num_deleted_rows=did["delete"],
        num_inserted_rows=did["insert"],
    )


def commit(session: Session, plan: Plan) -> None:
    """Commits the change. A statement that changes nothing makes no version and meets no conflict, as in
    Delta's `commitIfNeeded`."""
    session.reach("snapshot")
    change = plan.change
    if not change.removed and not change.added:
        return
    target, watch = plan.target, session.watch
    store = target.live.store
    names = [column.name for column in target.columns]
    metadata: dict[str, Any] = {
        "userName": session.principal.name,
        "sqlOperation": change.operation,
        "snapshotVersion": str(target.version),
        "isBlindAppend": change.blind,
    }

    def write(version: int) -> int:
        if plan.replaces:
            picks = list(range(len(plan.operations)))
            batch = batch_of(plan.answer, picks, plan.operations, names).select(names)
            return store.overwrite(batch, version, metadata, watch)
        if not change.removed:
            batch = batch_of(plan.answer, range(len(plan.operations)), plan.operations, names)
            return store.append(batch.select(names), version, metadata, watch)
        picks, operations = _exchange(plan)
        if version != target.version:
            kept = surplus(change.removed, store.rows(version, watch))
            for index, operation in list(zip(picks, operations, strict=True)):
                row = plan.answer.rows[index][1 : len(names) + 1]
                if operation == "D" and kept[row]:
                    picks += [index] * kept[row]
                    operations += ["A"] * kept[row]
        return store.exchange(batch_of(plan.answer, picks, operations, names), version, metadata, watch)

    version = session.tables.commit(target, change, write, watcher(session), session.principal, watch)
    session.committed[target.full_name] = version
    session.reach("committed")


def _exchange(plan: Plan) -> tuple[list[int], list[str]]:
    """The rows of the answer for the engine, each removed row once: equal rows go together."""
    seen = set()
    picks, operations = [], []
    for index, operation in enumerate(plan.operations):
        row = plan.answer.rows[index][1 : len(plan.target.columns) + 1]
        if operation == "D":
            if row in seen:
                continue
            seen.add(row)
        picks.append(index)
        operations.append(operation)
    return picks, operations
