"""The report of a load test: one HTML file that needs nothing else, made of what `bench --json` prints."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from shlex import quote
from typing import Any, Final

from voicemesh.cli import bench_plots as plots
from voicemesh.cli.bench_advice import GIVEN_UP, advice
from voicemesh.cli.bench_figures import Turn, errors_of, heard_of, kind_of, parts_of
from voicemesh.cli.bench_loads import Step
from voicemesh.cli.bench_report import cost_lines, steps_of
from voicemesh.cli.bench_style import style
from voicemesh.cli.characters import printable
from voicemesh.cli.compare_html import comparison
from voicemesh.cli.options import DEFAULT_ADDR
from voicemesh.cli.svg import tag

_SLOWEST: Final = 10
_PROMPT_CHARS: Final = 80
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing."""


def page(result: Mapping[str, Any]) -> str:
    """Return the report of a run, or of a comparison of two."""
    return _document(
        "voicemesh bench: A and B" if "compare" in result else "voicemesh bench",
        comparison(result) if "compare" in result else _run(result),
        result,
    )


def _document(title: str, body: Iterable[str], result: Mapping[str, Any]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{style()}</style></head><body>"
        + "\n".join((tag("h1", escape(title)), *body, *_made_with(result)))
        + "</body></html>\n"
    )


def _run(result: Mapping[str, Any]) -> list[str]:
    steps, summary, config = steps_of(result), result["summary"], result["config"]
    turns = result["turns"]
    several = len(steps) > 1
    began = config.get("began", "")
    voice = config.get("voice", "")
    lines = [
        ", ".join(step.load for step in steps),
        f"{summary['turns']} turns",
        config.get("addr", ""),
        f"voice {voice}" if voice else "",
        f"began {began}" if began else "",
    ]
    body = [
        tag("p", escape(" · ".join(filter(None, lines))), class_="dim"),
        *_tiles_by_load(steps),
        _advice(result.get("advice") or advice(steps)),
        tag("h2", "Time to first audio"),
        _grid(
            *plots.percentiles_by_load(steps),
            *([plots.throughput(steps)] if several else []),
            *_distributions(steps, turns),
            plots.made_of([(step.load if several else "", step.turns) for step in steps]),
        )
        if heard_of(turns)
        else tag("p", "No turn had audio."),
    ]
    if moments := plots.timeline(steps) if heard_of(turns) else []:
        body += [tag("h2", "The run"), _grid(*moments)]
    body += [tag("h2", "Underruns, errors, cache and cost"), _grid(*_counts(steps, turns))]
    if heard_of(turns):
        body += [tag("h2", "The slowest turns"), _slowest(steps, config.get("addr", ""))]
    return body


def _distributions(steps: Sequence[Step], turns: Sequence[Turn]) -> list[str]:
    """Return the distribution by load, and by what the audio came from where that was more than one thing."""
    kinds = plots.by_cache(turns)
    several = len(steps) > 1
    lines = [(step.load, step.turns) for step in steps] if several else [("all turns", turns)]
    found = [plots.distribution(lines, note="by load" if several else "")]
    return (
        [*found, plots.distribution(kinds, note="by what the audio came from")] if len(kinds) > 1 else found
    )


def _tiles_by_load(steps: Sequence[Step]) -> list[str]:
    """Return the figures of each load: those of several together are of none."""
    if len(steps) == 1:
        return [_tiles(steps[0].summary, steps[0].turns)]
    return [
        part for step in steps for part in (tag("h3", escape(step.load)), _tiles(step.summary, step.turns))
    ]


def _tiles(summary: Mapping[str, Any], turns: Sequence[Turn]) -> str:
    given_up = sum(bool(turn["degraded"]) for turn in turns)
    asked = sum(summary["lookups"]["reply"].values())
    heard = bool(heard_of(turns))
    tiles = [
        (f"{summary['turns']}", "turns", False),
        (f"{summary['turns_per_s']:.1f}/s", "throughput", False),
        *(
            (f"{summary['ttfa_ms'][name]:,.0f} ms" if heard else "none", f"first audio, {name}", False)
            for name in ("p50", "p95")
        ),
        (f"{summary['errors']}", "failed", summary["errors"] > 0),
        (
            f"{summary['underruns']}",
            f"underruns in {sum(t['underruns'] > 0 for t in turns)} turns",
            summary["underruns"] > 0,
        ),
        (
            f"{summary['hit_rate']['reply']:.0%}" if asked else "none",
            f"of {asked} replies cached" if asked else "looked for in the reply cache",
            False,
        ),
        *([(f"{given_up}", "turns gave something up", True)] if given_up else []),
        (f"${summary['cost']['per_1000_turns_usd']:.2f}", "for 1,000 turns", False),
    ]
    return tag(
        "div",
        *(
            tag("div", tag("b", escape(value)), escape(name), class_="tile bad" if bad else "tile")
            for value, name, bad in tiles
        ),
        class_="tiles",
    )


