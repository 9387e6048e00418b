"""`lockproof bench`: lanes are measured by turns, statistics are right, what is missing or broken is told."""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lockproof.bench import (
    INTERRUPTED,
    AtLeast,
    BadRecord,
    Benchmark,
    Broken,
    Case,
    Effort,
    Lane,
    Need,
    Record,
    Row,
    Unavailable,
    compare,
    read_record,
    run_bench,
)
from lockproof.bench.benchmark import checkout, latency, package, program, rate
from lockproof.bench.measure import run
from lockproof.bench.ratio import Aim, coverage, interval
from lockproof.bench.show import markdown
from lockproof.bench.subjects import BENCHMARKS
from lockproof.cli import main

Cases = Callable[[Sequence[int]], Iterator[Case]]
Command = Callable[..., tuple[int, str, str]]
EFFORT = Effort(rounds=6, seconds=0.0)


def benchmark(cases: Cases, name: str = "tiny", **more: object) -> Benchmark:
    """A benchmark of the test's own."""
    return Benchmark(name, "What it shows.", "subject", "peer", "ms", cases, **more)  # type: ignore[arg-type]


def constant(ours: float, *theirs: float, aim: Aim | None = None) -> Cases:
    """One case of lanes that always measure the same."""

    def cases(sizes: Sequence[int]) -> Iterator[Case]:
        peers = [Lane(f"peer {n}", lambda _, value=value: value, aim) for n, value in enumerate(theirs)]  # type: ignore[misc]
        yield Case("case", Lane("subject", lambda _: ours), peers)

    return cases


def raising(error: BaseException) -> Cases:
    """A benchmark that gets no further than its first case."""

    def broken() -> Case:
        raise error

    return lambda sizes: (broken() for _ in range(1))


def measured(*benchmarks: Benchmark) -> Record:
    """A run of them, quick and unseen."""
    return run_bench(benchmarks, EFFORT, lambda *_: None, lambda _: None)


def row(ours: Sequence[float], theirs: Sequence[float], **more: object) -> Row:
    """A row with these samples."""
    named = {"benchmark": "b", "case": "c", "subject": "s", "peer": "p", "unit": "ms", "better": "lower"}
    return Row(**{**named, "ours": ours, "theirs": theirs, **more})  # type: ignore[arg-type]


def with_rows(record: Record, *rows: Row) -> Record:
    return Record(**{**vars(record), "rows": list(rows)})


