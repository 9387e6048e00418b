"""Controlled schedules: a few clients of an in-process driver, run one step at a time in every order.

`explore` runs a `Program` on a `Subject` under the schedules of a `Strategy`; `replay` repeats one. A driver
needs nothing for it: its client calls are the steps. With `checkpoint` it, or a fake beneath it, has more.

>>> from lockproof.driver import LockInfo
>>> from lockproof.driver.memory import MemoryDriver
>>> def write(client, shared):
...     lock_id = client.lock("default", LockInfo.new(client.who))
...     client.put("default", client.who.encode(), lock_id=lock_id)
...     client.unlock("default", lock_id)
>>> program = Program("writers", "two clients write under the lock", {"alice": write, "bob": write})
>>> with subject_of(MemoryDriver({})) as subject:
...     found = explore(program, subject, Exhaustive(preemptions=2))
>>> found.status, found.complete, found.schedules
('valid', True, 6)
"""

from lockproof.explore.clock import ExploredClock
from lockproof.explore.exploration import Exploration, explore, replay
from lockproof.explore.lane import Choice
from lockproof.explore.program import DriverSubject, Explorable, Program, Shared, Subject, subject_of
from lockproof.explore.schedule import Schedule, ScheduleError
from lockproof.explore.steps import CRASH, LOST_REPLY, Crashed, checkpoint, outside
from lockproof.explore.strategies import Exhaustive, Pct, RandomWalk, Strategy

__all__ = [
    "CRASH",
    "LOST_REPLY",
    "Choice",
    "Crashed",
    "DriverSubject",
    "Exhaustive",
    "Explorable",
    "Exploration",
    "ExploredClock",
    "Pct",
    "Program",
    "RandomWalk",
    "Schedule",
    "ScheduleError",
    "Shared",
    "Strategy",
    "Subject",
    "checkpoint",
    "explore",
    "outside",
    "replay",
    "subject_of",
]
