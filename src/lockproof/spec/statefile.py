"""State documents for tests: valid, and unique, so that a read tells which write it saw."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

TOKEN = "lockproof_token"
DESCRIBED_BYTES = 4 << 20


def document(
    *, serial: int = 1, lineage: str | None = None, token: str | None = None, **outputs: str
) -> dict[str, Any]:
    """A version 4 state with one output that carries `token` (fresh when not given)."""
    values = {TOKEN: token or uuid.uuid4().hex, **outputs}
    return {
        "version": 4,
        "terraform_version": "1.12.6",
        "serial": serial,
        "lineage": lineage or str(uuid.uuid4()),
        "outputs": {name: {"value": value, "type": "string"} for name, value in values.items()},
        "resources": [],
        "check_results": None,
    }


def tofu_bytes(state: dict[str, Any]) -> bytes:
    """As `tofu` stores it: compact, newline at the end. Source: contract R9."""
    return json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def terraform_bytes(state: dict[str, Any]) -> bytes:
    """As `terraform` stores it: indented by two spaces, newline at the end. Source: contract R9."""
    return json.dumps(state, ensure_ascii=False, indent=2).encode() + b"\n"


def describe(data: bytes) -> dict[str, Any]:
    """What a history says of state bytes: `value` (token, else digest), `sha256`, `serial`, `lineage`."""
    digest = hashlib.sha256(data).hexdigest()
    record: dict[str, Any] = {"value": digest, "sha256": digest, "serial": None, "lineage": None}
    if len(data) > DESCRIBED_BYTES:
        return record
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return record
    if isinstance(state, dict):
        record["serial"] = state.get("serial")
        record["lineage"] = state.get("lineage")
        outputs = state.get("outputs")
        if isinstance(outputs, dict) and isinstance(outputs.get(TOKEN), dict):
            token = outputs[TOKEN].get("value")
            record["value"] = token if isinstance(token, str) else digest
    return record
