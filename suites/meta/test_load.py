"""`lockproof load`: users of locust in processes of their own, whose histories are judged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from lockproof.cli import cli
from lockproof.load.report import schema

Load = Callable[..., Result]
NO_LOCK = "py:lockproof.fakes.saboteurs.lock_exclusion:NoLock.driver"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Runs `lockproof load` with four users and its report in `out`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["load", *arguments, "--users=4", "--out=out"], standalone_mode=False)

    return run


def report() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path("out/load.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema())
    return document


def test_histories_of_several_processes_are_judged_as_one(load: Load) -> None:
    """Two processes of users write a history each; merged they are valid, and all figures come of them."""
    done = load(
        "--backend=file", "--processes=2", "--duration=1s", "--scenario=ci-fleet", "--retry-every=0.1s"
    )
    assert done.return_value == 0, done.output
    told = report()
    assert told["history"]["verdict"] == "valid"
    assert told["history"]["files"] == ["process-1.jsonl", "process-2.jsonl"]
    assert told["locking"]["fairness"]["users"] == 4
    assert (
        0
        < told["locking"]["granted"]
        == sum(call["outcomes"].get("ok", 0) for call in told["calls"] if call["op"] == "lock")
    )
    checked = CliRunner().invoke(cli, ["check", "--merge", "out/histories"], standalone_mode=False)
    assert checked.return_value == 0, checked.output


def test_a_backend_without_a_lock_is_convicted_by_its_load(load: Load) -> None:
    """A saboteur that grants every lock ends the load run with exit code 1 and two holders named."""
    done = load(f"--backend={NO_LOCK}", "--duration=0.5s")
    assert done.return_value == 1, done.output
    assert report()["history"]["anomaly"] == "two holders"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--backend=nothing",), "no backend driver named 'nothing'"),
        (("--backend=databricks",), "name one: databricks:lakebase, databricks:delta"),
        (("--backend=memory", "--processes=2"), "does not claim clients.process"),
        (("--backend=memory", "--rate=0"), "'0' is no rate: write 50/s"),
        (("--backend=memory", "--duration=soon"), "'soon' is no duration"),
        (("--backend=memory", "--rate=5", "--ramp=5"), "--rate and --ramp do not go together"),
        (("--backend=file", "--worker"), "--users is the master's to say"),
        (("--backend=file", "--master"), "starts its own services on each machine"),
        ((f"--backend={NO_LOCK}", "--scenario=large-states"), "needs state.large"),
    ],
)
def test_bad_usage_is_one_clear_line(load: Load, arguments: tuple[str, ...], complaint: str) -> None:
    """What cannot be run is told in one line, before anything starts."""
    failure = load(*arguments).exception
    assert failure is not None
    message = failure.format_message()  # type: ignore[attr-defined]
    assert complaint in message
    assert "\n" not in message
    assert not Path("out/load.json").exists()


def test_without_the_extra_one_line_says_what_to_install(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locust the command names the extra that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    failure = load("--backend=memory").exception
    assert re.search(r"pip install 'lockproof\[load\]'", str(failure))
