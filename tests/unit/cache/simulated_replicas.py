"""Replicas with their leases, one Redis, and a network between them that may be slow, away or lossy.

Nothing waits: every answer and mail lies in a queue until the script, or chance, lets it arrive. Mail
to one replica arrives in order, as on its one connection, but between replicas, and beside answers,
anything goes.
"""

from collections import deque
from dataclasses import dataclass, field

from services.cache.fills import Granted, Lease, Part, Sealed
from services.cache.leases import LeaseTable
from services.cache.needs import AT_ONCE, Need
from services.cache.records import Answer, Failed, Held, Look, Mail, Taken
from services.cache.replication import Asked, Replication
from services.cache.values import AudioValue, WordTiming
from tests.unit.cache.fake_records import FakeRecords
from tests.unit.cache.values_for_tests import FORMAT, audio_key
from voicemesh.runtime.clock import ManualClock

TTL_MS = 400
HEARTBEAT_MS = 50
WHOLE = 40
"""Samples of the whole value: sample n is the number n, and has a word."""
KEY = audio_key()


def samples(start: int, end: int) -> AudioValue:
    sound = b"".join(number.to_bytes(2, "little") for number in range(start, end))
    words = tuple(WordTiming(str(number), number, 1, number) for number in range(start, end))
    return AudioValue(FORMAT, sound, words)


@dataclass(eq=False)
class Caller:
    """Someone who asked for the value: what they heard, and whether they make it now."""

    replica: "Replica"
    lease: Lease | None = None
    """None until Redis was asked."""
    heard: AudioValue = field(default_factory=lambda: samples(0, 0))
    made: int = 0
    """Samples up to the end of what they appended, or are to go on from."""
    holds: bool = False
    done: bool = False
    left: bool = False
    need: Need = AT_ONCE

    def add(self, value: AudioValue) -> None:
        joined = AudioValue(FORMAT, self.heard.audio + value.audio, self.heard.words + value.words)
        self.heard = joined

    @property
    def end(self) -> int:
        return len(self.heard.audio) // 2


class Replica:
    def __init__(self, name: str, world: "World") -> None:
        self.name = name
        self.world = world
        self.table = LeaseTable(world.clock, ttl_ms=TTL_MS, max_value_bytes=10_000, budget_bytes=100_000)
        self.replication = Replication(self.table, world.clock, replica=name, heartbeat_ms=HEARTBEAT_MS)
        self.woken = True
        self.replication.on_work = self.wake
        self.replication.on_copied = lambda key, value: self.keep(value)
        self.replication.on_unstored = lambda key, value, _: world.write_behind(value)
        self.memory: AudioValue | None = None
        self.reachable = self.listening = True
        self.stopped = self.dead = False
        self.mail: deque[Mail] = deque()
        self.requests: deque[tuple[Asked, Caller | None]] = deque()
        self.answers: list[tuple[Asked, Caller | None, Answer | None]] = []
        self.looking: Caller | None = None
        self.waiting: list[Caller] = []
        self.callers: list[Caller] = []

    def wake(self) -> None:
        self.woken = True

    def keep(self, value: AudioValue) -> None:
        self.memory = value

    @property
    def shares(self) -> bool:
        return self.reachable and self.listening

    def come(self, need: Need = AT_ONCE) -> Caller:
        """Ask for the value, as `CacheCore.acquire` does."""
        caller = Caller(self, need=need)
        self.callers.append(caller)
        self.ask_for(caller)
        return caller

    def ask_for(self, caller: Caller) -> None:
        if self.memory is not None:
            self.hit(caller, self.memory)
        elif self.table.filling(KEY) or not self.shares:
            self.join(caller)
        elif self.looking is None:
            self.looking = caller
            self.requests.append((Asked(self.replication.look(KEY)), caller))
        else:
            self.waiting.append(caller)

    def hit(self, caller: Caller, value: AudioValue) -> None:
        caller.heard, caller.done = value, True

    def join(self, caller: Caller) -> None:
        caller.lease, event = self.table.acquire(KEY, FORMAT, caller.need)
        if isinstance(event, Granted):
            caller.holds, caller.made = True, event.offset_samples
            assert event.offset_samples == 0
        else:
            caller.add(event.so_far)

    def ask(self) -> None:
        """Put what is due into the network, as the pump does."""
        if self.stopped or self.dead:
            return
        due_ns = self.replication.next_due_ns
        if not self.woken and (due_ns is None or due_ns > self.world.clock.now_ns()):
            return
        self.woken = False
        for asked in self.replication.questions(reachable=self.reachable, listening=self.listening):
            self.requests.append((asked, None))

    def arrive(self, index: int) -> None:
        """Let one answer arrive."""
        asked, caller, answer = self.answers.pop(index)
        if caller is None:
            if answer is None:
                answer = self.world.records.entry(KEY.name) or Failed()
            self.replication.answered(asked, answer)
            return
        assert isinstance(asked.question, Look)
        entry = self.world.records.entry(KEY.name) if answer is None else None
        self.looking, waiting, self.waiting = None, self.waiting, []
        if caller.left:  # its task was cancelled, so the next one asks
            self.replication.unlooked(asked.question, unknown=True)
            for each in waiting:
                self.ask_for(each)
            return
        if isinstance(answer, Held | Taken):
            self.replication.looked(KEY, FORMAT, asked.question, answer)
        else:
            self.replication.unlooked(asked.question, unknown=answer is not None)
        if entry is not None:
            assert isinstance(entry.value, AudioValue)
            self.memory = entry.value
        for each in (caller, *waiting):
            if each.left:
                continue
            if self.memory is None:
                self.join(each)
            else:
                self.hit(each, self.memory)

    def listen(self) -> None:
        """Let all callers take what is there for them, and notice what they notice."""
        self.table.expire()
        for caller in self.callers:
            if caller.lease is None or caller.done or caller.left or caller.holds:
                continue
            while (event := self.table.take(caller.lease)) is not None:
                if isinstance(event, Part):
                    caller.add(event.value)
                elif isinstance(event, Granted):
                    assert event.offset_samples == caller.end, "to go on from what was heard"
                    caller.holds, caller.made = True, event.offset_samples
                    break
                else:
                    assert isinstance(event, Sealed)
                    caller.done = True
                    break

    def make(self, caller: Caller, count: int) -> None:
        """Append for a caller that holds; seal at the end. Whoever lost the lease goes on alone."""
        assert caller.holds
        assert caller.lease is not None
        end = min(caller.made + count, WHOLE)
        part = samples(caller.made, end)
        caller.add(part)
        caller.made = end
        if caller.lease.may_append:
            self.table.append(caller.lease, part)
        if end == WHOLE:
            caller.done = True
            if caller.lease.holds:
                complete = self.table.seal(caller.lease)
                if complete is not None:
                    self.memory = complete[1]
                    if not self.replication.store(*complete, 1000, admitted=self.world.admits):
                        self.world.write_behind(complete[1])

    def leave(self, caller: Caller) -> None:
        caller.left = True
        if caller.lease is not None:
            self.table.release(caller.lease)

    def die(self) -> None:
        """Be killed: with all callers, and without a word."""
        self.dead = True
        for caller in self.callers:
            caller.left = True
        self.requests.clear()


