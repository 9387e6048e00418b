"""A failure as a program: the calls that show it, with what the contract demands of each, ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HEAD = '''\
"""{title}

The calls that lockproof made, with what the contract demands of each. It ends with an error as long as
the backend does not meet them; lockproof must be installed.
"""

from lockproof.driver import DriverError, LockInfo
from lockproof.driver.registry import resolve
from lockproof.suites.concurrency.machines.states import state

BACKEND = {backend!r}
OPTIONS = {options!r}{hint}
ANY = None


def attempt(kinds, call, *args, **more):
    """The result of a call that may succeed, or its refusal, which must be of one of the kinds."""
    try:
        return call(*args, **more)
    except DriverError as error:
        assert kinds is ANY or error.kind in kinds, f"an odd refusal: {{error}}"
        return error


def refused(kinds, call, *args, **more):
    """The refusal of a call that must not succeed."""
    answer = attempt(kinds, call, *args, **more)
    assert isinstance(answer, DriverError), f"{{call.__name__}} was not refused"
    return answer


def id_of(answer):
    """The lock id that a request was granted, or that its refusal names."""
    return answer.holder.ID if isinstance(answer, DriverError) else answer


def described(info):
    """What a refusal must repeat of the holder's request."""
    return info.Operation, info.Info, info.Who, info.Version


def data(snapshot):
    """The bytes of a state, None where there is none."""
    return None if snapshot is None else snapshot.data


[spec] = resolve(BACKEND, OPTIONS)
with spec.provision() as provisioned:
    driver = spec.factory()({{**spec.options, **provisioned}})
    with driver.open_scope("lockproof-program") as scope:
'''


def program(title: str, backend: str, given: Mapping[str, str], calls: Sequence[str]) -> str:
    """The program: `calls` are statements on `scope`, `title` says what they show; `given` are the options
    of `backend` that the user gave, secrets hidden. What was provisioned for the run is provisioned anew."""
    hint = "  # *** stands for what lockproof does not write down" if "***" in "".join(given.values()) else ""
    first = " ".join(title.partition("\n")[0].replace('"', "'").replace("\\", "/").split())
    body = [f"        {line}" for line in calls]
    return HEAD.format(title=first, backend=backend, options=dict(given), hint=hint) + "\n".join(body) + "\n"
