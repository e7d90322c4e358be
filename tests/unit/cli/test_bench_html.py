"""The report of a load test: whole, escaped, nothing from elsewhere, and each mark a number of the run."""

import json
import pathlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from tests.unit.cli.test_bench_report import OPTIONS, failed, run_of, turn
from voicemesh.cli import svg
from voicemesh.cli.app import app
from voicemesh.cli.bench_figures import PARTS
from voicemesh.cli.bench_html import page
from voicemesh.cli.bench_report import document, steps_of
from voicemesh.cli.bench_slow import accounts
from voicemesh.cli.exits import Failure
from voicemesh.cli.load import Output
from voicemesh.stages import Stage

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('x')</script> & \"quotes\" \x1b[31m \u202e"


def swept() -> Any:
    """Three loads: the last has a queue, a failure and underruns."""
    steps = []
    for callers in (1, 4, 16):
        turns = [
            replace(
                turn(200 + 7.123 * number, Stage.LLM_TTFT, cache="memory" if number % 5 == 0 else "miss"),
                turn_id=f"turn-{callers}-{number}",
                prompt=NASTY,
            )
            for number in range(40)
        ]
        if callers == 16:
            turns += [turn(900 + number, Stage.TTS_QUEUE, underruns=1) for number in range(4)]
            turns.append(failed())
        steps.append((replace(OPTIONS, concurrency=callers), run_of(*turns)))
    made = document(steps, {"cpu": "c", "cpus": 8, "load_1m": 0.1}, "2026-01-01T00:00:00+00:00")
    return json.loads(json.dumps(made))


@pytest.fixture(scope="module")
def result() -> Any:
    return swept()


@pytest.fixture(scope="module")
def root(result: Any) -> ET.Element:
    return parsed(page(result))


def parsed(html: str) -> ET.Element:
    """As XML, which forgives nothing."""
    assert html.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(html.partition("\n")[2])


