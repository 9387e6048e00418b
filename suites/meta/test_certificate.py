"""Issuing a certificate: who gets one, who does not, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lockproof.certificate.conditions import Objection, between, objections
from lockproof.certificate.issue import CERTIFICATE, PAGE
from lockproof.certificate.manifest import files_digest, read_suite_files
from lockproof.certificate.profile import Profile, profiles
from lockproof.certificate.statement import reproduce, schema
from lockproof.cli import main
from lockproof.plugin.collect import DEFAULT_SUITES, SUITES, declared_tests
from lockproof.spec import requirements, requirements_digest
from lockproof.suites.meta.certified import (
    DRIVER,
    RUN,
    SEED,
    certify,
    command,
    content_hash,
    read,
    shared_certificate,
)
from lockproof.suites.meta.lakebase_bed import eventually
from lockproof.suites.meta.runs import clean_environment

NIGHTLY = profiles()["nightly"]
Refusal = Callable[..., str]


@pytest.fixture(scope="session")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has touched."""
    return shared_certificate(tmp_path_factory)


@pytest.fixture
def report(genuine: Path) -> dict[str, Any]:
    """The report of its run."""
    found: dict[str, Any] = read(genuine, f"{RUN}/report.json")
    return found


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Refusal:
    """What `lockproof certify` says in one line when it is used wrongly."""

    def run(*words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["lockproof", "certify", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert (ended.value.code, out, len(err.splitlines())) == (4, "", 1)
        return err

    return run


def test_certificate_is_valid_by_its_schema(genuine: Path) -> None:
    """certificate.json is valid by the shipped schema; without a field, or with a failed MUST, it is not."""
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    document = read(genuine)
    validator.validate(document)
    for name in document:
        assert not validator.is_valid({key: value for key, value in document.items() if key != name})
    document["requirements"][0]["status"] = "fail"
    assert not validator.is_valid(document)


def test_certificate_states_what_was_tested(genuine: Path, report: dict[str, Any]) -> None:
    """Backend, version, target, suite, requirements, seed and numbers are those of the run."""
    stated, backend = read(genuine), report["backends"][0]
    assert stated["backend"]["driver"] == backend["driver"]
    assert stated["backend"]["driver"]["version"] == "1.2"
    assert stated["target"] == backend["target"] == "fake"
    assert stated["suite"]["requirements"] == requirements_digest()
    assert [run["seed"] for run in stated["runs"]] == [SEED]
    assert {r["id"]: r["status"] for r in stated["requirements"]} == {
        r["id"]: r["status"] for r in backend["requirements"]
    }
    assert stated["numbers"]["passed"] == backend["counts"]["pass"] > 20
    assert stated["numbers"]["histories"] > 20
    assert stated["runs"][0]["latency"] == backend["latency"]
    assert stated["profile"]["suites"] == list(DEFAULT_SUITES)


@pytest.mark.parametrize("text", [PAGE, CERTIFICATE])
def test_first_line_names_a_fake(genuine: Path, text: str) -> None:
    """Whoever reads one line of a fake's certificate has read that it is a fake's."""
    lines = (genuine / text).read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if line != "{")
    assert "py:small:Small 1.2 on a FAKE target is conformant (profile nightly)" in first


def test_progress_and_place_are_told(genuine: Path) -> None:
    """One line for the run, the digest, and last the certificate."""
    said = (genuine.parent / "said.txt").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"run folders: \.lockproof/certify-\w+-\w+/seed-\*", said[0])
    assert said[1].startswith(f"seed {SEED} (1 of 1): conformant, ")
    assert said[2] == f"certified with profile nightly: {read(genuine)['digest']}"
    assert said[3:] == ["lockproof certificate: certificate/CERTIFICATE.md"]


def test_nothing_of_its_author_is_in_it(genuine: Path) -> None:
    """No file names the folder that it was made in, the suites' own or the home of who made it."""
    places = [str(genuine.parent), sys.prefix, os.path.expanduser("~")]
    for path in genuine.rglob("*.*"):
        text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        assert [place for place in places if len(place) > 6 and place in text] == []


def test_command_to_repeat_it_certifies_again(report: dict[str, Any]) -> None:
    """The command has backend, profile, options and seeds; what was secret is left to fill in."""
    report["backends"][0]["given"]["token"] = "***"
    report["run"]["own_postgres"] = True
    assert reproduce([report], NIGHTLY) == (
        "lockproof certify --backend=py:small:Small --profile=nightly --backend-opt=target=fake "
        "'--backend-opt=token=***' '--backend-postgres=***' --seeds=5"
    )


