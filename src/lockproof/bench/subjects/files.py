"""The fake's Files API beside moto's S3, and the backend's reads and writes beside plain requests."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import requests

from lockproof.bench.benchmark import Benchmark, Broken, Case, Lane, latency, package, rate, size_name
from lockproof.bench.ratio import Aim
from lockproof.bench.servers import VOLUME, served

SIGNED = (  # moto looks for a signature and does not verify it
    "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
)
FILES = "/api/2.0/fs/files/Volumes/main/default/v/f"
STATE = "/Volumes/main/default/v/terraform.tfstate"
UNIT = "requests/s"
AIM = Aim("ratio", at_least=3)
MOTO = package("moto", "lockproof[bench]"), package("flask", "lockproof[bench]")


def asked(
    session: requests.Session, method: str, url: str, size: int | None = None, **options: Any
) -> Callable[[], object]:
    """A request that raises `Broken` unless the answer is right and, where told, has `size` bytes."""

    def call() -> None:
        answer = session.request(method, url, timeout=60, **options)
        if not answer.ok or size not in (None, len(answer.content)):
            raise Broken(f"{method} answered {answer.status_code} and {len(answer.content)} bytes")

    return call


def session(stack: ExitStack, **headers: str) -> requests.Session:
    """A session with keep-alive that no environment influences."""
    one = stack.enter_context(requests.Session())
    one.trust_env = False
    one.headers.update(headers)
    return one


def over_sockets(sizes: Sequence[int]) -> Iterator[Case]:
    """One `requests` session to each server; the floor answers without looking."""
    with ExitStack() as stack:
        fake_at, moto_at, floor_at = (stack.enter_context(served(name)) for name in ("fake", "moto", "floor"))
        fake = session(stack, Authorization=f"Bearer {fake_at['token']}")
        moto, floor = session(stack, Authorization=SIGNED), session(stack)
        moto.put(f"{moto_at['url']}/bucket", timeout=60).raise_for_status()
        url, key = fake_at["url"] + FILES, f"{moto_at['url']}/bucket/f"
        for size in sizes:
            data = bytes(size)
            yield Case(
                f"PUT {size_name(size)}",
                Lane(
                    "fake Files API", rate(asked(fake, "PUT", url, params={"overwrite": "true"}, data=data))
                ),
                [
                    Lane("moto's S3", rate(asked(moto, "PUT", key, data=data)), AIM),
                    Lane("no look", rate(asked(floor, "PUT", floor_at["url"], data=data))),
                ],
                UNIT,
                "higher",
            )
            nothing = asked(floor, "GET", floor_at["url"], size, headers={"x-size": str(size)})
            yield Case(
                f"GET {size_name(size)}",
                Lane("fake Files API", rate(asked(fake, "GET", url, size))),
                [Lane("moto's S3", rate(asked(moto, "GET", key, size)), AIM), Lane("no look", rate(nothing))],
                UNIT,
                "higher",
            )


def by_sdk(sizes: Sequence[int]) -> Iterator[Case]:
    """Each server by the client library that its users have."""
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config as BotoConfig  # type: ignore[import-untyped]
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    with ExitStack() as stack:
        fake_at, moto_at = (stack.enter_context(served(name)) for name in ("fake", "moto"))
        settings = {"host": fake_at["url"], "token": fake_at["token"], "auth_type": "pat"}
        config = Config(**settings, disable_experimental_files_api_client=True)
        files = WorkspaceClient(config=config).files
        s3 = boto3.client(
            "s3",
            endpoint_url=moto_at["url"],
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=BotoConfig(s3={"addressing_style": "path"}, proxies={}),
        )
        s3.create_bucket(Bucket="bucket")
        path = f"/Volumes/{VOLUME.replace('.', '/')}/f"

        def read() -> bytes:
            contents = files.download(path).contents
            assert contents is not None
            return contents.read()

        for size in sizes:
            data = bytes(size)
            yield Case(
                f"upload {size_name(size)}",
                Lane("databricks-sdk", rate(lambda: files.upload(path, io.BytesIO(data), overwrite=True))),  # noqa: B023
                [Lane("boto3, moto", rate(lambda: s3.put_object(Bucket="bucket", Key="f", Body=data)))],  # noqa: B023
                UNIT,
                "higher",
            )
            yield Case(
                f"download {size_name(size)}",
                Lane("databricks-sdk", rate(read)),
                [Lane("boto3, moto", rate(lambda: s3.get_object(Bucket="bucket", Key="f")["Body"].read()))],
                UNIT,
                "higher",
            )


def in_process(sizes: Sequence[int]) -> Iterator[Case]:
    """Both fakes without sockets: `activate` and `mock_aws`."""
    from moto import mock_aws

    from lockproof.fakes.databricks import FakeWorkspace
    from lockproof.fakes.databricks.inprocess import activate

    workspace = FakeWorkspace()
    workspace.create_volume(VOLUME)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    with mock_aws(), activate(workspace), ExitStack() as stack:
        fake = session(stack, Authorization=f"Bearer {workspace.token}")
        moto = session(stack, Authorization=SIGNED)
        bucket = "https://bucket.s3.amazonaws.com"
        moto.put(bucket, timeout=60).raise_for_status()
        url = workspace.url + FILES
        for size in sizes:
            data = bytes(size)
            yield Case(
                f"PUT {size_name(size)}",
                Lane("activate", rate(asked(fake, "PUT", url, params={"overwrite": "true"}, data=data))),
                [Lane("mock_aws", rate(asked(moto, "PUT", f"{bucket}/f", data=data)))],
                UNIT,
                "higher",
            )
            yield Case(
                f"GET {size_name(size)}",
                Lane("activate", rate(asked(fake, "GET", url, size))),
                [Lane("mock_aws", rate(asked(moto, "GET", f"{bucket}/f", size)))],
                UNIT,
                "higher",
            )


def by_backend(sizes: Sequence[int]) -> Iterator[Case]:
    """The same file on the same fake: by the backend, and by one request that knows what it wants."""
    from tofu_databricks.backend import Backend
    from tofu_databricks.config import Config

    with ExitStack() as stack:
        fake_at = stack.enter_context(served("fake"))
        catalog, schema, volume = VOLUME.split(".")
        settings = {"host": fake_at["url"], "token": fake_at["token"], "key": "terraform.tfstate"}
        place = {"catalog": catalog, "schema": schema, "volume": volume}
        backend = stack.enter_context(Backend(Config.load({**settings, **place}, environ={})))
        client = backend.client()
        plain = session(stack, Authorization=f"Bearer {fake_at['token']}")
        url = f"{fake_at['url']}/api/2.0/fs/files{STATE}"
        for size in sizes:
            data = b'{"version":4}' + b" " * (size - 13)
            yield Case(
                f"PUT {size_name(size)}",
                Lane("backend", latency(lambda: client.put(data))),  # noqa: B023
                [
                    Lane(
                        "requests", latency(asked(plain, "PUT", url, params={"overwrite": "true"}, data=data))
                    )
                ],
            )

            def read() -> None:
                if client.get() != data:  # noqa: B023
                    raise Broken("the state came back changed")

            yield Case(
                f"GET {size_name(size)}",
                Lane("backend", latency(read)),
                [Lane("requests", latency(asked(plain, "GET", url, size)))],
            )


SIZES, FEW = (1_000, 100_000, 10_000_000), (1_000, 100_000)

FAKE_FILES = Benchmark(
    "fake-files",
    "How many requests a second the fake Databricks answers, by the same client library as moto's S3.",
    "fake Files API",
    "moto's S3 server; a server that answers without looking",
    UNIT,
    over_sockets,
    MOTO,
    "bytes of a file",
    SIZES,
    FEW,
    ("moto", "requests"),
)
FAKE_SDK = Benchmark(
    "fake-sdk",
    "The same by the client library of each: databricks-sdk and boto3.",
    "databricks-sdk on the fake",
    "boto3 on moto's S3 server",
    UNIT,
    by_sdk,
    (*MOTO, package("boto3", "lockproof[bench]")),
    "bytes of a file",
    (1_000, 1_000_000),
    (1_000,),
    ("moto", "boto3", "databricks-sdk"),
)
FAKE_IN_PROCESS = Benchmark(
    "fake-in-process",
    "The same without sockets, in the process of the test.",
    "activate(workspace)",
    "moto's mock_aws",
    UNIT,
    in_process,
    MOTO,
    "bytes of a file",
    (1_000, 1_000_000),
    (1_000,),
    ("moto", "requests"),
)
BACKEND_FILES = Benchmark(
    "backend-files",
    "What the backend adds to reading and writing a state: checks, retries, digest.",
    "tofu_databricks, without a lock",
    "one plain request to the same fake",
    "ms",
    by_backend,
    (),
    "bytes of a state",
    (10_000, 1_000_000, 10_000_000),
    (10_000, 1_000_000),
    ("requests",),
)
