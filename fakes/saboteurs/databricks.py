"""The reference backend, broken in one way each: what the suite `databricks` has to catch."""

from __future__ import annotations

import configparser
import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import psycopg
import requests
import urllib3

from lockproof.driver.api import Address
from lockproof.driver.databricks import DatabricksDriver, DatabricksScope
from lockproof.fakes.saboteurs.broken import Register
from tofu_databricks.auth import Credentials
from tofu_databricks.backend import Backend
from tofu_databricks.client import StateClient
from tofu_databricks.config import Config
from tofu_databricks.errors import (
    BackendError,
    LockNotHeld,
    NotFound,
    PermissionDenied,
    StateLocked,
    Unauthenticated,
    WorkspaceError,
)
from tofu_databricks.layout import DEFAULT, STATE_SUFFIX, Layout
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.connector import LakebaseConnector
from tofu_databricks.locks.lakebase import LakebaseLocks
from tofu_databricks.reply import RETRIED, Reply
from tofu_databricks.transport import Guard, Transport, decode_object
from tofu_databricks.volume import DIRECTORIES, Entry, Volume, encode

register = Register(__name__, "databricks")
SABOTEURS = register.saboteurs

NO_RETRIES_LEFT = ("DBX-RETRY-005", "DBX-RETRY-006", "DBX-FENCE-002")
"""What cannot hold when nothing is sent again."""


class Broken(DatabricksDriver):
    """The reference driver with `parts` in the place of parts of its backend."""

    parts: ClassVar[Mapping[str, Any]] = {}
    scope_class: ClassVar[type[DatabricksScope]] = DatabricksScope

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.backend_class = type("BrokenBackend", (Backend,), dict(self.parts))

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> DatabricksScope:
        return self.scope_class(self, name, links or {}, attach=attach)


# --- Where the state lies


class SuffixedLayout(Layout):
    def path(self, workspace: str) -> str:
        path = super().path(workspace)
        return f"{path}.json" if workspace == DEFAULT else path


@register.breaks("DBX-PATH-001", "DBX-PATH-004", "DBX-RETRY-002", "DBX-RETRY-005")
class AddsSuffix(Broken):
    """The default workspace's file is not the one that the key names."""

    parts: ClassVar = {"layout_class": SuffixedLayout}


class FlatLayout(Layout):
    def path(self, workspace: str) -> str:
        return super().path(workspace.replace("/", "-"))


@register.breaks("DBX-PATH-002")
class FlattensSlashes(Broken):
    """A slash in a workspace's name becomes a dash."""

    parts: ClassVar = {"layout_class": FlatLayout}


class SpelledScope(DatabricksScope):
    def config(self, **overrides: Any) -> Config:
        config = super().config(**overrides)
        for name in ("catalog", "schema", "volume"):
            if name in overrides:
                object.__setattr__(config, name, overrides[name])
        return config


@register.breaks("DBX-PATH-003")
class KeepsSpelling(Broken):
    """The lock is named after the volume as it was spelled."""

    scope_class = SpelledScope


class PlainWriteVolume(Volume):
    def write(self, path: str, data: bytes, guard: Guard | None = None) -> None:
        try:
            self._put(path, data, guard)
        except NotFound as error:
            raise self.missing(error) from None


@register.breaks("DBX-PATH-004")
class MakesNoDirectory(Broken):
    """A directory that is missing is an error of the first write."""

    parts: ClassVar = {"volume_class": PlainWriteVolume}


# --- What a call costs


class LookingVolume(Volume):
    def read(self, path: str) -> bytes | None:
        super().read(path)
        return super().read(path)


@register.breaks("DBX-COST-001")
class ReadsTwice(Broken):
    """A read asks first whether there is something to read."""

    parts: ClassVar = {"volume_class": LookingVolume}


class DoubtfulClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(data, lock_id=lock_id)
        self.get()


@register.breaks("DBX-COST-002")
class ReadsBack(Broken):
    """A write reads back what it wrote."""

    parts: ClassVar = {"client_class": DoubtfulClient}


