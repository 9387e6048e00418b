"""What a run writes: every rendering says the same, and says it where it is looked for."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from lockproof.history import read_history
from lockproof.plugin.collect import suite_root
from lockproof.report import read_events, render, schema
from lockproof.suites.meta.runs import EXPECTED_STATUSES, FOLDER, Run, run_every_status, run_here

pytest_plugins = ["pytester"]


@pytest.fixture
def every(pytester: pytest.Pytester) -> Run:
    """A run with every status."""
    return run_every_status(pytester)


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def test_schema_is_a_schema_and_has_teeth(every: Run) -> None:
    """report.json is valid by the shipped schema; a missing field or a strange status is not."""
    jsonschema.Draft202012Validator.check_schema(schema())
    validator().validate(every.report)
    document = json.loads(json.dumps(every.report))
    document["backends"][0]["results"][0]["status"] = "green"
    assert not validator().is_valid(document)
    document = json.loads(json.dumps(every.report))
    del document["backends"][0]["target"]
    assert not validator().is_valid(document)


def test_report_counts_and_rolls_up(every: Run) -> None:
    """Counts add up to the results, and a requirement has the status of its worst test."""
    backend = every.report["backends"][0]
    assert backend["counts"]["error"] == 3
    assert sum(backend["counts"].values()) == len(EXPECTED_STATUSES)
    rolled = {r["id"]: (r["level"], r["status"]) for r in backend["requirements"]}
    assert rolled == {"LOCK-EXCL-001": ("MUST", "fail"), "STATE-RT-001": ("MUST", "pass")}
    assert backend["verdict"]["result"] == "nonconformant"
    assert backend["verdict"]["must"] == {"met": 1, "applicable": 2, "inapplicable": 0}
    assert {row["op"] for row in backend["latency"]} >= {"get", "put", "lock"}


def test_junit_has_real_failure_elements(every: Run) -> None:
    """Every CI counts what junit.xml says: failure, error and skipped elements, and right totals."""
    suite = ElementTree.parse(every.folder / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    children = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    expected = {
        "pass": [],
        "fail": ["failure"],
        "xpass": ["failure"],
        "error": ["error"],
        "unknown": ["error"],
    }
    assert children == {
        f"{name}[memory]": expected.get(status, ["skipped"]) for name, status in EXPECTED_STATUSES.items()
    }
    totals = {name: int(suite.get(name) or -1) for name in ("tests", "failures", "errors", "skipped")}
    assert totals == {"tests": 13, "failures": 3, "errors": 4, "skipped": 5}
    failed = suite.find("testcase[@name='test_fail[memory]']/failure")
    assert failed is not None
    assert "LOCK-EXCL-001" in (failed.get("message") or "")
    assert "AssertionError" in (failed.text or "")


def test_failure_card_has_all_that_a_reader_needs(every: Run) -> None:
    """Requirement and clause with its address, expected, observed, operations, command, history."""
    page = (every.folder / "report.md").read_text(encoding="utf-8")
    card = page.partition("### fail: A held lock is refused.")[2].partition("###")[0]
    assert "LOCK-EXCL-001 (MUST)" in card
    assert "https://github.com/opentofu/opentofu/blob/" in card
    assert "locker.go#L38-L41" in card
    assert "expected  A held lock is refused." in card
    assert "observed  AssertionError" in card
    assert "alice lock default" in card
    assert "pytest 'test_every.py::test_fail[memory]' --backend=memory --backend-seed=7" in card
    history = every.folder / "histories" / every.result("test_fail")["failure"]["history"]
    assert f"{FOLDER}/histories/{history.name}" in card
    assert read_history(history).header["test"] == "test_every.py::test_fail[memory]"


def test_terminal_shows_cards_verdict_and_the_path_last(every: Run) -> None:
    """The terminal shows the card of a failure, a verdict for each backend, and the report's path last."""
    assert any(line.startswith("memory (local): NONCONFORMANT  1/2 MUST") for line in every.lines)
    assert every.lines[-1] == "lockproof report: run/report.md"
    assert any("the write of one was lost" in line for line in every.lines)
    assert any("only 3 of 50 clients met" in line for line in every.lines)


def test_terminal_says_why_tests_were_not_run(every: Run) -> None:
    """Every reason that kept a test from running is shown with its number, never a bare count."""
    assert "     1 not-run: no tofu on PATH" in every.lines
    assert "     1 skip: not declared: clients.process" in every.lines
    assert "     1 disabled: switched off by --backend-without: locking.force-unlock" in every.lines


def test_witness_names_the_operations_that_are_shown(every: Run) -> None:
    """A violation with a witness shows those operations, not the last ones."""
    operations = every.result("test_fail_by_violation")["failure"]["operations"]
    assert len(operations) == 1
    assert "put one" in operations[0]
    assert len(every.result("test_fail")["failure"]["operations"]) == 3


@pytest.mark.parametrize("name", ["report.md", "junit.xml", "report.json"])
def test_target_kind_stands_in_the_first_line(every: Run, name: str) -> None:
    """What kind of target was tested can be read before anything else; in JSON, beside the id."""
    text = (every.folder / name).read_text(encoding="utf-8")
    if name == "report.md":
        assert "memory on a local target: nonconformant" in text.splitlines()[0]
    elif name == "junit.xml":
        assert ElementTree.fromstring(text)[0].get("name") == "memory (local)"
    else:
        assert list(every.report["backends"][0])[:2] == ["id", "target"]


