"""What holds in every order of the steps of a few clients, and with every fault at every step.

A driver's client calls are the steps; those of the reference backend are its requests and its statements.
Until the tier `full` some schedules are run, however slow the machine, and as many more as fit a moment,
those with the fewest preemptions first; from there on every one with up to two.
"""

from pathlib import Path

import pytest

from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.session import Session
from lockproof.report.folder import SCHEDULES
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.marks import TIERS
from lockproof.suites.concurrency import programs, programs_of_fencing, programs_of_windows
from lockproof.suites.concurrency.exploring import Exploring

pytestmark = needs("in-process")


@pytest.fixture
def exploring(backend: Backend, history: HistoryWriter, request: pytest.FixtureRequest) -> Exploring:
    """Explores programs on the backend as the options of the run say."""
    run: Session = request.config.pluginmanager.getplugin("lockproof.session")
    return Exploring(
        backend,
        history,
        folder=run.folder / SCHEDULES,
        shown=f"{run.shown_folder}/{SCHEDULES}",
        given=run.described[backend.id]["given"],
        properties=request.node.user_properties,
        complete=TIERS.index(run.settings.tier) >= TIERS.index("full"),
        schedule=Path(run.settings.schedule) if run.settings.schedule else None,
    )


@needs("state")
@requirement("LOCK-EXCL-001", "LOCK-EXCL-002")
def test_lock_against_lock(exploring: Exploring) -> None:
    """However two clients interleave that count a state up under the lock, no update is lost."""
    exploring.require_valid(programs.LOCK_AGAINST_LOCK)


@requirement("LOCK-EXCL-001", "LOCK-REL-001", "LOCK-REL-004")
def test_lock_unlock_lock(exploring: Exploring) -> None:
    """However another's attempts fall between two acquisitions, the lock is free or held, and released."""
    exploring.require_valid(programs.LOCK_UNLOCK_LOCK)


@reported("opentofu#4405", "http-reply-lost")
@requirement("LOCK-EXCL-001", "LOCK-IDEM-002")
def test_lost_reply_and_retry(exploring: Exploring) -> None:
    """Whichever reply is lost, a request that is sent again is one acquisition, and admits nobody else."""
    exploring.require_valid(programs.LOST_REPLY_AND_RETRY)


@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-001", "LOCK-FORCE-002")
def test_force_unlock_against_put(exploring: Exploring) -> None:
    """Whenever a lock is forced, a write that begins after that is refused, and its new holder is safe."""
    exploring.require_valid(programs.FORCE_UNLOCK_AGAINST_PUT)


@reported(
    "terraform#17535",
    "terraform#24289",
    "terraform#25818",
    "azurerm#8819",
    "opentofu#4225",
    "terraform#27670",
)
@needs("state", "locking.force-unlock", "locking.holder-info", "locking.release-nonce")
@requirement("LOCK-CRASH-001", "LOCK-HOLD-001")
def test_crash_of_a_holder(exploring: Exploring) -> None:
    """At whatever step a client is killed, its lock is free, or held under a name by which it is forced."""
    exploring.require_valid(programs.CRASH_OF_A_HOLDER)


@needs("state", "databricks")
@requirement("LOCK-EXCL-002", "DBX-AUTH-001")
def test_expired_token_in_the_middle(exploring: Exploring) -> None:
    """Before whichever request a token expires, that is told as what it is, and no update is lost."""
    exploring.require_valid(programs.EXPIRED_TOKEN_IN_THE_MIDDLE)


@reported("pg-first-use", "terraform#26593", "azure-empty-upload")
@needs("state")
@requirement("LOCK-EXCL-002", "LOCK-STATE-001", "LOCK-ERR-001")
def test_first_lock_against_first_lock(exploring: Exploring) -> None:
    """However the very first users of a backend interleave, each holds the lock or is refused it."""
    exploring.require_valid(programs.FIRST_LOCK_AGAINST_FIRST_LOCK)


@reported("terraform#18329", "terraform#22941", "terraform#23730")
@needs("state")
@requirement("LOCK-EXCL-001", "WS-DEL-005")
def test_delete_workspace_against_lock(exploring: Exploring) -> None:
    """Whenever a workspace is deleted, whoever holds its lock holds it on."""
    exploring.require_valid(programs.DELETE_WORKSPACE_AGAINST_LOCK)


@needs("state")
@requirement("LOCK-FENCE-001")
def test_put_against_stale_put(exploring: Exploring) -> None:
    """Whenever a client writes whose lock was released before, it is refused, and a holder's write stays."""
    exploring.require_valid(programs.PUT_AGAINST_STALE_PUT)


