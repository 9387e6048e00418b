"""Statement text to one syntax tree with its parameters bound as literals.

`IDENTIFIER(…)` is resolved among the tokens, before parsing: it may stand wherever a name may. Values are
never pasted into the text; they become literal nodes of the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from sqlglot import exp
from sqlglot.dialects.databricks import Databricks
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from lockproof.fakes.databricks.sql import failures

_PART = re.compile(r"`((?:[^`]|``)+)`|([^`.\s]+)")
_COMMANDS = {"SHOW", "OPTIMIZE", "VACUUM", "RESTORE", "DESCRIBE", "DESC"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a request; `name` is None for a positional one, `value` None is NULL."""

    name: str | None
    value: str | None
    type: str = "STRING"


class Parameters:
    """The parameters of one statement."""

    def __init__(self, parameters: Iterable[Parameter] = ()) -> None:
        given = list(parameters)
        self.named = {item.name: item for item in given if item.name}
        self.positional = [item for item in given if not item.name]

    def get(self, name: str) -> Parameter:
        """Raises UNBOUND_SQL_PARAMETER."""
        if name not in self.named:
            raise failures.unbound_parameter(name)
        return self.named[name]

    def at(self, position: int) -> Parameter:
        if position >= len(self.positional):
            raise failures.unbound_parameter(f"_{position}")
        return self.positional[position]


@dataclass(frozen=True)
class Command:
    """A statement without an expression tree: `SHOW`, `DESCRIBE`, `OPTIMIZE`, … as its words and names."""

    words: tuple[str, ...]
    tokens: tuple[Token, ...]


def parse(text: str, parameters: Parameters) -> exp.Expr | Command:
    """The statement. Raises `SqlFailure` for text that is not one statement or for an unbound parameter."""
    tokens = list(_resolved(_tokens(text), parameters))
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise failures.syntax("", 1, 0)
    word = tokens[0].text.upper()
    if word in _COMMANDS:
        return Command(tuple(token.text for token in tokens), tuple(tokens))
    key = (text, tuple(token.text for token in tokens if token.token_type == TokenType.IDENTIFIER))
    return _bound(_tree(key, _Tokens(tokens)).copy(), parameters)


class _Tokens:
    """Tokens as an argument of a cache; equal to any, because the key beside them tells all."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tokens)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=1024)
def _tree(key: tuple[str, tuple[str, ...]], tokens: _Tokens) -> exp.Expr:
    try:
        trees = Databricks().parser().parse(tokens.tokens, key[0])
    except ParseError as error:
        found = error.errors[0] if error.errors else {}
        near = found.get("highlight")
        line, column = int(found.get("line") or 1), int(found.get("col") or 0)
        raise failures.syntax(f"'{near}'" if near else "", line, column) from None
    if len(trees) != 1 or trees[0] is None:
        raise failures.syntax("';'", 1, key[0].find(";"))
    if isinstance(trees[0], (exp.Alias, exp.Column, exp.Command)):
        first = tokens.tokens[0].text
        raise failures.syntax(f"'{first}'", 1, 0)
    return trees[0]


@lru_cache(maxsize=1024)
def _tokens(text: str) -> tuple[Token, ...]:
    try:
        found = Databricks().tokenize(text)
        if found and found[0].text.upper() in _COMMANDS and len(found) == 2:
            # sqlglot keeps what follows such a word as one string
            head = text.upper().find(found[0].text.upper()) + len(found[0].text)
            found = [found[0], *Databricks().tokenize(text[head:])]
    except TokenError as error:
        raise failures.syntax(f"'{str(error)[-20:]}'", 1, 0) from None
    return tuple(found)


def _resolved(tokens: tuple[Token, ...], parameters: Parameters) -> Iterator[Token]:
    """The tokens with each `IDENTIFIER(constant string)` replaced by the name that it spells."""
    at = 0
    while at < len(tokens):
        token = tokens[at]
        following = tokens[at + 1].token_type if at + 1 < len(tokens) else None
        if token.text.upper() != "IDENTIFIER" or following != TokenType.L_PAREN:
            yield token
            at += 1
            continue
        end = at + 2
        while end < len(tokens) and tokens[end].token_type != TokenType.R_PAREN:
            end += 1
        name = _constant(tokens[at + 2 : end], parameters)
        for index, part in enumerate(name_parts(name)):
            if index:
                yield Token(TokenType.DOT, ".", line=token.line, col=token.col)
            yield Token(TokenType.IDENTIFIER, part, line=token.line, col=token.col)
        at = end + 1


def _constant(tokens: tuple[Token, ...], parameters: Parameters) -> str:
    """The text of string literals and parameters joined with `||`."""
    text = ""
    marker = False
    for token in tokens:
        if token.token_type in (TokenType.COLON, TokenType.DPIPE):
            marker = token.token_type == TokenType.COLON
        elif marker:
            text += parameters.get(token.text).value or ""
            marker = False
        elif token.token_type == TokenType.STRING:
            text += token.text
        else:
            raise failures.SqlFailure(
                "NOT_A_CONSTANT_STRING.NOT_CONSTANT",
                "The expression used for the routine or clause IDENTIFIER must be a constant STRING which is "
                "NOT NULL.",
                "42601",
            )
    return text


def name_parts(name: str) -> list[str]:
    """`a.b.c`, each part perhaps in backticks. Raises PARSE_SYNTAX_ERROR."""
    parts: list[str] = []
    at = 0
    while True:
        found = _PART.match(name, at)
        if found is None:
            raise failures.syntax(f"'{name}'", 1, at)
        parts.append(found[1].replace("``", "`") if found[1] else found[2])
        at = found.end()
        if at == len(name):
            return parts
        if name[at] != ".":
            raise failures.syntax(f"'{name[at]}'", 1, at)
        at += 1


def _bound(tree: exp.Expr, parameters: Parameters) -> exp.Expr:
    position = 0
    for node in list(tree.find_all(exp.Placeholder)):
        if node.this:
            parameter = parameters.get(str(node.this))
        else:
            parameter = parameters.at(position)
            position += 1
        literal = literal_of(parameter.value, parameter.type)
        if node is tree:
            return literal
        node.replace(literal)
    return tree


def literal_of(value: str | None, type_text: str) -> exp.Expr:
    """A typed literal. Raises CAST_INVALID_INPUT when the text is no value of the type."""
    kind = type_text.strip().upper() or "STRING"
    if value is None or kind == "VOID":
        return exp.null() if kind in ("VOID", "STRING") else exp.cast(exp.null(), kind, dialect="databricks")
    if kind == "STRING":
        return exp.Literal.string(value)
    if kind == "BOOLEAN":
        if value.lower() not in ("true", "false"):
            raise failures.cast_invalid(f"'{value}'", kind)
        return exp.true() if value.lower() == "true" else exp.false()
    try:
        _CHECKS.get(kind.partition("(")[0], str)(value)
    except ValueError:
        raise failures.cast_invalid(f"'{value}'", kind) from None
    return exp.cast(exp.Literal.string(value), kind, dialect="databricks")


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC)


_CHECKS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "LONG"), int),
    **dict.fromkeys(("DOUBLE", "FLOAT", "DECIMAL"), float),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_NTZ", "DATE"), _moment),
}
