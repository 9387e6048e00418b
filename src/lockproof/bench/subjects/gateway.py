"""What the gateway adds to a call of the backend, beside S3 and plain HTTP, and the memory that it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import requests

from lockproof.bench.benchmark import Benchmark, Broken, Case, Lane, latency, size_name
from lockproof.bench.ratio import Aim
from lockproof.bench.servers import served
from lockproof.bench.subjects.files import MOTO, SIGNED, asked, session
from lockproof.driver.databricks import DatabricksDriver
from tofu_databricks.backend import Backend

SECRET = "of-a-benchmark-on-loopback"
HEADER = b'{"version":4,"serial":1,"lineage":"00000000-0000-0000-0000-000000000000"}'
ADDED = Aim("added", under=3)
LOCK = {"ID": "bench", "Who": "benchmark"}


def beside(sizes: Sequence[int]) -> Iterator[Case]:
    """GET and PUT of a state, each under the lock, by one client with keep-alive."""
    with ExitStack() as stack:
        provided = stack.enter_context(DatabricksDriver.provision({}))
        scope = stack.enter_context(DatabricksDriver(provided).open_scope("lp-benchmark"))
        direct = stack.enter_context(Backend(scope.config())).client()
        environment = dict(scope.command_line("default").environment)
        url = stack.enter_context(served("gateway", environment=environment, secret=SECRET))["url"]
        moto_at, plain_at = (stack.enter_context(served(name))["url"] for name in ("moto", "plain"))
        http, moto, plain = session(stack), session(stack, Authorization=SIGNED), session(stack)
        http.auth = ("tofu", SECRET)
        moto.put(f"{moto_at}/bucket", timeout=60).raise_for_status()
        right(http.request("LOCK", url, json=LOCK, timeout=60))
        for size in sizes:
            data = HEADER + b" " * (size - len(HEADER))
            put = f"{url}?ID={LOCK['ID']}"
            yield Case(
                f"PUT {size_name(size)}",
                Lane("gateway", latency(asked(http, "POST", put, data=data))),
                [
                    Lane("the backend itself", latency(putting(direct.put, data)), ADDED),
                    Lane("moto's S3", latency(asked(moto, "PUT", f"{moto_at}/bucket/f", data=data))),
                    Lane("plain HTTP", latency(asked(plain, "POST", f"{plain_at}/f", data=data))),
                ],
            )
            yield Case(
                f"GET {size_name(size)}",
                Lane("gateway", latency(asked(http, "GET", url, size))),
                [
                    Lane("the backend itself", latency(direct.get), ADDED),
                    Lane("moto's S3", latency(asked(moto, "GET", f"{moto_at}/bucket/f", size))),
                    Lane("plain HTTP", latency(asked(plain, "GET", f"{plain_at}/f", size))),
                ],
            )
        right(http.request("UNLOCK", url, json=LOCK, timeout=60))


def putting(put: Callable[..., object], data: bytes) -> Callable[[], object]:
    """A write under the lock that the gateway's client holds."""
    return lambda: put(data, lock_id=LOCK["ID"])


def right(reply: requests.Response) -> None:
    """Raises `Broken` unless the gateway answered 200."""
    if reply.status_code != 200:
        raise Broken(f"the gateway answered {reply.status_code} to {reply.request.method}")


def memory(sizes: Sequence[int]) -> Iterator[Case]:
    """A new gateway for each sample takes a state and gives it back: how large its process was at most."""
    with ExitStack() as stack:
        provided = stack.enter_context(DatabricksDriver.provision({}))
        scope = stack.enter_context(DatabricksDriver(provided).open_scope("lp-benchmark-memory"))
        environment = dict(scope.command_line("default").environment)
        for size in sizes:
            body = os.urandom(size)

            def peak(_: float, body: bytes = body) -> float:
                return peak_of(environment, body)

            def state(_: float, size: int = size) -> float:
                return size / 1_000_000

            yield Case(
                f"state of {size_name(size)}",
                Lane("gateway's process", peak),
                [Lane("the state itself", state, Aim("ratio", under=3))],
                "MB",
            )


def peak_of(environment: dict[str, str], body: bytes) -> float:
    """The peak resident size in MB of a new gateway that took `body` and gave it back."""
    with served("gateway", environment=environment, secret=SECRET) as facts, ExitStack() as stack:
        http = session(stack)
        http.auth = ("tofu", SECRET)
        right(http.post(facts["url"], data=body, timeout=120))
        if http.get(facts["url"], timeout=120).content != body:
            raise Broken("the state came back changed")
        return resident(facts["pid"])


def resident(pid: int) -> float:
    """VmHWM of /proc/PID/status in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1_000_000
    raise Broken(f"no peak size of process {pid}")


GATEWAY = Benchmark(
    "gateway",
    "A state read and written through the gateway, under its lock.",
    "gateway in a process of its own",
    "the backend itself; moto's S3; plain HTTP (uvicorn, a dictionary)",
    "ms",
    beside,
    MOTO,
    "bytes of a state",
    (20_000, 1_000_000),
    (20_000,),
    ("moto", "requests", "uvicorn"),
)
GATEWAY_MEMORY = Benchmark(
    "gateway-memory",
    "How much memory the gateway needs to take a state and give it back.",
    "gateway in a process of its own, at its peak",
    "the size of the state",
    "MB",
    memory,
    (),
    "bytes of a state",
    (100_000_000,),
    (100_000_000,),
)
