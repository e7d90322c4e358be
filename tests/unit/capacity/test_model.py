"""A model of one's own in place of the one that was measured."""

import json
from dataclasses import replace
from statistics import median

import pytest

from tests.unit.capacity.queues import profile
from voicemesh.capacity.model import Model, lognormal, pace_of, read_model, with_model
from voicemesh.capacity.profile import Kind, Profile
from voicemesh.capacity.simulation import percentile


def measured(turns: int = 6) -> Profile:
    """Turns of 80 ms to the first token and 60 for the words of the first chunk, at 100 tokens a second."""
    of = profile([100.0] * turns, llm_ms=140.0)
    made = [replace(turn, ttft_ms=80.0) for turn in of.made.turns]
    chunks = [(turn.chunks[0], replace(turn.chunks[0], asked_ms=200.0)) for turn in made]
    made = [replace(turn, chunks=both) for turn, both in zip(made, chunks, strict=True)]
    return replace(of, made=Kind(of.made.cpu_ms, made), model="rehearsal/rehearsal", tokens_per_s=100.0)


@pytest.mark.parametrize(("p50_ms", "p95_ms"), [(350.0, 900.0), (80.0, 81.0), (200.0, 200.0)])
def test_a_lognormal_goes_through_its_two_points(p50_ms, p95_ms):
    times = lognormal(p50_ms, p95_ms, 2000)
    assert times == sorted(times)
    assert median(times) == pytest.approx(p50_ms, rel=1e-3)
    assert percentile(times, 95) == pytest.approx(p95_ms, rel=2e-3)
    # ln X is symmetric: the 5th percentile is as far below the median as the 95th is above, as a factor.
    assert percentile(times, 5) == pytest.approx(p50_ms**2 / p95_ms, rel=5e-3)


def test_turns_have_the_times_of_another_model_and_their_own_words():
    of = measured()
    own = with_model(of, Model(lognormal(350.0, 900.0), None, 50.0), seed=1)
    times = sorted(turn.ttft_ms or 0.0 for turn in own.made.turns)
    assert percentile(times, 50) == pytest.approx(350, rel=0.02)
    assert percentile(times, 95) == pytest.approx(900, rel=0.02)
    for turn in own.made.turns:
        assert turn.llm_ms == pytest.approx((turn.ttft_ms or 0.0) + 120)  # half the pace
        assert turn.chunks[1].asked_ms == 400.0
        assert turn.hold_ms == of.made.turns[0].hold_ms
    assert own.made.lease_s == pytest.approx(of.made.lease_s)
    again = with_model(of, Model(lognormal(350.0, 900.0), None, 50.0), seed=1)
    assert again.made.turns == own.made.turns


def test_a_pace_alone_leaves_first_tokens_as_they_were():
    (turn, *_) = with_model(measured(), Model(tokens_per_s=200.0), seed=1).made.turns
    assert turn.ttft_ms == 80.0
    assert turn.llm_ms == pytest.approx(110.0)


def test_a_profile_that_does_not_say_what_its_model_took_is_refused():
    with pytest.raises(ValueError, match="does not say when its model's first tokens came: record it again"):
        with_model(profile([100.0]), Model([1.0]), seed=1)
    with pytest.raises(ValueError, match="does not say how fast its model wrote"):
        with_model(replace(measured(), tokens_per_s=None), Model([1.0], None, 5.0), seed=1)


def turn(ttft_ms: float, text_ms: float, **changed: object) -> dict[str, object]:
    return {
        "outcome": "completed",
        "reply_cache": "off",
        "text": "x" * 80,
        "chunks": [{"text": "x" * 28}],
        "tokens": {"input": 9, "output": 20, "cached": 0},
        "stages": {"llm_connect": 10.0, "llm_ttft": ttft_ms - 10.0, "llm_text": text_ms},
    } | changed


def test_a_bench_gives_times_in_pairs_and_a_pace(tmp_path):
    path = tmp_path / "bench.json"
    turns = [turn(500.0 - 10 * place, 60.0 + place) for place in range(30)]
    turns += [turn(1.0, 1.0, reply_cache="hit"), turn(1.0, 1.0, outcome="failed")]
    path.write_text(json.dumps({"turns": turns}))
    found = read_model(path)
    assert found.ttft_ms == [210.0 + 10 * place for place in range(30)]
    assert found.text_ms == [89.0 - place for place in range(30)]
    # Seven tokens of a first chunk, of which the first one begins the time: six of them in 60 ms and more.
    assert found.tokens_per_s == pytest.approx(6 * 30 / sum(60 + place for place in range(30)) * 1000)
    assert pace_of([]) is None
    of = measured()
    own = with_model(of, found, seed=3)
    assert {turn.llm_ms for turn in own.made.turns} == {
        first + words for first, words in zip(found.ttft_ms or (), found.text_ms or (), strict=True)
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n", "is not what `voicemesh bench --json` prints"),
        ('{"turns": [3]}', "is not what `voicemesh bench --json` prints"),
        ('{"turns": []}', "has 0 turns that a model answered"),
    ],
)
def test_what_is_no_bench_is_said(tmp_path, text, message):
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="bench") as caught:
        read_model(path)
    assert message in str(caught.value)
