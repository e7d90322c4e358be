"""What the mesh is scaled by: queries of components/keda and components/hpa, and what comes of them."""

import pathlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Final

import pytest
import yaml

from tests.k8s.surge import SLOTS, TURN_S, Day, Query, Scrape, callers, live
from tests.support.autoscaler import SYNC_S, Autoscaler, Rules
from tests.support.programs import program

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPONENTS = ROOT / "k8s" / "components"
RULES = ROOT / "deploy" / "observability" / "prometheus" / "rules" / "scaling.yml"
WORKLOADS: Final = ("cache", "chunker", "gateway", "llm", "tts")
SERIES = re.compile(r"\b(?:namespace\w*|voicemesh):[\w:]+")


def load(path: pathlib.Path) -> Any:
    return yaml.safe_load(path.read_text())


def keda(name: str) -> Any:
    return load(COMPONENTS / "keda" / f"{name}.yaml")["spec"]


def hpa(name: str) -> Any:
    return load(COMPONENTS / "hpa" / f"{name}.yaml")["spec"]


def queries(name: str) -> list[tuple[str, str]]:
    """Return PromQL and threshold of each trigger that asks Prometheus."""
    return [
        (trigger["metadata"]["query"], trigger["metadata"]["threshold"])
        for trigger in keda(name)["triggers"]
        if trigger["type"] == "prometheus"
    ]


def recorded() -> set[str]:
    return {rule["record"] for group in load(RULES)["groups"] for rule in group["rules"]}


def quantity(text: str) -> float:
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


# ---- what is asked ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_is_asked_is_recorded_and_of_this_mesh_alone(name: str) -> None:
    for query, threshold in queries(name):
        (series,) = SERIES.findall(query)
        assert series in recorded()
        assert query.count('{namespace="voicemesh"}') == 1
        assert float(threshold) > 0


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_answer_is_no_reason_to_end_pods(name: str) -> None:
    spec = keda(name)
    for trigger in spec["triggers"]:
        if trigger["type"] == "prometheus":
            assert trigger["metricType"] == "AverageValue"
            assert trigger["metadata"]["ignoreNullValues"] == "false"
    fallback = spec["fallback"]
    assert fallback["behavior"] == "currentReplicasIfHigher"
    assert spec["minReplicaCount"] <= fallback["replicas"] <= spec["maxReplicaCount"]
    for trigger in spec["triggers"]:
        if trigger["type"] == "cron":
            assert int(trigger["metadata"]["desiredReplicas"]) <= fallback["replicas"]


def test_only_what_the_mesh_shows_is_recorded_from() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    shown = set(re.findall(r"^\| `[\w.]+` \| `(\w+)` \|", page, re.MULTILINE))
    asked: set[str] = set()
    for group in load(RULES)["groups"]:
        for rule in group["rules"]:
            asked |= set(re.findall(r"(?<!:)\b(voicemesh_\w+)\b(?!:)", SERIES.sub("", rule["expr"])))
    assert {"voicemesh_calls_active", "voicemesh_tts_queue_wait_seconds"} <= asked
    for name in asked:
        assert name in shown or re.sub(r"_(bucket|count|sum)$", "", name) in shown, name


def test_everybody_asks_the_same_prometheus() -> None:
    asked = {
        trigger["metadata"]["serverAddress"]
        for name in WORKLOADS
        for trigger in keda(name)["triggers"]
        if trigger["type"] == "prometheus"
    }
    adapter = load(COMPONENTS / "hpa" / "prometheus-adapter.yaml")["prometheus"]
    assert asked == {f"{adapter['url']}:{adapter['port']}"}


