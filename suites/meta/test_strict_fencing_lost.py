"""States whose object somebody deleted, or cut: what the error says to do is all that has to be done."""

from __future__ import annotations

import pytest

from lockproof.suites.meta.lock_calls import info
from lockproof.suites.meta.strict_bed import KEY, OBJECTS, ROOT, StrictBed
from tofu_databricks.errors import MalformedReply

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

FIRST, LOST, BACKUP, NEWER = b"first", b"second, lost", b"from a backup", b"new"


@pytest.mark.parametrize("left", ["copy", "object", "nothing"])
def test_the_way_back_from_a_lost_state_works(lakebase: StrictBed, left: str) -> None:
    """The error says what is left and what to do: who does that has a state again, and can go on."""
    client, volume, place = lakebase.client(), lakebase.volume(), f"{ROOT}/{OBJECTS}/default.tfstate"
    lock_id = client.lock(info("ann"))
    client.put(FIRST, lock_id=lock_id)
    client.put(LOST, lock_id=lock_id)
    client.unlock(lock_id)
    older, newest = lakebase.objects()
    volume.delete(f"{place}/{newest}")
    if left != "copy":
        volume.delete(f"{ROOT}/{KEY}")
    if left == "nothing":
        volume.delete(f"{place}/{older}")
    with pytest.raises(MalformedReply, match="stop all clients") as lost:
        client.get()
    done, *undone = [
        what
        for what in (
            f"leave the copy at {ROOT}/{KEY}",
            f"{place}/{older}, at {ROOT}/{KEY}",
            "backup that you have",
        )
        if what in str(lost.value)
    ]
    assert undone == []
    assert done.startswith({"copy": "leave", "object": place, "nothing": "backup"}[left])
    if left != "copy":
        volume.write(
            f"{ROOT}/{KEY}", (volume.read(f"{place}/{older}") if left == "object" else None) or BACKUP
        )
    record = str(lost.value).partition("then delete ")[2].partition(" while nobody")[0]
    volume.delete(record)
    expected = {"copy": LOST, "object": FIRST, "nothing": BACKUP}[left]
    fresh = lakebase.client()
    assert fresh.get() == expected
    held = fresh.lock(info("bob"))
    assert fresh.get() == expected
    fresh.put(NEWER, lock_id=held)
    assert lakebase.client().get() == lakebase.copy() == NEWER
