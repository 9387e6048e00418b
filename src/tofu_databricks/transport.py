"""HTTP to the workspace: one connection pool, the retry rules, and a class for each way to fail.

Retries: RFC "Error Handling". At most three on connection errors and 500/502/503/504, with exponential
back-off and jitter; 429 by back-off, or `Retry-After` where that is later, until `retry_deadline`; 401 and
403 never.
"""

from __future__ import annotations

import json
import random
import re
import ssl
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from tofu_databricks import __version__
from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    InvalidRequest,
    MalformedReply,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from tofu_databricks.reply import RETRIED, Reply, one_line
from tofu_databricks.seams import Checkpoint, Clock, SystemClock, no_checkpoint

RETRIES = 3
FIRST_WAIT = 0.5
LONGEST_WAIT = 8.0
MOST_DOUBLINGS = 16  # far beyond LONGEST_WAIT, and no overflow however many attempts there were
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
POOL_SIZE = 32
_DIRECT: dict[str, Any] = {"http": None, "https": None, "all": None}
USER_AGENT = f"tofu-databricks/{__version__}"
_CREDENTIAL = re.compile(r"[\x21-\x7e]+( [\x21-\x7e]+)*")

Authenticate = Callable[[], Mapping[str, str]]
"""Gives the headers that authenticate a request, fresh for each one."""
Refused = Callable[[Mapping[str, str]], object]
"""Is told the headers that a request was refused with as unauthenticated."""
Guard = Callable[[], None]
"""Says, by raising a `BackendError`, that a request may not be sent again."""


class Transport:
    """Requests to one workspace; safe to use from several threads.

    `host` and `authenticate` are called for each attempt, so that credentials are as fresh as their
    source keeps them; `refused` is told those that were not accepted. `adapter` replaces the sockets: a
    `requests` adapter, mounted for every address.
    """

    retries = RETRIES
    retried_statuses: frozenset[int] = RETRIED

    def __init__(
        self,
        host: Callable[[], str],
        authenticate: Authenticate,
        *,
        refused: Refused = lambda headers: None,
        adapter: BaseAdapter | None = None,
        clock: Clock | None = None,
        checkpoint: Checkpoint | None = None,
        retry_deadline: float = 120.0,
        verify: bool | str = True,
    ) -> None:
        self.host = host
        self.authenticate = authenticate
        self.refused = refused
        self.clock = clock or SystemClock()
        self.checkpoint = checkpoint or no_checkpoint
        self.retry_deadline = retry_deadline
        self.verify = verify
        if verify is False:  # asked for in so many words; a warning at each request tells nothing new
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.session = requests.Session()
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        chosen = adapter or HTTPAdapter(pool_maxsize=POOL_SIZE)
        self.session.mount("https://", chosen)
        self.session.mount("http://", chosen)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        what: str = "",
        read_only: bool | None = None,
        guard: Guard | None = None,
    ) -> Reply:
        """One call with its retries; the answer is a 2xx.

        `path` is percent-encoded already; `json` is a body in the place of `data`; `what` names the call in
        errors. Raises a `BackendError` for every other outcome. After a call that is not `read_only`
        (default: GET and HEAD are) the error's `definite` is false when any of the attempts may have taken
        effect. `guard` is called before every attempt but the first and raises the `BackendError` that
        forbids it.
        """
        what = what or f"{method} {path}"
        if read_only is None:
            read_only = method in {"GET", "HEAD"}
        if json is not None:
            data, headers = dump(json), {"Content-Type": "application/json", **(headers or {})}
        call = _Call(self, method, path, query, data, headers or {}, what, read_only, guard)
        return call.run()

    def pause(self, reply: Reply) -> float | None:
        """Seconds that a reply asks to wait before the next attempt; `None` when it does not say."""
        return reply.retry_after(self.clock.now())

    def body(self, response: requests.Response) -> bytes:
        """The body of an answer, in one buffer (`response.content` would hold a large state twice).

        Raises `urllib3.exceptions.HTTPError` when less arrives than was announced.
        """
        content: bytes = response.raw.read(decode_content=True)
        length = response.headers.get("Content-Length", "")
        encoded = "Content-Encoding" in response.headers
        if length.isdigit() and int(length) > len(content) and not encoded:
            raise urllib3.exceptions.IncompleteRead(len(content), int(length) - len(content))
        return content

    def close(self) -> None:
        """Drops the connections."""
        self.session.close()


