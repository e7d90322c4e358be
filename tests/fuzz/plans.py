"""One call that a fuzzed service is given: its messages, their order, and how it ends."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from tests.fuzz.messages import Maker, Vocabulary, class_of, mutated

MANNERS: Final = ("orderly", "orderly", "wild", "shuffled", "random", "broken")
"""How the messages of a call are: in their right order and good; so with wild fields; good ones in any order;
of any kind; with bytes that were damaged."""
GUARD_S: Final = 60.0
"""No call that is owed an answer takes as long."""
LEASE: Final = "@lease"
"""Stands for a lease that the service has told of in the same call."""

Script = Sequence[str]
"""Events of a stream in an order that the contract allows; `*` behind a name: that or more of it."""


@dataclass(frozen=True)
class Plan:
    """What one call does."""

    method: MethodDescriptor
    manner: str
    messages: tuple[Message | bytes, ...]
    end: Literal["half-close", "cancel", "vanish"]
    """`cancel` once all is sent; `vanish`: without having read anything."""
    read_first: int
    """Responses that are read before a cancel."""
    timeout_s: float
    """The call's deadline: `GUARD_S`, or a moment."""
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def path(self) -> str:
        """The method as gRPC names it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def hurried(self) -> bool:
        """True where the call's deadline may well pass."""
        return self.timeout_s < GUARD_S

    def __str__(self) -> str:
        """Return what it does in a line."""
        sizes = [len(one) if isinstance(one, bytes) else one.ByteSize() for one in self.messages]
        return f"{self.method.name} {self.manner} {sizes} {self.end} timeout {self.timeout_s:g}"


@dataclass(frozen=True)
class Grammar:
    """How calls of one service are made.

    Attributes:
        service: The contract.
        scripts: By method that takes a stream: orders of events that are right.
        vocabulary: Plausible values of fields.
        metadata: Pairs that calls may bring.
        weights: How often a method is called, by its name; 1 where it is not named.

    """

    service: ServiceDescriptor
    scripts: Mapping[str, Sequence[Script]]
    vocabulary: Vocabulary
    metadata: Sequence[tuple[tuple[str, str | bytes], ...]] = ((),)
    weights: Mapping[str, int] | None = None

    def plan(self, rng: random.Random) -> Plan:
        """Return the next call."""
        weights = [(self.weights or {}).get(method.name, 1) for method in self.service.methods]
        (method,) = rng.choices(self.service.methods, weights)
        manner = rng.choice(MANNERS)
        maker = Maker(rng, self.vocabulary)
        messages = self._messages(maker, method, manner)
        end = rng.choices(("half-close", "cancel", "vanish"), (8, 3, 1))[0]
        hurried = rng.random() < 0.08
        return Plan(
            method,
            manner,
            tuple(messages),
            end,  # type: ignore[arg-type] # one of the three
            rng.randrange(6),
            rng.choice((0.0, 0.001, 0.02, 0.2)) if hurried else GUARD_S,
            rng.choice(self.metadata),
        )

    def _messages(self, maker: Maker, method: MethodDescriptor, manner: str) -> list[Message | bytes]:
        rng, kind = maker.rng, class_of(method.input_type)
        wildness = {"wild": 0.25, "random": 0.5}.get(manner, 0.0)
        if not method.client_streaming:
            events = [""]
        elif manner == "random":
            events = [""] * rng.randrange(1, 12)
        else:
            events = _expanded(rng, rng.choice(self.scripts[method.name]))
        if manner == "shuffled":
            rng.shuffle(events)
            events = [event for event in events for _ in range(rng.choice((1, 1, 1, 2, 0)))]
        if manner == "wild":  # mostly good, so that it gets far
            wild = rng.randrange(len(events) + 1)
            made: list[Message | bytes] = [
                maker.message(kind, wildness if place >= wild else 0.0, event)
                for place, event in enumerate(events)
            ]
        else:
            made = [maker.message(kind, wildness, event) for event in events]
        if method.client_streaming and kind.DESCRIPTOR.name == "ExchangeRequest":
            _number(rng, made, manner)
        if manner == "broken" and made:
            broken = rng.randrange(len(made))
            message = made[broken]
            assert isinstance(message, Message)
            made[broken] = mutated(rng, message.SerializeToString())
        return made


def _expanded(rng: random.Random, script: Script) -> list[str]:
    events: list[str] = []
    for event in script:
        if event.endswith("*"):
            events += [event[:-1]] * rng.choice((1, 1, 2, 3, 6))
        elif event.endswith("?"):
            events += [event[:-1]] * (rng.random() < 0.5)
        else:
            events.append(event)
    return events


def _number(rng: random.Random, made: Sequence[Any], manner: str) -> None:
    """Give requests the ids that they need, and now and then others."""
    for number, request in enumerate(made, 1):
        if manner in ("orderly", "broken") or rng.random() < 0.8:
            request.request_id = number
