"""Sessions and their variants: sticky, in proportion, and the same everywhere."""

import json
import math
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError

from voicemesh.flags.definitions import CHUNK_POLICY, parse
from voicemesh.flags.provider import FileProvider

SESSIONS = 10_000


def provider(targeting: dict[str, Any], **more: Any) -> FileProvider:
    flag = {
        "state": "ENABLED",
        "variants": {"usual": "adaptive", "short": "words:4"},
        "defaultVariant": "usual",
        "targeting": targeting,
    }
    made = FileProvider()
    made.use(parse(json.dumps({"flags": {CHUNK_POLICY: flag}, **more}).encode()))
    return made


def variant(of: FileProvider, session: str, **attributes: str) -> str:
    context = EvaluationContext(session, attributes)
    return of.resolve_string_details(CHUNK_POLICY, "", context).variant or ""


def split(usual: int, short: int) -> dict[str, Any]:
    return {"fractional": [["usual", usual], ["short", short]]}


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_ten_thousand_sessions_are_split_in_proportion_and_stay(percent: int):
    first, second = (provider(split(100 - percent, percent)) for _ in range(2))
    given = {f"session-{n}": variant(first, f"session-{n}") for n in range(SESSIONS)}
    share = percent / 100
    # Binomial: 4.5 standard deviations, which chance exceeds once in 150,000 draws.
    bound = 4.5 * math.sqrt(SESSIONS * share * (1 - share))
    assert abs(Counter(given.values())["short"] - SESSIONS * share) <= bound
    assert {session: variant(second, session) for session in given} == given


def test_a_growing_share_takes_nobody_away():
    small, large = provider(split(90, 10)), provider(split(70, 30))
    for n in range(1_000):
        if variant(small, f"s{n}") == "short":
            assert variant(large, f"s{n}") == "short"


def test_another_process_gives_the_same():
    ours = provider(split(50, 50))
    program = (
        "import sys, json\n"
        "from tests.unit.flags.test_flag_provider import provider, split, variant\n"
        "print(json.dumps([variant(provider(split(50, 50)), f's{n}') for n in range(200)]))\n"
    )
    theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert json.loads(theirs.stdout) == [variant(ours, f"s{n}") for n in range(200)]


def test_assignments_are_those_of_flagd_for_ever():
    # MurmurHash3 of CBOR(["voicemesh.chunk_policy", "s<n>"]): if this changes, every session changes.
    ours = provider(split(50, 50))
    assert "".join(variant(ours, f"s{n}")[0] for n in range(32)) == "susssusussssssussuuusuuuusuuusus"


def test_rules_look_at_what_is_known_of_the_turn():
    rule = {
        "if": [
            {"and": [{"==": [{"var": "tenant"}, "acme"]}, {"starts_with": [{"var": "language"}, "de"]}]},
            "short",
            {"sem_ver": [{"var": "app"}, ">=", "2.1.0"]},
            "short",
        ]
    }
    of = provider(rule)
    assert variant(of, "s", tenant="acme", language="de-at") == "short"
    assert variant(of, "s", tenant="acme", language="en") == "usual"
    assert variant(of, "s", app="2.10.0") == "short"
    assert variant(of, "s", app="2.0.9") == variant(of, "s", app="no version") == variant(of, "s") == "usual"


def test_rules_are_shared_by_reference_whatever_is_in_them():
    rule = {"if": [{"==": [{"var": "name"}, "back\\slash\n\\1"]}, "short"]}
    of = provider({"$ref": "mine"}, **{"$evaluators": {"mine": rule}})
    assert variant(of, "s", name="back\\slash\n\\1") == "short"
    assert variant(of, "s", name="other") == "usual"


def test_new_definitions_replace_the_old_ones():
    of = provider({})
    assert variant(of, "s") == "usual"
    of.use(parse(b'{"flags": {}}'))
    with pytest.raises(FlagNotFoundError):
        variant(of, "s")
