"""Clients that are processes: what their calls tell, what is done to them, and what they leave."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import nemeses
from lockproof.chaos.process import RecordedProcess, start_process
from lockproof.chaos.process_nursery import Nursery, ProcessGone
from lockproof.chaos.process_steps import Halt, drawn
from lockproof.driver import Capabilities, Driver, DriverError, Locked, LockInfo, Snapshot
from lockproof.driver.file import FileClient, FileDriver
from lockproof.driver.recorder import RecordedScope
from lockproof.fakes.saboteurs.process_locks import ProcessesDriver, ReleasesInExitHandler
from lockproof.history import HistoryWriter
from lockproof.history.faults import faults

SECRET = "dapi-very-secret"
PATIENCE = 30.0


class SecretDriver(FileDriver):
    """Is given a secret beside its directory."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({name: value for name, value in options.items() if name != "token"})


class RaisingClient(FileClient):
    def get(self, workspace: str) -> Snapshot | None:
        raise KeyError(workspace)


class RaisingDriver(ProcessesDriver):
    """Its reads raise what no driver may raise."""

    client_type = RaisingClient


def place_of(connect: Callable[[], Driver], timeout: float = PATIENCE) -> RecordedScope:
    return RecordedScope(connect().open_scope("place"), HistoryWriter({}), timeout, "place")


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[], Driver]:
    return partial(SecretDriver, {"path": str(tmp_path), "token": SECRET})


@pytest.fixture
def place(connect: Callable[[], Driver]) -> Iterator[RecordedScope]:
    with place_of(connect) as opened:
        yield opened


@pytest.fixture
def alice(connect: Callable[[], Driver], place: RecordedScope) -> RecordedProcess:
    return start_process(connect, place, "alice")


def outcome(place: RecordedScope) -> tuple[str, str, Mapping[str, Any]]:
    """Kind, call and error of the last outcome in the history."""
    last = [event for event in place.history.history().events if event.e in {"ok", "fail", "info"}][-1]
    return last.e, last.f, last.err or {}


def test_a_process_shares_the_scope_and_tells_refusals_whole(
    alice: RecordedProcess, place: RecordedScope
) -> None:
    """What it writes others read; a refusal over there is the same class with the same holder here."""
    bob, info = place.client("bob"), LockInfo.new("bob")
    bob.lock("default", info)
    with pytest.raises(Locked, match="held by bob") as refused:
        alice.lock("default", LockInfo.new("alice"))
    assert refused.value.holder == info
    alice.put("default", b"{}", lock_id=info.ID)
    assert bob.get("default") == alice.get("default") == Snapshot(b"{}")
    assert alice.workspaces() == ["default"]


def test_a_call_that_the_process_dies_in_is_unknown(alice: RecordedProcess, place: RecordedScope) -> None:
    """SIGKILL in a call: not definite, `info` in the history; calls after it are definitely not made."""
    alice.halt(Halt(step=3))
    with pytest.raises(DriverError, match="ended in the call") as failure:
        alice.put("default", b"{}")
    assert (failure.value.kind, failure.value.definite) == ("unavailable", False)
    assert outcome(place)[:2] == ("info", "put")
    with pytest.raises(DriverError, match="has ended") as failure:
        alice.get("default")
    assert failure.value.definite
    assert outcome(place)[0] == "fail"
    assert [fault.name for fault in faults(place.history.history().events)] == ["process.sigkill"]


def test_a_call_that_hangs_is_given_up(connect: Callable[[], Driver], tmp_path: Path) -> None:
    """A process that stands still in a call overruns the deadline: unknown, and closing kills it."""
    with place_of(connect, timeout=0.2) as place:
        alice = start_process(connect, place, "alice")
        alice.halt(Halt(SIGSTOP, step=0))
        with pytest.raises(DriverError, match="no reply within") as failure:
            alice.put("default", b"{}")
        assert (failure.value.kind, failure.value.definite) == ("timeout", False)
        alice.close()
        assert alice.process.ended


