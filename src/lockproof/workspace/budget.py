"""How many requests a run may send to a workspace, counted for all of its processes together."""

from __future__ import annotations

import os

from tofu_databricks.errors import Unavailable

STEP = "http."


class BudgetSpent(Unavailable):
    """A request was not sent since the budget of the run is spent. Not definite: an earlier attempt of the
    same call may have been."""

    definite = False


class RequestBudget:
    """Counts in the file at `path`, one byte for each request: what appends is told its place by the kernel.

    `spend` is a checkpoint of `tofu_databricks`, which the transport passes before each attempt of each
    request. Statements over Lakebase's own connections are no requests.
    """

    def __init__(self, limit: int, path: str) -> None:
        self.limit = limit
        self.path = path

    def spend(self, step: str) -> None:
        """Raises `BudgetSpent` where `step` is a request too many."""
        if not step.startswith(STEP):
            return
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, b".")
            count = os.fstat(file).st_size
        finally:
            os.close(file)
        if count > self.limit:
            raise BudgetSpent(self.reason)

    @property
    def asked(self) -> int:
        """How many requests there were, those that were not sent among them."""
        return os.stat(self.path).st_size

    @property
    def reason(self) -> str:
        return f"the request budget of this run is spent (max_requests={self.limit})"
