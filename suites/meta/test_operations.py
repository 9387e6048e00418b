"""A witness in words: a person reads what happened, and what each operation shows."""

from __future__ import annotations

import pytest

from lockproof.checkers import check
from lockproof.history import History
from lockproof.report.operations import DASH, headline, plain, relevant
from lockproof.suites.meta.stories import Story, described, info, lock_id, two_holders


def told(history: History, *names: str) -> list[str]:
    """The lines of the operations that clients `names` called, all when none is named."""
    events = [op.i for op in history.operations() if not names or history.names[op.p] in names]
    return relevant(history, events, most=None)


def remark(history: History, line: int) -> str:
    return told(history)[line].partition(" ms: ")[2]


def test_two_holders_are_told_with_times_ids_and_that_both_hold() -> None:
    """Who, what, when, the ids, and the sentence that both hold stand beside the second grant."""
    history = two_holders()
    verdict = check(history)
    lines = relevant(history, verdict.witness)
    assert lines[0] == f"#4 alice lock default → ok id alice-01… 0.004{DASH}0.005 ms: alice holds from here"
    assert lines[1].startswith(f"#10 bob lock default → ok id bob-0123… 0.010{DASH}0.011 ms: bob holds")
    assert lines[1].endswith("alice and bob both hold")
    assert 2 <= len(lines) <= 6


def test_headline_says_whose_locks_they_are() -> None:
    """The sentence names the clients, not only ids nobody can remember."""
    history = two_holders()
    sentence = headline(history, check(history))
    assert "alice's lock alice-01…" in sentence
    assert "bob's lock bob-0123…" in sentence
    assert lock_id("alice") not in sentence


def test_nobody_is_said_to_hold_who_has_released() -> None:
    """A release that is not told keeps a remark from saying that both hold."""
    story = Story()
    story.lock("alice")
    story.unlock("alice")
    story.lock("bob")
    history = story.history()
    grants = [op.i for op in history.operations() if op.f == "lock"]
    assert not any("both hold" in line for line in relevant(history, grants))


def test_id_granted_again_after_its_release_is_no_second_hold_at_once() -> None:
    """Each release of an id that is used again ends the grant before it."""
    story = Story()
    for who in ("alice", "bob"):
        story.lock(who, granted="lock-7")
        story.call(who, "unlock", given={"lock_id": "lock-7"})()
    lines = told(story.history())
    assert lines[1].endswith("alice holds no more")
    assert lines[3].endswith("bob holds no more")
    assert not any("both hold" in line for line in lines)


def test_refusals_say_what_they_reveal() -> None:
    """A refusal shows a holder, a lock that was released, one that nobody got, or the asker itself."""
    story = Story()
    story.lock("alice")
    story.refused("bob", "alice")
    story.unlock("alice")
    story.refused("bob", "alice")
    story.refused("bob", "stranger")
    story.refused("carol", "carol", name="carol")
    history = story.history()
    release = next(op.i for op in history.operations() if op.f == "unlock")
    assert remark(history, 1) == "so alice holds"
    assert remark(history, 3) == f"but alice's lock was released by #{release}"
    assert remark(history, 4) == "nobody was granted that lock"
    assert remark(history, 5) == "the refusal names the one who asks"


def test_lost_request_is_known_by_the_refusal_that_names_it() -> None:
    """After a lost reply another id of the backend's is matched by the token, also when it is released."""
    story = Story()
    story.lost_lock("alice")
    holder = {**info("alice"), "ID": "backend-41"}
    story.call("bob", "lock", given={"info": info("bob")})(
        "fail", kind="locked", definite=True, holder=holder
    )
    story.call("alice", "unlock", given={"lock_id": "backend-41"})()
    history = story.history()
    assert "unknown: timeout" in told(history)[0]
    assert remark(history, 1) == "so alice holds"
    assert remark(history, 2) == "alice holds no more"


def test_refused_release_of_a_holder_is_told() -> None:
    """Who holds and may not release is told so."""
    story = Story()
    story.lock("alice")
    end = story.call("alice", "unlock", given={"lock_id": lock_id("alice")})
    end("fail", kind="lock_mismatch", definite=True)
    assert remark(story.history(), 1) == "but alice holds"


