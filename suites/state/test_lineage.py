"""Serial and lineage belong to the client: a backend that rewrites them breaks encrypted states."""

import uuid
from collections.abc import Callable
from functools import partial

import pytest

from lockproof.driver.recorder import RecordedClient
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import encrypted_bytes, refused, require_stored

Writer = Callable[[int, str], bytes]


def plain_state(serial: int, lineage: str) -> bytes:
    return tofu_bytes({**document(serial=serial), "lineage": lineage})


BOTH = pytest.mark.parametrize("write", [plain_state, encrypted_bytes], ids=["plain", "encrypted"])


@reported("terraform#21773")
@BOTH
@requirement("STATE-SER-001")
def test_serial_is_kept(write: Writer, alice: RecordedClient, bob: RecordedClient) -> None:
    """The serial reads back as sent: repeated, one higher, after a gap, and as large as it gets."""
    lineage = str(uuid.uuid4())
    for serial in (7, 7, 8, 1000, 2**53 + 1):
        data = write(serial, lineage)
        alice.put("default", data)
        require_stored(bob, data)


@reported("terraform#15712", "terraform#15674")
@BOTH
@requirement("STATE-LIN-001")
def test_lineage_is_kept(write: Writer, alice: RecordedClient, bob: RecordedClient) -> None:
    """The lineage reads back as sent, also where another lineage was stored before."""
    for serial, lineage in enumerate([str(uuid.uuid4()), "not-a-uuid", str(uuid.uuid4()), ""], start=1):
        data = write(serial, lineage)
        alice.put("default", data)
        require_stored(bob, data)


@BOTH
@requirement("STATE-FORCE-001")
def test_lower_serial_is_not_dropped_in_silence(
    write: Writer, alice: RecordedClient, bob: RecordedClient
) -> None:
    """A lower serial is stored as sent or refused, never acknowledged and dropped."""
    lineage = str(uuid.uuid4())
    stored = write(8, lineage)
    alice.put("default", stored)
    for other in (write(3, lineage), write(1, str(uuid.uuid4()))):
        if not refused(partial(alice.put, "default", other)):
            stored = other
        require_stored(bob, stored)


@reported("terraform#25761", "terraform#24916")
@BOTH
@requirement("STATE-FORCE-002")
def test_forced_push_is_accepted(write: Writer, alice: RecordedClient, bob: RecordedClient) -> None:
    """A lower serial of the same lineage and a state of another lineage replace what is there."""
    lineage = str(uuid.uuid4())
    for data in (write(8, lineage), write(3, lineage), write(1, str(uuid.uuid4()))):
        alice.put("default", data)
        require_stored(bob, data)
