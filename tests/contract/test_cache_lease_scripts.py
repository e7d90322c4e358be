"""The scripts in a real Redis answer and send what the records of the unit tests do, whatever is asked."""

import random
from dataclasses import replace

import pytest

from services.cache import codec, lease_scripts
from services.cache.records import (
    KEEP_MS,
    Answer,
    Condemn,
    Held,
    Look,
    Mail,
    Piece,
    Push,
    Question,
    Store,
    Taken,
    Yield,
)
from tests.support.redis_server import RedisServer
from tests.unit.cache.fake_records import FakeRecords
from tests.unit.cache.values_for_tests import FORMAT, audio, audio_key
from voicemesh.runtime.clock import ManualClock

HOLD_MS = 600_000
"""So long that nothing runs out by itself while the test runs."""
MOST = 10_000_000
"""Bytes of an answer or a mail."""
REPLICAS = ("aa", "bb", "cc")
NAME = audio_key().name
RECORD = lease_scripts.PREFIX + NAME


class Both:
    """The same question to a real Redis and to the records of the unit tests."""

    def __init__(self, redis: RedisServer, seed: int) -> None:
        self.redis = redis
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.sent: dict[str, list[Mail]] = {replica: [] for replica in REPLICAS}
        self.fake = FakeRecords(self.clock, HOLD_MS, lambda to, mail: self.sent[to].append(mail))
        self.tokens = [f"{replica}-0" for replica in REPLICAS]
        self.generations = [""]
        self.whole = audio(60, *(f"wörd {number}" for number in range(6)))

    def question(self) -> Question:
        chance = self.random
        token = chance.choice(self.tokens[-3:])
        kind = chance.choice((Look, Look, Look, Push, Push, Push, Push, Store, Yield, Condemn))
        if kind is Look:
            token = f"{chance.choice(REPLICAS)}-{len(self.tokens)}"
            self.tokens.append(token)
            have = 2 * chance.randint(0, 20)
            generation = chance.choice(self.generations[-2:])
            fresh = chance.random() < 0.1
            return Look(NAME, token, generation, have, chance.randint(0, 3), fresh)
        if kind is Push:
            record = self.fake.records.get(NAME)
            length, count = (len(record.audio), len(record.words)) if record else (0, 0)
            at = max(0, length + 2 * chance.choice((0, 0, 0, -3, 2)))
            words_at = max(0, count + chance.choice((0, 0, 0, -1, 1)))
            if chance.random() < 0.2:
                return Push(NAME, token, Piece(at, words_at, None))
            sound = self.whole.audio[at : at + 2 * chance.randint(0, 10)]
            words = self.whole.words[words_at : words_at + chance.randint(0, 2)]
            return Push(NAME, token, Piece(at, words_at, FORMAT, sound, words))
        if kind is Store:
            return Store(NAME, token, replace(self.whole, tags=("one", "two")), 60_000)
        if kind is Yield:
            return Yield(NAME, token, 2 * chance.randint(0, 20), stay=chance.random() < 0.5)
        return Condemn(NAME)

    async def ask(self, steps: int) -> None:
        async with self.redis.client() as client, client.pubsub() as pubsub:
            mailboxes = [lease_scripts.MAILBOX + replica for replica in REPLICAS]
            await pubsub.subscribe(*mailboxes)
            for _ in range(steps):
                question = self.question()
                replica = (
                    self.random.choice(REPLICAS)
                    if isinstance(question, Condemn)
                    else question.token.partition("-")[0]
                )
                command = lease_scripts.command(question, replica, HOLD_MS, MOST)
                real = lease_scripts.answer_of(await client.execute_command(*command))  # type: ignore[no-untyped-call]
                assert without_time(real) == without_time(self.fake.ask(replica, question)), question
                if isinstance(real, Held | Taken):
                    self.generations.append(real.generation)
                data = await client.get(NAME)
                entry = codec.decode(data, "audio", NAME)[0] if isinstance(data, bytes) else None
                assert entry == self.fake.entries.get(NAME)
                if self.random.random() < 0.1:
                    await client.delete(NAME)  # the entry has gone from Redis again
                    self.fake.entries.clear()
                if self.random.random() < 0.1:
                    await client.pexpire(RECORD, KEEP_MS - 1000)  # the time of its holder is up
                    if (record := self.fake.records.get(NAME)) is not None:
                        record.expires_ms = self.fake.now_ms + KEEP_MS - 1000
            for mailbox in mailboxes:
                await client.publish(mailbox, "end")
            assert await received(pubsub) == self.sent


