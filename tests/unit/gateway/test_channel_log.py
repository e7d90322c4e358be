"""What readers of a channel's log get, each at its own pace."""

from dataclasses import dataclass

from gateway.channel_log import _MAX_EDGES, ChannelLog


@dataclass
class Said:
    turn_id: str


def read(log: ChannelLog, cursor: int = 0) -> list[tuple[str, float]]:
    found = []
    while (entry := log.next(cursor)) is not None:
        found.append((entry.event, entry.audio_at_ms))
        cursor = entry.number + 1
    return found


def turn(log: ChannelLog, turn_id: str, frames: int, frame_ms: float = 100.0) -> None:
    log.append("turn_started", Said(turn_id))
    for _ in range(frames):
        log.append("frame", Said(turn_id), frame_ms)
    log.append("turn_completed", Said(turn_id))


def test_every_reader_gets_everything_in_order_from_where_it_is() -> None:
    log = ChannelLog(10_000)
    turn(log, "a", 2)
    assert read(log) == [("turn_started", 0), ("frame", 0), ("frame", 100), ("turn_completed", 200)]
    assert read(log, 2) == [("frame", 100), ("turn_completed", 200)]
    assert read(log, log.end) == []


def test_audio_over_the_backlog_is_let_go_but_how_turns_began_and_ended_is_kept() -> None:
    log = ChannelLog(300)
    turn(log, "a", 10)
    assert read(log) == [
        ("turn_started", 0),
        ("frame", 700),
        ("frame", 800),
        ("frame", 900),
        ("turn_completed", 1000),
    ]


def test_endless_text_is_bounded_too() -> None:
    log = ChannelLog(300)
    for _ in range(20_000):
        log.append("text_delta", Said("a"))
    assert len(read(log)) == 8192


def test_an_interrupt_drops_all_but_the_edges() -> None:
    log = ChannelLog(10_000)
    log.append("turn_started", Said("a"))
    log.append("frame", Said("a"), 100)
    log.drop()
    log.append("turn_completed", Said("a"))
    assert read(log) == [("turn_started", 0), ("turn_completed", 100)]
    assert log.dropped_ms == 100


def test_the_present_turn_is_the_one_that_has_begun_and_not_ended() -> None:
    log = ChannelLog(10_000)
    present = [log.present]
    for event in ("turn_started", "frame", "turn_failed"):
        log.append(event, Said("a"))
        present.append(log.present)
    assert [entry and entry.event for entry in present] == [None, "turn_started", "turn_started", None]


def test_the_first_reader_to_come_to_an_entry_or_past_it_is_told_once() -> None:
    log = ChannelLog(10_000)
    told: list[str] = []
    log.append("frame", Said("a"), 100, lambda: told.append("first"))
    log.append("frame", Said("a"), 100)
    assert not told
    log.was_read(1)
    log.was_read(1)
    assert told == ["first"]


def test_a_reader_that_lost_the_end_of_a_turn_is_found_out() -> None:
    log = ChannelLog(10_000)
    for number in range(_MAX_EDGES):
        turn(log, str(number), 0)
    assert log.has_lost_edges(0)
    assert not log.has_lost_edges(log.end)


def test_a_reader_far_behind_has_lost_nothing_while_every_edge_before_it_was_read() -> None:
    log = ChannelLog(1000)
    log.append("turn_started", Said("a"))
    log.append("text_delta", Said("a"))
    for _ in range(_MAX_EDGES):
        log.append("turn_completed", Said("a"))
    assert not log.has_lost_edges(1), "it read the one that was let go"
    assert log.has_lost_edges(0)