def test_saboteur_gets_none(tmp_path: Path) -> None:
    """A backend that loses writes: exit code 1, the MUST is named, run folders stay, no certificate."""
    done = certify(tmp_path, "--backend=py:small:Lossy", "--out=certificate")
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lockproof: no certificate: fail: suites/")
    assert "STATE-" in last
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {".lockproof", "small.py"}
    assert len(list(tmp_path.glob(".lockproof/certify-*/seed-*/report.json"))) == 1


def test_driver_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    """What the run refuses before it begins is a usage error here, too, without a traceback."""
    done = certify(tmp_path, "--backend=memory", "--backend-opt=password=hunter22", "--out=certificate")
    assert done.returncode == 4
    assert done.stderr == "lockproof: backend memory: the memory driver takes no options, got password\n"
    assert not (tmp_path / "certificate").exists()


def test_interrupted_leaves_none(tmp_path: Path) -> None:
    """A polite kill, taken like Ctrl-C, ends the run too: exit code 130, no certificate, nor part of one."""
    (tmp_path / "small.py").write_text(DRIVER, encoding="utf-8")
    process = subprocess.Popen(
        command("--backend=py:small:Small", "--out=certificate"),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def results() -> bool:
        found = list(tmp_path.glob(".lockproof/certify-*/seed-*/events.ndjson"))
        return bool(found) and '{"event":"result"' in found[0].read_text(encoding="utf-8")

    eventually(results, "a test has ended", 120)
    process.terminate()  # a shell in the background may have it ignore Ctrl-C
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "lockproof: no certificate: interrupted"
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {".lockproof", "small.py"}
    events = next(tmp_path.glob(".lockproof/certify-*/seed-*/events.ndjson")).read_text(encoding="utf-8")
    assert (
        json.loads(events.splitlines()[-1])["exit"] == 2
    )  # pytest's own: it was told to stop, and cleaned up


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "smoke"], "takes no -k"),
        (["--backend-suite=smoke"], "takes no --backend-suite"),
        (["--backend-req", "LOCK-*"], "takes no --backend-req"),
        (["--backend-without=locking"], "takes no --backend-without"),
        (["--backend-expect=known.toml"], "takes no --backend-expect"),
        (["--backend-tier=smoke"], "takes no --backend-tier"),
        (["--backend-faults=net"], "takes no --backend-faults"),
        (["--deselect=x"], "takes no --deselect"),
        (["suites/smoke"], "takes no suites/smoke"),
        (["--profile=gold"], "there are: production, nightly"),
        (["--seeds=1,2"], "the profile demands 3 different ones"),
        (["--seeds=1,2,2"], "the profile demands 3 different ones"),
        (["--seeds=1,two,3"], "not '1,two,3'"),
        (["--out=there"], "there is there already"),
        (["--backend=databricks"], "stands for databricks:lakebase, databricks:delta"),
        (["--backend=memry"], "did you mean memory?"),
    ],
)
def test_nothing_can_be_left_out(refusal: Refusal, tmp_path: Path, words: list[str], message: str) -> None:
    """Whatever selects, weakens or overwrites is refused in one line that says what."""
    (tmp_path / "there").write_text("mine", encoding="utf-8")
    assert message in refusal("--backend=memory", *words)
    assert (tmp_path / "there").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["suite", "req", "without", "expect", "faults", "tier", "schedule", "seed"])
@pytest.mark.parametrize("where", ["environment", "file"])
def test_no_standing_setting_leaves_anything_out(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """A variable or a key of lockproof.toml that narrows is refused, too, and named."""
    if where == "environment":
        monkeypatch.setenv(f"LOCKPROOF_{name.upper()}", "1")
    else:
        (tmp_path / "lockproof.toml").write_text(f"{name} = 1\n", encoding="utf-8")
    named = f"LOCKPROOF_{name.upper()}" if where == "environment" else f"`{name}` from lockproof.toml"
    assert refusal("--backend=memory") == f"lockproof: certify leaves nothing out: take away {named}\n"


def test_profiles_leave_no_default_suite_out() -> None:
    """production runs all at tier full with three seeds; no profile has less than the default suites."""
    production = profiles()["production"]
    assert (production.tier, production.seeds, production.every_must) == ("full", 3, True)
    assert set(production.suites) == set(SUITES)
    assert all(set(DEFAULT_SUITES) <= set(profile.suites) for profile in profiles().values())


def test_production_can_prove_every_must() -> None:
    """Each MUST of the registry is cited by a test that production runs, so none is out of its reach."""
    tests = [t for t in declared_tests() if t.tier != "soak"]
    cited = {name for test in tests for name in test.requirements}
    assert [r.id for r in requirements().values() if r.level == "MUST" and r.id not in cited] == []


def test_run_that_is_well_meets_no_objection(report: dict[str, Any]) -> None:
    """The control of the tests below."""
    assert objections(report, NIGHTLY) == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "violated") for status in ("fail", "xpass", "xfail")),
        ("error", "broke"),
        *((status, "undecided") for status in ("unknown", "not-run", "flaky", "disabled")),
    ],
)
def test_one_test_that_did_not_pass_is_an_objection(report: dict[str, Any], status: str, kind: str) -> None:
    """Each status but pass and skip is one, and its kind decides the exit code."""
    report["backends"][0]["results"][0].update(status=status, reason="the moon")
    found = objections(report, NIGHTLY)
    assert [objection.kind for objection in found] == [kind]
    assert found[0].text.endswith(": the moon")


