"""Options: where they come from, what overrules what, and what is refused."""

from __future__ import annotations

import pytest

from lockproof.plugin.collect import suite_root
from lockproof.plugin.options import OPTIONS, Settings, unknown_variables
from lockproof.suites.meta.runs import run_here

pytest_plugins = ["pytester"]


@pytest.fixture
def one(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with one test, and an environment without our variables."""
    pytester.makepyfile(
        test_one="""
        def test_one(backend):
            assert (backend.seed, backend.timeout, backend.clients) == (5, 30.0, None)
        """
    )
    return pytester


def test_command_line_beats_environment_beats_file(
    one: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source is used, and the nearer one wins."""
    (one.path / "lockproof.toml").write_text('seed = 3\ntier = "full"\nclients = 9\n', encoding="utf-8")
    run = run_here(one, "test_one.py")
    assert [run.report["run"][name] for name in ("seed", "tier", "clients")] == [3, "full", 9]
    monkeypatch.setenv("LOCKPROOF_SEED", "4")
    run = run_here(one, "test_one.py")
    assert [run.report["run"][name] for name in ("seed", "tier", "clients")] == [4, "full", 9]
    run = run_here(one, "test_one.py", "--backend-seed=5")
    assert [run.report["run"][name] for name in ("seed", "tier", "clients")] == [5, "full", 9]


def test_backend_is_never_taken_from_environment_or_file(
    one: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten variable must not aim a run at a real workspace."""
    monkeypatch.setenv("LOCKPROOF_BACKEND", "memory")
    result = one.runpytest_inprocess("-pno:hypothesispytest", "test_one.py")
    result.stdout.fnmatch_lines(["*fixture 'backend' not found*"])
    (one.path / "lockproof.toml").write_text('backend = "memory"\n', encoding="utf-8")
    run = run_here(one, "test_one.py")
    assert run.code == 4
    assert "`backend` is given on the command line only" in run.output


def test_settings_reach_the_tests(one: pytest.Pytester) -> None:
    """Seed, deadline and number of clients are what was asked for, also in a worker."""
    assert run_here(one, "test_one.py", "--backend-seed=5").code == 0
    assert run_here(one, "test_one.py", "--backend-seed=5", "-n1").code == 0
    assert run_here(one, "test_one.py", "--backend-seed=5", "--backend-timeout=7").code == 1
    assert run_here(one, "test_one.py", "--backend-seed=5", "--backend-clients=7").code == 1


def test_unknown_variables_are_named(one: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that looks like ours and is not is a typo: the header says so."""
    monkeypatch.setenv("LOCKPROOF_TEIR", "full")
    run = run_here(one, "test_one.py")
    assert "lockproof: unknown environment variables: LOCKPROOF_TEIR" in run.lines
    every = {f"LOCKPROOF_{option.name.upper()}": "x" for option in OPTIONS}
    assert unknown_variables({**every, "OTHER": "x"}) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teir = 'full'", "unknown key 'teir' (did you mean tier?)"),
        ("seed = 'many'", "seed must be of kind integer"),
        ("keep = 1", "keep must be of kind flag"),
        ("opt = 'a=b'", "opt must be a table"),
        ("suite = [1]", "suite must be text or a list of text"),
        ("seed = ", "lockproof.toml: Invalid value"),
        ("timeout = nan", "positive, finite number of seconds"),
        ("timeout = inf", "positive, finite number of seconds"),
        (f"timeout = 1{'0' * 400}", "timeout is too large"),
    ],
)
def test_bad_file_is_one_clear_line(one: pytest.Pytester, text: str, message: str) -> None:
    """A mistake in lockproof.toml is a usage error that names the key."""
    (one.path / "lockproof.toml").write_text(text, encoding="utf-8")
    run = run_here(one, "test_one.py")
    assert run.code == 4
    assert message in run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output


