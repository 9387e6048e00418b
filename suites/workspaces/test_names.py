"""Names. OpenTofu allows those that `url.PathEscape` leaves alone, so the backend meets them all.

Source: opentofu internal/command/workspace_command.go:57-62; Go's net/url keeps letters, digits and
`- _ . ~ $ & + = : @` in a path segment.
"""

from functools import partial

import pytest

from lockproof.driver.recorder import RecordedClient
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import refused, require_absent, require_stored

ODD = (
    "UPPER", "Mixed-Case", "with_underscore", "dotted.name", "til~de", "dol$lar", "am&per", "pl+us",
    "eq=ual", "co:lon", "at@sign", "a=b&c=d+e", "$HOME", "~", "-", "_", "0", "007", "1e3", "-dash",
    "--force", "+", "trailing.", ".hidden", "env:", "default2", "tfstate", "terraform.tfstate",
    "foo.tfstate", "foo.tflock", "lock", "state", "null", "true", "con", "x" * 90,
)  # fmt: skip

ALIKE = {
    "case": ("staging", "Staging", "STAGING"),
    "prefix": ("env", "env-1", "env-10", "e", "env."),
    "default": ("default", "Default", "default2", "default.", "-default"),
    "env-prefix": ("env:", "env:foo", "foo", "env:env:foo"),
    "ending": ("foo", "foo.tfstate", "foo.tflock", "foo.lock", "foo~"),
    "separators": ("a-b", "a_b", "a.b", "a+b", "a:b", "a=b", "ab"),
    "plus-and-dollar": ("a+b", "a$2Bb", "a2Bb"),
    "leading-zeros": ("1", "01", "1.0", "1e0"),
    "characters-64": tuple("x" * 63 + end for end in ("", "1", "2", "12")),
    "characters-128": tuple("y" * 127 + end for end in ("", "1", "2", "12")),
    "characters-300": tuple("z" * 299 + end for end in ("", "1", "2", "12")),
}

DOTS = ("..", ".", "...", "..default", "default..", "..:..", "..+..")


@reported("terraform#17508")
@requirement("WS-NAME-001")
def test_allowed_names_are_kept_or_refused(alice: RecordedClient, bob: RecordedClient) -> None:
    """Every allowed name that is not refused is listed letter for letter and keeps its own state."""
    kept = keep(alice, ODD)
    assert set(bob.workspaces()) == {"default", *kept}
    for name, data in kept.items():
        require_stored(bob, data, name)


@requirement("WS-NAME-004")
def test_allowed_names_are_accepted(alice: RecordedClient) -> None:
    """No name that OpenTofu allows is refused."""
    kept = keep(alice, ODD)
    assert not set(ODD) - kept.keys(), "some allowed names were refused"


@requirement("WS-NAME-002")
@pytest.mark.parametrize("kind", ALIKE)
def test_names_that_look_alike_are_different_workspaces(
    kind: str, alice: RecordedClient, bob: RecordedClient
) -> None:
    """Names that differ only a little share no state; each is kept or refused, never merged."""
    kept = keep(alice, ALIKE[kind])
    for name, data in kept.items():
        require_stored(bob, data, name)
    if "default" not in kept:
        require_absent(bob)
    assert set(bob.workspaces()) == {"default", *kept}
    for name in list(kept):
        if name != "default":
            alice.delete_workspace(name, force=True)
            del kept[name]
        for other, data in kept.items():
            require_stored(bob, data, other)


@requirement("WS-NAME-003")
@pytest.mark.parametrize("name", DOTS)
def test_dots_lead_nowhere(name: str, alice: RecordedClient, bob: RecordedClient) -> None:
    """A name made of dots is a workspace of its own or refused: it is no way to another state."""
    stored = {other: tofu_bytes(document(of=other)) for other in ("default", "foo")}
    for other, data in stored.items():
        alice.put(other, data)
    kept = keep(alice, [name])
    stored.update(kept)
    for other, data in stored.items():
        require_stored(bob, data, other)
    assert set(bob.workspaces()) == {"default", *stored}
    if kept:
        alice.delete_workspace(name, force=True)
    for other in ("default", "foo"):
        require_stored(bob, stored[other], other)
    assert set(bob.workspaces()) == {"default", "foo"}


def keep(client: RecordedClient, names: tuple[str, ...] | list[str]) -> dict[str, bytes]:
    """Writes a state of its own to each name; what was kept, by name. Refused names are left out."""
    states = {name: tofu_bytes(document(of=name)) for name in names}
    return {name: data for name, data in states.items() if not refused(partial(client.put, name, data))}