def test_reports_are_derived_from_the_events(every: Run) -> None:
    """Rendering the events again gives the same report."""
    events = read_events(every.folder / "events.ndjson")
    assert [event["event"] for event in (events[0], events[1], events[-1])] == ["start", "manifest", "finish"]
    assert render(every.folder) == every.report


def test_many_failures_do_not_flood_the_terminal(pytester: pytest.Pytester) -> None:
    """Ten cards are shown in full; of the rest a line each. The report has all."""
    pytester.makepyfile(
        test_many="""
        import pytest

        @pytest.mark.parametrize("n", range(30))
        def test_fails(alice, n):
            assert alice.get("default") == n
        """
    )
    run = run_here(pytester, "test_many.py")
    assert run.output.count("  repeat    pytest") == 10
    page = (run.folder / "report.md").read_text(encoding="utf-8")
    assert page.count("  repeat    pytest") == 30


def test_card_repeats_the_run_with_what_changes_it(pytester: pytest.Pytester) -> None:
    """The command of a card has every option that decides what a test does: also which faults are drawn."""
    pytester.makepyfile(test_one="def test_fails(backend):\n    assert False\n")
    options = (
        *("--backend-seed=7", "--backend-tier=soak", "--backend-clients=3"),
        "--backend-without=locking.force-unlock",
        *("--backend-faults=net,postgres", "--backend-duration=90.5", "--backend-allow-destructive"),
        "--backend-timeout=4",
    )
    run = run_here(pytester, "test_one.py", *options)
    validator().validate(run.report)
    assert (
        f"  repeat    pytest 'test_one.py::test_fails[memory]' --backend=memory {' '.join(options)}"
        in run.lines
    )
    plain = run_here(pytester, "test_one.py", "--backend-seed=7")
    assert (
        "  repeat    pytest 'test_one.py::test_fails[memory]' --backend=memory --backend-seed=7"
        in plain.lines
    )


def test_two_backends_are_reported_apart(pytester: pytest.Pytester) -> None:
    """Each backend has its own results and verdict under its own id."""
    pytester.makepyfile(
        test_two="""
        from lockproof.spec import requirement

        @requirement("STATE-RT-001")
        def test_is_memory(backend):
            assert backend.id == "memory"
        """
    )
    second = "--backend=py:lockproof.driver.memory:MemoryDriver"
    run = run_here(pytester, second, "test_two.py")
    assert [backend["id"] for backend in run.report["backends"]] == ["memory", second.partition("=")[2]]
    assert (run.statuses(0), run.statuses(1)) == ({"test_is_memory": "pass"}, {"test_is_memory": "fail"})
    validator().validate(run.report)


def test_read_only_directory_does_not_stop_a_run(pytester: pytest.Pytester) -> None:
    """Where .lockproof cannot be made the run folder is a temporary one, and the run says so."""
    pytester.makepyfile(test_one="def test_one(backend): assert backend.id")
    (pytester.path / ".lockproof").write_text("a file in the way", encoding="utf-8")
    result = pytester.runpytest_inprocess("--backend=memory", "-pno:hypothesispytest", "test_one.py")
    assert result.ret == 0
    last = [line for line in str(result.stdout).splitlines() if line][-1]
    page = Path(last.removeprefix("lockproof report: "))
    assert page.is_absolute()
    assert page.exists()
    result.stdout.fnmatch_lines(["lockproof: * cannot be written *"])


def test_folder_of_other_files_is_refused(pytester: pytest.Pytester) -> None:
    """A report folder that holds something else is a usage error, and nothing in it is touched."""
    (pytester.path / FOLDER).mkdir()
    precious = pytester.path / FOLDER / "thesis.md"
    precious.write_text("years of work", encoding="utf-8")
    run = run_every_status(pytester)
    assert run.code == 4
    assert f"{precious.parent} holds other files" in run.output
    assert precious.read_text(encoding="utf-8") == "years of work"


def test_folder_of_an_earlier_run_is_used_again(pytester: pytest.Pytester) -> None:
    """A second run into the same folder leaves only its own results and histories."""
    first = run_every_status(pytester)
    assert len(list((first.folder / "histories").iterdir())) > 1
    second = run_every_status(pytester, "-k=test_pass")
    assert [path.name for path in (second.folder / "histories").iterdir()] == [
        "test_every.test_pass-memory.jsonl"
    ]


def test_report_names_no_folder_of_its_author(pytester: pytest.Pytester) -> None:
    """The command line of a report speaks of the suites and of the working directory, wherever they are."""
    test = suite_root() / "smoke" / "test_smoke.py"
    run = run_here(pytester, str(test), f"--rootdir={pytester.path}", f"--basetemp={pytester.path}.d/t")
    argv = run.report["run"]["argv"]
    assert {"suites/smoke/test_smoke.py", "--rootdir=.", f"--basetemp={pytester.path}.d/t"} <= set(argv)
