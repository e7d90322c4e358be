"""What is read of a profile, and what is said of a wrong one."""

import json
from typing import Any

import pytest

from tests.unit.capacity.queues import profile as textbook
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.stretch import stretched


def as_json(**changed: Any) -> dict[str, Any]:
    found = profiles.to_json(
        textbook([100.0, 300.0], first_ms=20.0, cpu_ms={"gateway": 5.0}, path_ms={"gateway": 2.0})
    )
    return {**found, **changed}


def test_what_is_written_is_read_again():
    found = as_json()
    again = profiles.read(json.dumps(found), "x")
    assert profiles.to_json(again) == found
    assert again.made.lease_s == pytest.approx(0.2)
    assert again.made.audio_s == pytest.approx(1.0)
    assert again.floor_ms == pytest.approx([22.0, 22.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "format: must be 1, and is 2"),
        ({"name": ""}, "name: must be a text"),
        ({"measured": {}}, "measured.at: must be a text"),
        ({"made": {"cpu_ms": {}, "turns": []}}, "made.turns: must be a list of 1 to"),
        ({"made": {"cpu_ms": {"gpu": 1}, "turns": []}}, "made.cpu_ms: 'gpu' is no process"),
        ({"cached": 7}, "cached: must be an object"),
        ({"engine": {"kind": "quantum"}}, "engine.kind: must be one of cpu, gpu, timers"),
    ],
)
def test_what_is_wrong_is_named(changed, message):
    with pytest.raises(ValueError, match=r"mine\.json: ") as caught:
        profiles.read(json.dumps(as_json(**changed)), "mine.json")
    assert message in str(caught.value)


@pytest.mark.parametrize("number", [-1, "7", None, True, float("nan"), float("inf"), 1e12])
def test_a_number_that_is_none_is_named_with_its_place(number):
    found = as_json()
    found["made"]["turns"][1]["chunks"][0][2] = number
    with pytest.raises(ValueError, match=r"made\.turns\[1\]\.chunks\[0\]\[2\]: must be a number from 0"):
        profiles.read(json.dumps(found), "mine.json")


def test_a_file_that_is_not_there_is_said_with_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="no profile that comes along"):
        profiles.load(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="is no JSON"):
        profiles.read("{", "mine.json")


@pytest.mark.parametrize("name", profiles.shipped())
def test_profiles_that_come_along_can_be_read_and_say_where_they_are_from(name):
    found = profiles.load(name)
    assert found.name == name
    assert len(found.made.turns) >= 24
    assert found.made.cpu_ms["gateway"] > 0
    assert found.measured["machine"]["cpus"] >= 1
    # A profile without GPU must not look like one.
    assert found.engine.kind in ("cpu", "timers")


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.0, 3.0, 7.3])
def test_longer_turns_have_more_chunks_and_the_same_beginning(factor):
    of = textbook([100.0, 300.0], first_ms=20.0, cpu_ms={"gateway": 5.0}, path_ms={"gateway": 2.0})
    longer = stretched(of, factor * of.made.audio_s)
    assert longer.made.audio_s == pytest.approx(factor * of.made.audio_s)
    assert longer.floor_ms == pytest.approx(of.floor_ms)
    assert longer.made.cpu_ms["gateway"] == pytest.approx(2.0 + factor * 3.0)
    assert all(turn.chunks[0].first_ms == 20.0 for turn in longer.made.turns)
    if factor == 1.0:
        assert longer.made == of.made
