"""The fake's Files API 3.0: entity tags and preconditions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from typing import Any

import pytest
import requests

from lockproof.suites.meta.fake_bed import FILES, ROOT, VOLUME, Bed, reach

Ask = Callable[..., requests.Response]


@pytest.fixture
def ask(fake: Bed) -> Ask:
    """A request about a file by Files API 3.0, which is switched on: `ask(method, name, **options)`."""
    fake.control.fidelity(files_api_3=True)
    return partial(asked, fake)


def asked(fake: Bed, method: str, name: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {fake.workspace.token}", **options.pop("headers", {})}
    url = f"{fake.workspace.storage_url}/api/3.0/fs/files{ROOT}/{name}"
    return fake.session.request(method, url, headers=headers, timeout=30, **options)


def put(ask: Ask, name: str, data: bytes, **headers: str) -> requests.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return ask("PUT", name, data=data, headers=named)


def test_it_is_not_there_unless_enabled(fake: Bed) -> None:
    """Without the preview every call is 404 ENDPOINT_NOT_FOUND."""
    for method in ("GET", "PUT", "DELETE"):
        answer = asked(fake, method, "f", data=b"1")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert fake.control.files(VOLUME) == {}


def test_a_write_answers_200_with_the_tag_that_reads_show(fake: Bed, ask: Ask) -> None:
    """PUT, GET and HEAD carry the same quoted tag; the next write has another. Both APIs see one file."""
    written = put(ask, "d/f", b"one")
    assert written.status_code == 200
    tag = written.headers["ETag"]
    assert tag[0] == tag[-1] == '"'
    assert ask("GET", "d/f").headers["ETag"] == ask("HEAD", "d/f").headers["ETag"] == tag
    assert fake.http("GET", f"{FILES}/d/f").content == ask("GET", "d/f").content == b"one"
    assert put(ask, "d/f", b"one").headers["ETag"] != tag


@pytest.mark.parametrize("switched", [True, False])
def test_the_same_content_has_the_same_tag_when_switched(fake: Bed, ask: Ask, switched: bool) -> None:
    """With `content_etags` what was there before has its old tag again, as in an object store by hash."""
    fake.control.fidelity(content_etags=switched)
    first, other, again = (put(ask, "f", data).headers["ETag"] for data in (b"a", b"b", b"a"))
    assert other != first
    assert (again == first) is switched


def test_a_write_on_a_condition_that_does_not_hold_changes_nothing(ask: Ask) -> None:
    """`If-Match` wants the tag that is there, `If-None-Match: *` wants no file; otherwise 412."""
    assert put(ask, "f", b"0", If_Match="*").status_code == 412
    assert put(ask, "f", b"0", If_Match='"any"').status_code == 412
    assert ask("GET", "f").status_code == 404
    old = put(ask, "f", b"1", If_None_Match="*").headers["ETag"]
    assert put(ask, "f", b"2", If_None_Match="*").status_code == 412
    new = put(ask, "f", b"3", If_Match=old).headers["ETag"]
    assert put(ask, "f", b"4", If_Match=old).status_code == 412
    assert put(ask, "f", b"5", If_None_Match=new).status_code == 412
    assert ask("GET", "f").content == b"3"
    assert put(ask, "f", b"6", If_Match=f'"other", {new}').status_code == 200
    assert put(ask, "f", b"7", If_Match="*").status_code == 200
    assert put(ask, "f", b"8", If_None_Match=old).status_code == 200


def test_a_write_by_the_old_api_changes_the_tag(fake: Bed, ask: Ask) -> None:
    """Whoever writes by Files API 2.0 is seen by the preconditions of 3.0."""
    tag = put(ask, "f", b"1").headers["ETag"]
    fake.http("PUT", f"{FILES}/f", data=b"2")
    assert put(ask, "f", b"3", If_Match=tag).status_code == 412


def test_reads_on_a_condition(ask: Ask) -> None:
    """A tag that is not there: 412; a tag that is still there: 304 without a body."""
    tag = put(ask, "f", b"content").headers["ETag"]
    assert ask("GET", "f", headers={"If-Match": '"other"'}).status_code == 412
    assert ask("GET", "f", headers={"If-Match": tag}).content == b"content"
    unchanged = ask("GET", "f", headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)
    assert ask("GET", "f", headers={"If-None-Match": '"other"'}).content == b"content"
    long_ago = formatdate(0, usegmt=True)
    assert ask("GET", "f", headers={"If-Unmodified-Since": long_ago}).status_code == 412
    assert ask("GET", "f", headers={"Range": "bytes=2-3"}).content == b"nt"
    assert ask("GET", "f", headers={"Range": "bytes=99-"}).status_code == 416


def test_deleting_is_repeatable_and_conditional(fake: Bed, ask: Ask) -> None:
    """204 also for what is not there; `If-Match: *` then 404, another tag 412, and the file stays."""
    tag = put(ask, "f", b"1").headers["ETag"]
    assert ask("DELETE", "f", headers={"If-Match": '"other"'}).status_code == 412
    assert fake.control.files(VOLUME) == {"f": 1}
    assert ask("DELETE", "f", headers={"If-Match": tag}).status_code == 204
    assert fake.control.files(VOLUME) == {}
    assert ask("DELETE", "f").status_code == 204
    assert ask("DELETE", "f", headers={"If-Match": "*"}).status_code == 404
    assert ask("DELETE", "f", headers={"If-Match": tag}).status_code == 412


def test_a_write_says_how_long_it_is(ask: Ask) -> None:
    """A chunked upload is 411 and writes nothing."""
    assert ask("PUT", "f", data=iter([b"1", b"2"])).status_code == 411
    assert ask("GET", "f").status_code == 404


def test_callers_and_places_are_checked_as_in_2_0(fake: Bed, ask: Ask) -> None:
    """No token 401, no grant 403, a missing volume 404 without the reason of a missing file."""
    assert ask("GET", "f", headers={"Authorization": ""}).status_code == 401
    reader = fake.control.create_principal(
        "reader@example.com",
        grants={"main": ["USE_CATALOG"], "main.default": ["USE_SCHEMA"], VOLUME: ["READ_VOLUME"]},
    )
    assert put(ask, "f", b"1", Authorization=f"Bearer {reader}").status_code == 403
    missing = ask("GET", "../w/f".replace("..", "%2e%2e"))
    assert missing.status_code == 400
    absent = ask("GET", "absent")
    assert absent.json()["details"][0]["reason"] == "FILES_API_FILE_NOT_FOUND"


def test_of_many_writers_with_one_tag_one_wins() -> None:
    """Eight concurrent writes with the same `If-Match`: one 200, seven 412, and the winner's bytes stay."""
    with reach("server") as fake:
        fake.control.fidelity(files_api_3=True)
        tag = asked(fake, "PUT", "f", data=b"start").headers["ETag"]
        start = threading.Barrier(8)

        def write(n: int) -> int:
            start.wait()
            with requests.Session() as session:
                answer = session.put(
                    f"{fake.workspace.storage_url}/api/3.0/fs/files{ROOT}/f",
                    headers={"Authorization": f"Bearer {fake.workspace.token}", "If-Match": tag},
                    data=b"%d" % n,
                    timeout=30,
                )
            return answer.status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(write, range(8)))
        assert sorted(statuses) == [200] + [412] * 7
        assert asked(fake, "GET", "f").content == b"%d" % statuses.index(200)
