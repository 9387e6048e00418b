"""`--backend=http:URL`: any server that speaks OpenTofu's HTTP backend protocol.

The driver stands for the `http` backend of one `tofu` process: the same requests, headers and reading
of status codes, without that backend's retries. Source: opentofu
internal/backend/remote-state/http/client.go.

Options (`--backend-opt NAME=VALUE`):

- `lock_address`, `unlock_address`: default to the address. `update_method`, `lock_method`,
  `unlock_method`: default to POST, LOCK, UNLOCK.
- `username` and `password` (or `password_file`), or `bearer` (or `bearer_file`).
- `ca`: PEM file of the authority to trust. `timeout`: seconds to wait for a reply, 30.
- `target`: `fake`, `local` or `real`; by default local on a loopback address, else real.
- `lacks` and `claims`: capabilities, comma-separated, to take from or add to those below.

A server is taken to do what the protocol and its clients rest on: DELETE, large states, a refusal that
names the holder, and an unlock that looks at the ID, which `force-unlock` documents as a nonce. What it
does with the ID that a write carries the protocol leaves open, and clients check nothing: a server that
refuses writes under a lost lock is proved to with `claims=locking.fencing`, and without it no test looks.
A server without, for example, DELETE says `lacks=state.delete`.

Placeholders in an address isolate what the suite makes. `{scope}` stands for the name of a key space
(letters, digits, hyphens), `{workspace}` for the workspace, percent-encoded, for example
`http://127.0.0.1:8410/state/{scope}-{workspace}`. Without `{scope}` there is one key space: it must be
empty or is emptied first, one test at a time uses it, and nothing else may; a server that has no DELETE
must then take an empty write for one. Without `{workspace}` the server has the default workspace alone.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

from lockproof import __version__
from lockproof.driver.api import Address, Capabilities, DriverInfo, LockInfo, Snapshot
from lockproof.driver.command_line import CommandLine
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.http_outcome import (
    NoSuchMethod,
    check_md5,
    holder_of,
    never_sent,
    reason,
    refusal,
)
from lockproof.driver.http_settings import Settings

DEFAULT = "default"
HTTP_LINK = "http"
NEEDS_DELETE = "the server cannot remove a state: it needs DELETE, or {scope} in the address"
ONE_SCOPE = "without {scope} in the address only one scope at a time can be open"
FORCED = "0001-01-01T00:00:00Z"


class HttpDriver:
    """A server at `options["address"]`; see the module for the options."""

    takes_postgres = False

    def __init__(self, options: Mapping[str, str]) -> None:
        self.settings = Settings.read(options)
        parts = urlsplit(self.settings.address)
        url = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        what = "a server of the HTTP backend protocol"
        self.info = DriverInfo("http", __version__, what, url, self.settings.target)

    def capabilities(self) -> Capabilities:
        """What the protocol offers, as the options correct it; it cannot list workspaces."""
        return self.settings.capabilities

    @staticmethod
    @contextmanager
    def provision(options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Makes sure that a server's only key space can be emptied, where there is nothing to lose yet.

        Raises `ValueError` for a wrong option and `DriverError` for a server that cannot be used.
        """
        driver = HttpDriver(options)
        if "{scope}" not in driver.settings.address:
            driver.require_cleaning()
        yield {}

    def require_cleaning(self) -> None:
        """Raises `DriverError` when a state that is written now cannot be removed."""
        scope = self.open_scope("cleaning", attach=True)
        client = scope.client("cleaner")
        with claim(self.settings.address):
            try:
                if client.get(DEFAULT) is None:
                    client.put(DEFAULT, b"{}")
                    client.remove(DEFAULT)
            except Locked:
                return  # of an earlier run; whoever opens the scope releases it
            finally:
                client.close()

    def links(self) -> Mapping[str, Address]:
        """The server, where all its addresses are one host reached in one way."""
        settings = self.settings
        parts = [urlsplit(url) for url in (settings.address, settings.lock_address, settings.unlock_address)]
        if len({(part.scheme, part.netloc) for part in parts}) > 1:
            return {}
        host, port, tls = str(parts[0].hostname), parts[0].port, parts[0].scheme == "https"
        ca_file = settings.ca if isinstance(settings.ca, str) and tls else None
        return {HTTP_LINK: Address(host, port or (443 if tls else 80), tls, protocol="http", ca_file=ca_file)}

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> HttpScope:
        """A key space named `name`. Raises `DriverError` when the server's only one is in use."""
        settings = self.settings.placed(name, (links or {}).get(HTTP_LINK))
        return HttpScope(settings, shared="{scope}" not in self.settings.address, attached=attach)


