"""The machine's clock for tests of backends that wait: real, and hardly waited on."""

from __future__ import annotations

import threading

from tofu_databricks.seams import SystemClock


class Hurried(SystemClock):
    """Waits hardly at all."""

    def sleep(self, seconds: float) -> None:
        threading.Event().wait(min(seconds, 0.01))
