"""Switches for behaviour that Databricks does not document, or that differs between clouds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

CHOICES: dict[str, list[str | int]] = {"cloud": ["aws", "azure", "gcp"], "conflict_status": [400, 409]}


@dataclass
class Fidelity:
    """The defaults are what an AWS workspace is known to do.

    parents_auto_created: an upload creates missing directories; off: 404 for the directory.
    emptied_root_is_missing: a volume emptied of its last file answers 404 for its own root (databricks/cli
        #5834).
    directories_vanish: a directory disappears with its last child (implicit directories of object stores).
    atomic_create: `overwrite=false` checks and writes at one instant; off: the check happens when the head
        of the request arrives, so that overlapping creates may both succeed.
    retry_after: a scripted 429 or 503 without headers of its own carries `Retry-After: 1`.
    hidden_volume_requests: how many requests answer 404 for a new volume before it is seen.
    stale_reads: how many reads after each write or delete still see what was there before.
    max_page: the largest page of any listing, whatever `page_size` or `max_results` asks for.
    empty_pages: every page of a listing is preceded by an empty one with a `next_page_token`.
    unordered_lists: directory listings come in an order that is not by name.
    conflict_status: status of creating a Unity Catalog object that exists, 400 or 409.
    cloud: aws and azure upload in parts, gcp in a resumable session; error bodies of the storage follow.
    row_level_concurrency: new Delta tables have deletion vectors, and with them row-level concurrency, where
        `delta.enableDeletionVectors` says nothing else.
    row_level_phantoms: with row-level concurrency, two non-blind statements that insert what the other would
        have read both commit; whether they conflict is not documented.
    presigned_urls: off: every presign and initiate call is 403 with reason FILES_API_API_IS_NOT_ENABLED.
    files_api_3: the preview of Files API 3.0 is enabled; off: 404 ENDPOINT_NOT_FOUND.
    content_etags: an entity tag is a hash of the content: the same bytes written again have the same tag.
    """

    parents_auto_created: bool = True
    emptied_root_is_missing: bool = False
    directories_vanish: bool = False
    atomic_create: bool = True
    retry_after: bool = True
    hidden_volume_requests: int = 0
    stale_reads: int = 0
    max_page: int = 1000
    empty_pages: bool = False
    unordered_lists: bool = False
    conflict_status: int = 400
    row_level_concurrency: bool = True
    row_level_phantoms: bool = False
    cloud: Literal["aws", "azure", "gcp"] = "aws"
    presigned_urls: bool = True
    files_api_3: bool = False
    content_etags: bool = False

    def change(self, **switches: Any) -> None:
        """Sets switches by name, all or none. Raises ValueError for an unknown name or value."""
        known = {item.name for item in fields(self)}
        for name, value in switches.items():
            if name not in known:
                raise ValueError(f"no fidelity switch {name!r}; known: {', '.join(sorted(known))}")
            if type(value) is not type(getattr(self, name)):
                wanted = type(getattr(self, name)).__name__
                raise ValueError(f"fidelity switch {name!r} is of type {wanted}, got {value!r}")
            if value not in CHOICES.get(name, [value]):
                raise ValueError(f"fidelity switch {name!r} is one of {CHOICES[name]}, got {value!r}")
        for name, value in switches.items():
            setattr(self, name, value)
