"""Two sets of turns against each other: each figure with its difference, its ratio, and how sure they are."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicemesh.cli.bench_figures import PARTS, Turn, parts_of
from voicemesh.cli.bootstrap import LEVEL, PAIRS, Comparison, Estimate, compare
from voicemesh.cli.machine import busy

_UNITS: Final = {"ms": " ms", "%": "%", "": ""}

Pair = tuple[Turn | None, Turn | None]


@dataclass(frozen=True)
class Metric:
    """A figure of a turn.

    Attributes:
        name: As in JSON.
        title: As for people.
        unit: "ms", "%", "$" or "" for a number.
        of: Returns it; None where the turn has none.
        statistics: What is compared, the first one that there is in words.
        more: What a larger value is, in words.
        less: What a smaller one is.
        verb: What stands before these: "is" or "has".

    """

    name: str
    title: str
    unit: str
    of: Callable[[Turn], float | None]
    statistics: tuple[str, ...]
    more: str
    less: str
    verb: str = "is"


def _above_zero(name: str) -> Callable[[Turn], float | None]:
    return lambda turn: None if turn["outcome"] == "failed" else turn.get(name) or None


def _total(turn: Turn) -> float | None:
    return turn.get("total_ms") if turn["outcome"] == "completed" else None


def _reply_hit(turn: Turn) -> float | None:
    return None if turn.get("reply_cache", "off") == "off" else float(turn["reply_cache"] == "hit")


def _audio_hit(turn: Turn) -> float | None:
    chunks = turn.get("chunks") or ()
    return sum(chunk["cache"] != "miss" for chunk in chunks) / len(chunks) if chunks else None


def _ended(name: str) -> Callable[[Turn], float | None]:
    return lambda turn: None if turn["outcome"] == "failed" else float(turn.get(name, 0))


def _part(name: str) -> Callable[[Turn], float | None]:
    def of(turn: Turn) -> float | None:
        if turn["outcome"] == "failed" or not turn.get("ttfa_ms") or "stages" not in turn:
            return None
        return parts_of(turn)[name]

    return of


_TIMES: Final = (PAIRS, "median", "p95", "p99")
_MEANS: Final = ("mean",)
METRICS: Final = (
    Metric("ttfa_ms", "first audio", "ms", _above_zero("ttfa_ms"), _TIMES, "slower", "faster"),
    Metric("ttft_ms", "first text", "ms", _above_zero("ttft_ms"), _TIMES, "slower", "faster"),
    Metric("total_ms", "whole turn", "ms", _total, _TIMES, "slower", "faster"),
    Metric("underruns", "underruns a turn", "", _ended("underruns"), _MEANS, "more", "fewer", "has"),
    Metric("reply_hit_rate", "replies from the cache", "%", _reply_hit, _MEANS, "more", "fewer", "has"),
    Metric("audio_hit_rate", "audio from the cache", "%", _audio_hit, _MEANS, "more", "less", "has"),
    Metric("cost_usd", "cost a turn", "$", _ended("cost_usd"), _MEANS, "dearer", "cheaper"),
    Metric(
        "failed",
        "failed turns",
        "%",
        lambda turn: float(turn["outcome"] == "failed"),
        _MEANS,
        "more",
        "fewer",
        "has",
    ),
)


STAGE_METRICS: Final = tuple(
    Metric(f"stage.{name}", name, "ms", _part(name), ("mean", "p95"), "longer", "shorter") for name in PARTS
)
"""Parts of the time to first audio. Their means add up to its mean, which medians do not."""
_OF_EACH: Final = frozenset({"addr", "began", "cut_short", "load_1m", "percentiles"})
"""What every run has its own of, or is told in other words."""
_STAGE_VALUES: Final = 1_000_000
"""Values that are drawn for each of them, at most: they are many."""

FEWEST: Final = 10
"""Values of each that a difference is claimed from: of fewer, intervals by resampling promise too much."""


FEWEST_OF: Final = {"p95": 100, "p99": 500}
"""Values of each that a high percentile is shown from: of fewer it is that of a handful of turns."""


@dataclass(frozen=True)
class Figure:
    """What came of one metric.

    Attributes:
        metric: Which.
        counts: How many values of A and of B.
        found: By statistic; empty where A or B has no value.

    """

    metric: Metric
    counts: tuple[int, int]
    found: Mapping[str, Comparison]

    @staticmethod
    def fewest(name: str) -> int:
        """Return how many values of each a difference in a statistic is claimed from."""
        return FEWEST_OF.get(name, FEWEST)

    def shows(self, name: str) -> bool:
        """Return whether there is a difference in a statistic."""
        return min(self.counts) >= self.fewest(name) and self.found[name].shown


@dataclass(frozen=True)
class Result:
    """A comparison.

    Attributes:
        labels: What A and B are.
        turns: How many turns of A and of B.
        pairs: How many belong together; 0 where none do.
        figures: One for each metric.
        flags: How often which variants had a say, in A and in B.
        warnings: Why the difference may be of something else.

    """

    labels: tuple[str, str]
    turns: tuple[int, int]
    pairs: int
    figures: Sequence[Figure]
    flags: tuple[Mapping[str, int], Mapping[str, int]]
    warnings: Sequence[str] = ()


def paired_by_prompt(a: Sequence[Turn], b: Sequence[Turn]) -> list[Pair] | None:
    """Pair the turns of two runs that asked the same: the n-th of each prompt; None where they did not."""
    waiting: dict[str, list[Turn]] = defaultdict(list)
    for turn in reversed(b):
        waiting[turn.get("prompt", "")].append(turn)
    pairs: list[Pair] = []
    for turn in a:
        prompt = turn.get("prompt", "")
        if not prompt or not waiting[prompt]:
            return None
        pairs.append((turn, waiting[prompt].pop()))
    return None if any(waiting.values()) else pairs


def result(labels: tuple[str, str], pairs: Sequence[Pair], seed: int) -> Result:
    """Compare turns that belong together."""
    whole = [(a, b) for a, b in pairs if a is not None and b is not None]

    def values(metric: Metric) -> tuple[list[float], list[float]]:
        found = [(metric.of(a), metric.of(b)) for a, b in whole]
        both = [(x, y) for x, y in found if x is not None and y is not None]
        return [x for x, _ in both], [y for _, y in both]

    sides = [pair[0] for pair in pairs if pair[0]], [pair[1] for pair in pairs if pair[1]]
    return _result(labels, sides[0], sides[1], len(whole), _figures(values, paired=True, seed=seed))


def result_apart(labels: tuple[str, str], a: Sequence[Turn], b: Sequence[Turn], seed: int) -> Result:
    """Compare turns of two runs that asked for different things."""

    def values(metric: Metric) -> tuple[list[float], list[float]]:
        xs = [x for turn in a if (x := metric.of(turn)) is not None]
        return xs, [y for turn in b if (y := metric.of(turn)) is not None]

    return _result(labels, a, b, 0, _figures(values, paired=False, seed=seed))


def _figures(
    values: Callable[[Metric], tuple[list[float], list[float]]], *, paired: bool, seed: int
) -> list[Figure]:
    figures = []
    for metric in (*METRICS, *STAGE_METRICS):
        xs, ys = values(metric)
        of_stage = metric in STAGE_METRICS
        if of_stage and not (any(xs) or any(ys)):
            continue  # no turn was there, and nothing is to be said of it
        most = {"most_values": _STAGE_VALUES} if of_stage else {}
        found = compare(xs, ys, metric.statistics, paired=paired, seed=seed, **most) if xs and ys else {}
        figures.append(Figure(metric, (len(xs), len(ys)), found))
    return figures


def _result(
    labels: tuple[str, str], a: Sequence[Turn], b: Sequence[Turn], pairs: int, figures: Sequence[Figure]
) -> Result:
    said = [
        Counter(f"{key}={variant}" for turn in turns for key, variant in turn.get("variants", {}).items())
        for turns in (a, b)
    ]
    return Result(labels, (len(a), len(b)), pairs, figures, (said[0], said[1]))


def sentence(figure: Figure) -> str:
    """Say in words what a figure shows, or that it shows nothing."""
    metric = figure.metric
    if not figure.found:
        return f"{metric.title}: not measured in both"
    name, found = next(iter(figure.found.items()))
    where = {PAIRS: " in the median pair", "median": " at the median"}.get(name, "")
    low, high = found.difference.low, found.difference.high
    if min(figure.counts) < FEWEST:
        return f"{metric.title}: too few turns to tell ({min(figure.counts)}; at least {FEWEST} of each)"
    if not found.shown:
        value = _points(metric, found.difference.value)
        interval = _interval(metric, low, high)
        line = f"{metric.title}: no difference shown{where}: B - A is {value}, {interval}"
        others = [_other(figure, other) for other in figure.found if other != name and figure.shows(other)]
        return "; but ".join((line, ", and ".join(others))) if others else line
    word = metric.more if found.difference.value > 0 else metric.less
    near, far = sorted((abs(low), abs(high)))
    value = _points(metric, abs(found.difference.value))
    return f"{metric.title}: B {metric.verb} {value} {word}{where}, {_interval(metric, near, far)}"


def _other(figure: Figure, name: str) -> str:
    """Say what another statistic of a figure shows than the one that it is first judged by."""
    metric, by = figure.metric, figure.found[name].difference
    word = metric.more if by.value > 0 else metric.less
    near, far = sorted((abs(by.low), abs(by.high)))
    return f"its {name} {metric.verb} {_points(metric, abs(by.value))} {word}, {_interval(metric, near, far)}"


def each_of(compared: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the comparisons in a JSON form by load: one without a name, or those of two sweeps."""
    loads = compared.get("loads")
    return [("", compared)] if loads is None else [(each["load"], each) for each in loads]


