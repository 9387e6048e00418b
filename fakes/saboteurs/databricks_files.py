"""The reference backend with its files broken in one way each: paths, requests, retries, absence, listing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import requests
import urllib3

from lockproof.driver.databricks import DatabricksScope
from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.broken_databricks import Broken
from tofu_databricks.client import StateClient
from tofu_databricks.config import Config
from tofu_databricks.errors import (
    BackendError,
    NotFound,
    PermissionDenied,
)
from tofu_databricks.layout import DEFAULT, STATE_SUFFIX, Layout
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.reply import RETRIED, Reply
from tofu_databricks.transport import Guard, Transport, decode_object
from tofu_databricks.volume import DIRECTORIES, Entry, Volume, encode

register = Register(__name__, "databricks")
SABOTEURS = register.saboteurs

NO_RETRIES_LEFT = ("DBX-RETRY-005", "DBX-RETRY-006", "DBX-FENCE-002")
"""What cannot hold when nothing is sent again."""


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


@register.breaks("DBX-COST-001", "DBX-COST-003")
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


@register.breaks("DBX-COST-003", "DBX-LOCK-007")
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


@register.breaks("DBX-RETRY-003", "DBX-RETRY-002", "DBX-FENCE-002")
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


@register.breaks("DBX-RETRY-005", "DBX-FENCE-002")
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
