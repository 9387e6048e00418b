"""What the tests of the fake SQL warehouse share: one way to send a statement and to steer the fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lockproof.fakes.databricks.sql.steering import SqlControl
from lockproof.suites.meta.fake_bed import Bed

STATEMENTS = "/api/2.0/sql/statements"
WAREHOUSES = "/api/2.0/sql/warehouses"


@dataclass
class Answer:
    """An answer of the Statement Execution API."""

    status: int
    body: dict[str, Any]

    @property
    def state(self) -> str:
        return str(self.body["status"]["state"])

    @property
    def rows(self) -> list[list[str | None]]:
        return list(self.body["result"].get("data_array", []))

    @property
    def columns(self) -> list[str]:
        return [column["name"] for column in self.body["manifest"]["schema"].get("columns", [])]

    @property
    def message(self) -> str:
        return str(self.body["status"]["error"]["message"])

    @property
    def error_class(self) -> str:
        return self.message[1:].partition("]")[0]

    @property
    def sql_state(self) -> str:
        return str(self.body["status"]["sql_state"])


class Sql:
    """A client of the fake's first warehouse, by plain HTTP."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.control = SqlControl(bed.control.target)
        self.warehouse = str(self.control.warehouses()[0]["id"])

    def send(
        self,
        text: str,
        parameters: Sequence[Sequence[str]] = (),
        *,
        token: str | None = None,
        **members: Any,
    ) -> Answer:
        """POSTs the statement; `parameters` as name, value (missing: NULL) and type."""
        body = {
            "statement": text,
            "warehouse_id": self.warehouse,
            "catalog": "main",
            "schema": "default",
            "wait_timeout": "50s",
            "parameters": [dict(zip(("name", "value", "type"), item, strict=False)) for item in parameters],
            **members,
        }
        answer = self.bed.http("POST", STATEMENTS, token=token, json=body)
        return Answer(answer.status_code, answer.json())

    def run(
        self, text: str, parameters: Sequence[Sequence[str]] = (), **members: Any
    ) -> list[list[str | None]]:
        """The rows of a statement that has to succeed."""
        answer = self.send(text, parameters, **members)
        assert answer.status == 200, answer.body
        assert answer.state == "SUCCEEDED", answer.body["status"]
        return answer.rows

    def poll(self, statement_id: str) -> Answer:
        answer = self.bed.http("GET", f"{STATEMENTS}/{statement_id}")
        return Answer(answer.status_code, answer.json())