def test_what_a_driver_must_not_raise_is_its_defect(tmp_path: Path) -> None:
    """An error that is no `DriverError` comes back as the driver's defect."""
    connect = partial(RaisingDriver, {"path": str(tmp_path)})
    with place_of(connect) as place:
        with pytest.raises(DriverError, match="driver defect: it raised KeyError") as failure:
            start_process(connect, place, "alice").get("default")
        assert not failure.value.definite


def test_a_process_that_cannot_attach_says_so(connect: Callable[[], Driver]) -> None:
    """Without an open scope of that name there is no client, and no process."""
    nowhere = RecordedScope(connect().open_scope("place"), HistoryWriter({}), PATIENCE, "elsewhere")
    with nowhere, pytest.raises(DriverError, match="no open scope"):
        start_process(connect, nowhere, "alice")


def test_no_secret_is_on_a_command_line_or_in_an_environment(alice: RecordedProcess) -> None:
    """What a driver is made with can be read neither of the process nor of the one that forked it."""
    pid = alice.process.child.pid
    parent = next(
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "PPid" in line
    )
    for process in (str(pid), parent, str(os.getpid())):
        for name in ("cmdline", "environ"):
            assert SECRET not in Path(f"/proc/{process}/{name}").read_text(errors="replace")


def test_no_zombie_is_left(connect: Callable[[], Driver], place: RecordedScope) -> None:
    """However a process ends, nothing of it stays in the process table."""
    started = [start_process(connect, place, f"client-{number}") for number in range(3)]
    pids = [client.process.child.pid for client in started]
    started[0].kill()
    started[1].signal(SIGTERM)
    started[1].process.await_end()
    started[2].close()
    start_process(connect, place, "last")  # the nursery reaps before it forks again
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_a_stopped_process_ends_with_its_nursery() -> None:
    """When the process that wanted it is gone, so is one that stands still."""
    nursery = Nursery()
    child = nursery.fork(answer_forever)
    child.connection.recv()
    child.signal(SIGSTOP)
    child.await_stopped(PATIENCE)
    nursery.close()
    assert child.wait(PATIENCE)
    with pytest.raises(ProcessGone):
        child.signal(SIGKILL)
    child.close()


def test_a_nursery_that_was_killed_is_replaced() -> None:
    """A nursery that somebody killed costs one failure; the next process is forked by a new one."""
    nursery = Nursery()
    first = nursery.fork(answer_forever)
    parent = first.connection.recv()
    os.kill(parent, SIGKILL)
    with pytest.raises(ProcessGone):
        fork_until_refused(nursery)
    second = nursery.fork(answer_forever)
    assert second.connection.recv() != parent
    for child in (first, second):
        child.close()
    nursery.close()


def fork_until_refused(nursery: Nursery) -> None:
    """The signal that kills it may take a moment to arrive."""
    for _ in range(1000):
        nursery.fork(answer_forever).close()


def answer_forever(connection: Any) -> None:
    """Tells who forked it, and waits."""
    connection.send(os.getppid())
    connection.poll(None)


def test_a_process_is_halted_at_each_step(connect: Callable[[], Driver], place: RecordedScope) -> None:
    """The steps of a call are the same each time, and before each of them the process can be killed."""
    alice = start_process(connect, place, "alice")
    alice.put("default", b"{}")
    seen = []
    for _ in range(2):
        alice.process.watch()
        alice.put("default", b"{}")
        seen.append(list(alice.process.steps))
    assert seen[0] == seen[1]
    replaced = seen[0].index("posix.replace")
    for step, expected in ((replaced, b"{}"), (replaced + 1, b"[1]"), (len(seen[0]), b"[2]")):
        victim = start_process(connect, place, "victim")
        victim.put("default", b"{}")
        victim.halt(Halt(step=step))
        with pytest.raises(DriverError):
            victim.put("default", expected if step > replaced else b"[0]")
        assert place.client("reader").get("default") == Snapshot(expected)