class CautiousClient(StateClient):
    def lock(self, info: LockInfo) -> str:
        self.lock_holder()
        return super().lock(info)


@register.breaks("DBX-COST-003")
class LooksBeforeLocking(Broken):
    """A lock asks first who holds it."""

    parts: ClassVar = {"client_class": CautiousClient}


# --- Failures that may pass


class ImpatientTransport(Transport):
    retries = 0


@register.breaks("DBX-RETRY-001", *NO_RETRIES_LEFT)
class NeverRetries(Broken):
    """Nothing is sent again after an outage."""

    parts: ClassVar = {"transport_class": ImpatientTransport}


class StubbornTransport(Transport):
    retries = 9


@register.breaks("DBX-RETRY-001")
class RetriesTenTimes(Broken):
    """An outage is retried nine times."""

    parts: ClassVar = {"transport_class": StubbornTransport}


class DeafTransport(Transport):
    def pause(self, reply: Reply) -> float | None:
        return None


@register.breaks("DBX-RETRY-002")
class IgnoresRetryAfter(Broken):
    """Retry-After is not looked at."""

    parts: ClassVar = {"transport_class": DeafTransport}


class SecondsTransport(Transport):
    def pause(self, reply: Reply) -> float | None:
        return float(reply.header("Retry-After")) if reply.header("Retry-After").isdigit() else None


@register.breaks("DBX-RETRY-002")
class ReadsSecondsOnly(Broken):
    """Retry-After as a date is not understood."""

    parts: ClassVar = {"transport_class": SecondsTransport}


class CountingTransport(Transport):
    retried_statuses = RETRIED | {429}


@register.breaks("DBX-RETRY-003")
class CountsThrottling(Broken):
    """Throttling is an outage like others: three retries, and an error that does not say what it was."""

    parts: ClassVar = {"transport_class": CountingTransport}


class InsistentTransport(Transport):
    retried_statuses = RETRIED | {401, 403}


@register.breaks("DBX-RETRY-004", "DBX-AUTH-001", "DBX-GRANT-001", "DBX-RETRY-005")
class RetriesRefusals(Broken):
    """401 and 403 are sent again, as if credentials got better by that."""

    parts: ClassVar = {"transport_class": InsistentTransport}


class CertainTransport(Transport):
    def request(self, *args: Any, **keywords: Any) -> Reply:
        try:
            return super().request(*args, **keywords)
        except BackendError as error:
            error.definite = True
            raise


@register.breaks("DBX-RETRY-005")
class ClaimsToHaveFailed(Broken):
    """A write of which nobody knows is reported as failed."""

    parts: ClassVar = {"transport_class": CertainTransport}


class ContentTransport(Transport):
    def body(self, response: requests.Response) -> bytes:
        chunks: list[bytes] = []
        with contextlib.suppress(urllib3.exceptions.HTTPError):  # what has arrived is taken for all there is
            chunks.extend(response.raw.stream(512))
        return b"".join(chunks)


@register.breaks("DBX-RETRY-006")
class TakesWhatArrives(Broken):
    """A body that ends early is taken for the state."""

    parts: ClassVar = {"transport_class": ContentTransport}


# --- What is missing


class HopefulVolume(Volume):
    def read(self, path: str) -> bytes | None:
        try:
            return super().read(path)
        except BackendError as error:
            if isinstance(error.__context__, NotFound):
                return None
            raise


@register.breaks("DBX-ABSENT-001")
class TakesEvery404ForEmpty(Broken):
    """Whatever is not found means that there is no state yet."""

    parts: ClassVar = {"volume_class": HopefulVolume}


class StrictVolume(Volume):
    def entries(self, directory: str) -> Iterator[Entry]:
        self.transport.request("GET", DIRECTORIES + encode(directory))
        return super().entries(directory)


@register.breaks("DBX-ABSENT-002", "DBX-PATH-002")
class NeedsDirectory(Broken):
    """A directory of workspaces that is not there yet is an error."""

    parts: ClassVar = {"volume_class": StrictVolume}


