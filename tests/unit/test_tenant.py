import pytest

from voicemesh import tenant


@pytest.mark.parametrize("name", ["", "a", "7", "acme", "ACME-2.eu_west", "x" * tenant.MAX_CHARS])
def test_names_that_can_be(name: str) -> None:
    assert tenant.problem(name) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * (tenant.MAX_CHARS + 1), "65 characters; at most 64"),
        *((name, "must begin with") for name in (" ", "a b", "-a", ".", "a/b", "a:b", "ä", "a\n", "a\x00")),
        (tenant.SHARED, "must begin with"),
    ],
)
def test_names_that_cannot_be_are_told_why(name: str, said: str) -> None:
    assert said in tenant.problem(name)
