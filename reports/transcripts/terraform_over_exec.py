"""Writes terraform-over-exec.md: stock terraform over `tofu-databricks exec` on `lockproof fake`.

    python reports/transcripts/terraform_over_exec.py

Every command shown is run, in an empty directory, and what it prints is shown as printed, except for
colours, the directory's name and the fake's token. Needs terraform on PATH.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = Path(__file__).with_name("terraform-over-exec.md")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
MAIN = """\
terraform {
  backend "http" {}
}

variable "release" {}
variable "gate" { default = "" }

resource "terraform_data" "app" { input = var.release }

resource "terraform_data" "slow" { # waits until somebody writes to the pipe $gate
  depends_on       = [terraform_data.app]
  triggers_replace = var.gate
  provisioner "local-exec" {
    command = var.gate == "" ? "true" : "echo > ${var.gate}.reached; read _ < ${var.gate}"
  }
}

output "release" { value = terraform_data.app.output }
"""
HEAD = """\
# terraform over `tofu-databricks exec`

Written by `terraform_over_exec.py` beside it. The workspace is the fake of this project, with a real
Postgres for the locks; terraform is the stock binary. Nothing here has run on a real workspace.
"""


class Transcript:
    """Runs commands in `directory` and keeps what they print."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
        }
        self.text = HEAD
        self.secrets: list[str] = []

    def say(self, text: str) -> None:
        """A paragraph."""
        self.text += f"\n{text}\n"

    def show(self, command: str, printed: str, code: int = 0) -> None:
        """A command with what it printed, and its exit code where it is not 0."""
        plain = ESCAPES.sub("", printed).replace(str(self.directory), "~").strip("\n")
        for secret in self.secrets:
            plain = plain.replace(secret, "…")
        plain = "\n".join(line.rstrip() for line in plain.splitlines())
        ending = f"\n[exit code {code}]" if code else ""
        self.text += f"\n```console\n$ {command}\n{plain}{ending}\n```\n"

    def run(self, command: str, expected: int | None = 0) -> str:
        """Runs a command to its end, shows it, and returns what it printed.

        Ends the script when its exit code is not `expected` (`None`: any).
        """
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.show(command, done.stdout, done.returncode)
        if expected is not None and done.returncode != expected:
            sys.exit(f"{command}: exit code {done.returncode}, not {expected}\n{done.stdout}")
        return done.stdout

    def start(self, command: str) -> subprocess.Popen[str]:
        """Starts a command that goes on beside the others."""
        return subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def story(transcript: Transcript) -> None:
    """The commands, in the order of the page."""
    apply = "tofu-databricks exec -- terraform apply -auto-approve -input=false"
    transcript.say("## The first apply")
    transcript.run("terraform version | head -1")
    transcript.run("cat main.tf")
    transcript.run("tofu-databricks init")
    transcript.run("tofu-databricks exec -- terraform init -input=false")
    transcript.run(f"{apply} -var=release=1")
    transcript.run("tofu-databricks exec -- terraform state pull | head -8")
    transcript.run("tofu-databricks exec -- terraform plan -input=false -detailed-exitcode -var=release=1")

    transcript.say("## Locked by another")
    transcript.say("One apply is held in mid-course, after it has taken the lock:")
    slow = f"{apply} -var=release=2 -var=gate=$HOME/gate"
    for name in ("gate", "gate.reached"):
        os.mkfifo(transcript.directory / name)
    holder = transcript.start(slow)
    (transcript.directory / "gate.reached").read_text()
    transcript.show(f"{slow} &", "")
    transcript.run("tofu-databricks doctor")
    transcript.run(f"{apply} -var=release=3", expected=1)
    transcript.say("A locked state can be read:")
    transcript.run("tofu-databricks exec -- terraform output release")

    transcript.say("## Forced, and fenced")
    transcript.say(
        "The lock is released by force while its holder is still at work. The next apply takes its place:"
    )
    doctor = subprocess.run(
        ["tofu-databricks", "doctor"],
        cwd=transcript.directory,
        env=transcript.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"ID ([0-9a-f-]{36})", doctor.stdout)
    assert found, doctor.stdout
    transcript.run(f"tofu-databricks exec -- terraform force-unlock -force {found[1]}")
    transcript.run(f"{apply} -var=release=3")
    transcript.say("When the first one goes on, its write is refused, and it keeps what it did beside it:")
    (transcript.directory / "gate").write_text("\n")
    printed, _ = holder.communicate(timeout=60)
    transcript.show("echo > gate; fg", printed, holder.returncode)
    transcript.run("ls errored.tfstate")
    transcript.run("tofu-databricks exec -- terraform output release")

    transcript.say("## Mistakes")
    transcript.run("tofu-databricks exec --volume mistyped -- terraform plan -var=release=3", expected=1)
    transcript.run("tofu-databricks exec --catalog a.b -- terraform plan", expected=4)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="transcript-") as folder:
        transcript = Transcript(Path(folder))
        (transcript.directory / "main.tf").write_text(MAIN)
        fake = transcript.start("lockproof fake")
        try:
            assert fake.stdout is not None
            lines = []
            while not (line := fake.stdout.readline()).startswith("#"):
                lines.append(line)
                name, _, value = line.strip().partition("=")
                transcript.environment[name] = value
                if "TOKEN" in name or "POSTGRES" in name:
                    transcript.secrets.append(value)
            transcript.show("lockproof fake > fake.env &", "")
            transcript.show("cat fake.env; set -a; . ./fake.env; set +a", "".join(lines))
            story(transcript)
        finally:
            fake.send_signal(signal.SIGINT)
            fake.communicate()
    TARGET.write_text(transcript.text)


if __name__ == "__main__":
    main()
