"""Runs child processes together: all of them serve, or none is left.

    start() ── spawn all ── ready(): every child SERVING ── keep() ──── stop(): SIGTERM those in front
       │                         │                            │        (gateways: no new turns), then
       └── a child ends ─────────┴── Failure: which one, how  │        the others; SIGKILL after the
                                                              │        grace
           it dies, or hangs and is killed ── pause ── spawn ─┘
Children get a pipe as standard input that nobody writes to: when the supervisor dies in whatever
way, it closes, and they drain (VOICEMESH_EXIT_WITH_STDIN).
"""

import asyncio
import functools
import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from voicemesh.cli.child import Child, ChildSpec, Relay, last_words
from voicemesh.cli.exits import FAILED, UNREACHABLE, USAGE, Failure
from voicemesh.cli.logs import LogLine
from voicemesh.cli.restarts import Answer, Pulse, RestartPolicy, Restarts

_LISTENING: Final = "listening"
"""How the line begins that a process logs when its address is bound."""
_PASSED_ON: Final = {USAGE: "WRONG_SETTINGS", UNREACHABLE: "PORT_IN_USE"}
"""Ends that another start would not mend."""


class Health(Protocol):
    """Asks one process whether it serves. Used with `async with`."""

    async def __aenter__(self) -> Self:
        """Return it."""

    async def __aexit__(self, *_: object) -> None:
        """Ask no more."""

    async def wait_serving(self) -> None:
        """Return once it serves."""

    async def answer(self, timeout_s: float) -> Answer:
        """Ask it once."""


def health_of(address: str) -> Health:
    """Return what asks the process at `address`."""
    from voicemesh.cli.health import HealthClient  # noqa: PLC0415 - gRPC, while the children start

    return HealthClient(address)


@dataclass(frozen=True, kw_only=True)
class Died:
    """A child is gone and will be started again.

    Attributes:
        name: The child.
        how: In words.
        pause_s: Seconds until then.
        deaths: How often in a row it died.
        restarts: How often in a row it is started again.

    """

    name: str
    how: str
    pause_s: float
    deaths: int
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Back:
    """A child that was started again serves.

    Attributes:
        name: The child.
        pid: Its process now.
        took_s: Seconds from the end of the one before.

    """

    name: str
    pid: int
    took_s: float


