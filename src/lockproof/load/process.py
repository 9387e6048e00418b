"""The process that locust runs in: `python -m lockproof.load.process PLAN [LOCUST OPTIONS]`.

Locust patches sockets, locks and threads of the process that imports it (locust#2250). That would load-test
a driver that nobody uses: so it is told not to, and drivers run in real threads of gevent's pool. What
locust's own main program needs of the patches is its `time.sleep`, which would stop its greenlets.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from lockproof.load.plan import VARIABLE


def main() -> None:
    """Runs locust with the locustfile of this package."""
    os.environ[VARIABLE] = sys.argv[1]
    os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
    os.environ["GEVENT_NOWAITPID"] = "1"  # locust waits for its own children
    import gevent  # type: ignore[import-untyped]
    import locust.main

    cooperative = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=gevent.sleep)
    setattr(locust.main, "time", cooperative)  # noqa: B010 - mypy does not know that the name is there
    sys.argv = ["locust", "-f", str(Path(__file__).with_name("locustfile.py")), *sys.argv[2:]]
    locust.main.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