def test_both_ways_to_scale_ask_the_same_and_do_the_same() -> None:
    adapter = {
        rule["name"]["as"]: rule
        for rule in load(COMPONENTS / "hpa" / "prometheus-adapter.yaml")["rules"]["external"]
    }
    served = set()
    for name in WORKLOADS:
        plain, full = hpa(name), keda(name)
        assert plain["behavior"] == full["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert plain["maxReplicas"] == full["maxReplicaCount"]
        assert plain["minReplicas"] >= full["minReplicaCount"]
        asked = []
        for metric in plain["metrics"]:
            rule = adapter[metric["external"]["metric"]["name"]]
            served.add(rule["name"]["as"])
            series = re.fullmatch(r'\{__name__="(.+)"\}', rule["seriesQuery"])
            assert series
            text = rule["metricsQuery"].replace("<<.Series>>", series[1])
            text = text.replace("<<.LabelMatchers>>", 'namespace="voicemesh"')
            asked.append((text, quantity(metric["external"]["target"]["averageValue"])))
        assert asked == [(query, float(threshold)) for query, threshold in queries(name)]
    assert served == set(adapter)


def test_prometheus_understands_every_query(tmp_path: pathlib.Path) -> None:
    asked = [query for name in WORKLOADS for query, _ in queries(name)]
    file = tmp_path / "rules.yml"
    rules = [{"record": f"asked_{number}", "expr": query} for number, query in enumerate(asked)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    run("check", "rules", "--lint-fatal", file)


# ---- what comes of it ---------------------------------------------------------------------------

WORKING_DAY: Final = (
    *((0, 3), (10, 3), (20, 100)),  # the morning: from 3 turns to 100 in ten minutes
    *((50, 100), (51, 60), (54, 60), (55, 100), (70, 100)),  # and a lull
    *((80, 3), (150, 3)),  # the night
)
SPARE: Final = 0.75


def shipped() -> Autoscaler:
    spec = keda("tts")
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    up, down = Rules.of(behaviour["scaleUp"]), Rules.of(behaviour["scaleDown"])
    return Autoscaler(spec["minReplicaCount"], spec["maxReplicaCount"], up, down)


def asked(scrape: Scrape) -> float:
    """Answer the query of the TTS service's first trigger, as it is shipped."""
    query = queries("tts")[0][0]
    assert query == f'sum(namespace:voicemesh_tts_pods_wanted:ahead{{namespace="voicemesh"}}) + {SPARE}'
    return scrape.ahead + SPARE


@cache
def working_day() -> Day:
    return live(callers(*WORKING_DAY), shipped(), asked, float(queries("tts")[0][1]))


def test_a_morning_finds_its_pods_before_a_turn_is_refused() -> None:
    assert working_day().refused() == 0
    assert working_day().pods_at(9) == 2
    # 100 turns hold 50 of 8 slots each, three quarters of which are to be taken; and one to spare.
    assert 9 <= working_day().pods_at(40) <= 12


def test_it_takes_both_the_look_ahead_and_the_spare_pod() -> None:
    def refused(query: Query) -> float:
        return live(callers(*WORKING_DAY), shipped(), query, 0.75).refused()

    ahead, spare = refused(lambda scrape: scrape.ahead), refused(lambda scrape: scrape.busy + SPARE)
    neither = refused(lambda scrape: scrape.busy)
    assert min(ahead, spare) > 0
    assert neither > 5 * max(ahead, spare)


def test_noise_and_a_lull_end_no_pod_and_begin_none_again() -> None:
    assert working_day().reversals(0, 150) == 0
    hasty = shipped()
    hasty.down = replace(hasty.down, window_s=0)
    assert live(callers(*WORKING_DAY), hasty, asked, 0.75).reversals(0, 150) > 3


def test_at_night_few_are_left_and_they_go_one_by_one() -> None:
    day = working_day()
    assert day.pods[-1] == 2
    period = shipped().down.policies[0].period_s // SYNC_S
    for before, after in zip(day.pods, day.pods[period:], strict=False):
        assert before - after <= max(1, before - int(0.9 * before))


def test_a_crowd_that_nobody_foresaw_is_let_in_as_soon_as_pods_can_start() -> None:
    crowd = callers((0, 10), (10, 10), (10.25, 200), (40, 200))
    day = live(crowd, shipped(), asked, 0.75)
    assert day.refused(9, 20) > 0
    assert day.refused(20, 40) == 0
    # Where only what was let in is looked at, a door that holds hides the crowd behind it.
    blind = live(crowd, shipped(), lambda scrape: scrape.leases * scrape.pods / SLOTS + SPARE, 0.75)
    assert blind.refused(9, 40) > 1.5 * day.refused(9, 40)


def test_the_rules_record_what_was_decided_by(tmp_path: pathlib.Path) -> None:
    crowd = callers((0, 3), (4, 3), (8, 60), (10, 60), (10.25, 200), (20, 200), (24, 10), (40, 10))
    day = live(crowd, shipped(), asked, 0.75)
    steps = range(20, len(day.scrapes), 7)
    case = {
        "interval": f"{SYNC_S}s",
        "input_series": [{"series": name, "values": values} for name, values in series(day)],
        "promql_expr_test": [
            {
                "expr": f"abs({name} - {value!r}) < bool 0.001",
                "eval_time": f"{step * SYNC_S}s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for step in steps
            for name, value in (
                ("namespace:voicemesh_tts_pods_wanted:max", day.scrapes[step].busy),
                ("namespace:voicemesh_tts_pods_wanted:ahead", day.scrapes[step].ahead),
            )
        ],
    }
    file = tmp_path / "day.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": f"{SYNC_S}s", "tests": [case]})
    )
    run("test", "rules", file)


def series(day: Day) -> Iterator[tuple[str, str]]:
    """Give a day as Prometheus would have scraped it."""
    scrapes = day.scrapes
    yield 'voicemesh_turn_active{instance="g"}', text(scrape.turns for scrape in scrapes)
    refusals = 'voicemesh_turn_refusals_total{instance="g", error_type="OVERLOADED"}'
    yield refusals, text(scrape.refused for scrape in scrapes)
    yield 'voicemesh_turn_duration_seconds_sum{instance="g"}', f"0+{TURN_S * 60}x{len(scrapes)}"
    yield 'voicemesh_turn_duration_seconds_count{instance="g"}', f"0+60x{len(scrapes)}"
    for pod in range(max(scrape.pods for scrape in scrapes)):
        labels = f'{{instance="t{pod}", voice="v"}}'
        there = [scrape if pod < scrape.pods else None for scrape in scrapes]
        yield f"voicemesh_tts_leases{labels}", text(scrape and scrape.leases for scrape in there)
        yield f"voicemesh_tts_queue_depth{labels}", text(scrape and 0 for scrape in there)
        yield f"voicemesh_tts_slots{labels}", text(scrape and SLOTS for scrape in there)


def text(values: Any) -> str:
    return " ".join("stale" if value is None else repr(value) for value in values)


def run(*arguments: Any) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[:4000]
