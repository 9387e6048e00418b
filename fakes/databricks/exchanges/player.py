"""Sends exchanges over the wire and records or verifies what is answered, with plain `requests`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

import requests
from tenacity import Retrying, retry_if_result, stop_after_attempt, stop_after_delay, wait_exponential

from lockproof.fakes.databricks.exchanges.matching import Answer, Mismatch, mismatches, reduced
from lockproof.fakes.databricks.exchanges.placeholders import Names, Unbound
from lockproof.fakes.databricks.exchanges.recording import Ask, Exchange, Recording, Reply, write
from lockproof.fakes.databricks.exchanges.redaction import Redactor
from lockproof.fakes.databricks.exchanges.targets import SECONDS, Target

POLL_SECONDS, POLLED_SECONDS = 0.02, 300.0
THROTTLED_ATTEMPTS = 5
SOURCES = {
    "fake": "Recorded from lockproof's fake Databricks, not from a workspace. Each answer rests on the "
    "source that its exchange cites; what no source covers is marked as inferred.",
    "workspace": "Recorded from a workspace by the script of lockproof. The sources are those of the "
    "script; what is written here is what the workspace answered.",
}


class Left(Exception):
    """An exchange that cannot be sent to this target; the text says why."""


@dataclass(frozen=True)
class Step:
    """A request of the script. `status` and `code` are what its source says; `takes` gives names to values
    of the answer, for later requests: a header (`header:ETag`) or a member (`result.external_links.0`)."""

    ask: Ask
    status: int
    code: str | int | None
    takes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Difference:
    """One way in which an answer is not the recorded one."""

    exchange: Exchange
    mismatch: Mismatch

    def __str__(self) -> str:
        return f"exchange {self.exchange.n} {self.exchange.ask.shown}: {self.mismatch}"

    def to_json(self) -> dict[str, Any]:
        ask = self.exchange.ask
        facts = {"name": ask.name, "basis": ask.basis, "source": ask.source}
        return {"n": self.exchange.n, "request": ask.shown, **facts, **asdict(self.mismatch)}


@dataclass(frozen=True)
class Findings:
    """`compared`: how many exchanges were sent; `left`: those that were not, each with the reason."""

    compared: int
    differences: tuple[Difference, ...]
    left: tuple[tuple[Exchange, str], ...]

    def to_json(self, target: str, recording: Recording) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "target": target,
            "recorded_from": recording.target,
            "compared": self.compared,
            "differences": [difference.to_json() for difference in self.differences],
            "not_replayed": [
                {"n": exchange.n, "request": exchange.ask.shown, "reason": reason}
                for exchange, reason in self.left
            ],
        }


def record(target: Target, script: Iterable[Step]) -> tuple[Recording, list[str]]:
    """The recording of the script at a target, and a line for each step that was left out.

    Raises ValueError when a secret would stand in it: nothing is returned then.
    """
    redactor = Redactor(Names(target.given), target.secrets)
    exchanges, left = list[Exchange](), list[str]()
    with _line(target, redactor.names) as send:
        for step in script:
            try:
                answer = send(step.ask)
            except Left as reason:
                left.append(f"{step.ask.shown} ({step.ask.name}): {reason}")
                continue
            reply = reduced(answer, step.ask.only)
            _take(step, answer, reply, redactor.names)
            exchanges.append(Exchange(len(exchanges) + 1, step.ask, _redacted(reply, redactor)))
    made = Recording(target.kind, SOURCES[target.kind], target.cloud, tuple(exchanges))
    if leaked := redactor.leaks(write(made)):
        raise ValueError(f"the recording is not written: it would show {', '.join(leaked)}")
    return made, left


def verify(target: Target, recording: Recording, *, texts: bool = False) -> Findings:
    """Sends the requests of the recording, in order, and compares the answers. Shows no secret."""
    names = Names(target.given)

    def redact(value: Any, key: str) -> Any:
        return Redactor(Names(names.values)).json(
            value, key
        )  # what it names is none of the recording's names

    differences, left, compared = list[Difference](), list[tuple[Exchange, str]](), 0
    with _line(target, names) as send:
        for exchange in recording.exchanges:
            try:
                answer = send(exchange.ask)
            except Left as reason:
                left.append((exchange, str(reason)))
                continue
            except requests.RequestException as error:
                found = [Mismatch("status", str(exchange.reply.status), type(error).__name__)]
            else:
                answered = reduced(answer, exchange.ask.only)
                found = mismatches(exchange.reply, answered, names, redact, texts=texts)
            compared += 1
            differences += [Difference(exchange, item) for item in found]
    return Findings(compared, tuple(differences), tuple(left))


@contextmanager
def _line(target: Target, names: Names) -> Iterator[Callable[[Ask], Answer]]:
    """What sends requests to a target; at the end what they made there is removed."""
    with requests.Session() as session:
        session.auth = _as_it_is
        try:
            yield lambda ask: _send(session, target, names, ask)
        finally:
            if target.control is not None:
                target.control.release_statements()
            target.clean(session)


def _send(session: requests.Session, target: Target, names: Names, ask: Ask) -> Answer:
    """One exchange. Raises `Left` where the target lacks what it needs, and `requests.RequestException`."""
    authentication = target.headers(ask.who)
    if authentication is None:
        raise Left(f"there is no {ask.who} at this target")
    try:
        headers = {**authentication, **names.fill(ask.headers)}
        options = {
            "params": names.fill(ask.query),
            "json": names.fill(ask.json),
            "data": names.fill(ask.body),
        }
        url = names.fill(ask.url)
    except Unbound as unbound:
        raise Left(str(unbound)) from None
    if options["data"] is not None:
        options["data"] = options["data"].encode()
    else:
        del options["data"]
    if ask.fault is not None or ask.slow:
        _arrange(target, names, ask, url)

    def once() -> requests.Response:
        return session.request(
            ask.method, url, headers=headers, timeout=SECONDS, allow_redirects=False, **options
        )

    attempts = Retrying(
        retry=retry_if_result(lambda reply: target.kind == "workspace" and reply.status_code == 429),
        wait=wait_exponential(1, max=30),
        stop=stop_after_attempt(THROTTLED_ATTEMPTS),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    if ask.until_ended:
        if target.control is not None:
            target.control.release_statements()
        attempts = Retrying(
            retry=retry_if_result(_unfinished),
            wait=wait_exponential(POLL_SECONDS, max=1),
            stop=stop_after_delay(POLLED_SECONDS),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
    reply: requests.Response = attempts(once)
    fields = {name.lower(): value for name, value in reply.headers.items()}
    return Answer(ask.method, reply.status_code, fields, reply.content)


def _arrange(target: Target, names: Names, ask: Ask, url: str) -> None:
    """Makes the fake throttle or hold the request that follows."""
    if target.control is None:
        if ask.fault is not None:
            raise Left("only a fake can be told to fail")
        return
    if ask.slow:
        target.control.hold_statements("queued", contains=names.fill(ask.json)["statement"])
    if ask.fault is not None:
        path = unquote(url.removeprefix(names.values["host"]))
        target.control.add_fault(method=ask.method, path=path, status=ask.fault)


def _unfinished(reply: requests.Response) -> bool:
    try:
        state = reply.json()["status"]["state"]
    except (ValueError, KeyError, TypeError):
        return False
    return state in ("PENDING", "RUNNING")


def _take(step: Step, answer: Answer, reply: Reply, names: Names) -> None:
    """Names the values that later requests need; an answer that lacks them names none."""
    for name, where in step.takes:
        kind, _, header = where.partition(":")
        value: Any = (
            answer.headers.get(header.lower()) if kind == "header" else (reply.body or {}).get("json")
        )
        if kind != "header":
            for part in where.split("."):
                value = _member(value, part)
        if isinstance(value, str):
            names.values[name] = value


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return None


def _redacted(reply: Reply, redactor: Redactor) -> Reply:
    headers = {name: redactor.text(value, name) for name, value in reply.headers.items()}
    body = dict(reply.body) if reply.body else None
    if body and "json" in body:
        body["json"] = _states(redactor.json(body["json"]))
    elif body and "text" in body:
        body["text"] = redactor.text(body["text"])
    return Reply(reply.status, headers, body)


def _states(body: Any) -> Any:
    """A statement that has not ended is PENDING or RUNNING, as it happens."""
    status = body.get("status") if isinstance(body, dict) else None
    if isinstance(status, dict) and status.get("state") in ("PENDING", "RUNNING"):
        return {**body, "status": {**status, "state": "${unfinished}"}}
    return body


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps `requests` from adding what ~/.netrc says."""
    return request
