"""A proxy before a driver's links that does to their traffic what networks and servers do.

One event loop in one thread serves all links. A link of protocol `http` knows requests and replies, one of
`postgres` statements, one of `tcp` connections and bytes; TLS is ended with a certificate of the proxy's own.
What is not struck by a fault passes byte for byte, but for the header `Host`, which names the real server.
"""

from lockproof.chaos.proxy.armed import Armed
from lockproof.chaos.proxy.faults import (
    Answer,
    Delay,
    Direction,
    DropReply,
    DropRequest,
    Duplicate,
    LinkFault,
    Partition,
    Protocol,
    Reset,
    Side,
    SlowBody,
    StaleRead,
    Truncate,
    Which,
)
from lockproof.chaos.proxy.link import Link
from lockproof.chaos.proxy.proxy import FaultProxy

__all__ = [
    "Answer",
    "Armed",
    "Delay",
    "Direction",
    "DropReply",
    "DropRequest",
    "Duplicate",
    "FaultProxy",
    "Link",
    "LinkFault",
    "Partition",
    "Protocol",
    "Reset",
    "Side",
    "SlowBody",
    "StaleRead",
    "Truncate",
    "Which",
]
