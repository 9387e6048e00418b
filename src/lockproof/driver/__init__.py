"""The driver interface, version 1: what a state backend shows to the suite.

A driver is one `--backend`; a scope is an isolated key space of it; a client of a scope stands for one
`tofu` process. Everything a contributor needs to write one is exported here.
"""

from lockproof.driver.api import (
    Address,
    Capabilities,
    Client,
    Driver,
    DriverInfo,
    HasTestBed,
    LockInfo,
    Scope,
    Snapshot,
)
from lockproof.driver.errors import DriverError, ErrorKind, Locked, LockMismatch, NotLocked

__all__ = [
    "Address",
    "Capabilities",
    "Client",
    "Driver",
    "DriverError",
    "DriverInfo",
    "ErrorKind",
    "HasTestBed",
    "LockInfo",
    "LockMismatch",
    "Locked",
    "NotLocked",
    "Scope",
    "Snapshot",
]
