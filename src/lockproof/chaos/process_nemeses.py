"""Nemeses of the family `kill`: signals to clients that are processes of their own."""

from __future__ import annotations

import random
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, ClassVar

from lockproof.chaos.nemesis import Nemesis

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena
    from lockproof.chaos.process import RecordedProcess


ASKED_AGAIN = 5.0
"""Seconds after which a process that was asked to end is asked again: the first time may have been lost."""


class OfProcesses(Nemesis):
    """Strikes one client of the arena that is a process and lives: the one named by parameter `on`, or one
    that is drawn."""

    on_a_client = True

    def __init__(self, **parameters: str) -> None:
        super().__init__(**parameters)
        self.hits = 0

    def missing(self, arena: Arena) -> str:
        if "clients.process" not in arena.backend.capabilities:
            return "the backend does not declare clients.process: it has no client that can be killed"
        return ""

    def lift(self, arena: Arena) -> None:
        """Who is dead stays dead; its lock is for `Arena.recover`."""

    def struck(self) -> int:
        return self.hits

    def victim(self, arena: Arena, rng: random.Random) -> RecordedProcess | None:
        """Whom it strikes; `None` when there is nobody, and then nothing was hit."""
        from lockproof.chaos.process import RecordedProcess

        alive = [c for c in arena.scope.clients if isinstance(c, RecordedProcess) and not c.process.ended]
        named = self.parameters.get("on")
        candidates = [client for client in alive if named in (None, client.who)]
        return rng.choice(candidates) if candidates else None


class Ending(OfProcesses):
    """Ends the process by the signal `number`."""

    number: ClassVar[Signals]

    def strike(self, arena: Arena, rng: random.Random) -> None:
        victim = self.victim(arena, rng)
        if victim is not None:
            victim.process.signal(self.number)
            if victim.process.child.stopped:
                victim.process.resume()  # until then only SIGKILL would reach it
            if not victim.process.child.wait(ASKED_AGAIN):
                victim.process.signal(self.number)
            victim.process.await_end()
            self.hits += 1


class Kill(Ending):
    """SIGKILL: the process ends where it is, and nothing of it runs any more."""

    name = "kill.kill"
    number = SIGKILL


class Terminate(Ending):
    """SIGTERM: the process unwinds, and its exit handlers run."""

    name = "kill.term"
    number = SIGTERM


class HangUp(Ending):
    """SIGHUP, as when the terminal is closed: it unwinds, and its exit handlers run."""

    name = "kill.hup"
    number = SIGHUP


class Interrupt(Ending):
    """SIGINT, as Ctrl-C: it unwinds, and its exit handlers run."""

    name = "kill.int"
    number = SIGINT


class Stop(OfProcesses):
    """SIGSTOP: the process stands still, with all that it holds, until it is healed by SIGCONT."""

    name = "kill.stop"

    def __init__(self, **parameters: str) -> None:
        super().__init__(**parameters)
        self.stopped: RecordedProcess | None = None

    def strike(self, arena: Arena, rng: random.Random) -> None:
        self.stopped = self.victim(arena, rng)
        if self.stopped is not None:
            self.stopped.process.pause()
            self.hits += 1

    def lift(self, arena: Arena) -> None:
        if self.stopped is not None and not self.stopped.process.ended:
            self.stopped.process.resume()


NEMESES = (Kill, Stop, HangUp, Terminate, Interrupt)
