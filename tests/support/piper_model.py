"""A voice for Piper that nobody trained: an ONNX model of a few nodes, written byte by byte.

    input ids ── + speaker · symbols ── Gather(table) ── Reshape ── Resize(length) ── + noise ── output
    scales[0] noise ─────────────────────────────────────────────────────────────────┘
    scales[1] length, scales[2] noise of the length ────────────────────┘

Each symbol is a tone of its own, 256 samples long. It has the inputs and outputs of a real voice, so
that all of Piper but the weights is at work. The package `onnx` is not needed:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto has the numbers of the fields.
"""

import json
import math
import struct
from array import array
from pathlib import Path
from typing import Any

RATE_HZ = 22050
SYMBOLS = 256
_SYMBOL_SAMPLES = 256
_FLOAT, _INT64 = 1, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _field(number: int, value: int | str | bytes) -> bytes:
    """Return one field of a protobuf message: a number, or something with a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(op: str, inputs: list[str], output: str, **attributes: int | str) -> bytes:
    fields = [_field(1, name) for name in inputs] + [_field(2, output), _field(3, output), _field(4, op)]
    for name, value in attributes.items():
        # AttributeProto: i = 3 and type INT = 2, or s = 4 and type STRING = 3.
        kind = (3, 2) if isinstance(value, int) else (4, 3)
        fields.append(_field(5, _field(1, name) + _field(kind[0], value) + _field(20, kind[1])))
    return _field(1, b"".join(fields))


def _tensor(name: str, kind: int, shape: list[int], data: bytes) -> bytes:
    dims = b"".join(_field(1, size) for size in shape)
    return _field(5, dims + _field(2, kind) + _field(8, name) + _field(9, data))


def _value(number: int, name: str, kind: int, shape: list[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(number, _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims))))


def _ints(name: str, *values: int) -> bytes:
    return _tensor(name, _INT64, [len(values)], struct.pack(f"<{len(values)}q", *values))


def _floats(name: str, *values: float) -> bytes:
    return _tensor(name, _FLOAT, [len(values)], struct.pack(f"<{len(values)}f", *values))


def model(speakers: int = 1) -> bytes:
    """Return the model."""
    table = array("f")
    for row in range(SYMBOLS * speakers):
        # Pauses are silent, as those of a real voice nearly are.
        loud = 0.0 if row % SYMBOLS in (0, 1, 2, 3) else 0.3
        turns = 2 + row % SYMBOLS % 60 + row // SYMBOLS
        table.extend(
            loud * math.sin(2 * math.pi * turns * i / _SYMBOL_SAMPLES) for i in range(_SYMBOL_SAMPLES)
        )
    nodes = [
        *(
            [_node("Mul", ["sid", "symbols"], "shift"), _node("Add", ["input", "shift"], "rows")]
            if speakers > 1
            else [_node("Identity", ["input"], "rows")]
        ),
        _node("Gather", ["table", "rows"], "tones", axis=0),
        _node("Reshape", ["tones", "flat"], "wave"),
        _node("Gather", ["scales", "first"], "noise_scale", axis=0),
        _node("Gather", ["scales", "second"], "length_scale", axis=0),
        _node("Gather", ["scales", "third"], "noise_w", axis=0),
        _node("RandomNormalLike", ["noise_w"], "draw"),
        _node("Mul", ["draw", "noise_w"], "scaled_draw"),
        _node("Mul", ["scaled_draw", "little"], "sway"),
        _node("Add", ["sway", "one"], "stretch"),
        _node("Mul", ["length_scale", "stretch"], "length"),
        _node("Concat", ["ones", "length"], "resize", axis=0),
        _node("Resize", ["wave", "", "resize"], "speech", mode="linear"),
        _node("RandomNormalLike", ["speech"], "hiss"),
        _node("Mul", ["hiss", "noise_scale"], "scaled_hiss"),
        _node("Mul", ["scaled_hiss", "little"], "quiet_hiss"),
        _node("Add", ["speech", "quiet_hiss"], "output"),
    ]
    graph = [
        *nodes,
        _field(2, "voice"),
        _tensor("table", _FLOAT, [SYMBOLS * speakers, _SYMBOL_SAMPLES], table.tobytes()),
        _ints("symbols", SYMBOLS),
        _ints("flat", 1, 1, -1),
        _ints("first", 0),
        _ints("second", 1),
        _ints("third", 2),
        _floats("little", 0.002),
        _floats("one", 1.0),
        _floats("ones", 1.0, 1.0),
        _value(11, "input", _INT64, [1, "symbols_in"]),
        _value(11, "input_lengths", _INT64, [1]),
        _value(11, "scales", _FLOAT, [3]),
        *([_value(11, "sid", _INT64, [1])] if speakers > 1 else []),
        _value(12, "output", _FLOAT, [1, 1, "samples"]),
    ]
    opset = _field(1, "") + _field(2, 13)
    return _field(1, 8) + _field(7, b"".join(graph)) + _field(8, opset)


def write(folder: Path, name: str = "voice", speakers: int = 1, **config: Any) -> Path:
    """Write a model and its configuration; return the path of the model."""
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP  # noqa: PLC0415 - an extra

    path = folder / f"{name}.onnx"
    path.write_bytes(model(speakers))
    voice = {
        "audio": {"sample_rate": RATE_HZ, "quality": "none"},
        "espeak": {"voice": "en-us"},
        "language": {"code": "en_US"},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "num_symbols": SYMBOLS,
        "num_speakers": speakers,
        "speaker_id_map": {f"Speaker{number}": number for number in range(speakers)} if speakers > 1 else {},
        **config,
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(voice))
    return path
