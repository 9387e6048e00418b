"""The sequential specifications: what each allows and forbids, on histories with a known verdict."""

from __future__ import annotations

import pytest

from lockproof.checkers.models import LockedStateModel, LockModel, Model, StateModel, WorkspaceSetModel
from lockproof.checkers.search import search
from lockproof.suites.meta.drawn import drawn

LEGAL_LOCKS = {
    "a handover whose calls overlap": """
        lock a    | [-]          | ok
        unlock a  |     [----]   | ok
        lock b    |      [-]     | ok
    """,
    "a refusal by whoever holds": """
        lock a    | [-]          | ok
        lock b    |     [-]      | held a
    """,
    "a refusal by the holder to be, while its own call is under way": """
        lock a    | [--------]   | ok
        lock b    |   [-]        | held a
    """,
    "a lost lock that was never taken": """
        lock a    | [--          |
        lock b    |    [-]       | ok
    """,
    "a lost lock that shows up long afterwards": """
        lock a    | [--               |
        lock b    |    [-]            | ok
        unlock b  |        [-]        | ok
        lock c    |            [-]    | held a
    """,
    "a lost release that took effect": """
        lock a    | [-]          | ok
        unlock a  |    [-        |
        lock b    |       [-]    | ok
    """,
    "a lost release that took effect late": """
        lock a    | [-]               | ok
        unlock a  |    [-             |
        lock b    |       [-]         | held a
        lock c    |            [-]    | ok
    """,
    "the same request again while it holds": """
        lock a    | [-]          | ok
        lock a    |     [-]      | ok
        lock a    |        [-]   | held a
    """,
    "the same request again after its release": """
        lock a    | [-]               | ok
        unlock a  |    [-]            | ok
        lock a    |       [-]         | ok
        lock b    |           [-]     | held a
    """,
    "a request again while the release is under way": """
        lock a    | [-]               | ok
        unlock a  |    [------]       | ok
        lock a    |      [-]          | ok
        lock b    |             [-]   | held a
    """,
    "a release that overlaps the request that it ends": """
        lock a    | [-]                      | ok
        unlock a  |    [-]                   | ok
        unlock a  |       [------------]     | ok
        lock a    |           [-]            | ok
        lock b    |                     [-]  | ok
    """,
    "a bare refusal that is none of the first but of the second session of a request": """
        lock a    | [-]                           | ok
        unlock a  |     [----------]              | ok
        lock a    |         [---------------]     | ok
        lock b    |             [----------------]| held
        lock c    |                  [-]          | held a
    """,
    "a refusal by the second and not the first session of a request": """
        lock a    | [-]                           | ok
        unlock a  |     [----------]              | ok
        lock a    |         [---------------]     | ok
        lock b    |             [----------------]| held a
        lock c    |                  [-]          | held a
    """,
    "releasing again what was just released": """
        lock a    | [-]             | ok
        unlock a  |    [-]          | ok
        unlock a  |       [-]       | ok
        unlock a  |          [-]    | not held
    """,
    "release by force, learnt too late by the holder": """
        lock a    | [-]                   | ok
        lock b    |    [-]                | held a
        unlock a  |       [-]             | ok
        lock b    |          [-]          | ok
        unlock a  |             [-]       | held b
    """,
    "releasing what a lost request may hold": """
        lock a    | [-          |
        unlock a  |    [-]      | ok
        lock b    |       [-]   | ok
    """,
    "an id chosen by the backend": """
        lock a    | [-]               | ok 7
        unlock a  |    [-]            | not held
        lock b    |       [-]         | held a 7
        unlock 7  |          [-]      | ok
    """,
    "an id chosen by the backend, whose reply was lost": """
        lock a    | [-                  |
        unlock a  |   [-]               | not held
        lock b    |      [-]            | held a 7
        unlock 7  |         [-]         | ok
        lock b    |            [-]      | ok 8
    """,
    "a lost lock's chosen id, named without its token": """
        lock a    | [-                  |
        lock b    |      [-]            | held - 7
        unlock 7  |         [-]         | ok
        lock b    |            [-]      | ok 8
    """,
    "a refused release by the request's id, where the backend chose another and lost the reply": """
        lock a    | [-               |
        lock b    |   [-]            | held a 7
        unlock a  |      [-]         | not held
        lock c    |          [-]     | held a 7
    """,
    "a bare refusal while somebody may hold": """
        lock a    | [-------]        | ok
        lock b    |    [-]           | held
    """,
    "a bare refusal while a lost request may hold": """
        lock a    | [-               |
        lock b    |    [-]           | held
    """,
    "a refused release while its release is under way": """
        lock a    | [-]              | ok
        unlock a  |    [----]        | ok
        unlock a  |      [-]         | not held
    """,
    "locks of other workspaces": """
        lock a       | [-]              | ok
        lock b @dev  |     [-]          | ok
        lock c @prod |        [-]       | ok
    """,
}

