"""Makes a failing schedule small: fewest switches between clients, then fewest faults, then fewest steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from lockproof.explore.execution import Explorer, Outcome
from lockproof.explore.happens_before import Trace
from lockproof.explore.lane import Choice, Option
from lockproof.explore.scheduler import Run
from lockproof.explore.strategies import Follower, Search, by_switches
from lockproof.history import History


def shrink(explorer: Explorer, failing: Outcome, limit: int) -> tuple[Outcome, bool]:
    """A smallest run that shows what `failing` shows, and whether no smaller one exists.

    Faults and blocks of steps are left out, and blocks joined, as long as that helps; then every schedule is
    run that has neither more switches nor more faults, as far as `limit` runs go. Of those the result is
    the smallest.
    What it shows is shown by the run being cut right after it: clients then stand where they are.
    """
    shrinker = _Shrinker(explorer, failing, limit)
    shrinker.leave_out()
    minimal = shrinker.search()
    again = explorer.execute(Follower(shrinker.best.choices))
    return (again, minimal) if again.finding == failing.finding else (failing, False)


def size(choices: Sequence[Choice]) -> tuple[int, int, int]:
    """What counts in a schedule: switches, faults, steps."""
    switches = sum(one.client != other.client for one, other in pairwise(choices))
    return switches, sum(choice.fault is not None for choice in choices), len(choices)


class _Shrinker:
    def __init__(self, explorer: Explorer, failing: Outcome, limit: int) -> None:
        self.explorer = explorer
        self.finding = failing.finding
        self.left = limit
        self.best = self.cut(failing)

    def better(self, outcome: Outcome) -> bool:
        """Keeps `outcome` when it shows the same and is smaller than the best so far."""
        self.left = 0 if outcome.left else self.left - 1
        if outcome.verdict.status != "violated" or outcome.finding != self.finding:
            return False
        outcome = self.cut(outcome)
        if size(outcome.choices) >= size(self.best.choices):
            return False
        self.best = outcome
        return True

    def cut(self, outcome: Outcome) -> Outcome:
        """The shortest beginning of the run that shows it: a longer one shows what a shorter one does."""
        if outcome.ending.how not in ("done", "cut"):
            return outcome  # how it ended is what it shows
        low, high = 0, len(outcome.choices)
        while low < high:
            middle = (low + high) // 2
            if self.shown(outcome, middle):
                high = middle
            else:
                low = middle + 1
        return replace(outcome, choices=outcome.choices[:high]) if self.shown(outcome, high) else outcome

    def shown(self, outcome: Outcome, steps: int) -> bool:
        events = outcome.history.events[: outcome.sizes[steps - 1] if steps else 0]
        history = History(outcome.history.header, events, closed=True, names=outcome.history.names)
        verdict = self.explorer.program.judge(history)
        return verdict.status == "violated" and replace(outcome, verdict=verdict).finding == self.finding

    def leave_out(self) -> None:
        """Tries smaller schedules made from the best one until none of them shows it."""
        while self.left > 0 and any(self.simpler()):
            pass

    def simpler(self) -> Iterator[bool]:
        """For every smaller schedule made from the best one, whether it is the best one now."""
        for plan in _simpler(self.best.choices):
            if self.left > 0 and size(plan) < size(self.best.choices):
                yield self.better(self.explorer.execute(Tolerant(plan)))

    def search(self) -> bool:
        """Runs every schedule that costs no more than the best one; whether there was time for all."""
        search = Search(by_switches, size(self.best.choices)[:2], prune=True)
        for chooser in search.choosers(len(self.explorer.program.clients)):
            if search.cost > size(self.best.choices)[:2]:
                return True
            if self.left <= 0:
                return False
            self.better(self.explorer.execute(chooser))
        return True


def _simpler(choices: Sequence[Choice]) -> Iterator[list[Choice]]:
    """Schedules a little simpler: without a fault, without a block, with two blocks of a client joined."""
    for n, choice in enumerate(choices):
        if choice.fault is not None:
            yield [*choices[:n], choice._replace(fault=None), *choices[n + 1 :]]
    blocks = [list(block) for _, block in groupby(choices, key=lambda choice: choice.client)]
    for n, block in enumerate(blocks):
        rest = blocks[:n] + blocks[n + 1 :]
        yield _flat(rest)
        for other in range(len(rest)):
            if rest[other][0].client == block[0].client:
                yield _flat([*rest[: other + 1], block, *rest[other + 1 :]])
                yield _flat([*rest[:other], block, *rest[other:]])


def _flat(blocks: Sequence[Sequence[Choice]]) -> list[Choice]:
    return [choice for block in blocks for choice in block]


class Tolerant:
    """Lets clients go on in the order of `choices`, whatever steps they come to; who cannot is left out."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.judged = True
        self.trace: Trace | None = None
        self._left = deque(choices)

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        while self._left:
            wanted = self._left.popleft()
            possible = [option for option in options if run.lanes[option.client].name == wanted.client]
            for fault in (wanted.fault, None):
                for option in possible:
                    if option.fault == fault:
                        return option
        return None
