"""What the gateway adds to a backend call, and the memory that it needs for a large state.

    python benchmarks/gateway_overhead.py [--json FILE]

Overhead: the reference backend on the fake workspace, read and written directly and through the
gateway by turns, in one run; the difference of the medians. Memory: a gateway in a process of its own
takes and gives back a state of 100 MB; its peak resident size, and that above its size when idle.
Targets: overhead p50 under 3 ms; peak under 3 times the state.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import requests

from lockproof.driver.databricks import DatabricksDriver
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.gateway import Access, Gateway, GatewayApp

SECRET = "of-a-benchmark-on-loopback"
SMALL = b'{"version":4,"serial":1,"lineage":"00000000-0000-0000-0000-000000000000"}' + b" " * 20_000
LARGE_MB = 100
SERVE = """
import logging, os, sys
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.gateway import Access, Gateway, GatewayApp
with Backend(Config.load()) as backend, Gateway(GatewayApp(backend, Access(sys.argv[1]))) as gateway:
    print(gateway.state_url("default"), flush=True)
    sys.stdin.read()
"""


def timed(call: Callable[[], object]) -> float:
    """Milliseconds that `call` takes."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def by_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The times of each call, one of each per round, so that the machine's noise meets all alike."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(timed(call))
    return found


def overhead(config: Config, rounds: int) -> dict[str, list[float]]:
    """GET and PUT of a 20 kB state, directly and through a gateway in this process."""
    with Backend(config) as direct, Backend(config) as behind, requests.Session() as session:
        session.trust_env = False
        session.auth = ("tofu", SECRET)
        client = direct.client()
        with Gateway(GatewayApp(behind, Access(SECRET))) as gateway:
            url = gateway.state_url("default")

            def check(reply: requests.Response) -> None:
                if reply.status_code != 200:
                    raise SystemExit(f"the gateway answered {reply.status_code}: {reply.text}")

            client.put(SMALL)
            info_id = "bench"
            check(session.request("LOCK", url, json={"ID": info_id, "Who": "benchmark"}))
            found = by_turns(
                {
                    "GET direct": client.get,
                    "GET gateway": lambda: check(session.get(url)),
                    "PUT direct": lambda: client.put(SMALL, lock_id=info_id),
                    "PUT gateway": lambda: check(session.post(f"{url}?ID={info_id}", data=SMALL)),
                },
                rounds,
            )
            check(session.request("UNLOCK", url, json={"ID": info_id, "Who": "benchmark"}))
            return found


def memory(environment: dict[str, str]) -> dict[str, float]:
    """Resident size in MB of a gateway's own process: idle, and its peak after a large PUT and GET."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, SECRET],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        with requests.Session() as session:
            session.trust_env = False
            session.auth = ("tofu", SECRET)
            session.get(url)
            idle = resident(process.pid, "VmRSS")
            body = os.urandom(LARGE_MB << 20)
            put = timed(lambda: session.post(url, data=body).raise_for_status())
            after_put = resident(process.pid, "VmHWM")
            start = time.perf_counter()
            read = session.get(url).content
            get = 1000 * (time.perf_counter() - start)
            if read != body:
                raise SystemExit("the large state came back changed")
            return {
                "idle_mb": idle,
                "peak_after_put_mb": after_put,
                "peak_mb": resident(process.pid, "VmHWM"),
                "put_ms": put,
                "get_ms": get,
            }
    finally:
        process.communicate()


def resident(pid: int, field: str) -> float:
    """A field of /proc/PID/status in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"no {field} for process {pid}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with DatabricksDriver.provision({}) as provided:
        scope = DatabricksDriver(provided).open_scope("lp-benchmark")
        with scope:
            load_before = os.getloadavg()[0]
            times = overhead(scope.config(), options.rounds)
            used = memory(dict(scope.command_line("default").environment))
    rows = {
        name: {
            "p50": statistics.median(values),
            "p95": statistics.quantiles(values, n=20)[18],
            "noise": statistics.median(abs(v - statistics.median(values)) for v in values),
        }
        for name, values in times.items()
    }
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}, load {load_before:.1f}; ± is the median deviation from the median")
    print(f"{'20 kB state':<14}{'p50 ms':>9}{'p95 ms':>9}{'± ms':>8}")
    for name, row in rows.items():
        print(f"{name:<14}{row['p50']:>9.2f}{row['p95']:>9.2f}{row['noise']:>8.2f}")
    added = {op: rows[f"{op} gateway"]["p50"] - rows[f"{op} direct"]["p50"] for op in ("GET", "PUT")}
    for op, value in added.items():
        print(f"gateway adds to {op}: {value:.2f} ms at p50 (target < 3) {'met' if value < 3 else 'MISSED'}")
    ratio = used["peak_mb"] / LARGE_MB
    print(
        f"{LARGE_MB} MB state: idle {used['idle_mb']:.0f} MB, "
        f"peak {used['peak_after_put_mb']:.0f} MB after PUT ({used['put_ms']:.0f} ms), "
        f"{used['peak_mb']:.0f} MB after GET ({used['get_ms']:.0f} ms)"
    )
    print(f"peak / state: {ratio:.2f} (target < 3) {'met' if ratio < 3 else 'MISSED'}")
    if options.json:
        result = {
            "rounds": options.rounds,
            "load": load_before,
            "times": rows,
            "added_ms": added,
            "memory": used,
        }
        options.json.write_text(json.dumps({**result, "peak_per_state": ratio}, indent=2) + "\n")


if __name__ == "__main__":
    main()