def test_write_under_a_released_lock_is_told() -> None:
    """A write under an id that was released before, or never granted, is told so."""
    story = Story()
    story.lock("alice")
    story.unlock("bob", "alice")
    story.put("alice", "late", under="alice")
    story.put("bob", "odd", under="nobody")
    history = story.history()
    release = next(op.i for op in history.operations() if op.f == "unlock")
    assert remark(history, 1) == "alice holds no more"
    assert remark(history, 2) == f"under a lock that #{release} had released"
    assert remark(history, 3) == "nobody was ever granted that id"


@pytest.mark.parametrize(
    ("value", "sha256", "said"),
    [
        ("one", "", "but #3 had replaced that"),
        ("two", "", "written by alice in #3"),
        ("two", "other bytes", "but not the bytes that #3 wrote"),
        ("invented", "", "nobody wrote that"),
        ("unheard", "", "but that write, #5, was refused"),
        (None, "", "but #3 had replaced that"),
    ],
)
def test_reads_say_whose_write_they_saw(value: str | None, sha256: str, said: str) -> None:
    """A read is told with the write it saw and why that one cannot be right."""
    story = Story()
    story.put("alice", "one")
    story.put("alice", "two", serial=2)
    story.call("alice", "put", given=described("unheard", 3))("fail", kind="stale", definite=True)
    story.get("bob", value, sha256=sha256)
    assert remark(story.history(), 3) == said


def test_read_of_nothing_after_a_deletion_accuses_nobody() -> None:
    """Absence is what a deletion leaves."""
    story = Story()
    story.put("alice", "one")
    story.delete("alice")
    story.get("bob", None)
    assert remark(story.history(), 2) == ""


def test_ids_are_as_long_as_they_differ() -> None:
    """Ids that begin alike are shown up to where they differ."""
    story = Story()
    for number in (1, 2):
        story.lock("alice", name=f"a{number}", granted=f"{'0' * 30}{number}-lock")
    lines = told(story.history())
    assert f"{'0' * 30}1…" in lines[0]
    assert f"{'0' * 30}2…" in lines[1]


def test_names_of_workspaces_are_never_cut() -> None:
    """A long workspace is no id: it is shown whole, in lines and in the headline."""
    name = "production_eu_west_1_networking_and_more"
    story = Story()
    for who in ("alice", "bob"):
        story.call(who, "lock", name, {"info": info(who)})("ok", lock_id(who))
    history = story.history()
    verdict = check(history)
    assert all(name in line for line in relevant(history, verdict.witness))


def test_many_operations_are_counted_not_listed() -> None:
    """A long witness is told by its first and last operations; a failure without one by the last."""
    story = Story()
    for n in range(40):
        story.get(f"reader-{n}", None)
    history = story.history()
    lines = relevant(history, [op.i for op in history.operations()])
    assert len(lines) == 9
    assert lines[4] == "… 32 more operations …"
    assert lines[8].startswith("#118 reader-39 get")
    assert len(relevant(history)) == 8
    assert len(relevant(history, [op.i for op in history.operations()], most=None)) == 40


def test_text_of_the_backend_cannot_act_on_a_terminal() -> None:
    """Escape sequences, line ends, marks of direction and half characters are shown, not obeyed."""
    hostile = "red\x1b[31m\nnext\u202ereversed\ud800"
    story = Story()
    end = story.call("mallory\x1b[0m", "get", hostile)
    end("fail", kind="internal", definite=True, message=hostile)
    (line,) = told(story.history())
    assert line.isprintable()
    assert "red\ufffd[31m␤next\ufffdreversed\ufffd" in line
    assert plain("ordinary ünïcode 試験") == "ordinary ünïcode 試験"


def test_call_without_an_answer_is_open() -> None:
    """A call that never returned has no end."""
    story = Story()
    story.call("alice", "unlock", given={"lock_id": lock_id("alice")})
    (line,) = told(story.history())
    assert f"→ no answer 0.001 ms{DASH}" in line
