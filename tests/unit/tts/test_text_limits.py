"""Limits of models."""

import pytest

from services.tts.text_limits import xtts_max_chars


@pytest.mark.parametrize(
    ("language", "limit"),
    [("en", 250), ("en-GB", 250), ("zh-cn", 82), ("JA", 71), ("de_AT", 253), ("xx", 71)],
)
def test_xtts_has_a_limit_for_each_language(language: str, limit: int) -> None:
    assert xtts_max_chars(language) == limit