ILLEGAL_LOCKS = {
    "two grants": """
        lock a    | [-]         | ok
        lock b    |     [-]     | ok
    """,
    "a grant between two sights of another holder": """
        lock a    | [-              |
        lock c    |   [-]           | held a
        lock b    |       [-]       | ok
        lock d    |           [-]   | held a
    """,
    "three grants and one release": """
        lock a    | [------]        | ok
        lock b    |  [-----]        | ok
        lock c    |   [----]        | ok
        unlock a  |    [-]          | ok
    """,
    "a holder who never asked": """
        lock a    | [-]         | ok
        lock b    |     [-]     | held x
    """,
    "a holder whose request was refused": """
        lock a    | [-]             | ok
        lock b    |     [-]         | held a
        lock c    |         [-]     | held b
    """,
    "a holder who asks only later": """
        lock b    | [-]         | held a
        lock a    |     [-]     | ok
    """,
    "a holder after its release": """
        lock a    | [-]             | ok
        unlock a  |     [-]         | ok
        lock b    |         [-]     | held a
    """,
    "a lost request that takes the lock twice": """
        lock a    | [-                       |
        lock b    |   [-]                    | held a
        unlock a  |      [-]                 | ok
        lock b    |         [-]              | ok
        unlock b  |            [-]           | ok
        lock c    |               [-]        | held a
    """,
    "a request sent twice, taking the lock again after its release": """
        lock a    | [-                       |
        lock a    |     [-]                  | ok
        unlock a  |        [-]               | ok
        lock b    |            [-]           | held a
    """,
    "the same request again under another id": """
        lock a    | [-]         | ok 7
        lock a    |     [-]     | ok 8
    """,
    "a chosen id given twice": """
        lock a    | [-]                 | ok 7
        unlock 7  |     [-]             | ok
        lock b    |         [-]         | ok 7
    """,
    "a release of an earlier id while another holds": """
        lock a    | [-]                   | ok
        unlock a  |     [-]               | ok
        lock b    |         [-]           | ok
        unlock a  |             [-]       | ok
    """,
    "a release of an id never granted": """
        lock a    | [-]         | ok
        unlock x  |     [-]     | ok
    """,
    "a release of a refused request": """
        lock a    | [-]             | ok
        lock b    |     [-]         | held a
        unlock b  |         [-]     | ok
    """,
    "a release before the request": """
        unlock a  | [-]         | ok
        lock a    |     [-]     | ok
    """,
    "a holder who is refused to release": """
        lock a    | [-]         | ok
        unlock a  |     [-]     | not held
    """,
    "a holder who is refused to release because it holds": """
        lock a    | [-          |
        unlock a  |     [-]     | held a
    """,
    "a lost lock's id that is refused though a refusal told it": """
        lock a    | [-             |
        lock b    |   [-]          | held a 7
        unlock 7  |      [-]       | not held
    """,
    "a lost lock under two ids": """
        lock a    | [-             |
        lock b    |   [-]          | held a 7
        lock b    |      [-]       | held a 8
    """,
    "a bare refusal while nobody can hold": """
        lock a    | [-]                 | ok
        unlock a  |     [-]             | ok
        lock b    |         [-]         | held
    """,
    "a bare refusal before anybody asked": """
        lock b    | [-]             | held
        lock a    |     [-]         | ok
    """,
}

LEGAL_STATES = {
    "nothing, then what was written": """
        get       | [-]              | nothing
        put v     |     [-]          | ok
        get       |         [-]      | v
    """,
    "either of two writes at once": """
        put v     | [-----]          | ok
        put w     |  [----]          | ok
        get       |          [-]     | v
    """,
    "old, then new, while the write is under way": """
        put v     | [-]                  | ok
        put w     |    [-----------]     | ok
        get       |      [-]             | v
        get       |          [-]         | w
    """,
    "a lost write seen late": """
        put v     | [-]                  | ok
        put w     |    [-                |
        get       |      [-]             | v
        get       |          [-]         | w
    """,
    "a lost write never seen": """
        put v     | [-]                  | ok
        put w     |    [-                |
        get       |      [-]             | v
    """,
    "one value written again": """
        put v     | [-]                      | ok
        put w     |     [-]                  | ok
        put v     |         [-]              | ok
        get       |             [-]          | v
    """,
    "a deletion, twice": """
        put v     | [-]                      | ok
        delete    |     [-]                  | ok
        get       |         [-]              | nothing
        delete    |             [-]          | ok
    """,
    "a deletion that comes after the write that it overlaps": """
        delete    | [---------]              | ok
        put v     |   [-]                    | ok
        get       |              [-]         | nothing
    """,
    "an empty state that reads as absent": """
        put empty | [-]                      | ok
        get       |     [-]                  | nothing
        get       |         [-]              | empty
    """,
    "a refused write that nobody sees": """
        put v     | [-]                      | ok
        put w     |     [-]                  | refused
        get       |         [-]              | v
    """,
}

