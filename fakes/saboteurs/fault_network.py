"""Saboteurs of single calls in a broken network: what the client is told of a call is not true."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import ClassVar
from urllib.parse import urlsplit

from lockproof.driver.api import LockInfo, Snapshot
from lockproof.driver.errors import DriverError
from lockproof.driver.http import HttpClient, place_workspace
from lockproof.fakes.drivers.memory_backend import MemoryStateClient
from lockproof.fakes.saboteurs.broken_wire import BrokenWire, Register

register = Register(__name__, *(f"FAULT-NET-00{number}" for number in (1, 2, 4, 5, 6, 7)))
SABOTEURS = register.saboteurs


class ExcusingClient(HttpClient):
    """Takes some failures of a change for success."""

    def excused(self, error: DriverError) -> bool:
        """Whether a failure is passed over in silence."""
        return False

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        self.excusing(lambda: super(ExcusingClient, self).put(workspace, data, lock_id=lock_id))

    def delete(self, workspace: str) -> None:
        self.excusing(lambda: super(ExcusingClient, self).delete(workspace))

    def lock(self, workspace: str, info: LockInfo) -> str:
        self.excusing(lambda: super(ExcusingClient, self).lock(workspace, info))
        return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        self.excusing(lambda: super(ExcusingClient, self).unlock(workspace, lock_id))

    def excusing(self, call: Callable[[], object]) -> None:
        try:
            call()
        except DriverError as error:
            if not self.excused(error):
                raise


@register.breaks("FAULT-NET-001", "FAULT-NET-002")
class SendsAndForgets(BrokenWire):
    """A change that was sent is taken for done, whether or not a reply came."""

    class Client(ExcusingClient):
        def excused(self, error: DriverError) -> bool:
            return error.kind == "unavailable" and "status" not in error.message


class PlainReader(HttpClient):
    """Reads a state over a connection of its own, as `body` reads it."""

    def body(self, reply: http.client.HTTPResponse) -> bytes:
        return reply.read()

    def get(self, workspace: str) -> Snapshot | None:
        address = urlsplit(place_workspace(self.settings.address, workspace))
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        headers = {"Authorization": self.settings.authorization or ""}
        try:
            connection.request("GET", address.path, headers=headers)
            reply = connection.getresponse()
            data = self.body(reply)
        except (OSError, http.client.HTTPException) as failure:
            raise DriverError("unavailable", True, "no reply") from failure
        finally:
            connection.close()
        if reply.status in {200, 204, 404}:
            return Snapshot(data) if reply.status == 200 else None
        raise DriverError("unavailable", True, f"read failed with status {reply.status}")


@register.breaks("FAULT-NET-002")
class TakesWhatCame(BrokenWire):
    """A reply that ends early is taken for the state, as far as it came."""

    class Client(PlainReader):
        def body(self, reply: http.client.HTTPResponse) -> bytes:
            try:
                return reply.read()
            except http.client.IncompleteRead as cut:
                return cut.partial


@register.breaks("FAULT-NET-004")
class DeliveredTwiceIsThereTwice(BrokenWire):
    """A write is appended to a log: delivered twice, it is there twice."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            same = self.backend.states.get(self.workspace) == data
            super().put(data + data if same else data, lock_id=lock_id)


@register.breaks("FAULT-NET-005")
class ServerErrorsAreIgnored(BrokenWire):
    """A change that is answered with a server error is taken for done."""

    class Client(ExcusingClient):
        def excused(self, error: DriverError) -> bool:
            return "failed with status 50" in error.message


class AbsentOn(HttpClient):
    """Reads a state as absent that could not be read for a reason of its own."""

    kind: ClassVar[str] = ""

    def get(self, workspace: str) -> Snapshot | None:
        try:
            return super().get(workspace)
        except DriverError as error:
            if error.kind == self.kind:
                return None
            raise


@register.breaks("FAULT-NET-006")
class ThrottledIsAbsent(BrokenWire):
    """A read that is throttled shows no state."""

    class Client(AbsentOn):
        kind = "throttled"


@register.breaks("FAULT-NET-007")
class UnauthorizedIsAbsent(BrokenWire):
    """A read without valid credentials shows no state."""

    class Client(AbsentOn):
        kind = "unauthorized"


@register.breaks("FAULT-NET-011")
class MarksItsWrites(BrokenWire):
    """A write leaves a mark before it begins and removes it when it is done; a state with a mark is not read,
    and when a write was broken off nobody removes it."""

    class Client(HttpClient):
        def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(f"{workspace}.mark", b"{}")
            super().put(workspace, data, lock_id=lock_id)
            super().delete(f"{workspace}.mark")

        def get(self, workspace: str) -> Snapshot | None:
            if super().get(f"{workspace}.mark") is not None:
                raise DriverError("unavailable", True, "the state is being written")
            return super().get(workspace)