class ForgivingVolume(Volume):
    def read(self, path: str) -> bytes | None:
        try:
            return super().read(path)
        except PermissionDenied:
            return None


@register.breaks("DBX-GRANT-001")
class TakesDeniedForEmpty(Broken):
    """A state that may not be read means that there is no state yet."""

    parts: ClassVar = {"volume_class": ForgivingVolume}


# --- Listing


class FirstPageVolume(Volume):
    def entries(self, directory: str) -> Iterator[Entry]:
        try:
            reply = self.transport.request("GET", DIRECTORIES + encode(directory))
        except NotFound as error:
            if error.reason:
                return
            raise self.missing(error) from None
        for item in decode_object(reply, "listing").get("contents") or []:
            yield Entry(item["name"], item["is_directory"])


@register.breaks("DBX-LIST-001", "DBX-LIST-002")
class ReadsFirstPage(Broken):
    """A listing ends with its first page."""

    parts: ClassVar = {"volume_class": FirstPageVolume}


class UntilEmptyVolume(Volume):
    def entries(self, directory: str) -> Iterator[Entry]:
        token = ""
        while True:
            try:
                reply = self.transport.request(
                    "GET", DIRECTORIES + encode(directory), query={"page_token": token} if token else {}
                )
            except NotFound as error:
                if error.reason:
                    return
                raise self.missing(error) from None
            page = decode_object(reply, "listing")
            contents = page.get("contents") or []
            yield from (Entry(item["name"], item["is_directory"]) for item in contents)
            token = page.get("next_page_token") or ""
            if not contents or not token:
                return


@register.breaks("DBX-LIST-001", "DBX-LIST-002")
class StopsAtEmptyPage(Broken):
    """A listing ends with its first empty page."""

    parts: ClassVar = {"volume_class": UntilEmptyVolume}


class WelcomingLayout(Layout):
    def workspace(self, file_name: str) -> str | None:
        return super().workspace(file_name) or file_name.removesuffix(STATE_SUFFIX)


@register.breaks("DBX-LIST-003")
class ListsStrangers(Broken):
    """Every file beside the workspaces is one."""

    parts: ClassVar = {"layout_class": WelcomingLayout}


# --- Who calls


class BlurringTransport(Transport):
    def request(self, *args: Any, **keywords: Any) -> Reply:
        try:
            return super().request(*args, **keywords)
        except Unauthenticated:
            raise PermissionDenied("the call is not permitted") from None


@register.breaks("DBX-AUTH-001")
class BlursForbidden(Broken):
    """Every 403 is a missing grant."""

    parts: ClassVar = {"transport_class": BlurringTransport}


class AmbientCredentials(Credentials):
    @property
    def direct(self) -> bool:
        return super().direct and "DATABRICKS_CLIENT_ID" not in os.environ

    def explicit(self) -> dict[str, Any]:
        return {**super().explicit(), "auth_type": None}


@register.breaks("DBX-AUTH-002", "DBX-AUTH-004")
class MixesCredentials(Broken):
    """Ambient credentials are mixed with explicit ones."""

    parts: ClassVar = {"credentials_class": AmbientCredentials}


class FileCredentials(Credentials):
    def explicit(self) -> dict[str, Any]:
        found = super().explicit()
        file = configparser.ConfigParser()
        file.read(os.environ.get("DATABRICKS_CONFIG_FILE", ""))
        return found if found["token"] or found["profile"] else {**found, **file.defaults()}


@register.breaks("DBX-AUTH-003")
class PrefersFile(Broken):
    """The configuration file comes before the environment."""

    parts: ClassVar = {"credentials_class": FileCredentials}


class TokenCredentials(Credentials):
    def explicit(self) -> dict[str, Any]:
        return {
            name: value for name, value in super().explicit().items() if name in {"host", "token", "profile"}
        }


@register.breaks("DBX-AUTH-004", "DBX-AUTH-002")
class IgnoresServicePrincipal(Broken):
    """client_id and client_secret are not used."""

    parts: ClassVar = {"credentials_class": TokenCredentials}


