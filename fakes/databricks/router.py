"""Routes: what the fake answers, each with the name, source and behaviour notes that OPERATIONS.md shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

Handler = Callable[["FakeWorkspace", Request], Response]

_PARAMETER = re.compile(r"\{(\w+)(\.\.\.)?\}")


@dataclass(frozen=True)
class Route:
    """One operation.

    path: matched against the decoded path; `{name}` is one segment, `{name...}` the rest with its slashes.
    scope: the OAuth scope that the caller's token needs, None for a route without authentication.
    host: `workspace` or `storage`.
    blocking: the handler waits for something outside of the fake (a database), so it runs in a thread of its
        own and without the workspace's mutex.
    """

    method: str
    path: str
    handler: Handler
    name: str
    source: str
    notes: str = ""
    scope: str | None = "all-apis"
    host: str = "workspace"
    blocking: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        parts = []
        at = 0
        for found in _PARAMETER.finditer(self.path):
            parts.append(re.escape(self.path[at : found.start()]))
            parts.append(f"(?P<{found[1]}>{'.*' if found[2] else '[^/]+'})")
            at = found.end()
        parts.append(re.escape(self.path[at:]))
        return re.compile("".join(parts), re.DOTALL)


class Routes:
    """A group of routes under one heading of OPERATIONS.md; calling it decorates a handler."""

    def __init__(self, title: str, *, scope: str | None = "all-apis", host: str = "workspace") -> None:
        self.title = title
        self.scope = scope
        self.host = host
        self.routes: list[Route] = []

    def __call__(
        self,
        method: str,
        path: str,
        *,
        name: str,
        source: str,
        notes: str = "",
        scope: str | None = "",
        blocking: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Registers `handler(workspace, request) -> response`. `scope=""`: the group's scope."""

        def register(handler: Handler) -> Handler:
            chosen = self.scope if scope == "" else scope
            self.routes.append(Route(method, path, handler, name, source, notes, chosen, self.host, blocking))
            return handler

        return register


class Router:
    """Finds the route of a request; the first registration wins."""

    def __init__(self) -> None:
        self.groups: list[Routes] = []
        self.exact: dict[tuple[str, str, str], Route] = {}
        self.patterns: dict[tuple[str, str, str], list[tuple[re.Pattern[str], Route]]] = {}

    def install(self, groups: Iterable[Routes]) -> None:
        for group in groups:
            self.groups.append(group)
            for route in group.routes:
                if "{" not in route.path:
                    self.exact.setdefault((route.host, route.method, route.path), route)
                else:
                    key = (route.host, route.method, _stem(route.path.partition("{")[0]))
                    self.patterns.setdefault(key, []).append((route.pattern, route))

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        """The route and its path parameters."""
        exact = self.exact.get((request.host, request.method, request.path))
        if exact is not None:
            return exact, {}
        for stem in (_stem(request.path), ""):
            for pattern, route in self.patterns.get((request.host, request.method, stem), ()):
                match = pattern.fullmatch(request.path)
                if match:
                    return route, match.groupdict()
        return None


def _stem(path: str) -> str:
    """The first four segments' worth of a path, the key under which patterns are kept; "" when shorter."""
    parts = path.split("/", 5)
    return "/".join(parts[:4]) if len(parts) > 4 else ""
