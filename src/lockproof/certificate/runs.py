"""One run of a certificate: `lockproof run` in a process of its own, which ends with us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lockproof.certificate.profile import Profile
from lockproof.report.folder import EVENTS

WATCH = 1.0  # seconds between two looks at how far a run is
GRACE = 120.0  # seconds in which a run that was told to stop may stop its servers
SAID = 300  # characters of what a run without a report said last
USAGE = 4  # pytest's exit code for what the user gave wrongly

Progress = Callable[[str, int, int], None]


class RunError(Exception):
    """A run that left no report. `usage`: what the user gave was refused; else the bench broke down."""

    def __init__(self, message: str, *, usage: bool) -> None:
        super().__init__(message)
        self.usage = usage


def run(
    spec: str, profile: Profile, seed: int, options: Sequence[str], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Runs all that the profile demands once, into `folder`, which is made, and returns the report.

    What the run prints is in a file beside the folder. Raises `RunError`. When this process is interrupted
    the run is, too, once, and waited for.
    """
    command = [sys.executable, "-m", "lockproof", "run", spec, *_arguments(profile, seed, options, folder)]
    printed = folder.with_suffix(".txt")
    with printed.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(os.environ),
            start_new_session=True,  # Ctrl-C reaches it through us alone: twice would cut its cleaning up
        )
        try:
            _watch(process, folder / EVENTS, f"tests of seed {seed}", progress)
        except BaseException:
            _stop(process)
            raise
    try:
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        refused, said = _said(printed)
        usage = refused and process.returncode == USAGE
        raise RunError(said if usage else f"seed {seed} left no report: {said}", usage=usage) from None
    return report


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would change pytest; a run of a certificate is no job's summary."""
    return {k: v for k, v in ours.items() if not k.startswith("PYTEST_") and k != "GITHUB_STEP_SUMMARY"}


def _arguments(profile: Profile, seed: int, options: Sequence[str], folder: Path) -> list[str]:
    return [
        f"--backend-tier={profile.tier}",
        f"--backend-suite={','.join(profile.suites)}",
        f"--backend-seed={seed}",
        f"--backend-report={folder}",
        "-q",
        "--tb=no",
        "-pno:cacheprovider",
        *options,
    ]


def _watch(process: subprocess.Popen[bytes], events: Path, what: str, progress: Progress) -> None:
    done, total, read = 0, 0, 0
    while True:
        try:
            process.wait(WATCH)
        except subprocess.TimeoutExpired:
            ended = False
        else:
            ended = True
        with suppress(FileNotFoundError), events.open("rb") as file:
            file.seek(read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                read += len(line)
                event = json.loads(line)
                total = len(event["tests"]) if event["event"] == "manifest" else total
                done += event["event"] == "result"
        if total:
            progress(what, min(done, total), total)
        if ended:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """By SIGTERM, which a run takes like Ctrl-C also where a shell that put us into the background has it
    ignore Ctrl-C; without mercy when we are interrupted again or the run does not end."""
    if process.poll() is None:
        try:
            process.terminate()
            process.wait(GRACE)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _said(printed: Path) -> tuple[bool, str]:
    """Whether the run refused what it was given, and the line that says so, or the last that it printed."""
    lines = [
        line for line in printed.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    ]
    refused = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (refused or lines or ["it printed nothing"])[-1][:SAID]
    return bool(refused), last
