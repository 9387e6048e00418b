"""What is explored: a few clients, each a short program, and the subject that they run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lockproof import checkers
from lockproof.checkers import Verdict
from lockproof.checkers.verdict import Status
from lockproof.driver import Driver, Scope
from lockproof.driver.recorder import RecordedClient
from lockproof.explore.steps import HERE, checkpoint
from lockproof.history import History


class Shared:
    """What the clients of one run tell each other beside the backend, like lock ids read out on the phone.

    `shared[key] = value` tells. `shared[key]` waits until it was told; `get` looks now. Both are steps.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        if HERE.lane is not None:
            HERE.lane.touch(f"shared {key}", True)
        self._values[key] = value

    def __getitem__(self, key: str) -> Any:
        if HERE.lane is not None:
            HERE.lane.wait(f"hear of {key}", lambda: key in self._values, f"shared {key}")
        return self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """What was told as `key` so far, else `default`."""
        checkpoint(f"look for {key}", touches=f"shared {key}", write=False)
        return self._values.get(key, default)


@dataclass(frozen=True)
class Program:
    """Two to four clients and what is asked of every schedule of them.

    `clients` maps a name to what that client does, with a `RecordedClient` of its own; a `DriverError`
    that it lets pass ends it, as a refusal ends `tofu`, an `AssertionError` is a violation. `prepare` runs
    before them, alone. It and the clients must do the same in every run, except for what they are answered.

    `faults` are those that the scheduler may choose, at most `max_faults` in a run: `crash` kills a client at
    any step; `lost reply` lets a call happen and hides its outcome; others are offered by the
    subject's own checkpoints. `judge` gives the verdict on the history; it must go by which operation
    ended before which began, never by times. `deadlock` is the verdict when nobody can go on.
    """

    name: str
    sentence: str
    clients: Mapping[str, Callable[[RecordedClient, Shared], object]]
    prepare: Callable[[RecordedClient, Shared], object] | None = None
    faults: frozenset[str] = frozenset()
    max_faults: int = 1
    judge: Callable[[History], Verdict] = checkers.check
    deadlock: Status = "unknown"


class Subject(Protocol):
    """What a program runs on: `open` gives each run a key space of its own, fresh and cheap.

    Optional attributes: `name` (as schedules say it), `capabilities` (for the checkers), and
    `instrumented`: everything that clients share is behind a checkpoint. Then calls are no steps of
    their own and begin with their first checkpoint; otherwise every call is a step, and offers `lost reply`.
    """

    def open(self, run: int) -> AbstractContextManager[Scope]:
        """A scope for the run of this number."""


@runtime_checkable
class Explorable(Protocol):
    """A driver that offers a subject better suited to exploration than itself."""

    def explored(self, *, pristine: bool = False) -> AbstractContextManager[Subject]:
        """The subject, alive as long as the context.

        `pristine`: nothing is there at first, as for the first users ever; else what the first lock makes is.
        """


class DriverSubject:
    """Any in-process driver as it is: its client calls are the steps, and so are its own checkpoints."""

    instrumented = False

    def __init__(self, driver: Driver) -> None:
        self.name = driver.info.name
        self.capabilities = driver.capabilities()
        self._driver = driver

    def open(self, run: int) -> AbstractContextManager[Scope]:
        return self._driver.open_scope(f"explore-{run}")


@contextmanager
def subject_of(driver: Driver) -> Iterator[Subject]:
    """The subject to explore `driver` by: its own where it is `Explorable`, else its calls as steps."""
    if isinstance(driver, Explorable):
        with driver.explored() as subject:
            yield subject
    else:
        yield DriverSubject(driver)