class Supervisor:
    """Runs children; those in front, which the others serve, are stopped first.

    Args:
        specs: The children, in order of starting.
        relay: Is given every line that they write.
        grace_s: Seconds that each of the two steps of stopping may take before SIGKILL.
        health: How to ask a child whether it serves.

    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        relay: Relay,
        *,
        grace_s: float,
        health: Callable[[str], Health] = health_of,
    ) -> None:
        self._specs = specs
        self._relay = relay
        self._grace_s = grace_s
        self._health = health
        self._listening: set[str] = set()
        self._limit: asyncio.Timeout | None = None
        self._complaint_s: float | None = None
        self._complained = False
        self.children: list[Child] = []

    async def start(self) -> None:
        """Spawn every child at once."""
        for spec in self._specs:
            self.children.append(await self._spawn(spec))

    async def _spawn(self, spec: ChildSpec) -> Child:
        _, child = await asyncio.get_running_loop().subprocess_exec(
            functools.partial(Child, spec, self._line),
            *spec.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(spec.env),
            cwd=spec.cwd,
            # Ctrl-C goes to the supervisor alone: it stops the children in order.
            start_new_session=True,
        )
        return child

    def _line(self, line: LogLine) -> bool:
        if line.text.startswith(_LISTENING):
            self._listening.add(line.service)
        elif line.is_loud and line.service in self._listening:
            self._complained = True
            self._hurry()
        return self._relay(line)

    def _hurry(self) -> None:
        """Wait no longer than is said: a child is up, and something keeps it from working."""
        if self._complained and self._limit and self._complaint_s:
            soon = asyncio.get_running_loop().time() + self._complaint_s
            self._limit.reschedule(min(self._limit.when() or soon, soon))

    async def ready(
        self,
        timeout_s: float,
        on_serving: Callable[[Child], None],
        *,
        complaint_s: float | None = None,
    ) -> None:
        """Return once every child is SERVING; `on_serving` is told of each.

        Raises Failure when one ends first, after `timeout_s` seconds, or `complaint_s` seconds after one
        that listens has complained.
        """
        began_s = asyncio.get_running_loop().time()
        ended = asyncio.create_task(self.ended())
        waits = [asyncio.create_task(self._serving(child, on_serving)) for child in self.children]
        everyone = asyncio.gather(*waits)
        self._complaint_s = complaint_s
        try:
            async with asyncio.timeout(timeout_s) as self._limit:
                self._hurry()  # a complaint may have come while the others were started
                first: set[asyncio.Future[Any]] = {ended, everyone}
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self.failure(ended.result())
            await everyone
        except TimeoutError:
            slow = [child for child, wait in zip(self.children, waits, strict=True) if not wait.done()]
            names = ", ".join(child.spec.name for child in slow)
            took_s = asyncio.get_running_loop().time() - began_s
            guilty = [child for child in slow if any(line.is_loud for line in child.last_lines)]
            message = f"not ready after {took_s:.0f} s: {names}{last_words(guilty or slow)}"
            raise Failure(FAILED, "NOT_READY", message) from None
        finally:
            self._limit = None
            for task in (ended, *waits):
                task.cancel()
            everyone.cancel()
            await asyncio.gather(ended, *waits, everyone, return_exceptions=True)

    async def _serving(self, child: Child, on_serving: Callable[[Child], None]) -> None:
        async with self._health(child.spec.address) as health:
            await health.wait_serving()
        on_serving(child)

    async def ended(self) -> Child:
        """Return the first child that ends, once one does, with all that it wrote."""
        waits = {asyncio.create_task(child.exited.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        child = waits[next(iter(done))]
        await child.clean_up()
        return child

    def failure(self, child: Child) -> Failure:
        """Return the failure that the end of `child` is for the whole."""
        status = child.status or 0
        reason = _PASSED_ON.get(status, "PROCESS_ENDED")
        message = f"{child.spec.name} {child.how_it_ended()}{last_words([child])}"
        return Failure(status if status in _PASSED_ON else FAILED, reason, message)

    async def keep(
        self,
        policy: RestartPolicy,
        tell: Callable[[Died | Back], None],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Start again every child that dies or hangs, until cancelled; call it once all of them serve.

        Raises Failure where that would not help (a wrong setting, an address that somebody else has), or has
        been tried too often.
        """
        places = range(len(self.children))
        keepers = [
            asyncio.create_task(self._keep(place, policy, tell, Restarts(policy, chance))) for place in places
        ]
        try:
            done, _ = await asyncio.wait(keepers, return_when=asyncio.FIRST_COMPLETED)
            next(iter(done)).result()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(
        self, place: int, policy: RestartPolicy, tell: Callable[[Died | Back], None], restarts: Restarts
    ) -> None:
        now_s = asyncio.get_running_loop().time
        child = self.children[place]
        restarts.serves(now_s())
        serves: Callable[[], None] = _nothing
        while True:
            how = await self._until_gone(child, policy, restarts, serves)
            died_s = now_s()
            await child.clean_up()
            if child.status in _PASSED_ON:
                raise self.failure(child)
            pause_s = restarts.died(died_s)
            name = child.spec.name
            if pause_s is None:
                raise Failure(FAILED, "PROCESS_ENDED", _too_often(name, how, policy) + last_words([child]))
            tell(Died(name=name, how=how, pause_s=pause_s, deaths=restarts.deaths, restarts=policy.restarts))
            await asyncio.sleep(pause_s)
            self.children[place] = child = await self._spawn(child.spec)
            serves = functools.partial(self._tell_back, child, died_s, tell)

    @staticmethod
    def _tell_back(child: Child, died_s: float, tell: Callable[[Died | Back], None]) -> None:
        took_s = asyncio.get_running_loop().time() - died_s
        tell(Back(name=child.spec.name, pid=child.pid, took_s=took_s))

    async def _until_gone(
        self, child: Child, policy: RestartPolicy, restarts: Restarts, serves: Callable[[], None]
    ) -> str:
        """Wait until a child has ended, or kill it once it hangs; return how it ended, in words."""
        watching = asyncio.create_task(self._until_hung(child, policy, restarts, serves))
        exited = asyncio.create_task(child.exited.wait())
        try:
            first: set[asyncio.Future[Any]] = {watching, exited}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return child.how_it_ended()
            hung = watching.result()
            child.kill_group()
            await exited
            return f"{hung} and was killed"
        finally:
            for task in (watching, exited):
                task.cancel()
            await asyncio.gather(watching, exited, return_exceptions=True)

    async def _until_hung(
        self, child: Child, policy: RestartPolicy, restarts: Restarts, serves: Callable[[], None]
    ) -> str:
        """Ask a child again and again; return in words why it counts as hung."""
        now_s = asyncio.get_running_loop().time
        pulse, served = Pulse(policy), False
        async with self._health(child.spec.address) as health:
            while True:
                asked_s = now_s()
                answer = await health.answer(policy.check_s)
                if answer is Answer.SERVING:
                    restarts.serves(now_s())
                    if not served:
                        served = True
                        serves()
                if hung := pulse.note(answer):
                    return hung
                await asyncio.sleep(max(0.0, asked_s + policy.check_s - now_s()))

    async def stop(self, hurry: asyncio.Event | None = None) -> list[Child]:
        """Stop every child: those in front first, then the others; kill after the grace.

        When `hurry` is set, kill at once. Returns the children that had to be killed.
        """
        killed: list[Child] = []
        front = [child for child in self.children if child.spec.front]
        for group in (front, [child for child in self.children if not child.spec.front]):
            for child in group:
                child.send(signal.SIGTERM)
            killed += await self._await_end(group, hurry)
        for child in self.children:
            child.end_input()
            await child.clean_up()
        return killed

    async def _await_end(self, group: Sequence[Child], hurry: asyncio.Event | None) -> list[Child]:
        running = [child for child in group if not child.exited.is_set()]
        if not running:
            return []
        gone = asyncio.gather(*(child.exited.wait() for child in running))
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        try:
            first: set[asyncio.Future[Any]] = {gone, hurried}
            await asyncio.wait(first, timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED)
            killed = [child for child in running if not child.exited.is_set()]
            for child in killed:
                child.kill_group()
            await gone
            return killed
        finally:
            hurried.cancel()
            await asyncio.gather(hurried, return_exceptions=True)


def _too_often(name: str, how: str, policy: RestartPolicy) -> str:
    if policy.restarts == 0:
        return f"{name} {how}"
    return (
        f"{name} {how}; it was started again {policy.restarts} times, and never served for "
        f"{policy.calm_s:.0f} s"
    )


def _nothing() -> None:
    return
