"""Bugs that somebody met in a state backend, and the decorator by which a test says that it would find one.

`bugs.toml` says of each what broke. `@reported("opentofu#4405")` above a test means: on a backend with that
bug this test fails. `lockproof explain opentofu#4405` shows both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pytest

REPOSITORIES: Mapping[str, str] = {
    "opentofu": "opentofu/opentofu",
    "terraform": "hashicorp/terraform",
    "azurerm": "hashicorp/terraform-provider-azurerm",
    "terraform-backend": "nimbolus/terraform-backend",
    "terragrunt": "gruntwork-io/terragrunt",
    "tofu-controller": "flux-iac/tofu-controller",
    "docs-content": "scaleway/docs-content",
    "authentik": "goauthentik/authentik",
}
"""What stands before the `#` of a name, and the repository on github.com that it is."""


@dataclass(frozen=True)
class Bug:
    """One bug. `names` are its issues, or a name of ours where nobody reported it; `broke` says what
    happened; `client` why no state server can suffer it, `""` where one can."""

    names: Sequence[str]
    broke: str
    client: str = ""


def reported(*names: str) -> pytest.MarkDecorator:
    """The bugs that a test would find again, by names in `bugs.toml`."""
    return pytest.mark.reported(*names)


@cache
def bugs() -> Sequence[Bug]:
    """Every bug, in the order of the file. Raises `ValueError` for an entry that is incomplete and for a name
    given twice."""
    text = files("lockproof.spec").joinpath("bugs.toml").read_text(encoding="utf-8")
    return parse_bugs(text)


def parse_bugs(text: str) -> Sequence[Bug]:
    """The entries of a TOML text; raises as `bugs`."""
    found: list[Bug] = []
    seen: set[str] = set()
    for entry in tomllib.loads(text).get("bug", []):
        bug = Bug(tuple(entry.get("names", ())), entry.get("broke", ""), entry.get("client", ""))
        if not bug.names or not bug.broke:
            raise ValueError(f"bugs.toml: an entry lacks names or broke: {entry}")
        for name in bug.names:
            if name in seen:
                raise ValueError(f"bugs.toml: {name} is given twice")
            seen.add(name)
        found.append(bug)
    return tuple(found)


def bug_of(name: str) -> Bug | None:
    """The bug of that name; `None` when there is none."""
    return next((bug for bug in bugs() if name in bug.names), None)


def url_of(name: str) -> str:
    """Where an issue can be read, `""` for a name of ours."""
    repository, _, number = name.partition("#")
    return f"https://github.com/{REPOSITORIES[repository]}/issues/{number}" if number else ""