class TalkativeTransport(Transport):
    def request(self, *args: Any, **keywords: Any) -> Reply:
        try:
            return super().request(*args, **keywords)
        except BackendError as error:
            error.args = (f"{error} (sent with {dict(self.authenticate())})",)
            raise


@register.breaks("DBX-AUTH-005")
class ShowsHeaders(Broken):
    """An error shows the headers of the request."""

    parts: ClassVar = {"transport_class": TalkativeTransport}


class LiteralScope(DatabricksScope):
    def config(self, **overrides: Any) -> Config:
        literal = {
            name: value.replace("${env:", "${ENV:") if isinstance(value, str) else value
            for name, value in overrides.items()
        }
        return super().config(**literal)


@register.breaks("DBX-CONF-001")
class TakesReferencesLiterally(Broken):
    """`${env:NAME}` is the token."""

    scope_class = LiteralScope


# --- Locks in Lakebase


class LockingBackend(Backend):
    """A backend whose lock store is `lakebase_locks`."""

    lakebase_locks: type[LakebaseLocks] = LakebaseLocks

    def open_locks(self) -> LockStore:
        found = super().open_locks()
        found.__class__ = self.lakebase_locks  # the same store, with other methods
        return found


class LockBroken(DatabricksDriver):
    """The reference driver with `locks` in the place of its lock store's class."""

    locks: ClassVar[type[LakebaseLocks]] = LakebaseLocks

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.backend_class = type("BrokenBackend", (LockingBackend,), {"lakebase_locks": self.locks})


class CreatingBackend(Backend):
    def open_locks(self) -> LockStore:
        self.config = dataclasses.replace(self.config, create_lock_table=True)
        return super().open_locks()


@register.breaks("DBX-LOCK-001")
class CreatesAnyway(DatabricksDriver):
    """The lock table is created where it may not be."""

    backend_class = CreatingBackend


TOGETHER = threading.Barrier(8)


class RacyLocks(LakebaseLocks):
    def _create(self, connection: psycopg.Connection[Any]) -> None:
        schema, table = connection.execute(self._statements.look).fetchone() or (None, None)
        try:
            TOGETHER.wait(0.2)  # whoever looks at the same moment sees the same
        except threading.BrokenBarrierError:
            TOGETHER.reset()
        if not schema:
            connection.execute(self._statements.create_schema.encode())
        if not table:
            connection.execute(self._statements.create_table.encode())


@register.breaks("DBX-LOCK-002")
class CreatesWithoutCare(LockBroken):
    """Who creates the lock table at the same time as another fails."""

    locks = RacyLocks


