"""What is known of one workspace after a sequence of calls: every lock holder and state that is possible.

Calls are sequential, so that most knowledge is certain. A lost reply, a client that ends where a backend
does not promise that its lock stays, and calls that the contract leaves open make it a set of several
possibilities, which the next observation narrows. The sets are kept apart for lock and state: together
they allow more than is possible, and never less.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lockproof.driver import LockInfo


@dataclass(eq=False)
class Grant:
    """One acquisition: the request `info` of the client `owner`, written `term` in a program.

    `id` is the lock's id, `None` while no reply has told it, and `id_term` how a program writes it.
    `again` is whether the request was repeated, `told_again` whether only a repetition told the id, `orphan`
    whether the process that asked has ended, `forced` whether somebody else released it.
    """

    owner: str
    info: LockInfo
    term: str
    id: str | None = None
    id_term: str = ""
    again: bool = False
    told_again: bool = False
    orphan: bool = False
    forced: bool = False

    def is_named_by(self, holder: LockInfo) -> bool:
        """Whether a refusal speaks of this acquisition: by the request's token, or by the id."""
        return holder.Info == self.info.Info or (self.id is not None and holder.ID == self.id)


@dataclass
class Place:
    """One workspace.

    `holders` are the acquisitions that may hold the lock now (`None`: nobody), `states` the bytes that may
    be stored (`None`: no state); `listed` says whether the workspace must be or must not be listed (`None`:
    either). `released` are the acquisitions that have ended, `requests` what each client last asked for.

    `free_by` is the requirement that promises that a free lock can be taken; `by_name` says that the holder
    is known from a refusal alone, which chose between several; `suspect` is a requirement whose violation
    would show as a second holder, `rewritten` the one that a write after a deletion is about; `deleted` says
    whether there was any.

    `doubted` are states that were possible until somebody read another one; `unseen` is the requirement that
    the last change of the state is about, until it was read; `change` is the call that last changed it and
    `writer` who made it; `contenders` are the clients that asked for the lock since it was last taken.
    """

    name: str
    holders: list[Grant | None] = field(default_factory=lambda: [None])
    states: list[bytes | None] = field(default_factory=lambda: [None])
    listed: bool | None = False
    released: list[Grant] = field(default_factory=list)
    requests: dict[str, Grant] = field(default_factory=dict)
    free_by: str = ""
    by_name: bool = False
    suspect: str = ""
    rewritten: str = ""
    deleted: bool = False
    doubted: list[bytes | None] = field(default_factory=list)
    unseen: str = ""
    change: str = ""
    writer: str = ""
    read: bool = False
    contenders: set[str] = field(default_factory=set)

    @property
    def holder(self) -> Grant | None:
        """Who holds the lock for certain."""
        return self.holders[0] if len(self.holders) == 1 else None

    @property
    def free(self) -> bool:
        """Whether the lock is free for certain."""
        return self.holders == [None]

    @property
    def grants(self) -> list[Grant]:
        """Every acquisition that may hold the lock."""
        return [grant for grant in self.holders if grant is not None]

    def take(self, grant: Grant) -> None:
        """`grant` holds the lock, and nobody else any more."""
        self.released += [other for other in self.grants if other is not grant]
        self.holders, self.by_name = [grant], False
        self.contenders = {grant.owner}

    def may_take(self, grant: Grant) -> None:
        """`grant` holds the lock now if it was free."""
        if None in self.holders and grant not in self.holders:
            self.holders.append(grant)

    def free_up(self, free_by: str) -> None:
        """Nobody holds the lock; `free_by` promises that it can be taken."""
        self.released += self.grants
        self.holders, self.by_name = [None], False
        self.free_by = free_by

    def may_free(self) -> None:
        """Whoever holds the lock may have lost it."""
        if None not in self.holders:
            self.holders.append(None)

    def refuse(self, holder: LockInfo | None, term: str) -> None:
        """A request was refused: somebody has the lock, `holder` where the refusal `term` names it."""
        named = [grant for grant in self.grants if holder is not None and grant.is_named_by(holder)]
        self.by_name = bool(named) and (self.by_name or len(self.holders) > 1)
        self.holders = list(named or self.grants)
        if holder is not None and named and named[0].id is None:
            named[0].id, named[0].id_term = holder.ID, f"id_of({term})"

    def store(self, data: bytes | None, change: str, writer: str) -> None:
        """`data` is what is stored, by the call `change` of `writer`."""
        self.states, self.doubted = [data], []
        self.change, self.writer = change, writer

    def may_store(self, data: bytes | None, change: str, writer: str) -> None:
        """`data` may be what is stored now."""
        if data not in self.states:
            self.states.append(data)
        self.change, self.writer = change, writer
