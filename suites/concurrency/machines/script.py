"""The calls of one example: made, compared with what the contract demands of them, and written down.

What is written down is a program: the same calls with the same demands, as a person can run them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from lockproof.driver import DriverError, LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.history.lines import lines
from lockproof.history.writer import HARNESS
from lockproof.spec.outcome import Violation

UNSERVED = frozenset({"unauthorized", "throttled", "unavailable", "timeout"})
"""Kinds of a definite refusal that say nothing of the state or its lock: the call was not made."""
SHOWN = 10


class Found(Violation):
    """`requirement` is violated by the calls of `program`; `history` holds them as they happened. `rules`
    are the machine's rules that made them."""

    rules: Sequence[str] = ()

    def __init__(self, requirement: str, sentence: str, program: list[str], history: HistoryWriter) -> None:
        calls = [line for line in program if not line.startswith("info")]
        more = len(calls) - SHOWN
        shown = [*([f"… {more} lines before"] if more > 0 else []), *calls[-SHOWN:]]
        operations = list(history.history().operations())
        super().__init__(
            "\n".join([sentence, *shown]),
            witness=[operation.invoke.i for operation in operations[-SHOWN:]],
        )
        self.requirement = requirement
        self.sentence = sentence
        self.program = program
        self.history = history

    def save(self, path: Path) -> None:
        """Writes the history."""
        path.write_text("".join(lines(self.history.history())), encoding="utf-8")
        self.history.path = path


@cache
def violation_of(requirement: str) -> type[Found]:
    """The exception of one requirement: Hypothesis shrinks failures of different types apart."""
    return type(f"Violates{requirement.replace('-', '')}", (Found,), {})


@dataclass(frozen=True)
class Term:
    """A value and how a program writes it."""

    value: Any
    text: str


@dataclass(frozen=True)
class Demand:
    """What a call must do: `works` and `fails` name the requirement that it violates when it does not.

    With neither it may do both. A refusal must be of one of the `kinds` (`None`: any), or violates `odd`.
    `diagnose` may tell by a refusal that something else than `works` is violated.
    """

    works: str = ""
    diagnose: Callable[[DriverError], str] = lambda error: ""
    fails: str = ""
    kinds: Collection[str] | None = None
    odd: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a call: `ok` with `value` and the `term` it was assigned to; `refused` by `error`;
    or neither, when the reply was lost (`unknown`) or the call was definitely not made."""

    ok: bool = False
    value: Any = None
    error: DriverError | None = None
    unknown: bool = False
    term: str = ""

    @property
    def refused(self) -> bool:
        return self.error is not None

    @property
    def holder(self) -> LockInfo | None:
        """The holder that a refusal names."""
        return self.error.holder if self.error is not None else None


class Script:
    """Makes the calls of one example in `scope` and writes its program.

    `checked` counts by requirement how often a demand of it was put and met, `refusals` the refusals.
    """

    def __init__(self, scope: RecordedScope) -> None:
        self.scope = scope
        self.clients: dict[str, RecordedClient] = {}
        self.program: list[str] = []
        self.checked: Counter[str] = Counter()
        self.refusals = 0
        self.unserved = ""
        self._numbers: Counter[str] = Counter()

    def client(self, who: str) -> RecordedClient:
        """The client of that name, made when it is first used."""
        if who not in self.clients:
            self.clients[who] = self.scope.client(who)
            self.program.append(f"{who} = scope.client({who!r})")
        return self.clients[who]

    def end(self, who: str) -> None:
        """The client ends; who uses its name next is a new process."""
        if who in self.clients:
            self.program.append(f"{who}.close()")
            self.clients.pop(who).close()

    def request(self, who: str) -> Term:
        """A new lock request of the client."""
        term = self.name("info")
        self.program.append(f"{term} = LockInfo.new({who!r})")
        return Term(LockInfo.new(who), term)

    def name(self, kind: str) -> str:
        """A new variable."""
        self._numbers[kind] += 1
        return f"{kind}{self._numbers[kind]}"

    def call(
        self,
        who: str,
        f: str,
        *arguments: Any,
        demand: Demand,
        lost: bool = False,
        keep: str = "",
        **named: Any,
    ) -> Outcome:
        """One call, and what became of it; raises `Found` when it does not do what `demand` says.

        With `lost` nobody learns the reply. The result, or the refusal that was demanded, is kept in a
        variable of the program whose name begins with `keep`.
        """
        client = self.client(who)
        term = self.name("refusal" if demand.fails else keep) if keep else ""
        given = [*map(_term, arguments)]
        options = {key: _term(value) for key, value in named.items()}
        texts = [*(part.text for part in given), *(f"{key}={part.text}" for key, part in options.items())]
        assign = f"{term} = " if term else ""
        kinds = "ANY" if demand.kinds is None else repr(tuple(sorted(demand.kinds)))
        loose = ", ".join([kinds, f"{who}.{f}", *texts])
        plain = f"{assign}{who}.{f}({', '.join(texts)})"
        strict = plain if demand.works else f"{assign}{'refused' if demand.fails else 'attempt'}({loose})"
        value, error = None, None
        try:
            value = getattr(client, f)(
                *(part.value for part in given), **{key: part.value for key, part in options.items()}
            )
        except DriverError as failure:
            error = failure
        if lost:
            self.program.append(f"attempt({loose.replace(kinds, 'ANY', 1)})  # the reply is lost")
            return Outcome(unknown=True)
        if error is not None and (not error.definite or error.kind in UNSERVED):
            what = "no reply" if not error.definite else f"not served: {error.kind}"
            self.program.append(f"{assign}attempt({loose.replace(kinds, 'ANY', 1)})  # {what}")
            self.unserved = self.unserved or str(error)
            if error.kind in {"timeout", "unauthorized"}:
                self.clients.pop(who, client).close()  # stuck, or locked out: the process is started again
            return Outcome(unknown=not error.definite)
        self.program.append(strict)
        if error is not None and demand.works:
            self.violated(demand.diagnose(error) or demand.works, f"{who} is refused {f}: {error}")
        if error is not None and demand.kinds is not None and error.kind not in demand.kinds:
            self.violated(demand.odd, f"{f} is refused to {who} in an odd way: {error}")
        if error is None and demand.fails:
            self.violated(demand.fails, f"{who} is not refused {f}")
        self.refusals += error is not None
        self.count(demand.works, demand.fails, demand.odd if error is not None else "")
        return Outcome(error is None, value, error, term=term)

    def check(self, text: str, true: bool, requirement: str, sentence: str) -> None:
        """Adds `assert text` to the program; raises `Found` unless it is `true`."""
        self.program.append(f"assert {text}")
        if not true:
            self.violated(requirement, sentence)
        self.count(requirement)

    def remark(self, text: str) -> None:
        """Notes in program and history what no client did."""
        self.program.append(f"# {text}")
        self.scope.history.append(HARNESS, "fault", "steered", given={"text": text})

    def count(self, *requirements: str) -> None:
        """Demands of these requirements were met."""
        self.checked.update(name for name in requirements if name)

    def violated(self, requirement: str, sentence: str) -> NoReturn:
        """Raises `Found`."""
        raise violation_of(requirement)(requirement, sentence, list(self.program), self.scope.history)


def _term(value: Any) -> Term:
    return value if isinstance(value, Term) else Term(value, repr(value))
