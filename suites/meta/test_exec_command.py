"""`tofu-databricks exec` runs a command as if alone, with a gateway beside it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tofu_databricks.gateway.environment import LOCKING_COMMANDS, client_environment, go_duration

DEADLINE = 30.0
SETTINGS = {
    "TOFU_DATABRICKS_HOST": "http://127.0.0.1:9",
    "TOFU_DATABRICKS_TOKEN": "t0ken-of-this-test",
    "TOFU_DATABRICKS_CATALOG": "main",
    "TOFU_DATABRICKS_SCHEMA": "states",
    "TOFU_DATABRICKS_VOLUME": "tofu",
    "TOFU_DATABRICKS_KEY": "terraform.tfstate",
    "TOFU_DATABRICKS_LOCK_BACKEND": "lakebase",
    "TOFU_DATABRICKS_LAKEBASE_PROJECT": "locks",
}
TELL = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture(autouse=True)
def interrupts_are_not_ignored() -> Iterator[None]:
    """A shell starts what it runs in the background with SIGINT ignored, which commands inherit."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def start(command: Sequence[str], *options: str, **extra: str) -> subprocess.Popen[str]:
    """Starts `tofu-databricks exec OPTIONS -- COMMAND` with nothing in its environment but settings."""
    return subprocess.Popen(
        [sys.executable, "-m", "tofu_databricks.cli", "exec", *options, "--", *command],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **SETTINGS, **extra},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(command: Sequence[str], *options: str, **extra: str) -> tuple[int, str, str]:
    """Exit code, output and error output."""
    process = start(command, *options, **extra)
    output, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, output, errors


