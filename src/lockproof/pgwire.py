"""Messages of the Postgres protocol, version 3: where they begin and end, and the few that are read or made.

Source: postgresql.org/docs/current, protocol-flow and protocol-message-formats.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
LONGEST_STARTUP = 10_000
"""Bytes of a message without a type, as the server limits them."""


def frames(data: bytes | bytearray) -> Iterator[tuple[bytes, int, int]]:
    """The kind, begin and end of each whole message."""
    at = 0
    while at + 5 <= len(data):
        end = at + 1 + struct.unpack_from("!I", data, at + 1)[0]
        if end > len(data):
            return
        yield bytes(data[at : at + 1]), at, end
        at = end


def whole(data: bytes | bytearray) -> int:
    """How much of `data` is whole messages."""
    return max((end for _, _, end in frames(data)), default=0)


def statements(data: bytes | bytearray) -> Iterator[str]:
    """The SQL texts of the simple queries and of the statements to parse in `data`."""
    for kind, begin, end in frames(data):
        if kind == b"Q":
            yield data[begin + 5 : end - 1].decode("utf-8", "replace")
        elif kind == b"P":
            yield names(data[begin:end])[1]


def names(message: bytes | bytearray) -> tuple[str, str]:
    """The two texts that Parse (statement, SQL) and Bind (portal, statement) begin with."""
    first, _, rest = bytes(message[5:]).partition(b"\0")
    second, _, _ = rest.partition(b"\0")
    return first.decode("utf-8", "replace"), second.decode("utf-8", "replace")


def message(kind: bytes, body: bytes) -> bytes:
    """A message with its length."""
    return kind + struct.pack("!I", len(body) + 4) + body


def fatal(sqlstate: str, text: str) -> bytes:
    """An ErrorResponse after which the server hangs up."""
    fields = {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": text}
    return message(b"E", b"".join(f"{k}{v}\0".encode() for k, v in fields.items()) + b"\0")