def test_a_stopped_call_goes_on_when_it_is_continued(alice: RecordedProcess, place: RecordedScope) -> None:
    """A process that was stopped in the midst of a call ends it after SIGCONT, with its own outcome."""
    alice.halt(Halt(SIGSTOP, step=0))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(alice.put, "default", b"{}")
        alice.process.await_begun(PATIENCE)
        alice.process.await_paused(PATIENCE)
        assert not writing.done()
        assert place.client("bob").get("default") is None
        alice.resume()
        writing.result(PATIENCE)
    assert place.client("bob").get("default") == Snapshot(b"{}")


@pytest.mark.parametrize("number", [SIGKILL, SIGSTOP])
def test_a_timer_strikes_at_the_latest_when_the_call_is_done(alice: RecordedProcess, number: int) -> None:
    """A moment that the call does not last for still halts it: nothing is ever hit by chance only."""
    alice.halt(Halt(number, seconds=PATIENCE))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(alice.put, "default", b"{}")
        if number == SIGSTOP:
            alice.process.await_paused(PATIENCE)
            alice.resume()
            assert writing.exception(PATIENCE) is None
        else:
            assert isinstance(writing.exception(PATIENCE), DriverError)
            assert alice.process.ended


def test_places_are_drawn_with_both_ends() -> None:
    """The first and the last place are always among them, and all when there are no more."""
    names = [str(number) for number in range(30)]
    chosen = drawn(names, 5, random.Random(1))
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 30, 5)
    assert list(drawn(names[:3], 9, random.Random(1))) == [0, 1, 2, 3]


class Bed:
    """What an arena asks of a backend."""

    target, timeout, faults, allow_destructive = "local", PATIENCE, (), False

    def __init__(self, connect: Callable[[], Driver], *without: str) -> None:
        self.connect, self.driver = connect, connect()
        self.capabilities = Capabilities(self.driver.capabilities() - set(without))


@pytest.mark.parametrize("name", ["kill.kill", "kill.term", "kill.hup", "kill.int", "kill.stop"])
def test_a_nemesis_strikes_a_process_that_lives(
    connect: Callable[[], Driver], place: RecordedScope, alice: RecordedProcess, name: str
) -> None:
    """It ends, or stops and continues, the one process there is and counts it; with none it hits nothing."""
    rng = random.Random(1)
    with Arena(Bed(connect), place, place.history, rng) as arena:
        nemesis = nemeses()[name]()
        assert nemesis.missing(arena) == ""
        arena.inject(nemesis)
        assert nemesis.struck() == 1
        assert alice.process.ended == (name != "kill.stop")
        arena.heal()
        if name == "kill.stop":
            assert alice.get("default") is None
            alice.kill()
        again = nemeses()[name]()
        arena.inject(again)
        assert again.struck() == 0


def test_a_nemesis_needs_clients_that_are_processes(
    connect: Callable[[], Driver], place: RecordedScope
) -> None:
    """Without the capability it cannot be injected, and says why."""
    backend: Any = Bed(connect, "clients.process")
    with Arena(backend, place, place.history, random.Random(1)) as arena:
        assert "clients.process" in nemeses()["kill.kill"]().missing(arena)


@pytest.mark.parametrize("number", [SIGTERM, SIGHUP, SIGINT])
def test_a_process_that_is_asked_to_end_runs_its_exit_handlers(tmp_path: Path, number: int) -> None:
    """SIGTERM, SIGHUP and SIGINT let it unwind: a lock that an exit handler releases is seen to go."""
    connect = partial(ReleasesInExitHandler, {"path": str(tmp_path)})
    with place_of(connect) as place:
        alice = start_process(connect, place, "alice")
        alice.lock("default", LockInfo.new("alice"))
        alice.process.signal(number)
        alice.process.await_end(PATIENCE)
        assert place.client("bob").lock("default", LockInfo.new("bob"))