class HttpScope:
    """A key space of the server: every address that its clients touch is left without lock and state."""

    def __init__(self, settings: Settings, *, shared: bool, attached: bool) -> None:
        self.settings = settings
        self.shared = shared
        self.attached = attached
        self.mutex = threading.Lock()
        self.touched: set[str] = {DEFAULT}
        self.guard: IO[str] | None = None

    def client(self, who: str) -> HttpClient:
        return HttpClient(self, who)

    def __enter__(self) -> Self:
        if self.shared and not self.attached:
            self.guard = claim(self.settings.address)
            self.clean()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        if self.attached:
            return
        try:
            self.clean()
        finally:
            if self.guard is not None:
                self.guard.close()

    def command_line(self, workspace: str) -> CommandLine:
        """Stock clients need only be told the address. Raises `DriverError` for a bearer token, which
        they cannot send."""
        settings = self.settings
        if settings.authorization and not settings.basic:
            raise DriverError("unsupported", True, "stock clients send no bearer token: use username")
        username, password = settings.basic or ("", "")
        with self.mutex:
            self.touched.add(workspace)
        place = functools.partial(place_workspace, workspace=workspace)
        trusted = Path(settings.ca).read_text(encoding="ascii") if isinstance(settings.ca, str) else ""
        return CommandLine(
            (),
            {
                **({"TF_HTTP_CLIENT_CA_CERTIFICATE_PEM": trusted} if trusted else {}),
                "TF_HTTP_ADDRESS": place(settings.address),
                "TF_HTTP_LOCK_ADDRESS": place(settings.lock_address),
                "TF_HTTP_UNLOCK_ADDRESS": place(settings.unlock_address),
                "TF_HTTP_UPDATE_METHOD": settings.update_method,
                "TF_HTTP_LOCK_METHOD": settings.lock_method,
                "TF_HTTP_UNLOCK_METHOD": settings.unlock_method,
                "TF_HTTP_USERNAME": username,
                "TF_HTTP_PASSWORD": password,
            },
        )

    def clean(self) -> None:
        """Leaves no lock and no state. Raises `DriverError` where leftovers would reach the next scope."""
        client = self.client("cleaner")
        for workspace in sorted(self.touched):
            try:
                client.clear(workspace)
            except DriverError:
                if self.shared:
                    raise
        client.close()


