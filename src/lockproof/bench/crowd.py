"""Many connections that are all open before the first asks, from a process of its own.

`python -m lockproof.bench.crowd PORT CONNECTIONS BYTES` prints in how many seconds all were answered.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time

from lockproof.bench.benchmark import Broken

HEAD = b"GET /bytes/%d HTTP/1.1\r\nHost: x\r\n\r\n"


def crowd(port: int, connections: int, size: int) -> float:
    """Seconds until so many were answered with `size` bytes each. Raises `Broken` unless all were."""
    command = [sys.executable, "-m", __name__, str(port), str(connections), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise Broken(f"{connections} connections at once: {said[-1]}")
    return float(done.stdout)


def raise_files() -> None:
    """As many open files as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def answered(port: int, connections: int, size: int) -> float:
    """As `crowd`, in this process."""
    all_open = asyncio.Barrier(connections + 1)

    async def ask() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await all_open.wait()
        writer.write(HEAD % size)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(size)
        writer.close()
        return head.startswith(b"HTTP/1.1 200") and len(body) == size

    asking = [asyncio.create_task(ask()) for _ in range(connections)]
    await all_open.wait()
    start = time.perf_counter()
    right = sum(await asyncio.gather(*asking))
    if right != connections:
        sys.exit(f"{right} of {connections} were answered rightly")
    return time.perf_counter() - start


def main() -> None:
    """Prints the seconds."""
    raise_files()
    port, connections, size = map(int, sys.argv[1:])
    print(asyncio.run(answered(port, connections, size)))


if __name__ == "__main__":
    main()