@contextmanager
def waiting(script: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A shell script under exec that has said `ready` by the time the block is entered."""
    process = start(["sh", "-c", script], *options)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], DEADLINE)[0], "the command did not start"
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        for pid in session_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def session_of(leader: int) -> list[int]:
    """The processes of a session, whether or not its leader still lives."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


@pytest.mark.parametrize("code", [0, 1, 2, 7, 255])
def test_the_exit_code_is_the_commands(code: int) -> None:
    """Terraform's codes, 2 for "there are changes" among them, come through."""
    assert run(["sh", "-c", f"exit {code}"])[0] == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_death_by_a_signal_is_128_and_its_number(number: signal.Signals) -> None:
    """A command that a signal ended gives 128 + n, as in a shell."""
    assert run(["sh", "-c", f"kill -{int(number)} $$"])[0] == 128 + number


def test_output_and_error_output_are_the_commands() -> None:
    """Nothing is added to either stream."""
    assert run(["sh", "-c", "echo out; echo err >&2"]) == (0, "out\n", "err\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    """A signal sent to exec reaches the command, whose exit code is then ours."""
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with waiting(script) as process:
        process.send_signal(number)
        output, _ = process.communicate(timeout=DEADLINE)
        assert output == f"got {name}\n"
        assert process.returncode == 9


@pytest.mark.parametrize("to_group", [False, True], ids=["to exec", "to the group of exec"])
def test_an_interrupt_arrives_once(to_group: bool) -> None:
    """SIGINT reaches the command exactly once: terraform gives up its lock at a second one."""
    script = "n=0; trap 'n=$((n+1))' INT; trap 'echo $n interrupts; exit 0' TERM; echo ready; "
    script += "while :; do sleep 0.02; [ $n -gt 0 ] && echo counted; done"
    with waiting(script) as process:
        if to_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        for _ in range(5):  # long enough for a second one to show
            assert process.stdout.readline() == "counted\n"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE)
        assert output.splitlines()[-1] == "1 interrupts"


def test_an_interrupt_reaches_the_commands_children() -> None:
    """SIGINT goes to the whole process group of the command, as from a terminal."""
    child = "trap 'echo child; exit 0' INT; echo ready; while :; do sleep 0.05; done"
    with waiting(f"trap 'exit 0' INT; sh -c \"{child}\"; exit 3") as process:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE)
        assert (process.returncode, output) == (0, "child\n")


def test_a_command_whose_exec_is_killed_is_asked_to_end() -> None:
    """SIGKILL to exec is one SIGTERM to the command, which has lost its gateway: two are too many."""
    script = "n=0; trap 'n=$((n+1))' TERM; echo ready; "
    script += "while :; do sleep 0.02; [ $n -gt 0 ] && echo $n; done"
    with waiting(script) as process:
        process.kill()
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], DEADLINE)[0], "the command was not told"
        for _ in range(10):  # long enough for a second one to show
            assert process.stdout.readline() == "1\n"


def test_a_stopped_command_takes_signals() -> None:
    """Without a terminal nobody would continue a command that was stopped: a signal passed on does."""
    with waiting("trap 'echo got TERM; exit 4' TERM; echo ready; kill -STOP $$; exit 5") as process:
        command = next(n for n in session_of(process.pid) if n != process.pid and os.getpgid(n) == n)
        for _ in range(int(DEADLINE / 0.02)):
            if Path(f"/proc/{command}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                break
            threading.Event().wait(0.02)
        else:
            raise AssertionError("the command did not stop")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE)
        assert (process.returncode, output) == (4, "got TERM\n")


def on_terminal(script: str, *, stdin: str | None = None) -> tuple[int, int]:
    """A shell script under exec on a terminal of its own: process and terminal.

    `stdin` is a file that exec, and with it the script, has as standard input instead of the terminal.
    """
    pid, terminal = os.forkpty()
    if pid == 0:  # pragma: no cover - the other process
        if stdin is not None:
            os.dup2(os.open(stdin, os.O_RDONLY), 0)
        command = [sys.executable, "-m", "tofu_databricks.cli", "exec", "--", "sh", "-c", script]
        os.execve(sys.executable, command, {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **SETTINGS})
    return pid, terminal


def state_of(pid: int) -> int:
    """The next change of a process's state as `waitpid` gives it."""
    for _ in range(int(DEADLINE / 0.02)):
        changed, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
        if changed:
            return status
        threading.Event().wait(0.02)
    raise AssertionError("the process neither stopped nor ended")


def test_on_a_terminal_the_command_has_it() -> None:
    """On a terminal the command is in the foreground: it reads, and Ctrl-C reaches it alone."""
    loop = "while :; do sleep 0.05; done"
    pid, terminal = on_terminal(f"trap 'echo got it; exit 5' INT; read line; echo read $line; {loop}")
    try:
        os.write(terminal, b"hello\n")
        assert "read hello" in read_until(terminal, "read hello")
        os.write(terminal, b"\x03")
        assert "got it" in read_until(terminal, "got it")
        assert os.waitstatus_to_exitcode(state_of(pid)) == 5
    finally:
        os.close(terminal)


def test_the_terminal_is_the_commands_wherever_standard_input_leads() -> None:
    """A command whose standard input is a file still asks its questions on the terminal."""
    loop = "while :; do sleep 0.05; done"
    script = f"trap 'echo got it; exit 5' INT; read line </dev/tty; echo read $line; {loop}"
    pid, terminal = on_terminal(script, stdin=os.devnull)
    try:
        os.write(terminal, b"hello\n")
        assert "read hello" in read_until(terminal, "read hello")
        os.write(terminal, b"\x03")
        assert "got it" in read_until(terminal, "got it")
        assert os.waitstatus_to_exitcode(state_of(pid)) == 5
    finally:
        os.close(terminal)


def test_in_the_background_the_command_stops_as_a_job_and_reads_in_the_foreground() -> None:
    """A command that reads the terminal from the background stops exec with it; `fg` lets it read."""
    inner = f"{sys.executable} -m tofu_databricks.cli exec -- sh -c 'read line; echo read $line; exit 7'"
    pid, terminal = os.forkpty()
    if pid == 0:  # pragma: no cover - the other process
        outer = f"set -m; {inner} </dev/tty & wait $!; echo stopped; fg >/dev/null; exit $?"
        os.execvpe(
            "bash",
            ["bash", "-c", outer],
            {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **SETTINGS},
        )
    try:
        assert "stopped" in read_until(terminal, "stopped")
        os.write(terminal, b"hello\n")
        assert "read hello" in read_until(terminal, "read hello")
        assert os.waitstatus_to_exitcode(state_of(pid)) == 7
    finally:
        os.close(terminal)


def test_on_a_terminal_the_command_can_be_stopped_and_continued() -> None:
    """Ctrl-Z stops the command and exec with it; continued, the command has the terminal again."""
    pid, terminal = on_terminal("read first; echo ready; read line; echo read $line; exit 6")
    try:
        os.write(terminal, b"first\n")  # what has read a line has the terminal
        read_until(terminal, "ready")
        os.write(terminal, b"\x1a")
        assert os.WIFSTOPPED(state_of(pid))
        os.kill(pid, signal.SIGCONT)
        os.write(terminal, b"again\n")
        assert "read again" in read_until(terminal, "read again")
        assert os.waitstatus_to_exitcode(state_of(pid)) == 6
    finally:
        os.close(terminal)


def read_until(terminal: int, text: str) -> str:
    """What a terminal shows until `text` has come."""
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], DEADLINE)
        assert ready, f"no {text!r} in {seen!r}"
        seen += os.read(terminal, 4096).decode()
    return seen


