"""What it costs to write a history: calls with and without the recorder, lines with and without meaning."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from lockproof.bench.benchmark import Benchmark, Case, Lane, latency
from lockproof.driver import Client, LockInfo
from lockproof.driver.file import FileDriver
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedClient
from lockproof.history import HistoryWriter

DEADLINE_S = 30
BURST = 100  # lines of one measured call, so that the clock's own cost does not count


def recording(sizes: Sequence[int]) -> Iterator[Case]:
    """A line of the file; then a session of four calls by each of two drivers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield line(stack, folder)
        memory = MemoryDriver({}).open_scope("benchmark")
        options = stack.enter_context(FileDriver.provision({}))
        files = stack.enter_context(FileDriver(options).open_scope("benchmark"))
        for size in sizes:
            data = b'{"version":4}' + b" " * (size - 13)
            for name, scope in (("memory", memory), ("file", files)):
                bare = scope.client("bare")
                history = HistoryWriter({}, folder / f"{name}-{size}.jsonl")
                stack.callback(history.close)
                recorded = RecordedClient(scope.client("recorded"), "recorded", history, DEADLINE_S)
                stack.callback(recorded.close)
                yield Case(
                    f"lock, put, get, unlock: {name} driver, {size:,} bytes",
                    Lane("recorded", latency(session(recorded, "recorded", data))),
                    [Lane("not recorded", latency(session(bare, "bare", data)))],
                )


def session(client: Client, workspace: str, data: bytes) -> Callable[[], object]:
    """What one apply does, in a workspace of its own."""

    def calls() -> None:
        lock_id = client.lock(workspace, LockInfo.new("bench"))
        client.put(workspace, data, lock_id=lock_id)
        client.get(workspace)
        client.unlock(workspace, lock_id)

    return calls


def line(stack: ExitStack, folder: Path) -> Case:
    """One event, numbered and timed under a mutex, kept and flushed; beside one that is only flushed."""
    history = HistoryWriter({}, folder / "events.jsonl")
    stack.callback(history.close)
    file = stack.enter_context((folder / "plain.jsonl").open("w", encoding="utf-8"))
    given = {"info": LockInfo.new("bench").to_json()}

    def events() -> None:
        for _ in range(BURST):
            history.append(0, "invoke", "lock", ws="default", given=given)

    def lines() -> None:
        for i in range(BURST):
            record = {"i": i, "t": time.monotonic_ns(), "p": 0, "e": "invoke", "f": "lock", "ws": "default"}
            file.write(json.dumps({**record, "in": given}) + "\n")
            file.flush()

    each = 1000 / BURST
    return Case(
        "one event",
        Lane("HistoryWriter", latency(events, each)),
        [Lane("json.dumps, write, flush", latency(lines, each))],
    )


RECORDING = Benchmark(
    "recording",
    "What writing the history adds to a client's calls.",
    "a recorded client: a thread of its own, two events a call, flushed to a file",
    "the same client without a recorder; a line of JSON without meaning",
    "ms",
    recording,
    varied="bytes of a state",
    sizes=(1_000, 100_000),
    quick=(1_000,),
)
