"""The part of the report that tells A and B apart."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from voicemesh.cli import bench_plots as plots
from voicemesh.cli import svg
from voicemesh.cli.bench_figures import Turn, heard_of
from voicemesh.cli.bootstrap import PAIRS
from voicemesh.cli.characters import printable
from voicemesh.cli.compare import (
    FEWEST,
    FEWEST_OF,
    METRICS,
    STAGE_METRICS,
    Metric,
    each_of,
    number_of,
    text_of,
    verdict,
)
from voicemesh.cli.compare_loads import turns_of
from voicemesh.cli.svg import Interval, tag

_BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in (*METRICS, *STAGE_METRICS)}
_RATES: Final = frozenset({"reply_hit_rate", "audio_hit_rate"})


def comparison(result: Mapping[str, Any]) -> list[str]:
    """Return what differs between A and B, load by load, and how sure that is."""
    compared = result["compare"]
    names = [
        tag("b", escape(printable(f"{letter.upper()}: {compared[letter]}")))
        + escape(f" ({compared['turns'][letter]} turns) ")
        for letter in "ab"
    ]
    body = [tag("p", *names)]
    warnings = compared.get("warnings", [])
    if warnings:
        body.append(
            tag("ul", *(tag("li", escape(printable(line))) for line in warnings), class_="advice warning")
        )
    for load, each in each_of(compared):
        if load:
            body.append(tag("h2", escape(f"Under {load}")))
        body += _compared(each, turns_of(result, load), "h3" if load else "h2")
    return body


def _compared(compared: Mapping[str, Any], sides: Mapping[str, Sequence[Turn]], head: str) -> list[str]:
    body = [tag("p", escape(_method(compared)), class_="dim")]
    said = [
        found["sentence"]
        for name, found in compared["metrics"].items()
        if not name.startswith("stage.")
        and any(
            found.get(each, {}).get("a") or found.get(each, {}).get("b") for each in (PAIRS, "median", "mean")
        )
    ]
    if said and compared.get("stage_sentence"):
        said.insert(1, compared["stage_sentence"])
    if said:
        body += [
            tag(head, "What the numbers say"),
            tag("ol", *(tag("li", escape(printable(line))) for line in said), class_="advice"),
        ]
    drawn = [plot for plot in (_ratios(compared), _stages(compared)) if plot]
    lines = [(letter.upper(), turns) for letter, turns in sides.items()]
    if any(heard_of(turns) for turns in sides.values()):
        drawn.append(plots.distribution(lines, note="the share of turns that were heard within a time"))
        drawn.append(plots.made_of(lines))
    body += [tag(head, "A and B"), tag("div", *drawn, _table(compared), class_="grid")]
    return body


def _method(compared: Mapping[str, Any]) -> str:
    pairs = (
        f"{compared['pairs']} pairs that asked the same"
        if compared["pairs"]
        else "not paired: asked different things"
    )
    return f"{pairs}; intervals hold 95%, by resampling; nothing is claimed of few turns"


def _ratios(compared: Mapping[str, Any]) -> str:
    rows = []
    for name, found in compared["metrics"].items():
        metric = _BY_NAME[name]
        for statistic in (PAIRS, "median", "p95", "p99", "mean"):
            each = found.get(statistic)
            if name.startswith("stage.") or not each or each["ratio"] is None or not each["a"]:
                continue
            ratio = each["ratio"]
            title = f"B / A {ratio['value']:.3f}, 95% interval {ratio['low']:.3f} to {ratio['high']:.3f}"
            values = ratio["value"], ratio["low"], ratio["high"]
            rows.append(Interval(f"{metric.title}, {statistic}", *values, _verdict(metric, each), title))
    if not rows:
        return ""
    x = svg.around([value for row in rows for value in row[1:4]], 1.0, "B / A: left of the line B has less")
    return plots.figure(
        "B against A",
        svg.intervals("Ratios of B to A", x, 1.0, rows),
        note="green: B is better, red: worse, grey: no difference shown, or of too few turns to claim one",
    )


def _stages(compared: Mapping[str, Any]) -> str:
    rows = []
    for name, found in compared["metrics"].items():
        each = found.get("mean")
        if not name.startswith("stage.") or not each:
            continue
        by = each["difference"]
        title = f"B - A {by['value']:.3g} ms, 95% interval {by['low']:.3g} to {by['high']:.3g} ms"
        metric = _BY_NAME[name]
        values = by["value"], by["low"], by["high"]
        rows.append(Interval(metric.title, *values, _verdict(metric, each), title))
    if not rows:
        return ""
    x = svg.around([value for row in rows for value in row[1:4]], 0.0, "ms, mean of B - mean of A")
    return plots.figure(
        "Which stage it was",
        svg.intervals("Differences of stages", x, 0.0, rows),
        note="of the time to first audio; the differences add up to that of its mean",
    )


def _verdict(metric: Metric, each: Mapping[str, Any]) -> str:
    if not each["shown"]:
        return "unclear"
    more = each["difference"]["value"] > 0
    return "better" if more == (metric.name in _RATES) else "worse"


def _table(compared: Mapping[str, Any]) -> str:
    rows = []
    for name, found in compared["metrics"].items():
        metric = _BY_NAME[name]
        for statistic in (PAIRS, "median", "p95", "p99", "mean"):
            each = found.get(statistic)
            if not each or not (each["a"] or each["b"]):
                continue
            by = each["difference"]
            rows.append(
                (
                    f"{metric.title}, {statistic}",
                    text_of(metric, each["a"]),
                    text_of(metric, each["b"]),
                    number_of(metric, by["value"]),
                    f"{number_of(metric, by['low'])} to {number_of(metric, by['high'])}",
                    verdict(each, min(found["values"].values())),
                )
            )
    head = ("", "A", "B", "B - A", "95% interval", "shown")
    note = (
        f"a difference is shown where the interval leaves 0 out, of {FEWEST} turns of each on; of a p95 "
        f"from {FEWEST_OF['p95']} on, of a p99 from {FEWEST_OF['p99']} on: of fewer, intervals are too narrow"
    )
    return plots.figure("All figures", plots.table(head, rows), note=note, wide=True)