@pytest.mark.parametrize(("status", "kind"), [("fail", "violated"), ("unknown", "undecided")])
def test_a_target_that_was_missed_is_an_objection(report: dict[str, Any], status: str, kind: str) -> None:
    """A requirement that was measured, and not met, counts though every test passed."""
    report["backends"][0]["requirements"][-1]["status"] = status
    assert [objection.kind for objection in objections(report, NIGHTLY)] == [kind]


def test_must_without_a_test_is_an_objection(report: dict[str, Any]) -> None:
    """Where the profile demands it, every MUST of the registry has a test in the run."""
    strict = Profile(**{**vars(NIGHTLY), "every_must": True})
    missing = {r.id for r in requirements().values() if r.level == "MUST"}
    missing -= {r["id"] for r in report["backends"][0]["requirements"]}
    assert missing  # those of the suite `clients`, which nightly does not run
    found = objections(report, strict)
    assert found == [Objection("undecided", f"no test was about MUST {', '.join(sorted(missing))}")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["run"].update(seed=SEED), "wants 1 runs with different seeds, not 5, 5"),
        (lambda r: r["backends"][0].update(target="real"), "differ in the backend's target"),
        (lambda r: r["backends"][0]["driver"].update(version="1.3"), "differ in the backend's driver"),
        (lambda r: r["backends"][0]["given"].update(fast="yes"), "differ in the backend's given"),
        (lambda r: r["suite"]["files"].update(checkers="0" * 64), "the suite was changed between"),
        (lambda r: r["backends"][0]["results"].pop(), "did not run the same tests"),
    ],
)
def test_runs_of_different_things_earn_none(
    report: dict[str, Any], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """Runs that each are well are of one backend and one suite with different seeds, or earn nothing."""
    other = json.loads(json.dumps(report))
    other["run"]["seed"] = SEED + 1
    assert between([report, other], NIGHTLY) == []
    change(other)
    assert [message in objection.text for objection in between([report, other], NIGHTLY)] == [True]


def test_manifest_knows_every_part_and_each_change(tmp_path: Path) -> None:
    """A changed, renamed or added source changes the hash; what decides nothing does not."""
    assert {"suites", "fakes", "checkers", "spec", "history", "plugin", "report", "lockproof"} <= set(
        read_suite_files()
    )
    (tmp_path / "meta").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n", encoding="utf-8")

    def now() -> str:
        return files_digest(tmp_path, tmp_path.rglob("*"))

    seen = [now()]
    for name, text in (("notes.md", "x"), ("meta/test_x.py", "x"), ("a.pyc", "x")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert now() == seen[0]
    (tmp_path / "a.py").write_text("x = 2\n", encoding="utf-8")
    seen.append(now())
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    seen.append(now())
    (tmp_path / "c.toml").write_text("", encoding="utf-8")
    seen.append(now())
    assert len(set(seen)) == len(seen)


def test_verify_answers_by_exit_code(
    genuine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """0 and the digest for what holds, 1 and the file for what was changed, 4 for what is no certificate."""

    def verify(path: Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["lockproof", "verify", str(path)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capfd.readouterr())

    before = content_hash(genuine)
    code, out, _ = verify(genuine)
    assert code == 0
    assert out.splitlines()[-2:] == [
        f"suite: lockproof {read(genuine)['suite']['version']}, the one that is installed here",
        f"digest: {read(genuine)['digest']}",
    ]
    assert content_hash(genuine) == before
    (tmp_path / CERTIFICATE).write_bytes((genuine / CERTIFICATE).read_bytes())
    code, out, _ = verify(tmp_path)
    assert code == 1
    assert f"refused: {PAGE}: is missing" in out.splitlines()
    code, out, err = verify(tmp_path / "nowhere")
    assert (code, out) == (4, "")
    assert err == f"lockproof: {tmp_path}/nowhere: no such file or folder\n"
