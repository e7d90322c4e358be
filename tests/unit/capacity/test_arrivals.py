"""When turns come: the rates that were asked for, and files that say when they came."""

import itertools
import json
import random
from collections.abc import Iterator

import pytest

from voicemesh.capacity.arrivals import bursty, poisson, read_trace, trace


def within(arrivals: Iterator[float], seconds: float) -> list[float]:
    return list(itertools.takewhile(lambda at_s: at_s < seconds, arrivals))


def test_poisson_keeps_its_rate_and_its_seed():
    times = within(poisson(5.0, random.Random(1)), 4000)
    assert len(times) / 4000 == pytest.approx(5.0, rel=0.03)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert sum(gap**2 for gap in gaps) / len(gaps) == pytest.approx(2 * mean**2, rel=0.06)
    assert times == within(poisson(5.0, random.Random(1)), 4000)


@pytest.mark.parametrize(("peak", "burst_s"), [(2.0, 5.0), (6.0, 2.0)])
def test_bursts_keep_the_mean_rate_and_reach_their_peak(peak, burst_s):
    times = within(bursty(5.0, peak, burst_s, random.Random(2)), 20_000)
    assert times == sorted(times)
    assert len(times) / 20_000 == pytest.approx(5.0, rel=0.08)
    seconds = [0] * 20_000
    for at_s in times:
        seconds[int(at_s)] += 1
    spread = sum((count - 5) ** 2 for count in seconds) / len(seconds)
    assert spread > 1.5 * 5  # of Poisson it is the mean
    assert max(seconds) >= 0.8 * peak * 5


def test_a_trace_goes_round_at_the_rate_that_was_asked_for():
    times = within(trace([10.0, 11.0, 12.0, 17.0], 2.0), 100)
    assert len(times) / 100 == pytest.approx(2.0, rel=0.05)
    assert times == sorted(times)
    gaps = [after - before for before, after in itertools.pairwise(times[:4])]
    assert gaps == pytest.approx([gaps[0], gaps[0], 5 * gaps[0]])


def test_traces_are_read_from_lines_and_from_a_bench(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("# when\n3.5\n\n1\n2\n")
    assert read_trace(lines) == [1.0, 2.0, 3.5]
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"turns": [{"run": {"due_s": at_s}} for at_s in (0.5, 0.1, None)]}))
    assert read_trace(bench) == [0.1, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ntwo\n", "line 2: must be seconds, 0 or more, and is 'two'"),
        ("-1\n2\n", "line 1"),
        ("nan\n2\n", "line 1"),
        ("5\n", "no two moments"),
        ("5\n5\n", "no two moments"),
        ('{"turns": 3}', "is not what `voicemesh bench"),
    ],
)
def test_what_is_no_trace_is_said(tmp_path, text, message):
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(ValueError, match="trace") as caught:
        read_trace(path)
    assert message in str(caught.value)


def test_a_trace_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_trace(tmp_path / "none")
