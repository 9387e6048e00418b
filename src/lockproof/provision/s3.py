"""An S3 for the run: moto's server in a process of its own, in memory, gone with the run.

In a process of its own because the Delta engine waits for its store without letting other Python threads run.
moto looks whether a key is there and then writes it, in two steps; S3's conditional put is one, so requests
are answered one after the other.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

BUCKET = "lockproof"
REGION = "us-east-1"
SIGNED = f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"
"""moto looks for a signature and does not verify it."""


class S3Error(Exception):
    """No S3 could be provided; one line that says what to do."""


@dataclass(frozen=True)
class S3:
    """A bucket at `location`; `options` are what the Delta engine needs to reach it."""

    url: str
    location: str = f"s3://{BUCKET}"
    options: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def provide_s3() -> Iterator[S3]:
    """Starts the server and makes the bucket; on exit stops it. Raises `S3Error`."""
    if importlib.util.find_spec("moto") is None:
        raise S3Error('an S3 for the run needs moto: pip install "lockproof[bench]"')
    command = [sys.executable, "-m", __name__]
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
    """Serves until the standard input ends; the first line of output is the port."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    moto = DomainDispatcherApplication(create_backend_app)
    mutex = threading.Lock()

    def one_by_one(environ: Any, start_response: Any) -> Any:
        with mutex:
            return list(moto(environ, start_response))

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            """Requests are not told."""

    server = make_server("127.0.0.1", 0, one_by_one, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