ILLEGAL_STATES = {
    "an older state after a newer one was written": """
        put v     | [-]                  | ok
        put w     |     [-]              | ok
        get       |         [-]          | v
    """,
    "new, then old, while the write is under way": """
        put v     | [-]                  | ok
        put w     |    [-----------]     | ok
        get       |      [-]             | w
        get       |          [-]         | v
    """,
    "two readers who saw two writes in two orders": """
        put v     | [----------------]   | ok
        put w     | [----------------]   | ok
        get       |  [-]                 | v
        get       |      [-]             | w
        get       |          [-]         | v
    """,
    "a lost write seen and then gone": """
        put v     | [-]                  | ok
        put w     |    [-                |
        get       |      [-]             | w
        get       |          [-]         | v
    """,
    "a write that had no effect": """
        put v     | [-]                  | ok
        get       |     [-]              | nothing
    """,
    "a value that nobody wrote": """
        put v     | [-]                  | ok
        get       |     [-]              | x
    """,
    "a value before it was written": """
        get       | [-]                  | v
        put v     |     [-]              | ok
    """,
    "other bytes under a known value": """
        put v     | [-]                  | ok
        get       |     [-]              | v torn
    """,
    "a refused write that somebody sees": """
        put w     | [-]                  | refused
        get       |     [-]              | w
    """,
    "a state after its deletion": """
        put v     | [-]                  | ok
        delete    |     [-]              | ok
        get       |         [-]          | v
    """,
    "a full state that reads as absent": """
        put empty | [-]                      | ok
        put v     |     [-]                  | ok
        get       |         [-]              | nothing
    """,
}

LEGAL_LISTS = {
    "default alone": """
        list          | [-]           | default
    """,
    "a workspace from its first write on": """
        put v @dev    | [-]           | ok
        list          |     [-]       | default dev
    """,
    "a workspace until its deletion": """
        put v @dev            | [-]                 | ok
        delete_workspace @dev |     [-]             | ok
        list                  |         [-]         | default
    """,
    "two pages of different moments": """
        put v @aa     |     [-]            | ok
        put v @bb     |         [-]        | ok
        list          | [--------------]   | bb default
    """,
    "a workspace whose state was deleted, listed or not": """
        put v @dev    | [-]                       | ok
        delete @dev   |     [-]                   | ok
        list          |         [-]               | default dev
        put v @prod   |             [-]           | ok
        delete @prod  |                 [-]       | ok
        list          |                     [-]   | default dev
    """,
    "default after its state was deleted": """
        put v         | [-]                       | ok
        delete        |     [-]                   | ok
        list          |         [-]               | default
    """,
    "a lost write that shows up late": """
        put v @dev    | [-                        |
        list          |     [-]                   | default
        list          |         [-]               | default dev
    """,
}

ILLEGAL_LISTS = {
    "a workspace that nobody made": """
        list          | [-]           | default dev
    """,
    "a workspace left out": """
        put v @dev    | [-]           | ok
        list          |     [-]       | default
    """,
    "a workspace after its deletion": """
        put v @dev            | [-]                 | ok
        delete_workspace @dev |     [-]             | ok
        list                  |         [-]         | default dev
    """,
    "a workspace that goes and comes back": """
        put v @dev            | [-                  |
        list                  |    [-]              | default dev
        list                  |        [-]          | default
    """,
    "default left out": """
        put v @dev    | [-]           | ok
        list          |     [-]       | dev
    """,
    "default left out after its state was deleted": """
        put v         | [-]                       | ok
        delete        |     [-]                   | ok
        list          |         [-]               | dev
        put v @dev    |     [-]                   | ok
    """,
    "a workspace listed twice": """
        put v @dev    | [-]           | ok
        list          |     [-]       | default dev dev
    """,
}