def flaw(credentials: Mapping[str, str]) -> str:
    """What keeps headers that authenticate from being sent, without showing any; empty: nothing does.

    Who writes them (`requests`, `http.client`) would quote the value in the text of a `ValueError`.
    """
    wrong = "".join(value for value in credentials.values() if not _CREDENTIAL.fullmatch(value))
    if not wrong:
        return ""
    if "\n" in wrong or "\r" in wrong:
        return "holds a line break: remove it"
    return "holds a character that cannot be part of it, such as a space at an end: remove it"


def dump(document: Any) -> bytes:
    """`document` as a JSON body."""
    return json.dumps(document, separators=(",", ":")).encode()


def decode_object(reply: Reply, what: str) -> dict[str, Any]:
    """The JSON object of a reply, `{}` when it is empty. Raises `MalformedReply`."""
    try:
        document: Any = json.loads(reply.content) if reply.content else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise MalformedReply(f"{what} was answered with something that is not a JSON object")
    return document


class _Failed(Exception):
    """An attempt failed; `again` says whether another one may help, `error` what to report otherwise."""

    def __init__(self, error: BackendError, *, again: bool, wait: float | None = None) -> None:
        self.error = error
        self.again = again
        self.wait = wait


class _Call:
    """The attempts of one call."""

    def __init__(
        self,
        transport: Transport,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: Mapping[str, str],
        what: str,
        read_only: bool,
        guard: Guard | None,
    ) -> None:
        self.transport = transport
        self.clock = transport.clock
        self.method = method
        self.path = path
        self.query = query
        self.data = data
        self.headers = headers
        self.what = what
        self.read_only = read_only
        self.guard = guard
        self.transient = 0
        self.throttled = 0
        self.may_have_happened = False
        self.deadline = self.clock.monotonic() + transport.retry_deadline

    def run(self) -> Reply:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, _Failed) and e.again),
            wait=self.wait,
            stop=self.stop,
            sleep=self.clock.sleep,
            reraise=True,
        )
        try:
            return attempts(self.attempt)
        except _Failed as failed:
            error = failed.error
            if self.may_have_happened and not self.read_only:
                error.definite = False
            raise error from failed.__cause__
        finally:
            self.data = None  # tenacity keeps us in a cycle, and a large state until the next collection

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt."""
        failed = self.last(state)
        tries = max(1, self.throttled if isinstance(failed.error, Throttled) else self.transient)
        doublings = min(tries - 1, MOST_DOUBLINGS)
        backoff = min(LONGEST_WAIT, FIRST_WAIT * 2.0**doublings) * random.uniform(0.75, 1.25)
        # The later of the two: "now", or a date that is over, must not become a flood of requests.
        return max(backoff, failed.wait or 0.0)

    def stop(self, state: tenacity.RetryCallState) -> bool:
        """Whether to give up instead of waiting for `state.upcoming_sleep` seconds."""
        failed = self.last(state)
        late = self.clock.monotonic() + state.upcoming_sleep > self.deadline
        if isinstance(failed.error, Throttled):
            if late:
                failed.error = Throttled(f"{failed.error}; gave up after {self.throttled} attempts")
            return late
        asked_too_much = failed.wait is not None and late
        if self.transient > self.transport.retries or asked_too_much:
            failed.error = Unavailable(f"{failed.error} (tried {state.attempt_number} times)")
            return True
        return False

    def last(self, state: tenacity.RetryCallState) -> _Failed:
        assert state.outcome is not None
        failed = state.outcome.exception()
        assert isinstance(failed, _Failed)
        return failed

    def attempt(self) -> Reply:
        transport = self.transport
        if self.guard is not None and self.transient + self.throttled:
            try:
                self.guard()
            except BackendError as error:
                raise _Failed(error, again=False) from error.__cause__
        url = transport.host() + self.path
        credentials = transport.authenticate()
        if fault := flaw(credentials):
            text = f"{self.what} cannot be sent: what authenticates it {fault}"
            raise _Failed(InvalidRequest(text), again=False)
        transport.checkpoint(f"http.{self.method.lower()}")
        try:
            reply = self.send(url, credentials)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as failure:
            raise self.no_answer(failure, url) from None
        except ValueError:
            if not _has_proxy(url):
                raise
            raise _Failed(_wrong_proxy(transport.host()), again=False) from None
        if 200 <= reply.status < 300:
            return reply
        if reply.status in transport.retried_statuses:
            self.transient += 1
            self.may_have_happened = True
            raise _Failed(reply.error(self.what), again=True, wait=transport.pause(reply))
        if reply.status == 429:
            self.throttled += 1
            raise _Failed(reply.error(self.what), again=True, wait=transport.pause(reply))
        refusal = reply.error(self.what)
        if isinstance(refusal, Unauthenticated):
            transport.refused(credentials)
        raise _Failed(refusal, again=False)

    def send(self, url: str, credentials: Mapping[str, str]) -> Reply:
        def authenticated(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers.update(credentials)  # an `auth` of our own also keeps ~/.netrc out
            return request

        with self.transport.session.request(
            self.method,
            url,
            params=dict(self.query) if self.query else None,
            data=self.data,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **self.headers},
            auth=authenticated,
            allow_redirects=False,
            stream=True,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            verify=self.transport.verify,
            proxies=_DIRECT if _is_loopback(url) else None,
        ) as response:
            content = b"" if self.method == "HEAD" else self.transport.body(response)
            return Reply(response.status_code, response.headers, content)

    def no_answer(self, failure: Exception, url: str) -> _Failed:
        """The failure of an attempt that got no answer."""
        address = self.transport.host()
        if isinstance(failure, requests.exceptions.InvalidHeader):  # its text holds the header
            return _Failed(InvalidRequest(f"{self.what} cannot be sent: a header is malformed"), again=False)
        malformed = isinstance(failure, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema)
        if malformed and _has_proxy(url):
            return _Failed(_wrong_proxy(address), again=False)
        reason = _root(failure)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(failure)):
            message = f"{self.what}: cannot trust the TLS certificate of {address}: {reason}"
            return _Failed(Unavailable(f"{message}; ca_certificate names an authority to trust"), again=False)
        if malformed:
            return _Failed(Unavailable(f"host: {address} is not an address: {reason}"), again=False)
        self.transient += 1
        if not _never_sent(failure):
            self.may_have_happened = True
        error = Unavailable(f"{self.what}: no answer from {address}: {reason}")
        return _Failed(error, again=True)


def _is_loopback(url: str) -> bool:
    """Whether `url` is on this machine; as in Go, no proxy of the environment is asked for it."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # no address at all, which the attempt will say
        return False
    return host in {"localhost", "::1"} or host.startswith("127.")


