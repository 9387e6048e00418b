"""Workspaces keep to themselves."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.plugin.fixtures import Backend
from lockproof.spec import requirement
from lockproof.suites.documents import require_absent, require_stored, successive

NAMES = ("default", "foo", "bar", "foo-bar", "fo")
KINDS = ("stays", "leaves", "comes")
CLIENTS = 8
EACH = 2


@requirement("WS-ISO-001")
def test_writing_one_workspace_changes_no_other(alice: RecordedClient, bob: RecordedClient) -> None:
    """After every write each workspace has the state that was last written to it."""
    stored: dict[str, bytes] = {}
    states = successive(3 * len(NAMES))
    for _ in range(3):
        for name in NAMES:
            stored[name] = next(states)
            alice.put(name, stored[name])
            for other in NAMES:
                if other in stored:
                    require_stored(bob, stored[other], other)
                else:
                    require_absent(bob, other)


@requirement("WS-ISO-001")
def test_deleting_one_workspace_changes_no_other(alice: RecordedClient, bob: RecordedClient) -> None:
    """A deletion leaves the others, also those whose names begin alike."""
    stored = dict(zip(NAMES, successive(len(NAMES)), strict=True))
    for name, data in stored.items():
        alice.put(name, data)
    for name in ("foo", "fo"):
        alice.delete_workspace(name, force=True)
        del stored[name]
        for other, data in stored.items():
            require_stored(bob, data, other)
        assert stored.keys() <= set(bob.workspaces()), "another workspace is no longer listed"


@requirement("WS-ISO-002")
def test_workspaces_made_at_once_are_all_kept(backend: Backend, scope: RecordedScope) -> None:
    """Of workspaces that many clients make at the same moment none is lost or mixed up."""
    plans = [
        {f"of-{n}-{k}": data for k, data in enumerate(successive(EACH, paddings=[2000]))}
        for n in range(backend.clients or CLIENTS)
    ]
    at_once([partial(make, scope.client(f"client-{n}"), plan) for n, plan in enumerate(plans)])
    require_exactly(scope.client("reader"), {name: data for plan in plans for name, data in plan.items()})


@requirement("WS-ISO-002")
def test_workspaces_are_made_beside_deletions(scope: RecordedScope) -> None:
    """While some clients delete workspaces, others make new ones, and third ones stay as they are."""
    groups = [dict(zip((f"{kind}-{n}" for n in range(4)), successive(4), strict=True)) for kind in KINDS]
    staying, leaving, coming = groups
    make(scope.client("first"), {**staying, **leaving})
    at_once(
        [partial(make, scope.client(f"making-{name}"), {name: data}) for name, data in coming.items()]
        + [partial(scope.client(f"deleting-{name}").delete_workspace, name, force=True) for name in leaving]
    )
    require_exactly(scope.client("reader"), {**staying, **coming})


def make(client: RecordedClient, states: dict[str, bytes]) -> None:
    for name, data in states.items():
        client.put(name, data)


def at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Begins all calls at the same moment, each in a thread of its own; raises what one raised."""
    start = threading.Barrier(len(calls))

    def begin(call: Callable[[], None]) -> None:
        start.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(begin, call) for call in calls]:
            future.result()


def require_exactly(client: RecordedClient, states: dict[str, bytes]) -> None:
    """Raises unless these workspaces, each with its state, are all that there is beside `default`."""
    listed = set(client.workspaces())
    missing, surplus = sorted(states.keys() - listed), sorted(listed - states.keys() - {"default"})
    assert not missing, f"workspaces were lost: {missing}"
    assert not surplus, f"deleted workspaces are still listed: {surplus}"
    for name, data in states.items():
        require_stored(client, data, name)
