"""Workspaces keep to themselves."""

from concurrent.futures import ThreadPoolExecutor

from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.spec import requirement
from lockproof.suites.documents import require_absent, require_stored, successive

NAMES = ("default", "foo", "bar", "foo-bar", "fo")
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
def test_workspaces_made_at_once_are_all_kept(scope: RecordedScope) -> None:
    """Of workspaces that many clients make at the same moment none is lost or mixed up."""
    clients = [scope.client(f"client-{n}") for n in range(CLIENTS)]
    plans = [
        {f"of-{n}-{k}": data for k, data in enumerate(successive(EACH, padding=2000))} for n in range(CLIENTS)
    ]

    def make(client: RecordedClient, plan: dict[str, bytes]) -> None:
        for name, data in plan.items():
            client.put(name, data)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(make, *work) for work in zip(clients, plans, strict=True)]:
            future.result()
    made = {name: data for plan in plans for name, data in plan.items()}
    reader = scope.client("reader")
    listed = set(reader.workspaces())
    assert listed == {"default", *made}, f"missing: {sorted(made.keys() - listed)}"
    for name, data in made.items():
        require_stored(reader, data, name)