class HttpClient:
    """The `http` backend of one `tofu` process, over one connection."""

    def __init__(self, scope: HttpScope, who: str) -> None:
        self.scope = scope
        self.settings = scope.settings
        self.who = who
        self.held: dict[str, LockInfo] = {}
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, no ~/.netrc
        self.session.mount("http://", HTTPAdapter(pool_maxsize=1, max_retries=0))
        self.session.verify = self.settings.ca
        if self.settings.authorization:
            self.session.headers["Authorization"] = self.settings.authorization

    def get(self, workspace: str) -> Snapshot | None:
        """200 is the state, 204 and 404 are "none yet", as OpenTofu reads them."""
        reply = self.send("GET", self.settings.address, workspace)
        if reply.status_code in {204, 404}:
            return None
        if reply.status_code != 200:
            raise refusal("read", reply, write=False)
        check_md5(reply)
        return Snapshot(reply.content, reply.headers.get("ETag"))

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        reply = self.send(self.settings.update_method, self.settings.address, workspace, data, lock_id)
        if reply.status_code in {200, 201, 204}:
            return
        if reply.status_code in {409, 412, 423}:
            holder = holder_of(reply)
            if lock_id is None:
                raise Locked("the server refuses a write without the lock's id", holder=holder)
            if holder is None:
                raise DriverError("stale", True, f"write refused with status {reply.status_code}")
            raise LockMismatch("write refused", holder=holder)
        raise refusal("write", reply, write=True)

    def delete(self, workspace: str) -> None:
        """Sends the id of the lock that this client holds, as the server may ask for it."""
        held = self.held.get(workspace)
        reply = self.send("DELETE", self.settings.address, workspace, None, held.ID if held else None)
        if reply.status_code in {200, 204, 404}:
            return
        if reply.status_code in {409, 412, 423}:
            raise Locked("the server refuses to delete a locked state", holder=holder_of(reply))
        raise refusal("delete", reply, write=True)

    def lock(self, workspace: str, info: LockInfo) -> str:
        """Granted by 200 alone; 409 and 423 name the holder, where the body is a lock info."""
        reply = self.send(self.settings.lock_method, self.settings.lock_address, workspace, dump(info))
        if reply.status_code == 200:
            self.held[workspace] = info
            return info.ID
        if reply.status_code in {409, 423}:
            raise Locked(f"lock refused with status {reply.status_code}", holder=holder_of(reply))
        raise refusal("lock", reply, write=True)

    def unlock(self, workspace: str, lock_id: str) -> None:
        """Sends the info that took the lock; for another client's lock the id alone, as OpenTofu does."""
        held = self.held.get(workspace)
        own = held is not None and held.ID == lock_id
        info = held if held is not None and own else LockInfo(ID=lock_id, Created=FORCED)
        reply = self.send(self.settings.unlock_method, self.settings.unlock_address, workspace, dump(info))
        if reply.status_code == 200:
            if own:
                del self.held[workspace]
            return
        if 400 <= reply.status_code < 500 and reply.status_code not in {401, 403, 405, 408, 429}:
            holder = holder_of(reply)
            if holder is None:
                raise NotLocked(f"unlock refused with status {reply.status_code}")
            raise LockMismatch("unlock refused", holder=holder)
        raise refusal("unlock", reply, write=True)

    def workspaces(self) -> Sequence[str]:
        raise DriverError("unsupported", True, "the HTTP backend protocol cannot list workspaces")

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace == DEFAULT:
            raise DriverError("unsupported", True, "the default workspace cannot be deleted")
        self.delete(workspace)

    def close(self) -> None:
        self.session.close()

    def clear(self, workspace: str) -> None:
        """Removes the state, and first the lock, whoever left it."""
        try:
            self.remove(workspace)
        except Locked as refused:
            self.unlock(workspace, known_holder(refused).ID)
            self.remove(workspace)
            return
        probe = LockInfo.new(self.who)
        try:
            self.lock(workspace, probe)
        except Locked as refused:
            self.unlock(workspace, known_holder(refused).ID)
        else:
            self.unlock(workspace, probe.ID)

    def remove(self, workspace: str) -> None:
        """Deletes the state; on a server without DELETE by an empty write, if that makes it absent."""
        try:
            self.delete(workspace)
        except NoSuchMethod:
            if self.get(workspace) is None:
                return
            try:
                self.put(workspace, b"")
            except DriverError as refused:
                if isinstance(refused, Locked) or not refused.definite:
                    raise
            if self.get(workspace) is not None:
                raise DriverError("unsupported", True, NEEDS_DELETE) from None

    def send(
        self,
        method: str,
        template: str,
        workspace: str,
        body: bytes | None = None,
        lock_id: str | None = None,
    ) -> requests.Response:
        """One request. Raises `DriverError`: definite when it was certainly not received."""
        url = place_workspace(template, workspace)
        with self.scope.mutex:
            self.scope.touched.add(workspace)
        if lock_id is not None:
            url = with_id(url, lock_id)
        headers = {"Accept-Encoding": "identity"}
        if body:
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            headers |= {"Content-Type": "application/json", "Content-MD5": base64.b64encode(digest).decode()}
        try:
            return self.session.request(
                method, url, data=body, headers=headers, timeout=self.settings.timeout, allow_redirects=False
            )
        except requests.Timeout as failure:
            raise DriverError("timeout", method == "GET" or never_sent(failure), reason(failure)) from None
        except requests.RequestException as failure:
            raise DriverError(
                "unavailable", method == "GET" or never_sent(failure), reason(failure)
            ) from None


def place_workspace(template: str, workspace: str) -> str:
    """The address of `workspace`. Raises `DriverError` when it can have none."""
    if workspace != DEFAULT and "{workspace}" not in template:
        raise DriverError("unsupported", True, "the address has no {workspace}: there is only default")
    if workspace in {".", ".."}:  # any client or proxy resolves these away
        raise DriverError("unsupported", True, f"{workspace!r} cannot be a segment of an address")
    return template.replace("{workspace}", quote(workspace, safe=""))


def known_holder(refused: Locked) -> LockInfo:
    """Who holds a lock that is in the way. Raises `refused` when the server does not say."""
    if refused.holder is None:
        raise refused
    return refused.holder


def dump(info: LockInfo) -> bytes:
    """The lock info as a body."""
    return json.dumps(info.to_json(), ensure_ascii=False).encode()


def with_id(url: str, lock_id: str) -> str:
    """`url` with the query parameter `ID`, replacing one that it has; the query is re-ordered by key, as
    Go's `url.Values.Encode` does."""
    parts = urlsplit(url)
    query = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k != "ID"]
    query = sorted([*query, ("ID", lock_id)], key=lambda item: item[0])
    return urlunsplit(parts._replace(query=urlencode(query)))


def claim(address: str) -> IO[str]:
    """Waits for the turn at a server's only key space; closing the file ends it.

    Processes of one user take turns. Raises `DriverError` when this process has it already.
    """
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"lockproof-http-{os.getuid()}-{name}.lock")
    guard = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        guard.seek(0)
        if guard.read() == str(os.getpid()):
            guard.close()
            raise DriverError("unsupported", True, ONE_SCOPE) from None
        fcntl.flock(guard, fcntl.LOCK_EX)
    guard.truncate(0)
    guard.write(str(os.getpid()))
    guard.flush()
    return guard
