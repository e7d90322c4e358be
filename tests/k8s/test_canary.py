"""When a release goes on, goes back, or waits: components/canary, asked of recorded series as alerts are."""

import itertools
import pathlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest
import yaml

from services.chunker.instruments import HOLD
from services.llm.instruments import TO_FIRST_CHUNK
from services.tts.instruments import FIRST_FRAME, QUEUE_TIME
from tests.support.programs import program
from voicemesh.runtime.instruments import Instrument

ROOT = pathlib.Path(__file__).resolve().parents[2]
CANARY = ROOT / "k8s" / "components" / "canary"
RULES = ROOT / "deploy" / "observability" / "prometheus" / "rules" / "recording.yml"
TEMPLATES: Final = ("chunker", "gateway", "llm", "tts")
CONDITION = re.compile(r"len\(result\) > 0 && result\[0\] (<=|>) ([\d.]+)")
STEP_S: Final = 15


def spec(name: str) -> Any:
    return yaml.safe_load((CANARY / f"{name}.yaml").read_text())["spec"]


METRICS: Final = [(name, metric["name"]) for name in TEMPLATES for metric in spec(name)["metrics"]]


def metric_of(template: str, name: str) -> Any:
    (found,) = (metric for metric in spec(template)["metrics"] if metric["name"] == name)
    return found


def limit_of(metric: Any) -> float:
    """Return above which value a measurement has failed; up to it it went well, and without one neither."""
    good, bad = (CONDITION.fullmatch(metric[f"{which}Condition"]) for which in ("success", "failure"))
    assert good
    assert bad
    assert (good[1], bad[1]) == ("<=", ">")
    assert good[2] == bad[2]
    return float(good[2])


def query_of(metric: Any) -> str:
    query: str = metric["provider"]["prometheus"]["query"]
    return query.replace("{{args.canary}}", "new").replace("{{args.stable}}", "old")


# ---- recorded series ----------------------------------------------------------------------------

Series = Iterator[tuple[str, float]]
"""What a counter is called, and by how much it grows each 15 s."""


def pod(release: str) -> str:
    return f'namespace="voicemesh", instance="{release}-0", rollouts_pod_template_hash="{release}"'


def by_slo(release: str, count: float, bad: float) -> Series:
    yield f'voicemesh_turn_slo_total{{{pod(release)}, met="false"}}', count * bad
    yield f'voicemesh_turn_slo_total{{{pod(release)}, met="true"}}', count * (1 - bad)


def by_outcome(release: str, count: float, bad: float) -> Series:
    failed = 'outcome="failed", kind="prompt", error_type'
    yield f'voicemesh_turns_total{{{pod(release)}, {failed}="INTERNAL"}}', count * bad
    # Those that their callers got wrong are no fault of the release.
    yield f'voicemesh_turns_total{{{pod(release)}, {failed}="INVALID_FIELD"}}', count * (1 - bad) / 2
    ended = 'kind="prompt", outcome'
    yield f'voicemesh_turns_total{{{pod(release)}, {ended}="completed"}}', count * (1 - bad) / 2
    yield f'voicemesh_turns_total{{{pod(release)}, {ended}="discarded"}}', 1000


def by_chunks(release: str, count: float, bad: float) -> Series:
    yield f'voicemesh_tts_chunks_total{{{pod(release)}, voice="v", outcome="failed"}}', count * bad
    yield f'voicemesh_tts_chunks_total{{{pod(release)}, voice="v", outcome="completed"}}', count * (1 - bad)


def by_calls(method: str) -> Callable[[str, float, float], Series]:
    def make(release: str, count: float, bad: float) -> Series:
        name = f'rpc_server_call_duration_seconds_count{{{pod(release)}, rpc_method="{method}"'
        yield f'{name}, rpc_response_status_code="INTERNAL"}}', count * bad
        # What was cancelled was spoken over, and what is full says so.
        yield f'{name}, rpc_response_status_code="CANCELLED"}}', count * (1 - bad) / 2
        yield f'{name}, rpc_response_status_code="OK"}}', count * (1 - bad) / 2

    return make


def by_histogram(instrument: Instrument, le: str) -> Callable[[str, float, float], Series]:
    assert float(le) in instrument.buckets

    def make(release: str, count: float, bad: float) -> Series:
        yield f'{instrument.prometheus}_bucket{{{pod(release)}, le="{le}"}}', count * (1 - bad)
        yield f'{instrument.prometheus}_bucket{{{pod(release)}, le="+Inf"}}', count
        yield f"{instrument.prometheus}_count{{{pod(release)}}}", count

    return make


