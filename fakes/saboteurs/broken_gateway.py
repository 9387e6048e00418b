"""What saboteurs of the HTTP backend protocol are made of: the gateway with a broken app or broken states."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from lockproof.fakes.drivers.memory_backend import MemoryBackend, MemoryStateClient
from lockproof.fakes.drivers.served import SECRET, Served
from lockproof.fakes.saboteurs.catalogue import Saboteur
from tofu_databricks.errors import StateLocked
from tofu_databricks.gateway import Access, GatewayApp
from tofu_databricks.gateway.app import StateClient
from tofu_databricks.gateway.replies import lock_info
from tofu_databricks.lockinfo import LockInfo

S = TypeVar("S", bound="type[BrokenServer]")
CLIENTS = ("tofu", "terraform")


class BrokenServer(Served):
    """Serves an `App` over a backend whose clients are of type `State`: a subclass brings one or both."""

    App: ClassVar[type[GatewayApp]] = GatewayApp
    State: ClassVar[type[MemoryStateClient]] = MemoryStateClient

    @classmethod
    def app(cls) -> GatewayApp:
        return cls.App(BrokenBackend(cls.State), Access(SECRET))


class BrokenBackend(MemoryBackend):
    """The backend in memory with clients of another type."""

    def __init__(self, client_type: type[MemoryStateClient]) -> None:
        super().__init__()
        self.client_type = client_type

    def client(self, workspace: str = "default") -> MemoryStateClient:
        return self.client_type(self, workspace)


def answering(method: str, old: int, new: int) -> type[GatewayApp]:
    """A gateway that says `new` where it should say `old` to `method`."""

    class Answering(GatewayApp):
        async def respond(self, request: Request) -> Response:
            response = await super().respond(request)
            if request.method == method and response.status_code == old:
                response.status_code = new
                if new == 204:  # has no body, and some servers send none that has
                    return Response(status_code=new)
            return response

    return Answering


class RefusingApp(GatewayApp):
    """A gateway whose 423 has the body that `refusal` makes of holder and asker."""

    async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
        asker = LockInfo.from_json(await request.body())
        try:
            return await super().lock(request, workspace, client)
        except StateLocked as refused:
            return self.refusal(refused.holder or asker, asker)

    def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
        return lock_info(423, holder)


class UnfencedState(MemoryStateClient):
    """Writes whatever lock the writer shows."""

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(data)


class Register:
    """Collects the saboteurs of one module, as `catalogue` wants them.

    The class decorated is the server; its docstring is the story, its name the entry's. What only a real
    client shows (`CLI-…`) needs one on PATH, and is run against the tests of that one requirement; the
    rest against all tests of the protocol.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.saboteurs: list[Saboteur] = []

    def breaks(self, requirement: str, *also: str) -> Callable[[S], S]:
        """The server breaks `requirement`; those of `also` cannot hold then either."""

        def register(server: S) -> S:
            real = requirement.startswith("CLI-")
            self.saboteurs.append(
                Saboteur(
                    name=re.sub(r"(?<!^)(?=[A-Z])", "-", server.__name__).lower(),
                    breaks=requirement,
                    story=" ".join((server.__doc__ or "").split()),
                    backend=f"py:{self.module}:{server.__name__}",
                    suites=("clients",),
                    also=also,
                    only=(requirement,) if real else ("HTTP-*",),
                    programs=CLIENTS if real else (),
                )
            )
            return server

        return register
