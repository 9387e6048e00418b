"""Requests per second of the fake Databricks against moto's S3 server, side by side in one run.

    pip install -e '.[bench]'
    python benchmarks/fake_vs_moto.py [--rounds 5] [--seconds 0.5] [--json FILE]

Both servers run as processes of their own on 127.0.0.1 and are asked by the same client: one `requests`
session with keep-alive. Each round measures fake, moto and floor in turn, so that a change of the machine's
speed hits all three; a ratio is the median of the rounds' ratios. The floor is a server that answers without
looking: what the client alone costs, which neither fake can beat. SDK rows compare databricks-sdk with boto3,
in-process rows the fakes without sockets.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3
import requests
from botocore.config import Config as BotoConfig
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from moto import mock_aws

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.inprocess import activate

Call = Callable[[], object]
TARGET = 3.0
SIZES = {"1 KB": 1_000, "100 KB": 100_000, "10 MB": 10_000_000}
SIGNED = (  # moto looks for a signature and does not verify it
    "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
)
VOLUME = "main.default.v"
FILES = "/api/2.0/fs/files/Volumes/main/default/v/f"

FAKE = """
import sys
from lockproof.fakes.databricks.server import FakeServer
with FakeServer() as server:
    server.workspace.create_volume("main.default.v")
    print(server.url, server.token, flush=True)
    sys.stdin.read()
"""
MOTO = """
import logging, sys
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f"http://{host}:{port}", flush=True)
sys.stdin.read()
server.stop()
"""
FLOOR = """
import asyncio, sys

class Floor(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.wanted, self.reply = transport, 0, b""

    def data_received(self, data):
        if not self.wanted:
            head, _, body = data.partition(b"\\r\\n\\r\\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\\r\\n")[1:])
            self.wanted = int(fields.get(b"content-length", 0))
            size = int(fields.get(b"x-size", 0))
            self.reply = b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % size + bytes(size)
            data = body
        self.wanted -= len(data)
        if self.wanted <= 0:
            self.wanted = 0
            self.transport.write(self.reply)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Floor, "127.0.0.1", 0)
    print("http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Row:
    """One comparison. Rates are requests per second, medians of the rounds; `spread` is of the ratios."""

    name: str
    fake: float
    moto: float
    floor: float | None
    ratio: float
    spread: tuple[float, float]


@contextmanager
def server(script: str) -> Iterator[list[str]]:
    """The server in a process of its own; yields the words that it prints first."""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if not words:
            raise SystemExit("a server did not start; is '.[bench]' installed?")
        try:
            yield words
        finally:
            assert process.stdin is not None
            process.stdin.close()


def rate(call: Call, seconds: float) -> float:
    """Calls per second over at least `seconds` and five calls."""
    count, start = 0, time.perf_counter()
    while count < 5 or time.perf_counter() - start < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - start)


def compare(name: str, calls: dict[str, Call], rounds: int, seconds: float) -> Row:
    """`calls` by the name of the contestant: fake, moto and, where there is one, floor."""
    for call in calls.values():
        call()
    rates: dict[str, list[float]] = {contestant: [] for contestant in calls}
    for _ in range(rounds):
        for contestant, call in calls.items():
            rates[contestant].append(rate(call, seconds))
    ratios = [one / other for one, other in zip(rates["fake"], rates["moto"], strict=True)]
    floor = statistics.median(rates["floor"]) if "floor" in rates else None
    return Row(
        name,
        statistics.median(rates["fake"]),
        statistics.median(rates["moto"]),
        floor,
        statistics.median(ratios),
        (min(ratios), max(ratios)),
    )


def asked(session: requests.Session, method: str, url: str, size: int = 0, **options: object) -> Call:
    """A call that fails unless the answer is right."""

    def call() -> None:
        answer = session.request(method, url, timeout=60, **options)  # type: ignore[arg-type]
        if not answer.ok or len(answer.content) != size:
            raise SystemExit(f"{method} {url}: {answer.status_code}, {len(answer.content)} bytes")

    return call


