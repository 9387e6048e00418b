"""The few operations of a history that a failure is about, one line of text each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lockproof.history.event import History, Operation

LAST = 8
SHORT = 48


def relevant(history: History, witness: Sequence[int] = ()) -> list[str]:
    """The operations that have an event in `witness`, else the last ones of the history."""
    operations = list(history.operations())
    wanted = set(witness)
    named = [o for o in operations if o.invoke.i in wanted or (o.outcome and o.outcome.i in wanted)]
    return [describe(operation, history.names) for operation in named or operations[-LAST:]]


def describe(operation: Operation, names: Mapping[int, str]) -> str:
    """`#3 0.120 ms bob lock default token=… -> fail locked, holder alice`."""
    call = operation.invoke
    who = names.get(call.p, f"process {call.p}")
    words = [f"#{call.i}", f"{call.t / 1e6:.3f} ms", who, call.f, call.ws or "", _given(call.given or {})]
    asked = " ".join(word for word in words if word)
    return f"{asked} -> {_outcome(operation)}"


def _given(given: Mapping[str, Any]) -> str:
    info = given.get("info")
    if isinstance(info, Mapping):
        return f"id={info.get('ID', '')}"
    return " ".join(
        f"{name}={_short(given[name])}" for name in ("value", "size", "lock_id", "force") if given.get(name)
    )


def _outcome(operation: Operation) -> str:
    event = operation.outcome
    if event is None:
        return "no answer"
    if event.e == "ok":
        return "ok" if event.out is None else f"ok {_result(event.out)}"
    error = event.err or {}
    parts = [event.e, str(error.get("kind", "")), f"({error['message']})" if error.get("message") else ""]
    holder = error.get("holder")
    if isinstance(holder, Mapping):
        parts.append(f"holder {holder.get('Who', '')} id={holder.get('ID', '')}")
    return " ".join(part for part in parts if part)


def _result(out: Any) -> str:
    if isinstance(out, Mapping) and "value" in out:
        serial = f" serial={out['serial']}" if out.get("serial") is not None else ""
        return f"value={_short(out['value'])}{serial}"
    return _short(out if isinstance(out, str) else json.dumps(out, ensure_ascii=False))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
