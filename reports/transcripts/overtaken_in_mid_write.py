"""Writes overtaken-in-mid-write.md: a terraform that is stopped between its lock's check and its write.

    python reports/transcripts/overtaken_in_mid_write.py

Once under `fencing = "checked"`, where its late write undoes the newer one, and under `strict` by both Files
APIs, where it is refused. Every command shown is run, in an empty directory, and what it prints is shown as
printed, except for colours, the directory's name and the fake's token. Needs terraform on PATH.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from terraform_over_exec import MAIN, Transcript

from lockproof.driver.databricks import DatabricksDriver, DatabricksScope
from lockproof.suites.clients.stock_clients import family

TARGET = Path(__file__).with_name("overtaken-in-mid-write.md")
HEAD = """\
# terraform, stopped in mid-write, forced and overtaken

Written by `overtaken_in_mid_write.py` beside it. The workspace is the fake of this project, with a real
Postgres for the locks; terraform is the stock binary. Nothing here has run on a real workspace.

In each chapter one `terraform apply` has checked its lock and is sending its state when it is stopped
(SIGSTOP), and the workspace keeps the request back. Somebody else forces the lock and applies. Then the
request arrives, and the first one goes on.
"""
CHAPTERS: Mapping[str, Mapping[str, str]] = {
    'fencing = "checked", the default': {},
    'fencing = "strict", Files API 2.0': {"fencing": "strict"},
    'fencing = "strict", Files API 3.0': {"fencing": "strict", "files_api": "3.0"},
}
APPLY = "tofu-databricks exec -- terraform apply -auto-approve -input=false"
OUTPUT = "tofu-databricks exec -- terraform output release"


def story(transcript: Transcript, scope: DatabricksScope) -> None:
    """One chapter."""
    bed = scope.test_bed()
    subprocess.run(
        ["tofu-databricks", "exec", "--", "terraform", "init", "-input=false"],
        cwd=transcript.directory,
        env=transcript.environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    transcript.run(f"{APPLY} -var=release=1 | tail -4")
    slow = f"{APPLY} -var=release=2 -var=gate=$HOME/gate"
    for name in ("gate", "gate.reached"):
        os.mkfifo(transcript.directory / name)
    first = transcript.start(slow)
    (transcript.directory / "gate.reached").read_text()
    fault = bed.control.add_fault(method="PUT", path=bed.files, hold=True)
    (transcript.directory / "gate").write_text("\n")
    bed.control.await_held(fault, timeout=60.0)
    for pid in family(first.pid):
        os.kill(pid, signal.SIGSTOP)
    transcript.show(f"{slow} &   # stopped: the lock was checked, the state is on its way", "")
    doctor = transcript.run("tofu-databricks doctor")
    found = re.search(r"ID ([0-9a-f-]{36})", doctor)
    assert found, doctor
    transcript.run(f"tofu-databricks exec -- terraform force-unlock -force {found[1]} | head -1")
    transcript.run(f"{APPLY} -var=release=3 | tail -4")
    bed.control.release(fault)
    for pid in family(first.pid):
        os.kill(pid, signal.SIGCONT)
    printed, _ = first.communicate(timeout=60)
    transcript.show("fg   # the state arrives, and the first one goes on", printed, first.returncode)
    transcript.run("ls errored.tfstate", expected=None)
    transcript.run(OUTPUT)


def main() -> None:
    text = HEAD
    for title, options in CHAPTERS.items():
        with (
            tempfile.TemporaryDirectory(prefix="transcript-") as folder,
            DatabricksDriver.provision(options) as provisioned,
            DatabricksDriver({**provisioned, **options}).open_scope("overtaken") as scope,
        ):
            transcript = Transcript(Path(folder))
            transcript.text = ""
            (transcript.directory / "main.tf").write_text(MAIN)
            transcript.environment |= scope.command_line("default").environment
            transcript.secrets.append(provisioned["token"])
            story(transcript, scope)
            text += f"\n## {title}\n{transcript.text}"
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
