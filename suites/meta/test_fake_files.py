"""The fake's Files API 2.0, by the real databricks-sdk and by plain requests."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
import requests
from databricks.sdk import errors

from lockproof.suites.meta.fake_bed import DIRECTORIES, FILES, ROOT, VOLUME, Bed


def reasons(body: dict[str, Any]) -> list[str]:
    return [detail["reason"] for detail in body.get("details", []) if "reason" in detail]


def read(bed: Bed, path: str, **settings: Any) -> bytes:
    contents = bed.client(**settings).files.download(f"{ROOT}/{path}").contents
    assert contents is not None
    return contents.read()


@pytest.mark.parametrize("plain", [True, False], ids=["single-requests", "presigned"])
@pytest.mark.parametrize(
    "name", ["state.tfstate", "a b/%41%2F.json", "ünïcode/状態", "x:y@z/+&=?#;", "dots../.hidden"]
)
def test_sdk_round_trip_keeps_bytes_under_any_name(fake: Bed, name: str, plain: bool) -> None:
    """What the SDK uploads under any name reads back byte for byte, and is listed under that name."""
    client = fake.client(disable_experimental_files_api_client=plain)
    data = bytes(range(256)) * 5
    client.files.upload(f"{ROOT}/{name}", io.BytesIO(data))
    assert read(fake, name, disable_experimental_files_api_client=plain) == data
    assert fake.control.files(VOLUME) == {name: len(data)}
    folder, _, leaf = f"{ROOT}/{name}".rpartition("/")
    (entry,) = client.files.list_directory_contents(folder)
    assert (entry.name, entry.path, entry.file_size) == (leaf, f"{ROOT}/{name}", len(data))
    assert entry.is_directory is False
    client.files.delete(f"{ROOT}/{name}")
    assert fake.control.files(VOLUME) == {}


def test_empty_file_is_a_file(fake: Bed) -> None:
    """Zero bytes read back as zero bytes and are listed with size 0."""
    client = fake.client()
    client.files.upload(f"{ROOT}/empty", io.BytesIO(b""))
    assert read(fake, "empty") == b""
    assert client.files.get_metadata(f"{ROOT}/empty").content_length == 0
    assert [entry.file_size for entry in client.files.list_directory_contents(ROOT)] == [0]


def test_large_file_travels_whole(fake: Bed) -> None:
    """20 MB in one PUT and one GET arrive whole."""
    data = bytes(range(250)) * 80_000
    assert fake.http("PUT", f"{FILES}/big", data=data).status_code == 204
    assert fake.http("GET", f"{FILES}/big").content == data


def test_upload_without_overwrite_replaces(fake: Bed) -> None:
    """`overwrite` missing means overwrite, `overwrite=false` on an existing file is the recorded 409."""
    assert fake.http("PUT", f"{FILES}/f", data=b"1").status_code == 204
    answer = fake.http("PUT", f"{FILES}/f", data=b"2")
    assert (answer.status_code, answer.content) == (204, b"")
    refused = fake.http("PUT", f"{FILES}/f?overwrite=false", data=b"3")
    assert refused.status_code == 409
    assert refused.json() == {
        "error_code": "ALREADY_EXISTS",
        "message": "The file being created already exists.",
    }
    assert fake.http("GET", f"{FILES}/f").content == b"2"
    with pytest.raises(errors.AlreadyExists):
        fake.client().files.upload(f"{ROOT}/f", io.BytesIO(b"4"), overwrite=False)


def test_three_missing_things_are_told_apart(fake: Bed) -> None:
    """A missing file, a missing directory and a missing volume are three different 404s."""
    file = fake.http("GET", f"{FILES}/none")
    directory = fake.http("GET", f"{DIRECTORIES}/none")
    volume = fake.http("GET", "/api/2.0/fs/files/Volumes/main/default/typo/none")
    schema = fake.http("GET", "/api/2.0/fs/files/Volumes/main/typo/v/none")
    assert [answer.status_code for answer in (file, directory, volume, schema)] == [404] * 4
    assert file.json()["message"] == "The file being accessed is not found."
    assert reasons(file.json()) == ["FILES_API_FILE_NOT_FOUND"]
    assert reasons(directory.json()) == ["FILES_API_DIRECTORY_IS_NOT_FOUND"]
    assert volume.json()["message"] == "Volume 'main.default.typo' does not exist."
    assert reasons(volume.json()) == []
    assert schema.json()["message"] == "Schema 'main.typo' does not exist."
    assert {answer.json()["error_code"] for answer in (file, directory, volume)} == {"NOT_FOUND"}


def test_head_answers_without_a_body(fake: Bed) -> None:
    """HEAD has the headers of GET, no ETag, and a bare 404."""
    fake.http("PUT", f"{FILES}/f", data=b"12345")
    head = fake.http("HEAD", f"{FILES}/f")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "5")
    assert "Last-Modified" in head.headers
    assert "ETag" not in head.headers
    missing = fake.http("HEAD", f"{FILES}/none")
    assert (missing.status_code, missing.content) == (404, b"")
    with pytest.raises(errors.NotFound, match="Not Found"):
        fake.client().files.get_metadata(f"{ROOT}/none")


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=3-5", 206, b"345", "bytes 3-5/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("items=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
    ],
)
def test_range_is_served(fake: Bed, asked: str, status: int, content: bytes | None, told: str | None) -> None:
    """A range answers 206 with its part, one outside of the file 416, another unit the whole file."""
    fake.http("PUT", f"{FILES}/f", data=b"0123456789")
    answer = fake.http("GET", f"{FILES}/f", headers={"Range": asked})
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, told)
    if content is not None:
        assert (answer.content, answer.headers["Content-Length"]) == (content, str(len(content)))


def test_unmodified_since_has_seconds_only(fake: Bed) -> None:
    """If-Unmodified-Since refuses an older time with 412 and misses a change within the same second."""
    fake.control.freeze_clock()
    fake.http("PUT", f"{FILES}/f", data=b"1")
    modified = fake.http("HEAD", f"{FILES}/f").headers["Last-Modified"]
    fake.http("PUT", f"{FILES}/f", data=b"2")
    same_second = fake.http("GET", f"{FILES}/f", headers={"If-Unmodified-Since": modified})
    assert (same_second.status_code, same_second.content) == (200, b"2")
    fake.control.advance_clock(5)
    fake.http("PUT", f"{FILES}/f", data=b"3")
    assert fake.http("GET", f"{FILES}/f", headers={"If-Unmodified-Since": modified}).status_code == 412
    later = formatdate(fake.control.now() + 5, usegmt=True)
    assert fake.http("GET", f"{FILES}/f", headers={"If-Unmodified-Since": later}).status_code == 200


def test_delete_of_a_missing_file_is_404(fake: Bed) -> None:
    """DELETE answers 204 once and then 404."""
    fake.http("PUT", f"{FILES}/f", data=b"1")
    assert fake.http("DELETE", f"{FILES}/f").status_code == 204
    again = fake.http("DELETE", f"{FILES}/f")
    assert (again.status_code, reasons(again.json())) == (404, ["FILES_API_FILE_NOT_FOUND"])


def test_directories_are_made_listed_and_removed(fake: Bed) -> None:
    """mkdir -p is repeatable, an empty directory lists as {}, a full one cannot be removed."""
    files = fake.client().files
    files.create_directory(f"{ROOT}/a/b")
    files.create_directory(f"{ROOT}/a/b")
    assert fake.http("GET", f"{DIRECTORIES}/a/b").json() == {}
    files.get_directory_metadata(f"{ROOT}/a")
    (entry,) = files.list_directory_contents(f"{ROOT}/a")
    assert (entry.name, entry.is_directory, entry.file_size) == ("b", True, None)
    full = fake.http("DELETE", f"{DIRECTORIES}/a")
    assert full.status_code == 400
    assert full.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert reasons(full.json()) == ["FILES_API_DIRECTORY_IS_NOT_EMPTY"]
    files.delete_directory(f"{ROOT}/a/b")
    files.delete_directory(f"{ROOT}/a")
    with pytest.raises(errors.NotFound):
        files.get_directory_metadata(f"{ROOT}/a")
    fake.http("PUT", f"{FILES}/f", data=b"1")
    over_file = fake.http("PUT", f"{DIRECTORIES}/f")
    assert over_file.status_code == 409
    assert over_file.json()["message"] == (
        "The given path points to an existing file. This API does not support operations on files."
    )


@pytest.mark.parametrize("switches", [{}, {"empty_pages": True}, {"max_page": 2}, {"unordered_lists": True}])
def test_every_page_is_followed(fake: Bed, switches: dict[str, Any]) -> None:
    """Short and empty pages with tokens lead to every file exactly once."""
    names = [f"f{number:02}" for number in range(10)]
    for name in names:
        fake.http("PUT", f"{FILES}/{name}", data=b"")
    fake.control.fidelity(**switches)
    listed = [entry.name for entry in fake.client().files.list_directory_contents(ROOT, page_size=3)]
    assert sorted(str(name) for name in listed) == names
    assert (listed == names) is not switches.get("unordered_lists", False)
    pages: list[int] = []
    query: dict[str, str] | None = {"page_size": "3"}
    while query:
        page = fake.http("GET", DIRECTORIES, params=query).json()
        pages.append(len(page.get("contents", [])))
        token = page.get("next_page_token")
        query = {"page_size": "3", "page_token": token} if token else None
    assert max(pages) == switches.get("max_page", 3)
    assert (0 in pages) is switches.get("empty_pages", False)


def test_page_token_belongs_to_its_listing(fake: Bed) -> None:
    """A page token with another page size or directory is refused."""
    for name in ("a", "b", "d/c"):
        fake.http("PUT", f"{FILES}/{name}", data=b"")
    token = fake.http("GET", f"{DIRECTORIES}?page_size=1").json()["next_page_token"]
    assert fake.http("GET", f"{DIRECTORIES}?page_size=2&page_token={token}").status_code == 400
    assert fake.http("GET", f"{DIRECTORIES}/d?page_size=1&page_token={token}").status_code == 400
    assert fake.http("GET", f"{DIRECTORIES}?page_size=1&page_token={token}").status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/Workspace/x", "Invalid path: unsupported first path component: Workspace"),
        ("/Volumes/main/default", "Invalid path"),
        (f"{ROOT}", "Invalid path"),
        (f"{ROOT}/a//b", "Invalid path"),
        (f"{ROOT}/a/%2E%2E/b", "Invalid path"),
    ],
)
def test_bad_path_is_refused(fake: Bed, path: str, message: str) -> None:
    """A path that names no file in a volume is 400 FILES_API_INVALID_PATH."""
    answer = fake.http("PUT", f"/api/2.0/fs/files{path}", data=b"")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert answer.json()["message"].startswith(message)
    assert reasons(answer.json()) == ["FILES_API_INVALID_PATH"]


def test_volume_names_ignore_case_and_file_names_do_not(fake: Bed) -> None:
    """`/Volumes/MAIN/Default/V/a` and `/Volumes/main/default/v/A` are two files of one volume."""
    fake.http("PUT", "/api/2.0/fs/files/Volumes/MAIN/Default/V/a", data=b"lower")
    fake.http("PUT", f"{FILES}/A", data=b"upper")
    assert fake.control.files(VOLUME) == {"a": 5, "A": 5}
    assert fake.http("GET", f"{FILES}/a").content == b"lower"


def test_file_and_directory_do_not_share_a_path(fake: Bed) -> None:
    """A file cannot be written over a directory, nor below a file."""
    fake.http("PUT", f"{FILES}/d/f", data=b"1")
    assert fake.http("PUT", f"{FILES}/d", data=b"2").status_code == 409
    assert fake.http("PUT", f"{FILES}/d/f/g", data=b"3").status_code == 409
    assert fake.control.files(VOLUME) == {"d/f": 1}


def test_one_of_many_racing_creates_wins(fake: Bed) -> None:
    """Of 50 create-only uploads at once exactly one succeeds, and its content is what stays."""
    url = f"{fake.workspace.url}{FILES}/f?overwrite=false"
    headers = {"Authorization": f"Bearer {fake.workspace.token}"}
    start = threading.Barrier(10)

    def race(runner: int) -> dict[bytes, int]:
        with requests.Session() as session:
            start.wait(30)
            mine = [f"{runner}-{number}".encode() for number in range(5)]
            return {data: session.put(url, data=data, headers=headers).status_code for data in mine}

    with ThreadPoolExecutor(10) as pool:
        outcomes = {data: status for result in pool.map(race, range(10)) for data, status in result.items()}
    assert sorted(outcomes.values()) == [204] + [409] * 49
    assert outcomes[fake.http("GET", f"{FILES}/f").content] == 204


def test_every_answer_carries_the_workspace_headers(fake: Bed) -> None:
    """Success, error and unknown file alike carry the headers of a Databricks workspace."""
    answers = [fake.http("PUT", f"{FILES}/f", data=b""), fake.http("GET", f"{FILES}/none")]
    for answer in answers:
        assert answer.headers["Server"] == "databricks"
        assert answer.headers["X-Databricks-Org-Id"] == fake.workspace.id
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert {"Server-Timing", "Strict-Transport-Security"} <= {name.title() for name in answer.headers}
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == 2
