"""Connections to the server behind a link."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache

from lockproof.chaos.proxy.faults import Protocol
from lockproof.chaos.proxy.wire import Wire
from lockproof.driver.api import Address

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


async def connect(upstream: Address, protocol: Protocol) -> Wire:
    """A connection, with TLS where the address has it. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    name = upstream.server_name or upstream.host
    if not upstream.tls or protocol == "postgres":
        _, wire = await loop.create_connection(Wire, upstream.host, upstream.port)
    else:
        _, wire = await loop.create_connection(
            Wire, upstream.host, upstream.port, ssl=trusting(upstream.ca_file, False), server_hostname=name
        )
    if upstream.tls and protocol == "postgres":
        try:
            await wire.send(SSL_REQUEST)
            if await wire.read() != b"S":
                raise ConnectionError("the server has no TLS")
            await wire.start_tls(trusting(upstream.ca_file, True), server_hostname=name)
        except BaseException:
            wire.abort()
            raise
    return wire


@lru_cache(maxsize=32)
def trusting(ca_file: str | None, lenient: bool) -> ssl.SSLContext:
    """TLS of a client that trusts the authorities of a file; without one those of this machine, or
    (`lenient`) anybody, as `sslmode=require` of Postgres does."""
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None and lenient:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