@reported("terraform#14312", "terraform#16098", "terraform#30598")
@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-003")
def test_stale_write_in_flight(exploring: Exploring) -> None:
    """However late a write arrives whose lock was forced meanwhile, no newer holder's write is undone."""
    exploring.require_valid(programs.STALE_WRITE_IN_FLIGHT)


@needs("state.delete", "workspaces")
@requirement("LOCK-EXCL-002", "LOCK-SCOPE-001")
def test_migrate_against_apply(exploring: Exploring) -> None:
    """Whenever a state is migrated, what was applied to it before comes along."""
    exploring.require_valid(programs.MIGRATE_AGAINST_APPLY)


@needs("state")
@requirement("LOCK-EXCL-002")
def test_three_clients(exploring: Exploring) -> None:
    """In schedules that are drawn of three clients that count a state up, no update is lost."""
    exploring.require_valid(programs.THREE_CLIENTS)


@reported("opentofu#1341", "terraform#30149")
@requirement("LOCK-REL-001", "LOCK-EXCL-001")
def test_refused_then_again(exploring: Exploring) -> None:
    """However a lock is released beside a refusal, who asks again afterwards is not refused by its past."""
    exploring.require_valid(programs_of_windows.REFUSED_THEN_AGAIN)


@needs("locking.force-unlock", "locking.holder-info")
@requirement("LOCK-REL-003", "LOCK-FORCE-001")
def test_force_unlock_against_unlock(exploring: Exploring) -> None:
    """Whenever a holder takes the lock anew, who forces its old lock does not get the new one."""
    exploring.require_valid(programs_of_windows.FORCE_UNLOCK_AGAINST_UNLOCK)


@reported("opentofu#4405", "http-reply-lost")
@needs("locking.force-unlock", "locking.holder-info", "locking.release-nonce")
@requirement("LOCK-ERR-001", "LOCK-EXCL-002")
def test_lost_reply_against_force_unlock(exploring: Exploring) -> None:
    """Whichever reply is lost, who is refused holds nothing, and a forced lock does not come back."""
    exploring.require_valid(programs_of_windows.LOST_REPLY_AGAINST_FORCE_UNLOCK)


@reported("terraform#34266", "terraform#17066")
@needs("locking")
@requirement("STATE-ATOM-001", "STATE-VIS-002")
def test_put_against_get(exploring: Exploring) -> None:
    """Whenever a state is read beside a write, it is the old or the new one, and then never the old one."""
    exploring.require_valid(programs_of_windows.PUT_AGAINST_GET)


@requirement("WS-ISO-002", "WS-LIST-003")
def test_creation_against_creation(exploring: Exploring) -> None:
    """However two workspaces are made at once, each is listed as soon as it is made."""
    exploring.require_valid(programs_of_windows.CREATION_AGAINST_CREATION)


@requirement("WS-ISO-001", "WS-LIST-003")
def test_creation_against_deletion(exploring: Exploring) -> None:
    """However a workspace is made while another is deleted, the one is listed and the other is not."""
    exploring.require_valid(programs_of_windows.CREATION_AGAINST_DELETION)


@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-003")
def test_lost_reply_of_a_stale_write(exploring: Exploring) -> None:
    """Whichever reply of a write is lost whose lock was forced, no newer holder's write is undone."""
    exploring.require_valid(programs_of_fencing.LOST_REPLY_OF_A_STALE_WRITE)


@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-003")
def test_stale_write_under_a_new_lock(exploring: Exploring) -> None:
    """However late a write arrives whose lock was forced, its new holder reads the same state twice."""
    exploring.require_valid(programs_of_fencing.STALE_WRITE_UNDER_A_NEW_LOCK)


@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-003")
def test_overtaken_twice(exploring: Exploring) -> None:
    """However two writes of a holder and two of the one that overtakes it meet, the latter's stay."""
    exploring.require_valid(programs_of_fencing.OVERTAKEN_TWICE)


@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-003")
def test_readers_of_a_stale_write(exploring: Exploring) -> None:
    """In schedules that are drawn, no reader sees a stale holder's write after a newer holder's."""
    exploring.require_valid(programs_of_fencing.READERS_OF_A_STALE_WRITE)


@needs("workspaces", "locking.force-unlock")
@requirement("LOCK-FENCE-003")
def test_deletion_against_stale_write(exploring: Exploring) -> None:
    """However late a write arrives whose lock was forced, a workspace deleted since then does not return."""
    exploring.require_valid(programs_of_fencing.DELETION_AGAINST_STALE_WRITE)


@needs("workspaces", "databricks")
@requirement("WS-DEL-001", "DBX-AUTH-001")
def test_deletion_that_expires(exploring: Exploring) -> None:
    """Before whichever request of a deletion the token expires, what was deleted is not read again."""
    exploring.require_valid(programs_of_fencing.DELETION_THAT_EXPIRES)
