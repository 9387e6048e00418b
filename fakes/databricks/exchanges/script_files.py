"""The script's part on files: Files API 2.0 and 3.0, directories, presigned URLs and uploads in parts.

Every scenario has a folder of its own, so that an answer that is wrong spoils no other scenario.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockproof.fakes.databricks.exchanges.player import Step
from lockproof.fakes.databricks.exchanges.recording import Ask

V2 = "docs.databricks.com/api/files/v2"
V3 = "docs.databricks.com/volumes/files-api/conditional-requests"
SDK = "databricks-sdk mixins/files.py FilesExt"
S3 = "docs.aws.amazon.com/AmazonS3/latest/API"
ERRORS = "databricks-sdk errors/; databricks/cli libs/testserver; recorded answers"
LONG_AGO, FAR_AHEAD = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
MISSING = "/Volumes/${catalog-name}/${schema-name}/lockproof_no_such_volume"

Options = dict[str, Any]


def ask(name: str, method: str, url: str, status: int, code: str | int | None = None, **options: Any) -> Step:
    """A step; `takes` of the options is the step's, all others are the request's."""
    takes = tuple(options.pop("takes", {}).items())
    return Step(Ask(name, method, url, **options), status, code, takes)


def file2(name: str, method: str, path: str, status: int, code: str | None = None, **options: Any) -> Step:
    pages = {"PUT": "upload-file", "GET": "download-file", "DELETE": "delete-file"}
    options.setdefault("source", f"{V2}/{pages.get(method, 'get-file-metadata')}")
    return ask(name, method, "${host}/api/2.0/fs/files" + path, status, code, **options)


def folder(name: str, method: str, path: str, status: int, code: str | None = None, **options: Any) -> Step:
    pages = {"PUT": "create-directory", "GET": "list-directory-contents", "DELETE": "delete-directory"}
    options.setdefault("source", f"{V2}/{pages.get(method, 'get-directory-metadata')}")
    return ask(name, method, "${host}/api/2.0/fs/directories" + path, status, code, **options)


def file3(name: str, method: str, path: str, status: int, code: str | None = None, **options: Any) -> Step:
    options.setdefault("source", V3)
    return ask(name, method, "${storage}/api/3.0/fs/files" + path, status, code, **options)


def files_2() -> Iterator[Step]:
    """Upload, download, metadata, deletion, and what is refused."""
    real: Options = {"basis": "recorded", "source": f"{V2}; {ERRORS}"}
    a = "${root}/put/a.json"
    yield file2("a new file", "PUT", a, 204, body="first")
    yield file2("its content", "GET", a, 200)
    yield file2("its metadata, without a tag", "HEAD", a, 200)
    yield file2("overwrite unspecified replaces", "PUT", a, 204, body="second, longer")
    yield file2("the content after replacing", "GET", a, 200)
    yield file2("overwrite=true replaces", "PUT", a, 204, body="third", query={"overwrite": "true"})
    yield file2("the content after overwrite=true", "GET", a, 200)
    once = "${root}/create/once.json"
    create: Options = {"query": {"overwrite": "false"}}
    yield file2("overwrite=false creates", "PUT", once, 204, body="winner", **create)
    yield file2(
        "overwrite=false on an existing file",
        "PUT",
        once,
        409,
        "ALREADY_EXISTS",
        body="loser",
        **create,
        **real,
    )
    yield file2("the first writer's content stays", "GET", once, 200)
    yield file2("a file of no bytes", "PUT", "${root}/empty/f", 204, body="")
    yield file2("the content of a file of no bytes", "GET", "${root}/empty/f", 200)
    name = "${root}/names/a%20b%3A100%25%C3%BC.json"
    yield file2("a name that is percent-encoded once", "PUT", name, 204, body="encoded")
    yield file2("the content under that name", "GET", name, 200)
    ranged = "${root}/range/digits"
    yield file2("ten bytes", "PUT", ranged, 204, body="0123456789")
    yield file2("a range", "GET", ranged, 206, headers={"Range": "bytes=2-5"})
    yield file2("a range without an end", "GET", ranged, 206, headers={"Range": "bytes=7-"})
    yield file2("the last bytes", "GET", ranged, 206, headers={"Range": "bytes=-3"})
    yield file2("a range beyond the end is cut", "GET", ranged, 206, headers={"Range": "bytes=8-99"})
    yield file2(
        "a range outside of the file", "GET", ranged, 416, headers={"Range": "bytes=10-20"}, basis="inferred"
    )
    since: Options = {"headers": {"If-Unmodified-Since": LONG_AGO}}
    yield file2("If-Unmodified-Since long ago", "GET", ranged, 412, basis="inferred", **since)
    yield file2(
        "If-Unmodified-Since far ahead", "GET", ranged, 200, headers={"If-Unmodified-Since": FAR_AHEAD}
    )
    gone = "${root}/delete/f"
    yield file2("a file to delete", "PUT", gone, 204, body="x")
    yield file2("deletion", "DELETE", gone, 204)
    yield file2("a deleted file", "GET", gone, 404, "NOT_FOUND", **real)
    yield file2("deletion of what is not there", "DELETE", gone, 404, "NOT_FOUND", **real)
    yield file2("metadata of what is not there", "HEAD", gone, 404)
    yield file2("a file in a missing volume", "GET", f"{MISSING}/f", 404, "NOT_FOUND", **real)
    yield file2("a write to a missing volume", "PUT", f"{MISSING}/f", 404, "NOT_FOUND", body="x", **real)
    yield file2("a path outside of /Volumes", "GET", "/Workspace/f", 400, "BAD_REQUEST", **real)
    yield file2("the root of the volume as a file", "GET", "/Volumes/${catalog-name}", 400, basis="inferred")
    yield file2("a read without credentials", "GET", a, 401, who="nobody", **real)
    yield file2(
        "a read by a principal without grants", "GET", a, 403, "PERMISSION_DENIED", who="stranger", **real
    )
    yield file2(
        "a write by a principal without grants",
        "PUT",
        a,
        403,
        "PERMISSION_DENIED",
        who="stranger",
        body="x",
        **real,
    )
    yield file2(
        "a deletion by a principal without grants",
        "DELETE",
        a,
        403,
        "PERMISSION_DENIED",
        who="stranger",
        **real,
    )
    yield file2("the content after refused changes", "GET", a, 200)
    wrong: Options = {"headers": {"Authorization": "Bearer dapi00000000000000000000000000000000"}}
    yield file2("a wrong token: 403 and a number as code", "GET", a, 403, who="nobody", **wrong, **real)
    yield ask(
        "an unknown operation",
        "GET",
        "${host}/api/2.0/fs/lockproof-no-such-operation",
        404,
        "ENDPOINT_NOT_FOUND",
        basis="recorded",
        source=ERRORS,
    )


def directories() -> Iterator[Step]:
    """Creation, listing in pages, deletion."""
    real: Options = {"basis": "recorded", "source": f"{V2}; {ERRORS}"}
    top = "${root}/dirs"
    yield folder("a directory and those above it", "PUT", f"{top}/x/y", 204)
    yield folder("the same once more", "PUT", f"{top}/x/y", 204)
    yield folder("a directory is there", "HEAD", f"{top}/x/y", 200)
    yield folder("an empty directory", "GET", f"{top}/x/y", 200)
    yield folder("a missing directory", "GET", f"{top}/none", 404, "NOT_FOUND", **real)
    yield folder("a directory is not there", "HEAD", f"{top}/none", 404)
    yield folder(
        "deletion of one that is not empty", "DELETE", f"{top}/x", 400, "INVALID_PARAMETER_VALUE", **real
    )
    yield folder("the inner one is still there", "HEAD", f"{top}/x/y", 200)
    yield folder("deletion of an empty one", "DELETE", f"{top}/x/y", 204)
    yield folder("deletion of a missing one", "DELETE", f"{top}/x/y", 404, "NOT_FOUND", **real)
    yield file2(
        "an upload makes its directories", "PUT", f"{top}/made/deep/f", 204, body="x", basis="inferred"
    )
    yield folder("such a directory", "HEAD", f"{top}/made/deep", 200, basis="inferred")
    yield folder("a directory over a file", "PUT", f"{top}/made/deep/f", 409, "ALREADY_EXISTS", **real)
    yield file2(
        "a file over a directory",
        "PUT",
        f"{top}/made/deep",
        409,
        "ALREADY_EXISTS",
        body="x",
        basis="inferred",
    )
    paged = "${root}/pages"
    for name in ("a", "b", "c", "d"):
        yield file2(f"file {name} to list", "PUT", f"{paged}/{name}", 204, body=name * 3)
    yield folder("directory e to list", "PUT", f"{paged}/e", 204)
    yield folder("all entries in one page", "GET", paged, 200)
    size = {"page_size": "2"}
    token = {"page_token": "${page-two}"}
    yield folder("the first page", "GET", paged, 200, query=size, takes={"page-two": "next_page_token"})
    yield folder(
        "the second page", "GET", paged, 200, query={**size, **token}, takes={"page-three": "next_page_token"}
    )
    yield folder("the last page", "GET", paged, 200, query={**size, "page_token": "${page-three}"})
    yield folder("a page size above the limit", "GET", paged, 200, query={"page_size": "5000"})
    yield folder(
        "a token with another page size",
        "GET",
        paged,
        400,
        query={"page_size": "3", **token},
        basis="inferred",
    )
    yield folder("a token that is none", "GET", paged, 400, query={"page_token": "none"}, basis="inferred")
    yield folder("a listing without grants", "GET", paged, 403, "PERMISSION_DENIED", who="stranger", **real)
    yield folder("a listing of a missing volume", "GET", MISSING, 404, "NOT_FOUND", **real)


def files_3() -> Iterator[Step]:
    """Entity tags and preconditions."""
    f = "${root}/v3/f"
    if_match, if_none = "If-Match", "If-None-Match"
    yield file3("a new file (3.0)", "PUT", f, 200, body="one", takes={"etag-one": "header:ETag"})
    yield file3("its content and tag (3.0)", "GET", f, 200)
    yield file3("its metadata and tag (3.0)", "HEAD", f, 200)
    yield file3(
        "If-Match with the tag replaces",
        "PUT",
        f,
        200,
        body="two",
        headers={if_match: "${etag-one}"},
        takes={"etag-two": "header:ETag"},
    )
    yield file3("If-Match with the old tag", "PUT", f, 412, body="stale", headers={if_match: "${etag-one}"})
    yield file3("the content after a refused write (3.0)", "GET", f, 200)
    yield file3("If-None-Match: * on an existing file", "PUT", f, 412, body="stale", headers={if_none: "*"})
    yield file3("If-None-Match: * creates", "PUT", "${root}/v3/new", 200, body="x", headers={if_none: "*"})
    yield file3(
        "If-Match: * on a missing file", "PUT", "${root}/v3/no", 412, body="x", headers={if_match: "*"}
    )
    yield file3("not modified", "GET", f, 304, headers={if_none: "${etag-two}"})
    yield file3("modified", "GET", f, 200, headers={if_none: "${etag-one}"})
    yield file3("a read with the tag", "GET", f, 200, headers={if_match: "${etag-two}"})
    yield file3("a read with the old tag", "GET", f, 412, headers={if_match: "${etag-one}"})
    yield file3("deletion with the old tag", "DELETE", f, 412, headers={if_match: "${etag-one}"})
    yield file3("deletion with the tag", "DELETE", f, 204, headers={if_match: "${etag-two}"})
    missing: Options = {"basis": "documented", "source": f"{V3}; docs.databricks.com/api/files/v3"}
    yield file3("deletion of a missing file (3.0)", "DELETE", f, 204, **missing)
    yield file3(
        "deletion of a missing file with If-Match: *", "DELETE", f, 404, headers={if_match: "*"}, **missing
    )
    yield file3("a missing file (3.0)", "GET", f, 404, "NOT_FOUND", basis="inferred")
    yield file3("a read without credentials (3.0)", "GET", f, 401, who="nobody", basis="inferred")
    yield file3(
        "a write without grants (3.0)",
        "PUT",
        f,
        403,
        "PERMISSION_DENIED",
        who="stranger",
        body="x",
        basis="inferred",
    )


def transfers() -> Iterator[Step]:
    """Presigned URLs and uploads in parts, as databricks-sdk uses them."""
    sdk: Options = {"basis": "sdk", "source": SDK}
    fs, path = "${host}/api/2.0/fs", "${root}/transfer/f"
    until = "2099-01-01T00:00:00Z"
    yield file2("a file to download", "PUT", path, 204, body="presigned")
    yield ask(
        "a presigned download",
        "POST",
        f"{fs}/create-download-url",
        200,
        query={"path": path, "expire_time": until},
        takes={"url-download": "url"},
        **sdk,
    )
    s3: Options = {"basis": "standard", "source": f"{S3}/API_GetObject.html; databricks-sdk mixins/files.py"}
    yield ask("the content by its presigned URL", "GET", "${url-download}", 200, who="nobody", **s3)
    yield ask("a token sent to a presigned URL", "GET", "${url-download}", 400, **s3)
    yield ask(
        "a presigned download of a missing file",
        "POST",
        f"{fs}/create-download-url",
        404,
        "NOT_FOUND",
        query={"path": "${root}/transfer/none", "expire_time": until},
        **sdk,
    )
    parts = "${root}/transfer/parts"
    session = {"session_token": "${token-upload}"}
    finish = {"action": "complete-upload", "upload_type": "multipart", **session}
    yield ask(
        "an upload in parts begins",
        "POST",
        f"{fs}/files{parts}",
        200,
        query={"action": "initiate-upload", "overwrite": "false"},
        takes={"token-upload": "multipart_upload.session_token"},
        **sdk,
    )
    yield ask(
        "the URL of a part",
        "POST",
        f"{fs}/create-upload-part-urls",
        200,
        json={"path": parts, **session, "start_part_number": 1, "count": 1, "expire_time": until},
        takes={"url-part": "upload_part_urls.0.url"},
        **sdk,
    )
    yield ask(
        "a part",
        "PUT",
        "${url-part}",
        200,
        who="nobody",
        body="in parts",
        takes={"etag-part": "header:ETag"},
        basis="standard",
        source=f"{S3}/API_UploadPart.html",
    )
    named = {"parts": [{"part_number": 1, "etag": "${etag-part}"}]}
    yield file2("nothing is there before the end", "GET", parts, 404, "NOT_FOUND", **sdk)
    yield ask("the upload ends", "POST", f"{fs}/files{parts}", 200, query=finish, json=named, **sdk)
    yield file2("what was uploaded in parts", "GET", parts, 200, **sdk)
    yield ask(
        "overwrite=false refuses an upload in parts",
        "POST",
        f"{fs}/files{parts}",
        409,
        "ALREADY_EXISTS",
        query={"action": "initiate-upload", "overwrite": "false"},
        **sdk,
    )
