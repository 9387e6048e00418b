"""States as tests write them, and what is read back compared in a way that a person can read."""

from __future__ import annotations

import base64
import json
import random
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from lockproof.driver import DriverError
from lockproof.driver.recorder import RecordedClient
from lockproof.spec.outcome import Violation
from lockproof.spec.statefile import document, tofu_bytes

MEGABYTE = 1_000_000
EXCERPT = 24


def successive(count: int, *, paddings: Sequence[int] = (0,)) -> Iterator[bytes]:
    """`count` states of one lineage with rising serials, each of the next of `paddings` bytes more."""
    lineage = str(uuid.uuid4())
    for serial, padding in zip(range(1, count + 1), cycle(paddings), strict=False):
        yield tofu_bytes(document(serial=serial, lineage=lineage, padding=filler(padding)))


def filler(size: int) -> str:
    """`size` characters of text that never repeats itself, so that a swapped block shows."""
    raw = random.Random(size).randbytes(size * 3 // 4 + 3)
    return base64.b64encode(raw).decode()[:size]


def encrypted_bytes(serial: int, lineage: str | None = None) -> bytes:
    """What OpenTofu stores when state encryption is on: no `version`, no `resources`, no newline.

    Source: opentofu internal/encryption/state.go:67-89 and base.go:104-145.
    """
    wrapper = {
        "serial": serial,
        "lineage": str(uuid.uuid4()) if lineage is None else lineage,
        "meta": {"key_provider.pbkdf2.passphrase": base64.b64encode(uuid.uuid4().bytes).decode()},
        "encrypted_data": base64.b64encode(random.Random(serial).randbytes(900)).decode(),
        "encryption_version": "v0",
    }
    return json.dumps(wrapper, separators=(",", ":")).encode()


def with_resource(state: dict[str, Any]) -> dict[str, Any]:
    """`state` tracking one resource: a workspace with it is not empty."""
    instance = {"schema_version": 0, "attributes": {"id": "1"}, "sensitive_attributes": []}
    resource = {
        "mode": "managed",
        "type": "terraform_data",
        "name": "thing",
        "provider": 'provider["terraform.io/builtin/terraform"]',
        "instances": [instance],
    }
    return {**state, "resources": [resource]}


def require_stored(client: RecordedClient, expected: bytes, workspace: str = "default") -> None:
    """Raises `Violation` unless `client` reads exactly `expected`."""
    snapshot = client.get(workspace)
    if snapshot is None:
        raise Violation(f"{client.who} reads no state of {workspace!r}; expected {len(expected)} bytes")
    if snapshot.data != expected:
        raise Violation(
            f"{client.who} reads another state of {workspace!r}: {unlike(expected, snapshot.data)}"
        )


def require_absent(client: RecordedClient, workspace: str = "default") -> None:
    """Raises `Violation` unless `client` reads that there is no state."""
    snapshot = client.get(workspace)
    if snapshot is not None:
        size = len(snapshot.data)
        raise Violation(f"{client.who} reads a state of {size} bytes of {workspace!r}; expected none")


def refused(call: Callable[[], object]) -> bool:
    """Whether the backend refuses `call`; what it refuses has no effect.

    Raises `Violation` when the outcome is unknown: without a fault there is no reason for that.
    """
    try:
        call()
    except DriverError as error:
        if not error.definite:
            raise Violation(f"a refusal must be definite, but the outcome is unknown: {error}") from error
        return True
    return False


def unlike(expected: bytes, observed: bytes) -> str:
    """Where two byte strings part, in one line that stays short for states of any size."""
    shorter = min(len(expected), len(observed))
    here, there = memoryview(expected), memoryview(observed)
    at = bisect_left(range(shorter), True, key=lambda end: here[: end + 1] != there[: end + 1])
    wanted, got = expected[at : at + EXCERPT], observed[at : at + EXCERPT]
    sizes = f"{len(expected)} bytes expected, {len(observed)} observed"
    return f"{sizes}; from byte {at} on {wanted!r} became {got!r}"
