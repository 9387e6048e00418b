"""`tofu-databricks`, killed at a step of what it sends and is answered: `python -m … STEP LOG ARGUMENTS…`.

STEP is counted from 0; -1 kills nothing. The names of the steps are appended to the file LOG, one on a line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lockproof.chaos.process_steps import Halt, Steps
from lockproof.suites.faults.crash_steps import step_by_step
from tofu_databricks import cli
from tofu_databricks.backend import Backend


def main(arguments: list[str]) -> None:
    """Runs the command with a backend that is killed."""
    step, log = int(arguments[0]), Path(arguments[1])
    steps = Steps(Halt(step=step))

    def reach(name: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        steps.reach(name)

    class CrashingBackend(Backend):
        def __init__(self, *positional: Any, **keywords: Any) -> None:
            super().__init__(*positional, checkpoint=reach, **keywords)
            step_by_step(self, reach)

    vars(cli)["Backend"] = CrashingBackend  # the name that its commands make their backend by
    sys.argv[1:] = arguments[2:]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