def test_the_command_finds_its_gateway_in_the_environment() -> None:
    """The TF_HTTP_ variables lead to a gateway on loopback that wants the password made for this run."""
    first = json.loads(run([sys.executable, "-c", TELL], "--workspace", "prod ü")[1])
    again = json.loads(run([sys.executable, "-c", TELL])[1])
    address = first["TF_HTTP_ADDRESS"]
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/state/prod%20%C3%BC")
    assert first["TF_HTTP_LOCK_ADDRESS"] == first["TF_HTTP_UNLOCK_ADDRESS"] == address
    assert (first["TF_HTTP_UPDATE_METHOD"], first["TF_HTTP_LOCK_METHOD"]) == ("POST", "LOCK")
    assert first["TF_HTTP_UNLOCK_METHOD"] == "UNLOCK"
    assert len(first["TF_HTTP_PASSWORD"]) >= 32
    assert first["TF_HTTP_PASSWORD"] != again["TF_HTTP_PASSWORD"]


def test_the_gateway_serves_while_the_command_runs_and_no_longer() -> None:
    """The address answers the password, refuses another, and is gone when the command has ended."""
    script = f"{sys.executable} -c '{TELL}' >&2; echo ready; read _"
    process = subprocess.Popen(
        [sys.executable, "-m", "tofu_databricks.cli", "exec", "--", "sh", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **SETTINGS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        told = json.loads(process.stderr.readline())
        assert process.stdout.readline() == "ready\n"
        address = told["TF_HTTP_ADDRESS"]
        with requests.Session() as session:
            session.trust_env = False
            wrong = session.put(address, auth=(told["TF_HTTP_USERNAME"], "wrong"), timeout=DEADLINE)
            right = session.put(
                address, auth=(told["TF_HTTP_USERNAME"], told["TF_HTTP_PASSWORD"]), timeout=DEADLINE
            )
            # PUT is no method of the protocol: let in, and answered before any call to the workspace.
            assert (wrong.status_code, right.status_code) == (403, 405)
            process.communicate("\n", timeout=DEADLINE)
            with pytest.raises(requests.ConnectionError):
                session.put(address, timeout=DEADLINE)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_secrets_of_the_workspace_stay_out_of_the_commands_environment() -> None:
    """The token is not handed to the command, and the password is in no argument and no output."""
    code, output, errors = run(["sh", "-c", f"{sys.executable} -c '{TELL}'; cat /proc/$PPID/cmdline"])
    assert code == 0
    assert SETTINGS["TOFU_DATABRICKS_TOKEN"] not in output + errors
    told, cmdline = output.split("\n", 1)
    assert json.loads(told)["TF_HTTP_PASSWORD"] not in cmdline + errors


def test_the_lock_timeout_becomes_an_argument_of_every_command_that_locks() -> None:
    """`lock_timeout` is handed on as -lock-timeout, before what the user has there already."""
    _, output, _ = run(
        [sys.executable, "-c", TELL],
        "--lock-timeout",
        "10m",
        TF_CLI_ARGS_plan="-lock-timeout=1s -parallelism=3",
    )
    told = json.loads(output)
    assert told["TF_CLI_ARGS_apply"] == "-lock-timeout=600s"
    assert told["TF_CLI_ARGS_plan"] == "-lock-timeout=600s -lock-timeout=1s -parallelism=3"
    assert "TF_CLI_ARGS" not in told


def test_the_environment_of_a_client() -> None:
    """Foreign settings of the http backend are replaced, its retries kept; no timeout means no argument."""
    base = {
        "TF_HTTP_ADDRESS": "https://elsewhere",
        "TF_HTTP_CLIENT_PRIVATE_KEY_PEM": "key",
        "TF_HTTP_RETRY_MAX": "5",
        "TOFU_DATABRICKS_GATEWAY_SECRET": "s",
        "TF_VAR_x": "1",
    }
    made = client_environment(base, "http://127.0.0.1:1/state/default", "u", "p")
    assert made["TF_HTTP_ADDRESS"] == "http://127.0.0.1:1/state/default"
    assert "TF_HTTP_CLIENT_PRIVATE_KEY_PEM" not in made
    assert "TOFU_DATABRICKS_GATEWAY_SECRET" not in made
    assert (made["TF_HTTP_RETRY_MAX"], made["TF_VAR_x"]) == ("5", "1")
    assert not any(name.startswith("TF_CLI_ARGS") for name in made)
    waiting_for = client_environment({}, "http://x", "u", "p", 1.5)
    assert {n for n in waiting_for if n.startswith("TF_CLI_ARGS")} == {
        f"TF_CLI_ARGS_{command}" for command in LOCKING_COMMANDS
    }
    assert waiting_for["TF_CLI_ARGS_state_mv"] == "-lock-timeout=1500ms"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "1ms"), (1.5, "1500ms"), (600.0, "600s"), (1_080_000.0, "1080000s"), (9.2e9, "9200000000s")],
)
def test_a_duration_is_written_as_go_reads_it(seconds: float, text: str) -> None:
    """However long or short, without an exponent, and never 0."""
    assert go_duration(seconds) == text