RECORDED: Final[dict[tuple[str, str], Callable[[str, float, float], Series]]] = {
    ("gateway", "first-audio"): by_slo,
    ("gateway", "failed-turns"): by_outcome,
    ("llm", "first-text"): by_histogram(TO_FIRST_CHUNK, "1.0"),
    ("llm", "failed-calls"): by_calls("voicemesh.llm.v1.LlmService/Generate"),
    ("chunker", "held-chunks"): by_histogram(HOLD, "0.5"),
    ("chunker", "failed-calls"): by_calls("voicemesh.chunker.v1.ChunkerService/Chunk"),
    ("tts", "first-frames"): by_histogram(FIRST_FRAME, "0.3"),
    ("tts", "queues"): by_histogram(QUEUE_TIME, "0.1"),
    ("tts", "failed-chunks"): by_chunks,
    **{(name, "objective"): by_slo for name in TEMPLATES},
}
OWN: Final = [key for key in METRICS if key[1] != "objective"]


class Recorded:
    """What happens behind a step of a rollout: how often each release was asked, and how often it was bad."""

    def __init__(self, key: tuple[str, str], *parts: tuple[str, float, float, float, float]) -> None:
        """Take parts: release, counts in 15 s, share that is bad, from and until which minute."""
        grows: dict[str, list[float]] = {}
        for release, count, bad, begin_min, end_min in parts:
            for name, by in RECORDED[key](release, count, bad):
                values = grows.setdefault(name, [0.0] * 80)
                for step in range(int(begin_min * 4), min(int(end_min * 4), 80)):
                    values[step] += by
        self.series = [
            {"series": name, "values": " ".join(f"{value:.3f}" for value in itertools.accumulate(values))}
            for name, values in grows.items()
        ]


def always(release: str, count: float, bad: float) -> tuple[str, float, float, float, float]:
    return release, count, bad, 0, 20


