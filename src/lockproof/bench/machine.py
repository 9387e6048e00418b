"""On what was measured, and how busy that was."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """What two runs should have in common."""

    cpu: str
    cpus: int
    python: str
    system: str

    @classmethod
    def this(cls) -> Machine:
        """The machine that this process runs on; `cpus` are those that it may use."""
        python = f"{platform.python_implementation()} {platform.python_version()}"
        return cls(cpu_model(), len(os.sched_getaffinity(0)), python, f"{sys.platform} {platform.machine()}")


@dataclass(frozen=True)
class Unrest:
    """How disturbed the machine is: `load` averages of 1, 5 and 15 minutes, and `jitter`.

    That is how much one and the same pure computation varies, (slowest - fastest) / median.
    """

    load: tuple[float, float, float]
    jitter: float

    @classmethod
    def now(cls) -> Unrest:
        """Measures for some hundredths of a second."""

        def once() -> float:
            start = time.perf_counter()
            sum(range(100_000))
            return time.perf_counter() - start

        times = [once() for _ in range(20)]
        one, five, fifteen = os.getloadavg()
        load = (round(one, 2), round(five, 2), round(fifteen, 2))
        return cls(load, round((max(times) - min(times)) / statistics.median(times), 3))

    def text(self) -> str:
        """As the head of a table shows it."""
        loads = ", ".join(f"{load:.2f}" for load in self.load)
        return f"load {loads}; one computation varies by {self.jitter:.0%}"


def cpu_model() -> str:
    """The processor's name for itself."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next((name for name in names if name), platform.processor() or platform.machine())
