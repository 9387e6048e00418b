"""Expected failures: they run, they must fail, and no entry is dead."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from lockproof.plugin.expectations import load, matches
from lockproof.suites.meta.runs import run_every_status, run_here

pytest_plugins = ["pytester"]
TODAY = datetime.date(2026, 6, 1)


def test_expected_failure_fails_quietly_and_a_pass_loudly(pytester: pytest.Pytester) -> None:
    """xfail carries the reason and the issue; xpass names the entry to remove."""
    run = run_every_status(pytester)
    assert run.result("test_xfail")["reason"] == "not built yet (https://example.org/issues/7)"
    assert "expect.toml: expect.fail entry 2" in run.result("test_xpass")["reason"]
    assert run.result("test_flaky")["reason"] == "depends on the moon; this time: fail"


def test_expected_violation_of_a_must_is_still_nonconformant(pytester: pytest.Pytester) -> None:
    """The run exits with 0, but a backend that violates a MUST as expected is not conformant."""
    pytester.makepyfile(
        test_must="""
        from lockproof.spec import requirement

        @requirement("STATE-RT-001")
        def test_must(backend):
            assert backend.id == "another"
        """
    )
    entry = '[[expect.fail]]\nrequirement = "STATE-RT-*"\nreason = "known"\n'
    (pytester.path / "expect.toml").write_text(entry, encoding="utf-8")
    run = run_here(pytester, "--backend-expect=expect.toml", "test_must.py")
    assert (run.code, run.statuses()) == (0, {"test_must": "xfail"})
    assert run.report["backends"][0]["verdict"]["result"] == "nonconformant"


def test_error_is_never_expected(pytester: pytest.Pytester) -> None:
    """An entry does not cover a test that breaks instead of failing."""
    entry = '[[expect.fail]]\ntest = "*::test_error_in_*"\nreason = "known"\n'
    run = run_every_status(pytester)
    (pytester.path / "expect.toml").write_text(entry, encoding="utf-8")
    run = run_here(pytester, "--backend-expect=expect.toml", "test_every.py", "-k=test_error_in_body")
    assert (run.code, run.result("test_error_in_body")["status"]) == (1, "error")


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_entry_that_matches_nothing_is_a_usage_error(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    """A test that was renamed must not leave a dead entry behind."""
    pytester.makepyfile(test_one="def test_one(backend): assert backend.id")
    entry = '[[expect.fail]]\ntest = "suites/locks/test_gone.py::*"\nreason = "known"\n'
    (pytester.path / "expect.toml").write_text(entry, encoding="utf-8")
    run = run_here(pytester, "--backend-expect=expect.toml", "test_one.py", *workers)
    assert run.code == 4
    assert "matches no test: suites/locks/test_gone.py::*" in run.output


def test_entry_for_a_test_that_was_not_chosen_is_fine(pytester: pytest.Pytester) -> None:
    """An entry for a test of another suite is no error in a run of one file."""
    pytester.makepyfile(test_one="def test_one(backend): assert backend.id")
    entry = '[[expect.fail]]\ntest = "suites/smoke/test_smoke.py::*[memory]"\nreason = "known"\n'
    (pytester.path / "expect.toml").write_text(entry, encoding="utf-8")
    assert run_here(pytester, "--backend-expect=expect.toml", "test_one.py").code == 0


PARAMETRIZED = """
import pytest

@pytest.mark.parametrize("n", ["one", "two"])
def test_many(backend, n):
    assert backend.id

def test_one(backend):
    assert backend.id
