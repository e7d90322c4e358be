"""S3-FIFO: what is asked for again stays, and its books are right."""

from hypothesis import given
from hypothesis import strategies as st

from services.cache.eviction import REMEMBERED_EVERY_BYTES, LeastRecent, S3Fifo

BUDGET = 100_000


def fill(order: S3Fifo, names: list[str], size_bytes: int = 1000) -> list[str]:
    """Add entries as their owner would, within the budget; return what made room."""
    evicted = []
    for name in names:
        while (len(order) + 1) * size_bytes > BUDGET:
            evicted.append(order.evict())
        order.add(name, size_bytes)
    return evicted


def numbered(what: str, count: int) -> list[str]:
    return [f"{what} {number}" for number in range(count)]


def test_a_scan_passes_through() -> None:
    order = S3Fifo(BUDGET)
    common = numbered("common", 80)
    fill(order, common)
    for name in common:
        order.use(name)
    evicted = fill(order, numbered("once", 1000))
    assert not set(evicted) & set(common)
    assert evicted == numbered("once", len(evicted))


def test_what_comes_again_soon_after_it_went_is_kept_at_once() -> None:
    order = S3Fifo(BUDGET)
    common = numbered("common", 80)
    fill(order, common)
    for name in common:
        order.use(name)
    evicted = fill(order, numbered("once", 100))
    fill(order, [evicted[-1]])
    assert evicted[-1] not in fill(order, numbered("more", 100))


def test_what_is_not_asked_for_any_more_goes_in_the_end() -> None:
    order = S3Fifo(BUDGET)
    for generation in range(5):
        names = numbered(f"generation {generation}", 12)
        present: set[str] = set()
        for _ in range(20):
            for name in names:
                if name in present:
                    order.use(name)
                else:
                    present -= set(fill(order, [name], 5000))
                    present.add(name)
        assert len(present) == 12


def test_an_entry_that_is_replaced_has_been_used() -> None:
    order = S3Fifo(BUDGET)
    fill(order, ["session", *numbered("once", 99)])
    order.add("session", 1500)
    assert "session" not in fill(order, numbered("more", 200))


def test_what_was_removed_is_not_chosen_and_not_remembered() -> None:
    order = S3Fifo(BUDGET)
    fill(order, numbered("once", 3))
    order.remove("once 0")
    order.remove("once 0")
    order.remove("never")
    assert len(order) == 2
    assert [order.evict(), order.evict()] == ["once 1", "once 2"]
    assert order.remembered == 2


def test_names_are_remembered_within_a_number_and_a_size() -> None:
    order = S3Fifo(BUDGET)
    fill(order, numbered("small", 100_000), 10)
    assert order.remembered <= BUDGET // REMEMBERED_EVERY_BYTES
    order = S3Fifo(BUDGET * 100)
    for name in numbered("large", 1000):
        order.add(name, BUDGET)
        if len(order) > 100:
            order.evict()
    assert 0 < order.remembered <= 100


def test_the_least_recent_makes_room() -> None:
    order = LeastRecent()
    for name in "abc":
        order.add(name, 1)
    order.use("a")
    order.use("never")
    order.add("b", 2)
    order.remove("never")
    assert len(order) == 3
    assert [order.evict() for _ in range(3)] == ["c", "a", "b"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "use", "remove", "evict"]), st.integers(0, 15), st.integers(1, 30_000)
        ),
        max_size=200,
    )
)
def test_the_books_are_right(steps: list[tuple[str, int, int]]) -> None:
    order, sizes = S3Fifo(BUDGET), dict[str, int]()
    for step, number, size_bytes in steps:
        name = str(number)
        if step == "add":
            sizes.pop(name, None)
            while sum(sizes.values()) + size_bytes > BUDGET:
                sizes.pop(order.evict(), None)
            order.add(name, size_bytes)
            sizes[name] = size_bytes
        elif step == "use":
            order.use(name)
        elif step == "remove":
            order.remove(name)
            sizes.pop(name, None)
        elif sizes:
            del sizes[order.evict()]
        assert len(order) == len(sizes)
        assert order._on_probation == sum(place.size_bytes for place in order._probation.values())
        places = {**order._probation, **order._kept}
        assert {name: place.size_bytes for name, place in places.items()} == sizes
        assert order._remembered_bytes == sum(order._remembered.values()) <= BUDGET
        assert order.remembered <= BUDGET // REMEMBERED_EVERY_BYTES
    while sizes:
        del sizes[order.evict()]
    assert len(order) == 0