def _has_proxy(url: str) -> bool:
    """Whether the environment names a proxy for `url`."""
    try:
        known = {} if _is_loopback(url) else requests.utils.get_environ_proxies(url)
        return requests.utils.select_proxy(url, known) is not None
    except ValueError:
        return False


def _wrong_proxy(address: str) -> ConfigError:
    """What is said in the place of the texts of the libraries, which hold the proxy's password."""
    return ConfigError(
        f"HTTPS_PROXY, or whichever variable names the proxy for {address}, is not the address of a proxy "
        "that can be used: http://USER:PASSWORD@HOST:PORT, user and password percent-encoded"
    )


def _never_sent(failure: Exception) -> bool:
    """Whether the connection was not made, so that the request cannot have been received."""
    if isinstance(failure, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    return any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in _causes(failure))


def _causes(failure: BaseException) -> list[BaseException]:
    """`failure` and what lies beneath it, outermost first."""
    found: list[BaseException] = []
    queue: list[object] = [failure]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
    return found


def _root(failure: BaseException) -> str:
    """The innermost system error in words, without addresses of objects or query strings."""
    system = [e for e in _causes(failure) if isinstance(e, OSError) and e.strerror]
    if system:
        return one_line(str(system[-1].strerror))
    text = str(_causes(failure)[-1]) or type(failure).__name__
    return one_line(text.partition("(Caused by")[0])
