"""Shows how the Delta lock of the RFC fails, as files in `docs/rfc-delta-design/`.

The RFC's lock is an INSERT that a primary key is to refuse. On Databricks a primary key is informational
(docs.databricks.com/tables/constraints), so two INSERTs of one key both commit. The explorer finds the
schedule of two clients that shows it, and shrinks it:

    python docs/make_rfc_delta_failure.py
"""

from __future__ import annotations

from pathlib import Path

from explored_failure import write_failure

from lockproof.explore import Exhaustive, explore
from lockproof.fakes.saboteurs.delta_locks import TrustsThePrimaryKey
from lockproof.suites.concurrency.programs import LOCK_UNLOCK_LOCK

FOLDER = Path(__file__).parent / "rfc-delta-design"
BACKEND = "py:lockproof.fakes.saboteurs.delta_locks:TrustsThePrimaryKey"
LIMIT = 1000


def main() -> None:
    program = LOCK_UNLOCK_LOCK.program
    with TrustsThePrimaryKey.provision({}) as options, TrustsThePrimaryKey(options).explored() as subject:
        found = explore(program, subject, Exhaustive(), limit=LIMIT)
    opening = ["The Delta lock of the RFC: an INSERT into a table whose primary key is the lock's key."]
    write_failure(found, FOLDER, opening, BACKEND, story="story.txt", timeline="timeline.html")
    for path in sorted(FOLDER.iterdir()):
        print(path.relative_to(Path(__file__).parents[1]))


if __name__ == "__main__":
    main()
