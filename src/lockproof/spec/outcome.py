"""How a test says that it has no verdict. Everything else it says with `assert`.

Both are shown and counted; neither is ever a pass (DESIGN: "Statuses, verdicts, exit codes").
"""

from __future__ import annotations

from collections.abc import Sequence


class Unknown(Exception):
    """The test can neither confirm nor refute: a checker ran out of budget, or the test's own
    assumptions were not met after three tries with more load. Status `unknown`, exit code 1.

    The message says what was missing. `witness` names the events of the history (their `i`) that
    a reader should look at.
    """

    def __init__(self, message: str, *, witness: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.witness = tuple(witness)


class Violation(AssertionError):
    """A requirement is refuted, and `witness` names the events of the history that refute it.

    A plain `assert` does as well; then the report shows the last operations of the history.
    """

    def __init__(self, message: str, *, witness: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.witness = tuple(witness)


class NotRun(Exception):
    """The test cannot be run here, for example because a binary is absent; the message says why.
    Status `not-run`: exit code 0, but the verdict of the backend is at best `inconclusive`.
    """
