"""A driver with something to start: what a run does with it can be read from a folder of marks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lockproof.driver import DriverInfo
from lockproof.driver.memory import MemoryDriver


class SharedService(MemoryDriver):
    """Memory, with a service that writes `started` and `stopped` lines, and a line for each driver.

    Options: `marks` (the folder), `password`, `postgres_dsn`, and `broken` (text to fail with).
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self.info = DriverInfo("shared", "1", target="fake")
        mark(options, f"driver {options['address']} in {os.getpid()} dsn {options.get('postgres_dsn', '')}")

    @staticmethod
    @contextmanager
    def provision(options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        if "marks" not in options:
            raise ValueError("option marks is missing: name a folder")
        if "broken" in options:
            raise RuntimeError(f"no service: {options['broken']} with {options['password']}")
        mark(options, f"started in {os.getpid()}")
        try:
            yield {"address": f"service-{os.getpid()}", "admin_token": "s3cr3t-of-the-service"}
        finally:
            mark(options, f"stopped in {os.getpid()}")


def mark(options: Mapping[str, str], line: str) -> None:
    with (Path(options["marks"]) / "marks.txt").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def marks(folder: Path) -> list[str]:
    """The lines that were written, in order."""
    return (folder / "marks.txt").read_text(encoding="utf-8").splitlines()
