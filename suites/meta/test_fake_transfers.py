"""Presigned downloads and uploads in parts, as the real databricks-sdk sends them (0.156 and 0.162)."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from databricks.sdk import errors
from databricks.sdk.version import __version__ as sdk_version

from lockproof.suites.meta.fake_bed import FILES, ROOT, VOLUME, Bed

DATA = bytes(range(256)) * 20
PARTS: dict[str, Any] = {
    "files_ext_multipart_upload_min_stream_size": 1000,
    "files_ext_multipart_upload_default_part_size": 1500,
}
OLD_SDK = tuple(int(part) for part in sdk_version.split(".")[:2]) < (0, 160)


def operations(bed: Bed) -> list[str | None]:
    return [entry.operation for entry in bed.control.requests() if entry.operation != "Host metadata"]


def presign_download(bed: Bed, path: str = "f") -> str:
    answer = bed.http("POST", "/api/2.0/fs/create-download-url", params={"path": f"{ROOT}/{path}"})
    return str(answer.json()["url"])


def open_session(bed: Bed, query: str = "") -> str:
    answer = bed.http("POST", f"{FILES}/f?action=initiate-upload{query}")
    return str(answer.json()["multipart_upload"]["session_token"])


def presign_part(bed: Bed, token: str, number: int = 1) -> str:
    body = {"path": f"{ROOT}/f", "session_token": token, "start_part_number": number, "count": 1}
    answer = bed.http("POST", "/api/2.0/fs/create-upload-part-urls", json=body)
    return str(answer.json()["upload_part_urls"][0]["url"])


@pytest.mark.parametrize("cloud", ["aws", "azure"])
@pytest.mark.parametrize("parallel", [True, False])
def test_sdk_uploads_in_parts(fake: Bed, cloud: str, parallel: bool) -> None:
    """Above its threshold the SDK uploads in parts, and the file is the parts in their order."""
    fake.control.fidelity(cloud=cloud)
    client = fake.client(**PARTS)
    client.files.upload(f"{ROOT}/f", io.BytesIO(DATA), part_size=1500, use_parallel=parallel)
    assert fake.http("GET", f"{FILES}/f").content == DATA
    done = operations(fake)
    assert done.count("Upload a part by presigned URL") == 4
    assert done.count("Initiate, complete or abort an upload") == 2
    assert "Upload a file" not in done
    parts = fake.control.requests(host="storage", method="PUT")
    assert sorted(entry.bytes_in for entry in parts) == [620, 1500, 1500, 1500]
    assert {entry.principal for entry in parts} == {None}


def test_sdk_upload_of_a_stream_without_length(fake: Bed) -> None:
    """A stream that cannot be sought is uploaded in parts, too."""

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.inner = io.BytesIO(DATA)

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def read(self, size: int = -1) -> bytes:
            return self.inner.read(size)

    fake.client(**PARTS).files.upload(f"{ROOT}/f", Stream(), part_size=1500)  # type: ignore[arg-type]
    assert fake.http("GET", f"{FILES}/f").content == DATA
    assert "Upload a part by presigned URL" in operations(fake)


def test_sdk_uploads_on_gcp(fake: Bed) -> None:
    """On GCP the SDK of 0.156 sends chunks in a resumable session, that of 0.162 falls back to one PUT."""
    fake.control.fidelity(cloud="gcp")
    fake.client(**PARTS).files.upload(f"{ROOT}/f", io.BytesIO(DATA), part_size=1500, use_parallel=False)
    assert fake.http("GET", f"{FILES}/f").content == DATA
    chunks = fake.control.requests(host="storage", method="PUT")
    if OLD_SDK:
        assert [entry.status for entry in chunks] == [308, 308, 308, 200]
    else:
        assert (chunks, operations(fake)[-2]) == ([], "Upload a file")


def test_resumable_session_reports_what_it_has(fake: Bed) -> None:
    """A resumable session tells the bytes received, takes them again, and ends with the file."""
    fake.control.fidelity(cloud="gcp")
    opened = fake.http("POST", f"{FILES}/f?action=initiate-upload&overwrite=false").json()
    body = {"path": f"{ROOT}/f", "session_token": opened["resumable_upload"]["session_token"]}
    made = fake.http("POST", "/api/2.0/fs/create-resumable-upload-url", json=body).json()
    url = made["resumable_upload_url"]["url"]

    def send(content_range: str, data: bytes) -> requests.Response:
        return fake.session.put(url, data=data, headers={"Content-Range": content_range}, timeout=30)

    assert "Range" not in send("bytes */*", b"").headers
    assert send("bytes 0-3/*", b"0123").headers["Range"] == "bytes=0-3"
    assert send("bytes 2-5/*", b"2345").headers["Range"] == "bytes=0-5"
    assert send("bytes 9-9/*", b"9").status_code == 400
    assert send("bytes */*", b"").status_code == 308
    fake.http("PUT", f"{FILES}/f", data=b"in between")
    assert send("bytes 6-7/8", b"67").status_code == 412
    fake.http("DELETE", f"{FILES}/f")
    assert send("bytes 6-7/8", b"67").status_code == 200
    assert fake.http("GET", f"{FILES}/f").content == b"01234567"
    assert send("bytes */*", b"").status_code == 404


@pytest.mark.parametrize("moment", ["before", "in-between"])
def test_create_only_upload_in_parts_refuses_an_existing_file(fake: Bed, moment: str) -> None:
    """overwrite=false in parts: AlreadyExists when the file is there at the start, or appears meanwhile."""
    files = fake.client(**PARTS).files
    with ThreadPoolExecutor(1) as pool:
        if moment == "before":
            fake.http("PUT", f"{FILES}/f", data=b"old")
        else:
            held = fake.control.add_fault(host="storage", method="PUT", hold=True)
        upload = pool.submit(files.upload, f"{ROOT}/f", io.BytesIO(DATA), overwrite=False)
        if moment == "in-between":
            fake.control.await_held(held)
            fake.http("PUT", f"{FILES}/f", data=b"old")
            fake.control.release(held)
        with pytest.raises(errors.AlreadyExists):
            upload.result(30)
    assert fake.http("GET", f"{FILES}/f").content == b"old"
    if moment == "before":
        assert fake.control.requests(host="storage") == []
    else:
        aborted = "Abort an upload by presigned URL" if OLD_SDK else "Initiate, complete or abort an upload"
        assert operations(fake)[-2] == aborted
    assert fake.workspace.transfers.sessions == {}


def test_sdk_downloads_by_presigned_url(fake: Bed) -> None:
    """The SDK's default download asks for a URL and reads it at the storage address without a token."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    contents = fake.client().files.download(f"{ROOT}/f").contents
    assert contents is not None
    assert contents.read() == DATA
    assert operations(fake)[1:] == ["Presigned download URL", "Download by presigned URL"]