@pytest.fixture
def lockproof(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process with two tiny benchmarks: exit code, output, error output."""
    tiny = benchmark(constant(6, 3, aim=Aim("ratio", under=3)))
    lacking = benchmark(constant(1, 1), "lacking", needs=[Need(lambda: "no program frobnicate: get one")])
    monkeypatch.setattr("lockproof.bench.subjects.BENCHMARKS", (tiny, lacking))
    monkeypatch.setattr("lockproof.bench.QUICK", EFFORT)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lockproof", "bench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_interval_of_known_samples() -> None:
    """Ranks and confidence of the interval of a median are those of the tables of order statistics."""
    found = interval([float(n) for n in range(15, 0, -1)])
    assert (found.low, found.median, found.high, found.n) == (4, 8, 12, 15)
    assert found.confidence == pytest.approx(0.96484375)
    assert (interval(range(1, 21)).low, interval(range(1, 21)).high) == (6, 15)
    assert coverage(20, 6) == pytest.approx(0.9586, abs=1e-4)


def test_interval_of_few_samples_says_how_little_it_is() -> None:
    """Below six samples no interval has 95 %: the whole range is given, with the confidence that it has."""
    five = interval([3, 1, 2, 5, 4])
    assert (five.low, five.high) == (1, 5)
    assert five.confidence == pytest.approx(0.9375)
    one = interval([7])
    assert (one.low, one.median, one.high, one.confidence) == (7, 7, 7, 0)
    with pytest.raises(ValueError, match="no samples"):
        interval([])


def test_interval_encloses_the_true_median_as_often_as_it_says() -> None:
    """Of 2,000 sets of skewed samples at least 95 % of the intervals hold the median of their source."""
    source = random.Random(7)
    true = statistics.NormalDist().inv_cdf(0.5)
    held = 0
    for _ in range(2000):
        found = interval([source.lognormvariate(0, 1) for _ in range(15)])
        held += found.low <= 2.718281828**true <= found.high
    assert 0.945 <= held / 2000 <= 0.985


def test_aims_are_judged_by_the_whole_interval() -> None:
    """Met and missed need the interval on one side; one that straddles the aim is undecided."""
    below, around, above = ([n - 0.1, n, n + 0.1] for n in (1.0, 2.0, 3.0))
    aim = Aim("ratio", under=2)
    assert [aim.judge(interval(found)) for found in (below, around, above)] == ["met", "undecided", "MISSED"]
    assert aim.judge(interval([1.8, 1.9, 2.3])) == "undecided"  # the median alone would say met
    assert Aim("ratio", at_least=2).judge(interval([1.8, 2.3, 2.4])) == "undecided"
    least = Aim("subject", at_least=2)
    assert [least.judge(interval(found)) for found in (below, around, above)] == [
        "MISSED",
        "undecided",
        "met",
    ]


def test_aims_look_at_what_they_are_about() -> None:
    """One and the same row meets an aim of its ratio, misses one of what is added and one of the subject."""
    samples = {"ours": [30.0] * 6, "theirs": [20.0] * 6}
    assert row(**samples, aim=Aim("ratio", under=2)).met == "met"
    assert row(**samples, aim=Aim("added", under=2)).met == "MISSED"
    assert row(**samples, aim=Aim("added", under=11)).met == "met"
    assert row(**samples, aim=Aim("subject", under=11)).met == "MISSED"
    assert row(**samples).met is None


def test_lanes_are_measured_by_turns() -> None:
    """After a warm-up each round samples subject and peers once, in one order; the warm-up does not count."""
    asked: list[str] = []

    def lane(name: str) -> Lane:
        def sample(_: float) -> float:
            asked.append(name)
            return float(len(asked))

        return Lane(name, sample)

    def cases(_: Sequence[int]) -> Iterator[Case]:
        yield Case("case", lane("A"), [lane("B"), lane("C")])

    found = run([benchmark(cases)], Effort(3, 0.0), lambda _: None)
    assert asked == ["A", "B", "C"] * 4
    assert [(row.peer, row.ours, row.theirs) for row in found.rows] == [
        ("B", [4, 7, 10], [5, 8, 11]),
        ("C", [4, 7, 10], [6, 9, 12]),
    ]


def test_ratio_pairs_the_samples_of_a_round() -> None:
    """Noise that hits both sides of a round leaves the ratio alone; medians of each side would not."""
    noise = [1.0, 9.0, 2.0, 50.0, 3.0, 1.0, 700.0]
    found = row([2 * n for n in noise], noise).ratio
    assert (found.low, found.median, found.high) == (2, 2, 2)


def test_lane_that_was_stopped_is_a_bound_and_not_asked_again() -> None:
    """A peer stopped at its limit is asked once; its row says that the ratio is at most that."""
    asked: list[float] = []

    def stopped(_: float) -> float:
        asked.append(0)
        return AtLeast(500)

    def cases(_: Sequence[int]) -> Iterator[Case]:
        yield Case(
            "case", Lane("subject", lambda _: 5.0), [Lane("slow", stopped), Lane("other", lambda _: 5.0)]
        )

    slow, other = run([benchmark(cases)], EFFORT, lambda _: None).rows
    assert len(asked) == 1
    assert (slow.bound, slow.ratio.median, other.bound) == ("≤", 0.01, "")


def test_sizes_are_those_of_the_effort() -> None:
    """A quick run measures the quick sizes, a full one all."""

    def cases(sizes: Sequence[int]) -> Iterator[Case]:
        for size in sizes:
            yield Case(f"{size}", Lane("subject", lambda _: 1.0), [Lane("peer", lambda _: 1.0)])

    sized = benchmark(cases, varied="bytes", sizes=(1, 2, 3), quick=(1,))
    assert [row.case for row in run([sized], Effort(1, 0.0), lambda _: None).rows] == ["1", "2", "3"]
    assert [row.case for row in run([sized], Effort(1, 0.0, quick=True), lambda _: None).rows] == ["1"]


def test_what_cannot_run_is_skipped_and_what_breaks_is_told() -> None:
    """Neither ends the run: each has its reason, in one line without secrets, and the others are measured."""

    def wrong(_: Sequence[int]) -> Iterator[Case]:
        yield Case("case", Lane("subject", lambda _: 1.0), [Lane("peer", lambda _: 1 / 0)])

    lacking = benchmark(constant(1, 1), "lacking", needs=[Need(lambda: "no A"), Need(lambda: None)])
    record = measured(
        lacking,
        benchmark(raising(Unavailable("no server can be had")), "absent"),
        benchmark(wrong, "wrong"),
        benchmark(raising(Broken("postgresql://me:hunter2@host/db\nanswered wrongly")), "refused"),
        benchmark(constant(2, 1)),
    )
    assert record.skipped == {"lacking": "no A", "absent": "no server can be had"}
    assert record.failed["wrong"].startswith("ZeroDivisionError")
    assert "hunter2" not in record.failed["refused"]
    assert "\n" not in record.failed["refused"]
    assert [found.benchmark for found in record.rows] == ["tiny"]


def test_interrupt_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lockproof: Command
) -> None:
    """The record is written with the rows so far; what is left says so; exit code 130."""
    stopped = benchmark(raising(KeyboardInterrupt()), "stopped")
    after = benchmark(constant(1, 1), "after")
    monkeypatch.setattr("lockproof.bench.subjects.BENCHMARKS", (benchmark(constant(6, 3)), stopped, after))
    code, _, _ = lockproof("--quick", "--json", str(tmp_path / "run.json"))
    record = read_record(tmp_path / "run.json")
    assert code == 130
    assert [found.benchmark for found in record.rows] == ["tiny"]
    assert record.skipped == {"stopped": INTERRUPTED, "after": INTERRUPTED}


def test_servers_of_a_benchmark_end_with_it() -> None:
    """A benchmark that breaks in the middle lets go what it holds open, before the next one begins."""
    events: list[str] = []

    def cases(_: Sequence[int]) -> Iterator[Case]:
        try:
            yield Case("case", Lane("subject", lambda _: 0.0), [Lane("peer", lambda _: 1.0)])
        finally:
            events.append("stopped")

    def after(_: Sequence[int]) -> Iterator[Case]:
        events.append("next")
        yield from constant(1, 1)(())

    record = measured(benchmark(cases, "breaks"), benchmark(after))
    assert events == ["stopped", "next"]
    assert record.failed == {"breaks": "case: subject measured 0 ms"}


def test_needs_say_what_to_install() -> None:
    """A missing package, program or part of the checkout is named, with what to do; what is there is not."""
    needs = {
        "package": (package("no_such_module", "lockproof[bench]"), package("json", "x")),
        "program": (program("no-such-program", "install it"), program("anything", "x", lambda _: "/bin/it")),
        "checkout": (checkout("benchmarks/nothing"), checkout("")),
    }
    for lacking, there in needs.values():
        assert lacking.missing()
        assert there.missing() is None
    assert needs["package"][0].missing() == 'no Python package no_such_module: pip install "lockproof[bench]"'
    assert needs["program"][0].missing() == "no program no-such-program: install it"


def test_samplers_count_their_calls() -> None:
    """A sample is made of at least three calls, and a rate counts what each call did."""
    calls: list[int] = []
    latency(lambda: calls.append(1))(0.0)
    assert len(calls) == 3
    one, hundred = rate(lambda: calls.append(1))(0.01), rate(lambda: calls.append(1), 1e9)(0.01)
    assert hundred > one > 0


def test_every_benchmark_says_what_it_is() -> None:
    """Names are unique, a sentence, a peer and a unit are told, quick sizes are fewer or smaller."""
    assert len({one.name for one in BENCHMARKS}) == len(BENCHMARKS) >= 10
    for one in BENCHMARKS:
        assert one.sentence.endswith("."), one.name
        assert one.subject, one.name
        assert one.peer, one.name
        assert one.unit, one.name
        assert bool(one.varied) == bool(one.sizes) == bool(one.quick), one.name
        assert sum(one.quick) <= sum(one.sizes), one.name


def test_record_comes_back_from_its_file(tmp_path: Path) -> None:
    """Everything measured survives the file: samples, reasons, machine, unrest."""
    record = measured(
        benchmark(constant(6, 3, 2, aim=Aim("ratio", under=3))), benchmark(constant(0, 1), "zero")
    )
    record.write(tmp_path / "run.json")
    again = read_record(tmp_path / "run.json")
    assert again.to_json() == record.to_json()
    assert [found.ratio for found in again.rows] == [found.ratio for found in record.rows]
    assert len(again.before.load) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop("format"), "not written by `lockproof bench --json`"),
        (lambda found: found.pop("rows"), "'rows' is missing"),
        (lambda found: found["rows"][0]["samples"]["peer"].pop(), "not the same number of samples"),
        (lambda found: found["rows"][0]["samples"].update(peer=[0] * 6), "not a number above 0"),
        (lambda found: found["rows"][0]["samples"].update(peer="1"), "not a list of numbers"),
        (lambda found: found["rows"][0].update(better="more"), "neither lower nor higher"),
        (lambda found: found["rows"][0].update(case=3), "a name is not text"),
        (lambda found: found.update(machine={"cpu": "x"}), "missing 3 required"),
        (lambda found: found.update(skipped=["a"]), "broken record"),
    ],
)
def test_broken_record_is_refused(tmp_path: Path, change: Callable[[dict], object], said: str) -> None:  # type: ignore[type-arg]
    """A record with a part missing, of the wrong kind or without sense is refused in one line."""
    path = tmp_path / "run.json"
    found = measured(benchmark(constant(6, 3))).to_json()
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(BadRecord, match=said) as refused:
        read_record(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_comparison_is_of_ratios() -> None:
    """A machine twice as slow moves no ratio; a subject alone that is slower does."""
    record = measured()
    before = with_rows(record, row([2.0, 2.1, 2.2, 2.0, 2.1, 2.2], [1.0] * 6))
    slower_machine = with_rows(record, row([4.0, 4.2, 4.4, 4.0, 4.2, 4.4], [2.0] * 6))
    assert [change.moved for change in compare(before, slower_machine).changes] == ["same"]
    slower = with_rows(record, row([4.0, 4.2, 4.4, 4.0, 4.2, 4.4], [1.0] * 6))
    found = compare(before, slower)
    assert [change.moved for change in found.changes] == ["worse"]
    assert found.changes[0].factor == pytest.approx(2)
    assert [change.moved for change in compare(slower, before).changes] == ["better"]


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0, 3.0], "same"),  # overlaps in one sample: within the spread
        ([1.11, 1.12, 1.13, 1.14, 1.15, 1.16], "moved"),  # beyond both spreads, but less than 20 %
        ([1.25, 1.26, 1.27, 1.28, 1.29, 1.3], "worse"),
        ([1.05, 1.4, 1.5, 1.6, 1.7, 1.8], "same"),  # far worse in the middle, yet the intervals meet
        ([0.5, 0.6, 0.6, 0.6, 0.6, 0.7], "better"),
    ],
)
def test_rule_needs_intervals_apart_and_a_fifth(now: list[float], moved: str) -> None:
    """Clearly worse is what lies beyond both spreads and is worse by at least 20 %; nothing less."""
    record = measured()
    earlier = with_rows(record, row([0.9, 0.95, 1.0, 1.0, 1.05, 1.1], [1.0] * 6))
    assert [c.moved for c in compare(earlier, with_rows(record, row(now, [1.0] * 6))).changes] == [moved]


def test_rule_knows_which_end_is_good() -> None:
    """Where higher is better, a lower ratio is the worse one."""
    record = measured()
    high, low = (
        with_rows(record, row([value] * 6, [1.0] * 6, better="higher", unit="MB/s")) for value in (4.0, 2.0)
    )
    assert [change.moved for change in compare(high, low).changes] == ["worse"]
    assert [change.moved for change in compare(low, high).changes] == ["better"]


def test_bounds_and_other_units_are_not_compared() -> None:
    """A ratio that is only a bound in one of the runs, or of another unit, says nothing about the other."""
    record = measured()
    plain = with_rows(record, row([9.0] * 6, [1.0] * 6))
    for other in (row([1.0] * 6, [1.0] * 6, stopped=["p"]), row([1.0] * 6, [1.0] * 6, unit="MB")):
        assert [c.moved for c in compare(with_rows(record, other), plain).changes] == ["not comparable"]


def test_comparison_names_what_is_in_one_run_only() -> None:
    """New rows and those that are gone are named, and so is a peer of another version or another machine."""
    record = measured()
    old, new = row([1.0], [1.0], case="old"), row([1.0], [1.0], case="new")
    unasked = row([1.0], [1.0], benchmark="not run now")
    before = Record(**{**vars(with_rows(record, old, unasked)), "versions": {"moto": "5.0", "go": "1"}})
    after = Record(**{**vars(with_rows(record, new)), "versions": {"moto": "5.1"}})
    found = compare(before, after)
    assert (found.changes, found.new, found.gone) == ([], [new], [old])
    assert found.conditions == ["moto: 5.0, now 5.1"]


def test_command_measures_writes_and_compares(tmp_path: Path, lockproof: Command) -> None:
    """Table, load, reason of a skip; the JSON is a record, and against itself nothing moved."""
    file = tmp_path / "run.json"
    code, out, err = lockproof("--quick", "--json", str(file))
    assert (code, err) == (0, "")
    assert "subject 6.00 ms beside peer 0 3.00 ms: 2.00x (2.00 to 2.00; lower is better), n 6" in out
    assert "under 3x: met" in out
    assert "skipped lacking: no program frobnicate: get one" in out
    assert out.count("load ") == 2
    assert read_record(file).rows[0].ratio.median == 2
    code, out, _ = lockproof("tiny", "--quick", "--against", str(file))
    assert code == 0
    assert "1 of 1 did not move" in out
    assert "0 clearly worse" in out


def test_command_ends_with_1_when_a_ratio_is_clearly_worse(tmp_path: Path, lockproof: Command) -> None:
    """What was 1.0x and is 2.0x is named with both, and is exit code 1."""
    better = with_rows(
        measured(), row([3.0] * 6, [3.0] * 6, benchmark="tiny", case="case", subject="subject", peer="peer 0")
    )
    better.write(tmp_path / "earlier.json")
    code, out, _ = lockproof("--quick", "--against", str(tmp_path / "earlier.json"))
    assert code == 1
    assert "WORSE: tiny, case, subject beside peer 0: 1.00x (1.00 to 1.00; lower is better), now 2.00x" in out


def test_command_tells_a_benchmark_that_broke(monkeypatch: pytest.MonkeyPatch, lockproof: Command) -> None:
    """Exit code 3, with the reason; never a pass for what was not measured."""
    monkeypatch.setattr("lockproof.bench.subjects.BENCHMARKS", (benchmark(constant(0, 1)),))
    code, out, _ = lockproof("--quick")
    assert code == 3
    assert "FAILED tiny: case: subject measured 0 ms" in out


def test_markdown_is_made_of_a_record_without_measuring(tmp_path: Path, lockproof: Command) -> None:
    """`--from FILE --markdown` prints the table of a README, with the load, as the record says."""
    record = measured(benchmark(constant(6, 3, aim=Aim("ratio", under=3))))
    record.write(tmp_path / "run.json")
    code, out, _ = lockproof("--from", str(tmp_path / "run.json"), "--markdown")
    assert code == 0
    assert out == markdown(record) + "\n"
    assert "| tiny | case | subject: 6.00 ms | peer 0: 3.00 ms | 2.00x (2.00–2.00) | under 3x: met |" in out  # noqa: RUF001
    assert "Before: load " in out


def test_list_says_what_would_be_skipped(lockproof: Command) -> None:
    """Each benchmark with its sentence, and what this machine lacks for it."""
    code, out, _ = lockproof("--list")
    assert code == 0
    assert "tiny: What it shows." in out
    assert "would be skipped: no program frobnicate: get one" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "no benchmark 'nothing' (there are: tiny, lacking)"),
        (["--against", "missing.json"], "missing.json: No such file or directory"),
        (["--against", "broken.json"], "broken.json: not JSON"),
        (["--against", "other.json"], "not written by `lockproof bench --json`"),
        (["--json", "no/folder.json"], "there is no folder no"),
        (["--from", "other.json", "--quick"], "--from measures nothing"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lockproof: Command
) -> None:
    """Exit code 4 before anything is measured, and one line that names what is wrong."""
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text('{"format": ')
    Path("other.json").write_text("{}")
    code, out, err = lockproof(*words)
    assert (code, out) == (4, "")
    assert said in err
    assert len(err.splitlines()) == 1