def verdict(each: Mapping[str, Any], values: int) -> str:
    """Say whether a statistic in JSON form shows a difference, and if not, why.

    Args:
        each: The statistic.
        values: How many values of A or of B it has, whichever are fewer.

    """
    if each["shown"]:
        return "yes"
    fewest = each.get("fewest", FEWEST)
    if values < fewest:
        return f"too few: {values} of {fewest}"
    return "no"


def stage_sentence(compared: Result) -> str:
    """Say which stage the mean time to first audio differs by most.

    "" where the first audio itself shows no difference, or no stage shows one in the same direction: of a
    dozen stages one shows something by chance in every second comparison of what is the same.
    """
    first = next((figure for figure in compared.figures if figure.metric.name == "ttfa_ms"), None)
    if first is None or not first.found:
        return ""
    statistic, whole = next(iter(first.found.items()))
    if not first.shows(statistic):
        return ""
    shown = [
        (figure, figure.found["mean"].difference)
        for figure in compared.figures
        if figure.metric in STAGE_METRICS
        and figure.found
        and figure.shows("mean")
        and figure.found["mean"].difference.value * whole.difference.value > 0
    ]
    if not shown:
        return ""
    figure, by = max(shown, key=lambda each: abs(each[1].value))
    metric = figure.metric
    word = metric.more if by.value > 0 else metric.less
    near, far = sorted((abs(by.low), abs(by.high)))
    return (
        f"most of it is {metric.title}: {text_of(metric, abs(by.value))} {word} in B on average, "
        f"{_interval(metric, near, far)}"
    )


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return what two recorded runs were made with and do not share: the difference may be of that."""
    found = []
    for part in ("config", "versions", "machine"):
        ours, theirs = a.get(part), b.get(part)
        if not ours or not theirs:
            if ours or theirs:
                found.append(f"{part} is recorded for {'A' if ours else 'B'} alone")
            continue
        found += [
            f"{name} differs: {_plain(ours.get(name))} in A, {_plain(theirs.get(name))} in B"
            for name in dict.fromkeys((*ours, *theirs))
            if name not in _OF_EACH and ours.get(name) != theirs.get(name)
        ]
    for letter, one in (("A", a), ("B", b)):
        machine = one.get("machine") or {}
        if said := busy(machine):
            found.append(f"{letter}: {said}")
        if (one.get("config") or {}).get("cut_short"):
            found.append(f"{letter} was cut short: its slowest turns are missing")
    return found


def _plain(value: object) -> str:
    return "nothing" if value in (None, "") else str(value)


def to_json(compared: Result, seed: int) -> dict[str, Any]:
    """Return the JSON form."""
    return {
        "a": compared.labels[0],
        "b": compared.labels[1],
        "turns": {"a": compared.turns[0], "b": compared.turns[1]},
        "pairs": compared.pairs,
        "method": {
            "interval": "percentile bootstrap",
            "level": LEVEL,
            "paired": bool(compared.pairs),
            "seed": seed,
        },
        "metrics": {figure.metric.name: _figure_json(figure) for figure in compared.figures},
        "variants": {"a": dict(compared.flags[0]), "b": dict(compared.flags[1])},
        "stage_sentence": stage_sentence(compared),
        "warnings": list(compared.warnings),
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "values": {"a": figure.counts[0], "b": figure.counts[1]},
        **{
            name: {
                "a": _rounded(found.a),
                "b": _rounded(found.b),
                "difference": _estimate_json(found.difference),
                "ratio": _estimate_json(found.ratio),
                "shown": figure.shows(name),
                "fewest": figure.fewest(name),
            }
            for name, found in figure.found.items()
        },
        "sentence": sentence(figure),
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {"value": _rounded(estimate.value), "low": _rounded(estimate.low), "high": _rounded(estimate.high)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def number_of(metric: Metric, value: float) -> str:
    """Return a value without its unit; shares in percent."""
    match metric.unit:
        case "ms":
            return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
        case "%":
            return f"{100 * value:.3g}"
        case "$":
            return f"{value:.6f}"
        case _:
            return f"{value:.3g}"


def text_of(metric: Metric, value: float) -> str:
    """Return a value with its unit."""
    if metric.unit == "$":
        return f"{'-' if value < 0 else ''}${abs(value):.6f}"
    return f"{number_of(metric, value)}{_UNITS[metric.unit]}"


def _points(metric: Metric, value: float) -> str:
    """Return a difference with its unit: that of two shares is no share."""
    number = number_of(metric, value)
    return f"{number} percentage points" if metric.unit == "%" else text_of(metric, value)


def _interval(metric: Metric, low: float, high: float) -> str:
    return f"95% interval {number_of(metric, low)} to {_points(metric, high)}"
