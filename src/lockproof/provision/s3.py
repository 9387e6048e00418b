"""An S3 for the run: moto's server in a process of its own, in memory, gone with the run.

In a process of its own because the Delta engine waits for its store without letting other Python threads run.
moto looks whether a key is there and then writes it, in two steps; S3's conditional put is one, so requests
are answered one after the other. What was asked is kept, so that the requests of an operation can be counted.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import requests

from lockproof.fakes.databricks.latency import Latency

BUCKET = "lockproof"
REGION = "us-east-1"
SIGNED = f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"
"""moto looks for a signature and does not verify it."""
LOG = "/__requests"
"""The path at which the server tells what it was asked."""


class S3Error(Exception):
    """No S3 could be provided; one line that says what to do."""


@dataclass(frozen=True)
class S3:
    """A bucket at `location`; `options` are what the Delta engine needs to reach it."""

    url: str
    location: str = f"s3://{BUCKET}"
    options: Mapping[str, str] = field(default_factory=dict)


def asked(url: str, prefix: str) -> list[dict[str, Any]]:
    """The requests about keys that begin with `prefix`, in order: `method` (`LIST` for a listing), `key`,
    `bytes_in`, `bytes_out`. `url` is the server's."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url + LOG, timeout=30)
    answer.raise_for_status()
    return [entry for entry in answer.json() if entry["key"].startswith(prefix)]


@contextmanager
def provide_s3(latency: Latency | None = None) -> Iterator[S3]:
    """Starts the server and makes the bucket; on exit stops it. Raises `S3Error`.

    With `latency` each request waits as that profile says.
    """
    if importlib.util.find_spec("moto") is None:
        raise S3Error('an S3 for the run needs moto: pip install "lockproof[bench]"')
    profile = [latency.network, latency.warehouse] if latency else []
    command = [sys.executable, "-m", __name__, *profile]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = server.stdout.readline().strip()
            if not port:
                raise S3Error("moto's server did not start; its output says why")
            url = f"http://127.0.0.1:{port}"
            with requests.Session() as session:
                session.trust_env = False
                session.put(
                    f"{url}/{BUCKET}", headers={"Authorization": SIGNED}, timeout=30
                ).raise_for_status()
            yield S3(
                url,
                options={
                    "AWS_ENDPOINT_URL": url,
                    "AWS_ALLOW_HTTP": "true",
                    "AWS_REGION": REGION,
                    "AWS_ACCESS_KEY_ID": "lockproof",
                    "AWS_SECRET_ACCESS_KEY": "lockproof",
                },
            )
        finally:
            server.stdin.close()  # the server ends with its input


def main() -> None:
    """Serves until the standard input ends; the first line of output is the port. The arguments are those of
    `Latency`, none for no waiting."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    moto = DomainDispatcherApplication(create_backend_app)
    mutex = threading.Lock()

    latency = Latency(*sys.argv[1:]) if sys.argv[1:] else None
    told: list[dict[str, Any]] = []

    def one_by_one(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == LOG:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(told).encode()]
        entry = _entry(environ)
        if latency is not None:
            time.sleep(latency.object_request() + latency.transfer(entry["bytes_in"]))
        with mutex:
            body = list(moto(environ, start_response))
            entry["bytes_out"] = sum(map(len, body))
            told.append(entry)
        return body

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            """Requests are not told."""

    server = make_server("127.0.0.1", 0, one_by_one, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


def _entry(environ: Mapping[str, Any]) -> dict[str, Any]:
    """What a request is about."""
    query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(f"/{BUCKET}").lstrip("/")
    if method == "GET" and not key:
        method, key = "LIST", query.get("prefix", "")
    return {"method": method, "key": key, "bytes_in": int(environ.get("CONTENT_LENGTH") or 0)}


if __name__ == "__main__":
    main()