@pytest.mark.parametrize("switched_off", [True, False])
def test_sdk_falls_back_when_presigned_urls_fail(fake: Bed, switched_off: bool) -> None:
    """Without presigned URLs, or with a storage that refuses, the SDK reads by the Files API."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    if switched_off:
        fake.control.fidelity(presigned_urls=False)
    else:
        fake.control.add_fault(host="storage", status=403, times=None)
    contents = fake.client().files.download(f"{ROOT}/f").contents
    assert contents is not None
    assert contents.read() == DATA
    assert operations(fake)[-1] == "Download a file"


def test_sdk_resumes_a_download_that_breaks_off(fake: Bed) -> None:
    """A download cut short goes on by Range from where it broke, and is whole."""
    data = DATA * 1000
    fake.http("PUT", f"{FILES}/f", data=data)
    fake.control.add_fault(host="storage", method="GET", truncate=3_000_000)
    contents = fake.client().files.download(f"{ROOT}/f").contents
    assert contents is not None
    assert contents.read() == data
    statuses = [entry.status for entry in fake.control.requests(host="storage")]
    assert statuses == [200, 206]


@pytest.mark.parametrize(
    ("cloud", "code"), [("aws", "AccessDenied"), ("azure", "AuthenticationFailed"), ("gcp", "AccessDenied")]
)
def test_presigned_url_expires_on_the_clock(fake: Bed, cloud: str, code: str) -> None:
    """A presigned URL works until the hour is over, then the storage answers its cloud's XML error."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    fake.control.fidelity(cloud=cloud)
    url = presign_download(fake)
    fake.control.advance_clock(3590)
    assert fake.session.get(url, timeout=30).content == DATA
    fake.control.advance_clock(20)
    expired = fake.session.get(url, timeout=30)
    assert expired.status_code == 403
    assert f"<Code>{code}</Code>" in expired.text
    wanted = "Signature not valid in the specified time frame" if cloud == "azure" else "Request has expired"
    assert wanted in expired.text


