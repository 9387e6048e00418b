"""The proxy: one event loop in a thread of its own, for all links of a process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, get_args

from lockproof.chaos.proxy.certificates import Authority
from lockproof.chaos.proxy.faults import Protocol
from lockproof.chaos.proxy.link import Link
from lockproof.driver.api import Address

T = TypeVar("T")

CLOSE_SECONDS = 10.0


class FaultProxy:
    """Stands before servers, on 127.0.0.1; a context manager, and on exit nothing of it is left. Thread-safe.

    Bodies and headers are neither logged nor kept beyond their exchange.
    """

    def __init__(self) -> None:
        self.defects: list[BaseException] = []
        """What went wrong in the proxy itself; the first is raised on exit."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._links: list[Link] = []
        self._mutex = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._authority: Authority | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Raises `RuntimeError` when the proxy does not run."""
        if self._loop is None:
            raise RuntimeError("a FaultProxy is used in a with statement; this one does not run")
        return self._loop

    @property
    def authority(self) -> Authority:
        """The proxy's own, for links with TLS."""
        with self._mutex:
            if self._authority is None:
                self._folder = tempfile.TemporaryDirectory(prefix="lockproof-proxy-")
                self._authority = Authority(Path(self._folder.name))
            return self._authority

    @property
    def ca_file(self) -> Path:
        """The PEM file that clients of links with TLS must trust; it is removed on exit."""
        return self.authority.ca_file

    def stand_before(self, upstream: Address, protocol: Protocol | None = None, *, name: str = "") -> Link:
        """A link to `upstream`, which speaks `protocol` (None: what the address says); the link's address has
        TLS where `upstream` has.

        What the proxy itself trusts: `upstream.ca_file`; without one, this machine's authorities for HTTPS,
        and anybody for Postgres. Raises `ValueError` for an unknown protocol.
        """
        protocol = protocol or upstream.protocol
        if protocol not in get_args(Protocol):
            raise ValueError(f"a link speaks {', '.join(get_args(Protocol))}, not {protocol!r}")
        tls = self.authority.server_context(upstream.server_name) if upstream.tls else None
        link = Link(self, upstream, protocol, name, tls)
        self._links.append(link)
        self.call(link.start)
        return link

    def heal(self) -> None:
        """Heals every link."""
        for link in self._links:
            link.heal()

    def call(self, function: Callable[[], T]) -> T:
        """`function()`, run on the loop."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as failure:  # noqa: BLE001, raised in the caller's thread
                done.set_exception(failure)

        self.loop.call_soon_threadsafe(run)
        return done.result()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(self._loop,), name="fault proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        loop, self._loop = self.loop, None
        try:
            asyncio.run_coroutine_threadsafe(self._close_links(), loop).result(CLOSE_SECONDS)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            if self._thread is not None:
                self._thread.join()
            if self._folder is not None:
                self._folder.cleanup()
        if self.defects and exc is None:
            raise RuntimeError(f"a defect of the fault proxy: {self.defects[0]!r}") from self.defects[0]

    async def _close_links(self) -> None:
        for link in self._links:
            await link.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