STALE_WRITE = """
    lock a       | [-]                                     | ok
    put v under a|     [----------------------------]      | ok
    unlock a     |        [-]                              | ok
    lock b       |            [-]                          | ok
    put w under b|                [-]                      | ok
    get          |                    [-]                  | w
    get          |                                    [-]  | v
"""

LEGAL_WRITES = {
    "a write by the holder": """
        lock a        | [-]             | ok
        put v under a |     [-]         | ok
        unlock a      |         [-]     | ok
        get           |            [-]  | v
    """,
    "a write at the very end of a lock": """
        lock a        | [-]             | ok
        unlock a      |     [------]    | ok
        put v under a |       [--]      | ok
        lock b        |       [--]      | ok
    """,
    "a refused write by a holder of old": """
        lock a        | [-]                    | ok
        unlock a      |     [-]                | ok
        lock b        |         [-]            | ok
        put v under a |             [-]        | held b
        get           |                 [-]    | nothing
    """,
    "a write without a lock": """
        lock a        | [-]             | ok
        put v         |     [-]         | ok
        get           |         [-]     | v
    """,
    "a lost write by the holder, seen": """
        lock a        | [-]             | ok
        put v under a |     [-          |
        get           |         [-]     | v
    """,
}

ILLEGAL_WRITES = {
    "a write after the release": """
        lock a        | [-]             | ok
        unlock a      |     [-]         | ok
        put v under a |         [-]     | ok
    """,
    "a write under an id never granted": """
        put v under a | [-]             | ok
    """,
    "a write under an id that is granted later": """
        put v under a | [-]             | ok
        lock a        |     [-]         | ok
    """,
    "a refusal of the holder's write": """
        lock a        | [-]             | ok
        put v under a |     [-]         | not held
    """,
    "a stale state under the lock": """
        lock a        | [-]                   | ok
        put v under a |     [-]               | ok
        put w under a |         [-]           | ok
        get           |             [-]       | v
    """,
}

STRICT, CHECKED = LockedStateModel(strict=True), LockedStateModel()
CASES: list[tuple[str, Model, str, str]] = [
    *((name, LockModel(), "valid", text) for name, text in LEGAL_LOCKS.items()),
    *((name, LockModel(), "violated", text) for name, text in ILLEGAL_LOCKS.items()),
    *((name, StateModel(), "valid", text) for name, text in LEGAL_STATES.items()),
    *((name, StateModel(), "violated", text) for name, text in ILLEGAL_STATES.items()),
    *((name, WorkspaceSetModel(), "valid", text) for name, text in LEGAL_LISTS.items()),
    *((name, WorkspaceSetModel(), "violated", text) for name, text in ILLEGAL_LISTS.items()),
    *((f"{name}, strict", STRICT, "valid", text) for name, text in LEGAL_WRITES.items()),
    *((f"{name}, checked", CHECKED, "valid", text) for name, text in LEGAL_WRITES.items()),
    *((f"{name}, strict", STRICT, "violated", text) for name, text in ILLEGAL_WRITES.items()),
    *((f"{name}, checked", CHECKED, "violated", text) for name, text in ILLEGAL_WRITES.items()),
    ("a stale write, strict", STRICT, "violated", STALE_WRITE),
    ("a stale write, checked", CHECKED, "valid", STALE_WRITE),
    ("a stale write, no fencing", LockModel(), "valid", STALE_WRITE),
    (
        "a write after the release, no fencing",
        LockModel(),
        "valid",
        ILLEGAL_WRITES["a write after the release"],
    ),
    ("the same history, twice the lock", LockModel(fencing=True), "violated", ILLEGAL_LOCKS["two grants"]),
]


@pytest.mark.parametrize(
    ("model", "verdict", "text"),
    [case[1:] for case in CASES],
    ids=[f"{type(case[1]).__name__}: {case[0]}" for case in CASES],
)
def test_the_specification_gives_the_known_verdict(model: Model, verdict: str, text: str) -> None:
    """A history drawn by hand is legal or not, as the contract says."""
    found = search(drawn(text).operations(), model)
    assert found.status == verdict, found


def test_a_lost_write_needs_the_lock_when_strict() -> None:
    """A lost write under an id takes effect only while that id holds."""
    text = """
        lock a        | [-]                       | ok
        unlock a      |     [-]                   | ok
        put v under a |         [-                |
        get           |             [-]           | v
    """
    assert search(drawn(text).operations(), STRICT).status == "violated"
    assert search(drawn(text).operations(), CHECKED).status == "valid"