def _advice(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return tag("h2", "What the numbers say") + tag(
        "ol", *(tag("li", escape(printable(line))) for line in lines), class_="advice"
    )


def _counts(steps: Sequence[Step], turns: Sequence[Turn]) -> list[str]:
    found = []
    dry = [(step.load, step.summary.get("underruns_by_stage", {})) for step in steps]
    causes = list(dict.fromkeys(cause for _, counted in dry for cause in counted))
    if causes:
        rows = [
            (f"{load}: {cause}", {"count": counted.get(cause, 0)})
            for load, counted in dry
            for cause in counted
        ]
        found.append(
            plots.figure(
                "Underruns by the stage that caused them",
                plots.bars(rows, "underruns"),
                note="a player that starts at the first frame ran dry",
            )
        )
    if given_up := _given_up(steps):
        found.append(given_up)
    if any(sum(step.summary["lookups"]["audio"].values()) for step in steps):
        keys = [
            tag("span", tag("i", "", class_=f"part-{part}"), name, class_="key")
            for part, name in (("hit", "hit"), ("similar", "similar prompt"), ("miss", "miss"))
        ]
        drawn = [
            plots.bars(
                [
                    (f"{what}, {step.load}" if len(steps) > 1 else what, step.summary["lookups"][kind])
                    for step in steps
                ],
                "lookups",
            )
            for kind, what in (("reply", "replies"), ("audio", "chunks of audio"))
        ]
        found.append(plots.figure("From the cache", *drawn, tag("p", *keys, class_="keys")))
    head = ("load", "turns", "turns/s", "failed", "underruns", "late p99", "under way", "$ a turn")
    listed = [
        (
            step.load,
            str(step.summary["turns"]),
            f"{step.summary['turns_per_s']:.2f}",
            str(step.summary["errors"]),
            str(step.summary["underruns"]),
            f"{step.late_ms['p99']:.1f} ms" if step.rate_per_s else "",
            str(step.most_in_flight or ""),
            f"{step.summary['cost']['per_turn_usd']:.6f}",
        )
        for step in steps
    ]
    found.append(plots.figure("Each load", plots.table(head, listed), wide=True))
    if errors := errors_of(turns):
        failed = [(reason, limit, message, str(count)) for reason, limit, message, count in errors]
        found.append(
            plots.figure(
                "Turns that failed",
                plots.table(("reason", "limit", "message", "turns"), failed, left=3),
                wide=True,
            )
        )
    summary_lines = [line for step in steps for line in _money(step, many=len(steps) > 1)]
    if summary_lines:
        found.append(plots.figure("Cost", *(tag("p", escape(line)) for line in summary_lines), wide=True))
    return found


def _given_up(steps: Sequence[Step]) -> str:
    """Return what turns went on without, and what that means; "" where they had everything."""
    names = dict.fromkeys(name for step in steps for name in step.summary.get("degraded", {}))
    if not names:
        return ""
    head = ("", "what it means", *(step.load if len(steps) > 1 else "turns" for step in steps))
    rows = [
        (
            name,
            GIVEN_UP.get(name, ""),
            *(str(step.summary.get("degraded", {}).get(name, 0)) for step in steps),
        )
        for name in names
    ]
    return plots.figure(
        "Given up",
        plots.table(head, rows, left=2),
        note="turns that went on without something, and spoke",
        wide=True,
    )


def _money(step: Step, *, many: bool) -> list[str]:
    return [f"{step.load}: {line}" if many else line for line in cost_lines(step.summary)]


def _explain(turn_id: str, tenant: str, addr: str) -> str:
    """Return the command that shows the account of a turn: turns are found by their tenant."""
    options = [("--tenant", tenant), ("--addr", addr if addr != DEFAULT_ADDR else "")]
    return " ".join(
        ("voicemesh explain", quote(turn_id), *(f"{name} {quote(value)}" for name, value in options if value))
    )


def _slowest(steps: Sequence[Step], addr: str) -> str:
    ordered = sorted(
        ((turn, step) for step in steps for turn in heard_of(step.turns)),
        key=lambda each: -each[0]["ttfa_ms"],
    )
    rows = []
    for turn, step in ordered[:_SLOWEST]:
        parts = parts_of(turn)
        most = max(parts, key=parts.__getitem__)
        prompt = turn["prompt"]
        rows.append(
            (
                prompt[:_PROMPT_CHARS] + ("…" if len(prompt) > _PROMPT_CHARS else ""),
                _explain(turn["turn_id"], step.tenant, addr),
                step.load,
                f"{turn['ttfa_ms']:,.1f}",
                f"{most} {parts[most]:,.1f}",
                {"none": "", "audio": "audio", "reply": "reply"}[kind_of(turn)],
            )
        )
    head = ("prompt", "its whole account", "load", "first audio, ms", "most of it, ms", "cached")
    return plots.figure(
        "The slowest turns to their first audio",
        plots.table(head, rows, left=3),
        note="the command shows all of a turn, for as long as the gateway remembers it",
    )


def _made_with(result: Mapping[str, Any]) -> list[str]:
    config = {
        name: value
        for name, value in result.get("config", {}).items()
        if value not in (None, "", {}, []) and name != "arms"
    }
    facts = [*config.items(), *result.get("machine", {}).items(), *result.get("versions", {}).items()]
    if not facts:
        return []
    rows = [(name, _said(value)) for name, value in facts]
    return [
        tag("h2", "How it was made"),
        tag(
            "figure",
            plots.table(("", "of the run, the machine that the tool ran on, and what with"), rows, left=2),
        ),
    ]


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _grid(*figures: str) -> str:
    return tag("div", *figures, class_="grid")
