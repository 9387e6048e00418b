"""From Databricks SQL to the SQL of DataFusion, the engine inside of `deltalake`."""

from __future__ import annotations

from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.generator import Generator as SqlGenerator

TIMESTAMP = 'Timestamp(Microsecond, Some("UTC"))'
TIMESTAMP_NTZ = "Timestamp(Microsecond, None)"
_ARROW = {
    exp.DataType.Type.TIMESTAMPTZ: TIMESTAMP,
    exp.DataType.Type.TIMESTAMPLTZ: TIMESTAMP,
    exp.DataType.Type.TIMESTAMP: TIMESTAMP_NTZ,
    exp.DataType.Type.TIMESTAMPNTZ: TIMESTAMP_NTZ,
    exp.DataType.Type.BINARY: "Binary",
}
_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}


def _cast(generator: SqlGenerator, node: exp.Cast) -> str:
    """Types that DataFusion's SQL has no name for go by their Arrow name."""
    arrow = _ARROW.get(node.args["to"].this)
    if arrow is None:
        return generator.cast_sql(node)
    return generator.func("arrow_cast", node.this, exp.Literal.string(arrow))


def _epoch(generator: SqlGenerator, node: exp.Expr) -> str:
    return f"date_part('epoch', {generator.sql(node)})"


def _difference(generator: SqlGenerator, node: exp.Expr) -> str:
    unit = str(node.args.get("unit") or "DAY").upper().removesuffix("S")
    factor = _SECONDS.get(unit)
    if factor is None:
        generator.unsupported(f"difference in {unit}")
        factor = 1
    later, earlier = _epoch(generator, node.this), _epoch(generator, node.expression)
    return f"CAST(({later} - {earlier}) / {factor} AS BIGINT)"


def _unix(generator: SqlGenerator, node: exp.Expr) -> str:
    return f"CAST({_epoch(generator, node.this)} AS BIGINT)"


class DataFusion(Dialect):
    """Generates only; statements are parsed by sqlglot's `databricks`."""

    class Generator(SqlGenerator):
        TYPE_MAPPING = {  # noqa: RUF012
            **SqlGenerator.TYPE_MAPPING,
            exp.DataType.Type.TEXT: "VARCHAR",
            exp.DataType.Type.FLOAT: "REAL",
        }
        TRANSFORMS = {  # noqa: RUF012
            **SqlGenerator.TRANSFORMS,
            exp.Cast: _cast,
            exp.TimestampDiff: _difference,
            exp.DateDiff: _difference,
            exp.TsOrDsDiff: _difference,
            exp.UnixSeconds: _unix,
            exp.StrToUnix: _unix,
            exp.TimeToUnix: _unix,
        }


def to_engine(node: exp.Expr) -> str:
    """The node as DataFusion SQL, every identifier quoted."""
    return node.sql(dialect=DataFusion, identify=True, normalize_functions=False)


def column_type(delta: Any) -> exp.DataType:
    """A column's type as in a Delta schema (`"long"`, `"decimal(10,2)"`, …) for use in a cast."""
    if not isinstance(delta, str):
        raise ValueError(f"no cast to the nested type {delta}")
    if delta == "timestamp":
        return exp.DataType(this=exp.DataType.Type.TIMESTAMPTZ)
    if delta == "timestamp_ntz":
        return exp.DataType(this=exp.DataType.Type.TIMESTAMPNTZ)
    names = {"long": "bigint", "integer": "int", "short": "smallint", "byte": "tinyint"}
    return exp.DataType.build(names.get(delta, delta), dialect="databricks")
