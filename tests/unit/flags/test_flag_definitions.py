"""What a file of flags may say, and how a mistake in it is told."""

import json
import re
from typing import Any

import pytest

from voicemesh.flags.definitions import MAX_BYTES, parse
from voicemesh.flags.errors import FlagsError

KEY = "voicemesh.chunk_policy"


def file_of(**changes: Any) -> bytes:
    flag = {
        "state": "ENABLED",
        "variants": {"usual": "adaptive", "short": "words:4"},
        "defaultVariant": "usual",
        **changes,
    }
    return json.dumps(
        {"flags": {KEY: {name: value for name, value in flag.items() if value != "-"}}}
    ).encode()


def test_a_right_file_is_understood():
    targeting = {"fractional": [["usual", 90], ["short", 10]]}
    flag = parse(file_of(targeting=targeting, metadata={"override": True})).flags[KEY]
    assert (flag.enabled, flag.default, flag.override) == (True, "usual", True)
    assert flag.who == ("of sessions: 90% usual, 10% short",)


@pytest.mark.parametrize(
    ("targeting", "who"),
    [
        ({}, ("everyone: usual",)),
        ({"fractional": [["usual"], ["short"]]}, ("of sessions: 50% usual, 50% short",)),
        (
            {"fractional": [{"var": "tenant"}, ["usual", 1], ["short", 3]]},
            ('of {"var": "tenant"}: 25% usual, 75% short',),
        ),
        (
            {
                "if": [
                    {"==": [{"var": "tenant"}, "acme"]},
                    "short",
                    {"fractional": [["usual", 1], ["short", 1]]},
                ]
            },
            ('where {"==": [{"var": "tenant"}, "acme"]}: short', "everyone else: 50% usual, 50% short"),
        ),
        (
            {"if": [{"in": ["de", {"var": "language"}]}, "short"]},
            ('where {"in": ["de", {"var": "language"}]}: short', "everyone else: usual"),
        ),
        ({"cat": ["sh", "ort"]}, ('by rule: {"cat": ["sh", "ort"]}',)),
    ],
)
def test_who_gets_what_is_told_in_words(targeting: dict[str, Any], who: tuple[str, ...]):
    assert parse(file_of(targeting=targeting)).flags[KEY].who == who


def test_a_flag_that_is_off_says_so():
    assert parse(file_of(state="DISABLED")).flags[KEY].who == ("switched off",)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "the file: must be an object"),
        (b"{}", "flags: must be an object"),
        (b'{"flags": {}, "flag": {}}', "'flag' is no field of it; did you mean 'flags'?"),
        (b'{"flags": {"a": 1, "a": 2}}', "'a' is there twice"),
        (b'{"flags": {"voicemesh.voices": {}}}', "there is no such flag; did you mean 'voicemesh.voice'?"),
        (b" " * (MAX_BYTES + 1), f"at most {MAX_BYTES} are read"),
        (file_of(state="on"), 'state: must be "ENABLED" or "DISABLED"'),
        (file_of(variants={}), "variants: must have at least one"),
        (file_of(variants={"usual": "sometimes"}), "variants.usual: policy: 'sometimes' is none of adaptive"),
        (file_of(variants={"usual": 1}), "variants.usual: must be text"),
        (file_of(defaultVariant="long"), "defaultVariant: 'long' is none of usual, short"),
        (file_of(default="usual"), "'default' is no field of it; did you mean 'defaultVariant'?"),
        (file_of(targeting={"fractoinal": []}), "'fractoinal' is no operator"),
        (
            file_of(targeting={"fractional": [["long", 1]]}),
            "fractional[0][0]: 'long' is no variant of the flag",
        ),
        (file_of(targeting={"fractional": [["usual", -1]]}), "fractional[0][1]: a weight is a whole number"),
        (file_of(targeting={"fractional": [["usual", 0]]}), "the weights are 0 in sum"),
        (file_of(targeting={"fractional": []}), "must name variants"),
        (file_of(targeting={"fractional": ["usual", "short"]}), "fractional[1]: must be [variant, weight]"),
        (file_of(targeting={"if": [True, "long"]}), "if[1]: 'long' is no variant of the flag"),
        (file_of(targeting={"if": [{"is": 1}, "usual"]}), "if[0]: 'is' is no operator"),
        (file_of(targeting={"if": [{"sem_ver": ["1", "2"]}, "usual"]}), "sem_ver: must be [version, one of"),
        (file_of(targeting={"$ref": "mine"}), "$ref: 'mine' is not in $evaluators"),
        (file_of(defaultVariant=False), "defaultVariant: False is none of usual, short"),
        (file_of(targeting={"==": [1, float("nan")]}), "NaN is no number of JSON"),
        (file_of(variants={"usual": "\ud800"}), "variants.usual: has half of a surrogate pair"),
        (file_of(variants={"\udc00": "clause"}), "variants: has half of a surrogate pair"),
        (b'{"flags": {"shop": ' + b"[" * 300 + b"]" * 300 + b"}}", "shop: is nested more than 200 deep"),
        (file_of(metadata={"override": "yes"}), "metadata.override: must be true or false"),
    ],
)
def test_a_mistake_is_told_with_its_place(content: bytes, text: str):
    with pytest.raises(FlagsError, match=re.escape(text)):
        parse(content)


def test_rules_that_refer_to_themselves_are_refused():
    document = json.loads(file_of(targeting={"$ref": "mine"}))
    document["$evaluators"] = {"mine": {"if": [True, {"$ref": "mine"}]}}
    with pytest.raises(FlagsError, match="must not use \\$ref itself"):
        parse(json.dumps(document).encode())


def test_rules_that_are_too_deep_are_refused():
    rule: Any = "usual"
    for _ in range(60):
        rule = {"if": [True, rule]}
    with pytest.raises(FlagsError, match="more than 40 deep"):
        parse(file_of(targeting=rule))


def test_flags_of_others_in_the_file_are_left_alone():
    document = json.loads(file_of())
    document["flags"]["shop.banner"] = {"state": "ENABLED", "variants": {"a": 1, "b": {"x": []}}}
    definitions = parse(json.dumps(document).encode())
    assert set(definitions.flags) == {KEY, "shop.banner"}
    assert set(definitions.own) == {KEY}
