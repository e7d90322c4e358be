"""Who was advanced together with whom: groups that end with the first of them."""

from services.tts import wire
from services.tts.together import Groups
from services.tts.wire import Together

MS = 1_000_000


def test_a_group_is_those_that_met_until_one_of_them_ends() -> None:
    groups = Groups()
    groups.ran("decode", (1, 2), 10 * MS, 12 * MS)
    groups.ran("decode", (1, 2, 3), 20 * MS, 25 * MS)
    groups.ran("decode", (2, 3), 30 * MS, 31 * MS)
    assert groups.ended(9, 40 * MS) == []
    assert groups.ended(1, 40 * MS) == [
        Together("decode", (1, 2, 3), steps=3, largest=3, engine_us=8000, began_us=30_000, ended_us=9000)
    ]
    groups.ran("decode", (2, 3), 50 * MS, 52 * MS)
    assert groups.ended(1, 60 * MS) == []
    (left,) = groups.ended(3, 60 * MS)
    assert (left.ids, left.steps, left.engine_us) == ((2, 3), 1, 2000)
    assert groups.ended(2, 60 * MS) == []


def test_stages_and_strangers_are_groups_of_their_own() -> None:
    groups = Groups()
    groups.ran("text", (1, 2), 0, MS)
    groups.ran("decode", (1, 2), MS, 2 * MS)
    groups.ran("decode", (3, 4), 2 * MS, 3 * MS)
    assert [(each.stage, each.ids) for each in groups.ended(2, 4 * MS)] == [
        ("text", (1, 2)),
        ("decode", (1, 2)),
    ]
    assert [each.ids for each in groups.ended(4, 4 * MS)] == [(3, 4)]


def test_there_are_never_more_groups_than_requests() -> None:
    groups = Groups()
    for step in range(1000):
        ids = tuple(1 + (step * move) % 8 for move in range(1, 4))
        if len(set(ids)) > 1:
            groups.ran("decode", dict.fromkeys(ids), step, step + 1)
    told = [group for request_id in range(9) for group in groups.ended(request_id, 2000)]
    assert 0 < len(told) <= 8


def test_it_crosses_the_wire_as_it_is() -> None:
    told = Together("decode", (1, 7), steps=2, largest=2, engine_us=3, began_us=9, ended_us=1)
    ((kind, request_id, payload),) = wire.Parser().feed(wire.together_message(told))
    assert (kind, request_id) == (wire.BATCH, 0)
    assert wire.parse_together(payload) == told