def test_a_command_that_is_not_there_is_127(tmp_path: Path) -> None:
    """An unknown command is one line and 127, one that cannot be executed 126."""
    code, _, errors = run(["no-such-command"])
    assert (code, errors) == (127, "tofu-databricks: command not found: no-such-command\n")
    plain = tmp_path / "plain"
    plain.write_text("")
    code, _, errors = run([str(plain)])
    assert code == 126
    assert errors == f"tofu-databricks: cannot run {plain}: Permission denied\n"


@pytest.mark.parametrize(
    ("options", "extra", "message"),
    [
        (["--catalog", "a.b"], {}, "catalog"),
        (["--frob"], {}, "No such option"),
        (["--set", "token=x"], {}, "other users can read a command line"),
        (["--set", "nonsense"], {}, "NAME=VALUE"),
        (["--config", "/nonexistent.toml"], {}, "/nonexistent.toml"),
        (["--workspace", "a/b"], {}, "workspace 'a/b' has no address"),
        (["--workspace", "a\nb"], {}, "has no address"),
        (["--workspace", ""], {}, "has no address"),
        (["--workspace", "x" * 300], {}, "too long"),
        ([], {"TOFU_DATABRICKS_CATALOG": ""}, "missing setting"),
        ([], {"TOFU_DATABRICKS_LOCK_TIMEOUT": "soon"}, "lock_timeout"),
    ],
)
def test_a_mistake_is_one_line_and_4(options: list[str], extra: dict[str, str], message: str) -> None:
    """A wrong setting is one line and 4, which no command of terraform's means anything by."""
    code, output, errors = run(["echo", "ran"], *options, **extra)
    assert (code, output) == (4, "")
    assert errors.startswith("tofu-databricks: ")
    assert errors.count("\n") == 1
    assert message in errors


def test_a_settings_file_is_read(tmp_path: Path) -> None:
    """`--config` takes TOML; an option outranks it, and it outranks the environment."""
    file = tmp_path / "settings.toml"
    file.write_text('lock_timeout = "5s"\nvolume = "from_file"\n')
    _, output, _ = run([sys.executable, "-c", TELL], "--config", str(file))
    assert json.loads(output)["TF_CLI_ARGS_apply"] == "-lock-timeout=5s"
    _, output, _ = run([sys.executable, "-c", TELL], "--config", str(file), "--lock-timeout", "7s")
    assert json.loads(output)["TF_CLI_ARGS_apply"] == "-lock-timeout=7s"
    file.write_text("lock_timeout = ")
    code, _, errors = run(["true"], "--config", str(file))
    assert code == 4
    assert "is not TOML" in errors