def phases(metric: Any, recorded: Recorded, wanted: Sequence[str], folder: pathlib.Path) -> None:
    """Check with Prometheus what becomes of each measurement of a step that begins at once."""
    limit = limit_of(metric)
    query = query_of(metric)
    expected: dict[str, list[dict[str, Any]]] = {
        "Successful": [{"labels": "{}", "value": 1}],
        "Failed": [{"labels": "{}", "value": 0}],
        "Inconclusive": [],
    }
    delay_s, interval_s = (60 * int(metric[key].removesuffix("m")) for key in ("initialDelay", "interval"))
    times = [delay_s + index * interval_s for index in range(metric["count"])]
    assert len(wanted) == len(times)
    file = folder / "case.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES)],
                "evaluation_interval": f"{STEP_S}s",
                "tests": [
                    {
                        "interval": f"{STEP_S}s",
                        "input_series": recorded.series,
                        "promql_expr_test": [
                            {
                                "expr": f"sum({query}) <= bool {limit}",
                                "eval_time": f"{time}s",
                                "exp_samples": expected[phase],
                            }
                            for time, phase in zip(times, wanted, strict=True)
                        ],
                    }
                ],
            }
        )
    )
    done = subprocess.run(
        [program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[:4000]


def judged(metric: Any, measured: Sequence[str]) -> str:
    """Return what Argo Rollouts makes of measurements: the run of this metric ends as this.

    `assessMetricStatus` of its analysis/analysis.go: limits first, then the count.
    """
    for number in range(1, len(measured) + 1):
        seen = measured[:number]
        if seen.count("Failed") > metric["failureLimit"]:
            return "Failed"
        if seen.count("Inconclusive") > metric["inconclusiveLimit"]:
            return "Inconclusive"
    assert len(measured) >= metric["count"]
    return "Successful"


# ---- what it decides ----------------------------------------------------------------------------

WELL, BAD = 0.004, 0.25
MANY, FEW = 12.0, 2.0
"""In 15 s: 240 and 40 in five minutes, of which 50 are needed."""


def test_every_metric_has_its_series_here() -> None:
    assert set(RECORDED) == set(METRICS)


@pytest.mark.parametrize("key", OWN, ids="-".join)
def test_a_release_that_is_as_good_goes_on(key: tuple[str, str], tmp_path: pathlib.Path) -> None:
    metric = metric_of(*key)
    recorded = Recorded(key, always("new", MANY, WELL), always("old", MANY, WELL))
    phases(metric, recorded, ["Successful"] * 5, tmp_path)
    assert judged(metric, ["Successful"] * 5) == "Successful"


@pytest.mark.parametrize("key", OWN, ids="-".join)
def test_a_release_that_is_worse_goes_back(key: tuple[str, str], tmp_path: pathlib.Path) -> None:
    metric = metric_of(*key)
    recorded = Recorded(key, always("new", MANY, BAD), always("old", MANY, WELL))
    phases(metric, recorded, ["Failed"] * 5, tmp_path)
    assert judged(metric, ["Failed"] * 2) == "Failed"


@pytest.mark.parametrize("key", OWN, ids="-".join)
def test_what_both_have_is_no_fault_of_the_release(key: tuple[str, str], tmp_path: pathlib.Path) -> None:
    recorded = Recorded(key, always("new", MANY, BAD), always("old", MANY, BAD))
    phases(metric_of(*key), recorded, ["Successful"] * 5, tmp_path)


@pytest.mark.parametrize("key", OWN, ids="-".join)
def test_with_nobody_beside_it_a_release_is_judged_alone(
    key: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    recorded = Recorded(key, always("new", MANY, BAD))
    phases(metric_of(*key), recorded, ["Failed"] * 5, tmp_path)


@pytest.mark.parametrize("key", OWN, ids="-".join)
def test_of_few_and_of_none_nothing_is_said(key: tuple[str, str], tmp_path: pathlib.Path) -> None:
    metric = metric_of(*key)
    few = Recorded(key, always("new", FEW, BAD), always("old", MANY, WELL))
    phases(metric, few, ["Inconclusive"] * 5, tmp_path)
    phases(metric, Recorded(key, always("old", MANY, WELL)), ["Inconclusive"] * 5, tmp_path)
    assert judged(metric, ["Inconclusive"] * 3) == "Inconclusive"


def test_one_bad_moment_is_forgiven(tmp_path: pathlib.Path) -> None:
    key = ("gateway", "first-audio")
    # Ten turns of a cold cache are late in the first half minute, and leave the five minutes behind that.
    recorded = Recorded(key, ("new", 20, 1.0, 0.5, 1), ("new", MANY, WELL, 1, 20), always("old", MANY, WELL))
    seen = ["Failed", *["Successful"] * 4]
    phases(metric_of(*key), recorded, seen, tmp_path)
    assert judged(metric_of(*key), seen) == "Successful"


def test_a_release_that_becomes_bad_later_goes_back(tmp_path: pathlib.Path) -> None:
    key = ("gateway", "first-audio")
    recorded = Recorded(key, ("new", MANY, WELL, 0, 8), ("new", MANY, BAD, 8, 20), always("old", MANY, WELL))
    seen = ["Successful", "Successful", *["Failed"] * 3]
    phases(metric_of(*key), recorded, seen, tmp_path)
    assert judged(metric_of(*key), seen) == "Failed"


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_release_goes_on_while_the_mesh_misses_its_objective(
    template: str, tmp_path: pathlib.Path
) -> None:
    key = (template, "objective")
    metric = metric_of(*key)
    burning = Recorded(key, always("any", MANY, BAD), always("other", MANY, BAD))
    phases(metric, burning, ["Failed"] * 5, tmp_path)
    phases(metric, Recorded(key, always("any", MANY, WELL)), ["Successful"] * 5, tmp_path)
    phases(metric, Recorded(key, always("any", 0.5, BAD)), ["Inconclusive"] * 5, tmp_path)


def test_decisions_are_alike_and_take_a_quarter_of_an_hour_a_step() -> None:
    for key in METRICS:
        metric = metric_of(*key)
        assert limit_of(metric) > 0
        assert (metric["count"], metric["failureLimit"], metric["inconclusiveLimit"]) == (5, 1, 2), key
        assert {"initialDelay": "5m", "interval": "2m"}.items() <= metric.items()


# ---- how it is wired ----------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_rollout_asks_its_own_template_behind_each_step(template: str) -> None:
    kustomization = yaml.safe_load((CANARY / "kustomization.yaml").read_text())
    (patch,) = (
        each["patch"]
        for each in kustomization["patches"]
        if each["target"] == {"kind": "Deployment", "name": template}
    )
    (strategy,) = (each["value"] for each in yaml.safe_load(patch) if each["path"] == "/spec/strategy")
    canary = strategy["canary"]
    assert canary["maxUnavailable"] == 0  # nothing ends before what takes its place is ready
    for weight, judging in zip(canary["steps"][::2], canary["steps"][1::2], strict=True):
        assert 0 < weight["setWeight"] < 100
        analysis = judging["analysis"]
        assert analysis["templates"] == [{"templateName": template}]
        assert {arg["name"]: arg["valueFrom"] for arg in analysis["args"]} == {
            "canary": {"podTemplateHashValue": "Latest"},
            "stable": {"podTemplateHashValue": "Stable"},
        }
    assert [arg["name"] for arg in spec(template)["args"]] == ["canary", "stable"]


def test_the_same_prometheus_is_asked_as_by_who_scales() -> None:
    scaled = yaml.safe_load((CANARY.parent / "keda" / "tts.yaml").read_text())["spec"]["triggers"][0]
    asked = {metric_of(*key)["provider"]["prometheus"]["address"] for key in METRICS}
    assert asked == {scaled["metadata"]["serverAddress"]}


def test_only_what_the_mesh_shows_is_asked() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    shown = set(re.findall(r"^\| `[\w.]+` \| `(\w+)` \|", page, re.MULTILINE))
    recorded = {
        rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }
    for key in METRICS:
        names = set(
            re.findall(r"\b((?:voicemesh|gen_ai|rpc|namespace)\w*[\w:]*)(?=\{)", query_of(metric_of(*key)))
        )
        assert names
        for name in names:
            assert name in recorded | shown or re.sub(r"_(bucket|count|sum)$", "", name) in shown, name