def test_bad_quotes_in_a_variable_are_one_clear_line(
    one: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driver options in the environment are words of a shell; a quote without end names the variable."""
    monkeypatch.setenv("LOCKPROOF_OPT", "a='b")
    run = run_here(one, "test_one.py")
    assert run.code == 4
    assert [line for line in run.lines if "LOCKPROOF_OPT" in line] == run.lines
    assert "No closing quotation" in run.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend-tier=huge"], "no tier named 'huge'"),
        (["--backend-suite=lock"], "no suite named 'lock' (did you mean locks?)"),
        (["--backend-seed=x"], "--backend-seed must be a number, not 'x'"),
        (["--backend-clients=1"], "at least 2"),
        (["--backend-timeout=0"], "positive"),
        (["--backend-timeout=nan"], "positive, finite number of seconds"),
        (["--backend-timeout=inf"], "positive, finite number of seconds"),
        (["--backend-timeout=1e300"], "positive, finite number of seconds"),
        (["--backend=http:http://127.0.0.1:99999/"], "the address is malformed: Port out of range"),
        (["--backend=http:http://[::1"], "the address is malformed: Invalid IPv6 URL"),
        (["--backend-without=lockign"], "no capability named 'lockign'"),
        (["--backend-expect=nowhere.toml"], "cannot read"),
        (["--backend-opt=novalue"], "write KEY=VALUE"),
        (["--backend=memori"], "no backend driver named 'memori'"),
        (["--backend=py:no_such_module:make"], "cannot load the driver factory 'no_such_module:make'"),
        (["--backend=py:json:no_such_factory"], "cannot load the driver factory 'json:no_such_factory'"),
        (["--backend=memory"], "backend memory is named twice"),
        (["--backend=file", "--backend-opt=a=b"], "say whose it is: memory.a="),
    ],
)
def test_bad_option_is_one_clear_line(one: pytest.Pytester, options: list[str], message: str) -> None:
    """A usage error names what is wrong, exits with 4 and shows no traceback."""
    run = run_here(one, "test_one.py", *options)
    assert run.code == 4
    assert message in run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output


def test_option_without_backend_is_refused(one: pytest.Pytester) -> None:
    """An option that would do nothing says so."""
    result = one.runpytest_inprocess("-pno:hypothesispytest", "--backend-seed=3", "test_one.py")
    assert result.ret == 4
    assert "--backend-seed does nothing without --backend" in str(result.stderr)


def test_options_go_to_the_backend_they_name(one: pytest.Pytester) -> None:
    """With several backends NAME.KEY=VALUE reaches that one alone; in a file it is a table."""
    one.makepyfile(
        test_two="""
        def test_two(backend):
            assert (backend.id == "memory") == (backend.driver.info.name == "memory")
        """
    )
    service = "py:lockproof.suites.meta.shared_service:SharedService"
    given = f"--backend-opt={service}.marks={one.path}"
    assert run_here(one, "test_two.py", f"--backend={service}", given).code == 0
    table = f'[opt."{service}"]\nmarks = "{one.path}"\n'
    (one.path / "lockproof.toml").write_text(table, encoding="utf-8")
    assert run_here(one, "test_two.py", f"--backend={service}").code == 0


def test_a_postgres_goes_to_no_backend_that_has_no_use_for_it(one: pytest.Pytester) -> None:
    """A Postgres for one backend is no option of another one that shares something else."""
    run = run_here(one, "test_one.py", "--backend-seed=5", "--backend-postgres=host=unused", backend="file")
    assert run.code == 0


def test_seed_repeats_the_random_numbers_of_a_test(one: pytest.Pytester) -> None:
    """The same seed gives a test the same numbers, another seed or another test gives others."""
    one.makepyfile(
        test_random="""
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_draws(rng, n):
            with open("drawn", "a") as file:
                file.write(f"{rng.random()}\\n")
        """
    )
    for number in (5, 5, 6):
        assert run_here(one, "test_random.py", f"--backend-seed={number}").code == 0
    drawn = (one.path / "drawn").read_text(encoding="utf-8").split()
    assert drawn[:2] == drawn[2:4]
    assert len(set(drawn)) == 4


def test_settings_survive_the_way_to_a_worker() -> None:
    """What a worker receives is what the controller has."""
    settings = Settings(backends=("memory",), opt=("a=b",), seed=3, tier="full", keep=True)
    sent = settings.to_json()
    assert Settings.from_json(sent).to_json() == sent
    assert sent["opt"] == ["a=b"]


def test_kept_scope_is_left_alone(one: pytest.Pytester) -> None:
    """With --backend-keep what a test made stays in the backend, and the history names it."""
    one.makepyfile(test_keep="def test_keep(alice): alice.put('default', b'{}')")
    root = one.path / "states"
    for option, left in (("--backend-keep", True), ("--backend-seed=1", False)):
        run = run_here(one, "test_keep.py", option, f"--backend-opt=path={root}", backend="file")
        assert run.code == 0
        history = (run.folder / "histories" / "test_keep.test_keep-file.jsonl").read_text(encoding="utf-8")
        scope = next(line for line in history.splitlines() if '"f":"scope"' in line)
        assert ('"kept":true' in scope) == left
        assert any(path.is_file() and path.read_bytes() == b"{}" for path in root.rglob("*")) == left
        for path in sorted(root.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()


def test_a_backend_is_done_before_the_next_one(pytester: pytest.Pytester) -> None:
    """What is made once for a backend, its driver above all, is made once and not for every other test."""
    machines = str(suite_root() / "concurrency" / "test_state_machines.py")
    result = pytester.runpytest_inprocess(
        "--backend=memory", "--backend=file", "--collect-only", "-q", "-pno:hypothesispytest", machines
    )
    collected = [line.partition("[")[2].partition("-")[0] for line in result.outlines if "::" in line]
    assert len(collected) > 50
    assert list(dict.fromkeys(collected)) == ["memory", "file"]
    assert collected == sorted(collected, key=["memory", "file"].index)
