"""Messages of any kind, made from their descriptors: right ones, wrong ones, and bytes that are none.

Every choice comes from one `random.Random`, so that a seed names a run. Right messages take their values from
a vocabulary; `wildness` is the chance that a field has a value from the edge of its type instead.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Vocabulary = Mapping[str, Sequence[Any]]
"""Plausible values by the name of a field, as `Type.field` or `field`."""

MAX_DEPTH: Final = 4
MAX_REPEATED: Final = 4
_F: Final = FieldDescriptor
_INTEGERS: Final[dict[int, tuple[int, int]]] = {
    _F.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _F.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _F.CPPTYPE_UINT32: (0, 2**32 - 1),
    _F.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS: Final = (
    *(0.0, -0.0, 1.0, -1.0, 0.25, 4.0, 5e-324, 1.7e308, -1.7e308, 1e-9),
    *(math.nan, math.inf, -math.inf),
)
TEXTS: Final = (
    *(
        "",
        " ",
        "\n",
        "\t",
        "\0",
        "\x1b[2J",
        "\x7f\x9b",
        "\u2028\u2029",
        "\ufeff",
        "\u202e",
        "\ufffd",
        "\U0010ffff",
    ),
    *("a", "..", "../../etc/passwd", "%s%n", "${jndi:x}", "';--", '"}', "<speak><break time='9s'/></speak>"),
    *("\u0301" * 40, "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0645\u0631\u062d\u0628\u0627"),
    *("*", "nan", "-1", "1e999", "null", "x" * 65, "y" * 257, "w " * 2_000, "<" * 3_000, "[" * 500),
)
"""Texts that programs have stumbled over."""


class Maker:
    """Makes messages.

    Args:
        rng: Chooses.
        vocabulary: What is plausible.

    """

    def __init__(self, rng: random.Random, vocabulary: Vocabulary) -> None:
        self.rng = rng
        self._vocabulary = vocabulary

    def message(self, kind: type[Message], wildness: float = 0.0, event: str = "") -> Message:
        """Return a message; `event` is the member that its oneof has to have."""
        return self._fill(kind(), wildness, MAX_DEPTH, event)

    def _fill(self, message: Message, wildness: float, depth: int, event: str = "") -> Message:
        descriptor = message.DESCRIPTOR
        for field in descriptor.fields:
            if field.containing_oneof is None or _is_optional(field):
                self._fill_field(message, field, wildness, depth)
        for oneof in descriptor.oneofs:
            if len(oneof.fields) == 1 and _is_optional(oneof.fields[0]):
                continue
            if self.rng.random() < wildness / 4:
                continue  # a oneof without a member
            names = [field.name for field in oneof.fields]
            named = event if event in names else self.rng.choice(names)
            self._fill_field(message, descriptor.fields_by_name[named], wildness, depth, certain=True)
        return message

    def _fill_field(
        self, message: Message, field: Any, wildness: float, depth: int, *, certain: bool = False
    ) -> None:
        if not certain and self.rng.random() < 0.35:
            return
        if _is_map(field):
            entries = getattr(message, field.name)
            for _ in range(self.rng.randrange(3)):
                key, value = field.message_type.fields
                entries[self._scalar(key, wildness)] = self._scalar(value, wildness)
        elif field.is_repeated:
            count = self.rng.randrange(1, MAX_REPEATED) if self.rng.random() > wildness / 20 else 300
            for _ in range(count):
                if field.message_type is not None:
                    if depth:
                        self._fill(getattr(message, field.name).add(), wildness, depth - 1)
                else:
                    getattr(message, field.name).append(self._scalar(field, wildness))
        elif field.message_type is not None:
            if depth:
                getattr(message, field.name).SetInParent()
                self._fill(getattr(message, field.name), wildness, depth - 1)
        else:
            setattr(message, field.name, self._scalar(field, wildness))

    def _scalar(self, field: Any, wildness: float) -> Any:
        known = self._vocabulary.get(f"{field.containing_type.name}.{field.name}")
        known = self._vocabulary.get(field.name) if known is None else known
        if known and self.rng.random() >= wildness:
            return self.rng.choice(known)
        return self._edge(field) if self.rng.random() < wildness else self._plain(field)

    def _plain(self, field: Any) -> Any:
        rng, kind = self.rng, field.cpp_type
        if kind == _F.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        if kind == _F.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in (_F.CPPTYPE_FLOAT, _F.CPPTYPE_DOUBLE):
            return round(rng.uniform(0, 2), 2)
        if kind == _F.CPPTYPE_STRING:
            text = "".join(rng.choice("abcdefgh ") for _ in range(rng.randrange(8)))
            return text.encode() if field.type == _F.TYPE_BYTES else text
        return rng.randrange(12)

    def _edge(self, field: Any) -> Any:
        rng, kind = self.rng, field.cpp_type
        if kind == _F.CPPTYPE_ENUM:
            return rng.choice(
                (-1, 77, 2**31 - 1, -(2**31), *(value.number for value in field.enum_type.values))
            )
        if kind == _F.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in (_F.CPPTYPE_FLOAT, _F.CPPTYPE_DOUBLE):
            return rng.choice(_FLOATS)
        if field.type == _F.TYPE_BYTES:
            return rng.choice((b"", b"\0", b"\xff" * 7, rng.randbytes(rng.randrange(2_000))))
        if kind == _F.CPPTYPE_STRING:
            return rng.choice(TEXTS)
        low, high = _INTEGERS[kind]
        near = rng.choice((0, 1, 2, 127, 128, 1000, 65_535, 65_536, 2**31 - 1, 2**31, high - 1, high, low))
        return max(low, min(high, near))


def kinds_within(descriptor: Descriptor) -> set[Descriptor]:
    """Return the message types that can occur in one, with itself."""
    found: set[Descriptor] = set()
    todo = [descriptor]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += [field.message_type for field in one.fields if field.message_type is not None]
    return found


def class_of(descriptor: Descriptor) -> type[Message]:
    """Return the class of a message type."""
    return message_factory.GetMessageClass(descriptor)


def _is_optional(field: Any) -> bool:
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1 and oneof.name == f"_{field.name}"


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


# ------------------------------------------------------------ bytes


def mutated(rng: random.Random, wire: bytes) -> bytes:
    """Return the bytes of a message after one to three accidents."""
    for _ in range(rng.randrange(1, 4)):
        wire = rng.choice(_ACCIDENTS)(rng, wire)
    return wire[:1_000_000]


def _flip(rng: random.Random, wire: bytes) -> bytes:
    if not wire:
        return wire
    changed = bytearray(wire)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: random.Random, wire: bytes) -> bytes:
    return wire[: rng.randrange(len(wire) + 1)]


def _repeat(rng: random.Random, wire: bytes) -> bytes:
    first = rng.randrange(len(wire) + 1)
    last = rng.randrange(first, len(wire) + 1)
    return wire[:last] + wire[first:last] * rng.randrange(1, 20) + wire[last:]


def _insert(rng: random.Random, wire: bytes) -> bytes:
    place = rng.randrange(len(wire) + 1)
    return wire[:place] + rng.randbytes(rng.randrange(1, 16)) + wire[place:]


def _lie(rng: random.Random, wire: bytes) -> bytes:
    """Say of some field that it is longer or shorter than it is: nearly any byte may be a length."""
    if not wire:
        return b"\x0a\xff\xff\xff\xff\x0f"
    place = rng.randrange(len(wire))
    length = rng.choice(
        (b"\x00", b"\x01", b"\x7f", b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\xff" * 11)
    )
    return wire[:place] + length + wire[place + 1 :]


def _half_characters(rng: random.Random, wire: bytes) -> bytes:
    """Put what is no UTF-8 in the place of letters: lengths stay right, texts do not."""
    letters = [index for index, byte in enumerate(wire) if 97 <= byte <= 122]
    if not letters:
        return wire
    changed = bytearray(wire)
    changed[rng.choice(letters)] = rng.choice((0x80, 0xC0, 0xED, 0xFE, 0xFF))
    return bytes(changed)


def _unknown_field(rng: random.Random, wire: bytes) -> bytes:
    number = rng.choice((19, 100, 1000, 2**28, 2**29 - 1))
    tag = _varint(number << 3 | 2)
    extra = rng.randbytes(rng.randrange(40))
    return wire + tag + _varint(len(extra)) + extra


def _nested(rng: random.Random, wire: bytes) -> bytes:
    """Nest a message in its own first field, or in groups, deeper than a parser goes."""
    depth = rng.choice((3, 99, 101, 1_000))
    if rng.random() < 0.5:
        return b"\x0b" * depth + wire + b"\x0c" * depth
    for _ in range(min(depth, 200)):
        wire = b"\x0a" + _varint(len(wire)) + wire
    return wire


def _noise(rng: random.Random, _wire: bytes) -> bytes:
    return rng.randbytes(rng.randrange(200))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


_ACCIDENTS: Final = (
    *(_flip, _flip, _truncate, _repeat, _insert, _lie, _half_characters, _half_characters),
    *(_unknown_field, _unknown_field, _nested, _noise),
)
