"""What master and workers tell each other, as messages of locust's own runners."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from gevent.queue import Empty, Queue  # type: ignore[import-untyped]

from lockproof.history.align import align
from lockproof.history.writer import boot
from lockproof.load.clocks import Exchange, Offset, estimate
from lockproof.load.plan import Plan

HELLO = "lockproof.hello"
HISTORY = "lockproof.history"
READY = "lockproof.ready"
DONE = "lockproof.done"
ROUNDS = 12
PATIENCE = 1.0
PIECE = 1 << 18


class Collector:
    """The master's side: answers what time it is, with the plan, and writes down the histories it is sent."""

    def __init__(self, runner: Any, plan: Plan) -> None:
        self._runner = runner
        self._plan = plan
        self._said: dict[str, set[str]] = {READY: set(), DONE: set()}
        self._unpacking: dict[str, Any] = {}
        for name, listener in ((HELLO, self._hello), (HISTORY, self._history)):
            self._runner.register_message(name, listener)
        for name in self._said:
            self._runner.register_message(name, self._says)

    def wait(self, what: str, workers: set[str], seconds: float) -> set[str]:
        """Those of `workers` that have not said `READY` or `DONE` within so many seconds."""
        deadline = time.monotonic() + seconds
        while not workers <= self._said[what] and time.monotonic() < deadline:
            gevent.sleep(0.05)
        return workers - self._said[what]

    def _hello(self, msg: Any, **_: Any) -> None:
        answer = {"now": time.monotonic_ns(), "sent": msg.data["sent"], **boot(), "plan": self._plan.shared()}
        self._runner.send_message(HELLO, answer, client_id=msg.node_id)

    def _history(self, msg: Any, **_: Any) -> None:
        worker = msg.node_id
        path = self._plan.histories / f"process-{self._runner.get_worker_index(worker) + 1}.jsonl"
        unpacking = self._unpacking.setdefault(worker, zlib.decompressobj())
        with path.open("ab") as file:
            file.write(unpacking.decompress(msg.data))

    def _says(self, msg: Any, **_: Any) -> None:
        self._said[msg.type].add(msg.node_id)


class Correspondent:
    """The side of a worker on a machine of its own: measures the clocks, and sends its history at the end."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._answers: Queue[tuple[Mapping[str, Any], int]] = Queue()
        self._boot: Mapping[str, str] = {}
        self._first = Offset()
        self._runner.register_message(HELLO, self._answered)

    def hello(self) -> Mapping[str, Any]:
        """The plan of the run. Raises `TimeoutError` when the master does not answer."""
        self._first, answer = self._compare()
        self._boot = {name: answer[name] for name in ("boot",) if name in answer}
        plan: Mapping[str, Any] = answer["plan"]
        return plan

    def deliver(self, path: Path) -> None:
        """Sends the history, on the master's clock."""
        try:
            offset = self._first.spanning(self._compare()[0])
        except TimeoutError:  # the first measurement is all there is: then files do not fit together
            return
        if boot() != self._boot or abs(offset.ns) > offset.error:  # else it is one machine's one clock
            align(path, self._boot, offset.ns, offset.error)
        packing = zlib.compressobj()
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                self._send(packing.compress(piece))
        self._send(packing.flush())

    def _send(self, data: bytes) -> None:
        if data:
            self._runner.send_message(HISTORY, data)
            gevent.sleep(0)

    def _compare(self) -> tuple[Offset, Mapping[str, Any]]:
        exchanges: list[Exchange] = []
        answer: Mapping[str, Any] = {}
        for _ in range(ROUNDS):
            self._runner.send_message(HELLO, {"sent": time.monotonic_ns()})
            try:
                answer, received = self._answers.get(timeout=PATIENCE)
            except Empty:
                if exchanges:
                    break
                continue
            exchanges.append((answer["sent"], answer["now"], received))
        if not exchanges:
            raise TimeoutError("the master does not answer")
        return estimate(exchanges), answer

    def _answered(self, msg: Any, **_: Any) -> None:
        self._answers.put((msg.data, time.monotonic_ns()))
