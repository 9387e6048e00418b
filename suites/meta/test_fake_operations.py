"""The published table of the fake's operations is that of its routes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lockproof.fakes import databricks
from lockproof.fakes.databricks import FakeWorkspace, Fidelity, Request, Response
from lockproof.fakes.databricks.coverage import current, operations, switches
from lockproof.fakes.databricks.router import Router, Routes

PUBLISHED = Path(databricks.__file__).with_name("OPERATIONS.md")


def test_published_operations_are_those_of_the_code() -> None:
    """OPERATIONS.md equals what the command prints."""
    command = [sys.executable, "-m", "lockproof.fakes.databricks.coverage"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert PUBLISHED.read_text(encoding="utf-8") == printed == current()


def test_every_route_is_in_the_table_with_its_source() -> None:
    """Each registered route has a row with name, path and source."""
    table = current()
    routes = [route for group in FakeWorkspace().router.groups for route in group.routes]
    assert len(routes) > 30
    for route in routes:
        assert route.name
        assert route.source
        assert f"`{route.method} {route.path}`" in table


def test_every_switch_is_explained() -> None:
    """Each fidelity switch has its sentence."""
    assert set(switches()) == set(vars(Fidelity()))
    assert all(meaning.strip() for meaning in switches().values())


def test_added_routes_are_answered_and_listed() -> None:
    """A part of its own registers routes that the workspace answers, with its state found by type."""

    class Kettle:
        boiled = 0

    routes = Routes("Kettle", scope="kitchen")

    @routes("POST", "/api/2.0/kettles/{name}/boil", name="Boil", source="test", blocking=True)
    def boil(workspace: FakeWorkspace, request: Request) -> Response:
        workspace.service(Kettle).boiled += 1
        return Response.of_json({"boiled": request.params["name"], "by": request.caller.name})

    workspace = FakeWorkspace()
    workspace.router.install([routes])
    workspace.attach(Kettle())
    headers = {"Authorization": f"Bearer {workspace.token}"}
    answer = workspace.handle(Request.to("POST", "/api/2.0/kettles/tea%20pot/boil?x=1", headers=headers))
    assert answer.json() == {"boiled": "tea pot", "by": "admin@example.com"}
    assert workspace.service(Kettle).boiled == 1
    assert "| Boil | `POST /api/2.0/kettles/{name}/boil` | `kitchen` |" in operations([routes])


def test_router_prefers_exact_routes_and_decodes_once() -> None:
    """An exact route wins over a pattern, `{rest...}` spans slashes, `{name}` does not."""
    routes = Routes("Paths")

    def answer(workspace: FakeWorkspace, request: Request) -> Response:
        return Response()

    for number, path in enumerate(("/api/2.0/x/{name}", "/api/2.0/x/{path...}", "/api/2.0/x/exact")):
        routes("GET", path, name=str(number), source="test")(answer)
    router = Router()
    router.install([routes])

    def found(url: str) -> tuple[str, dict[str, str]] | None:
        hit = router.find(Request.to("GET", url))
        return (hit[0].name, hit[1]) if hit else None

    assert found("/api/2.0/x/exact") == ("2", {})
    assert found("/api/2.0/x/a") == ("0", {"name": "a"})
    assert found("/api/2.0/x/a/b") == ("1", {"path": "a/b"})
    assert found("/api/2.0/x/a%252Fb") == ("0", {"name": "a%2Fb"})
    assert found("/api/2.0/y") is None