def test_sdk_asks_for_a_new_part_url_when_one_expired(fake: Bed) -> None:
    """An expired part URL makes the SDK ask for another; the upload succeeds."""
    xml = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    fake.control.add_fault(host="storage", method="PUT", status=403, body=xml, first=2)
    fake.client(**PARTS).files.upload(f"{ROOT}/f", io.BytesIO(DATA), part_size=1500, use_parallel=False)
    assert fake.http("GET", f"{FILES}/f").content == DATA
    sent = fake.control.requests(host="storage", method="PUT")
    assert [entry.status for entry in sent] == [200, 403, 200, 200, 200]
    between = operations(fake)[operations(fake).index("Upload a part by presigned URL") :]
    assert "Presigned part URLs" in between
    assert "Upload a file" not in between


def test_presigned_url_is_good_for_its_request_only(fake: Bed) -> None:
    """Another method, path or number, a missing signature, or a token sent along are refused."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    fake.http("PUT", f"{FILES}/g", data=b"secret")
    url = presign_download(fake)
    assert fake.session.get(url, timeout=30).status_code == 200
    assert "SignatureDoesNotMatch" in fake.session.delete(url, timeout=30).text
    assert "SignatureDoesNotMatch" in fake.session.get(url.replace("/f?", "/g?"), timeout=30).text
    assert "AccessDenied" in fake.session.get(url.partition("?")[0], timeout=30).text
    with_token = fake.session.get(url, headers={"Authorization": "Bearer x"}, timeout=30)
    assert (with_token.status_code, "Only one auth mechanism" in with_token.text) == (400, True)
    part = presign_part(fake, open_session(fake))
    assert "SignatureDoesNotMatch" in fake.session.put(part.replace("Number=1", "Number=2"), timeout=30).text
    assert fake.session.get(url.replace("X-Amz-Expires=", "X-Amz-Expires=9"), timeout=30).status_code == 403


def test_storage_answers_missing_objects_and_sessions(fake: Bed) -> None:
    """A file deleted after signing is NoSuchKey, an aborted session NoSuchUpload."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    url = presign_download(fake)
    fake.http("DELETE", f"{FILES}/f")
    assert "NoSuchKey" in fake.session.get(url, timeout=30).text
    token = open_session(fake)
    part = presign_part(fake, token)
    query = f"action=abort-upload&upload_type=multipart&session_token={token}"
    assert fake.http("POST", f"{FILES}/other?{query}").status_code == 404
    assert fake.http("POST", f"{FILES}/f?{query}").status_code == 200
    assert "NoSuchUpload" in fake.session.put(part, data=b"1", timeout=30).text
    assert fake.http("POST", f"{FILES}/f?{query}").status_code == 404


def test_complete_demands_the_parts_that_were_sent(fake: Bed) -> None:
    """Completing with an unknown part, another etag or no parts is refused and creates nothing."""
    token = open_session(fake)
    etag = fake.session.put(presign_part(fake, token), data=b"1", timeout=30).headers["ETag"]
    complete = f"{FILES}/f?action=complete-upload&upload_type=multipart&session_token={token}"
    for parts in ([], [{"part_number": 2, "etag": etag}], [{"part_number": 1, "etag": "other"}]):
        assert fake.http("POST", complete, json={"parts": parts}).status_code == 400
    assert fake.control.files(VOLUME) == {}
    done = fake.http("POST", complete, json={"parts": [{"part_number": 1, "etag": etag}]})
    assert done.status_code == 200
    assert fake.control.files(VOLUME) == {"f": 1}


def test_presigning_needs_the_grants(fake: Bed) -> None:
    """A reader may presign a download and no upload."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    grants = {"main": ["USE_CATALOG"], "main.default": ["USE_SCHEMA"], VOLUME: ["READ_VOLUME"]}
    reader = fake.control.create_principal("reader@example.com", grants=grants)
    asked = fake.http("POST", f"/api/2.0/fs/create-download-url?path={ROOT}/f", token=reader)
    assert asked.status_code == 200
    refused = fake.http("POST", f"{FILES}/g?action=initiate-upload", token=reader)
    assert (refused.status_code, refused.json()["error_code"]) == (403, "PERMISSION_DENIED")


def test_presigned_urls_never_reach_the_log(fake: Bed) -> None:
    """The request log holds neither the signature of a URL nor the token of a session."""
    fake.http("PUT", f"{FILES}/f", data=DATA)
    url = presign_download(fake)
    fake.session.get(url, timeout=30)
    token = open_session(fake)
    fake.http("POST", f"{FILES}/f?action=abort-upload&session_token={token}")
    signature = dict(parse_qsl(urlsplit(url).query))["X-Amz-Signature"]
    log = repr(fake.control.requests())
    assert signature not in log
    assert token not in log
    assert fake.workspace.token not in log
    assert fake.control.requests()[-1].query == {"action": "abort-upload", "session_token": "***"}