class ForgetfulLocks(LakebaseLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        row = (key, info.ID, info.to_json())

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> str:
            if self._execute(connection, "lock.acquire", self._statements.insert, row):
                return info.ID
            raise StateLocked(holder=self._read(connection, key))

        return self._run(attempt)


@register.breaks("DBX-LOCK-003")
class RefusesItself(LockBroken):
    """A lock that was taken by a lost reply is refused to its own holder."""

    locks = ForgetfulLocks


class SessionLocks(LakebaseLocks):
    """Advisory locks of one session, as OpenTofu's pg backend holds them."""

    def acquire(self, key: str, info: LockInfo) -> str:
        statement = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> str:
            taken = connection.execute(statement.encode(), [f"{self.schema} {key}"]).fetchone()
            if taken and taken[0]:
                return info.ID
            raise StateLocked(holder=None)

        return self._retried(attempt)

    def release(self, key: str, lock_id: str) -> None:
        statement = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> None:
            freed = connection.execute(statement.encode(), [f"{self.schema} {key}"]).fetchone()
            if not (freed and freed[0]):
                raise LockNotHeld("nobody holds the lock")

        self._retried(attempt)

    def holder(self, key: str) -> LockInfo | None:
        return None


@register.breaks(
    "DBX-LOCK-004",
    *(
        "DBX-COST-002",
        "DBX-LOCK-001",
        "DBX-LOCK-003",
        "DBX-LOCK-005",
        "DBX-LOCK-006",
        "DBX-FENCE-001",
        "DBX-FENCE-002",
    ),
)
class LocksBySession(LockBroken):
    """The lock belongs to a session and ends with it."""

    locks = SessionLocks


class KeylessLocks(LakebaseLocks):
    def _create(self, connection: psycopg.Connection[Any]) -> None:
        create = self._statements.create_table.replace("PRIMARY KEY", "NOT NULL")
        self._statements = self._statements._replace(create_table=create)
        super()._create(connection)

    def acquire(self, key: str, info: LockInfo) -> str:
        insert = (
            f'INSERT INTO "{self.schema}"."{self.table}" (key, id, info) SELECT %s, %s, %s'
            f' WHERE NOT EXISTS (SELECT 1 FROM "{self.schema}"."{self.table}" WHERE key = %s) RETURNING id'
        )
        row = (key, info.ID, info.to_json(), key)

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> str:
            if connection.execute(insert.encode(), row).fetchall():
                self._granted.add((key, info.ID))
                return info.ID
            holder = self._read(connection, key)
            if holder is not None and holder.ID == info.ID:
                return info.ID
            raise StateLocked(holder=holder)

        return self._run(attempt)


@register.breaks("DBX-LOCK-005")
class LocksWithoutKey(LockBroken):
    """The lock table has no enforced key, and a lock is inserted where none is seen."""

    locks = KeylessLocks


class HoardingConnector(LakebaseConnector):
    first: Any = None

    def _fresh_token(self) -> Any:
        self.first = self.first or super()._fresh_token()
        return self.first


class HoardingBackend(Backend):
    def connector(self) -> LakebaseConnector:
        return HoardingConnector(self.config, self.transport.request_json, self.clock)


@register.breaks("DBX-LOCK-006")
class KeepsToken(DatabricksDriver):
    """The first token is used for every login."""

    backend_class = HoardingBackend


class CarelessClient(StateClient):
    def lock(self, info: LockInfo) -> str:
        return self.locks.acquire(self.path, info)


@register.breaks("DBX-LOCK-007")
class LocksAnywhere(Broken):
    """Nobody looks where others keep their locks."""

    parts: ClassVar = {"client_class": CarelessClient}


class UnfencedClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        self.volume.write(self.path, data)


@register.breaks("DBX-FENCE-001", "DBX-FENCE-002", "DBX-COST-002")
class WritesUnfenced(Broken):
    """A write does not look at the lock."""

    parts: ClassVar = {"client_class": UnfencedClient}


class LateFenceClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        self.volume.write(self.path, data)
        if lock_id is not None:
            self.require_lock(lock_id)


@register.breaks("DBX-FENCE-001", "DBX-FENCE-002")
class LooksTooLate(Broken):
    """A write looks at the lock when it is done."""

    parts: ClassVar = {"client_class": LateFenceClient}


class OnceFencedClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            self.require_lock(lock_id)
        self.volume.write(self.path, data)


@register.breaks("DBX-FENCE-002")
class LooksOnce(Broken):
    """A write looks at the lock before it is sent, and not before it is sent again."""

    parts: ClassVar = {"client_class": OnceFencedClient}


# --- Deleting a workspace


class ForcingBackend(Backend):
    def delete_workspace(self, name: str, force: bool = False) -> None:
        super().delete_workspace(name, force=True)


@register.breaks("DBX-DELETE-001")
class DeletesTracked(DatabricksDriver):
    """A workspace that tracks resources is deleted without a question."""

    backend_class = ForcingBackend


class RefusingBackend(Backend):
    def delete_workspace(self, name: str, force: bool = False) -> None:
        if not force and self.client(name).get() is not None:
            raise WorkspaceError(f"workspace {name!r} has a state")
        super().delete_workspace(name, force)


@register.breaks("DBX-DELETE-002")
class DeletesOnlyByForce(DatabricksDriver):
    """A workspace that tracks nothing is not deleted without force."""

    backend_class = RefusingBackend
