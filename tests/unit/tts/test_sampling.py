"""Drawing tokens."""

import math
from collections import Counter

import pytest

from services.tts.engines.coqui.sampling import Sampler, Sampling, kept_shares

SCORES = [2.0, 1.0, 0.0, -1.0]
TOKENS = [7, 3, 9, 4]


def test_shares_are_those_of_a_softmax_at_the_temperature() -> None:
    shares = kept_shares(SCORES, Sampling(temperature=2.0, top_p=1.0))
    weights = [math.exp(score / 2) for score in SCORES]
    assert shares == pytest.approx([weight / sum(weights) for weight in weights])


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, 1), (0.6, 1), (0.65, 2), (0.85, 2), (0.9, 3), (1.0, 4)])
def test_the_likeliest_that_reach_the_share_are_kept(top_p: float, kept: int) -> None:
    # 0.644, 0.237, 0.087, 0.032
    assert len(kept_shares(SCORES, Sampling(temperature=1.0, top_p=top_p))) == kept


def test_draws_follow_the_shares_and_the_seed() -> None:
    sampler = Sampler(Sampling(temperature=1.0, top_p=0.9), 5)
    drawn = [sampler.draw(SCORES, TOKENS) for _ in range(4000)]
    counts = Counter(drawn)
    assert set(counts) == {7, 3, 9}
    shares = kept_shares(SCORES, Sampling(temperature=1.0, top_p=0.9))
    for token, share in zip(TOKENS, shares, strict=False):
        assert counts[token] / 4000 == pytest.approx(share / sum(shares), abs=0.03)
    again = Sampler(Sampling(temperature=1.0, top_p=0.9), 5)
    assert [again.draw(SCORES, TOKENS) for _ in range(4000)] == drawn
    other = Sampler(Sampling(temperature=1.0, top_p=0.9), 6)
    assert [other.draw(SCORES, TOKENS) for _ in range(4000)] != drawn


def test_no_temperature_takes_the_best() -> None:
    sampler = Sampler(Sampling(temperature=0), 1)
    assert {sampler.draw(SCORES, TOKENS) for _ in range(20)} == {7}