"""


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ('test = "test_all.py::test_many[typo]"', "matches no test: test_all.py::test_many[typo]"),
        ('test = "test_all.py::test_many[memory-typo]"', "(its parameters: one, two)"),
        ('test = "test_all.py::test_many"', "test_all.py::test_many (its parameters: one, two)"),
        ('test = "test_all.py::test_one[memori]"', "(its parameters: none)"),
        ('test = "suites/locks/test_gone.py::*[memory]"', "matches no test"),
        ('test = "test_all.py::test_many[databrics:lakebase-one]"', "matches no test"),
        (
            'test = "test_all.py::*"\nbackend = "databrics:*"',
            "matches no backend: databrics:* (known: memory, ",
        ),
        ('requirement = "LOCK-*"\nbackend = "databrics:*"', "matches no backend: databrics:*"),
    ],
)
def test_entry_with_a_slip_in_brackets_or_backend_is_a_usage_error(
    pytester: pytest.Pytester, entry: str, complaint: str
) -> None:
    """A parameter that a collected test does not have, or a backend that nobody has, is a dead entry."""
    pytester.makepyfile(test_all=PARAMETRIZED)
    text = f'[[expect.fail]]\n{entry}\nreason = "known"\n'
    (pytester.path / "expect.toml").write_text(text, encoding="utf-8")
    run = run_here(pytester, "--backend-expect=expect.toml", "test_all.py")
    assert run.code == 4
    assert complaint in run.output


@pytest.mark.parametrize(
    ("entry", "chosen"),
    [
        ('test = "test_all.py::test_many[*]"\nbackend = "databricks:*"', "test_all.py"),
        ('test = "test_all.py::test_many[databricks:lakebase-one]"', "test_all.py"),
        ('test = "test_all.py::test_one[file]"', "test_all.py"),
        ('test = "test_all.py::test_one[http:http://127.0.0.1:8410/]"', "test_all.py"),
        ('test = "test_all.py::*"\nbackend = "py:their_driver:make"', "test_all.py"),
        ('requirement = "LOCK-*"\nbackend = "file"', "test_all.py"),
        ('test = "test_all.py::test_many[two]"', "test_all.py::test_many[memory-one]"),
    ],
)
def test_entry_for_another_run_with_the_same_file_is_fine(
    pytester: pytest.Pytester, entry: str, chosen: str
) -> None:
    """A file may serve runs of several backends, and of one parameter."""
    pytester.makepyfile(test_all=PARAMETRIZED)
    text = f'[[expect.fail]]\n{entry}\nreason = "known"\n'
    (pytester.path / "expect.toml").write_text(text, encoding="utf-8")
    run = run_here(pytester, "--backend-expect=expect.toml", chosen)
    assert (run.code, set(run.statuses().values())) == (0, {"pass"}), run.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[expect.fail]]\ntest = "x"', "give a reason"),
        ('[[expect.fail]]\nreason = "x"', "give a test or a requirement"),
        ('[[expect.fail]]\ntest = "x"\nreason = "y"\nuntil = 2026-05-31', "expired on 2026-05-31"),
        ('[[expect.fail]]\ntest = "x"\nreason = "y"\nuntil = "soon"', "must be a date"),
        ('[[expect.fail]]\ntest = "x"\nreason = "y"\nuntill = 2026-07-01', "unknown key 'untill'"),
        ('[[expect.fails]]\ntest = "x"\nreason = "y"', "not expect.fails"),
        ('[[fail]]\ntest = "x"', "write [[expect.fail]]"),
        ("[[expect.fail", "expect.toml"),
        ('[[expect.fail]]\ntest = 7\nreason = "y"', "test must be text"),
    ],
)
def test_bad_entry_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    """Whatever is wrong in the file is named with its place."""
    path = tmp_path / "expect.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(pytest.UsageError) as raised:
        load(path, TODAY)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value).strip() or "TOML" in str(raised.value)


def test_entry_holds_through_its_last_day(tmp_path: Path) -> None:
    """`until` is the last day on which the entry is good."""
    path = tmp_path / "expect.toml"
    path.write_text('[[expect.fail]]\ntest = "x"\nreason = "y"\nuntil = 2026-06-01', encoding="utf-8")
    assert [entry.test for entry in load(path, TODAY)] == ["x"]


def test_brackets_in_a_pattern_are_themselves() -> None:
    """A backend's id in brackets is no character class; only `*` is special."""
    assert matches("a.py::test_x[memory]", "a.py::test_x[memory]")
    assert not matches("a.py::test_x[memory]", "a.py::test_xm")
    assert matches("a.py::*[http:*]", "a.py::test_x[http:http://127.0.0.1]")
