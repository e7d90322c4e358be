"""How many callers fill a layout, which turns of a rate count, why one was too much, and what a row says."""

import pytest

from benchmarks.replica_figures import COLUMNS, Found, Growing, Used, head, missed, row, window


def tried(first: int, most_per_s: float, turn_s: float = 0.5) -> tuple[list[int], int]:
    growing, callers = Growing(first), []
    while growing.next is not None:
        callers.append(growing.next)
        growing.tell(min(growing.next / turn_s, most_per_s))
    return callers, growing.callers


@pytest.mark.parametrize(
    ("first", "most_per_s", "callers"),
    [
        (16, 26.0, [16, 24]),  # as much with 16 as with more
        (16, 40.0, [16, 24, 36]),
        (36, 40.0, [36, 54]),
        (16, 1e6, [16, 24, 36, 54, 81, 122, 183]),  # a gateway lets in no more
    ],
)
def test_callers_grow_until_more_of_them_do_no_more(first, most_per_s, callers):
    assert tried(first, most_per_s)[0] == callers


def test_the_next_layout_begins_with_the_fewest_callers_that_fill_this_one():
    assert tried(16, 26.0)[1] == 16
    assert tried(16, 40.0)[1] == 24


def turn(due_s: float, ttfa_ms: float | None = 200.0, ended_s: float | None = None) -> dict[str, object]:
    return {
        "outcome": "failed" if ttfa_ms is None else "completed",
        "ttfa_ms": ttfa_ms,
        "run": {"due_s": due_s, "ended_s": due_s + 1.0 if ended_s is None else ended_s},
    }


def test_turns_that_came_within_the_window_count_whenever_they_end():
    late = [turn(at / 4, ttfa_ms=5000, ended_s=60) for at in range(8)]  # it fills
    came = [turn(2 + at / 4, ended_s=90.0) for at in range(40)]
    last = [turn(12.0, ttfa_ms=5000)]  # it ends the window
    found = window([*reversed(came), *last, *late], 8, 800)
    assert (found.turns, found.asked_per_s, found.good_per_s, found.ttfa_p95_ms) == (40, 4.0, 4.0, 200.0)


def test_turns_that_failed_or_were_late_are_no_good_ones():
    came = [turn(at / 4) for at in range(38)] + [turn(9.5, ttfa_ms=900), turn(9.75, None), turn(10.0)]
    found = window(came, 0, 800)
    assert (found.turns, found.asked_per_s, found.good_per_s) == (40, 4.0, 3.8)
    assert found.ttfa_p95_ms == 200.0
    assert window([turn(0.0, None), turn(1.0, None), turn(2.0)], 0, 800).ttfa_p95_ms is None


def result(turns: list[dict[str, object]], errors: int = 0, unfinished: int = 0) -> dict[str, object]:
    none_late = dict.fromkeys(("p50", "p95", "p99", "max"), 0.0)
    step = {
        "load": "4 a second",
        "concurrency": None,
        "rate_per_s": 4.0,
        "summary": {},
        "late_ms": none_late,
        "unfinished": unfinished,
        "most_in_flight": 0,
        "held_back": 0,
        "cut_short": bool(unfinished),
        "warmup_failed": 0,
        "loop_late_ms": none_late,
    }
    return {"turns": turns, "summary": {"errors": errors}, "config": {}, "steps": [step]}


def why(turns: list[dict[str, object]], objective_ms: float = 800, **told: int) -> str:
    return missed(result(turns, **told), window(turns, 0, objective_ms), objective_ms)


def test_a_rate_is_kept_where_turns_are_heard_in_time_and_none_are_left_behind():
    even = [turn(at / 4, ended_s=at / 4 + 6.0) for at in range(80)]  # long turns are no backlog
    assert why(even) == ""
    assert why(even, 100) == "p95 of 200 ms"
    assert why(even, errors=2) == "2 turns failed"
    assert why(even, unfinished=3) == "3 turns had not ended when time was up"
    assert why([turn(at / 4, ended_s=at / 2) for at in range(80)]).startswith("a backlog grew, from ")


def test_cpu_of_a_turn_is_without_the_start_of_the_load_tool():
    used = Used({"llm": 0.6, "gateway": 3.0}, tool_s=2.2, all_s=7.8, took_s=10.0)
    assert used.per_turn_ms(100, 1.2) == {"llm": 6.0, "gateway": 30.0, "load tool": 10.0}
    assert used.others() == pytest.approx(0.2)


def test_a_row_says_what_could_not_be_found_out():
    (line,) = row(Found("one"))
    assert line.endswith("not measured: time was up")
    found = Found("one")
    cpu_ms = {name: float(place) for place, name in enumerate(COLUMNS)}
    found.full(24, 26.1, 410.0, cpu_ms, 0.1)
    found.full(36, 25.0, 900.0, {}, 2.0)  # more callers did less
    found.grew, found.because = False, "24.0/s: p95 of 900 ms"
    figures, said = row(found)
    assert figures.split()[:7] == ["one", "26.1", "24", "410", "-", "-", "-"]
    assert figures.split()[-4:] == ["10.0", "5.0", "0.39", "0.10"]
    assert said.strip() == "no rate was kept: 24.0/s: p95 of 900 ms"
    found.kept_per_s, found.good_per_s, found.kept_p95_ms, found.because = 24.8, 24.6, 384.0, ""
    (figures,) = row(found)
    assert figures.split()[4:7] == ["24.8", "24.6", "384"]
    (above,) = head()
    assert len(figures) == len(above)
    found.grew = True
    assert [*row(found)][1].strip().startswith("more callers may do more")