def over_sockets(rounds: int, seconds: float) -> Iterator[Row]:
    """Same client library for all: `requests`."""
    with ExitStack() as stack:
        fake_url, token = stack.enter_context(server(FAKE))
        (moto_url,) = stack.enter_context(server(MOTO))
        (floor_url,) = stack.enter_context(server(FLOOR))
        fake, moto, floor = (stack.enter_context(requests.Session()) for _ in range(3))
        for session in (fake, moto, floor):
            session.trust_env = False
        fake.headers["Authorization"] = f"Bearer {token}"
        moto.headers["Authorization"] = SIGNED
        moto.put(f"{moto_url}/bucket", timeout=60).raise_for_status()
        for label, size in SIZES.items():
            data = bytes(size)
            puts = {
                "fake": asked(fake, "PUT", fake_url + FILES, data=data),
                "moto": asked(moto, "PUT", f"{moto_url}/bucket/f", data=data),
                "floor": asked(floor, "PUT", floor_url, data=data),
            }
            yield compare(f"PUT {label}", puts, rounds, seconds)
            gets = {
                "fake": asked(fake, "GET", fake_url + FILES, size),
                "moto": asked(moto, "GET", f"{moto_url}/bucket/f", size),
                "floor": asked(floor, "GET", floor_url, size, headers={"x-size": str(size)}),
            }
            yield compare(f"GET {label}", gets, rounds, seconds)
        yield from by_sdk(fake_url, token, moto_url, rounds, seconds)


def by_sdk(fake_url: str, token: str, moto_url: str, rounds: int, seconds: float) -> Iterator[Row]:
    """Each fake by its own SDK: databricks-sdk and boto3."""
    config = Config(host=fake_url, token=token, auth_type="pat", disable_experimental_files_api_client=True)
    files = WorkspaceClient(config=config).files
    s3 = boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=BotoConfig(s3={"addressing_style": "path"}, proxies={}),
    )
    path, data = "/Volumes/main/default/v/f", bytes(1000)
    puts: dict[str, Call] = {
        "fake": lambda: files.upload(path, io.BytesIO(data), overwrite=True),
        "moto": lambda: s3.put_object(Bucket="bucket", Key="f", Body=data),
    }
    yield compare("SDK upload 1 KB (databricks-sdk, boto3)", puts, rounds, seconds)
    gets: dict[str, Call] = {
        "fake": lambda: files.download(path).contents.read(),  # type: ignore[union-attr]
        "moto": lambda: s3.get_object(Bucket="bucket", Key="f")["Body"].read(),
    }
    yield compare("SDK download 1 KB (databricks-sdk, boto3)", gets, rounds, seconds)


def in_process(rounds: int, seconds: float) -> Iterator[Row]:
    """Without sockets, by `requests`: `activate` and `mock_aws`."""
    workspace = FakeWorkspace()
    workspace.create_volume(VOLUME)
    with mock_aws(), activate(workspace), requests.Session() as fake, requests.Session() as moto:
        fake.headers["Authorization"] = f"Bearer {workspace.token}"
        moto.headers["Authorization"] = SIGNED
        bucket = "https://bucket.s3.amazonaws.com"
        moto.put(bucket, timeout=60).raise_for_status()
        data = bytes(1000)
        puts = {
            "fake": asked(fake, "PUT", workspace.url + FILES, data=data),
            "moto": asked(moto, "PUT", f"{bucket}/f", data=data),
        }
        yield compare("in process PUT 1 KB", puts, rounds, seconds)
        gets = {
            "fake": asked(fake, "GET", workspace.url + FILES, len(data)),
            "moto": asked(moto, "GET", f"{bucket}/f", len(data)),
        }
        yield compare("in process GET 1 KB", gets, rounds, seconds)


def noise() -> float:
    """How much the same pure computation varies on this machine now: (slowest - fastest) / median."""

    def once() -> float:
        start = time.perf_counter()
        sum(range(300_000))
        return time.perf_counter() - start

    times = [once() for _ in range(40)]
    return (max(times) - min(times)) / statistics.median(times)


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| what | fake /s | moto /s | floor /s | fake / moto | rounds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        floor = f"{row.floor:.0f}" if row.floor else "-"
        low, high = row.spread
        lines.append(
            f"| {row.name} | {row.fake:.0f} | {row.moto:.0f} | {floor} | **{row.ratio:.1f}x** "
            f"| {low:.1f}-{high:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement (default 0.5)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    before, load = noise(), os.getloadavg()[0]
    rows = [*over_sockets(options.rounds, options.seconds), *in_process(options.rounds, options.seconds)]
    after = noise()
    machine = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
    print(table(rows))
    print(
        f"\n{machine}, load {load:.1f}; a pure computation varied by {before:.0%} before, {after:.0%} after"
    )
    small = [row for row in rows if row.name in ("PUT 1 KB", "GET 1 KB")]
    met = all(row.ratio >= TARGET for row in small)
    verdict = "met" if met else "missed"
    print(f"target, at least {TARGET:.0f}x moto's PUT and GET with the same client library: {verdict}")
    if options.json:
        record = {
            "machine": machine,
            "load": load,
            "noise": [before, after],
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
