"""The HTTP backend protocol, request by request, against whatever a stock client would be sent to."""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import requests

from lockproof.driver import LockInfo
from lockproof.driver.command_line import CommandLine
from lockproof.spec.outcome import Unknown

NO_TIME = "0001-01-01T00:00:00Z"
TELL = """
import json, os, sys
print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("TF_HTTP_")}), flush=True)
sys.stdin.read()
"""
ABSENT = "absent"
PATIENCE = 30.0


class Wire:
    """Sends what a client would send; `settings` are its `TF_HTTP_*` variables."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.session = requests.Session()
        self.session.trust_env = False
        if settings.get("TF_HTTP_USERNAME"):
            self.session.auth = (settings["TF_HTTP_USERNAME"], settings.get("TF_HTTP_PASSWORD", ""))

    def read(self) -> bytes | str:
        """The state's bytes, or `ABSENT` where a client would see none. Fails for any other answer."""
        reply = self.send("GET", self.settings["TF_HTTP_ADDRESS"])
        if reply.status_code in {204, 404} or (reply.status_code == 200 and not reply.content):
            return ABSENT
        assert reply.status_code == 200, f"a read is answered with {reply.status_code}"
        return reply.content

    def write(self, body: bytes, lock_id: str | None = None, md5: str | None = None) -> int:
        """The status of a write; `md5` replaces the true digest."""
        url = self.settings["TF_HTTP_ADDRESS"]
        if lock_id is not None:
            url += f"{'&' if '?' in url else '?'}ID={lock_id}"
        return self.send(self.settings.get("TF_HTTP_UPDATE_METHOD", "POST"), url, body, md5).status_code

    def break_off(self, body: bytes, *, chunked: bool) -> int | None:
        """Sends half of a write, then ends; the status of what the server says to that, `None` for nothing.

        Raises `Unknown` when the server does not end the connection either.
        """
        parts = urlsplit(self.settings["TF_HTTP_ADDRESS"])
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=PATIENCE)
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.putrequest(self.settings.get("TF_HTTP_UPDATE_METHOD", "POST"), target)
        if isinstance(self.session.auth, tuple):
            credentials = ":".join(self.session.auth).encode()
            connection.putheader("Authorization", "Basic " + base64.b64encode(credentials).decode())
        half = body[: len(body) // 2]
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
            half = b"%x\r\n%b\r\n" % (len(half), half)
        else:
            connection.putheader("Content-Length", str(len(body)))
        try:
            connection.endheaders(half)
            connection.sock.shutdown(socket.SHUT_WR)
            return connection.getresponse().status
        except TimeoutError:
            raise Unknown(
                f"{PATIENCE:g} s after a broken upload the server still waits for its rest"
            ) from None
        except (http.client.HTTPException, ConnectionError):
            return None
        finally:
            connection.close()

    def lock(self, info: LockInfo) -> requests.Response:
        """The answer to an attempt to lock."""
        method = self.settings.get("TF_HTTP_LOCK_METHOD", "LOCK")
        return self.send(method, self.settings["TF_HTTP_LOCK_ADDRESS"], dump(info))

    def unlock(self, info: LockInfo | None) -> int:
        """The status of an unlock; `None` sends an empty body, as terraform's force-unlock up to 1.11."""
        method = self.settings.get("TF_HTTP_UNLOCK_METHOD", "UNLOCK")
        body = None if info is None else dump(info)
        return self.send(method, self.settings["TF_HTTP_UNLOCK_ADDRESS"], body).status_code

    def purge(self) -> int:
        """The status of a DELETE."""
        return self.send("DELETE", self.settings["TF_HTTP_ADDRESS"]).status_code

    def held_by(self) -> LockInfo | None:
        """Who holds the lock, as a refusal tells; `None` when it was free, and is again."""
        probe = LockInfo.new("probe")
        reply = self.lock(probe)
        if reply.status_code == 200:
            assert self.unlock(probe) == 200
            return None
        return holder_in(reply)

    def send(
        self, method: str, url: str, body: bytes | None = None, md5: str | None = None
    ) -> requests.Response:
        """One request with the headers of a client."""
        headers = {"Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1"}
        if body is not None:
            digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            headers |= {"Content-Type": "application/json", "Content-MD5": md5 or digest}
        return self.session.request(
            method, url, data=body, headers=headers, timeout=30, allow_redirects=False
        )


@contextmanager
def wire_to(line: CommandLine) -> Iterator[Wire]:
    """A `Wire` to what `line` leads to: a command run by it learns the address and keeps it served."""
    process = subprocess.Popen(
        [*line.prefix, sys.executable, "-c", TELL],
        env={"PATH": os.defpath, "HOME": os.devnull, **line.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told, "the client's environment was not set up"
        wire = Wire(json.loads(told))
        yield wire
        wire.session.close()
    finally:
        process.communicate()


def holder_in(refusal: requests.Response) -> LockInfo:
    """The lock info in a refusal. Fails where a client would find none."""
    try:
        document = json.loads(refusal.content)
    except ValueError:
        document = None
    assert isinstance(document, dict), f"a refusal without a lock info: {refusal.content[:200]!r}"
    return LockInfo.from_json(document)


def dump(info: LockInfo) -> bytes:
    """A lock info as a client writes it."""
    return json.dumps(info.to_json()).encode()


def id_only(lock_id: str) -> LockInfo:
    """What OpenTofu's `force-unlock` sends."""
    return LockInfo(ID=lock_id, Created=NO_TIME)


def is_final(status: int) -> bool:
    """Whether a client takes `status` for a refusal that it does not try again.

    Source: go-retryablehttp's default policy sends again after 429 and 5xx, 501 excepted.
    """
    return (400 <= status < 500 and status != 429) or status == 501


def is_time(text: str) -> bool:
    """Whether `text` is an RFC 3339 time, as Go's parser demands."""
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None and "T" in text
    except ValueError:
        return False
