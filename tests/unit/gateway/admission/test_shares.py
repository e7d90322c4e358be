import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.shares import MOST_TENANTS, Shares, level
from tests.unit.gateway.admission.world import Mesh

SECOND_NS = 1_000_000_000


@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 10)), min_size=1, max_size=20),
    st.floats(0.5, 200),
)
def test_what_is_given_is_all_there_is_or_all_that_is_wanted(
    wanted: list[tuple[float, float]], places: float
) -> None:
    found = level(wanted, places)

    given = [min(wants, found * weight) for wants, weight in wanted]
    assert sum(given) == pytest.approx(min(places, sum(wants for wants, _ in wanted)))


def test_what_small_tenants_leave_is_the_large_ones() -> None:
    assert level([(60, 1), (6, 1), (4, 1)], 20) == 10
    assert level([(60, 3), (60, 1)], 20) == 5
    assert level([(6, 1), (4, 1)], 20) == math.inf


def test_a_flood_takes_no_others_places() -> None:
    mesh = Mesh(slots=16)
    mesh.load(100, 0, 60, tenant="flood")
    mesh.load(3, 20, 60, tenant="small")
    mesh.run(70_000)

    small = mesh.begun(25, 60, "small")
    assert mesh.refusals(25, 60, "small") <= 0.05 * small
    assert mesh.begun(25, 60, "flood") > small  # which has the rest


def test_two_floods_share() -> None:
    mesh = Mesh(slots=16)
    mesh.load(60, 0, 60, tenant="a")
    mesh.load(200, 0, 60, tenant="b")
    mesh.run(70_000)

    a, b = mesh.begun(20, 60, "a"), mesh.begun(20, 60, "b")
    assert 0.7 < a / b < 1.4


def test_refusals_are_forgotten_and_memory_is_bounded() -> None:
    shares = Shares()
    for number in range(2 * MOST_TENANTS):
        shares.refused(f"tenant-{number}", 1.0, 1.0, SECOND_NS)
    assert len(shares) == MOST_TENANTS

    shares.within("other", 1.0, 1.0, 10, 60 * SECOND_NS)

    assert len(shares) == 0