async def received(pubsub: object) -> dict[str, list[Mail]]:
    """Return the mail of each replica, up to the word that it is the end."""
    mails: dict[str, list[Mail]] = {replica: [] for replica in REPLICAS}
    ended = 0
    async for message in pubsub.listen():  # type: ignore[attr-defined]
        if message["type"] != "message":
            continue
        if message["data"] == b"end":
            ended += 1
            if ended == len(REPLICAS):
                break
            continue
        replica = message["channel"].decode().removeprefix(lease_scripts.MAILBOX)
        mails[replica].append(lease_scripts.mail_of(message["data"], MOST))
    return mails


def without_time(answer: Answer | None) -> Answer | None:
    return replace(answer, left_ms=0) if isinstance(answer, Held) else answer


@pytest.mark.parametrize("seed", range(20))
async def test_the_scripts_keep_the_rules_that_the_random_runs_are_made_with(
    redis: RedisServer, seed: int
) -> None:
    await Both(redis, seed).ask(200)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"wanted name",
        b"stored name gen 1 x\n[]",
        b"piece name gen 0 0 1 22050 1 4\n[[]]ab",
        b"piece name gen 0 0 1 22050 1 2\n[",
        b"piece name gen 0 0 1 -5 1 2\n[]ab",
        b"piece name gen 0 0 1 22050 99 2\n[]ab",
        b"piece name gen -1 0 1 22050 1 2\n[]ab",
        b"piece name gen 0 99999999999 1 22050 1 2\n[]ab",
        b'piece name gen 0 0 1 22050 1 17\n[["a",0,1,-1,false]]',
        b'piece name gen 0 0 1 22050 1 23\n[["\\ud800",0,1,1,false]]ab',
        b"piece name gen 0 0 1 22050 1 200001\n[" + b"[" * 200_000,
        b"stored name gen 1 1\n[1]",
        b"stored name gen -1 1\n[]",
        b"stored name gen 1 1\n" + b"[" * 200_000,
        b"x" * (MOST + 1),
        b"\xff\xfe",
    ],
)
def test_what_is_no_mail_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="mail of a lease"):
        lease_scripts.mail_of(data, MOST)


@pytest.mark.parametrize(
    "reply",
    [
        [b"hello"],
        [b"held", b"x"],
        [b"kept", 1],
        [b"kept", -1, 0, 0],
        [b"kept", b"1", 0, 0],
        [b"held", b"g", 0, 0, b"1 22050 1", b"ab", [], 10**12, b""],
        [b"held", b"g", 0, 0, b"1 22050 1", b"ab", [], b"soon", b""],
        [b"held", b"g", 0, 0, b"1 22050 1", b"ab", 5, 10, b""],
        [b"held", b"g", 0, 0, b"1 22050 1", None, [], 10, b""],
        [b"held", b"\xff", 0, 0, b"", b"", [], 10, b""],
        [b"taken", b"g", -2, 0, b"1 22050 1", b"ab", [], 0],
        [b"taken", b"g", 0, 0, b"1 22050", b"ab", [], 0],
        [b"taken", b"g", 0, 0, b"9 9 9 9", b"ab", [], 0],
        [b"taken", b"g", 0, 0, b"1 22050 1", b"ab", [b"[" * 200_000], 0],
        [b"taken", b"g", 0, 0, b"1 22050 1", b"ab", [b'["a",0,1,1e9,false]'], 0],
        [b"taken", b"g", 0, 0, b"1 22050 1", b"ab", [b'["a",0,1,NaN,false]'], 0],
        [],
        [None],
    ],
)
def test_what_is_no_answer_is_refused(reply: list[object]) -> None:
    with pytest.raises(ValueError, match="not the answer"):
        lease_scripts.answer_of(reply)
