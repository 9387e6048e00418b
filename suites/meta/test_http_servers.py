"""`--backend=http:URL` against servers that are legal and do less than the gateway."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.http import HttpDriver
from lockproof.suites.meta.runs import Run, run_apart

NEEDS_DELETE = "it needs DELETE, or {scope} in the address"


@dataclass
class Plain:
    """States and locks by path, behind a mutex. The ID of a write is not looked at.

    `no_delete` is what answers DELETE instead of doing it; `empties`: an empty write removes a state.
    """

    no_delete: int | None = None
    empties: bool = True
    states: dict[str, bytes] = field(default_factory=dict)
    locks: dict[str, bytes] = field(default_factory=dict)
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        with self.mutex:
            if method == "GET":
                return (200, self.states[path]) if path in self.states else (404, b"")
            if method == "LOCK":
                held = self.locks.setdefault(path, body)
                return (200, b"") if held == body else (423, held)
            if method == "UNLOCK":
                held = self.locks.get(path, b"{}")
                if json.loads(body)["ID"] != json.loads(held).get("ID"):
                    return 409, held
                del self.locks[path]
                return 200, b""
            if method == "DELETE" and self.no_delete is not None:
                return self.no_delete, b"no such method"
            if method == "DELETE" or (not body and self.empties):
                self.states.pop(path, None)
            else:
                self.states[path] = body
            return 200, b""


@contextmanager
def serving(plain: Plain) -> Iterator[str]:
    """The address of a served `plain`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = plain.reply(self.command, urlsplit(self.path).path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}/state"
        http.shutdown()
        thread.join()


def provisioned(url: str) -> AbstractContextManager[object]:
    """What a run does with the driver before anything is collected."""
    return HttpDriver.provision({"address": url})


def certify(tmp_path: Path, url: str, *options: str) -> Run:
    """A run of the suites of states and locks."""
    given = [f"--backend=http:{url}", "--backend-report=run", "--backend-suite=smoke,state,locks", "-q"]
    return run_apart(tmp_path, *given, "--backend-clients=8", *options)


def test_a_server_that_ignores_the_id_of_a_write_conforms(tmp_path: Path) -> None:
    """The protocol asks of no server to look at a write's ID: without a claim no test looks."""
    with serving(Plain()) as url:
        run = certify(tmp_path, url + "/{scope}-{workspace}", "--backend-req=LOCK-*")
    must = run.report["backends"][0]["verdict"]["must"]
    assert must["met"] == must["applicable"] >= 15
    assert set(run.statuses().values()) <= {"pass", "skip", "not-run"}
    assert run.result("test_a_write_under_an_invented_id_is_refused")["status"] == "skip"


def test_a_claim_to_fencing_is_put_to_the_test(tmp_path: Path) -> None:
    """A server that is said to fence and ignores the ID of a write is refuted."""
    options = ("--backend-opt=claims=locking.fencing", "--backend-req=LOCK-FENCE-*")
    with serving(Plain()) as url:
        run = certify(tmp_path, url + "/{scope}-{workspace}", *options)
    assert run.code == 1
    assert run.result("test_a_write_under_an_invented_id_is_refused")["status"] == "fail"


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_without_delete_is_emptied_by_an_empty_write(tmp_path: Path, status: int) -> None:
    """A server with one state and no DELETE can be tested when an empty write removes the state."""
    plain = Plain(no_delete=status)
    with serving(plain) as url:
        options = ("--backend-opt=lacks=state.delete,state.large", "--backend-req=STATE-*")
        run = certify(tmp_path, url, *options)
    assert set(run.statuses().values()) <= {"pass", "skip", "not-run"}
    assert list(run.statuses().values()).count("pass") >= 5
    assert plain.states == {}


def test_a_server_that_can_remove_nothing_is_one_line_before_any_test(tmp_path: Path) -> None:
    """With one state, no DELETE and no other way to empty it, the run says at its start what it needs."""
    with serving(Plain(no_delete=405, empties=False)) as url:
        run = certify(tmp_path, url)
    assert run.code == 4
    assert [NEEDS_DELETE in line for line in run.lines] == [True]


@pytest.mark.parametrize(
    "prepare",
    [
        lambda plain: plain.states.update({"/state": b"precious"}),
        lambda plain: plain.locks.update({"/state": json.dumps(LockInfo.new("x").to_json()).encode()}),
    ],
)
def test_a_look_at_the_start_takes_nothing_away(prepare: Callable[[Plain], None]) -> None:
    """What is there before the run stays until a test needs the place."""
    plain = Plain(no_delete=405)
    prepare(plain)
    before = (dict(plain.states), dict(plain.locks))
    with serving(plain) as url, provisioned(url):
        assert (plain.states, plain.locks) == before


def test_leftovers_under_a_lock_are_removed_without_delete() -> None:
    """A scope of a server without DELETE starts empty, whatever lock and state were left."""
    plain = Plain(no_delete=501)
    with serving(plain) as url:
        plain.states["/state"] = b"left"
        plain.locks["/state"] = json.dumps(LockInfo.new("gone").to_json()).encode()
        with HttpDriver({"address": url}).open_scope("one"):
            assert (plain.states, plain.locks) == ({}, {})


def test_capabilities_are_corrected_by_options() -> None:
    """`lacks` takes a capability and what rests on it away, `claims` adds what is left to servers."""
    address = {"address": "http://127.0.0.1:1/{scope}"}
    usual = HttpDriver(address).capabilities()
    assert "locking.fencing" not in usual
    assert HttpDriver({**address, "claims": "locking.fencing"}).capabilities() == usual | {"locking.fencing"}
    assert HttpDriver({**address, "lacks": "state.delete, places"}).capabilities() == usual - {
        "state.delete",
        "places",
    }
    lockless = HttpDriver({**address, "lacks": "locking"}).capabilities()
    assert [name for name in lockless if name.startswith("lock")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lacks": "state.delet"}, "option lacks: no capability of this driver is named 'state.delet'"),
        ({"claims": "workspaces"}, "option claims: no capability of this driver is named 'workspaces'"),
        ({"claims": "locking.fencing", "lacks": "locking.fencing"}, "both name locking.fencing"),
        ({"timeout": "nan"}, "'nan' is not a number of seconds"),
        ({"timeout": "inf"}, "'inf' is not a number of seconds"),
        ({"lock_address": "http://127.0.0.1:99999"}, "malformed: Port out of range"),
        ({"unlock_address": "http://[::1"}, "malformed: Invalid IPv6 URL"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, str], message: str) -> None:
    """A capability that the driver cannot have or both has and lacks, a deadline that is none, an address
    that is malformed: each is named."""
    with pytest.raises(ValueError, match=message) as caught:
        HttpDriver({"address": "http://127.0.0.1:1", **options})
    assert "\n" not in str(caught.value)