class World:
    """Some replicas and a Redis; every step is a method."""

    def __init__(self, replicas: int) -> None:
        self.clock = ManualClock()
        self.admits = True
        """Whether Redis is given what nobody else wants."""
        self.behind: list[AudioValue] = []
        self.replicas = [Replica(f"r{number}", self) for number in range(replicas)]
        self.records = FakeRecords(self.clock, self.replicas[0].replication.hold_ms, self._post)

    def _post(self, to: str, mail: Mail) -> None:
        (replica,) = (each for each in self.replicas if each.name == to)
        if replica.listening and not replica.dead:
            replica.mail.append(mail)

    def write_behind(self, value: AudioValue) -> None:
        self.behind.append(value)

    @property
    def living(self) -> list[Replica]:
        return [replica for replica in self.replicas if not replica.dead]

    def reach(self, replica: Replica) -> None:
        """Let the oldest question of a replica reach Redis; its answer is on its way back."""
        asked, caller = replica.requests.popleft()
        answer = self.records.ask(replica.name, asked.question)
        replica.answers.append((asked, caller, answer))

    def lose(self, replica: Replica, *, done: bool) -> None:
        """Lose a question, before or behind Redis: its replica hears of neither."""
        asked, caller = replica.requests.popleft()
        if done:
            self.records.ask(replica.name, asked.question)
        replica.answers.append((asked, caller, Failed()))

    def cut(self, replica: Replica) -> None:
        """Take Redis away from a replica: mail on its way is lost."""
        replica.reachable = replica.listening = False
        replica.mail.clear()
        replica.replication.disconnected()

    def mend(self, replica: Replica) -> None:
        replica.reachable = replica.listening = True
        replica.replication.reconnected()

    def settle(self, milliseconds: int = 0) -> None:
        """Let everything arrive, and time pass, until there is nothing more to come."""
        for _ in range(max(1, milliseconds)):
            quiet = False
            while not quiet:
                quiet = True
                for replica in self.living:
                    if replica.stopped:
                        continue
                    replica.ask()
                    while replica.requests:
                        quiet = False
                        if replica.reachable:
                            self.reach(replica)
                        else:
                            self.lose(replica, done=False)
                    while replica.answers:
                        replica.arrive(0)
                    while replica.mail:
                        quiet = False
                        replica.replication.heard(replica.mail.popleft())
                    replica.listen()
            if milliseconds:
                self.clock.advance_ms(1)
