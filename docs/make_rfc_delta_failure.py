"""Shows how the Delta lock of the RFC fails, as files in `docs/rfc-delta-design/`.

The RFC's lock is an INSERT that a primary key is to refuse. On Databricks a primary key is informational
(docs.databricks.com/tables/constraints), so two INSERTs of one key both commit. The explorer finds the
schedule of two clients that shows it, and shrinks it:

    python docs/make_rfc_delta_failure.py
"""

from __future__ import annotations

from pathlib import Path

from lockproof.checkers import check
from lockproof.explore import Exhaustive, explore
from lockproof.fakes.saboteurs.delta_locks import TrustsThePrimaryKey
from lockproof.history import HistoryWriter
from lockproof.report.operations import relevant
from lockproof.report.timeline import page
from lockproof.suites.concurrency.exploring import adopt
from lockproof.suites.concurrency.programs import LOCK_UNLOCK_LOCK

FOLDER = Path(__file__).parent / "rfc-delta-design"
BACKEND = "py:lockproof.fakes.saboteurs.delta_locks:TrustsThePrimaryKey"
LIMIT = 1000


def main() -> None:
    program = LOCK_UNLOCK_LOCK.program
    with TrustsThePrimaryKey.provision({}) as options, TrustsThePrimaryKey(options).explored() as subject:
        found = explore(program, subject, Exhaustive(), limit=LIMIT)
    if found.status != "violated" or found.schedule is None or found.history is None:
        raise SystemExit(f"no schedule fails: {found.status} after {found.schedules}, {found.reason}")
    FOLDER.mkdir(exist_ok=True)
    found.schedule.save(FOLDER / "schedule.json")
    with HistoryWriter(found.history.header, FOLDER / "history.jsonl") as writer:
        adopt(found.history, writer)
    history = writer.history()
    verdict = check(history)
    story = [
        "The Delta lock of the RFC: an INSERT into a table whose primary key is the lock's key.",
        "",
        *relevant(history, verdict.witness),
        "",
        f"Verdict: {verdict.headline}",
        "",
        f"Found by schedule {found.schedules} of two clients ({found.schedule.strategy}), shrunk to "
        f"{found.schedule.switches} switch{'es' * (found.schedule.switches != 1)}:",
        "",
        found.schedule.table(),
        "",
        "Replay it:",
        f"  pytest --backend={BACKEND} --backend-schedule docs/rfc-delta-design/schedule.json",
    ]
    (FOLDER / "story.txt").write_text("\n".join(story) + "\n", encoding="utf-8")
    (FOLDER / "timeline.html").write_text(page(history), encoding="utf-8")
    for path in sorted(FOLDER.iterdir()):
        print(path.relative_to(Path(__file__).parents[1]))


if __name__ == "__main__":
    main()
