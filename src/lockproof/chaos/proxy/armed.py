"""Faults that are armed: which exchange they strike next, how often they did, and whom they keep waiting."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Sequence

from lockproof.chaos.proxy.faults import LinkFault, Partition, Which
from lockproof.spec.outcome import Unknown

TIMEOUT = 30.0


class Armed:
    """A fault at a link, from arming to disarming; safe to use from any thread.

    `hits` counts the exchanges on which it was carried out (`DropReply` once the whole reply was there, a
    late `Duplicate` once the second copy was answered; a partition the messages that it kept back
    and the connections that it kept from coming about), `held` the messages that wait right now.
    """

    def __init__(
        self, fault: LinkFault | Partition, which: Which, link: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.fault = fault
        self.which = which
        self.link = link
        self._loop = loop
        self._hits = 0
        self._held = 0
        self._under_way = 0
        self._changed = threading.Condition()
        self._rng = random.Random(which.seed)
        self._seen = 0
        self._let_go = False
        self._disarmed = False
        self._waiters: set[asyncio.Future[None]] = set()
        self.on_disarm: Callable[[], None] = lambda: None  # called by whoever disarms it
        self.on_release: Callable[[], None] = lambda: None  # called on the loop

    @property
    def hits(self) -> int:
        return self._hits

    @property
    def held(self) -> int:
        return self._held

    def await_hits(self, count: int = 1, timeout: float = TIMEOUT) -> None:
        """Returns once `hits` is at least `count`. Raises `Unknown` after `timeout` seconds: the test's
        assumption that the fault hits was not met."""
        self._await(lambda: self._hits >= count, f"hit {count} times", timeout)

    def await_held(self, count: int = 1, timeout: float = TIMEOUT) -> None:
        """Returns once at least `count` wait. Raises `Unknown` after `timeout` seconds."""
        self._await(lambda: self._held >= count, f"held {count}", timeout)

    def await_settled(self, timeout: float = TIMEOUT) -> bool:
        """Returns once it is known of every exchange that it was to strike whether it has; False when that
        takes longer than `timeout` seconds. Meant for a fault that is disarmed: then `hits` is final."""
        with self._changed:
            return self._changed.wait_for(lambda: self._under_way == 0, timeout)

    def release(self) -> None:
        """Lets go what it holds, and what it would hold from now on."""
        with contextlib.suppress(RuntimeError):  # the proxy has ended, and with it all that was held
            self._loop.call_soon_threadsafe(self._release)

    def disarm(self) -> None:
        """No exchange is struck any more, and what was held goes on."""
        self._disarmed = True
        self.on_disarm()
        self.release()

    def _await(self, met: Callable[[], bool], what: str, timeout: float) -> None:
        with self._changed:
            if self._changed.wait_for(met, timeout):
                return
            raise Unknown(
                f"{type(self.fault).__name__} on link {self.link} should have {what} within {timeout:g} s; "
                f"it hit {self._hits} and holds {self._held}"
            )

    # --- on the loop ---

    @property
    def released(self) -> bool:
        return self._let_go or self._disarmed

    @property
    def spent(self) -> bool:
        """Whether it strikes nothing more."""
        times = self.which.times
        return self._disarmed or (times is not None and self._seen >= self.which.first - 1 + times)

    def claims(self) -> bool:
        """Counts an exchange that matches, and says whether it is one to strike."""
        if self.spent:
            return False
        self._seen += 1
        return self._seen >= self.which.first and self._rng.random() < self.which.probability

    def give_back(self) -> None:
        """An exchange that was claimed could not be struck: the series goes on without it."""
        self._seen -= 1

    def hit(self) -> None:
        with self._changed:
            self._hits += 1
            self._changed.notify_all()

    def count_under_way(self, change: int) -> None:
        with self._changed:
            self._under_way += change
            self._changed.notify_all()

    async def hold(self, seconds: float | None = None) -> None:
        """Waits until released, `seconds` at most."""
        if self.released:
            return
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        self._count_held(1)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)
            self._count_held(-1)

    def _count_held(self, change: int) -> None:
        with self._changed:
            self._held += change
            self._changed.notify_all()

    def _release(self) -> None:
        self._let_go = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.on_release()


class Strike:
    """A fault and one exchange that it strikes."""

    def __init__(self, armed: Armed) -> None:
        self.armed = armed
        self.fault = armed.fault
        self._settled = False
        armed.count_under_way(1)

    def hit(self) -> None:
        """The fault was carried out on the exchange; said twice, it counts once."""
        if not self._settled:
            self._settled = True
            self.armed.hit()
            self.armed.count_under_way(-1)

    def settle(self) -> None:
        """The exchange is over; not hit (there was no body to cut, or no reply), it counts for nothing."""
        if not self._settled:
            self._settled = True
            self.armed.give_back()
            self.armed.count_under_way(-1)

    async def hold(self, seconds: float | None = None) -> None:
        """Hits, and waits until released, `seconds` at most."""
        self.hit()
        await self.armed.hold(seconds)


class Script:
    """The faults armed at a link. The first that strikes an exchange acts; those after it do not count it."""

    def __init__(self) -> None:
        self.armed: Sequence[Armed] = ()
        self._mutex = threading.Lock()

    def add(self, armed: Armed) -> None:
        armed.on_disarm = lambda: self._remove(armed)
        with self._mutex:
            self.armed = (*self.armed, armed)

    def _remove(self, armed: Armed) -> None:
        with self._mutex:
            self.armed = tuple(other for other in self.armed if other is not armed)

    def needs_text(self, method: str, path: str) -> bool:
        """Whether an exchange cannot be judged without its text."""
        return any(a.which.text != "*" and not a.spent and a.which.fits(method, path) for a in self.armed)

    def strike(
        self,
        method: str = "",
        path: str = "",
        texts: Sequence[str] = (),
        able: Callable[[Armed], bool] = lambda _: True,
    ) -> Strike | None:
        """The fault that strikes the exchange. `able` tells those apart that could not be carried out."""
        for armed in self.armed:
            which = armed.which
            if not which.fits(method, path) or not able(armed):
                continue
            if (which.text == "*" or any(map(which.fits_text, texts))) and armed.claims():
                return Strike(armed)
        return None