def plots(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    for plot in root.iter(f"{SVG}svg"):
        yield plot.findtext(f"{SVG}title") or "", plot


def marks(plot: ET.Element) -> list[tuple[float, float, float, float]]:
    """Value and place of each mark: x, y, cx, cy."""
    names = ("data-x", "data-y", "cx", "cy")
    return [
        (
            float(c.attrib[names[0]]),
            float(c.attrib[names[1]]),
            float(c.attrib[names[2]]),
            float(c.attrib[names[3]]),
        )
        for c in plot.iter(f"{SVG}circle")
        if "data-y" in c.attrib
    ]


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(root):
    for element in root.iter():
        assert not {"src", "href", "srcset", "action"} & set(element.attrib)
        assert not any(name.startswith("on") for name in element.attrib)
        assert element.tag.rpartition("}")[2] not in ("script", "link", "iframe", "object", "img", "base")
    (policy,) = [e for e in root.iter("meta") if e.get("http-equiv") == "Content-Security-Policy"]
    assert policy.attrib["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    style = root.find("head/style")
    assert style is not None
    assert "url(" not in (style.text or "")
    assert "@import" not in (style.text or "")
    for text in ("prefers-color-scheme: dark", "@media print", "max-width: 520px"):
        assert text in (style.text or "")


def test_prompts_are_text_and_have_no_control_characters(root):
    cells = [cell.text or "" for cell in root.iter("td")]
    assert any(cell.startswith("<script>alert('x')</script> & \"quotes\"") for cell in cells)
    assert not any("\x1b" in cell or "\u202e" in cell for cell in cells)


def test_percentiles_by_load_are_those_of_the_summaries(root, result):
    found = dict(plots(root))
    for title, time in (
        ("Time to first audio", "ttfa_ms"),
        ("Time to first text", "ttft_ms"),
        ("Whole turn", "total_ms"),
    ):
        wanted = {
            (place, step["summary"][time][name])
            for place, step in enumerate(result["steps"])
            for name in ("p50", "p95", "p99")
        }
        assert {(x, y) for x, y, _, _ in marks(found[title])} == wanted
    speeds = {(place, step["summary"]["turns_per_s"]) for place, step in enumerate(result["steps"])}
    assert {(x, y) for x, y, _, _ in marks(found["Throughput"])} == speeds


def test_marks_stand_where_their_values_are(root):
    """Places are linear in the values: what is twice as much is twice as high over the axis."""
    checked = 0
    for title, plot in plots(root):
        found = marks(plot)
        for value, place in ((1, 3), (0, 2)):
            pairs = sorted({(mark[value], mark[place]) for mark in found})
            if len(pairs) < 3:
                continue
            (low, first), (high, last) = pairs[0], pairs[-1]
            for at, drawn in pairs:
                assert drawn == pytest.approx(first + (last - first) * (at - low) / (high - low), abs=0.02), (
                    title
                )
                checked += 1
    assert checked > 100


def test_the_distribution_is_that_of_the_turns(root, result):
    heard = [turn for turn in result["turns"] if turn["ttfa_ms"] > 0]
    values = {f"{turn['ttfa_ms']:.10g}" for turn in heard}
    lines = [
        line
        for title, plot in plots(root)
        if title == "Share of turns heard within a time"
        for line in plot.iter(f"{SVG}polyline")
    ]
    assert len(lines) == 3 + 2  # by load, and by what the audio came from
    for line in lines:
        points = [tuple(point.split(",")) for point in line.attrib["data-values"].split()]
        assert {ms for ms, _ in points} <= values
        shares = [float(share) for _, share in points]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 100)
        assert len(line.attrib["points"].split()) == len(points)


def test_bars_are_made_of_what_explain_says_of_their_turns(root, result):
    found: dict[str, dict[str, float]] = {}
    for bars in root.iter("div"):
        if bars.get("class") != "bars":
            continue
        for name, line in zip(list(bars)[::2], list(bars)[1::2], strict=True):
            parts = {s.attrib["data-part"]: s for s in line.iter("span")}
            found[name.text or ""] = {part: float(span.attrib["data-value"]) for part, span in parts.items()}
    for step in steps_of(result):
        for title, count, made in accounts(step.turns):
            shown = found[f"{step.load}, {title} ({count})"]
            assert shown == {part: pytest.approx(made[part]) for part in PARTS if made[part] > 0}
    assert found["16 callers, the slowest (3)"] == {"tts_queue": 902}
    assert found["1 caller, usual (40)"] == {"llm_ttft": pytest.approx(200 + 7.123 * 19.5)}
    assert found["replies, 16 callers"] == {"miss": 44}
    assert found["16 callers: caller"] == {"count": 4}


def test_every_turn_is_on_the_timeline_at_its_moment(root, result):
    dots = marks(dict(plots(root))["Turns over time"])
    assert sorted(y for _, y, _, _ in dots) == sorted(turn["ttfa_ms"] for turn in result["turns"])
    assert len({x for x, _, _, _ in dots}) > 40


def test_advice_errors_and_what_it_was_made_with_are_told(root, result):
    text = " ".join("".join(root.itertext()).split())
    for line in result["advice"]:
        assert " ".join(line.split()) in text
    said = "tts_queue at 16 callers: first chunk waited 902 ms for a replica in 100% of slow turns (3 of 3)"
    assert any(line.startswith(said) for line in result["advice"])
    for said in ("QUEUE_FULL", "no place", "16 callers", "2026-01-01T00:00:00+00:00", "grpcio"):
        assert said in text


@pytest.mark.parametrize("turns", [(), (failed(),), (turn(),), (turn(0.0, outcome="failed"),)])
def test_small_runs_have_a_report_too(turns):
    parsed(page(json.loads(json.dumps(document([(OPTIONS, run_of(*turns))], {})))))


def test_a_run_of_many_turns_draws_what_matters_of_them():
    turns = [turn(200 + number % 50) for number in range(7000)] + [turn(9000, turn_id="slowest"), failed()]
    result = json.loads(json.dumps(document([(OPTIONS, run_of(*turns))], {})))
    html = page(result)
    dots = marks(dict(plots(parsed(html)))["Turns over time"])
    assert len(dots) < 3100
    assert {9000.0, 0.0} <= {y for _, y, _, _ in dots}
    assert f"{len(dots)} of 7002 turns are drawn" in html
    assert len(html) < 800_000


def test_runs_that_were_saved_are_shown_again_the_same(result, tmp_path: pathlib.Path):
    saved, report = tmp_path / "run.json", tmp_path / "report.html"
    saved.write_text(json.dumps(result))
    shown = CliRunner().invoke(app, ["bench", "--from", str(saved), "--html", str(report), "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == result
    assert report.read_text() == page(result)
    told = CliRunner().invoke(app, ["bench", "--from", str(saved)])
    assert "16 callers" in told.stdout


def test_a_run_saved_before_loads_and_moments_were_kept(result, tmp_path: pathlib.Path):
    old = {name: result[name] for name in ("turns", "summary", "config", "versions")}
    old["turns"] = [
        {name: value for name, value in turn.items() if name != "run"} for turn in result["turns"]
    ]
    (tmp_path / "old.json").write_text(json.dumps(old))
    report = tmp_path / "report.html"
    shown = CliRunner().invoke(app, ["bench", "--from", str(tmp_path / "old.json"), "--html", str(report)])
    assert shown.exit_code == 0, shown.output
    titles = [title for title, _ in plots(parsed(report.read_text()))]
    assert titles
    assert "Turns over time" not in titles


def test_two_runs_are_told_apart_in_a_report(result, tmp_path: pathlib.Path):
    paths = []
    for name, faster_ms, policy in (("a", 0.0, ""), ("b", 35.0, "clause")):
        turns = [
            {
                **each,
                "prompt": f"prompt {number}",
                "ttfa_ms": each["ttfa_ms"] - faster_ms,
                "stages": {**each["stages"], "llm_ttft": each["ttfa_ms"] - faster_ms},
            }
            for number, each in enumerate(result["turns"])
            if each["outcome"] == "completed" and not each["underruns"]
        ]
        config = {**result["config"], "policy": policy}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({**result, "turns": turns, "config": config}))
    report = tmp_path / "ab.html"
    arguments = ["bench", "--compare", *map(str, paths), "--html", str(report)]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert "→ most of it is llm_ttft: 35 ms shorter in B on average" in told.stdout
    assert "→ policy differs: nothing in A, clause in B" in told.stdout
    root = parsed(report.read_text())
    text = " ".join("".join(root.itertext()).split())
    for said in (
        "first audio: B is 35 ms faster",
        "policy differs: nothing in A, clause in B",
        "most of it is",
    ):
        assert said in text
    compared = json.loads(CliRunner().invoke(app, [*arguments[:4], "--json"]).stdout)["compare"]["loads"][-1]
    drawn = dict(plots(root))["Differences of stages"]
    (circle,) = [each for each in drawn.iter(f"{SVG}circle") if each.get("class") == "better"]
    by = compared["metrics"]["stage.llm_ttft"]["mean"]["difference"]
    assert [float(circle.attrib[f"data-{name}"]) for name in ("value", "low", "high")] == [
        by["value"], by["low"], by["high"],
    ]  # fmt: skip


@pytest.mark.parametrize("values", [[0.0], [1e-9], [0.3, 7], [999.0], [1e7]])
def test_axes_hold_their_values_with_few_ticks(values):
    for axis in (svg.linear(values, "x"), svg.logarithmic(values, "x"), svg.around(values, 1.0, "x")):
        assert 2 <= len(axis.ticks) <= 12
        assert axis.low < axis.high
        assert all(0 <= axis.share(value) <= 1 for value in values)
        assert all(re.fullmatch(r"-?[\d,.e-]+", label) for label in axis.ticks.values())


@pytest.mark.parametrize("name", ["", "absent/report.html", "n" * 300])
def test_a_report_that_cannot_be_written_is_refused_before_the_run(name: str, tmp_path: pathlib.Path) -> None:
    done = CliRunner().invoke(app, ["bench", "--html", str(tmp_path / name), "--addr", "nobody.invalid:1"])
    assert done.exit_code == 2
    assert "--html: " in done.stderr


def test_asking_whether_a_report_can_be_written_leaves_what_is_there(tmp_path: pathlib.Path) -> None:
    kept = tmp_path / "kept.html"
    kept.write_text("of yesterday")
    for path in (kept, tmp_path / "new.html"):
        Output(as_json=False, html=path).check()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.html"]
    assert kept.read_text() == "of yesterday"


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_run_is_printed_although_its_report_cannot_be_written(
    result: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Failure, match="cannot write /dev/full"):
        Output(as_json=True, html=pathlib.Path("/dev/full")).write(result)
    assert json.loads(capsys.readouterr().out) == result


def test_what_nobody_heard_has_no_time() -> None:
    made = json.loads(json.dumps(document([(OPTIONS, run_of(failed(), failed()))], {})))
    tiles = [text for text in ("".join(each.itertext()) for each in parsed(page(made)).iter("div")) if text]
    assert "nonefirst audio, p50" in tiles
    assert not any(text.startswith("0 msfirst audio") for text in tiles)
